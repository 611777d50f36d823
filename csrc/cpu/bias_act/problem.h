// What the kernels of bias_act take: an activation's code, its numbers, and a series of segments.
#pragma once

#include <cstdint>

namespace fastgan {

// The codes of fastgan.ops.bias_act.ACTIVATIONS. A new activation gets a code here and its formulas in kernels.h.
enum Activation {
  kLinear = 0,
  kRelu = 1,
  kLeakyRelu = 2,
  kSilu = 3,
  kGelu = 4,
  kSoftplus = 5,
  kSigmoid = 6,
  kTanh = 7,
  kElu = 8,
  kActivations  // how many there are
};

// Whether act'(z) follows from u = act(z), which the next layer keeps anyway.
constexpr bool derives_from_output(int64_t act) {
  return act == kLinear || act == kRelu || act == kSigmoid || act == kTanh;
}

template <class A>
struct ActParameters {
  A alpha, gain, inverse_gain, clamp;
  bool clamped, from_output;
};

// `count` segments of n contiguous elements, one behind the other.
struct Segments {
  int64_t n, count;
  bool rows;                      // a bias for every element of a segment, else one for all of them:
  int64_t first, per_channel, C;  // that of the channel of segment `first + r`

  int64_t channel(int64_t r) const { return (first + r) / per_channel % C; }
};

}  // namespace fastgan
