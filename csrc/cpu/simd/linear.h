// Elementwise writing and inner products, for kernel headers to include: like vectors.h compiled inside a namespace,
// once per instruction set, and therefore without a guard.

#include "cpu/simd/loops.h"

// y[i] = element(i, lanes), a vector of kLanes elements or of the last few; past the caches if so.
template <class T, class Element>
FASTGAN_INLINE void write_elements(T* y, int64_t n, bool past_caches, const Element& element) {
  constexpr int L = kLanes<accumulate_t<T>>;
  int64_t i = 0;
  if (past_caches && reinterpret_cast<uintptr_t>(y) % FASTGAN_VECTOR_BYTES == 0) {
    for (; i + L <= n; i += L) stream(y + i, element(i, L));
    fence_streams();
  }
  for (; i + L <= n; i += L) store(y + i, element(i, L));
  if (i < n) store_partial(y + i, element(i, int(n - i)), int(n - i));
}

// y = x * factor, with conversion from X to Y.
template <class X, class Y>
void scale_convert(const X* x, Y* y, accumulate_t<X> factor, int64_t n, bool past_caches) {
  write_elements(y, n, past_caches,
                 [&](int64_t i, int lanes) FASTGAN_LAMBDA { return load_first(x + i, lanes) * factor; });
}

// <x, y>.
template <class T>
double inner_product(const T* x, const T* y, int64_t n) {
  using A = accumulate_t<T>;
  constexpr int L = kLanes<A>, U = 4;  // four chains hide the latency of the addition
  Vec<A> sum[U] = {};
  int64_t i = 0;
  for (; i + U * L <= n; i += U * L) {
    for (int u = 0; u < U; u++) sum[u] += load(x + i + u * L) * load(y + i + u * L);
  }
  for (; i + L <= n; i += L) sum[0] += load(x + i) * load(y + i);
  if (i < n) sum[0] += load_partial(x + i, int(n - i)) * load_partial(y + i, int(n - i));
  return double(sum_lanes<A>((sum[0] + sum[1]) + (sum[2] + sum[3])));
}
