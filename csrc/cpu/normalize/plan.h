// How the CPU cuts a normalisation: the geometry of the activation, scratch memory, and the order of the passes.
//
// The activation is (N, C, S). A statistics row is the set of elements that share mean and variance: C/num_groups
// channels of a sample, or, with num_groups = 0, a channel of the whole batch. All derivatives are linear combinations
// of the inputs whose factors follow from five sums per (n, c): g, g xc, h, h xc, h g (xc = x - mean; g the cotangent
// of y, h that of dx). So every op is one reduction and one elementwise pass, and if a row fits in the cache the second
// pass finds it there. A block is a plane, or a number of positions with all their channels. The blocks and the order
// of every sum depend on the shapes alone, never on the threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <memory>

#include "cpu/layout.h"

namespace fastgan::norm {

using torch::stable::parallel_for;

constexpr int64_t kWorthAThread = 16 * 1024;  // elements
constexpr int64_t kBlock = 32 * 1024;         // elements of a block of positions
constexpr int64_t kContiguousBytes = 4096;    // what a task of batch statistics should find side by side

struct Geometry {
  int64_t N, C, S, groups;                       // groups = 0: batch statistics
  bool inner;                                    // the channels are contiguous
  bool per_sample;                               // weights are (N, C)
  int64_t rows, row_size, D;                     // D channels of a sample in a row
  int64_t block_positions = 0, blocks_each = 0;  // of channels_last: positions of a block, blocks of a sample

  bool batch() const { return groups == 0; }
  bool single_rows() const { return S == 1 && !batch(); }
  int64_t row(int64_t n, int64_t c) const { return batch() ? c : n * groups + c / D; }
  int64_t weight(int64_t n, int64_t c) const { return per_sample ? n * C + c : c; }
  int64_t positions_of(int64_t block) const { return std::min(block_positions, S - block * block_positions); }
};

inline Geometry geometry_of(const char* op, const Tensor& x, const Optional& weight, int64_t groups) {
  Geometry s{};
  s.N = x.size(0), s.C = x.size(1), s.S = 1, s.groups = groups;
  STD_TORCH_CHECK(groups >= 0 && (groups == 0 || s.C % groups == 0), op, ": num_groups is ", groups,
                  "; it must divide the ", s.C, " channels, or be 0 for batch statistics");
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
  s.block_positions = std::max<int64_t>(8, kBlock / s.C / 8 * 8);
  s.blocks_each = (s.S + s.block_positions - 1) / s.block_positions;
  return s;
}

// --- scratch: K numbers for every (n, c), or with channels_last for every (block, c)

template <class E>
struct Scratch {
  const Geometry& s;
  int64_t K;
  std::unique_ptr<E[]> store;
  Scratch(const Geometry& s, int64_t K) : s(s), K(K), store(new E[std::max<int64_t>(1, blocks() * K * width())]) {}
  int64_t blocks() const { return s.inner ? s.N * s.blocks_each : s.N * s.C; }
  int64_t width() const { return s.inner ? s.C : 1; }
  E* of(int64_t block) { return &store[block * K * width()]; }
  // number k of channel c in a block of sample n; a plane has one block
  E& at(int64_t n, int64_t c, int64_t k, int64_t block = 0) {
    return s.inner ? store[((n * s.blocks_each + block) * K + k) * s.C + c] : store[(n * s.C + c) * K + k];
  }
  double sum(int64_t n, int64_t c, int64_t k) {
    double total = at(n, c, k);
    for (int64_t block = 1; s.inner && block < s.blocks_each; block++) total += at(n, c, k, block);
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

// Calls reduce(block) for all blocks of a row, finish(row), write(block): task by task while the data are in the cache,
// or, with fewer independent tasks than threads, as three phases.
template <class Reduce, class Finish, class Write>
void reduce_finish_write(const Geometry& s, int64_t element_bytes, const Reduce& reduce, const Finish& finish,
                         const Write& write) {
  const int64_t blocks = s.inner ? s.N * s.blocks_each : s.N * s.C;
  if (blocks == 0 || s.S == 0) return;
  const int64_t block_size = s.N * s.C * s.S / blocks;
  const auto grain = [](int64_t size) { return std::max<int64_t>(1, kWorthAThread / std::max<int64_t>(1, size)); };

  // Channels of a batch-statistics task: neighbours, so that a task reads more than a plane at a time.
  const int64_t channels = std::min(s.C, std::max<int64_t>(1, kContiguousBytes / (s.S * element_bytes)));
  const int64_t tasks = s.batch() ? (s.C + channels - 1) / channels : s.inner ? s.N : s.rows;
  const bool separable = !(s.batch() && s.inner);  // there a block holds a part of every row
  if (separable && (tasks >= 2 * int64_t(torch::stable::get_num_threads()) || tasks == blocks)) {
    parallel_for(0, tasks, grain(s.N * s.C * s.S / tasks), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const auto each_block = [&](const auto& body) {
          if (s.inner) {
            for (int64_t u = task * s.blocks_each; u < (task + 1) * s.blocks_each; u++) body(u);
          } else if (!s.batch()) {
            for (int64_t u = task * s.D; u < (task + 1) * s.D; u++) body(u);
          } else {
            for (int64_t n = 0; n < s.N; n++) {
              for (int64_t c = task * channels; c < std::min(s.C, (task + 1) * channels); c++) body(n * s.C + c);
            }
          }
        };
        each_block(reduce);
        const int64_t rows_each = s.inner ? s.groups : s.batch() ? channels : 1;
        for (int64_t r = task * rows_each; r < std::min(s.rows, (task + 1) * rows_each); r++) finish(r);
        each_block(write);
      }
    });
    return;
  }
  const auto phase = [&](int64_t count, int64_t size, const auto& body) {
    parallel_for(0, count, grain(size), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) body(i);
    });
  };
  phase(blocks, block_size, reduce);
  phase(s.rows, 16 * blocks / s.rows, finish);
  phase(blocks, block_size, write);
}

// Where a block lies: its first element, and the number of its positions.
struct Span {
  int64_t at, positions;
};
inline Span span_of(const Geometry& s, int64_t block) {
  if (!s.inner) return {block * s.S, s.S};
  const int64_t n = block / s.blocks_each, in_sample = block % s.blocks_each;
  return {(n * s.S + in_sample * s.block_positions) * s.C, s.positions_of(in_sample)};
}

// The factors that the writing pass of a block uses are stored at its sample's first block.
inline int64_t factor_block(const Geometry& s, int64_t block) {
  return s.inner ? block / s.blocks_each * s.blocks_each : block;
}

// Means per block: with channels_last every channel has its own, an array of C per sample.
template <class A>
struct BlockMeans {
  const Geometry& s;
  const A* mean;
  std::unique_ptr<A[]> expanded;
  BlockMeans(const Geometry& s, const A* mean) : s(s), mean(mean) {
    if (!s.inner || s.single_rows()) return;
    expanded.reset(new A[std::max<int64_t>(1, s.N * s.C)]);
    for (int64_t i = 0; i < s.N * s.C; i++) expanded[i] = mean[s.row(i / s.C, i % s.C)];
  }
  const A* of(int64_t block) const {
    if (s.inner) return &expanded[block / s.blocks_each * s.C];
    return &mean[s.row(block / s.C, block % s.C)];
  }
};

}  // namespace fastgan::norm
