// Layer, group, instance and batch-statistics normalisation on the CPU, to second order.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/layout.h"
#include "cpu/normalize/passes.h"
#include "cpu/output_block.h"

namespace fastgan {
namespace {

using namespace norm;

Tensor laid_out_activation(const char* op, const Tensor& x) {
  STD_TORCH_CHECK(x.is_cpu() && x.dim() >= 2 && x.size(1) > 0, op, ": x has shape ", text_of(x.sizes()),
                  "; it must be (N, C, ...) with at least one channel, on the CPU");
  return laid_out(x, true);
}

// weight and what has its shape: (C,) or (N, C), in the statistics' dtype.
Optional checked_affine(const char* op, const char* name, const Optional& t, const Tensor& x, const Optional& weight) {
  if (!t) return t;
  STD_TORCH_CHECK(weight.has_value(), op, ": ", name, " needs a weight beside it");
  if (weight->dim() == 2) return checked(op, name, *t, statistics_dtype(x), false, {x.size(0), x.size(1)});
  return checked(op, name, *t, statistics_dtype(x), false, {x.size(1)});
}

Tensor checked_statistics(const char* op, const char* name, const Tensor& t, const Tensor& x, int64_t groups) {
  if (groups == 0) return checked(op, name, t, statistics_dtype(x), false, {x.size(1)});
  return checked(op, name, t, statistics_dtype(x), false, {x.size(0), groups});
}

std::tuple<Tensor, Tensor, Tensor> normalize(const Tensor& x_in, const Optional& weight_in, const Optional& bias_in,
                                             int64_t num_groups, double eps) {
  const char* op = "normalize";
  const Tensor x = laid_out_activation(op, x_in);
  const Geometry s = geometry_of(op, x, weight_in, num_groups);
  const Optional weight = checked_affine(op, "weight", weight_in, x, weight_in);
  const Optional bias = checked_affine(op, "bias", bias_in, x, weight_in);
  Tensor y = empty_output(x);
  const auto statistics = [&] {
    const int64_t batch[] = {s.C}, grouped[] = {x.size(0), num_groups};
    return num_groups == 0 ? torch::stable::new_empty(x, {batch, 1}, statistics_dtype(x))
                           : torch::stable::new_empty(x, {grouped, 2}, statistics_dtype(x));
  };
  Tensor mean = statistics(), var = statistics();
  if (x.numel() == 0) return {y, torch::stable::zero_(mean), torch::stable::zero_(var)};
  dispatch_floating(x.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    forward<T>(s, data<T>(x), pointer<A>(weight), pointer<A>(bias), eps, mutable_data<T>(y), mutable_data<A>(mean),
               mutable_data<A>(var));
  });
  return {y, mean, var};
}

Tensor zeros_like_weight(const Tensor& weight) {
  Tensor out = torch::stable::empty_like(weight);
  return torch::stable::zero_(out);
}

std::tuple<Tensor, Tensor, Tensor> normalize_backward(const Tensor& grad_in, const Tensor& x_in,
                                                      const Optional& weight_in, const Tensor& mean_in,
                                                      const Tensor& var_in, int64_t num_groups, double eps,
                                                      const OutputMask& wanted) {
  const char* op = "normalize_backward";
  check_mask(op, wanted, 3);
  const bool need_x = wanted[0], need_affine = wanted[1] || wanted[2];
  const Tensor x = laid_out_activation(op, x_in), grad = laid_out_like(op, "grad", grad_in, x);
  const Geometry s = geometry_of(op, x, weight_in, num_groups);
  const Optional weight = checked_affine(op, "weight", weight_in, x, weight_in);
  STD_TORCH_CHECK(weight || !need_affine, op, ": output_mask wants gradients of weight and bias, which need a weight");
  const Tensor mean = checked_statistics(op, "mean", mean_in, x, num_groups);
  const Tensor var = checked_statistics(op, "var", var_in, x, num_groups);
  Tensor dx = need_x ? empty_output(x) : without_elements(x);
  Tensor dgamma = need_affine ? zeros_like_weight(*weight) : without_elements(mean);
  Tensor dbeta = need_affine ? zeros_like_weight(*weight) : without_elements(mean);
  if (x.numel() == 0) return {dx, only_wanted(wanted[1], dgamma), only_wanted(wanted[2], dbeta)};
  dispatch_floating(x.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const Inputs<T> in{data<T>(x), data<T>(grad), nullptr, pointer<A>(weight), data<A>(mean), data<A>(var),
                       nullptr,    nullptr,       eps};
    backward<T>(s, in, need_x ? mutable_data<T>(dx) : nullptr, need_affine ? mutable_data<A>(dgamma) : nullptr,
                need_affine ? mutable_data<A>(dbeta) : nullptr);
  });
  return {dx, only_wanted(wanted[1], dgamma), only_wanted(wanted[2], dbeta)};
}

std::tuple<Tensor, Tensor, Tensor> normalize_double_backward(const Optional& h_in, const Optional& h_weight_in,
                                                             const Optional& h_bias_in, const Tensor& grad_in,
                                                             const Tensor& x_in, const Optional& weight_in,
                                                             const Tensor& mean_in, const Tensor& var_in,
                                                             int64_t num_groups, double eps, const OutputMask& wanted) {
  const char* op = "normalize_double_backward";
  check_mask(op, wanted, 3);
  const bool need_grad = wanted[0], need_x = wanted[1], need_weight = wanted[2];
  const Tensor x = laid_out_activation(op, x_in), grad = laid_out_like(op, "grad", grad_in, x);
  const Geometry s = geometry_of(op, x, weight_in, num_groups);
  Optional h;
  if (h_in) h = laid_out_like(op, "h", *h_in, x);
  const Optional weight = checked_affine(op, "weight", weight_in, x, weight_in);
  const Optional w = checked_affine(op, "h_weight", h_weight_in, x, weight_in);
  const Optional z = checked_affine(op, "h_bias", h_bias_in, x, weight_in);
  STD_TORCH_CHECK(weight || !need_weight, op, ": output_mask wants the derivative of a weight, and there is none");
  const Tensor mean = checked_statistics(op, "mean", mean_in, x, num_groups);
  const Tensor var = checked_statistics(op, "var", var_in, x, num_groups);
  Tensor d_g = need_grad ? empty_output(x) : without_elements(x);
  Tensor d_x = need_x ? empty_output(x) : without_elements(x);
  Tensor d_gamma = need_weight ? zeros_like_weight(*weight) : without_elements(mean);
  if (x.numel() == 0) return {d_g, d_x, d_gamma};
  dispatch_floating(x.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const Inputs<T> in{data<T>(x),         data<T>(grad), pointer<T>(h),
                       pointer<A>(weight), data<A>(mean), data<A>(var),
                       pointer<A>(w),      pointer<A>(z), eps};
    double_backward<T>(s, in, need_grad ? mutable_data<T>(d_g) : nullptr, need_x ? mutable_data<T>(d_x) : nullptr,
                       need_weight && h ? mutable_data<A>(d_gamma) : nullptr);
  });
  return {d_g, d_x, d_gamma};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("normalize", TORCH_BOX(&normalize));
  m.impl("normalize_backward", TORCH_BOX(&normalize_backward));
  m.impl("normalize_double_backward", TORCH_BOX(&normalize_double_backward));
}

}  // namespace fastgan
