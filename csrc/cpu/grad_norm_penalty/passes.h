// The passes of the gradient penalty on the CPU: a per-sample reduction, and a per-sample factor times the gradient.
// Every sample is cut into the same blocks whatever the number of threads.
#pragma once

#include <cmath>

#include "common/dispatch.h"
#include "common/penalty_arguments.h"
#include "cpu/parallel.h"

#define FASTGAN_KERNELS "cpu/simd/linear.h"
#include "cpu/simd/each_isa.h"

namespace fastgan::penalty {

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

template <class T>
void forward(const GradientArgument& a, PenaltyKind penalty_kind, double target, double eps, const Tensor& penalty,
             const Tensor& norms) {
  const Samples samples(a);
  const Tensor& grad = a.grad;
  using A = accumulate_t<T>;
  const std::vector<double> squares = per_sample_products(samples, data<T>(grad), data<T>(grad));
  double sum = 0;
  for (int64_t i = 0; i < samples.batch; i++) {
    const double n = std::sqrt(squares[i] + eps);
    mutable_data<A>(norms)[i] = A(n);
    sum += penalty_value(penalty_kind, n, target);
  }
  *mutable_data<A>(penalty) = A(sum / double(samples.batch));
}

template <class T>
void backward(const DerivativeArguments& a, double target, const Tensor& out) {
  const Samples samples(a);
  const Tensor& grad = a.grad;
  using A = accumulate_t<T>;
  std::vector<double> factors(samples.batch);
  for (int64_t i = 0; i < samples.batch; i++) {
    factors[i] =
        penalty_factor(a.kind, double(data<A>(a.norms)[i]), target,
                       double(*data<A>(a.grad_penalty)) / double(samples.batch), double(data<A>(a.grad_norms)[i]));
  }
  scale_samples(samples, data<T>(grad), factors, mutable_data<T>(out));
}

template <class T>
void double_backward(const DerivativeArguments& a, const Tensor& h, double target, const Tensor& d_gp,
                     const Tensor& d_gn, const Tensor& d_grad, const Tensor& d_norms) {
  const Samples samples(a);
  const Tensor& grad = a.grad;
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
}

}  // namespace fastgan::penalty
