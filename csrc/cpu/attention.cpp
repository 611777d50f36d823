// Attention on the CPU, to second order.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/attention/passes.h"

namespace fastgan {
namespace {

using attn::Call;

// Nothing to compute: no output has elements, however many heads there are.
bool all_empty(std::initializer_list<Tensor> outputs) {
  return std::all_of(outputs.begin(), outputs.end(), [](const Tensor& t) { return t.numel() == 0; });
}

void* data_if(bool wanted, const Tensor& t) { return wanted ? t.mutable_data_ptr() : nullptr; }

std::tuple<Tensor, Tensor> attention(const Tensor& q, const Tensor& k, const Tensor& v, const Optional& key_bias,
                                     double scale, bool is_causal) {
  const Call call("attention", q, k, v, key_bias, scale, is_causal);
  Tensor out = call.output(true, call.dtype, {call.batch, call.heads, call.queries, call.v_width});
  Tensor logsumexp = call.output(true, call.accumulate, {call.batch, call.heads, call.queries});
  if (all_empty({out, logsumexp})) return {out, logsumexp};
  dispatch_floating(call.dtype, call.op, [&](auto tag) {
    using T = decltype(tag);
    attn::forward<T>(call, mutable_data<T>(out), mutable_data<accumulate_t<T>>(logsumexp));
  });
  return {out, logsumexp};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attention_backward(const Tensor& grad_out, const Optional& grad_logsumexp,
                                                              const Tensor& q, const Tensor& k, const Tensor& v,
                                                              const Optional& key_bias, const Tensor& out,
                                                              const Tensor& logsumexp, double scale, bool is_causal,
                                                              const OutputMask& wanted) {
  check_mask("attention_backward", wanted, 4);
  Call call("attention_backward", q, k, v, key_bias, scale, is_causal);
  call.backward_of(grad_out, grad_logsumexp, out, logsumexp);
  const int64_t B = call.batch, H = call.heads, N = call.queries, M = call.keys, D = call.qk_width, Dv = call.v_width;
  Tensor dq = call.output(wanted[0], call.dtype, {B, H, N, D});
  Tensor dk = call.output(wanted[1], call.dtype, {B, H, M, D});
  Tensor dv = call.output(wanted[2], call.dtype, {B, H, M, Dv});
  Tensor dbias = call.output(wanted[3], call.accumulate, {B, H, M});
  if (all_empty({dq, dk, dv, dbias})) return {dq, dk, dv, dbias};
  AttentionGradients grads;
  grads.q = data_if(wanted[0], dq);
  grads.k = data_if(wanted[1], dk);
  grads.v = data_if(wanted[2], dv);
  grads.key_bias = data_if(wanted[3], dbias);
  dispatch_floating(call.dtype, call.op, [&](auto tag) { attn::backward<decltype(tag)>(call, grads); });
  return {dq, dk, dv, dbias};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> attention_double_backward(
    const Optional& x, const Optional& y, const Optional& z, const Optional& x_bias, const Tensor& grad_out,
    const Optional& grad_logsumexp, const Tensor& q, const Tensor& k, const Tensor& v, const Optional& key_bias,
    const Tensor& out, const Tensor& logsumexp, double scale, bool is_causal, const OutputMask& wanted) {
  check_mask("attention_double_backward", wanted, 6);
  Call call("attention_double_backward", q, k, v, key_bias, scale, is_causal);
  call.backward_of(grad_out, grad_logsumexp, out, logsumexp);
  if (x) call.in.x = call.qk_rows("x", *x);
  if (y) call.in.y = call.qk_columns("y", *y);
  if (z) call.in.z = call.v_columns("z", *z);
  if (x_bias) call.in.x_bias = call.per_key("x_bias", *x_bias);
  const int64_t B = call.batch, H = call.heads, N = call.queries, M = call.keys, D = call.qk_width, Dv = call.v_width;
  Tensor d_grad_out = call.output(wanted[0], call.dtype, {B, H, N, Dv});
  Tensor d_grad_logsumexp = call.output(wanted[1], call.accumulate, {B, H, N});
  Tensor dq = call.output(wanted[2], call.dtype, {B, H, N, D});
  Tensor dk = call.output(wanted[3], call.dtype, {B, H, M, D});
  Tensor dv = call.output(wanted[4], call.dtype, {B, H, M, Dv});
  Tensor dbias = call.output(wanted[5], call.accumulate, {B, H, M});
  if (all_empty({d_grad_out, d_grad_logsumexp, dq, dk, dv, dbias})) {
    return {d_grad_out, d_grad_logsumexp, dq, dk, dv, dbias};
  }
  AttentionGradients grads;
  grads.grad_out = data_if(wanted[0], d_grad_out);
  grads.grad_logsumexp = data_if(wanted[1], d_grad_logsumexp);
  grads.q = data_if(wanted[2], dq);
  grads.k = data_if(wanted[3], dk);
  grads.v = data_if(wanted[4], dv);
  grads.key_bias = data_if(wanted[5], dbias);
  dispatch_floating(call.dtype, call.op, [&](auto tag) { attn::double_backward<decltype(tag)>(call, grads); });
  return {d_grad_out, d_grad_logsumexp, dq, dk, dv, dbias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("attention", TORCH_BOX(&attention));
  m.impl("attention_backward", TORCH_BOX(&attention_backward));
  m.impl("attention_double_backward", TORCH_BOX(&attention_double_backward));
}

}  // namespace fastgan
