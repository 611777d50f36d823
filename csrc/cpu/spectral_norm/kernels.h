// Spectral norm on the CPU, one block of rows of one weight matrix W (rows, cols) at a time. Compiled once per
// instruction set by each_isa.h. T is the storage type, A = accumulate_t<T>.

#include "cpu/simd/linear.h"

// t = W v (rows,), and, unless x_sum is null, x_sum = W^T t (cols,): the power iteration's two products share one
// read of W, since W^T u = (W^T t) / |t|. Four rows at a time, so that v and x_sum are read once for four rows of W.
template <class T>
void power_iteration_rows(const T* W, int64_t rows, int64_t cols, const accumulate_t<T>* v, accumulate_t<T>* t,
                          accumulate_t<T>* x_sum) {
  using A = accumulate_t<T>;
  constexpr int L = kLanes<A>, R = 4;
  const int tail = int(cols % L);
  const int64_t body = cols - tail;
  if (x_sum) std::fill(x_sum, x_sum + cols, A(0));
  for (int64_t r0 = 0; r0 < rows; r0 += R) {
    const int count = int(std::min<int64_t>(R, rows - r0));
    const T* row[R];
    for (int r = 0; r < R; r++) row[r] = W + (r0 + std::min(r, count - 1)) * cols;  // past the end: the last row again

    Vec<A> dot[R] = {};
    for (int64_t c = 0; c < body; c += L) {
      const Vec<A> vc = load(v + c);
      for (int r = 0; r < R; r++) dot[r] += load(row[r] + c) * vc;
    }
    if (tail) {
      const Vec<A> vc = load_partial(v + body, tail);
      for (int r = 0; r < R; r++) dot[r] += load_partial(row[r] + body, tail) * vc;
    }
    A tr[R];
    for (int r = 0; r < R; r++) tr[r] = r < count ? sum_lanes<A>(dot[r]) : A(0);
    for (int r = 0; r < count; r++) t[r0 + r] = tr[r];

    if (!x_sum) continue;
    for (int64_t c = 0; c < body; c += L) {
      Vec<A> x = load(x_sum + c);
      for (int r = 0; r < count; r++) x += load(row[r] + c) * tr[r];
      store(x_sum + c, x);
    }
    if (tail) {
      Vec<A> x = load_partial(x_sum + body, tail);
      for (int r = 0; r < count; r++) x += load_partial(row[r] + body, tail) * tr[r];
      store_partial(x_sum + body, x, tail);
    }
  }
}

// y = x * factor; returns |x * factor|^2. In place is allowed.
template <class A>
A scaled_square_norm(const A* x, A* y, A factor, int64_t n) {
  constexpr int L = kLanes<A>;
  Vec<A> sum = {};
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    const Vec<A> scaled = load(x + i) * factor;
    store(y + i, scaled);
    sum += scaled * scaled;
  }
  A total = sum_lanes<A>(sum);
  for (; i < n; i++) {
    y[i] = x[i] * factor;
    total += y[i] * y[i];
  }
  return total;
}

// y += x.
template <class A>
void add_to(A* y, const A* x, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

// u^T H v over a block of rows.
template <class T>
double bilinear_form(const T* H, int64_t rows, int64_t cols, const T* u, const T* v) {
  double total = 0;
  for (int64_t r = 0; r < rows; r++) total += double(load_one(u + r)) * inner_product(H + r * cols, v, cols);
  return total;
}

// dW = G * inverse_sigma + factor * u v^T over a block of rows.
template <class T>
void rank_one_update(const T* G, const T* u, const T* v, T* dW, int64_t rows, int64_t cols,
                     accumulate_t<T> inverse_sigma, accumulate_t<T> factor, bool past_caches) {
  for (int64_t r = 0; r < rows; r++) {
    const accumulate_t<T> fu = factor * load_one(u + r);
    const T* g = G + r * cols;
    write_elements(dW + r * cols, cols, past_caches, [&](int64_t c, int lanes) FASTGAN_LAMBDA {
      return load_first(g + c, lanes) * inverse_sigma + load_first(v + c, lanes) * fu;
    });
  }
}

// dG = H * inverse_sigma - factor * W and dW = -factor * G.
template <class T>
void double_backward_elements(const T* H, const T* G, const T* W, T* dG, T* dW, int64_t n,
                              accumulate_t<T> inverse_sigma, accumulate_t<T> factor, bool past_caches) {
  write_elements(dG, n, past_caches, [&](int64_t i, int lanes) FASTGAN_LAMBDA {
    return load_first(H + i, lanes) * inverse_sigma - load_first(W + i, lanes) * factor;
  });
  scale_convert(G, dW, -factor, n, past_caches);
}
