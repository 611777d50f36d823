// The gradient penalty on the CPU: a per-sample reduction, and a per-sample factor times the gradient. Every sample is
// cut into the same blocks whatever the number of threads.
#include "common/grad_norm_penalty.h"

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <tuple>

#include "common/checks.h"
#include "common/dispatch.h"
#include "common/parallel.h"

#define FASTGAN_KERNELS "common/vector_ops.h"
#include "common/each_isa.h"

namespace fastgan {
namespace {

constexpr int64_t kBlock = 64 * 1024;  // elements
constexpr int64_t kWorthAThread = 32 * 1024;

PenaltyKind checked_kind(const char* op, int64_t kind, double eps) {
  STD_TORCH_CHECK(kind >= 0 && kind <= 2, op, ": kind must be 0 (two-sided), 1 (one-sided) or 2 (squared)");
  STD_TORCH_CHECK(eps >= 0, op, ": eps must not be negative");
  return PenaltyKind(kind);
}

torch::headeronly::ScalarType accumulator_dtype(torch::headeronly::ScalarType dtype) {
  using torch::headeronly::ScalarType;
  return dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// (batch, size) of a gradient (B, ...); size is that of one sample.
struct Samples {
  int64_t batch, size, blocks_each;
  std::vector<int64_t> costs;  // of every block of every sample

  Samples(const char* op, const Tensor& grad) {
    STD_TORCH_CHECK(grad.dim() >= 1 && grad.size(0) > 0, op, ": grad must have a non-empty batch dimension");
    batch = grad.size(0);
    size = grad.numel() / batch;
    blocks_each = std::max<int64_t>(1, (size + kBlock - 1) / kBlock);
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

Tensor checked_like(const char* op, const char* name, const Tensor& t, const Tensor& like) {
  return checked(op, name, t, like.scalar_type(), false, like.sizes());
}

// A float32 (float64 beside float64) tensor on the CPU.
Tensor new_accumulator(const Tensor& like, IntHeaderOnlyArrayRef shape) {
  return torch::stable::new_empty(like, shape, accumulator_dtype(like.scalar_type()));
}

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
  const Samples samples(op, grad_in);
  const Tensor grad = checked_like(op, "grad", grad_in, grad_in);
  Tensor penalty = new_accumulator(grad, {}), norms = new_accumulator(grad, {samples.batch});
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
                                  const Tensor& norms_in, double target, int64_t kind) {
  const char* op = "grad_norm_penalty_backward";
  const PenaltyKind penalty_kind = checked_kind(op, kind, 0);
  const Samples samples(op, grad_in);
  const Tensor grad = checked_like(op, "grad", grad_in, grad_in);
  const auto dtype = accumulator_dtype(grad.scalar_type());
  const Tensor gp = checked(op, "grad_penalty", grad_penalty, dtype, false, {});
  const Tensor gn = checked(op, "grad_norms", grad_norms, dtype, false, {samples.batch});
  const Tensor norms = checked(op, "norms", norms_in, dtype, false, {samples.batch});
  Tensor out = torch::stable::new_empty(grad, grad.sizes());
  dispatch_floating(grad.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    std::vector<double> factors(samples.batch);
    for (int64_t i = 0; i < samples.batch; i++) {
      factors[i] = penalty_factor(penalty_kind, double(data<A>(norms)[i]), target,
                                  double(*data<A>(gp)) / double(samples.batch), double(data<A>(gn)[i]));
    }
    scale_samples(samples, data<T>(grad), factors, mutable_data<T>(out));
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> grad_norm_penalty_double_backward(
    const Tensor& h_in, const Tensor& grad_penalty, const Tensor& grad_norms, const Tensor& grad_in,
    const Tensor& norms_in, double target, int64_t kind) {
  const char* op = "grad_norm_penalty_double_backward";
  const PenaltyKind penalty_kind = checked_kind(op, kind, 0);
  const Samples samples(op, grad_in);
  const Tensor grad = checked_like(op, "grad", grad_in, grad_in), h = checked_like(op, "h", h_in, grad);
  const auto dtype = accumulator_dtype(grad.scalar_type());
  const Tensor gp = checked(op, "grad_penalty", grad_penalty, dtype, false, {});
  const Tensor gn = checked(op, "grad_norms", grad_norms, dtype, false, {samples.batch});
  const Tensor norms = checked(op, "norms", norms_in, dtype, false, {samples.batch});
  Tensor d_gp = new_accumulator(grad, {}), d_gn = new_accumulator(grad, {samples.batch});
  Tensor d_grad = torch::stable::new_empty(grad, grad.sizes()), d_norms = new_accumulator(grad, {samples.batch});
  dispatch_floating(grad.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const std::vector<double> products = per_sample_products(samples, data<T>(h), data<T>(grad));
    std::vector<double> factors(samples.batch);
    double sum = 0;
    for (int64_t i = 0; i < samples.batch; i++) {
      const double n = double(data<A>(norms)[i]), share = double(*data<A>(gp)) / double(samples.batch),
                   g_n = double(data<A>(gn)[i]);
      factors[i] = penalty_factor(penalty_kind, n, target, share, g_n);
      sum += products[i] * penalty_factor(penalty_kind, n, target, 1, 0);
      mutable_data<A>(d_gn)[i] = A(products[i] * penalty_factor(penalty_kind, n, target, 0, 1));
      mutable_data<A>(d_norms)[i] = A(products[i] * penalty_factor_slope(penalty_kind, n, target, share, g_n));
    }
    *mutable_data<A>(d_gp) = A(sum / double(samples.batch));
    scale_samples(samples, data<T>(h), factors, mutable_data<T>(d_grad));
  });
  return {d_gp, d_gn, d_grad, d_norms};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("grad_norm_penalty", TORCH_BOX(&grad_norm_penalty));
  m.impl("grad_norm_penalty_backward", TORCH_BOX(&grad_norm_penalty_backward));
  m.impl("grad_norm_penalty_double_backward", TORCH_BOX(&grad_norm_penalty_double_backward));
}

}  // namespace fastgan
