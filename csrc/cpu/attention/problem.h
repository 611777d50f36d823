// What the attention kernels of every instruction set take: one problem, and its operands as strided views.
#pragma once

#include <cstdint>

namespace fastgan {

constexpr int64_t kBlockQueries = 48;  // queries per block at most: a multiple of kTileRows
constexpr int64_t kBlockKeys = 192;    // keys per block: a multiple of kTileRows and of every kTileColumns

struct AttentionProblem {
  int64_t heads;              // batch element b, head h: index b * heads + h
  int64_t queries, keys;      // N, M
  int64_t qk_width, v_width;  // D, Dv
  double scale;               // tau
  bool causal;                // query i sees keys j <= i
  int64_t block_queries;      // queries per block, at most kBlockQueries
  int64_t groups;             // the query blocks of a head are dealt to this many groups, which accumulate apart
};

// A (batch, heads, rows, columns) tensor, strides in elements; no data: absent.
struct AttentionOperand {
  const void* data = nullptr;
  int64_t batch = 0, head = 0, row = 0, column = 0;
  explicit operator bool() const { return data != nullptr; }
};

struct AttentionInputs {
  AttentionOperand q, k, v, key_bias;         // key_bias: row = key, accumulate type
  AttentionOperand grad_out, grad_logsumexp;  // logsumexp-like: row = query, accumulate type
  AttentionOperand out, logsumexp;
  AttentionOperand x, y, z, x_bias;  // cotangents of dq, dk, dv and dkey_bias
};

// Contiguous outputs; null: not wanted.
struct AttentionGradients {
  void *q = nullptr, *k = nullptr, *v = nullptr, *grad_out = nullptr;
  void *key_bias = nullptr, *grad_logsumexp = nullptr;  // accumulate type
};

}  // namespace fastgan
