// Attention on the CPU. The work is cut into heads and groups of query blocks, the same ones whatever the
// number of threads. Every thread takes a contiguous range of them and has its own scratch memory.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "common/checks.h"
#include "common/dispatch.h"
#include "cpu/attention/problem.h"

#define FASTGAN_KERNELS "cpu/attention/kernels.h"
#include "cpu/simd/each_isa.h"

namespace fastgan {
namespace {

constexpr int64_t kWorthAThread = 100 * 1000;  // products of two numbers
constexpr int64_t kScoreBytes = 8 << 20;

// The operands of one call, checked against each other; what fixes the sizes and dtypes is q, k, v.
struct Call {
  const char* op;
  ScalarType dtype, accumulate;
  int64_t batch, heads, queries, keys, qk_width, v_width;
  AttentionProblem problem;
  AttentionInputs in;

  Call(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const Optional& key_bias, double scale,
       bool is_causal)
      : op(op), dtype(q.scalar_type()), accumulate(accumulate_dtype(dtype)) {
    STD_TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4, op, ": q, k, v must have four dimensions");
    batch = q.size(0), heads = q.size(1), queries = q.size(2), keys = k.size(2);
    qk_width = q.size(3), v_width = v.size(3);
    STD_TORCH_CHECK(qk_width > 0 && v_width > 0, op, ": q, k, v must have at least one channel");
    in.q = qk_rows("q", q);
    in.k = qk_columns("k", k);
    in.v = v_columns("v", v);
    if (key_bias) in.key_bias = per_key("key_bias", *key_bias);
    problem = {heads, queries, keys, qk_width, v_width, scale, is_causal, baseline::kBlockQueries, 1};
    // Scratch is a few arrays of keys or of kBlockQueries queries times a width, each rounded up to whole vectors and
    // tiles: with room for all of them in 64 bits, the sums that lay it out cannot wrap.
    const int64_t rows = checked_product(op, {keys, 64}) / 64 + baseline::kBlockKeys;
    for (int64_t width : {qk_width, v_width, baseline::kBlockQueries}) {
      checked_product(op, {rows, checked_product(op, {width, 2}) / 2 + 64, 64 * int64_t(sizeof(double))});
    }
    checked_product(op, {batch, heads});
  }

  AttentionOperand operand(const char* name, const Tensor& t, ScalarType expected,
                           std::initializer_list<int64_t> shape) const {
    STD_TORCH_CHECK(t.is_cpu(), op, ": ", name, " is not on the CPU");
    STD_TORCH_CHECK(
        t.scalar_type() == expected, op, ": ", name,
        " has the wrong dtype (q, k, v and what has their shape: one of float64, float32, bfloat16, float16;"
        " key_bias, logsumexp: float32, float64 for float64)");
    bool same = t.dim() == int64_t(shape.size());
    int64_t d = 0;
    for (int64_t n : shape) same = same && t.size(d++) == n;
    STD_TORCH_CHECK(same, op, ": ", name, " has the wrong shape");
    return {t.const_data_ptr(), t.stride(0), t.stride(1), t.stride(2), t.dim() == 4 ? t.stride(3) : 1};
  }
  AttentionOperand qk_rows(const char* n, const Tensor& t) const {
    return operand(n, t, dtype, {batch, heads, queries, qk_width});
  }
  AttentionOperand qk_columns(const char* n, const Tensor& t) const {
    return operand(n, t, dtype, {batch, heads, keys, qk_width});
  }
  AttentionOperand v_rows(const char* n, const Tensor& t) const {
    return operand(n, t, dtype, {batch, heads, queries, v_width});
  }
  AttentionOperand v_columns(const char* n, const Tensor& t) const {
    return operand(n, t, dtype, {batch, heads, keys, v_width});
  }
  AttentionOperand per_query(const char* n, const Tensor& t) const {
    return operand(n, t, accumulate, {batch, heads, queries});
  }
  AttentionOperand per_key(const char* n, const Tensor& t) const {
    return operand(n, t, accumulate, {batch, heads, keys});
  }

  // What the forward gave and what came back for it.
  void backward_of(const Tensor& grad_out, const Optional& grad_logsumexp, const Tensor& out, const Tensor& logsumexp) {
    in.grad_out = v_rows("grad_out", grad_out);
    if (grad_logsumexp) in.grad_logsumexp = per_query("grad_logsumexp", *grad_logsumexp);
    in.out = v_rows("out", out);
    in.logsumexp = per_query("logsumexp", logsumexp);
  }

  // A fresh output of the shape of q, k, ...; without elements where it is not wanted.
  Tensor output(bool asked, ScalarType type, std::initializer_list<int64_t> shape, const Tensor& like) const {
    if (!asked) return without_elements(like, type);
    return torch::stable::new_empty(like, {shape.begin(), shape.size()}, type);
  }

  // Deals the query blocks of a head to groups, so that there are about `items` groups in all heads together.
  void deal(int64_t items) {
    const int64_t all = batch * heads, blocks = (queries + problem.block_queries - 1) / problem.block_queries;
    problem.groups = std::max<int64_t>(1, std::min(blocks, (items + all - 1) / std::max<int64_t>(1, all)));
  }
};

// Nothing to compute: no output has elements, however many heads there are.
bool all_empty(std::initializer_list<Tensor> outputs) {
  return std::all_of(outputs.begin(), outputs.end(), [](const Tensor& t) { return t.numel() == 0; });
}

// body(begin, end, scratch) over contiguous ranges of [0, items), one per thread.
template <class A, class Body>
void in_ranges(const Call& call, const Tensor& like, int64_t items, int64_t products, int64_t scratch_size,
               const Body& body) {
  if (items == 0) return;
  const double work = double(products) * call.batch * call.heads * call.queries * std::max<int64_t>(1, call.keys);
  const int64_t all_threads = torch::stable::get_num_threads();
  const int64_t worth = work / kWorthAThread < double(all_threads) ? int64_t(work / kWorthAThread) : all_threads;
  const int64_t threads = std::max<int64_t>(1, std::min(items, worth));
  const Tensor scratch =
      call.output(true, call.accumulate, {checked_product(call.op, {threads, scratch_size + 16})}, like);
  A* base = mutable_data<A>(scratch);
  base += (64 - reinterpret_cast<uintptr_t>(base) % 64) % 64 / sizeof(A);
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      body(items * t / threads, items * (t + 1) / threads, base + t * scratch_size);
    }
  };
  if (threads == 1) return run(0, 1);
  torch::stable::parallel_for(0, threads, 1, run);
}

std::tuple<Tensor, Tensor> attention(const Tensor& q, const Tensor& k, const Tensor& v, const Optional& key_bias,
                                     double scale, bool is_causal) {
  Call call("attention", q, k, v, key_bias, scale, is_causal);
  call.deal(128);
  Tensor out = call.output(true, call.dtype, {call.batch, call.heads, call.queries, call.v_width}, q);
  Tensor logsumexp = call.output(true, call.accumulate, {call.batch, call.heads, call.queries}, q);
  if (all_empty({out, logsumexp})) return {out, logsumexp};
  dispatch_floating(call.dtype, call.op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    in_ranges<A>(call, q, call.batch * call.heads * call.problem.groups, call.qk_width + call.v_width,
                 FASTGAN_CALL(forward_scratch<T>)(call.problem, call.in), [&](int64_t begin, int64_t end, A* scratch) {
                   FASTGAN_CALL(attention_forward<T>)(call.problem, call.in, mutable_data<T>(out),
                                                      mutable_data<A>(logsumexp), scratch, begin, end);
                 });
  });
  return {out, logsumexp};
}

template <class A>
A* data_if(bool asked, const Tensor& t) {
  return asked ? mutable_data<A>(t) : nullptr;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attention_backward(const Tensor& grad_out, const Optional& grad_logsumexp,
                                                              const Tensor& q, const Tensor& k, const Tensor& v,
                                                              const Optional& key_bias, const Tensor& out,
                                                              const Tensor& logsumexp, double scale, bool is_causal,
                                                              const OutputMask& wanted) {
  check_mask("attention_backward", wanted, 4);
  Call call("attention_backward", q, k, v, key_bias, scale, is_causal);
  call.backward_of(grad_out, grad_logsumexp, out, logsumexp);
  call.deal(16);
  const int64_t B = call.batch, H = call.heads, N = call.queries, M = call.keys, D = call.qk_width, Dv = call.v_width;
  Tensor dq = call.output(wanted[0], call.dtype, {B, H, N, D}, q);
  Tensor dk = call.output(wanted[1], call.dtype, {B, H, M, D}, q);
  Tensor dv = call.output(wanted[2], call.dtype, {B, H, M, Dv}, q);
  Tensor dbias = call.output(wanted[3], call.accumulate, {B, H, M}, q);
  if (all_empty({dq, dk, dv, dbias})) return {dq, dk, dv, dbias};
  dispatch_floating(call.dtype, call.op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    AttentionGradients grads;
    grads.q = data_if<T>(wanted[0], dq);
    grads.k = data_if<T>(wanted[1], dk);
    grads.v = data_if<T>(wanted[2], dv);
    grads.key_bias = data_if<A>(wanted[3], dbias);
    const AttentionProblem& p = call.problem;
    const int64_t sums_size = checked_product(call.op, {B, H, p.groups, FASTGAN_CALL(key_sums_size<A>)(p)});
    const Tensor sums = call.output(true, call.accumulate, {sums_size}, q);
    in_ranges<A>(call, q, B * H * p.groups, 3 * D + 2 * Dv, FASTGAN_CALL(backward_scratch<T>)(p, call.in),
                 [&](int64_t begin, int64_t end, A* scratch) {
                   FASTGAN_CALL(attention_backward<T>)(p, call.in, grads, mutable_data<A>(sums), scratch, begin, end);
                 });
    in_ranges<A>(call, q, B * H, 1, 0, [&](int64_t begin, int64_t end, A*) {
      FASTGAN_CALL(attention_key_gradients<T>)(p, mutable_data<A>(sums), grads, begin, end);
    });
  });
  return {dq, dk, dv, dbias};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> attention_double_backward(
    const Optional& x, const Optional& y, const Optional& z, const Optional& x_bias, const Tensor& grad_out,
    const Optional& grad_logsumexp, const Tensor& q, const Tensor& k, const Tensor& v, const Optional& key_bias,
    const Tensor& out, const Tensor& logsumexp, double scale, bool is_causal, const OutputMask& wanted) {
  check_mask("attention_double_backward", wanted, 6);
  Call call("attention_double_backward", q, k, v, key_bias, scale, is_causal);
  call.backward_of(grad_out, grad_logsumexp, out, logsumexp);
  if (x) call.in.x = call.qk_rows("x", *x);
  if (y) call.in.y = call.qk_columns("y", *y);
  if (z) call.in.z = call.v_columns("z", *z);
  if (x_bias) call.in.x_bias = call.per_key("x_bias", *x_bias);
  // Four numbers per query of a block and key are kept between two sweeps. They stay in the cache: with more keys,
  // a block has fewer queries.
  const int64_t accumulate_size = call.accumulate == ScalarType::Double ? 8 : 4;
  while (call.problem.block_queries > 12 &&
         call.keys > kScoreBytes / (call.problem.block_queries * 4 * accumulate_size)) {
    call.problem.block_queries /= 2;
  }
  call.deal(16);
  const int64_t B = call.batch, H = call.heads, N = call.queries, M = call.keys, D = call.qk_width, Dv = call.v_width;
  Tensor d_grad_out = call.output(wanted[0], call.dtype, {B, H, N, Dv}, q);
  Tensor d_grad_logsumexp = call.output(wanted[1], call.accumulate, {B, H, N}, q);
  Tensor dq = call.output(wanted[2], call.dtype, {B, H, N, D}, q);
  Tensor dk = call.output(wanted[3], call.dtype, {B, H, M, D}, q);
  Tensor dv = call.output(wanted[4], call.dtype, {B, H, M, Dv}, q);
  Tensor dbias = call.output(wanted[5], call.accumulate, {B, H, M}, q);
  if (all_empty({d_grad_out, d_grad_logsumexp, dq, dk, dv, dbias}))
    return {d_grad_out, d_grad_logsumexp, dq, dk, dv, dbias};
  dispatch_floating(call.dtype, call.op, [&](auto tag) {
    using T = decltype(tag);
    using A = accumulate_t<T>;
    AttentionGradients grads;
    grads.grad_out = data_if<T>(wanted[0], d_grad_out);
    grads.grad_logsumexp = data_if<A>(wanted[1], d_grad_logsumexp);
    grads.q = data_if<T>(wanted[2], dq);
    grads.k = data_if<T>(wanted[3], dk);
    grads.v = data_if<T>(wanted[4], dv);
    grads.key_bias = data_if<A>(wanted[5], dbias);
    const AttentionProblem& p = call.problem;
    const int64_t sums_size = checked_product(call.op, {B, H, p.groups, FASTGAN_CALL(key_sums_size<A>)(p)});
    const Tensor sums = call.output(true, call.accumulate, {sums_size}, q);
    in_ranges<A>(call, q, B * H * p.groups, 7 * D + 5 * Dv, FASTGAN_CALL(double_backward_scratch<T>)(p, call.in),
                 [&](int64_t begin, int64_t end, A* scratch) {
                   FASTGAN_CALL(attention_double_backward<T>)(p, call.in, grads, mutable_data<A>(sums), scratch, begin,
                                                              end);
                 });
    in_ranges<A>(call, q, B * H, 1, 0, [&](int64_t begin, int64_t end, A*) {
      FASTGAN_CALL(attention_key_gradients<T>)(p, mutable_data<A>(sums), grads, begin, end);
    });
  });
  return {d_grad_out, d_grad_logsumexp, dq, dk, dv, dbias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("attention", TORCH_BOX(&attention));
  m.impl("attention_backward", TORCH_BOX(&attention_backward));
  m.impl("attention_double_backward", TORCH_BOX(&attention_double_backward));
}

}  // namespace fastgan
