// How the CPU cuts a normalisation: the geometry of the activation, scratch memory, and the order of the passes.
//
// The activation is (N, C, S). A statistics row is the set of elements that share mean and variance: C/num_groups
// channels of a sample, or, with num_groups = 0, a channel of the whole batch. All derivatives are linear combinations
// of the inputs whose factors follow from five sums per (n, c): g, g xc, h, h xc, h g (xc = x - mean; g the cotangent
// of y, h that of dx). So every op is one reduction and one elementwise pass, and where a row fits in cache the second
// pass finds it there. The units of work and the order of every sum depend on the shapes alone, never on the threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <memory>

#include "cpu/layout.h"

namespace fastgan::norm {

using torch::stable::parallel_for;

constexpr int64_t kWorthAThread = 16 * 1024;  // elements
constexpr int64_t kSlab = 32 * 1024;          // elements of a slab
constexpr int64_t kContiguousBytes = 4096;    // what a task of batch statistics should find side by side

struct Geometry {
  int64_t N, C, S, groups;    // groups = 0: batch statistics
  bool inner;                 // the channels are contiguous
  bool per_sample;            // weights are (N, C)
  int64_t rows, row_size, D;  // D channels of a sample in a row
  int64_t slab_rows = 0, slabs = 0;

  bool batch() const { return groups == 0; }
  bool single_rows() const { return S == 1 && !batch(); }
  int64_t row(int64_t n, int64_t c) const { return batch() ? c : n * groups + c / D; }
  int64_t weight(int64_t n, int64_t c) const { return per_sample ? n * C + c : c; }
  int64_t slab_count(int64_t slab) const { return std::min(slab_rows, S - slab * slab_rows); }
};

inline Geometry geometry_of(const char* op, const Tensor& x, const Optional& weight, int64_t groups) {
  Geometry s{};
  s.N = x.size(0), s.C = x.size(1), s.S = 1, s.groups = groups;
  STD_TORCH_CHECK(groups >= 0 && (groups == 0 || s.C % groups == 0), op, ": num_groups must divide the ", s.C,
                  " channels, or be 0 for batch statistics");
  if (x.numel() == 0) return s;  // its other extents may be of any size
  for (int64_t d = 2; d < x.dim(); d++) s.S *= x.size(d);
  s.per_sample = weight && weight->dim() == 2;
  s.inner = !x.is_contiguous() || s.S == 1;
  if (s.batch() && s.inner && !s.per_sample) {  // the batch is one long sample then
    s.S *= s.N;
    s.N = 1;
    s.groups = s.C;
  }
  s.D = s.batch() ? 1 : s.C / s.groups;
  s.rows = s.batch() ? s.C : s.N * s.groups;
  s.row_size = s.batch() ? s.N * s.S : s.D * s.S;
  s.slab_rows = std::max<int64_t>(8, kSlab / s.C / 8 * 8);
  s.slabs = (s.S + s.slab_rows - 1) / s.slab_rows;
  return s;
}

// --- scratch: K numbers for every (n, c), or, in slabs, for every (slab, c)

template <class E>
struct Scratch {
  const Geometry& s;
  int64_t K;
  std::unique_ptr<E[]> store;
  Scratch(const Geometry& s, int64_t K) : s(s), K(K), store(new E[std::max<int64_t>(1, units() * K * width())]) {}
  int64_t units() const { return s.inner ? s.N * s.slabs : s.N * s.C; }
  int64_t width() const { return s.inner ? s.C : 1; }
  E* unit(int64_t u) { return &store[u * K * width()]; }
  // number k of channel c in a slab of sample n; there is one "slab" per plane
  E& at(int64_t n, int64_t c, int64_t k, int64_t slab = 0) {
    return s.inner ? store[((n * s.slabs + slab) * K + k) * s.C + c] : store[(n * s.C + c) * K + k];
  }
  double sum(int64_t n, int64_t c, int64_t k) {
    double total = at(n, c, k);
    for (int64_t slab = 1; s.inner && slab < s.slabs; slab++) total += at(n, c, k, slab);
    return total;
  }
};

template <class Body>
void each_channel(const Geometry& s, int64_t row, const Body& body) {
  if (s.batch()) {
    for (int64_t n = 0; n < s.N; n++) body(n, row);
  } else {
    const int64_t n = row / s.groups, first = row % s.groups * s.D;
    for (int64_t c = first; c < first + s.D; c++) body(n, c);
  }
}

// Runs reduce(unit) for all units of a row, finish(row), write(unit): task by task while the data are in cache, or,
// with fewer independent tasks than threads, as three phases. A unit is a plane or a slab.
template <class Reduce, class Finish, class Write>
void reduce_finish_write(const Geometry& s, int64_t element_bytes, const Reduce& reduce, const Finish& finish,
                         const Write& write) {
  const int64_t units = s.inner ? s.N * s.slabs : s.N * s.C;
  if (units == 0 || s.S == 0) return;
  const int64_t unit_size = s.N * s.C * s.S / units;
  const auto grain = [](int64_t size) { return std::max<int64_t>(1, kWorthAThread / std::max<int64_t>(1, size)); };

  // Channels of a batch-statistics task: neighbours, so that a task reads more than a plane at a time.
  const int64_t block = std::min(s.C, std::max<int64_t>(1, kContiguousBytes / (s.S * element_bytes)));
  const int64_t tasks = s.batch() ? (s.C + block - 1) / block : s.inner ? s.N : s.rows;
  const bool separable = !(s.batch() && s.inner);  // slabs of a batch hold a part of every row
  if (separable && (tasks >= 2 * int64_t(torch::stable::get_num_threads()) || tasks == units)) {
    parallel_for(0, tasks, grain(s.N * s.C * s.S / tasks), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const auto each_unit = [&](const auto& body) {
          if (s.inner) {
            for (int64_t u = task * s.slabs; u < (task + 1) * s.slabs; u++) body(u);
          } else if (!s.batch()) {
            for (int64_t u = task * s.D; u < (task + 1) * s.D; u++) body(u);
          } else {
            for (int64_t n = 0; n < s.N; n++) {
              for (int64_t c = task * block; c < std::min(s.C, (task + 1) * block); c++) body(n * s.C + c);
            }
          }
        };
        each_unit(reduce);
        const int64_t rows_each = s.inner ? s.groups : s.batch() ? block : 1;
        for (int64_t r = task * rows_each; r < std::min(s.rows, (task + 1) * rows_each); r++) finish(r);
        each_unit(write);
      }
    });
    return;
  }
  const auto phase = [&](int64_t count, int64_t size, const auto& body) {
    parallel_for(0, count, grain(size), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) body(i);
    });
  };
  phase(units, unit_size, reduce);
  phase(s.rows, 16 * units / s.rows, finish);
  phase(units, unit_size, write);
}

// Where a unit lies: its first element, and the positions that it has.
struct Span {
  int64_t at, positions;
};
inline Span span_of(const Geometry& s, int64_t unit) {
  if (!s.inner) return {unit * s.S, s.S};
  const int64_t n = unit / s.slabs, slab = unit % s.slabs;
  return {(n * s.S + slab * s.slab_rows) * s.C, s.slab_count(slab)};
}

// The factors that the writing pass of a unit uses live with its sample's first slab.
inline int64_t factor_unit(const Geometry& s, int64_t unit) { return s.inner ? unit / s.slabs * s.slabs : unit; }

// Means per unit: in slabs every channel has its own, an array of C per sample.
template <class A>
struct UnitMeans {
  const Geometry& s;
  const A* mean;
  std::unique_ptr<A[]> expanded;
  UnitMeans(const Geometry& s, const A* mean) : s(s), mean(mean) {
    if (!s.inner || s.single_rows()) return;
    expanded.reset(new A[std::max<int64_t>(1, s.N * s.C)]);
    for (int64_t i = 0; i < s.N * s.C; i++) expanded[i] = mean[s.row(i / s.C, i % s.C)];
  }
  const A* of(int64_t unit) const {
    if (s.inner) return &expanded[unit / s.slabs * s.C];
    return &mean[s.row(unit / s.C, unit % s.C)];
  }
};

}  // namespace fastgan::norm
