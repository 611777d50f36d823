// The gradient penalty on the CPU, to second order.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/grad_norm_penalty/passes.h"

namespace fastgan {
namespace {

std::tuple<Tensor, Tensor> grad_norm_penalty(const Tensor& grad_in, double target, int64_t kind, double eps) {
  const char* op = "grad_norm_penalty";
  const PenaltyKind penalty_kind = checked_kind(op, kind, eps);
  const GradientArgument a(op, grad_in, false);
  const Tensor& grad = a.grad;
  Tensor penalty = new_accumulator(grad, {}), norms = new_accumulator(grad, {a.batch});
  dispatch_floating(grad.scalar_type(), op,
                    [&](auto tag) { penalty::forward<decltype(tag)>(a, penalty_kind, target, eps, penalty, norms); });
  return {penalty, norms};
}

Tensor grad_norm_penalty_backward(const Tensor& grad_penalty, const Tensor& grad_norms, const Tensor& grad_in,
                                  const Tensor& norms, double target, int64_t kind, const OutputMask& wanted) {
  const char* op = "grad_norm_penalty_backward";
  check_mask(op, wanted, 1);
  const DerivativeArguments a(op, grad_penalty, grad_norms, grad_in, norms, kind, false);
  const Tensor& grad = a.grad;
  Tensor out = torch::stable::new_empty(grad, grad.sizes());
  dispatch_floating(grad.scalar_type(), op, [&](auto tag) { penalty::backward<decltype(tag)>(a, target, out); });
  return only_wanted(wanted[0], out);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> grad_norm_penalty_double_backward(
    const Tensor& h_in, const Tensor& grad_penalty, const Tensor& grad_norms, const Tensor& grad_in,
    const Tensor& norms, double target, int64_t kind, const OutputMask& wanted) {
  const char* op = "grad_norm_penalty_double_backward";
  check_mask(op, wanted, 4);
  const DerivativeArguments a(op, grad_penalty, grad_norms, grad_in, norms, kind, false);
  const Tensor& grad = a.grad;
  const Tensor h = checked(op, "h", h_in, grad.scalar_type(), false, grad.sizes());
  Tensor d_gp = new_accumulator(grad, {}), d_gn = new_accumulator(grad, {a.batch});
  Tensor d_grad = torch::stable::new_empty(grad, grad.sizes()), d_norms = new_accumulator(grad, {a.batch});
  dispatch_floating(grad.scalar_type(), op, [&](auto tag) {
    penalty::double_backward<decltype(tag)>(a, h, target, d_gp, d_gn, d_grad, d_norms);
  });
  return {only_wanted(wanted[0], d_gp), only_wanted(wanted[1], d_gn), only_wanted(wanted[2], d_grad),
          only_wanted(wanted[3], d_norms)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("grad_norm_penalty", TORCH_BOX(&grad_norm_penalty));
  m.impl("grad_norm_penalty_backward", TORCH_BOX(&grad_norm_penalty_backward));
  m.impl("grad_norm_penalty_double_backward", TORCH_BOX(&grad_norm_penalty_double_backward));
}

}  // namespace fastgan
