// Layer, group, instance and batch-statistics normalisation on the CPU, to second order.
//
// The activation is (N, C, S). A statistics row is the set of elements that share mean and variance: C/num_groups
// channels of a sample, or, with num_groups = 0, a channel of the whole batch. All derivatives are linear combinations
// of the inputs whose factors follow from five sums per (n, c): g, g xc, h, h xc, h g (xc = x - mean; g the cotangent
// of y, h that of dx). So every op is one reduction and one elementwise pass, and where a row fits in cache the second
// pass finds it there. The units of work and the order of every sum depend on the shapes alone, never on the threads.
#include <torch/csrc/stable/library.h>

#include <memory>
#include <optional>
#include <tuple>

#include "common/checks.h"
#include "common/dispatch.h"
#include "common/output_block.h"

#define FASTGAN_KERNELS "cpu/normalize.h"
#include "common/each_isa.h"

namespace fastgan {
namespace {

using Optional = std::optional<Tensor>;
using torch::headeronly::ScalarType;
using torch::stable::parallel_for;

constexpr int64_t kWorthAThread = 16 * 1024;  // elements
constexpr int64_t kSlab = 32 * 1024;          // elements of a slab
constexpr int64_t kContiguousBytes = 4096;    // what a task of batch statistics should find side by side

// --- geometry

struct Geometry {
  int64_t N, C, S, groups;    // groups = 0: batch statistics
  bool inner;                 // the channels are contiguous
  bool per_sample;            // weights are (N, C)
  int64_t rows, row_size, D;  // D channels of a sample in a row
  int64_t slab_rows = 0, slabs = 0;

  bool batch() const { return groups == 0; }
  bool single_rows() const { return S == 1 && !batch(); }
  int64_t row(int64_t n, int64_t c) const { return batch() ? c : n * groups + c / D; }
  int64_t weight(int64_t n, int64_t c) const { return per_sample ? n * C + c : c; }
  int64_t slab_count(int64_t slab) const { return std::min(slab_rows, S - slab * slab_rows); }
};

bool channels_are_inner(const Tensor& x) {
  int64_t expected = x.size(1);
  const auto steps_by = [&](int64_t d) { return x.size(d) == 1 || x.stride(d) == expected; };
  for (int64_t d = x.dim() - 1; d > 1; expected *= x.size(d--)) {
    if (!steps_by(d)) return false;
  }
  return steps_by(0) && (x.stride(1) == 1 || x.size(1) == 1);
}

bool same_strides(const Tensor& a, const Tensor& b) {
  for (int64_t d = 0; d < a.dim(); d++) {
    if (a.size(d) > 1 && a.stride(d) != b.stride(d)) return false;
  }
  return true;
}

void check_activation(const char* op, const char* name, const Tensor& t, const Tensor& x) {
  STD_TORCH_CHECK(t.is_cpu() && t.scalar_type() == x.scalar_type(), op, ": ", name, " must be like x");
  bool same = t.dim() == x.dim();
  for (int64_t d = 0; same && d < x.dim(); d++) same = t.size(d) == x.size(d);
  STD_TORCH_CHECK(same, op, ": ", name, " must have the shape of x");
}

// x as it can be read: as it is where it is dense in one of the two layouts, else a contiguous copy.
Tensor laid_out(const char* op, const Tensor& x) {
  STD_TORCH_CHECK(x.is_cpu() && x.dim() >= 2 && x.size(1) > 0, op, ": x must be (N, C, ...) with channels, on the CPU");
  return x.is_contiguous() || channels_are_inner(x) ? x : torch::stable::contiguous(x);
}

Tensor laid_out_like(const char* op, const char* name, const Tensor& t, const Tensor& x) {
  check_activation(op, name, t, x);
  if (same_strides(t, x)) return t;
  Tensor copy = torch::stable::empty_like(x);
  torch::stable::copy_(copy, t);
  return copy;
}

ScalarType statistics_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

Geometry geometry_of(const char* op, const Tensor& x, const Optional& weight, int64_t groups) {
  Geometry s{};
  s.N = x.size(0), s.C = x.size(1), s.S = 1, s.groups = groups;
  for (int64_t d = 2; d < x.dim(); d++) s.S *= x.size(d);
  STD_TORCH_CHECK(groups >= 0 && (groups == 0 || s.C % groups == 0), op, ": num_groups must divide the ", s.C,
                  " channels, or be 0 for batch statistics");
  s.per_sample = weight && weight->dim() == 2;
  s.inner = !x.is_contiguous() || s.S == 1;
  if (s.batch() && s.inner && !s.per_sample) {  // the batch is one long sample then
    s.S *= s.N;
    s.N = 1;
    s.groups = s.C;
  }
  s.D = s.batch() ? 1 : s.C / s.groups;
  s.rows = s.batch() ? s.C : s.N * s.groups;
  s.row_size = s.batch() ? s.N * s.S : s.D * s.S;
  s.slab_rows = std::max<int64_t>(8, kSlab / s.C / 8 * 8);
  s.slabs = (s.S + s.slab_rows - 1) / s.slab_rows;
  return s;
}

// weight and what has its shape: (C,) or (N, C), in the statistics' dtype.
Optional checked_affine(const char* op, const char* name, const Optional& t, const Tensor& x, const Optional& weight) {
  if (!t) return t;
  STD_TORCH_CHECK(weight.has_value(), op, ": ", name, " without a weight");
  if (weight->dim() == 2) return checked(op, name, *t, statistics_type(x), false, {x.size(0), x.size(1)});
  return checked(op, name, *t, statistics_type(x), false, {x.size(1)});
}

Tensor checked_statistics(const char* op, const char* name, const Tensor& t, const Tensor& x, int64_t groups) {
  if (groups == 0) return checked(op, name, t, statistics_type(x), false, {x.size(1)});
  return checked(op, name, t, statistics_type(x), false, {x.size(0), groups});
}

template <class A>
const A* pointer(const Optional& t) {
  return t ? data<A>(*t) : nullptr;
}

// --- scratch: K numbers for every (n, c), or, in slabs, for every (slab, c)

template <class E>
struct Scratch {
  const Geometry& s;
  int64_t K;
  std::unique_ptr<E[]> store;
  Scratch(const Geometry& s, int64_t K) : s(s), K(K), store(new E[std::max<int64_t>(1, units() * K * width())]) {}
  int64_t units() const { return s.inner ? s.N * s.slabs : s.N * s.C; }
  int64_t width() const { return s.inner ? s.C : 1; }
  E* unit(int64_t u) { return &store[u * K * width()]; }
  // number k of channel c in a slab of sample n; there is one "slab" per plane
  E& at(int64_t n, int64_t c, int64_t k, int64_t slab = 0) {
    return s.inner ? store[((n * s.slabs + slab) * K + k) * s.C + c] : store[(n * s.C + c) * K + k];
  }
  double sum(int64_t n, int64_t c, int64_t k) {
    double total = at(n, c, k);
    for (int64_t slab = 1; s.inner && slab < s.slabs; slab++) total += at(n, c, k, slab);
    return total;
  }
};

template <class Body>
void each_channel(const Geometry& s, int64_t row, const Body& body) {
  if (s.batch()) {
    for (int64_t n = 0; n < s.N; n++) body(n, row);
  } else {
    const int64_t n = row / s.groups, first = row % s.groups * s.D;
    for (int64_t c = first; c < first + s.D; c++) body(n, c);
  }
}

// Runs reduce(unit) for all units of a row, finish(row), write(unit): task by task while the data are in cache, or,
// with fewer independent tasks than threads, as three phases. A unit is a plane or a slab.
template <class Reduce, class Finish, class Write>
void reduce_finish_write(const Geometry& s, int64_t element_bytes, const Reduce& reduce, const Finish& finish,
                         const Write& write) {
  const int64_t units = s.inner ? s.N * s.slabs : s.N * s.C;
  if (units == 0 || s.S == 0) return;
  const int64_t unit_size = s.N * s.C * s.S / units;
  const auto grain = [](int64_t size) { return std::max<int64_t>(1, kWorthAThread / std::max<int64_t>(1, size)); };

  // Channels of a batch-statistics task: neighbours, so that a task reads more than a plane at a time.
  const int64_t block = std::min(s.C, std::max<int64_t>(1, kContiguousBytes / (s.S * element_bytes)));
  const int64_t tasks = s.batch() ? (s.C + block - 1) / block : s.inner ? s.N : s.rows;
  const bool separable = !(s.batch() && s.inner);  // slabs of a batch hold a part of every row
  if (separable && (tasks >= 2 * int64_t(torch::stable::get_num_threads()) || tasks == units)) {
    parallel_for(0, tasks, grain(s.N * s.C * s.S / tasks), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const auto each_unit = [&](const auto& body) {
          if (s.inner) {
            for (int64_t u = task * s.slabs; u < (task + 1) * s.slabs; u++) body(u);
          } else if (!s.batch()) {
            for (int64_t u = task * s.D; u < (task + 1) * s.D; u++) body(u);
          } else {
            for (int64_t n = 0; n < s.N; n++) {
              for (int64_t c = task * block; c < std::min(s.C, (task + 1) * block); c++) body(n * s.C + c);
            }
          }
        };
        each_unit(reduce);
        const int64_t rows_each = s.inner ? s.groups : s.batch() ? block : 1;
        for (int64_t r = task * rows_each; r < std::min(s.rows, (task + 1) * rows_each); r++) finish(r);
        each_unit(write);
      }
    });
    return;
  }
  const auto phase = [&](int64_t count, int64_t size, const auto& body) {
    parallel_for(0, count, grain(size), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) body(i);
    });
  };
  phase(units, unit_size, reduce);
  phase(s.rows, 16 * units / s.rows, finish);
  phase(units, unit_size, write);
}

// Where a unit lies: its first element, and the positions that it has.
struct Span {
  int64_t at, positions;
};
Span span_of(const Geometry& s, int64_t unit) {
  if (!s.inner) return {unit * s.S, s.S};
  const int64_t n = unit / s.slabs, slab = unit % s.slabs;
  return {(n * s.S + slab * s.slab_rows) * s.C, s.slab_count(slab)};
}

// out = constant + fx xc + fg g + fh h over a unit; f points at the unit's factors {mean, ...}, whose places are given.
struct Places {
  int constant, fx, fg, fh;
};
template <class T>
void combine(const Geometry& s, int64_t unit, const T* x, const T* g, const T* h, T* out, const accumulate_t<T>* f,
             Places p) {
  const Span span = span_of(s, unit);
  x += span.at, out += span.at;
  if (g) g += span.at;
  if (h) h += span.at;
  const auto call = [&]<bool G, bool H>() {
    if (s.inner) {
      const int64_t C = s.C;
      FASTGAN_CALL(slab_combine<T, G, H>)(x, g, h, out, span.positions, C, f, f + p.constant * C, f + p.fx * C,
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
void sums_of(const Geometry& s, int64_t unit, const T* x, const T* g, const T* h, const accumulate_t<T>* mean,
             accumulate_t<T>* sums) {
  const Span span = span_of(s, unit);
  const auto call = [&]<bool G, bool H>() {
    const T *gp = G ? g + span.at : nullptr, *hp = H ? h + span.at : nullptr;
    if (s.inner) {
      FASTGAN_CALL(slab_sums<T, G, H>)(x + span.at, gp, hp, mean, span.positions, s.C, sums);
    } else {
      FASTGAN_CALL(plane_sums<T, G, H>)(x + span.at, gp, hp, *mean, span.positions, sums);
    }
  };
  if (g && h) return call.template operator()<true, true>();
  if (g) return call.template operator()<true, false>();
  call.template operator()<false, true>();
}

// The factors that the writing pass of a unit uses live with its sample's first slab.
int64_t factor_unit(const Geometry& s, int64_t unit) { return s.inner ? unit / s.slabs * s.slabs : unit; }

// Means per unit: in slabs every channel has its own, an array of C per sample.
template <class A>
struct UnitMeans {
  const Geometry& s;
  const A* mean;
  std::unique_ptr<A[]> expanded;
  UnitMeans(const Geometry& s, const A* mean) : s(s), mean(mean) {
    if (!s.inner || s.single_rows()) return;
    expanded.reset(new A[std::max<int64_t>(1, s.N * s.C)]);
    for (int64_t i = 0; i < s.N * s.C; i++) expanded[i] = mean[s.row(i / s.C, i % s.C)];
  }
  const A* of(int64_t unit) const {
    if (s.inner) return &expanded[unit / s.slabs * s.C];
    return &mean[s.row(unit / s.C, unit % s.C)];
  }
};

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
      [&](int64_t unit) {
        const Span span = span_of(s, unit);
        double* m = moments.unit(unit);
        if (!s.inner) {
          FASTGAN_CALL(plane_moments<T>)(x + span.at, span.positions, m, m + 1);
        } else {
          A* f = shifted.unit(unit);
          FASTGAN_CALL(slab_moments<T>)(x + span.at, span.positions, s.C, f, f + s.C, f + 2 * s.C);
          for (int64_t c = 0; c < s.C; c++)
            m[c] = double(f[c]) + double(f[s.C + c]), m[s.C + c] = double(f[2 * s.C + c]);
        }
      },
      [&](int64_t row) {
        const auto each_part = [&](const auto& body) {  // body(elements, their mean, their m2)
          each_channel(s, row, [&](int64_t n, int64_t c) {
            for (int64_t slab = 0; slab < (s.inner ? s.slabs : 1); slab++) {
              body(double(s.inner ? s.slab_count(slab) : s.S), moments.at(n, c, 0, slab), moments.at(n, c, 1, slab));
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
      [&](int64_t unit) {
        const A* f = factors.unit(factor_unit(s, unit));
        combine<T>(s, unit, x, nullptr, nullptr, y, f, {1, 2, 0, 0});
      });
}

std::tuple<Tensor, Tensor, Tensor> normalize(const Tensor& x_in, const Optional& weight_in, const Optional& bias_in,
                                             int64_t num_groups, double eps) {
  const char* op = "normalize";
  const Tensor x = laid_out(op, x_in);
  const Geometry s = geometry_of(op, x, weight_in, num_groups);
  const Optional weight = checked_affine(op, "weight", weight_in, x, weight_in);
  const Optional bias = checked_affine(op, "bias", bias_in, x, weight_in);
  Tensor y = empty_output(x);
  const auto statistics = [&] {
    const int64_t batch[] = {s.C}, grouped[] = {x.size(0), num_groups};
    return num_groups == 0 ? torch::stable::new_empty(x, {batch, 1}, statistics_type(x))
                           : torch::stable::new_empty(x, {grouped, 2}, statistics_type(x));
  };
  Tensor mean = statistics(), var = statistics();
  if (x.numel() == 0) return {y, torch::stable::zero_(mean), torch::stable::zero_(var)};
  dispatch_floating(x.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    forward<T>(s, data<T>(x), pointer<A>(weight), pointer<A>(bias), eps, mutable_data<T>(y), mutable_data<A>(mean),
               mutable_data<A>(var));
  });
  return {y, mean, var};
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
  const UnitMeans<A> means(s, in.mean);
  Scratch<A> sums(s, 2), factors(s, dx ? 4 : 0);  // {g, g xc}; {mean, constant, fx, fg}
  reduce_finish_write(
      s, sizeof(T), [&](int64_t unit) { sums_of<T>(s, unit, in.x, in.g, nullptr, means.of(unit), sums.unit(unit)); },
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
      [&](int64_t unit) {
        if (!dx) return;
        combine<T>(s, unit, in.x, in.g, nullptr, dx, factors.unit(factor_unit(s, unit)), {1, 2, 3, 0});
      });
  if (!dgamma) return;
  reduce_affine(s, dbeta, [&](int64_t n, int64_t c) { return sums.sum(n, c, 0); });
  reduce_affine(s, dgamma, [&](int64_t n, int64_t c) {
    return sums.sum(n, c, 1) * double(inverse_deviation(in.var[s.row(n, c)], in.eps));
  });
}

// The scalars of a row in DESIGN's letters, from sums over it with gamma and w put in, xc not yet divided by the
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
  const UnitMeans<A> means(s, in.mean);
  const bool needs_g = d_x || d_gamma;
  Scratch<A> sums(s, 5), factors(s, 8);  // {mean; d_g: constant, fx, fh; d_x: constant, fx, fg, fh}
  std::unique_ptr<double[]> gammas(new double[d_gamma ? s.N * s.C : 1]);
  reduce_finish_write(
      s, sizeof(T),
      [&](int64_t unit) {
        if (needs_g || in.h) {
          sums_of<T>(s, unit, in.x, needs_g ? in.g : nullptr, in.h, means.of(unit), sums.unit(unit));
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
      [&](int64_t unit) {
        const A* f = factors.unit(factor_unit(s, unit));
        if (d_g && d_x && in.h && !s.inner) {
          const Span p = span_of(s, unit);
          FASTGAN_CALL(plane_combine_both<T>)(in.x + p.at, in.g + p.at, in.h + p.at, d_g + p.at, d_x + p.at,
                                              p.positions, f);
          return;
        }
        if (d_g) combine<T>(s, unit, in.x, nullptr, in.h, d_g, f, {1, 2, 0, 3});
        if (d_x) combine<T>(s, unit, in.x, in.g, in.h, d_x, f, {4, 5, 6, 7});
      });
  if (d_gamma) reduce_affine(s, d_gamma, [&](int64_t n, int64_t c) { return gammas[n * s.C + c]; });
}

// What was not asked for.
Tensor nothing(const Tensor& like) {
  const int64_t none[] = {0};
  return torch::stable::new_empty(like, {none, 1});
}

Tensor zeros_like_weight(const Tensor& weight) {
  Tensor out = torch::stable::empty_like(weight);
  return torch::stable::zero_(out);
}

std::tuple<Tensor, Tensor, Tensor> normalize_backward(const Tensor& grad_in, const Tensor& x_in,
                                                      const Optional& weight_in, const Tensor& mean_in,
                                                      const Tensor& var_in, int64_t num_groups, double eps,
                                                      const OutputMask& wanted) {
  const char* op = "normalize_backward";
  check_mask(op, wanted, 3);
  const bool need_x = wanted[0], need_affine = wanted[1] || wanted[2];
  const Tensor x = laid_out(op, x_in), grad = laid_out_like(op, "grad", grad_in, x);
  const Geometry s = geometry_of(op, x, weight_in, num_groups);
  const Optional weight = checked_affine(op, "weight", weight_in, x, weight_in);
  STD_TORCH_CHECK(weight || !need_affine, op, ": no weight, so no gradients of weight and bias");
  const Tensor mean = checked_statistics(op, "mean", mean_in, x, num_groups);
  const Tensor var = checked_statistics(op, "var", var_in, x, num_groups);
  Tensor dx = need_x ? empty_output(x) : nothing(x);
  Tensor dgamma = need_affine ? zeros_like_weight(*weight) : nothing(mean);
  Tensor dbeta = need_affine ? zeros_like_weight(*weight) : nothing(mean);
  if (x.numel() == 0) return {dx, only_wanted(wanted[1], dgamma), only_wanted(wanted[2], dbeta)};
  dispatch_floating(x.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const Inputs<T> in{data<T>(x), data<T>(grad), nullptr, pointer<A>(weight), data<A>(mean), data<A>(var),
                       nullptr,    nullptr,       eps};
    backward<T>(s, in, need_x ? mutable_data<T>(dx) : nullptr, need_affine ? mutable_data<A>(dgamma) : nullptr,
                need_affine ? mutable_data<A>(dbeta) : nullptr);
  });
  return {dx, only_wanted(wanted[1], dgamma), only_wanted(wanted[2], dbeta)};
}

std::tuple<Tensor, Tensor, Tensor> normalize_double_backward(const Optional& h_in, const Optional& h_weight_in,
                                                             const Optional& h_bias_in, const Tensor& grad_in,
                                                             const Tensor& x_in, const Optional& weight_in,
                                                             const Tensor& mean_in, const Tensor& var_in,
                                                             int64_t num_groups, double eps, const OutputMask& wanted) {
  const char* op = "normalize_double_backward";
  check_mask(op, wanted, 3);
  const bool need_grad = wanted[0], need_x = wanted[1], need_weight = wanted[2];
  const Tensor x = laid_out(op, x_in), grad = laid_out_like(op, "grad", grad_in, x);
  const Geometry s = geometry_of(op, x, weight_in, num_groups);
  Optional h;
  if (h_in) h = laid_out_like(op, "h", *h_in, x);
  const Optional weight = checked_affine(op, "weight", weight_in, x, weight_in);
  const Optional w = checked_affine(op, "h_weight", h_weight_in, x, weight_in);
  const Optional z = checked_affine(op, "h_bias", h_bias_in, x, weight_in);
  STD_TORCH_CHECK(weight || !need_weight, op, ": no weight, so no derivative with respect to it");
  const Tensor mean = checked_statistics(op, "mean", mean_in, x, num_groups);
  const Tensor var = checked_statistics(op, "var", var_in, x, num_groups);
  Tensor d_g = need_grad ? empty_output(x) : nothing(x);
  Tensor d_x = need_x ? empty_output(x) : nothing(x);
  Tensor d_gamma = need_weight ? zeros_like_weight(*weight) : nothing(mean);
  if (x.numel() == 0) return {d_g, d_x, d_gamma};
  dispatch_floating(x.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const Inputs<T> in{data<T>(x),         data<T>(grad), pointer<T>(h),
                       pointer<A>(weight), data<A>(mean), data<A>(var),
                       pointer<A>(w),      pointer<A>(z), eps};
    double_backward<T>(s, in, need_grad ? mutable_data<T>(d_g) : nullptr, need_x ? mutable_data<T>(d_x) : nullptr,
                       need_weight && h ? mutable_data<A>(d_gamma) : nullptr);
  });
  return {d_g, d_x, d_gamma};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("normalize", TORCH_BOX(&normalize));
  m.impl("normalize_backward", TORCH_BOX(&normalize_backward));
  m.impl("normalize_double_backward", TORCH_BOX(&normalize_double_backward));
}

}  // namespace fastgan
