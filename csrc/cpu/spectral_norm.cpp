// Spectral norm of a list of weights on the CPU, to second order.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/output_block.h"
#include "cpu/spectral_norm/passes.h"

namespace fastgan {
namespace {

using namespace spectral;

List empty_like_list(const List& list) {
  size_t bytes = 0;
  for (const Tensor& t : list) bytes += OutputBlock::room(t);
  OutputBlock block(bytes);
  List out;
  out.reserve(list.size());
  for (const Tensor& t : list) out.push_back(block.take(t));
  return out;
}

List empty_scalars(const List& list) {
  List out;
  out.reserve(list.size());
  for (const Tensor& t : list) out.push_back(empty_on_cpu(t, {}));
  return out;
}

std::tuple<List, List, List, List> spectral_norm(const List& weights_in, const List& us_in, const List& vs_in,
                                                 int64_t n_power_iterations, double eps, bool update) {
  const char* op = "spectral_norm";
  check_iteration(op, n_power_iterations, eps);
  const SpectralNormArguments a(op, weights_in, us_in, vs_in, false);
  const List& weights = a.weights;
  const Plan plan = plan_blocks(weights);
  List normalized = empty_like_list(weights), sigmas = empty_scalars(weights);
  List new_us = empty_like_list(a.us), new_vs = empty_like_list(a.vs);
  if (weights.empty()) return {normalized, sigmas, new_us, new_vs};

  dispatch_floating(a.dtype(), op, [&](auto tag) {
    forward<decltype(tag)>(plan, a, n_power_iterations, eps, update, normalized, sigmas, new_us, new_vs);
  });
  return {normalized, sigmas, new_us, new_vs};
}

List spectral_norm_backward(const List& grads_in, const List& grad_sigmas_in, const List& weights_in,
                            const List& sigmas_in, const List& us_in, const List& vs_in, const OutputMask& wanted) {
  const char* op = "spectral_norm_backward";
  check_mask(op, wanted, 1);
  const SpectralNormDerivativeArguments a(op, grads_in, weights_in, sigmas_in, us_in, vs_in, false);
  const List& weights = a.weights;
  const List grad_sigmas = checked_list(op, "grad_sigmas", grad_sigmas_in, weights, Kind::scalar, false);
  const Plan plan = plan_blocks(weights);
  List grad_weights = empty_like_list(weights);
  if (weights.empty()) return grad_weights;

  dispatch_floating(a.dtype(), op, [&](auto tag) { backward<decltype(tag)>(plan, a, grad_sigmas, grad_weights); });
  return only_wanted(wanted[0], grad_weights);
}

std::tuple<List, List, List, List> spectral_norm_double_backward(const List& hs_in, const List& grads_in,
                                                                 const List& weights_in, const List& sigmas_in,
                                                                 const List& us_in, const List& vs_in,
                                                                 const OutputMask& wanted) {
  const char* op = "spectral_norm_double_backward";
  check_mask(op, wanted, 4);
  const SpectralNormDerivativeArguments a(op, grads_in, weights_in, sigmas_in, us_in, vs_in, false);
  const List& weights = a.weights;
  const List hs = checked_list(op, "hs", hs_in, weights, Kind::weight, false);
  const Plan plan = plan_blocks(weights);
  List d_grads = empty_like_list(weights), d_weights = empty_like_list(weights);
  List d_grad_sigmas = empty_scalars(weights), d_sigmas = empty_scalars(weights);
  if (weights.empty()) return {d_grads, d_grad_sigmas, d_weights, d_sigmas};

  dispatch_floating(a.dtype(), op, [&](auto tag) {
    double_backward<decltype(tag)>(plan, a, hs, d_grads, d_grad_sigmas, d_weights, d_sigmas);
  });
  return {only_wanted(wanted[0], d_grads), only_wanted(wanted[1], d_grad_sigmas), only_wanted(wanted[2], d_weights),
          only_wanted(wanted[3], d_sigmas)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("spectral_norm", TORCH_BOX(&spectral_norm));
  m.impl("spectral_norm_backward", TORCH_BOX(&spectral_norm_backward));
  m.impl("spectral_norm_double_backward", TORCH_BOX(&spectral_norm_double_backward));
}

}  // namespace fastgan
