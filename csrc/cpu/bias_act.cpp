// Bias, activation, gain and clamp in one pass on the CPU, to second order.
//
// The activation is (outer, C, inner) with the bias along C: a series of runs, which are planes of one channel, or
// pieces of large planes, and without a bias pieces of the whole tensor. Where inner is 1 (channels_last, or a matrix)
// or a few, runs are rows of C inner elements with a bias each. The order of every sum depends on the shape alone.
#include <torch/csrc/stable/library.h>

#include <memory>
#include <optional>
#include <tuple>

#include "common/checks.h"
#include "common/dispatch.h"
#include "common/output_block.h"

namespace fastgan {

// The codes of fastgan.ops.bias_act.ACTIVATIONS.
enum Activation {
  kLinear = 0,
  kRelu = 1,
  kLeakyRelu = 2,
  kSilu = 3,
  kGelu = 4,
  kSoftplus = 5,
  kSigmoid = 6,
  kTanh = 7,
  kElu = 8,
  kActivations
};

template <class A>
struct ActParameters {
  A alpha, gain, inverse_gain, clamp;
  bool clamped, from_output;
};

// `count` runs of n contiguous elements, one behind the other.
struct Runs {
  int64_t n, count;
  bool rows;                      // a bias for every element of a run, else one for all of them:
  int64_t first, per_channel, C;  // that of the channel of run `first + r`

  int64_t channel(int64_t r) const { return (first + r) / per_channel % C; }
};

}  // namespace fastgan

#define FASTGAN_KERNELS "cpu/bias_act.h"
#include "common/each_isa.h"

namespace fastgan {
namespace {

using Optional = std::optional<Tensor>;
using torch::headeronly::ScalarType;
using torch::stable::parallel_for;

constexpr int64_t kPiece = 4096;      // elements of a plane's piece, and of a sum in fp32
constexpr int64_t kUnit = 16 * 1024;  // elements that are worth a thread
constexpr int64_t kSmallPlane = 32;   // elements of a plane that is too short a run

struct Geometry {
  int64_t outer, C, inner, size;
  bool rows;
};

Geometry geometry_of(const Tensor& x, int64_t dim, bool per_channel) {
  Geometry s{1, x.dim() == 0 ? 1 : x.size(dim), 1, x.numel(), false};
  if (!per_channel) {
    s.outer = s.C = 1, s.inner = s.size;
  } else if (x.is_contiguous()) {
    for (int64_t d = 0; d < dim; d++) s.outer *= x.size(d);
    for (int64_t d = dim + 1; d < x.dim(); d++) s.inner *= x.size(d);
  } else {
    s.outer = s.C == 0 ? 0 : s.size / s.C;
  }
  s.rows = per_channel && s.inner < kSmallPlane;
  return s;
}

// x as it can be read: dense with dim outside of what follows it or, for dim 1, inside of it.
bool channels_are_inner(const Tensor& x, int64_t dim) {
  if (dim != 1 || x.dim() < 3) return false;
  int64_t expected = x.size(1);
  const auto steps_by = [&](int64_t d) { return x.size(d) == 1 || x.stride(d) == expected; };
  for (int64_t d = x.dim() - 1; d > 1; expected *= x.size(d--)) {
    if (!steps_by(d)) return false;
  }
  return steps_by(0) && (x.stride(1) == 1 || x.size(1) == 1);
}

Tensor laid_out(const char* op, const Tensor& x, int64_t dim) {
  STD_TORCH_CHECK(x.is_cpu(), op, ": x must be on the CPU");
  STD_TORCH_CHECK(dim >= 0 && dim < std::max<int64_t>(1, x.dim()), op, ": dim must be a dimension of x, got ", dim);
  return x.is_contiguous() || channels_are_inner(x, dim) ? x : torch::stable::contiguous(x);
}

Tensor laid_out_like(const char* op, const char* name, const Tensor& t, const Tensor& x) {
  STD_TORCH_CHECK(t.is_cpu() && t.scalar_type() == x.scalar_type(), op, ": ", name, " must have the dtype of x");
  bool same_shape = t.dim() == x.dim(), same_strides = true;
  for (int64_t d = 0; same_shape && d < x.dim(); d++) {
    same_shape = t.size(d) == x.size(d);
    same_strides = same_strides && (x.size(d) == 1 || t.stride(d) == x.stride(d));
  }
  STD_TORCH_CHECK(same_shape, op, ": ", name, " must have the shape of x");
  if (same_strides) return t;
  Tensor copy = torch::stable::empty_like(x);
  torch::stable::copy_(copy, t);
  return copy;
}

ScalarType statistics_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

Optional checked_bias(const char* op, const char* name, const Optional& bias, const Tensor& x, int64_t dim) {
  if (!bias) return bias;
  STD_TORCH_CHECK(x.dim() > 0, op, ": a scalar takes no bias");
  return checked(op, name, *bias, statistics_type(x), false, {x.size(dim)});
}

template <class A>
ActParameters<A> parameters(double alpha, double gain, double clamp, bool from_output) {
  STD_TORCH_CHECK(std::isfinite(alpha) && std::isfinite(gain), "bias_act: alpha and gain must be finite");
  STD_TORCH_CHECK(clamp > 0, "bias_act: clamp must be positive");
  const bool clamped = std::isfinite(clamp);
  return {A(alpha), A(gain), A(1 / gain), A(clamp), clamped, from_output};
}

template <class A>
const A* pointer(const Optional& t) {
  return t ? data<A>(*t) : nullptr;
}

// body(kernel) with the Act of the code as a compile-time constant.
template <class Body, int Act = 0>
void dispatch_activation(const char* op, int64_t act, const Body& body) {
  if constexpr (Act < kActivations) {
    if (act == Act) return body(std::integral_constant<int, Act>{});
    dispatch_activation<Body, Act + 1>(op, act, body);
  } else {
    STD_TORCH_CHECK(false, op, ": unknown activation code ", act);
  }
}

// A channel's value for every element of a row, or for every run as it is; null stays null.
template <class A>
class PerChannel {
 public:
  PerChannel(const Geometry& s, const A* values) : values_(values) {
    if (!values || !s.rows || s.inner == 1) return;
    row_.reset(new A[s.C * s.inner]);
    for (int64_t c = 0; c < s.C; c++) std::fill_n(&row_[c * s.inner], s.inner, values[c]);
    values_ = row_.get();
  }
  operator const A*() const { return values_; }

 private:
  std::unique_ptr<A[]> row_;
  const A* values_;
};

// Calls body(runs, at, sums) for neighbouring runs from element `at` on, so many that they are worth a thread. `sums`
// (null unless there is a total, of zeros) takes a partial of the bias' gradient: one for each run, or in rows one for
// each element of a row, which are zero. Then adds the partials up in order.
template <class A, class Body>
void each_runs(const Geometry& s, A* total, const Body& body) {
  if (s.size == 0) return;
  if (s.rows) {
    const int64_t n = s.C * s.inner, rows = std::max<int64_t>(1, kUnit / n), units = (s.outer + rows - 1) / rows;
    const std::unique_ptr<A[]> partials(new A[total ? units * n : 1]());
    parallel_for(0, units, 1, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; u++) {
        const Runs runs{n, std::min(rows, s.outer - u * rows), true, 0, 1, 1};
        body(runs, u * rows * n, total ? &partials[u * n] : nullptr);
      }
    });
    if (!total) return;
    parallel_for(0, s.C, 1024, [&](int64_t begin, int64_t end) {
      for (int64_t u = 1; u < units; u++) {
        for (int64_t i = begin * s.inner; i < end * s.inner; i++) partials[i] += partials[u * n + i];
      }
      for (int64_t c = begin; c < end; c++) {
        for (int64_t i = 0; i < s.inner; i++) total[c] += partials[c * s.inner + i];
      }
    });
    return;
  }
  // A large plane's pieces are of kPiece elements, but for the last one, which is a run on its own.
  const int64_t pieces = (s.inner + kPiece - 1) / kPiece, n = std::min(kPiece, s.inner),
                rest = s.inner - (pieces - 1) * n;
  const int64_t planes = s.outer * s.C;
  const std::unique_ptr<A[]> partials(new A[total ? planes * pieces : 1]);
  const auto run = [&](int64_t first, int64_t count, int64_t size) {
    const Runs runs{size, count, false, first, pieces, s.C};
    body(runs, first / pieces * s.inner + first % pieces * n, total ? &partials[first] : nullptr);
  };
  parallel_for(0, planes * pieces, std::max<int64_t>(1, kUnit / n), [&](int64_t begin, int64_t end) {
    if (rest == n) return run(begin, end - begin, n);
    for (int64_t i = begin; i < end;) {
      const int64_t whole = std::min(pieces - 1 - i % pieces, end - i);
      if (whole > 0) run(i, whole, n);
      i += whole;
      if (i < end) run(i++, 1, rest);
    }
  });
  if (!total) return;
  for (int64_t c = 0; c < s.C; c++) {
    double sum = 0;
    for (int64_t o = 0; o < s.outer; o++) {
      for (int64_t p = 0; p < pieces; p++) sum += partials[(o * s.C + c) * pieces + p];
    }
    total[c] = A(sum);
  }
}

Tensor bias_act(const Tensor& x_in, const Optional& bias_in, int64_t dim, int64_t act, double alpha, double gain,
                double clamp) {
  const char* op = "bias_act";
  const Tensor x = laid_out(op, x_in, dim);
  const Optional bias = checked_bias(op, "bias", bias_in, x, dim);
  const Geometry s = geometry_of(x, dim, bias.has_value());
  Tensor y = empty_output(x);
  dispatch_floating(x.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const auto p = parameters<A>(alpha, gain, clamp, false);
    const PerChannel<A> b(s, pointer<A>(bias));
    const T* from = data<T>(x);
    T* to = mutable_data<T>(y);
    dispatch_activation(op, act, [&](auto code) {
      constexpr int Act = decltype(code)::value;
      each_runs<A>(s, nullptr, [&](const Runs& runs, int64_t at, A*) {
        FASTGAN_CALL(act_forward<Act, T>)(runs, from + at, b, to + at, p);
      });
    });
  });
  return y;
}

// What was not asked for.
Tensor nothing(const Tensor& like, ScalarType dtype) {
  const int64_t none[] = {0};
  return torch::stable::new_empty(like, {none, 1}, dtype);
}

Tensor zeros_per_channel(const Tensor& x, int64_t dim) {
  STD_TORCH_CHECK(x.dim() > 0, "bias_act: a scalar takes no bias");
  const int64_t size[] = {x.size(dim)};
  return torch::stable::new_zeros(x, {size, 1}, statistics_type(x));
}

std::tuple<Tensor, Tensor> bias_act_backward(const Tensor& grad_in, const Tensor& saved_in, const Optional& bias_in,
                                             int64_t dim, int64_t act, double alpha, double gain, double clamp,
                                             bool from_output, const OutputMask& wanted) {
  const char* op = "bias_act_backward";
  check_mask(op, wanted, 2);
  const bool need_x = wanted[0], need_bias = wanted[1];
  const Tensor saved = laid_out(op, saved_in, dim), grad = laid_out_like(op, "grad", grad_in, saved);
  const Optional bias = checked_bias(op, "bias", bias_in, saved, dim);
  const Geometry s = geometry_of(saved, dim, bias || need_bias);
  Tensor dx = need_x ? empty_output(saved) : nothing(saved, saved.scalar_type());
  Tensor dbias = need_bias ? zeros_per_channel(saved, dim) : nothing(saved, statistics_type(saved));
  dispatch_floating(saved.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const auto p = parameters<A>(alpha, gain, clamp, from_output);
    const PerChannel<A> b(s, from_output ? nullptr : pointer<A>(bias));
    const T *g = data<T>(grad), *from = data<T>(saved);
    T* to = need_x ? mutable_data<T>(dx) : nullptr;
    dispatch_activation(op, act, [&](auto code) {
      constexpr int Act = decltype(code)::value;
      each_runs<A>(s, need_bias ? mutable_data<A>(dbias) : nullptr, [&](const Runs& runs, int64_t at, A* sums) {
        FASTGAN_CALL(act_backward<Act, T>)(runs, g + at, from + at, b, to ? to + at : nullptr, sums, p);
      });
    });
  });
  return {dx, dbias};
}

std::tuple<Tensor, Tensor, Tensor> bias_act_double_backward(const Optional& h_in, const Optional& h_bias_in,
                                                            const Tensor& grad_in, const Tensor& saved_in,
                                                            const Optional& bias_in, int64_t dim, int64_t act,
                                                            double alpha, double gain, double clamp, bool from_output,
                                                            const OutputMask& wanted) {
  const char* op = "bias_act_double_backward";
  check_mask(op, wanted, 3);
  const bool need_grad = wanted[0], need_saved = wanted[1], need_bias = wanted[2];
  const Tensor saved = laid_out(op, saved_in, dim), grad = laid_out_like(op, "grad", grad_in, saved);
  Optional h;
  if (h_in) h = laid_out_like(op, "h", *h_in, saved);
  const Optional bias = checked_bias(op, "bias", bias_in, saved, dim);
  const Optional h_bias = checked_bias(op, "h_bias", h_bias_in, saved, dim);
  const Geometry s = geometry_of(saved, dim, bias || h_bias || need_bias);
  Tensor d_grad = need_grad ? empty_output(saved) : nothing(saved, saved.scalar_type());
  Tensor d_saved = need_saved ? empty_output(saved) : nothing(saved, saved.scalar_type());
  Tensor d_bias = need_bias ? zeros_per_channel(saved, dim) : nothing(saved, statistics_type(saved));
  dispatch_floating(saved.scalar_type(), op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    const auto p = parameters<A>(alpha, gain, clamp, from_output);
    const PerChannel<A> b(s, from_output ? nullptr : pointer<A>(bias)), hb(s, pointer<A>(h_bias));
    const T *hp = pointer<T>(h), *g = data<T>(grad), *from = data<T>(saved);
    T *to_grad = need_grad ? mutable_data<T>(d_grad) : nullptr, *to = need_saved ? mutable_data<T>(d_saved) : nullptr;
    dispatch_activation(op, act, [&](auto code) {
      constexpr int Act = decltype(code)::value;
      each_runs<A>(s, need_bias ? mutable_data<A>(d_bias) : nullptr, [&](const Runs& runs, int64_t at, A* sums) {
        FASTGAN_CALL(act_double_backward<Act, T>)(runs, hp ? hp + at : nullptr, hb, g + at, from + at, b,
                                                  to_grad ? to_grad + at : nullptr, to ? to + at : nullptr, sums, p);
      });
    });
  });
  return {d_grad, d_saved, d_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("bias_act", TORCH_BOX(&bias_act));
  m.impl("bias_act_backward", TORCH_BOX(&bias_act_backward));
  m.impl("bias_act_double_backward", TORCH_BOX(&bias_act_double_backward));
}

}  // namespace fastgan
