// The passes of normalisation on the CPU and their formulas: forward, backward and double backward of one activation,
// on raw pointers. The letters, with r = 1 / sqrt(var + eps), xh = (x - mean) r, a = gamma g, b = w g and <.> the mean
// over a statistics row:
//   p = <h>, q = <h xh>, t = <a>, s = <a xh>, ha = <h a>, bx = <b xh>
//   dx  = r (a - t - xh s)
//   d_a = r (h - p - xh q),  d_g = gamma d_a + w xh + z,  d_gamma = sum g d_a
//   d_x = -r^2 (xh (ha - p t - 3 q s) + s (h - p) + q (a - t)) + r (b - <b> - xh bx)
#pragma once

#include <cmath>

#include "cpu/normalize/plan.h"

#define FASTGAN_KERNELS "cpu/normalize/kernels.h"
#include "cpu/simd/each_isa.h"

namespace fastgan::norm {

// out = constant + fx xc + fg g + fh h over a block; f points at the block's factors {mean, ...}, `p` has the place
// of each.
struct Places {
  int constant, fx, fg, fh;
};
template <class T>
void combine(const Geometry& s, int64_t block, const T* x, const T* g, const T* h, T* out, const accumulate_t<T>* f,
             Places p) {
  const Span span = span_of(s, block);
  x += span.at, out += span.at;
  if (g) g += span.at;
  if (h) h += span.at;
  const auto call = [&]<bool G, bool H>() {
    if (s.inner) {
      const int64_t C = s.C;
      FASTGAN_CALL(channels_last_combine<T, G, H>)(x, g, h, out, span.positions, C, f, f + p.constant * C, f + p.fx * C,
                                                   f + p.fg * C, f + p.fh * C);
    } else {
      FASTGAN_CALL(plane_combine<T, G, H>)(x, g, h, out, span.positions, f[0], f[p.constant], f[p.fx], f[p.fg],
                                           f[p.fh]);
    }
  };
  if (g && h) return call.template operator()<true, true>();
  if (g) return call.template operator()<true, false>();
  if (h) return call.template operator()<false, true>();
  call.template operator()<false, false>();
}

template <class T>
void sums_of(const Geometry& s, int64_t block, const T* x, const T* g, const T* h, const accumulate_t<T>* mean,
             accumulate_t<T>* sums) {
  const Span span = span_of(s, block);
  const auto call = [&]<bool G, bool H>() {
    const T *gp = G ? g + span.at : nullptr, *hp = H ? h + span.at : nullptr;
    if (s.inner) {
      FASTGAN_CALL(channels_last_sums<T, G, H>)(x + span.at, gp, hp, mean, span.positions, s.C, sums);
    } else {
      FASTGAN_CALL(plane_sums<T, G, H>)(x + span.at, gp, hp, *mean, span.positions, sums);
    }
  };
  if (g && h) return call.template operator()<true, true>();
  if (g) return call.template operator()<true, false>();
  call.template operator()<false, true>();
}

template <class A>
A inverse_deviation(A var, double eps) {
  return A(1 / std::sqrt(double(var) + eps));
}

// --- forward

template <class T>
void forward(const Geometry& s, const T* x, const accumulate_t<T>* gamma, const accumulate_t<T>* beta, double eps, T* y,
             accumulate_t<T>* mean_out, accumulate_t<T>* var_out) {
  using A = accumulate_t<T>;
  if (s.single_rows()) {
    parallel_for(0, s.rows, std::max<int64_t>(1, kWorthAThread / s.D), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        double mean, m2;
        FASTGAN_CALL(plane_moments<T>)(x + row * s.D, s.D, &mean, &m2);
        mean_out[row] = A(mean), var_out[row] = A(m2 / double(s.D));
        const int64_t w = s.weight(row / s.groups, row % s.groups * s.D);
        FASTGAN_CALL(row_forward<T>)(x + row * s.D, gamma ? gamma + w : nullptr, beta ? beta + w : nullptr,
                                     y + row * s.D, s.D, mean_out[row], A(mean - double(mean_out[row])),
                                     inverse_deviation(var_out[row], eps));
      }
    });
    return;
  }
  Scratch<double> moments(s, 2);           // mean, m2
  Scratch<A> shifted(s, s.inner ? 3 : 0);  // shift, mean - shift, m2
  Scratch<A> factors(s, 3);                // mean, constant, fx
  reduce_finish_write(
      s, sizeof(T),
      [&](int64_t block) {
        const Span span = span_of(s, block);
        double* m = moments.of(block);
        if (!s.inner) {
          FASTGAN_CALL(plane_moments<T>)(x + span.at, span.positions, m, m + 1);
        } else {
          A* f = shifted.of(block);
          FASTGAN_CALL(channels_last_moments<T>)(x + span.at, span.positions, s.C, f, f + s.C, f + 2 * s.C);
          for (int64_t c = 0; c < s.C; c++)
            m[c] = double(f[c]) + double(f[s.C + c]), m[s.C + c] = double(f[2 * s.C + c]);
        }
      },
      [&](int64_t row) {
        const auto each_part = [&](const auto& body) {  // body(elements, their mean, their m2)
          each_channel(s, row, [&](int64_t n, int64_t c) {
            for (int64_t block = 0; block < (s.inner ? s.blocks_each : 1); block++) {
              body(double(s.inner ? s.positions_of(block) : s.S), moments.at(n, c, 0, block),
                   moments.at(n, c, 1, block));
            }
          });
        };
        double mean = 0, m2 = 0;
        each_part([&](double count, double m, double) { mean += count * m; });
        mean /= double(s.row_size);
        each_part([&](double count, double m, double q) { m2 += q + count * (m - mean) * (m - mean); });
        const A kept = mean_out[row] = A(mean);
        const A r = inverse_deviation(var_out[row] = A(m2 / double(s.row_size)), eps);
        each_channel(s, row, [&](int64_t n, int64_t c) {
          const int64_t w = s.weight(n, c);
          const A fx = gamma ? r * gamma[w] : r;
          factors.at(n, c, 0) = kept;
          factors.at(n, c, 1) = (beta ? beta[w] : A(0)) - fx * A(mean - double(kept));
          factors.at(n, c, 2) = fx;
        });
      },
      [&](int64_t block) {
        const A* f = factors.of(factor_block(s, block));
        combine<T>(s, block, x, nullptr, nullptr, y, f, {1, 2, 0, 0});
      });
}

// --- both derivatives

template <class T>
struct Inputs {
  using A = accumulate_t<T>;
  const T *x, *g, *h;                   // h: cotangent of dx, may be absent
  const A *gamma, *mean, *var, *w, *z;  // w, z: cotangents of dgamma and dbeta, may be absent
  double eps;
};

// Sums a per-(n, c) quantity into a weight's gradient: over the samples, in order, or as it is.
template <class A, class Value>
void reduce_affine(const Geometry& s, A* out, const Value& value) {
  parallel_for(0, s.C, std::max<int64_t>(1, kWorthAThread / (8 * std::max<int64_t>(1, s.N))),
               [&](int64_t b, int64_t e) {
                 for (int64_t c = b; c < e; c++) {
                   double total = 0;
                   for (int64_t n = 0; n < s.N; n++) {
                     const double v = value(n, c);
                     if (s.per_sample) {
                       out[n * s.C + c] = A(v);
                     } else {
                       total += v;
                     }
                   }
                   if (!s.per_sample) out[c] = A(total);
                 }
               });
}

// Blocks of samples whose rows share a partial sum of `arrays` weight gradients; one sample each for weights per
// sample.
template <class A>
struct Partials {
  const Geometry& s;
  int64_t arrays, samples, blocks;
  std::unique_ptr<A[]> store;
  Partials(const Geometry& s, int64_t arrays)
      : s(s),
        arrays(arrays),
        samples(s.per_sample ? 1 : (s.N + limit(s) - 1) / limit(s)),
        blocks(s.N == 0 ? 0 : (s.N + samples - 1) / samples),
        store(new A[std::max<int64_t>(1, blocks * arrays * s.C)]()) {}
  static int64_t limit(const Geometry& s) { return std::max<int64_t>(8, 64 * 1024 / s.C); }
  A* of(int64_t block, int64_t array) { return arrays ? &store[(block * arrays + array) * s.C] : nullptr; }
  void reduce(int64_t array, A* out) {
    parallel_for(0, s.C, 4096, [&](int64_t begin, int64_t end) {
      for (int64_t b = 0; b < blocks; b++) {
        const A* from = of(b, array);
        A* to = s.per_sample ? out + b * s.C : out;
        for (int64_t c = begin; c < end; c++) to[c] = b == 0 || s.per_sample ? from[c] : to[c] + from[c];
      }
    });
  }
  // body(row, block), blocks side by side
  template <class Body>
  void each_row(const Body& body) {
    parallel_for(0, blocks, std::max<int64_t>(1, kWorthAThread / (samples * s.C)), [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; b++) {
        for (int64_t row = b * samples * s.groups; row < std::min(s.N, (b + 1) * samples) * s.groups; row++)
          body(row, b);
      }
    });
  }
};

template <class T>
void backward(const Geometry& s, const Inputs<T>& in, T* dx, accumulate_t<T>* dgamma, accumulate_t<T>* dbeta) {
  using A = accumulate_t<T>;
  const double n_inverse = 1 / double(s.row_size);
  if (s.single_rows()) {
    Partials<A> partials(s, dgamma ? 2 : 0);
    partials.each_row([&](int64_t row, int64_t block) {
      const int64_t at = row * s.D, c = row % s.groups * s.D, w = s.weight(row / s.groups, c);
      const A* gamma = in.gamma ? in.gamma + w : nullptr;
      const A r = inverse_deviation(in.var[row], in.eps);
      A sums[7] = {};
      if (dx) FASTGAN_CALL(row_sums<T, false>)(in.x + at, in.g + at, nullptr, gamma, nullptr, s.D, in.mean[row], sums);
      FASTGAN_CALL(row_backward<T>)(in.x + at, in.g + at, gamma, dx ? dx + at : nullptr,
                                    dgamma ? partials.of(block, 0) + c : nullptr,
                                    dgamma ? partials.of(block, 1) + c : nullptr, s.D, in.mean[row], r,
                                    A(-r * sums[0] * n_inverse), A(-r * r * r * sums[1] * n_inverse));
    });
    if (dgamma) partials.reduce(0, dgamma), partials.reduce(1, dbeta);
    return;
  }
  const BlockMeans<A> means(s, in.mean);
  Scratch<A> sums(s, 2), factors(s, dx ? 4 : 0);  // {g, g xc}; {mean, constant, fx, fg}
  reduce_finish_write(
      s, sizeof(T), [&](int64_t block) { sums_of<T>(s, block, in.x, in.g, nullptr, means.of(block), sums.of(block)); },
      [&](int64_t row) {
        if (!dx) return;
        const double r = inverse_deviation(in.var[row], in.eps);
        double t = 0, q = 0;
        each_channel(s, row, [&](int64_t n, int64_t c) {
          const double gamma = in.gamma ? in.gamma[s.weight(n, c)] : 1;
          t += gamma * sums.sum(n, c, 0);
          q += gamma * sums.sum(n, c, 1);
        });
        t *= n_inverse, q *= n_inverse;
        each_channel(s, row, [&](int64_t n, int64_t c) {
          factors.at(n, c, 0) = in.mean[row];
          factors.at(n, c, 1) = A(-r * t);
          factors.at(n, c, 2) = A(-r * r * r * q);
          factors.at(n, c, 3) = A(in.gamma ? r * in.gamma[s.weight(n, c)] : r);
        });
      },
      [&](int64_t block) {
        if (!dx) return;
        combine<T>(s, block, in.x, in.g, nullptr, dx, factors.of(factor_block(s, block)), {1, 2, 3, 0});
      });
  if (!dgamma) return;
  reduce_affine(s, dbeta, [&](int64_t n, int64_t c) { return sums.sum(n, c, 0); });
  reduce_affine(s, dgamma, [&](int64_t n, int64_t c) {
    return sums.sum(n, c, 1) * double(inverse_deviation(in.var[s.row(n, c)], in.eps));
  });
}

// The scalars of a row, in the letters above, from sums over it with gamma and w put in, xc not yet divided by the
// deviation.
struct RowMeans {
  double r, p, q, t, s, ha, b, bx;
  double ac() const { return -r * p; }  // d_a = r h + ac + ax xc
  double ax() const { return -r * r * q; }
  double x0() const { return r * r * (s * p + q * t) - r * b; }  // d_x = x0 + xx xc + xh h + xa a + r w g
  double xx() const { return -r * r * r * (ha - p * t - 3 * q * s) - r * r * bx; }
  double xh() const { return -r * r * s; }
  double xa() const { return -r * r * q; }
};

template <class T>
void double_backward(const Geometry& s, const Inputs<T>& in, T* d_g, T* d_x, accumulate_t<T>* d_gamma) {
  using A = accumulate_t<T>;
  const double n_inverse = 1 / double(s.row_size);
  if (s.single_rows()) {
    Partials<A> partials(s, d_gamma ? 1 : 0);
    partials.each_row([&](int64_t row, int64_t block) {
      const int64_t at = row * s.D, c = row % s.groups * s.D, w_at = s.weight(row / s.groups, c);
      const A *gamma = in.gamma ? in.gamma + w_at : nullptr, *w = in.w ? in.w + w_at : nullptr;
      const T *x = in.x + at, *g = in.g + at, *h = in.h ? in.h + at : nullptr;
      A sums[7];
      if (h) {
        FASTGAN_CALL(row_sums<T, true>)(x, g, h, gamma, w, s.D, in.mean[row], sums);
      } else {
        FASTGAN_CALL(row_sums<T, false>)(x, g, h, gamma, w, s.D, in.mean[row], sums);
      }
      const double r = inverse_deviation(in.var[row], in.eps), rn = r * n_inverse;
      const RowMeans m{r,
                       sums[2] * n_inverse,
                       sums[3] * rn,
                       sums[0] * n_inverse,
                       sums[1] * rn,
                       sums[4] * n_inverse,
                       sums[5] * n_inverse,
                       sums[6] * rn};
      const A factors[] = {in.mean[row], A(r), A(m.ac()), A(m.ax()), A(m.x0()), A(m.xx()), A(m.xh()), A(m.xa())};
      FASTGAN_CALL(row_double_backward<T>)(x, g, h, gamma, w, in.z ? in.z + w_at : nullptr, d_g ? d_g + at : nullptr,
                                           d_x ? d_x + at : nullptr, d_gamma ? partials.of(block, 0) + c : nullptr, s.D,
                                           factors);
    });
    if (d_gamma) partials.reduce(0, d_gamma);
    return;
  }
  const BlockMeans<A> means(s, in.mean);
  const bool needs_g = d_x || d_gamma;
  Scratch<A> sums(s, 5), factors(s, 8);  // {mean; d_g: constant, fx, fh; d_x: constant, fx, fg, fh}
  std::unique_ptr<double[]> gammas(new double[d_gamma ? s.N * s.C : 1]);
  reduce_finish_write(
      s, sizeof(T),
      [&](int64_t block) {
        if (needs_g || in.h) {
          sums_of<T>(s, block, in.x, needs_g ? in.g : nullptr, in.h, means.of(block), sums.of(block));
        }
      },
      [&](int64_t row) {
        RowMeans m{};
        const double r = m.r = inverse_deviation(in.var[row], in.eps);
        each_channel(s, row, [&](int64_t n, int64_t c) {
          const double gamma = in.gamma ? in.gamma[s.weight(n, c)] : 1, w = in.w ? in.w[s.weight(n, c)] : 0;
          if (in.h) m.p += sums.sum(n, c, 2), m.q += sums.sum(n, c, 3);
          if (!needs_g) return;
          const double sum_g = sums.sum(n, c, 0), sum_gx = sums.sum(n, c, 1);
          m.t += gamma * sum_g, m.s += gamma * sum_gx;
          if (in.w) m.b += w * sum_g, m.bx += w * sum_gx;
          if (in.h) m.ha += gamma * sums.sum(n, c, 4);
        });
        for (double* mean : {&m.p, &m.t, &m.ha, &m.b}) *mean *= n_inverse;
        for (double* mean : {&m.q, &m.s, &m.bx}) *mean *= n_inverse * r;
        const double ac = m.ac(), ax = m.ax(), x0 = m.x0(), xx = m.xx(), xh = m.xh(), xa = m.xa();
        each_channel(s, row, [&](int64_t n, int64_t c) {
          const int64_t at = s.weight(n, c);
          const double gamma = in.gamma ? in.gamma[at] : 1, w = in.w ? in.w[at] : 0, z = in.z ? in.z[at] : 0;
          factors.at(n, c, 0) = in.mean[row];
          factors.at(n, c, 1) = A(gamma * ac + z);
          factors.at(n, c, 2) = A(in.w ? gamma * ax + w * r : gamma * ax);
          factors.at(n, c, 3) = A(gamma * r);
          factors.at(n, c, 4) = A(x0);
          factors.at(n, c, 5) = A(xx);
          factors.at(n, c, 6) = A(in.w ? xa * gamma + r * w : xa * gamma);
          factors.at(n, c, 7) = A(xh);
          if (d_gamma) {
            gammas[n * s.C + c] = r * sums.sum(n, c, 4) + ac * sums.sum(n, c, 0) + ax * sums.sum(n, c, 1);
          }
        });
      },
      [&](int64_t block) {
        const A* f = factors.of(factor_block(s, block));
        if (d_g && d_x && in.h && !s.inner) {
          const Span p = span_of(s, block);
          FASTGAN_CALL(plane_combine_both<T>)(in.x + p.at, in.g + p.at, in.h + p.at, d_g + p.at, d_x + p.at,
                                              p.positions, f);
          return;
        }
        if (d_g) combine<T>(s, block, in.x, nullptr, in.h, d_g, f, {1, 2, 0, 3});
        if (d_x) combine<T>(s, block, in.x, in.g, in.h, d_x, f, {4, 5, 6, 7});
      });
  if (d_gamma) reduce_affine(s, d_gamma, [&](int64_t n, int64_t c) { return gammas[n * s.C + c]; });
}

}  // namespace fastgan::norm
