// How the CPU cuts a bias and activation into segments.
//
// The activation is (outer, C, inner) with the bias along C: a series of segments. A segment is contiguous and has one
// bias: a plane of one channel or a part of a large plane; without a bias a part of the whole tensor. If inner is 1
// (channels_last, or a matrix) or a few, a segment is a row of C inner elements, each with its own bias. A block is the
// segments of one call of a kernel. The order of every sum depends on the shape alone.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <memory>

#include "common/checks.h"
#include "cpu/bias_act/problem.h"

namespace fastgan::act {

using torch::stable::parallel_for;

constexpr int64_t kSegment = 4096;            // elements of a segment at most, and of a sum in fp32
constexpr int64_t kWorthAThread = 16 * 1024;  // elements that are worth a thread
constexpr int64_t kSmallPlane = 32;           // a plane of fewer elements is too short for a segment

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

// A channel's value for every element of a row, or for every segment as it is; null stays null.
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

// Calls body(segments, at, sums) for blocks of neighbouring segments from element `at` on; a block is worth a thread.
// `sums` is null unless there is a `total`, which has to be zero. It takes a block's part of the bias' gradient: one
// number for each segment, or in rows one for each element of a row, which start at zero. Then adds the parts up in
// order.
template <class A, class Body>
void each_block(const Geometry& s, A* total, const Body& body) {
  if (s.size == 0) return;
  if (s.rows) {
    const int64_t n = s.C * s.inner, rows = std::max<int64_t>(1, kWorthAThread / n),
                  blocks = (s.outer + rows - 1) / rows;
    const std::unique_ptr<A[]> partials(new A[total ? blocks * n : 1]());
    parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; u++) {
        const Segments segments{n, std::min(rows, s.outer - u * rows), true, 0, 1, 1};
        body(segments, u * rows * n, total ? &partials[u * n] : nullptr);
      }
    });
    if (!total) return;
    parallel_for(0, s.C, 1024, [&](int64_t begin, int64_t end) {
      for (int64_t u = 1; u < blocks; u++) {
        for (int64_t i = begin * s.inner; i < end * s.inner; i++) partials[i] += partials[u * n + i];
      }
      for (int64_t c = begin; c < end; c++) {
        for (int64_t i = 0; i < s.inner; i++) total[c] += partials[c * s.inner + i];
      }
    });
    return;
  }
  // A large plane has segments of kSegment elements, and a last one that may be shorter, which is a block on its own.
  const int64_t per_plane = (s.inner + kSegment - 1) / kSegment, n = std::min(kSegment, s.inner),
                rest = s.inner - (per_plane - 1) * n;
  const int64_t planes = s.outer * s.C;
  const std::unique_ptr<A[]> partials(new A[total ? planes * per_plane : 1]);
  const auto call = [&](int64_t first, int64_t count, int64_t size) {
    const Segments segments{size, count, false, first, per_plane, s.C};
    body(segments, first / per_plane * s.inner + first % per_plane * n, total ? &partials[first] : nullptr);
  };
  parallel_for(0, planes * per_plane, std::max<int64_t>(1, kWorthAThread / n), [&](int64_t begin, int64_t end) {
    if (rest == n) return call(begin, end - begin, n);
    for (int64_t i = begin; i < end;) {
      const int64_t whole = std::min(per_plane - 1 - i % per_plane, end - i);
      if (whole > 0) call(i, whole, n);
      i += whole;
      if (i < end) call(i++, 1, rest);
    }
  });
  if (!total) return;
  for (int64_t c = 0; c < s.C; c++) {
    double sum = 0;
    for (int64_t o = 0; o < s.outer; o++) {
      for (int64_t p = 0; p < per_plane; p++) sum += partials[(o * s.C + c) * per_plane + p];
    }
    total[c] = A(sum);
  }
}

}  // namespace fastgan::act
