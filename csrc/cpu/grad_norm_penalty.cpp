// The gradient penalty on the CPU: a per-sample reduction, and a per-sample factor times the gradient. Every sample is
// cut into the same blocks whatever the number of threads.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <tuple>

#include "common/dispatch.h"
#include "common/penalty.h"
#include "common/penalty_arguments.h"
#include "cpu/parallel.h"

#define FASTGAN_KERNELS "cpu/simd/linear.h"
#include "cpu/simd/each_isa.h"

namespace fastgan {
namespace {

constexpr int64_t kBlock = 64 * 1024;  // elements
constexpr int64_t kWorthAThread = 32 * 1024;

// The blocks that every sample of `size` elements is cut into.
struct Samples {
  int64_t batch, size, blocks_each;
  std::vector<int64_t> costs;  // of every block of every sample

  explicit Samples(const GradientArgument& a) : batch(a.batch), size(a.size) {
    blocks_each = size / kBlock + (size % kBlock != 0);  // none for empty samples, of which there may be any number
    for (int64_t b = 0; b < batch * blocks_each; b++) costs.push_back(1 + length(b));
  }
  int64_t begin(int64_t block) const { return block % blocks_each * kBlock; }
  int64_t length(int64_t block) const { return std::max<int64_t>(0, std::min(kBlock, size - begin(block))); }
  int64_t offset(int64_t block) const { return block / blocks_each * size + begin(block); }

  template <class Body>
  void for_blocks(const Body& body) const {
    parallel_by_cost(costs, 0, int64_t(costs.size()), kWorthAThread, body);
  }
};

// <x_i, y_i> for every sample i, in fp64.
template <class T>
std::vector<double> per_sample_products(const Samples& samples, const T* x, const T* y) {
  std::vector<double> per_block(samples.costs.size()), sums(samples.batch, 0.0);
  samples.for_blocks([&](int64_t b) {
    per_block[b] = FASTGAN_CALL(inner_product<T>)(x + samples.offset(b), y + samples.offset(b), samples.length(b));
  });
  for (size_t b = 0; b < per_block.size(); b++) sums[b / samples.blocks_each] += per_block[b];
  return sums;
}

template <class T>
void scale_samples(const Samples& samples, const T* x, const std::vector<double>& factors, T* y) {
  samples.for_blocks([&](int64_t b) {
    FASTGAN_CALL(scale_convert<T, T>)(x + samples.offset(b), y + samples.offset(b),
                                      accumulate_t<T>(factors[b / samples.blocks_each]), samples.length(b), false);
  });
}

std::tuple<Tensor, Tensor> grad_norm_penalty(const Tensor& grad_in, double target, int64_t kind, double eps) {
  const char* op = "grad_norm_penalty";
  const PenaltyKind penalty_kind = checked_kind(op, kind, eps);
  const GradientArgument a(op, grad_in, false);
  const Tensor& grad = a.grad;
  Tensor penalty = new_accumulator(grad, {}), norms = new_accumulator(grad, {a.batch});
  const Samples samples(a);
  dispatch_floating(grad.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const std::vector<double> squares = per_sample_products(samples, data<T>(grad), data<T>(grad));
    double sum = 0;
    for (int64_t i = 0; i < samples.batch; i++) {
      const double n = std::sqrt(squares[i] + eps);
      mutable_data<A>(norms)[i] = A(n);
      sum += penalty_value(penalty_kind, n, target);
    }
    *mutable_data<A>(penalty) = A(sum / double(samples.batch));
  });
  return {penalty, norms};
}

Tensor grad_norm_penalty_backward(const Tensor& grad_penalty, const Tensor& grad_norms, const Tensor& grad_in,
                                  const Tensor& norms, double target, int64_t kind, const OutputMask& wanted) {
  const char* op = "grad_norm_penalty_backward";
  check_mask(op, wanted, 1);
  const DerivativeArguments a(op, grad_penalty, grad_norms, grad_in, norms, kind, false);
  const Samples samples(a);
  const Tensor& grad = a.grad;
  Tensor out = torch::stable::new_empty(grad, grad.sizes());
  dispatch_floating(grad.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    std::vector<double> factors(samples.batch);
    for (int64_t i = 0; i < samples.batch; i++) {
      factors[i] =
          penalty_factor(a.kind, double(data<A>(a.norms)[i]), target,
                         double(*data<A>(a.grad_penalty)) / double(samples.batch), double(data<A>(a.grad_norms)[i]));
    }
    scale_samples(samples, data<T>(grad), factors, mutable_data<T>(out));
  });
  return only_wanted(wanted[0], out);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> grad_norm_penalty_double_backward(
    const Tensor& h_in, const Tensor& grad_penalty, const Tensor& grad_norms, const Tensor& grad_in,
    const Tensor& norms, double target, int64_t kind, const OutputMask& wanted) {
  const char* op = "grad_norm_penalty_double_backward";
  check_mask(op, wanted, 4);
  const DerivativeArguments a(op, grad_penalty, grad_norms, grad_in, norms, kind, false);
  const Samples samples(a);
  const Tensor& grad = a.grad;
  const Tensor h = checked(op, "h", h_in, grad.scalar_type(), false, grad.sizes());
  Tensor d_gp = new_accumulator(grad, {}), d_gn = new_accumulator(grad, {samples.batch});
  Tensor d_grad = torch::stable::new_empty(grad, grad.sizes()), d_norms = new_accumulator(grad, {samples.batch});
  dispatch_floating(grad.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const std::vector<double> products = per_sample_products(samples, data<T>(h), data<T>(grad));
    std::vector<double> factors(samples.batch);
    double sum = 0;
    for (int64_t i = 0; i < samples.batch; i++) {
      const double n = double(data<A>(a.norms)[i]), share = double(*data<A>(a.grad_penalty)) / double(samples.batch),
                   g_n = double(data<A>(a.grad_norms)[i]);
      factors[i] = penalty_factor(a.kind, n, target, share, g_n);
      sum += products[i] * penalty_factor(a.kind, n, target, 1.0, 0.0);
      mutable_data<A>(d_gn)[i] = A(products[i] * penalty_factor(a.kind, n, target, 0.0, 1.0));
      mutable_data<A>(d_norms)[i] = A(products[i] * penalty_factor_slope(a.kind, n, target, share, g_n));
    }
    *mutable_data<A>(d_gp) = A(sum / double(samples.batch));
    scale_samples(samples, data<T>(h), factors, mutable_data<T>(d_grad));
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
