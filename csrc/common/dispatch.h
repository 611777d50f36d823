// From a tensor's run-time dtype to a kernel's compile-time type.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "common/types.h"

namespace fastgan {

// Calls body(T{}) with T = float, double, Half or BFloat16.
template <class Body>
void dispatch_floating(torch::headeronly::ScalarType dtype, const char* op, Body&& body) {
  using torch::headeronly::ScalarType;
  switch (dtype) {
    case ScalarType::Float:
      return body(float{});
    case ScalarType::Double:
      return body(double{});
    case ScalarType::Half:
      return body(Half{});
    case ScalarType::BFloat16:
      return body(BFloat16{});
    default:
      STD_TORCH_CHECK(false, op, ": the tensors must be float64, float32, bfloat16 or float16");
  }
}

template <class T>
const T* data(const torch::stable::Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <class T>
T* mutable_data(const torch::stable::Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

}  // namespace fastgan
