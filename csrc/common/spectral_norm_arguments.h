// The checked arguments of the spectral norm's ops, for the entries of the CPU and of the GPU. Every argument is a list
// with one tensor for each weight (R, ...), which is read as a matrix (R, C).
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
    STD_TORCH_CHECK(w.dim() >= 2, op, ": weights[", i, "] has shape ", text_of(w.sizes()),
                    "; it must have at least two dimensions");
    STD_TORCH_CHECK(w.numel() > 0, op, ": weights[", i, "] has shape ", text_of(w.sizes()), "; it must have elements");
    STD_TORCH_CHECK(list[i].get_device_index() == first.get_device_index(), op, ": ", name, "[", i,
                    "] must be on the device of weights[0]");
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

inline void check_iteration(const char* op, int64_t n_power_iterations, double eps) {
  STD_TORCH_CHECK(n_power_iterations > 0, op, ": n_power_iterations is ", n_power_iterations, "; it must be positive");
  STD_TORCH_CHECK(eps >= 0, op, ": eps is ", eps, "; it must not be negative");
}

// What every op of the family takes: W (R, ...), u (R,), v (C,) of each layer.
struct SpectralNormArguments {
  List weights, us, vs;

  SpectralNormArguments(const char* op, const List& weights_in, const List& us_in, const List& vs_in, bool cuda)
      : weights(checked_list(op, "weights", weights_in, weights_in, Kind::weight, cuda)),
        us(checked_list(op, "us", us_in, weights, Kind::row_vector, cuda)),
        vs(checked_list(op, "vs", vs_in, weights, Kind::col_vector, cuda)) {}

  ScalarType dtype() const { return weights[0].scalar_type(); }  // the list must not be empty
};

// What both derivatives take beside these: G (R, ...) and sigma () of each layer.
struct SpectralNormDerivativeArguments : SpectralNormArguments {
  List grads, sigmas;

  SpectralNormDerivativeArguments(const char* op, const List& grads_in, const List& weights_in, const List& sigmas_in,
                                  const List& us_in, const List& vs_in, bool cuda)
      : SpectralNormArguments(op, weights_in, us_in, vs_in, cuda),
        grads(checked_list(op, "grads", grads_in, weights, Kind::weight, cuda)),
        sigmas(checked_list(op, "sigmas", sigmas_in, weights, Kind::scalar, cuda)) {}
};

}  // namespace fastgan
