// Checks at the entry of the compiled ops: a direct torch.ops.fastgan.* call must end in an exception, never in a
// crash. The public Python functions check first and say more.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <vector>

namespace fastgan {

using torch::headeronly::IntHeaderOnlyArrayRef;
using torch::stable::Tensor;

inline void check_same_length(const char* op, const char* name, const std::vector<Tensor>& list, size_t expected) {
  STD_TORCH_CHECK(list.size() == expected, op, ": ", name, " has ", list.size(), " tensors, expected ", expected);
}

// A tensor of the given dtype, device kind and shape; returned contiguous.
inline Tensor checked(const char* op, const char* name, const Tensor& t, torch::headeronly::ScalarType dtype, bool cuda,
                      IntHeaderOnlyArrayRef shape) {
  STD_TORCH_CHECK(t.is_cuda() == cuda && (cuda || t.is_cpu()), op, ": ", name, " is on the wrong device");
  STD_TORCH_CHECK(t.scalar_type() == dtype, op, ": ", name, " has another dtype than the weights");
  bool same = t.dim() == int64_t(shape.size());
  for (int64_t d = 0; same && d < t.dim(); d++) same = t.size(d) == shape[d];
  STD_TORCH_CHECK(same, op, ": ", name, " has the wrong shape");
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

}  // namespace fastgan
