// How the CPU ops read an activation: in place if it is dense and contiguous or channels_last, else through a copy. And
// the dtype of the statistics, weights and biases beside it.
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
  STD_TORCH_CHECK(t.scalar_type() == x.scalar_type(), op, ": ", name, " has dtype ", dtype_name(t.scalar_type()),
                  "; it must have that of x, ", dtype_name(x.scalar_type()));
  check_shape(op, name, t, x.sizes());
  bool same_strides = true;
  for (int64_t d = 0; d < x.dim(); d++) same_strides = same_strides && (x.size(d) == 1 || t.stride(d) == x.stride(d));
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
