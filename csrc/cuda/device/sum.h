// Sums over threads in a fixed order: the same bits in every run. Nothing here is atomic.
#pragma once

#include "cuda/device/gpu.h"

namespace fastgan {

constexpr int kThreads = 256;     // of every block
constexpr int kBlocksAtOnce = 2;  // at least, on a multiprocessor: up to 128 registers for a thread
constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;

// Over aligned groups of `lanes` neighbours in a warp, a power of two; all 32 lanes call. Every lane gets its sum.
template <class A>
__device__ __forceinline__ A lane_sum(A x, int lanes) {
  for (int step = lanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

// Over the block; all its threads call. Every thread gets the sum.
template <class A>
__device__ __forceinline__ A block_sum(A x) {
  GPU_SHARED(A, warp_sums, kWarps);
  x = lane_sum(x, kWarp);
  __syncthreads();  // warp_sums of the sum before this one may still be in use
  if (threadIdx.x % kWarp == 0) warp_sums[threadIdx.x / kWarp] = x;
  __syncthreads();
  A total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; w++) total += warp_sums[w];
  return total;
}

// p[0] + p[stride] + ... + p[(count - 1) * stride], in every thread of the block.
template <class A>
__device__ __forceinline__ A sum_of(const A* p, int64_t count, int64_t stride = 1) {
  A x = 0;
#pragma unroll 1
  for (int64_t i = threadIdx.x; i < count; i += kThreads) x += p[i * stride];
  return block_sum(x);
}

}  // namespace fastgan
