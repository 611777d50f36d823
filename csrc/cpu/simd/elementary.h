// Vectorised elementary functions. Included by kernel headers after vectors.h, inside its namespace: no guard, no
// includes.

template <class A>
struct int_lanes;
template <>
struct int_lanes<float> {
  typedef int32_t type __attribute__((vector_size(FASTGAN_VECTOR_BYTES)));
};
template <>
struct int_lanes<double> {
  typedef int64_t type __attribute__((vector_size(FASTGAN_VECTOR_BYTES)));
};

// b if either is NaN. One instruction of x86, but GCC does not find it.
template <class A>
FASTGAN_INLINE Vec<A> maximum(Vec<A> a, Vec<A> b) {
#if FASTGAN_VECTOR_BYTES == 32
  if constexpr (sizeof(A) == 4) return __builtin_ia32_maxps256(a, b);
#endif
  return a > b ? a : b;
}

template <class A>
FASTGAN_INLINE A max_lanes(Vec<A> v) {
  A largest = v[0];
  for (int i = 1; i < kLanes<A>; i++) largest = v[i] > largest ? v[i] : largest;
  return largest;
}

// 2^x for x < 127 (1023): exactly 0 below the normal range and for -infinity, NaN for NaN. fp32 within 2 ulp (minimax
// of degree 5 on [-1/2, 1/2], relative error 9.2e-8), fp64 within 2 ulp (Taylor of degree 13).
FASTGAN_INLINE Vec<float> exp2_vec(Vec<float> x) {
  using Int = int_lanes<float>::type;
  // Adding 1.5 * 2^23 rounds to an integer in the low mantissa bits; with 127 more, these bits are 2^n's exponent
  // field.
  const float magic = 12582912.0f + 127.0f;
  x = maximum<float>(Vec<float>{} - 127.0f, x);  // there the exponent field is 0, and so is the result
  const Vec<float> shifted = x + magic, r = x - (shifted - magic);
  Vec<float> p = r * 1.3264727271e-03f + 9.6715127561e-03f;
  p = p * r + 5.5507337441e-02f;
  p = p * r + 2.4022242084e-01f;
  p = p * r + 6.9314697760e-01f;
  p = p * r + 1.0f;
  const Vec<float> power = (Vec<float>)((Int)shifted << 23);
  return p * power;
}

FASTGAN_INLINE Vec<double> exp2_vec(Vec<double> x) {
  using Int = int_lanes<double>::type;
  const double magic = 6755399441055744.0 + 1023.0;  // 1.5 * 2^52
  x = maximum<double>(Vec<double>{} - 1023.0, x);
  const Vec<double> shifted = x + magic, r = x - (shifted - magic);
  // ln(2)^k / k!, k = 13 ... 0
  Vec<double> p = r * 1.3691488853904128881e-12 + 2.5678435993488205142e-11;
  p = p * r + 4.4455382718708114976e-10;
  p = p * r + 7.0549116208011233299e-09;
  p = p * r + 1.0178086009239699728e-07;
  p = p * r + 1.3215486790144309488e-06;
  p = p * r + 1.5252733804059840280e-05;
  p = p * r + 1.5403530393381609954e-04;
  p = p * r + 1.3333558146428443423e-03;
  p = p * r + 9.6181291076284771620e-03;
  p = p * r + 5.5504108664821579953e-02;
  p = p * r + 2.4022650695910071233e-01;
  p = p * r + 6.9314718055994530942e-01;
  p = p * r + 1.0;
  const Vec<double> power = (Vec<double>)((Int)shifted << 52);
  return p * power;
}
