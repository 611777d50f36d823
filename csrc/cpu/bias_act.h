// y = clamp(gain act(x + bias)) on the CPU, one run of n contiguous elements at a time: a channel's plane with one bias
// (bias_step 0), or neighbouring channels with one each (bias_step 1). Compiled once per instruction set by each_isa.h;
// T is the storage type, A = accumulate_t<T>. Activation codes and ActParameters are in bias_act.cpp.

#include "common/simd_loops.h"
#include "common/simd_math.h"
#include "common/simd_special.h"

// f = act(z), first = act'(z), second = act''(z); what the caller does not use costs nothing.
template <int Act, class A>
FASTGAN_INLINE void activation(Vec<A> z, A alpha, Vec<A>& f, Vec<A>& first, Vec<A>& second) {
  const Vec<A> one = Vec<A>{} + A(1), zero = {};
  second = zero;
  if constexpr (Act == kLinear) {
    f = z, first = one;
  } else if constexpr (Act == kRelu) {
    f = z < 0 ? zero : z, first = z > 0 ? one : zero;  // NaN stays NaN
  } else if constexpr (Act == kLeakyRelu) {
    f = z > 0 ? z : z * alpha, first = z > 0 ? one : zero + alpha;
  } else if constexpr (Act == kSilu || Act == kSoftplus || Act == kSigmoid) {
    const Vec<A> e = exp_of_nonpositive(-absolute(z)), inverse = one / (one + e);
    const Vec<A> s = z < 0 ? e * inverse : inverse, rest = z < 0 ? inverse : e * inverse;  // s(z), 1 - s(z)
    if constexpr (Act == kSilu) {
      f = z * s, first = s * (one + z * rest), second = s * rest * (A(2) + z * (rest - s));
    } else if constexpr (Act == kSoftplus) {
      f = (z < 0 ? zero : z) + log1p_of_unit(e), first = s, second = s * rest;
    } else {
      f = s, first = s * rest, second = s * rest * (rest - s);
    }
  } else if constexpr (Act == kGelu) {
    Vec<A> phi, Phi;
    normal_distribution(z, phi, Phi);
    f = z * Phi, first = Phi + z * phi, second = phi * (A(2) - z * z);
  } else if constexpr (Act == kTanh) {
    f = tanh_vec(z), first = one - f * f, second = A(-2) * f * first;
  } else if constexpr (Act == kElu) {
    const Vec<A> m = expm1_of_nonpositive(z < 0 ? z : zero);
    f = z > 0 ? z : m * alpha, first = z > 0 ? one : (m + one) * alpha, second = z > 0 ? zero : (m + one) * alpha;
    f = z != z ? z : f;
  }
}

// The same from u = act(z): first = act'(z) and its derivative with respect to u.
template <int Act, class A>
FASTGAN_INLINE void activation_from_output(Vec<A> u, A alpha, Vec<A>& first, Vec<A>& slope) {
  const Vec<A> one = Vec<A>{} + A(1), zero = {};
  first = one, slope = zero;
  if constexpr (Act == kRelu) {
    first = u > 0 ? one : zero;
  } else if constexpr (Act == kLeakyRelu) {
    first = u > 0 ? one : zero + alpha;
  } else if constexpr (Act == kSigmoid) {
    first = u * (one - u), slope = one - A(2) * u;
  } else if constexpr (Act == kTanh) {
    first = one - u * u, slope = A(-2) * u;
  } else if constexpr (Act == kElu) {
    first = u > 0 ? one : u + alpha, slope = u > 0 ? zero : one;
  }
}

// slope = gain act'(z), 0 where clamped; curvature = the slope's derivative with respect to what is saved.
template <int Act, class T>
FASTGAN_INLINE void slope_of(const T* saved, const accumulate_t<T>* bias, int bias_step, int64_t i, int k,
                             const ActParameters<accumulate_t<T>>& p, Vec<accumulate_t<T>>& slope,
                             Vec<accumulate_t<T>>& curvature) {
  using A = accumulate_t<T>;
  const Vec<A> s = load_first(saved + i, k);
  if (p.from_output) {
    activation_from_output<Act, A>(s * p.inverse_gain, p.alpha, slope, curvature);
    slope *= p.gain;  // and the curvature's gain cancels that of s = gain u
    return;
  }
  Vec<A> f, first, second, z = s;
  if (bias) z += bias_step ? load_first(bias + i, k) : Vec<A>{} + *bias;
  activation<Act, A>(z, p.alpha, f, first, second);
  slope = first * p.gain, curvature = second * p.gain;
  if (p.clamped) {
    f *= p.gain;
    const auto inside = (f <= p.clamp) & (f >= -p.clamp);
    slope = inside ? slope : Vec<A>{}, curvature = inside ? curvature : Vec<A>{};
  }
}

// Vectors at a time: chains of an exponential's operations that run side by side, as many as the registers hold. With
// the 16 of AVX2 four spill and take 1.3 times as long as one; with the 32 of AVX-512 one takes 1.4 times as long.
constexpr int kChains = FASTGAN_VECTOR_BYTES == 64 ? 4 : 1;

template <int Act, class T>
void act_forward(const T* x, const accumulate_t<T>* bias, int bias_step, T* y, int64_t n,
                 const ActParameters<accumulate_t<T>>& p) {
  using A = accumulate_t<T>;
  each_vector<A, kChains>(
      n, FASTGAN_EACH {
        (void)u;
        Vec<A> f, first, second, z = load_first(x + i, k);
        if (bias) z += bias_step ? load_first(bias + i, k) : Vec<A>{} + *bias;
        activation<Act, A>(z, p.alpha, f, first, second);
        f *= p.gain;
        if (p.clamped) f = f > p.clamp ? Vec<A>{} + p.clamp : f < -p.clamp ? Vec<A>{} - p.clamp : f;
        store_first(y + i, f, k);
      });
}

// dx = g slope. Its sum is added to dbias (unless null): one number, or with bias_step 1 one each. dx may be null.
template <int Act, class T>
void act_backward(const T* g, const T* saved, const accumulate_t<T>* bias, int bias_step, T* dx, accumulate_t<T>* dbias,
                  int64_t n, const ActParameters<accumulate_t<T>>& p) {
  using A = accumulate_t<T>;
  Vec<A> sums[kChains] = {};
  each_vector<A, kChains>(
      n, FASTGAN_EACH {
        Vec<A> slope, curvature;
        slope_of<Act, T>(saved, bias, bias_step, i, k, p, slope, curvature);
        const Vec<A> d = load_first(g + i, k) * slope;
        if (dx) store_first(dx + i, d, k);
        if (bias_step) {
          if (dbias) store_first(dbias + i, load_first(dbias + i, k) + d, k);
        } else {
          sums[u] += d;
        }
      });
  if (dbias && !bias_step) *dbias += sum_chains<A>(sums);
}

// With H = h + h_bias, the cotangent of dx: d_g = H slope, d_saved = H g curvature, whose sum is added to d_bias. h,
// h_bias and the outputs may be null.
template <int Act, class T>
void act_double_backward(const T* h, const accumulate_t<T>* h_bias, const T* g, const T* saved,
                         const accumulate_t<T>* bias, int bias_step, T* d_g, T* d_saved, accumulate_t<T>* d_bias,
                         int64_t n, const ActParameters<accumulate_t<T>>& p) {
  using A = accumulate_t<T>;
  Vec<A> sums[kChains] = {};
  each_vector<A, kChains>(
      n, FASTGAN_EACH {
        Vec<A> slope, curvature, H = h ? load_first(h + i, k) : Vec<A>{};
        if (h_bias) H += bias_step ? load_first(h_bias + i, k) : Vec<A>{} + *h_bias;
        slope_of<Act, T>(saved, bias, bias_step, i, k, p, slope, curvature);
        if (d_g) store_first(d_g + i, H * slope, k);
        if (!d_saved && !d_bias) return;
        const Vec<A> d = H * load_first(g + i, k) * curvature;
        if (d_saved) store_first(d_saved + i, d, k);
        if (bias_step) {
          if (d_bias) store_first(d_bias + i, load_first(d_bias + i, k) + d, k);
        } else {
          // beyond the end g is 0, and so is d unless the curvature is not finite there: z = bias is an ordinary number
          sums[u] += d;
        }
      });
  if (d_bias && !bias_step) *d_bias += sum_chains<A>(sums);
}
