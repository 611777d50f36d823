// The passes of the spectral norm on the CPU, to second order: what a thread does with each block of rows, and what
// happens between two passes over the blocks. G and H are the cotangents of the normalized weight and of the gradient.
#pragma once

#include <cmath>
#include <memory>

#include "common/dispatch.h"
#include "cpu/spectral_norm/plan.h"

#define FASTGAN_KERNELS "cpu/spectral_norm/kernels.h"
#include "cpu/simd/each_isa.h"

namespace fastgan::spectral {

template <class T>
void forward(const Plan& plan, const SpectralNormArguments& a, int64_t n_power_iterations, double eps, bool update,
             const List& normalized, const List& sigmas, const List& new_us, const List& new_vs) {
  const List &weights = a.weights, &us = a.us, &vs = a.vs;
  using A = accumulate_t<T>;
  // Per layer t (rows,) and v (cols,); per block its share of W^T t (cols,).
  const int64_t count = int64_t(plan.layers.size());
  std::vector<int64_t> t_at(count + 1), v_at(count + 1), x_at(count + 1);
  for (int64_t l = 0; l < count; l++) {
    const Layer& layer = plan.layers[l];
    t_at[l + 1] = t_at[l] + layer.rows;
    v_at[l + 1] = v_at[l] + layer.cols;
    x_at[l + 1] = x_at[l] + (update ? layer.cols * layer.blocks : 0);
  }
  const std::unique_ptr<A[]> t(new A[t_at[count]]), v(new A[v_at[count]]), x(new A[x_at[count]]);
  std::vector<A> sigma(count);
  for (int64_t l = 0; l < count; l++) {
    FASTGAN_CALL(scale_convert<T, A>)(data<T>(vs[l]), &v[v_at[l]], A(1), plan.layers[l].cols, false);
  }

  const auto multiply = [&](int64_t b) {
    const Block& block = plan.blocks[b];
    const Layer& layer = plan.layers[block.layer];
    A* share = update ? &x[x_at[block.layer] + (b - layer.first_block) * layer.cols] : nullptr;
    FASTGAN_CALL(power_iteration_rows<T>)(data<T>(weights[block.layer]) + block.row * layer.cols, block.rows,
                                          layer.cols, &v[v_at[block.layer]], &t[t_at[block.layer] + block.row], share);
  };
  const auto normalize_vectors = [&](int64_t l) {
    const Layer& layer = plan.layers[l];
    A *tl = &t[t_at[l]], *vl = &v[v_at[l]], *xl = &x[x_at[l]];
    for (int64_t b = 1; b < layer.blocks; b++) FASTGAN_CALL(add_to<A>)(xl, xl + b * layer.cols, layer.cols);
    const A t_norm = std::sqrt(FASTGAN_CALL(scaled_square_norm<A>)(tl, tl, A(1), layer.rows));
    const A inverse_t = A(1) / std::max(t_norm, A(eps));                                        // u = t / |t|
    const A n = std::sqrt(FASTGAN_CALL(scaled_square_norm<A>)(xl, xl, inverse_t, layer.cols));  // x = W^T u
    const A clamped = std::max(n, A(eps));
    FASTGAN_CALL(scale_convert<A, A>)(xl, vl, A(1) / clamped, layer.cols, false);
    FASTGAN_CALL(scale_convert<A, A>)(tl, tl, inverse_t, layer.rows, false);
    sigma[l] = n * (n / clamped);  // u^T W v = x.v
  };
  const auto write_vectors = [&](int64_t l) {
    const Layer& layer = plan.layers[l];
    T *u_out = mutable_data<T>(new_us[l]), *v_out = mutable_data<T>(new_vs[l]);
    if (update) {
      FASTGAN_CALL(scale_convert<A, T>)(&t[t_at[l]], u_out, A(1), layer.rows, false);
      FASTGAN_CALL(scale_convert<A, T>)(&v[v_at[l]], v_out, A(1), layer.cols, false);
    } else {
      std::copy_n(data<T>(us[l]), layer.rows, u_out);
      std::copy_n(data<T>(vs[l]), layer.cols, v_out);
      double total = 0;  // in fp32 its error would grow with the rows
      for (int64_t r = 0; r < layer.rows; r++) {
        total += double(baseline::load_one(data<T>(us[l]) + r)) * double(t[t_at[l] + r]);
      }
      sigma[l] = A(total);
    }
    baseline::store_one(mutable_data<T>(sigmas[l]), sigma[l]);
  };
  const auto divide = [&](int64_t b) {
    const Block& block = plan.blocks[b];
    const int64_t cols = plan.layers[block.layer].cols, at = block.row * cols;
    FASTGAN_CALL(scale_convert<T, T>)(data<T>(weights[block.layer]) + at, mutable_data<T>(normalized[block.layer]) + at,
                                      A(1) / sigma[block.layer], block.rows * cols, plan.past_caches);
  };
  for (const Group& group : plan.groups) {
    for (int64_t iteration = 0; iteration < (update ? n_power_iterations : 1); iteration++) {
      plan.for_blocks(group, multiply);
      if (update) plan.for_layers(group, normalize_vectors);
    }
    for (int64_t l = group.first_layer; l < group.last_layer; l++) write_vectors(l);
    plan.for_blocks(group, divide);
  }
}

// The sum of a per-block quantity over the blocks of a layer, in order.
inline double sum_over_blocks(const Layer& layer, const std::vector<double>& per_block) {
  double sum = 0;
  for (int64_t b = 0; b < layer.blocks; b++) sum += per_block[layer.first_block + b];
  return sum;
}

template <class T>
double scalar(const Tensor& t) {
  return double(baseline::load_one(data<T>(t)));
}

// dW = G / s + (g - <G, W> / s^2) u v^T
template <class T>
void backward(const Plan& plan, const SpectralNormDerivativeArguments& a, const List& grad_sigmas,
              const List& grad_weights) {
  const List &weights = a.weights, &grads = a.grads, &sigmas = a.sigmas, &us = a.us, &vs = a.vs;
  using A = accumulate_t<T>;
  std::vector<double> gw(plan.blocks.size()), factor(plan.layers.size());
  for (const Group& group : plan.groups) {
    plan.for_blocks(group, [&](int64_t b) {
      const Block& block = plan.blocks[b];
      const int64_t l = block.layer, cols = plan.layers[l].cols, at = block.row * cols;
      gw[b] = FASTGAN_CALL(inner_product<T>)(data<T>(grads[l]) + at, data<T>(weights[l]) + at, block.rows * cols);
    });
    for (int64_t l = group.first_layer; l < group.last_layer; l++) {
      const double s = scalar<T>(sigmas[l]);
      factor[l] = scalar<T>(grad_sigmas[l]) - sum_over_blocks(plan.layers[l], gw) / (s * s);
    }
    plan.for_blocks(group, [&](int64_t b) {
      const Block& block = plan.blocks[b];
      const int64_t l = block.layer, cols = plan.layers[l].cols, at = block.row * cols;
      FASTGAN_CALL(rank_one_update<T>)(data<T>(grads[l]) + at, data<T>(us[l]) + block.row, data<T>(vs[l]),
                                       mutable_data<T>(grad_weights[l]) + at, block.rows, cols,
                                       A(1 / scalar<T>(sigmas[l])), A(factor[l]), plan.past_caches);
    });
  }
}

// With c = u^T H v:  dG = H / s - (c / s^2) W,  dg = c,  dW = -(c / s^2) G,  ds = 2 <G, W> c / s^3 - <H, G> / s^2
template <class T>
void double_backward(const Plan& plan, const SpectralNormDerivativeArguments& a, const List& hs, const List& d_grads,
                     const List& d_grad_sigmas, const List& d_weights, const List& d_sigmas) {
  const List &weights = a.weights, &grads = a.grads, &sigmas = a.sigmas, &us = a.us, &vs = a.vs;
  using A = accumulate_t<T>;
  std::vector<double> uhv(plan.blocks.size()), hg(uhv), gw(uhv), c(plan.layers.size());
  for (const Group& group : plan.groups) {
    plan.for_blocks(group, [&](int64_t b) {
      const Block& block = plan.blocks[b];
      const int64_t l = block.layer, cols = plan.layers[l].cols, at = block.row * cols, n = block.rows * cols;
      const T *H = data<T>(hs[l]) + at, *G = data<T>(grads[l]) + at, *W = data<T>(weights[l]) + at;
      uhv[b] = FASTGAN_CALL(bilinear_form<T>)(H, block.rows, cols, data<T>(us[l]) + block.row, data<T>(vs[l]));
      hg[b] = FASTGAN_CALL(inner_product<T>)(H, G, n);
      gw[b] = FASTGAN_CALL(inner_product<T>)(G, W, n);
    });
    for (int64_t l = group.first_layer; l < group.last_layer; l++) {
      const Layer& layer = plan.layers[l];
      const double s = scalar<T>(sigmas[l]), hg_sum = sum_over_blocks(layer, hg), gw_sum = sum_over_blocks(layer, gw);
      c[l] = sum_over_blocks(layer, uhv);
      baseline::store_one(mutable_data<T>(d_grad_sigmas[l]), A(c[l]));
      baseline::store_one(mutable_data<T>(d_sigmas[l]), A((2 * gw_sum * c[l] / s - hg_sum) / (s * s)));
    }
    plan.for_blocks(group, [&](int64_t b) {
      const Block& block = plan.blocks[b];
      const int64_t l = block.layer, cols = plan.layers[l].cols, at = block.row * cols;
      const double s = scalar<T>(sigmas[l]);
      FASTGAN_CALL(double_backward_elements<T>)(data<T>(hs[l]) + at, data<T>(grads[l]) + at, data<T>(weights[l]) + at,
                                                mutable_data<T>(d_grads[l]) + at, mutable_data<T>(d_weights[l]) + at,
                                                block.rows * cols, A(1 / s), A(c[l] / (s * s)), plan.past_caches);
    });
  }
}

}  // namespace fastgan::spectral
