// The gradient penalty on the GPU: check, cut into segments, launch. Forward 2 launches, backward 1, double backward 2.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/penalty_arguments.h"
#include "cuda/device/launch_context.h"
#include "cuda/grad_norm_penalty.cuh"

namespace fastgan {
namespace {

constexpr int64_t kSegmentBytes = 16 * 1024;  // at least, of a row that several blocks share
constexpr int64_t kEnoughBlocks = 1024;       // rows are cut as long as there are fewer blocks
constexpr int64_t kPacksOfALane = 8;          // up to here a row is a warp's work

// Nothing depends on the device: every GPU sums the same terms in the same order.
template <class T>
Samples cut(const GradientArgument& a, std::initializer_list<const Tensor*> beside) {
  constexpr int64_t N = pack_size<T>;
  const auto divided = [](int64_t x, int64_t by) { return (x + by - 1) / by; };
  Samples s{a.batch, a.size, 0, 1, 1, a.size % N == 0};
  const int64_t packs = divided(a.size, N);
  while (s.lanes < kWarp && s.lanes < packs) s.lanes *= 2;
  if (packs > kWarp * kPacksOfALane) s.lanes = kThreads;
  const int64_t most = std::min(divided(a.size * sizeof(T), kSegmentBytes), divided(kEnoughBlocks, a.batch));
  s.segment = divided(packs, std::max<int64_t>(1, most)) * N;
  s.segments = std::max<int64_t>(1, s.segment ? divided(a.size, s.segment) : 1);
  for (const Tensor* t : beside) s.aligned = s.aligned && reinterpret_cast<uintptr_t>(t->const_data_ptr()) % 16 == 0;
  return s;
}

template <class A>
Cotangents<A> cotangents(LaunchContext& context, const DerivativeArguments& a, double target) {
  return {a.kind, A(target), context.input<A>(a.grad_penalty, "grad_penalty"),
          context.input<A>(a.grad_norms, "grad_norms"), context.input<A>(a.norms, "norms")};
}

template <class A>
A* workspace_sums(LaunchContext& context, const Samples& s) {
  A* sums = nullptr;
  context.workspace(
      [&](const auto& take) { sums = take(A{}, checked_product("grad_norm_penalty", {s.rows, s.segments}), "sums"); });
  return sums;
}

std::tuple<Tensor, Tensor> grad_norm_penalty(const Tensor& grad, double target, int64_t kind_in, double eps) {
  const char* op = "grad_norm_penalty";
  const PenaltyKind kind = checked_kind(op, kind_in, eps);
  const GradientArgument a(op, grad, GPU_IS_CUDA);
  const Tensor penalty = new_accumulator(a.grad, {}), norms = new_accumulator(a.grad, {a.batch});
  dispatch_floating(a.grad.scalar_type(), op, [&](auto tag) {
    using T = gpu_t<decltype(tag)>;
    using A = accumulate_t<T>;
    LaunchContext context(a.grad);
    const Samples s = cut<T>(a, {&a.grad});
    A* sums = workspace_sums<A>(context, s);
    context.launch("grad_norm_penalty_squares_kernel", &grad_norm_penalty_squares_kernel<T>, s.blocks(), kThreads, 0, s,
                   context.input<T>(a.grad, "grad"), sums);
    context.launch("grad_norm_penalty_norms_kernel", &grad_norm_penalty_norms_kernel<T>, 1, kThreads, 0, s, kind,
                   A(target), A(eps), sums, context.output<A>(norms, "norms"), context.output<A>(penalty, "penalty"));
  });
  return {penalty, norms};
}

Tensor grad_norm_penalty_backward(const Tensor& grad_penalty, const Tensor& grad_norms, const Tensor& grad,
                                  const Tensor& norms, double target, int64_t kind, const OutputMask& wanted) {
  const char* op = "grad_norm_penalty_backward";
  check_mask(op, wanted, 1);
  const DerivativeArguments a(op, grad_penalty, grad_norms, grad, norms, kind, GPU_IS_CUDA);
  const Tensor d_grad = torch::stable::new_empty(a.grad, a.grad.sizes());
  dispatch_floating(a.grad.scalar_type(), op, [&](auto tag) {
    using T = gpu_t<decltype(tag)>;
    LaunchContext context(a.grad);
    const Samples s = cut<T>(a, {&a.grad, &d_grad});
    context.launch("grad_norm_penalty_backward_kernel", &grad_norm_penalty_backward_kernel<T>, s.blocks(), kThreads, 0,
                   s, cotangents<accumulate_t<T>>(context, a, target), context.input<T>(a.grad, "grad"),
                   context.output<T>(d_grad, "d_grad"));
  });
  return only_wanted(wanted[0], d_grad);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> grad_norm_penalty_double_backward(
    const Tensor& h_in, const Tensor& grad_penalty, const Tensor& grad_norms, const Tensor& grad, const Tensor& norms,
    double target, int64_t kind, const OutputMask& wanted) {
  const char* op = "grad_norm_penalty_double_backward";
  check_mask(op, wanted, 4);
  const DerivativeArguments a(op, grad_penalty, grad_norms, grad, norms, kind, GPU_IS_CUDA);
  const Tensor h = checked(op, "h", h_in, a.grad.scalar_type(), GPU_IS_CUDA, a.grad.sizes());
  const Tensor d_grad_penalty = new_accumulator(a.grad, {}), d_grad_norms = new_accumulator(a.grad, {a.batch});
  const Tensor d_grad = torch::stable::new_empty(a.grad, a.grad.sizes()), d_norms = new_accumulator(a.grad, {a.batch});
  dispatch_floating(a.grad.scalar_type(), op, [&](auto tag) {
    using T = gpu_t<decltype(tag)>;
    using A = accumulate_t<T>;
    LaunchContext context(a.grad);
    const Samples s = cut<T>(a, {&h, &a.grad, &d_grad});
    const Cotangents<A> c = cotangents<A>(context, a, target);
    A* sums = workspace_sums<A>(context, s);
    context.launch("grad_norm_penalty_double_backward_kernel", &grad_norm_penalty_double_backward_kernel<T>, s.blocks(),
                   kThreads, 0, s, c, context.input<T>(h, "h"), context.input<T>(a.grad, "grad"),
                   context.output<T>(d_grad, "d_grad"), sums);
    context.launch("grad_norm_penalty_double_backward_scalars_kernel",
                   &grad_norm_penalty_double_backward_scalars_kernel<T>, 1, kThreads, 0, s, c, sums,
                   context.output<A>(d_grad_penalty, "d_grad_penalty"), context.output<A>(d_grad_norms, "d_grad_norms"),
                   context.output<A>(d_norms, "d_norms"));
  });
  return {only_wanted(wanted[0], d_grad_penalty), only_wanted(wanted[1], d_grad_norms), only_wanted(wanted[2], d_grad),
          only_wanted(wanted[3], d_norms)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(GPU_LIBRARY, GPU_KEY, m) {
  m.impl("grad_norm_penalty", TORCH_BOX(&grad_norm_penalty));
  m.impl("grad_norm_penalty_backward", TORCH_BOX(&grad_norm_penalty_backward));
  m.impl("grad_norm_penalty_double_backward", TORCH_BOX(&grad_norm_penalty_double_backward));
}

}  // namespace fastgan
