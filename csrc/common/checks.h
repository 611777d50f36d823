// Checks at the entry of the compiled ops: a wrong direct call of torch.ops.fastgan.* must end in an exception, never
// in a crash. The public Python functions check first and explain more.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace fastgan {

using torch::headeronly::IntHeaderOnlyArrayRef;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Optional = std::optional<Tensor>;

// The product of extents, checked: an expanded or an empty tensor can have extents that no memory holds. Every size of
// scratch memory and every count of work comes from here, unless it is the numel() of a contiguous tensor.
inline int64_t checked_product(const char* op, std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (int64_t f : factors) {
    const bool fits = f >= 0 && !__builtin_mul_overflow(product, f, &product);
    STD_TORCH_CHECK(fits, op, ": the product of the sizes does not fit into 64 bits; use smaller tensors");
  }
  return product;
}

inline const char* dtype_name(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    default:
      return "another dtype";
  }
}

// The dtype of sums and statistics, as accumulate_t for types: float64 for float64, else float32.
inline ScalarType accumulate_dtype(ScalarType dtype) {
  return dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Which outputs a derivative returns, in the schema's order; an output that is not wanted has no elements.
using OutputMask = std::vector<bool>;

inline void check_mask(const char* op, const OutputMask& wanted, size_t outputs) {
  STD_TORCH_CHECK(wanted.size() == outputs, op, ": output_mask has ", wanted.size(), " entries; it must have ",
                  outputs);
}

inline Tensor without_elements(const Tensor& like, std::optional<ScalarType> dtype = {}) {
  const int64_t none[] = {0};
  return torch::stable::new_empty(like, {none, 1}, dtype);
}

inline Tensor only_wanted(bool wanted, const Tensor& t) { return wanted ? t : without_elements(t); }

inline void check_same_length(const char* op, const char* name, const std::vector<Tensor>& list, size_t expected) {
  STD_TORCH_CHECK(list.size() == expected, op, ": ", name, " has ", list.size(), " tensors; it must have ", expected);
}

inline std::string text_of(IntHeaderOnlyArrayRef shape) {
  std::string text = "(";
  for (size_t d = 0; d < shape.size(); d++) text += (d ? ", " : "") + std::to_string(shape[d]);
  return text + ")";
}

inline void check_shape(const char* op, const char* name, const Tensor& t, IntHeaderOnlyArrayRef shape) {
  bool same = t.dim() == int64_t(shape.size());
  for (int64_t d = 0; same && d < t.dim(); d++) same = t.size(d) == shape[d];
  STD_TORCH_CHECK(same, op, ": ", name, " has shape ", text_of(t.sizes()), "; it must be ", text_of(shape));
}

// A tensor of the given dtype, device kind and shape; returned contiguous.
inline Tensor checked(const char* op, const char* name, const Tensor& t, ScalarType dtype, bool cuda,
                      IntHeaderOnlyArrayRef shape) {
  STD_TORCH_CHECK(t.is_cuda() == cuda && (cuda || t.is_cpu()), op, ": ", name, " must be on ",
                  cuda ? "a CUDA device" : "the CPU");
  STD_TORCH_CHECK(t.scalar_type() == dtype, op, ": ", name, " has dtype ", dtype_name(t.scalar_type()), "; it must be ",
                  dtype_name(dtype));
  check_shape(op, name, t, shape);
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

}  // namespace fastgan
