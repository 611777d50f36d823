// Normalisation on the CPU. Compiled once per instruction set by each_isa.h; T is the storage type, A =
// accumulate_t<T>.
//
// Three layouts of the activation:
//   planes         x[n][c][s]: a channel's S elements are contiguous. What is summed is per plane, what is written is a
//                  linear combination of the inputs whose factors are constant over the plane.
//   channels_last  x[n][s][c]: the channels are contiguous. The same per channel, C channels side by side.
//   rows           S = 1: a statistics row is contiguous, and every element has its own affine weight (layer norm).
// xc = x - mean throughout; the caller multiplies with 1/sqrt(var + eps).

#include "cpu/simd/loops.h"

// --- planes

constexpr int64_t kMomentsBlock = 2048;  // elements: they stay in the L1 cache between two reads

// Mean and sum of squared deviations of n contiguous elements: per block in two passes with a correction for the
// rounding of the mean, blocks merged as Chan, Golub and LeVeque do. Nothing here cancels.
template <class T>
void plane_moments(const T* x, int64_t n, double* mean_out, double* m2_out) {
  using A = accumulate_t<T>;
  constexpr int U = 4;
  double mean = 0, m2 = 0;
  for (int64_t at = 0; at < n; at += kMomentsBlock) {
    const int64_t count = std::min(kMomentsBlock, n - at);
    const T* p = x + at;
    Vec<A> total[U] = {}, first[U] = {}, second[U] = {};
    each_vector<A, U>(count, FASTGAN_EACH { total[u] += load_first(p + i, k); });
    const A guess = sum_chains<A>(total) / A(count);
    each_vector<A, U>(
        count, FASTGAN_EACH {
          const Vec<A> d = k == kLanes<A> ? load(p + i) - guess : zero_beyond<A>(load_first(p + i, k) - guess, k);
          first[u] += d;
          second[u] += d * d;
        });
    const double rest = double(sum_chains<A>(first)), off = rest / double(count);
    const double block_mean = double(guess) + off, block_m2 = double(sum_chains<A>(second)) - rest * off;
    const double delta = block_mean - mean, share = double(count) / double(at + count);
    mean += delta * share;
    m2 += block_m2 + delta * delta * double(at) * share;
  }
  *mean_out = mean;
  *m2_out = m2;
}

// sums = {g, g xc, h, h xc, h g}; those of an absent g or h are left as they are.
template <class T, bool G, bool H>
void plane_sums(const T* x, const T* g, const T* h, accumulate_t<T> mean, int64_t n, accumulate_t<T>* sums) {
  using A = accumulate_t<T>;
  constexpr int U = 2;
  Vec<A> sg[U] = {}, sgx[U] = {}, sh[U] = {}, shx[U] = {}, shg[U] = {};
  each_vector<A, U>(
      n, FASTGAN_EACH {
        const Vec<A> xc = load_first(x + i, k) - mean;
        Vec<A> gi = {}, hi = {};
        if constexpr (G) {
          gi = load_first(g + i, k);
          sg[u] += gi;
          sgx[u] += gi * xc;
        }
        if constexpr (H) {
          hi = load_first(h + i, k);
          sh[u] += hi;
          shx[u] += hi * xc;
        }
        if constexpr (G && H) shg[u] += hi * gi;
      });
  if constexpr (G) sums[0] = sum_chains<A>(sg), sums[1] = sum_chains<A>(sgx);
  if constexpr (H) sums[2] = sum_chains<A>(sh), sums[3] = sum_chains<A>(shx);
  if constexpr (G && H) sums[4] = sum_chains<A>(shg);
}

// out = constant + fx xc + fg g + fh h.
template <class T, bool G, bool H>
void plane_combine(const T* x, const T* g, const T* h, T* out, int64_t n, accumulate_t<T> mean,
                   accumulate_t<T> constant, accumulate_t<T> fx, accumulate_t<T> fg, accumulate_t<T> fh) {
  using A = accumulate_t<T>;
  each_vector<A, 2>(
      n, FASTGAN_EACH {
        Vec<A> v = (load_first(x + i, k) - mean) * fx + constant;
        if constexpr (G) v += load_first(g + i, k) * fg;
        if constexpr (H) v += load_first(h + i, k) * fh;
        store_first(out + i, v, k);
      });
}

// Both results of the double backward in one pass: d_g = f1 + f2 xc + f3 h, d_x = f4 + f5 xc + f6 g + f7 h, f0 the
// mean.
template <class T>
void plane_combine_both(const T* x, const T* g, const T* h, T* d_g, T* d_x, int64_t n, const accumulate_t<T>* factors) {
  using A = accumulate_t<T>;
  const A mean = factors[0], f1 = factors[1], f2 = factors[2], f3 = factors[3];
  const A f4 = factors[4], f5 = factors[5], f6 = factors[6], f7 = factors[7];
  each_vector<A, 2>(
      n, FASTGAN_EACH {
        const Vec<A> xc = load_first(x + i, k) - mean, hi = load_first(h + i, k);
        store_first(d_g + i, xc * f2 + hi * f3 + f1, k);
        store_first(d_x + i, xc * f5 + hi * f7 + load_first(g + i, k) * f6 + f4, k);
      });
}

// --- channels_last: `rows` consecutive positions, each with C contiguous channels; per-channel arrays of length C

// The same moments per channel, eight positions at a time in registers; `shift` (scratch) keeps fp32 sums small.
template <class T>
void channels_last_moments(const T* x, int64_t rows, int64_t C, accumulate_t<T>* shift, accumulate_t<T>* offset,
                           accumulate_t<T>* m2) {
  using A = accumulate_t<T>;
  constexpr int R = 8;
  for (int64_t r0 = 0; r0 < rows; r0 += R) {
    const int count = int(std::min<int64_t>(R, rows - r0));
    const A inverse = A(1) / A(count), share = A(count) / A(r0 + count), weight = A(r0) * share;
    const T* block = x + r0 * C;
    each_vector<A, 1>(
        C, FASTGAN_EACH {
          Vec<A> v[R], sum = {}, squares = {};
          for (int r = 0; r < R; r++) v[r] = r < count ? load_first(block + r * C + i, k) : Vec<A>{};
          Vec<A> s;
          if (r0 == 0) {
            for (int r = 0; r < R; r++) sum += v[r];
            s = sum * inverse;
            store_first(shift + i, s, k);
            sum = Vec<A>{};
          } else {
            s = load_first(shift + i, k);
          }
          for (int r = 0; r < count; r++) v[r] -= s;
          for (int r = 0; r < count; r++) sum += v[r];
          const Vec<A> mean = sum * inverse;
          for (int r = 0; r < count; r++) squares += (v[r] - mean) * (v[r] - mean);
          if (r0 == 0) {
            store_first(offset + i, mean, k);
            store_first(m2 + i, squares, k);
          } else {
            const Vec<A> before = load_first(offset + i, k), delta = mean - before;
            store_first(offset + i, before + delta * share, k);
            store_first(m2 + i, load_first(m2 + i, k) + squares + delta * delta * weight, k);
          }
        });
  }
}

// sums[j * C + c], j = {g, g xc, h, h xc, h g}. Position by position: one linear stream per input is worth more here
// than sums that stay in registers (measured: eight positions at a time take 1.6 times as long).
template <class T, bool G, bool H>
void channels_last_sums(const T* x, const T* g, const T* h, const accumulate_t<T>* mean, int64_t rows, int64_t C,
                        accumulate_t<T>* sums) {
  using A = accumulate_t<T>;
  for (int j = G ? 0 : 2; j < (G && H ? 5 : H ? 4 : 2); j++) std::fill_n(sums + j * C, C, A(0));
  for (int64_t r = 0; r < rows; r++, x += C, g += G ? C : 0, h += H ? C : 0) {
    each_vector<A, 1>(
        C, FASTGAN_EACH {
          const auto add = [&](int j, Vec<A> v) __attribute__((always_inline)) {
            A* p = sums + j * C + i;
            store_first(p, load_first(p, k) + v, k);
          };
          const Vec<A> xc = load_first(x + i, k) - load_first(mean + i, k);
          Vec<A> gi = {}, hi = {};
          if constexpr (G) {
            gi = load_first(g + i, k);
            add(0, gi), add(1, gi * xc);
          }
          if constexpr (H) {
            hi = load_first(h + i, k);
            add(2, hi), add(3, hi * xc);
          }
          if constexpr (G && H) add(4, hi * gi);
        });
  }
}

template <class T, bool G, bool H>
void channels_last_combine(const T* x, const T* g, const T* h, T* out, int64_t rows, int64_t C,
                           const accumulate_t<T>* mean, const accumulate_t<T>* constant, const accumulate_t<T>* fx,
                           const accumulate_t<T>* fg, const accumulate_t<T>* fh) {
  using A = accumulate_t<T>;
  for (int64_t r = 0; r < rows; r++, x += C, out += C, g += G ? C : 0, h += H ? C : 0) {
    each_vector<A, 1>(
        C, FASTGAN_EACH {
          Vec<A> v = (load_first(x + i, k) - load_first(mean + i, k)) * load_first(fx + i, k);
          v += load_first(constant + i, k);
          if constexpr (G) v += load_first(g + i, k) * load_first(fg + i, k);
          if constexpr (H) v += load_first(h + i, k) * load_first(fh + i, k);
          store_first(out + i, v, k);
        });
  }
}

// --- rows: n contiguous elements with affine weights gamma, beta of their own (null: 1 and 0)

template <class A>
FASTGAN_INLINE Vec<A> times(Vec<A> v, const A* weight, int64_t i, int k) {
  return weight ? v * load_first(weight + i, k) : v;
}

// y = (x - mean) r gamma + beta
template <class T>
void row_forward(const T* x, const accumulate_t<T>* gamma, const accumulate_t<T>* beta, T* y, int64_t n,
                 accumulate_t<T> mean, accumulate_t<T> rest, accumulate_t<T> r) {
  using A = accumulate_t<T>;
  each_vector<A, 2>(
      n, FASTGAN_EACH {
        Vec<A> v = times<A>((load_first(x + i, k) - mean - rest) * r, gamma, i, k);
        if (beta) v += load_first(beta + i, k);
        store_first(y + i, v, k);
      });
}

// sums = {a, a xc, h, h xc, h a, b, b xc} with a = gamma g, b = w g; those of absent ones are zero.
template <class T, bool H>
void row_sums(const T* x, const T* g, const T* h, const accumulate_t<T>* gamma, const accumulate_t<T>* w, int64_t n,
              accumulate_t<T> mean, accumulate_t<T>* sums) {
  using A = accumulate_t<T>;
  constexpr int U = 2;
  Vec<A> total[7][U] = {};
  each_vector<A, U>(
      n, FASTGAN_EACH {
        const Vec<A> xc = load_first(x + i, k) - mean, gi = load_first(g + i, k), a = times<A>(gi, gamma, i, k);
        total[0][u] += a;
        total[1][u] += a * xc;
        if constexpr (H) {
          const Vec<A> hi = load_first(h + i, k);
          total[2][u] += hi;
          total[3][u] += hi * xc;
          total[4][u] += hi * a;
        }
        if (w) {
          const Vec<A> b = times<A>(gi, w, i, k);
          total[5][u] += b;
          total[6][u] += b * xc;
        }
      });
  for (int j = 0; j < 7; j++) sums[j] = sum_chains<A>(total[j]);
}

// dx = r a + constant + fx xc (unless dx is null); dgamma += g xc r, dbeta += g (unless null)
template <class T>
void row_backward(const T* x, const T* g, const accumulate_t<T>* gamma, T* dx, accumulate_t<T>* dgamma,
                  accumulate_t<T>* dbeta, int64_t n, accumulate_t<T> mean, accumulate_t<T> r, accumulate_t<T> constant,
                  accumulate_t<T> fx) {
  using A = accumulate_t<T>;
  each_vector<A, 2>(
      n, FASTGAN_EACH {
        const Vec<A> xc = load_first(x + i, k) - mean, gi = load_first(g + i, k);
        if (dx) store_first(dx + i, times<A>(gi, gamma, i, k) * r + xc * fx + constant, k);
        if (dgamma) {
          store_first(dgamma + i, load_first(dgamma + i, k) + gi * xc * r, k);
          store_first(dbeta + i, load_first(dbeta + i, k) + gi, k);
        }
      });
}

// With d_a = r h + ac + ax xc:  d_g = gamma d_a + w xc r + z;  d_gamma += g d_a;
// d_x = x0 + xx xc + xh h + xa a + r w g, factors = {mean, r, ac, ax, x0, xx, xh, xa}. w and z are the cotangents of
// dgamma and dbeta; any pointer but x and g may be null.
template <class T>
void row_double_backward(const T* x, const T* g, const T* h, const accumulate_t<T>* gamma, const accumulate_t<T>* w,
                         const accumulate_t<T>* z, T* d_g, T* d_x, accumulate_t<T>* d_gamma, int64_t n,
                         const accumulate_t<T>* factors) {
  using A = accumulate_t<T>;
  const A mean = factors[0], r = factors[1], ac = factors[2], ax = factors[3];
  const A x0 = factors[4], xx = factors[5], xh = factors[6], xa = factors[7];
  each_vector<A, 1>(
      n, FASTGAN_EACH {
        const Vec<A> xc = load_first(x + i, k) - mean, gi = load_first(g + i, k);
        const Vec<A> hi = h ? load_first(h + i, k) : Vec<A>{};
        const Vec<A> wi = w ? load_first(w + i, k) * r : Vec<A>{};
        const Vec<A> d_a = hi * r + xc * ax + ac;
        if (d_g) {
          Vec<A> v = times<A>(d_a, gamma, i, k) + wi * xc;
          if (z) v += load_first(z + i, k);
          store_first(d_g + i, v, k);
        }
        if (d_x) store_first(d_x + i, times<A>(gi, gamma, i, k) * xa + gi * wi + hi * xh + xc * xx + x0, k);
        if (d_gamma) store_first(d_gamma + i, load_first(d_gamma + i, k) + gi * d_a, k);
      });
}
