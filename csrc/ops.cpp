// The table of contents of the compiled ops: every schema, once.
#include <torch/csrc/stable/library.h>

#include "cpu/output_block.h"
#include "cpu/simd/isa.h"

// The last argument of every derivative is output_mask: one bool for each output, in order. An output that is not
// wanted has no elements.
STABLE_TORCH_LIBRARY(fastgan, m) {
  m.def(
      "spectral_norm(Tensor[] weights, Tensor[] us, Tensor[] vs, int n_power_iterations, float eps, bool update)"
      " -> (Tensor[] normalized, Tensor[] sigmas, Tensor[] new_us, Tensor[] new_vs)");
  m.def(
      "spectral_norm_backward(Tensor[] grads, Tensor[] grad_sigmas, Tensor[] weights, Tensor[] sigmas, Tensor[] us,"
      " Tensor[] vs, bool[] output_mask) -> Tensor[] grad_weights");
  m.def(
      "spectral_norm_double_backward(Tensor[] hs, Tensor[] grads, Tensor[] weights, Tensor[] sigmas, Tensor[] us,"
      " Tensor[] vs, bool[] output_mask) -> (Tensor[] d_grads, Tensor[] d_grad_sigmas, Tensor[] d_weights,"
      " Tensor[] d_sigmas)");
  m.def("grad_norm_penalty(Tensor grad, float target, int kind, float eps) -> (Tensor penalty, Tensor norms)");
  m.def(
      "grad_norm_penalty_backward(Tensor grad_penalty, Tensor grad_norms, Tensor grad, Tensor norms, float target,"
      " int kind, bool[] output_mask) -> Tensor d_grad");
  m.def(
      "grad_norm_penalty_double_backward(Tensor h, Tensor grad_penalty, Tensor grad_norms, Tensor grad, Tensor norms,"
      " float target, int kind, bool[] output_mask) -> (Tensor d_grad_penalty, Tensor d_grad_norms, Tensor d_grad,"
      " Tensor d_norms)");
  // logsumexp (B, H, N) and key_bias (B, H, M) are float32, float64 for float64. out and logsumexp are those of the
  // forward, not independent variables.
  m.def(
      "attention(Tensor q, Tensor k, Tensor v, Tensor? key_bias, float scale, bool is_causal)"
      " -> (Tensor out, Tensor logsumexp)");
  m.def(
      "attention_backward(Tensor grad_out, Tensor? grad_logsumexp, Tensor q, Tensor k, Tensor v, Tensor? key_bias,"
      " Tensor out, Tensor logsumexp, float scale, bool is_causal, bool[] output_mask)"
      " -> (Tensor grad_q, Tensor grad_k, Tensor grad_v, Tensor grad_key_bias)");
  m.def(
      "attention_double_backward(Tensor? x, Tensor? y, Tensor? z, Tensor? x_bias, Tensor grad_out,"
      " Tensor? grad_logsumexp, Tensor q, Tensor k, Tensor v, Tensor? key_bias, Tensor out, Tensor logsumexp,"
      " float scale, bool is_causal, bool[] output_mask) -> (Tensor d_grad_out, Tensor d_grad_logsumexp, Tensor d_q,"
      " Tensor d_k, Tensor d_v, Tensor d_key_bias)");

  m.def(
      "normalize(Tensor x, Tensor? weight, Tensor? bias, int num_groups, float eps) -> (Tensor y, Tensor mean, Tensor "
      "var)");
  m.def(
      "normalize_backward(Tensor grad, Tensor x, Tensor? weight, Tensor mean, Tensor var, int num_groups, float eps,"
      " bool[] output_mask) -> (Tensor grad_x, Tensor grad_weight, Tensor grad_bias)");
  m.def(
      "normalize_double_backward(Tensor? h, Tensor? h_weight, Tensor? h_bias, Tensor grad, Tensor x, Tensor? weight,"
      " Tensor mean, Tensor var, int num_groups, float eps, bool[] output_mask)"
      " -> (Tensor d_grad, Tensor d_x, Tensor d_weight)");

  // act: a code of fastgan.ops.bias_act.ACTIVATIONS; clamp: infinite for none; saved: x, or y with from_output.
  m.def("bias_act(Tensor x, Tensor? bias, int dim, int act, float alpha, float gain, float clamp) -> Tensor y");
  m.def(
      "bias_act_backward(Tensor grad, Tensor saved, Tensor? bias, int dim, int act, float alpha, float gain,"
      " float clamp, bool from_output, bool[] output_mask) -> (Tensor grad_x, Tensor grad_bias)");
  m.def(
      "bias_act_double_backward(Tensor? h, Tensor? h_bias, Tensor grad, Tensor saved, Tensor? bias, int dim, int act,"
      " float alpha, float gain, float clamp, bool from_output, bool[] output_mask)"
      " -> (Tensor d_grad, Tensor d_saved, Tensor d_bias)");
}

// What `fastgan doctor` reports.
extern "C" __attribute__((visibility("default"))) const char* fastgan_isa() {
  return fastgan::isa_name(fastgan::isa());
}

// For benchmarks: see OutputBlock::peak_bytes.
extern "C" __attribute__((visibility("default"))) int64_t fastgan_peak_output_bytes() {
  return fastgan::OutputBlock::peak_bytes();
}
