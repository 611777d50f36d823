// Portable vectors: GCC/Clang vector extensions, as wide as the instruction set being compiled. Included by each_isa.h
// inside a namespace, therefore without a guard and without includes. Vec<A> holds accumulators (float or double); load
// and store convert from and to the storage type (fp16 and bf16 by integer arithmetic, the same on every processor).

#define FASTGAN_INLINE inline __attribute__((always_inline))
#define FASTGAN_LAMBDA \
  __attribute__((always_inline))  // a lambda does not inherit the instruction set: it must be inlined

template <class E>
struct vector_of {
  typedef E type __attribute__((vector_size(FASTGAN_VECTOR_BYTES)));
};
template <class E>
using Vec = typename vector_of<E>::type;
template <class A>
constexpr int kLanes = FASTGAN_VECTOR_BYTES / sizeof(A);

// 16-bit storage beside 32-bit lanes: half a vector.
typedef uint16_t Bits16 __attribute__((vector_size(FASTGAN_VECTOR_BYTES / 2)));
typedef uint32_t Bits32 __attribute__((vector_size(FASTGAN_VECTOR_BYTES)));

FASTGAN_INLINE Bits32 bits_of(Vec<float> x) { return (Bits32)x; }
FASTGAN_INLINE Vec<float> float_of(Bits32 x) { return (Vec<float>)x; }

// IEEE half to float: shift the exponent into place and let one multiplication fix bias and denormals (exact).
FASTGAN_INLINE Vec<float> widen_half(Bits32 h) {
  const Bits32 sign = (h & 0x8000u) << 16, rest = (h & 0x7fffu) << 13;
  const Vec<float> scaled = float_of(rest) * 0x1p112f;
  const Bits32 special = (Bits32)(rest >= 0x0f800000u);  // infinities and NaNs keep an all-ones exponent
  return float_of(sign | (special & (rest | 0x7f800000u)) | (~special & bits_of(scaled)));
}

// Float to IEEE half, round to nearest even, overflow to infinity, NaN stays NaN.
FASTGAN_INLINE Bits32 narrow_half(Vec<float> x) {
  const Bits32 all = bits_of(x), sign = (all >> 16) & 0x8000u, a = all & 0x7fffffffu;
  const Bits32 normal = (a + 0xc8000000u + 0x0fffu + ((a >> 13) & 1u)) >> 13;  // rebias by -112, round
  const Bits32 subnormal = bits_of(float_of(a) + 0.5f) - 0x3f000000u;          // the adder rounds at 2^-24
  const Bits32 tiny = (Bits32)(a < 0x38800000u), large = (Bits32)(a >= 0x47800000u), nan = (Bits32)(a > 0x7f800000u);
  const Bits32 finite = (tiny & subnormal) | (~tiny & normal);
  return sign | (nan & 0x7e00u) | (~nan & large & 0x7c00u) | (~nan & ~large & finite);
}

// Float to bfloat16, round to nearest even.
FASTGAN_INLINE Bits32 narrow_bfloat16(Vec<float> x) {
  const Bits32 a = bits_of(x), nan = (Bits32)((a & 0x7fffffffu) > 0x7f800000u);
  return (nan & 0x7fc0u) | (~nan & ((a + 0x7fffu + ((a >> 16) & 1u)) >> 16));
}

template <class T>
FASTGAN_INLINE Vec<accumulate_t<T>> load(const T* p) {
  using A = accumulate_t<T>;
  if constexpr (std::is_same_v<A, T>) {
    Vec<A> v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  } else {
    Bits16 raw;
    __builtin_memcpy(&raw, p, sizeof raw);
    const Bits32 wide = __builtin_convertvector(raw, Bits32);
    if constexpr (std::is_same_v<T, BFloat16>) return float_of(wide << 16);
    if constexpr (std::is_same_v<T, Half>) return widen_half(wide);
  }
}

template <class T>
FASTGAN_INLINE void store(T* p, Vec<accumulate_t<T>> v) {
  using A = accumulate_t<T>;
  if constexpr (std::is_same_v<A, T>) {
    __builtin_memcpy(p, &v, sizeof v);
  } else {
    Bits32 wide;
    if constexpr (std::is_same_v<T, BFloat16>) wide = narrow_bfloat16(v);
    if constexpr (std::is_same_v<T, Half>) wide = narrow_half(v);
    const Bits16 raw = __builtin_convertvector(wide, Bits16);
    __builtin_memcpy(p, &raw, sizeof raw);
  }
}

// A store past the caches, for outputs too large to be found there later; p must be aligned to the vector. The line is
// not read first, which a plain store to cold memory does. fence_streams() before other threads may read.
template <class T>
FASTGAN_INLINE void stream(T* p, Vec<accumulate_t<T>> v) {
#if defined(__x86_64__)
  if constexpr (std::is_same_v<T, accumulate_t<T>>) {
#if defined(__clang__)
    return __builtin_nontemporal_store(v, (Vec<T>*)p);
#elif FASTGAN_VECTOR_BYTES == 64
    return __builtin_ia32_movntps512((float*)p, (Vec<float>)v);
#elif FASTGAN_VECTOR_BYTES == 32
    return __builtin_ia32_movntps256((float*)p, (Vec<float>)v);
#else
    return __builtin_ia32_movntps((float*)p, (Vec<float>)v);
#endif
  }
#endif
  store(p, v);
}

FASTGAN_INLINE void fence_streams() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

// The first n < kLanes elements; the other lanes read as `fill`, and are not written.
template <class T>
FASTGAN_INLINE Vec<accumulate_t<T>> load_partial(const T* p, int n, T fill = T{}) {
  constexpr int L = kLanes<accumulate_t<T>>;
  T lanes[L];
  for (int i = 0; i < L; i++) lanes[i] = i < n ? p[i] : fill;
  return load(static_cast<const T*>(lanes));
}

template <class T>
FASTGAN_INLINE void store_partial(T* p, Vec<accumulate_t<T>> v, int n) {
  T lanes[kLanes<accumulate_t<T>>];
  store(static_cast<T*>(lanes), v);
  for (int i = 0; i < n; i++) p[i] = lanes[i];
}

// One element, through the same conversions.
template <class T>
FASTGAN_INLINE accumulate_t<T> load_one(const T* p) {
  if constexpr (std::is_same_v<accumulate_t<T>, T>) {
    return *p;
  } else {
    return load_partial(p, 1)[0];
  }
}

template <class T>
FASTGAN_INLINE void store_one(T* p, accumulate_t<T> value) {
  if constexpr (std::is_same_v<accumulate_t<T>, T>) {
    *p = value;
  } else {
    store_partial(p, Vec<accumulate_t<T>>{} + value, 1);
  }
}

// The sum of a vector's lanes, by halves: lane by lane, one addition waits for the other, as long as 16 vectors take.
template <class A, int bytes = FASTGAN_VECTOR_BYTES, class V>
FASTGAN_INLINE A sum_halves(V v) {
  if constexpr (bytes == 16) {
    A lanes[16 / sizeof(A)];
    __builtin_memcpy(lanes, &v, sizeof lanes);
    if constexpr (sizeof(A) == 8) return lanes[0] + lanes[1];
    if constexpr (sizeof(A) == 4) return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
  } else {
    typedef A Half2 __attribute__((vector_size(bytes / 2)));
    Half2 halves[2];
    __builtin_memcpy(halves, &v, sizeof v);
    return sum_halves<A, bytes / 2>(halves[0] + halves[1]);
  }
}
template <class A>
FASTGAN_INLINE A sum_lanes(Vec<A> v) {
  return sum_halves<A>(v);
}
