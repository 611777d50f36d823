// The passes of attention on the CPU: the work of one call is cut into groups of query blocks, every thread takes a
// contiguous range of groups and has its own scratch memory, and what the groups sum up for the keys is added in order.
// The groups depend on the shapes alone, so results do not depend on the number of threads.
#pragma once

#include <algorithm>

#include "cpu/attention/arguments.h"

#define FASTGAN_KERNELS "cpu/attention/kernels.h"
#include "cpu/simd/each_isa.h"

namespace fastgan::attn {

constexpr int64_t kWorthAThread = 100 * 1000;  // products of two numbers
constexpr int64_t kScoreBytes = 8 << 20;

// The problem with the query blocks of a head dealt to groups, so that there are about `items` groups in all heads
// together.
inline AttentionProblem dealt(const Call& call, int64_t items, int64_t block_queries = kBlockQueries) {
  AttentionProblem p = call.problem;
  p.block_queries = block_queries;
  const int64_t heads = call.batch * call.heads, blocks = (call.queries + block_queries - 1) / block_queries;
  p.groups = std::max<int64_t>(1, std::min(blocks, (items + heads - 1) / std::max<int64_t>(1, heads)));
  return p;
}

// body(begin, end, scratch) over contiguous ranges of [0, items), one per thread.
template <class A, class Body>
void in_ranges(const Call& call, int64_t items, int64_t products, int64_t scratch_size, const Body& body) {
  if (items == 0) return;
  const double work = double(products) * call.batch * call.heads * call.queries * std::max<int64_t>(1, call.keys);
  const int64_t all_threads = torch::stable::get_num_threads();
  const int64_t worth = work / kWorthAThread < double(all_threads) ? int64_t(work / kWorthAThread) : all_threads;
  const int64_t threads = std::max<int64_t>(1, std::min(items, worth));
  const Tensor scratch = call.output(true, call.accumulate, {checked_product(call.op, {threads, scratch_size + 16})});
  A* base = mutable_data<A>(scratch);
  base += (64 - reinterpret_cast<uintptr_t>(base) % 64) % 64 / sizeof(A);
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      body(items * t / threads, items * (t + 1) / threads, base + t * scratch_size);
    }
  };
  if (threads == 1) return run(0, 1);
  torch::stable::parallel_for(0, threads, 1, run);
}

template <class T>
void forward(const Call& call, T* out, accumulate_t<T>* logsumexp) {
  using A = accumulate_t<T>;
  const AttentionProblem p = dealt(call, 128);
  in_ranges<A>(call, call.batch * call.heads * p.groups, call.qk_width + call.v_width,
               FASTGAN_CALL(forward_scratch<T>)(p, call.in), [&](int64_t begin, int64_t end, A* scratch) {
                 FASTGAN_CALL(attention_forward<T>)(p, call.in, out, logsumexp, scratch, begin, end);
               });
}

// Calls body(begin, end, sums, scratch) over the groups, then adds up what they left in `sums` for the keys.
template <class T, class Body>
void over_groups(const Call& call, const AttentionProblem& p, const AttentionGradients& grads, int64_t products,
                 int64_t scratch_size, const Body& body) {
  using A = accumulate_t<T>;
  const int64_t all = call.batch * call.heads;
  const int64_t size = checked_product(call.op, {all, p.groups, FASTGAN_CALL(key_sums_size<A>)(p)});
  const Tensor sums = call.output(true, call.accumulate, {size});
  A* const memory = mutable_data<A>(sums);
  in_ranges<A>(call, all * p.groups, products, scratch_size,
               [&](int64_t begin, int64_t end, A* scratch) { body(begin, end, memory, scratch); });
  in_ranges<A>(call, all, 1, 0, [&](int64_t begin, int64_t end, A*) {
    FASTGAN_CALL(attention_key_gradients<T>)(p, memory, grads, begin, end);
  });
}

template <class T>
void backward(const Call& call, const AttentionGradients& grads) {
  using A = accumulate_t<T>;
  const AttentionProblem p = dealt(call, 16);
  over_groups<T>(call, p, grads, 3 * call.qk_width + 2 * call.v_width, FASTGAN_CALL(backward_scratch<T>)(p, call.in),
                 [&](int64_t begin, int64_t end, A* sums, A* scratch) {
                   FASTGAN_CALL(attention_backward<T>)(p, call.in, grads, sums, scratch, begin, end);
                 });
}

template <class T>
void double_backward(const Call& call, const AttentionGradients& grads) {
  using A = accumulate_t<T>;
  // Four numbers per query of a block and key are kept between two sweeps. They stay in the cache: with more keys, a
  // block has fewer queries.
  int64_t block_queries = kBlockQueries;
  while (block_queries > 12 && call.keys > kScoreBytes / (block_queries * 4 * int64_t(sizeof(A)))) block_queries /= 2;
  const AttentionProblem p = dealt(call, 16, block_queries);
  over_groups<T>(call, p, grads, 7 * call.qk_width + 5 * call.v_width,
                 FASTGAN_CALL(double_backward_scratch<T>)(p, call.in),
                 [&](int64_t begin, int64_t end, A* sums, A* scratch) {
                   FASTGAN_CALL(attention_double_backward<T>)(p, call.in, grads, sums, scratch, begin, end);
                 });
}

}  // namespace fastgan::attn
