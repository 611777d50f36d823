// y = clamp(gain act(x + bias)) on the CPU, a series of segments of contiguous elements at a time: channels' planes
// with one bias each, or rows of neighbouring channels with a bias for every element. Compiled once per instruction set
// by each_isa.h; T is the storage type, A = accumulate_t<T>. Activation codes, ActParameters and Segments are in
// problem.h.

#include "cpu/simd/elementary.h"
#include "cpu/simd/loops.h"
#include "cpu/simd/special.h"

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
    // s(z) = (1 or e) / (1 + e) and s (1 - s) = e / (1 + e)^2 with e = exp(-|z|): only the odd parts need the sign of
    // z.
    const Vec<A> below = minus_absolute(z), e = exp_of_nonpositive(below), d = one + e, inverse = one / d;
    const Vec<A> slope = e * inverse * inverse, even = (one - e) * inverse;  // s' and |s - (1 - s)|
    if constexpr (Act == kSilu) {
      const Vec<A> left = slope * (d + below);  // act'(-|z|)
      f = where_negative<A>(z, e, one) * z / d, first = where_negative<A>(z, left, one - left);
      second = slope * (A(2) + below * even);
    } else if constexpr (Act == kSoftplus) {
      f = (z < 0 ? zero : z) + log1p_of_unit(e), first = where_negative<A>(z, e, one) / d, second = slope;
    } else {
      f = where_negative<A>(z, e, one) / d, first = slope, second = where_negative<A>(z, slope * even, -(slope * even));
    }
  } else if constexpr (Act == kGelu) {
    Vec<A> phi, Phi;
    normal_distribution(z, phi, Phi);
    f = z * Phi, first = Phi + z * phi, second = phi * (A(2) - z * z);
  } else if constexpr (Act == kTanh) {
    f = tanh_vec(z), first = one - f * f, second = A(-2) * f * first;
  } else if constexpr (Act == kElu) {
    const Vec<A> m = expm1_of_nonpositive(z < 0 ? z : zero);
    f = z > 0 ? z : m * alpha, first = z > 0 ? one : (m + one) * alpha, second = z < 0 ? (m + one) * alpha : zero;
    f = z != z ? z : f;
  }
}

// The same from u = act(z): first = act'(z) and its derivative with respect to u.
template <int Act, class A>
FASTGAN_INLINE void activation_from_output(Vec<A> u, Vec<A>& first, Vec<A>& slope) {
  const Vec<A> one = Vec<A>{} + A(1), zero = {};
  first = one, slope = zero;
  if constexpr (Act == kRelu) {
    first = u > 0 ? one : zero;
  } else if constexpr (Act == kSigmoid) {
    first = u * (one - u), slope = one - A(2) * u;
  } else if constexpr (Act == kTanh) {
    first = one - u * u, slope = A(-2) * u;
  }
}

// slope = act'(z), 0 where clamped; curvature = its derivative with respect to what is saved.
template <int Act, class A>
FASTGAN_INLINE void slope_of(Vec<A> saved, Vec<A> bias, const ActParameters<A>& p, Vec<A>& slope, Vec<A>& curvature) {
  if constexpr (derives_from_output(Act)) {
    if (p.from_output) {
      activation_from_output<Act, A>(saved * p.inverse_gain, slope, curvature);
      curvature *= p.inverse_gain;
      return;
    }
  }
  Vec<A> f;
  activation<Act, A>(saved + bias, p.alpha, f, slope, curvature);
  if (p.clamped) {
    f *= p.gain;
    const auto inside = (f <= p.clamp) & (f >= -p.clamp);
    slope = inside ? slope : Vec<A>{}, curvature = inside ? curvature : Vec<A>{};
  }
}

// Vectors at a time: chains of an exponential's operations that run side by side, as many as the registers hold. With
// the 16 of AVX2 four spill and take 1.3 times as long as one; with the 32 of AVX-512 one takes 1.4 times as long.
constexpr int kChains = FASTGAN_VECTOR_BYTES == 64 ? 4 : 1;

// One per-channel vector (a bias, or h_bias) as the elements of a segment see it. Without one it is -0, which added to
// any number leaves that number.
template <class A>
struct Channels {
  Vec<A> same;
  const A* each;  // of rows

  FASTGAN_INLINE Channels(const A* values, const Segments& segments, int64_t segment)
      : same(Vec<A>{} + A(-0.0)), each(segments.rows ? values : nullptr) {
    if (values && !segments.rows) same += values[segments.channel(segment)];
  }
  FASTGAN_INLINE Vec<A> at(int64_t i, int k) const { return each ? load_first(each + i, k) : same; }
};

// Sums over a segment for its channel: one number per segment, or in rows one for each element, to which all segments
// add.
template <class A>
struct ChannelSums {
  Vec<A> chains[kChains] = {};
  A *one, *each;

  FASTGAN_INLINE ChannelSums(A* sums, const Segments& segments, int64_t segment)
      : one(sums && !segments.rows ? sums + segment : nullptr), each(segments.rows ? sums : nullptr) {}
  FASTGAN_INLINE void add(Vec<A> v, int64_t i, int k, int u) {
    if (each) {
      store_first(each + i, load_first(each + i, k) + v, k);
    } else {
      chains[u] += v;
    }
  }
  FASTGAN_INLINE void finish() {
    if (one) *one = sum_chains<A>(chains);
  }
};

template <int Act, class T>
void act_forward(Segments segments, const T* x, const accumulate_t<T>* bias, T* y,
                 const ActParameters<accumulate_t<T>>& p) {
  using A = accumulate_t<T>;
  for (int64_t segment = 0; segment < segments.count; segment++, x += segments.n, y += segments.n) {
    const Channels<A> beta(bias, segments, segment);
    each_vector<A, kChains>(
        segments.n, FASTGAN_EACH {
          Vec<A> f, first, second;
          activation<Act, A>(load_first(x + i, k) + beta.at(i, k), p.alpha, f, first, second);
          f *= p.gain;
          if (p.clamped) f = f > p.clamp ? Vec<A>{} + p.clamp : f < -p.clamp ? Vec<A>{} - p.clamp : f;
          store_first(y + i, f, k);
        });
  }
}

// dx = gain g slope, and its sums. Both may be null.
template <int Act, class T>
void act_backward(Segments segments, const T* g, const T* saved, const accumulate_t<T>* bias, T* dx,
                  accumulate_t<T>* dbias, const ActParameters<accumulate_t<T>>& p) {
  using A = accumulate_t<T>;
  for (int64_t segment = 0; segment < segments.count; segment++) {
    const int64_t at = segment * segments.n;
    const Channels<A> beta(bias, segments, segment);
    ChannelSums<A> sums(dbias, segments, segment);
    each_vector<A, kChains>(
        segments.n, FASTGAN_EACH {
          Vec<A> slope, curvature;
          slope_of<Act, A>(load_first(saved + at + i, k), beta.at(i, k), p, slope, curvature);
          const Vec<A> d = load_first(g + at + i, k) * p.gain * slope;
          if (dx) [[likely]]
            store_first(dx + at + i, d, k);
          sums.add(d, i, k, u);
        });
    sums.finish();
  }
}

// With H = gain (h + h_bias), and h + h_bias the cotangent of dx: d_g = H slope, d_saved = H g curvature, and its sums.
// h, h_bias and the outputs may be null.
template <int Act, class T>
void act_double_backward(Segments segments, const T* h, const accumulate_t<T>* h_bias, const T* g, const T* saved,
                         const accumulate_t<T>* bias, T* d_g, T* d_saved, accumulate_t<T>* d_bias,
                         const ActParameters<accumulate_t<T>>& p) {
  using A = accumulate_t<T>;
  for (int64_t segment = 0; segment < segments.count; segment++) {
    const int64_t at = segment * segments.n;
    const Channels<A> beta(bias, segments, segment), eta(h_bias, segments, segment);
    ChannelSums<A> sums(d_bias, segments, segment);
    each_vector<A, kChains>(
        segments.n, FASTGAN_EACH {
          Vec<A> slope, curvature, H = eta.at(i, k);
          if (h) [[likely]]
            H += load_first(h + at + i, k);
          H *= p.gain;
          slope_of<Act, A>(load_first(saved + at + i, k), beta.at(i, k), p, slope, curvature);
          if (d_g) [[likely]]
            store_first(d_g + at + i, H * slope, k);
          if (!d_saved && !d_bias) return;
          const Vec<A> d = H * load_first(g + at + i, k) * curvature;
          if (d_saved) [[likely]]
            store_first(d_saved + at + i, d, k);
          // beyond the end g is 0, and so is d unless the curvature is not finite there: z = bias is an ordinary number
          sums.add(d, i, k, u);
        });
    sums.finish();
  }
}
