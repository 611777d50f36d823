// The scalar mathematics of the gradient penalty, one sample's norm n at a time; shared by the CPU and the CUDA
// kernels. penalty = mean_i f(n_i) over B samples; the backward is grad_i times a factor.
#pragma once

#if defined(__CUDACC__)
#define FASTGAN_HOST_DEVICE __host__ __device__
#else
#define FASTGAN_HOST_DEVICE
#endif

namespace fastgan {

enum class PenaltyKind { two_sided, one_sided, squared };

// f(n): (n - t)^2, relu(n - t)^2, n^2.
FASTGAN_HOST_DEVICE inline double penalty_value(PenaltyKind kind, double n, double target) {
  if (kind == PenaltyKind::squared) return n * n;
  const double over = n - target;
  return kind == PenaltyKind::one_sided && over < 0 ? 0 : over * over;
}

// w with d grad_i = w grad_i: w = (share f'(n) + g_n) / n, share = d penalty / B, g_n the cotangent of the norm. Zero
// at n = 0, where the norm has no derivative: a penalty pulls a zero gradient nowhere.
FASTGAN_HOST_DEVICE inline double penalty_factor(PenaltyKind kind, double n, double target, double share, double g_n) {
  const double from_norm = n > 0 ? g_n / n : 0;
  if (kind == PenaltyKind::squared) return 2 * share + from_norm;
  if (!(n > 0) || (kind == PenaltyKind::one_sided && n <= target)) return from_norm;
  return 2 * share * (1 - target / n) + from_norm;
}

// d w / d n.
FASTGAN_HOST_DEVICE inline double penalty_factor_slope(PenaltyKind kind, double n, double target, double share,
                                                       double g_n) {
  if (!(n > 0)) return 0;
  const double from_norm = -g_n / (n * n);
  if (kind == PenaltyKind::squared || (kind == PenaltyKind::one_sided && n <= target)) return from_norm;
  return 2 * share * target / (n * n) + from_norm;
}

}  // namespace fastgan
