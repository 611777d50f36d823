// The checked arguments of the gradient penalty's ops, for the entries of the CPU and of the GPU.
#pragma once

#include "common/checks.h"
#include "common/penalty.h"

namespace fastgan {

inline PenaltyKind checked_kind(const char* op, int64_t kind, double eps) {
  STD_TORCH_CHECK(kind >= 0 && kind < kPenaltyKinds, op, ": kind is ", kind,
                  "; it must be 0 (two-sided), 1 (one-sided) or 2 (squared)");
  STD_TORCH_CHECK(eps >= 0, op, ": eps is ", eps, "; it must not be negative");
  return PenaltyKind(kind);
}

// Norms and penalty are kept in the accumulate dtype.
inline Tensor new_accumulator(const Tensor& like, IntHeaderOnlyArrayRef shape) {
  return torch::stable::new_empty(like, shape, accumulate_dtype(like.scalar_type()));
}

// A gradient (B, ...), contiguous: `batch` samples of `size` elements.
struct GradientArgument {
  Tensor grad;
  int64_t batch, size;

  GradientArgument(const char* op, const Tensor& given, bool cuda)
      : grad(checked(op, "grad", given, given.scalar_type(), cuda, given.sizes())) {
    STD_TORCH_CHECK(grad.dim() >= 1 && grad.size(0) > 0, op, ": grad has shape ", text_of(grad.sizes()),
                    "; it must be (B, ...) with at least one sample");
    batch = grad.size(0);
    size = grad.numel() / batch;
  }
};

// What both derivatives take beside it.
struct DerivativeArguments : GradientArgument {
  Tensor grad_penalty, grad_norms, norms;  // (), (B,), (B,)
  PenaltyKind kind;

  DerivativeArguments(const char* op, const Tensor& grad_penalty_in, const Tensor& grad_norms_in, const Tensor& grad_in,
                      const Tensor& norms_in, int64_t kind_in, bool cuda)
      : GradientArgument(op, grad_in, cuda),
        grad_penalty(checked(op, "grad_penalty", grad_penalty_in, accumulate_dtype(grad.scalar_type()), cuda, {})),
        grad_norms(checked(op, "grad_norms", grad_norms_in, accumulate_dtype(grad.scalar_type()), cuda, {batch})),
        norms(checked(op, "norms", norms_in, accumulate_dtype(grad.scalar_type()), cuda, {batch})),
        kind(checked_kind(op, kind_in, 0)) {}
};

}  // namespace fastgan
