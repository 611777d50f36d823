// The checked arguments of attention's ops on the CPU.
#pragma once

#include "common/checks.h"
#include "common/dispatch.h"
#include "cpu/attention/problem.h"

namespace fastgan::attn {

// The operands of one call, checked against each other; what fixes the sizes and dtypes is q, k, v.
struct Call {
  const char* op;
  Tensor q;
  ScalarType dtype, accumulate;
  int64_t batch, heads, queries, keys, qk_width, v_width;
  AttentionProblem problem;
  AttentionInputs in;

  Call(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const Optional& key_bias, double scale,
       bool is_causal)
      : op(op), q(q), dtype(q.scalar_type()), accumulate(accumulate_dtype(dtype)) {
    STD_TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4, op,
                    ": q, k, v must be (B, H, N, D), (B, H, M, D), (B, H, M, Dv); they have the shapes ",
                    text_of(q.sizes()), ", ", text_of(k.sizes()), ", ", text_of(v.sizes()));
    batch = q.size(0), heads = q.size(1), queries = q.size(2), keys = k.size(2);
    qk_width = q.size(3), v_width = v.size(3);
    STD_TORCH_CHECK(qk_width > 0 && v_width > 0, op,
                    ": q, k, v must have at least one channel each; their last extents are ", qk_width, ", ", k.size(3),
                    ", ", v_width);
    in.q = qk_rows("q", q);
    in.k = qk_columns("k", k);
    in.v = v_columns("v", v);
    if (key_bias) in.key_bias = per_key("key_bias", *key_bias);
    problem = {heads, queries, keys, qk_width, v_width, scale, is_causal, kBlockQueries, 1};
    // Scratch is a few arrays of keys or of kBlockQueries queries times a width, each rounded up to whole vectors and
    // tiles: with room for all of them in 64 bits, the sums that lay it out cannot wrap.
    const int64_t rows = checked_product(op, {keys, 64}) / 64 + kBlockKeys;
    for (int64_t width : {qk_width, v_width, kBlockQueries}) {
      checked_product(op, {rows, checked_product(op, {width, 2}) / 2 + 64, 64 * int64_t(sizeof(double))});
    }
    checked_product(op, {batch, heads});
  }

  AttentionOperand operand(const char* name, const Tensor& t, ScalarType expected,
                           std::initializer_list<int64_t> shape) const {
    STD_TORCH_CHECK(t.is_cpu(), op, ": ", name, " must be on the CPU");
    STD_TORCH_CHECK(t.scalar_type() == expected, op, ": ", name, " has dtype ", dtype_name(t.scalar_type()),
                    "; it must be ", dtype_name(expected), " beside a q of ", dtype_name(dtype));
    check_shape(op, name, t, shape);
    return {t.const_data_ptr(), t.stride(0), t.stride(1), t.stride(2), t.dim() == 4 ? t.stride(3) : 1};
  }
  AttentionOperand qk_rows(const char* n, const Tensor& t) const {
    return operand(n, t, dtype, {batch, heads, queries, qk_width});
  }
  AttentionOperand qk_columns(const char* n, const Tensor& t) const {
    return operand(n, t, dtype, {batch, heads, keys, qk_width});
  }
  AttentionOperand v_rows(const char* n, const Tensor& t) const {
    return operand(n, t, dtype, {batch, heads, queries, v_width});
  }
  AttentionOperand v_columns(const char* n, const Tensor& t) const {
    return operand(n, t, dtype, {batch, heads, keys, v_width});
  }
  AttentionOperand per_query(const char* n, const Tensor& t) const {
    return operand(n, t, accumulate, {batch, heads, queries});
  }
  AttentionOperand per_key(const char* n, const Tensor& t) const {
    return operand(n, t, accumulate, {batch, heads, keys});
  }

  // The forward's outputs and their cotangents.
  void backward_of(const Tensor& grad_out, const Optional& grad_logsumexp, const Tensor& out, const Tensor& logsumexp) {
    in.grad_out = v_rows("grad_out", grad_out);
    if (grad_logsumexp) in.grad_logsumexp = per_query("grad_logsumexp", *grad_logsumexp);
    in.out = v_rows("out", out);
    in.logsumexp = per_query("logsumexp", logsumexp);
  }

  // An uninitialised tensor; without elements if it is not wanted.
  Tensor output(bool wanted, ScalarType type, std::initializer_list<int64_t> shape) const {
    if (!wanted) return without_elements(q, type);
    return torch::stable::new_empty(q, {shape.begin(), shape.size()}, type);
  }
};

}  // namespace fastgan::attn
