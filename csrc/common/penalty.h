// The scalar mathematics of the gradient penalty, one norm n of a sample at a time. Shared by the CPU kernels (in
// double) and the CUDA kernels (in the type they accumulate in). penalty = mean_i f(n_i) over B samples; the backward
// is grad_i times a factor.
#pragma once

#if defined(__CUDACC__)
#define FASTGAN_HOST_DEVICE __host__ __device__
#else
#define FASTGAN_HOST_DEVICE
#endif

namespace fastgan {

// The codes of fastgan.ops.grad_norm_penalty.KINDS.
enum class PenaltyKind { two_sided = 0, one_sided = 1, squared = 2 };
constexpr int kPenaltyKinds = 3;

// f(n): (n - t)^2, relu(n - t)^2, n^2.
template <class A>
FASTGAN_HOST_DEVICE inline A penalty_value(PenaltyKind kind, A n, A target) {
  if (kind == PenaltyKind::squared) return n * n;
  const A over = n - target;
  return kind == PenaltyKind::one_sided && over < 0 ? A(0) : over * over;
}

// w with d grad_i = w grad_i: w = (share f'(n) + g_n) / n, share = d penalty / B, g_n the cotangent of the norm. Zero
// at n = 0: the norm has no derivative there.
template <class A>
FASTGAN_HOST_DEVICE inline A penalty_factor(PenaltyKind kind, A n, A target, A share, A g_n) {
  const A from_norm = n > 0 ? g_n / n : A(0);
  if (kind == PenaltyKind::squared) return 2 * share + from_norm;
  if (!(n > 0) || (kind == PenaltyKind::one_sided && n <= target)) return from_norm;
  return 2 * share * (1 - target / n) + from_norm;
}

// d w / d n.
template <class A>
FASTGAN_HOST_DEVICE inline A penalty_factor_slope(PenaltyKind kind, A n, A target, A share, A g_n) {
  if (!(n > 0)) return 0;
  const A from_norm = -g_n / (n * n);
  if (kind == PenaltyKind::squared || (kind == PenaltyKind::one_sided && n <= target)) return from_norm;
  return 2 * share * target / (n * n) + from_norm;
}

}  // namespace fastgan
