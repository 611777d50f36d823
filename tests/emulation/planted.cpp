// Small kernels with one mistake each: what the checker has to find beside the mistakes planted in the real kernels.
#include "planted.h"

#include <map>

#include "cuda/device/pack.h"
#include "cuda/device/sum.h"

namespace emulator {

namespace {

using Kernel = void (*)(float* x, float* y, const float* input);
constexpr int kBlocks = 4, kElements = kBlocks * fastgan::kThreads;

__global__ void correct(float* x, float* y, const float* input) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = x[i] = input[i];
}

// Blocks hand over within a launch, which nothing orders.
__global__ void hand_over(float* x, float* y, const float* input) {
  correct(x, y, input);
  __syncthreads();
  y[blockIdx.x * blockDim.x + threadIdx.x] = x[threadIdx.x];
}

__global__ void every_block_writes(float* x, float* y, const float* input) {
  correct(x, y, input);
  if (threadIdx.x == 0) y[0] = 0;
}

__global__ void diverging_barriers(float* x, float* y, const float* input) {
  correct(x, y, input);
  if (threadIdx.x % 2) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void returns_before_barrier(float* x, float* y, const float* input) {
  correct(x, y, input);
  if (threadIdx.x == 7) return;
  __syncthreads();
}

__global__ void half_a_warp_exchanges(float* x, float* y, const float* input) {
  correct(x, y, input);
  if (threadIdx.x % 32 < 16) y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.f, 8);
}

// A shuffle passes values; memory it does not order.
__global__ void shuffle_as_barrier(float* x, float* y, const float* input) {
  GPU_SHARED(float, tile, 32);
  correct(x, y, input);
  if (threadIdx.x >= 32) return;
  tile[threadIdx.x] = 0;
  if (__shfl_xor_sync(0xffffffffu, 1.f, 1) == 1) tile[31 - threadIdx.x] = 1;
}

__global__ void misaligned_pack(float* x, float* y, const float* input) {
  correct(x, y, input);
  __syncthreads();
  if (threadIdx.x == 0) fastgan::vector_at<4>(y + blockIdx.x * blockDim.x) = fastgan::vector_at<4>(input + 1);
}

__global__ void writes_input(float* x, float* y, const float* input) {
  correct(x, y, input);
  const_cast<float*>(input)[threadIdx.x] = 0;
}

__global__ void past_shared_array(float* x, float* y, const float* input) {
  GPU_SHARED(float, tile, 8);
  correct(x, y, input);
  if (threadIdx.x == 0) tile[8] = 0;
}

__global__ void shared_from_last_block(float* x, float* y, const float* input) {
  GPU_SHARED(float, tile, fastgan::kThreads);
  correct(x, y, input);
  if (blockIdx.x == 0) tile[threadIdx.x] = 0;
  y[blockIdx.x * blockDim.x + threadIdx.x] = tile[threadIdx.x];
}

__global__ void unwritten_output(float* x, float*, const float* input) {
  x[blockIdx.x * blockDim.x + threadIdx.x] = input[0];
}

const std::map<std::string, Kernel> kernels = {
    {"correct", correct},
    {"hand_over", hand_over},
    {"every_block_writes", every_block_writes},
    {"diverging_barriers", diverging_barriers},
    {"returns_before_barrier", returns_before_barrier},
    {"half_a_warp_exchanges", half_a_warp_exchanges},
    {"shuffle_as_barrier", shuffle_as_barrier},
    {"misaligned_pack", misaligned_pack},
    {"writes_input", writes_input},
    {"past_shared_array", past_shared_array},
    {"shared_from_last_block", shared_from_last_block},
    {"unwritten_output", unwritten_output},
};

}  // namespace

void run_planted(const std::string& name) {
  const Kernel kernel = kernels.at(name);
  std::vector<float> x(kElements), y(kElements), input(kElements);
  gpu::Buffers buffers;
  buffers.declare(x.data(), kElements * sizeof(float), gpu::Role::workspace, "x");
  buffers.declare(y.data(), kElements * sizeof(float), gpu::Role::output, "y");
  buffers.declare(input.data(), kElements * sizeof(float), gpu::Role::input, "input");
  gpu::launch(name.c_str(), kernel, kBlocks, fastgan::kThreads, 0, nullptr, x.data(), y.data(), input.data());
}

}  // namespace emulator
