// Loops over contiguous elements that end in a partial vector. Included by kernel headers after vectors.h, inside its
// namespace: no guard, no includes.

// The first k <= kLanes elements. The rare remainder is out of line, which keeps the loops small.

template <class T>
__attribute__((noinline)) Vec<accumulate_t<T>> load_rest(const T* p, int k) {
  return load_partial(p, k);
}
template <class T>
__attribute__((noinline)) void store_rest(T* p, Vec<accumulate_t<T>> v, int k) {
  store_partial(p, v, k);
}
template <class T>
FASTGAN_INLINE Vec<accumulate_t<T>> load_first(const T* p, int k) {
  return k == kLanes<accumulate_t<T>> ? load(p) : load_rest(p, k);
}
template <class T>
FASTGAN_INLINE void store_first(T* p, Vec<accumulate_t<T>> v, int k) {
  if (k == kLanes<accumulate_t<T>>) {
    store(p, v);
  } else {
    store_rest(p, v, k);
  }
}
template <class A>
FASTGAN_INLINE Vec<A> zero_beyond(Vec<A> v, int k) {
  for (int i = k; i < kLanes<A>; i++) v[i] = 0;
  return v;
}

// body(i, k, u): k elements from i on, k = kLanes but at the end. Neighbouring calls have different u < U, so that sums
// run in U independent chains.
template <class A, int U, class Body>
FASTGAN_INLINE void each_vector(int64_t n, const Body& body) {
  constexpr int L = kLanes<A>;
  int64_t i = 0;
  for (; i + U * L <= n; i += U * L) {
#pragma GCC unroll 4
    for (int u = 0; u < U; u++) body(i + u * L, L, u);
  }
  for (; i + L <= n; i += L) body(i, L, 0);
  if (i < n) body(i, int(n - i), 0);
}
#define FASTGAN_EACH [&](int64_t i, [[maybe_unused]] int k, [[maybe_unused]] int u) __attribute__((always_inline))

template <class A, int U>
FASTGAN_INLINE A sum_chains(const Vec<A> (&chains)[U]) {
  Vec<A> total = chains[0];
  for (int u = 1; u < U; u++) total += chains[u];
  return sum_lanes<A>(total);
}
