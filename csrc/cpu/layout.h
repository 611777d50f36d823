// How the CPU ops see an activation: dense, with its channels outside of what follows them (contiguous) or inside of it
// (channels_last); everything else is copied. And the dtype of what goes with it.
#pragma once

#include "common/checks.h"
#include "common/dispatch.h"

namespace fastgan {

// Whether dimension 1 of x is the innermost one in memory, and the others are dense around it.
inline bool channels_are_inner(const Tensor& x) {
  if (x.dim() < 2) return false;
  int64_t expected = x.size(1);
  const auto steps_by = [&](int64_t d) { return x.size(d) == 1 || x.stride(d) == expected; };
  for (int64_t d = x.dim() - 1; d > 1; expected *= x.size(d--)) {
    if (!steps_by(d)) return false;
  }
  return steps_by(0) && (x.stride(1) == 1 || x.size(1) == 1);
}

// x as an op can read it: as it is, or a contiguous copy.
inline Tensor laid_out(const Tensor& x, bool inner_allowed) {
  return x.is_contiguous() || (inner_allowed && channels_are_inner(x)) ? x : torch::stable::contiguous(x);
}

// t, checked to have the dtype and shape of x, with the strides of x.
inline Tensor laid_out_like(const char* op, const char* name, const Tensor& t, const Tensor& x) {
  STD_TORCH_CHECK(t.is_cpu(), op, ": ", name, " must be on the CPU");
  STD_TORCH_CHECK(t.scalar_type() == x.scalar_type(), op, ": ", name, " must have the dtype of x");
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

// The dtype of statistics, weights and biases beside x.
inline ScalarType statistics_dtype(const Tensor& x) { return accumulate_dtype(x.scalar_type()); }

template <class T>
const T* pointer(const Optional& t) {
  return t ? data<T>(*t) : nullptr;
}

}  // namespace fastgan
