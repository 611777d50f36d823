// The table of contents of the compiled ops: every schema, once.
#include <torch/csrc/stable/library.h>

#include "common/isa.h"

STABLE_TORCH_LIBRARY(fastgan, m) {
  m.def(
      "spectral_norm(Tensor[] weights, Tensor[] us, Tensor[] vs, int n_power_iterations, float eps, bool update)"
      " -> (Tensor[] normalized, Tensor[] sigmas, Tensor[] new_us, Tensor[] new_vs)");
  m.def(
      "spectral_norm_backward(Tensor[] grads, Tensor[] grad_sigmas, Tensor[] weights, Tensor[] sigmas, Tensor[] us,"
      " Tensor[] vs) -> Tensor[] grad_weights");
  m.def(
      "spectral_norm_double_backward(Tensor[] hs, Tensor[] grads, Tensor[] weights, Tensor[] sigmas, Tensor[] us,"
      " Tensor[] vs) -> (Tensor[] d_grads, Tensor[] d_grad_sigmas, Tensor[] d_weights, Tensor[] d_sigmas)");
  m.def("grad_norm_penalty(Tensor grad, float target, int kind, float eps) -> (Tensor penalty, Tensor norms)");
  m.def(
      "grad_norm_penalty_backward(Tensor grad_penalty, Tensor grad_norms, Tensor grad, Tensor norms, float target,"
      " int kind) -> Tensor");
  m.def(
      "grad_norm_penalty_double_backward(Tensor h, Tensor grad_penalty, Tensor grad_norms, Tensor grad, Tensor norms,"
      " float target, int kind) -> (Tensor d_grad_penalty, Tensor d_grad_norms, Tensor d_grad, Tensor d_norms)");
}

// What `fastgan doctor` reports.
extern "C" __attribute__((visibility("default"))) const char* fastgan_isa() {
  return fastgan::isa_name(fastgan::isa());
}
