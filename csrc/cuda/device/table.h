// What a kernel knows about every layer of a network, so that one launch serves them all. A short list travels in the
// kernel's arguments, which hold 4 KiB on every device and driver; a longer one lies in device memory.
#pragma once

#include "cuda/device/gpu.h"

namespace fastgan {

template <class Layer>
struct Table {
  static constexpr int kInline = (4096 - 64) / sizeof(Layer);

  int count;
  const Layer* outside;  // null: the list is `inside`
  Layer inside[kInline];

  __device__ __forceinline__ const Layer& operator[](int i) const { return outside ? outside[i] : inside[i]; }

  // The layer that `block` works for: the last one whose first block (a member of Layer) is not after it.
  __device__ __forceinline__ const Layer& owner(int block, int Layer::* first) const {
    int low = 0, high = count - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if ((*this)[middle].*first <= block) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return (*this)[low];
  }
};

}  // namespace fastgan
