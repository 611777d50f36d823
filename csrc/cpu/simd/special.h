// Vectorised special functions, as activations need them. Included by kernel headers after elementary.h, inside its
// namespace: no guard, no includes. fp32 by polynomials, within about 2 ulp of the result, or of 1 if the comment
// says so; fp64 by the C library, lane by lane, for gradient checks.

template <class A, class Function>
FASTGAN_INLINE Vec<A> each_lane(Vec<A> x, const Function& function) {
  for (int i = 0; i < kLanes<A>; i++) x[i] = function(x[i]);
  return x;
}

// By the sign bit alone: -|x|, |x|, and a where x is negative (or -0) and b elsewhere.
FASTGAN_INLINE Vec<float> minus_absolute(Vec<float> x) { return (Vec<float>)((int_lanes<float>::type)x | INT32_MIN); }
FASTGAN_INLINE Vec<double> minus_absolute(Vec<double> x) {
  return (Vec<double>)((int_lanes<double>::type)x | INT64_MIN);
}
FASTGAN_INLINE Vec<float> absolute(Vec<float> x) { return (Vec<float>)((int_lanes<float>::type)x & INT32_MAX); }
template <class A>
FASTGAN_INLINE Vec<A> where_negative(Vec<A> x, Vec<A> a, Vec<A> b) {
#if FASTGAN_VECTOR_BYTES == 32
  if constexpr (sizeof(A) == 4) return __builtin_ia32_blendvps256(b, a, x);
#endif
  return (typename int_lanes<A>::type)x < 0 ? a : b;
}

// e^x for x <= 0: 0 below the normal range, NaN for NaN. 2^n e^r, the reduction by ln(2) in two parts, and e^r by the
// minimax polynomial of degree 5 for |r| <= ln(2) / 2, relative error 9e-8, two terms at a time.
FASTGAN_INLINE Vec<float> exp_of_nonpositive(Vec<float> x) {
  using Int = int_lanes<float>::type;
  const float log2e = 1.44269504f, magic = 12582912.0f + 127.0f;  // rounds, and leaves 2^n's exponent field
  x = maximum<float>(Vec<float>{} - 88.0f, x);
  const Vec<float> shifted = x * log2e + magic, n = shifted - magic;
  const Vec<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  const Vec<float> r2 = r * r;
  Vec<float> p = (r * 8.290314762e-03f + 4.189792980e-02f) * r2 + (r * 1.666763620e-01f + 4.999914953e-01f);
  p = p * r2 + (r * 9.999997072e-01f + 1.0f);
  return p * (Vec<float>)((Int)shifted << 23);
}
FASTGAN_INLINE Vec<double> exp_of_nonpositive(Vec<double> x) {
  return each_lane<double>(x, [](double v) __attribute__((always_inline)) { return std::exp(v); });
}

// The normal distribution: density phi and distribution function Phi. Phi(-|x|) is e^(-x^2/2) times a polynomial in
// k = 1 / (1 + |x| / sqrt(8)), relative error 3e-8.
FASTGAN_INLINE void normal_distribution(Vec<float> x, Vec<float>& phi, Vec<float>& Phi) {
  const Vec<float> e = exp_of_nonpositive(x * x * -0.5f), k = 1.0f / (absolute(x) * 0.35355339f + 1.0f);
  const Vec<float> k2 = k * k;
  Vec<float> p = (k * -2.752566685e-02f + 1.319516485e-01f) * k2 + (k * -2.207390448e-01f + 1.105957532e-01f);
  p = p * k2 + (k * 8.538636770e-03f + 9.062503050e-02f);
  p = p * k2 + (k * 1.248967248e-01f + 1.405492194e-01f);
  p = p * k2 + (k * 1.411106880e-01f + -3.005638054e-06f);
  const Vec<float> tail = p * e;
  phi = e * 0.39894228f;
  Phi = x < 0 ? tail : 1.0f - tail;
}
FASTGAN_INLINE void normal_distribution(Vec<double> x, Vec<double>& phi, Vec<double>& Phi) {
  phi = exp_of_nonpositive(x * x * -0.5) * 0.39894228040143267794;
  Phi = 0.5 * each_lane<double>(
                  x, [](double v) __attribute__((always_inline)) { return std::erfc(v * -0.70710678118654752440); });
}

// tanh: odd polynomial near 0, (1 - e^-2|x|) / (1 + e^-2|x|) beyond.
FASTGAN_INLINE Vec<float> tanh_vec(Vec<float> x) {
  const Vec<float> a = absolute(x), e = exp_of_nonpositive(a * -2.0f), far = (1.0f - e) / (1.0f + e), t = x * x;
  Vec<float> p = t * -5.602740143e-03f + 2.053993787e-02f;
  p = p * t + -5.370532038e-02f;
  p = p * t + 1.333093216e-01f;
  p = p * t + -3.333325220e-01f;
  p = p * t + 1.0f;
  return a < 0.625f ? x * p : x < 0 ? -far : far;
}
FASTGAN_INLINE Vec<double> tanh_vec(Vec<double> x) {
  return each_lane<double>(x, [](double v) __attribute__((always_inline)) { return std::tanh(v); });
}

// e^x - 1 for x <= 0.
FASTGAN_INLINE Vec<float> expm1_of_nonpositive(Vec<float> x) {
  const Vec<float> t = tanh_vec(x * 0.5f);
  return 2.0f * t / (1.0f - t);
}
FASTGAN_INLINE Vec<double> expm1_of_nonpositive(Vec<double> x) {
  return each_lane<double>(x, [](double v) __attribute__((always_inline)) { return std::expm1(v); });
}

// log(1 + e) for 0 <= e <= 1: 2 artanh(e / (2 + e)) by its series.
FASTGAN_INLINE Vec<float> log1p_of_unit(Vec<float> e) {
  const Vec<float> s = e / (2.0f + e), t = s * s;
  Vec<float> p = t * (1.0f / 13) + 1.0f / 11;
  p = p * t + 1.0f / 9;
  p = p * t + 1.0f / 7;
  p = p * t + 1.0f / 5;
  p = p * t + 1.0f / 3;
  p = p * t + 1.0f;
  return 2.0f * s * p;
}
FASTGAN_INLINE Vec<double> log1p_of_unit(Vec<double> e) {
  return each_lane<double>(e, [](double v) __attribute__((always_inline)) { return std::log1p(v); });
}
