// The lists of the spectral norm's ops: one tensor for each weight (R, ...), which is read as a matrix (R, C).
#pragma once

#include "common/checks.h"

namespace fastgan {

using List = std::vector<Tensor>;
enum class Kind { weight, row_vector, col_vector, scalar };  // (R, ...), (R,), (C,), ()

// The list, contiguous, every tensor of it checked against the weight beside it.
inline List checked_list(const char* op, const char* name, const List& list, const List& weights, Kind kind,
                         bool cuda) {
  check_same_length(op, name, list, weights.size());
  List out;
  out.reserve(list.size());
  for (size_t i = 0; i < list.size(); i++) {
    const Tensor &first = weights[0], &w = weights[i];
    STD_TORCH_CHECK(w.dim() >= 2, op, ": weights[", i, "] must have at least two dimensions");
    STD_TORCH_CHECK(w.numel() > 0, op, ": weights[", i, "] is empty");
    STD_TORCH_CHECK(list[i].get_device_index() == first.get_device_index(), op, ": ", name, "[", i,
                    "] is on another device than weights[0]");
    const int64_t rows = w.size(0), cols = w.numel() / rows;
    const int64_t vector_shape[] = {kind == Kind::row_vector ? rows : cols};
    const IntHeaderOnlyArrayRef shape = kind == Kind::weight   ? w.sizes()
                                        : kind == Kind::scalar ? IntHeaderOnlyArrayRef()
                                                               : IntHeaderOnlyArrayRef(vector_shape, 1);
    out.push_back(checked(op, name, list[i], first.scalar_type(), cuda, shape));
  }
  return out;
}

inline List only_wanted(bool wanted, List list) {
  if (!wanted) {
    for (Tensor& t : list) t = without_elements(t);
  }
  return list;
}

}  // namespace fastgan
