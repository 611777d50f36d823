// Bias, activation, gain and clamp in one pass on the CPU, to second order.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/bias_act/plan.h"
#include "cpu/layout.h"
#include "cpu/output_block.h"

#define FASTGAN_KERNELS "cpu/bias_act/kernels.h"
#include "cpu/simd/each_isa.h"

namespace fastgan {
namespace {

using namespace act;

Tensor laid_out_along(const char* op, const Tensor& x, int64_t dim) {
  STD_TORCH_CHECK(x.is_cpu(), op, ": x must be on the CPU");
  STD_TORCH_CHECK(dim >= 0 && dim < std::max<int64_t>(1, x.dim()), op, ": dim is ", dim, "; x has ", x.dim(),
                  " dimensions");
  return laid_out(x, dim == 1);
}

Optional checked_bias(const char* op, const char* name, const Optional& bias, const Tensor& x, int64_t dim) {
  if (!bias) return bias;
  STD_TORCH_CHECK(x.dim() > 0, op, ": x is a scalar, which takes no bias");
  return checked(op, name, *bias, statistics_dtype(x), false, {x.size(dim)});
}

template <class A>
ActParameters<A> parameters(int64_t act, double alpha, double gain, double clamp, bool from_output) {
  STD_TORCH_CHECK(std::isfinite(alpha) && std::isfinite(gain), "bias_act: alpha is ", alpha, " and gain is ", gain,
                  "; both must be finite");
  STD_TORCH_CHECK(clamp > 0, "bias_act: clamp is ", clamp, "; it must be positive, or infinite for none");
  const bool clamped = std::isfinite(clamp);
  STD_TORCH_CHECK(!from_output || (derives_from_output(act) && gain != 0 && !clamped),
                  "bias_act: from_output must be false for this activation, for gain 0 and with a clamp");
  return {A(alpha), A(gain), A(1 / gain), A(clamp), clamped, from_output};
}

// body(kernel) with the Act of the code as a compile-time constant.
template <class Body, int Act = 0>
void dispatch_activation(const char* op, int64_t act, const Body& body) {
  if constexpr (Act < kActivations) {
    if (act == Act) return body(std::integral_constant<int, Act>{});
    dispatch_activation<Body, Act + 1>(op, act, body);
  } else {
    STD_TORCH_CHECK(false, op, ": the activation code is ", act, "; it must be 0 to ", kActivations - 1);
  }
}

Tensor bias_act(const Tensor& x_in, const Optional& bias_in, int64_t dim, int64_t act, double alpha, double gain,
                double clamp) {
  const char* op = "bias_act";
  const Tensor x = laid_out_along(op, x_in, dim);
  const Optional bias = checked_bias(op, "bias", bias_in, x, dim);
  const Geometry s = geometry_of(x, dim, bias.has_value());
  Tensor y = empty_output(x);
  dispatch_floating(x.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const auto p = parameters<A>(act, alpha, gain, clamp, false);
    const PerChannel<A> b(s, pointer<A>(bias));
    const T* from = data<T>(x);
    T* to = mutable_data<T>(y);
    dispatch_activation(op, act, [&](auto code) {
      constexpr int Act = decltype(code)::value;
      each_block<A>(s, nullptr, [&](const Segments& segments, int64_t at, A*) {
        FASTGAN_CALL(act_forward<Act, T>)(segments, from + at, b, to + at, p);
      });
    });
  });
  return y;
}

Tensor zeros_per_channel(const Tensor& x, int64_t dim) {
  STD_TORCH_CHECK(x.dim() > 0, "bias_act: x is a scalar, which takes no bias");
  const int64_t size[] = {x.size(dim)};
  return torch::stable::new_zeros(x, {size, 1}, statistics_dtype(x));
}

std::tuple<Tensor, Tensor> bias_act_backward(const Tensor& grad_in, const Tensor& saved_in, const Optional& bias_in,
                                             int64_t dim, int64_t act, double alpha, double gain, double clamp,
                                             bool from_output, const OutputMask& wanted) {
  const char* op = "bias_act_backward";
  check_mask(op, wanted, 2);
  const bool need_x = wanted[0], need_bias = wanted[1];
  const Tensor saved = laid_out_along(op, saved_in, dim), grad = laid_out_like(op, "grad", grad_in, saved);
  const Optional bias = checked_bias(op, "bias", bias_in, saved, dim);
  const Geometry s = geometry_of(saved, dim, bias || need_bias);
  Tensor dx = need_x ? empty_output(saved) : without_elements(saved);
  Tensor dbias = need_bias ? zeros_per_channel(saved, dim) : without_elements(saved, statistics_dtype(saved));
  dispatch_floating(saved.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const auto p = parameters<A>(act, alpha, gain, clamp, from_output);
    const PerChannel<A> b(s, from_output ? nullptr : pointer<A>(bias));
    const T *g = data<T>(grad), *from = data<T>(saved);
    T* to = need_x ? mutable_data<T>(dx) : nullptr;
    dispatch_activation(op, act, [&](auto code) {
      constexpr int Act = decltype(code)::value;
      each_block<A>(
          s, need_bias ? mutable_data<A>(dbias) : nullptr, [&](const Segments& segments, int64_t at, A* sums) {
            FASTGAN_CALL(act_backward<Act, T>)(segments, g + at, from + at, b, to ? to + at : nullptr, sums, p);
          });
    });
  });
  return {dx, dbias};
}

std::tuple<Tensor, Tensor, Tensor> bias_act_double_backward(const Optional& h_in, const Optional& h_bias_in,
                                                            const Tensor& grad_in, const Tensor& saved_in,
                                                            const Optional& bias_in, int64_t dim, int64_t act,
                                                            double alpha, double gain, double clamp, bool from_output,
                                                            const OutputMask& wanted) {
  const char* op = "bias_act_double_backward";
  check_mask(op, wanted, 3);
  const bool need_grad = wanted[0], need_saved = wanted[1], need_bias = wanted[2];
  const Tensor saved = laid_out_along(op, saved_in, dim), grad = laid_out_like(op, "grad", grad_in, saved);
  Optional h;
  if (h_in) h = laid_out_like(op, "h", *h_in, saved);
  const Optional bias = checked_bias(op, "bias", bias_in, saved, dim);
  const Optional h_bias = checked_bias(op, "h_bias", h_bias_in, saved, dim);
  const Geometry s = geometry_of(saved, dim, bias || h_bias || need_bias);
  Tensor d_grad = need_grad ? empty_output(saved) : without_elements(saved);
  Tensor d_saved = need_saved ? empty_output(saved) : without_elements(saved);
  Tensor d_bias = need_bias ? zeros_per_channel(saved, dim) : without_elements(saved, statistics_dtype(saved));
  dispatch_floating(saved.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const auto p = parameters<A>(act, alpha, gain, clamp, from_output);
    const PerChannel<A> b(s, from_output ? nullptr : pointer<A>(bias)), hb(s, pointer<A>(h_bias));
    const T *hp = pointer<T>(h), *g = data<T>(grad), *from = data<T>(saved);
    T *to_grad = need_grad ? mutable_data<T>(d_grad) : nullptr, *to = need_saved ? mutable_data<T>(d_saved) : nullptr;
    dispatch_activation(op, act, [&](auto code) {
      constexpr int Act = decltype(code)::value;
      each_block<A>(s, need_bias ? mutable_data<A>(d_bias) : nullptr,
                    [&](const Segments& segments, int64_t at, A* sums) {
                      FASTGAN_CALL(act_double_backward<Act, T>)(segments, hp ? hp + at : nullptr, hb, g + at, from + at,
                                                                b, to_grad ? to_grad + at : nullptr,
                                                                to ? to + at : nullptr, sums, p);
                    });
    });
  });
  return {d_grad, d_saved, d_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("bias_act", TORCH_BOX(&bias_act));
  m.impl("bias_act_backward", TORCH_BOX(&bias_act_backward));
  m.impl("bias_act_double_backward", TORCH_BOX(&bias_act_double_backward));
}

}  // namespace fastgan
