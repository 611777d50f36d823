// 16 bytes of a tensor at a time: one load or store instruction if a row is aligned, element by element if not.
#pragma once

#include "common/types.h"  // accumulate_t
#include "cuda/device/gpu.h"

namespace fastgan {

template <class T, int N>
struct alignas(16) Vector {
  T at[N];
};

template <class T>
inline constexpr int pack_size = 16 / sizeof(T);
template <class T>
using Pack = Vector<T, pack_size<T>>;

// For packs that are always aligned and complete: in workspaces and in shared memory.
template <int N, class T>
__device__ __forceinline__ auto& vector_at(T* p) {
  using Aligned = std::conditional_t<std::is_const_v<T>, const Vector<std::remove_const_t<T>, N>, Vector<T, N>>;
  return *reinterpret_cast<Aligned*>(p);
}

// How a thread reads and writes a pack. A kernel checks once whether its rows are aligned, then loops.
template <bool aligned>
struct Access;

template <>
struct Access<true> {
  int64_t left;

  // For what no thread writes during the launch.
  template <class T>
  __device__ __forceinline__ Pack<T> load(const T* p) const {
    const uint4 bits = __ldg(reinterpret_cast<const uint4*>(p));
    Pack<T> pack;
    memcpy(&pack, &bits, 16);
    return pack;
  }
  template <class T>
  __device__ __forceinline__ void store(T* p, const Pack<T>& pack) const {
    uint4 bits;
    memcpy(&bits, &pack, 16);
    *reinterpret_cast<uint4*>(p) = bits;
  }
};

template <>
struct Access<false> {
  int64_t left;  // elements from here to the end of the row; beyond it a pack is zero

  template <class T>
  __device__ __forceinline__ Pack<T> load(const T* p) const {
    Pack<T> pack;
#pragma unroll
    for (int k = 0; k < pack_size<T>; k++) {
      pack.at[k] = k < left || GPU_PLANT(out_of_bounds) ? __ldg(p + k) : T(0.f);
    }
    return pack;
  }
  template <class T>
  __device__ __forceinline__ void store(T* p, const Pack<T>& pack) const {
#pragma unroll
    for (int k = 0; k < pack_size<T>; k++) {
      if (k < left) p[k] = pack.at[k];
    }
  }
};

// acc + a.b
template <class A, class X, class Y, int N>
__device__ __forceinline__ A dot(const Vector<X, N>& a, const Vector<Y, N>& b, A acc) {
#pragma unroll
  for (int k = 0; k < N; k++) acc += A(a.at[k]) * A(b.at[k]);
  return acc;
}

}  // namespace fastgan
