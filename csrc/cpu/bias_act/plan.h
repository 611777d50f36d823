// How the CPU cuts a bias and activation into runs of elements.
//
// The activation is (outer, C, inner) with the bias along C: a series of runs, which are planes of one channel, or
// pieces of large planes, and without a bias pieces of the whole tensor. Where inner is 1 (channels_last, or a matrix)
// or a few, runs are rows of C inner elements with a bias each. The order of every sum depends on the shape alone.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <memory>

#include "common/checks.h"
#include "cpu/bias_act/problem.h"

namespace fastgan::act {

using torch::stable::parallel_for;

constexpr int64_t kPiece = 4096;      // elements of a plane's piece, and of a sum in fp32
constexpr int64_t kUnit = 16 * 1024;  // elements that are worth a thread
constexpr int64_t kSmallPlane = 32;   // elements of a plane that is too short a run

struct Geometry {
  int64_t outer, C, inner, size;
  bool rows;
};

inline Geometry geometry_of(const Tensor& x, int64_t dim, bool per_channel) {
  Geometry s{1, x.dim() == 0 ? 1 : x.size(dim), 1, x.numel(), false};
  if (s.size == 0) {
    s.outer = 0;  // its other extents may be of any size
  } else if (!per_channel) {
    s.outer = s.C = 1, s.inner = s.size;
  } else if (x.is_contiguous()) {
    for (int64_t d = 0; d < dim; d++) s.outer *= x.size(d);
    for (int64_t d = dim + 1; d < x.dim(); d++) s.inner *= x.size(d);
  } else {
    s.outer = s.size / s.C;
  }
  s.rows = per_channel && s.inner < kSmallPlane;
  return s;
}

// A channel's value for every element of a row, or for every run as it is; null stays null.
template <class A>
class PerChannel {
 public:
  PerChannel(const Geometry& s, const A* values) : values_(values) {
    if (!values || !s.rows || s.inner == 1) return;
    row_.reset(new A[s.C * s.inner]);
    for (int64_t c = 0; c < s.C; c++) std::fill_n(&row_[c * s.inner], s.inner, values[c]);
    values_ = row_.get();
  }
  operator const A*() const { return values_; }

 private:
  std::unique_ptr<A[]> row_;
  const A* values_;
};

// Calls body(runs, at, sums) for neighbouring runs from element `at` on, so many that they are worth a thread. `sums`
// (null unless there is a total, of zeros) takes a partial of the bias' gradient: one for each run, or in rows one for
// each element of a row, which are zero. Then adds the partials up in order.
template <class A, class Body>
void each_runs(const Geometry& s, A* total, const Body& body) {
  if (s.size == 0) return;
  if (s.rows) {
    const int64_t n = s.C * s.inner, rows = std::max<int64_t>(1, kUnit / n), units = (s.outer + rows - 1) / rows;
    const std::unique_ptr<A[]> partials(new A[total ? units * n : 1]());
    parallel_for(0, units, 1, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; u++) {
        const Runs runs{n, std::min(rows, s.outer - u * rows), true, 0, 1, 1};
        body(runs, u * rows * n, total ? &partials[u * n] : nullptr);
      }
    });
    if (!total) return;
    parallel_for(0, s.C, 1024, [&](int64_t begin, int64_t end) {
      for (int64_t u = 1; u < units; u++) {
        for (int64_t i = begin * s.inner; i < end * s.inner; i++) partials[i] += partials[u * n + i];
      }
      for (int64_t c = begin; c < end; c++) {
        for (int64_t i = 0; i < s.inner; i++) total[c] += partials[c * s.inner + i];
      }
    });
    return;
  }
  // A large plane's pieces are of kPiece elements, but for the last one, which is a run on its own.
  const int64_t pieces = (s.inner + kPiece - 1) / kPiece, n = std::min(kPiece, s.inner),
                rest = s.inner - (pieces - 1) * n;
  const int64_t planes = s.outer * s.C;
  const std::unique_ptr<A[]> partials(new A[total ? planes * pieces : 1]);
  const auto run = [&](int64_t first, int64_t count, int64_t size) {
    const Runs runs{size, count, false, first, pieces, s.C};
    body(runs, first / pieces * s.inner + first % pieces * n, total ? &partials[first] : nullptr);
  };
  parallel_for(0, planes * pieces, std::max<int64_t>(1, kUnit / n), [&](int64_t begin, int64_t end) {
    if (rest == n) return run(begin, end - begin, n);
    for (int64_t i = begin; i < end;) {
      const int64_t whole = std::min(pieces - 1 - i % pieces, end - i);
      if (whole > 0) run(i, whole, n);
      i += whole;
      if (i < end) run(i++, 1, rest);
    }
  });
  if (!total) return;
  for (int64_t c = 0; c < s.C; c++) {
    double sum = 0;
    for (int64_t o = 0; o < s.outer; o++) {
      for (int64_t p = 0; p < pieces; p++) sum += partials[(o * s.C + c) * pieces + p];
    }
    total[c] = A(sum);
  }
}

}  // namespace fastgan::act
