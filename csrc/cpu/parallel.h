// Work of uneven sizes on torch's thread pool: contiguous ranges of items with about the same total cost for every
// thread. What an item computes must not depend on the range that it is in, so that results do not depend on the number
// of threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <vector>

namespace fastgan {

// body(i) for every i in [first, last); `least` is the cost that is worth a thread of its own.
template <class Body>
void parallel_by_cost(const std::vector<int64_t>& costs, int64_t first, int64_t last, int64_t least, const Body& body) {
  std::vector<int64_t> ends(last - first);
  int64_t total = 0;
  for (int64_t i = first; i < last; i++) ends[i - first] = total += costs[i];
  const int64_t threads = std::max<int64_t>(1, std::min<int64_t>(torch::stable::get_num_threads(), total / least));
  // The first item that ends past a thread's share belongs to the next thread.
  const auto first_item = [&](int64_t thread) {
    if (thread == threads) return last;
    return first + (std::upper_bound(ends.begin(), ends.end(), total * thread / threads) - ends.begin());
  };
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t i = first_item(begin), stop = first_item(end); i < stop; i++) body(i);
  };
  if (threads == 1) return run(0, 1);
  torch::stable::parallel_for(0, threads, 1, run);
}

}  // namespace fastgan
