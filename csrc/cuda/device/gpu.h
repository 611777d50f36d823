// What runs fastgan's kernels: the CUDA runtime under nvcc, or, under a plain C++ compiler with -DGPU_EMU, the emulator
// of tests/emulation. The emulator runs every thread of the same source and checks every access. The sources know it by
// the macros below only, and no other file names GPU_EMU.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#ifdef GPU_EMU
#include "emulator.h"
#else

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

// Which library an op's GPU implementation is registered with, STABLE_TORCH_LIBRARY_IMPL(GPU_LIBRARY, GPU_KEY, m), and
// whether its tensors are CUDA's. The emulator has the implementations beside the ops themselves, on CPU tensors.
#define GPU_LIBRARY fastgan
#define GPU_KEY CUDA
#define GPU_IS_CUDA true

// `T name[count]` in the shared memory of a block.
#define GPU_SHARED(T, name, count) __shared__ __align__(16) T name[count]
// The dynamic shared memory of the launch, as bytes.
#define GPU_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
// The emulator's tests plant mistakes with it. Here it is a constant.
#define GPU_PLANT(mistake) false

namespace gpu {

enum class Role { input, output, workspace };
// Which bytes an op's kernels may touch, and how. Only the emulator checks it.
struct Buffers {
  void declare(const void*, size_t, Role, const char*) {}
};
constexpr int kGap = 0;  // bytes between two arrays of a workspace

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// The dynamic shared memory that a block can have, less a margin for its static arrays.
inline int64_t shared_memory_limit() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "cudaDeviceGetAttribute");
  return bytes - 1024;
}

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared_bytes,
            cudaStream_t stream, const Arguments&... arguments) {
  if (shared_bytes > 40 * 1024) {  // 48 KiB with the static arrays; more needs an attribute
    const auto more = cudaFuncAttributeMaxDynamicSharedMemorySize;
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), more, int(shared_bytes)), name);
  }
  cudaLaunchConfig_t shape = {};
  shape.gridDim = dim3(unsigned(blocks));
  shape.blockDim = dim3(threads);
  shape.dynamicSmemBytes = shared_bytes;
  shape.stream = stream;
  check(cudaLaunchKernelEx(&shape, kernel, arguments...), name);
}

// The graph that `stream` is being captured into, or null.
inline cudaGraph_t capturing_graph(cudaStream_t stream) {
  cudaStreamCaptureStatus status;
  unsigned long long id = 0;
  cudaGraph_t graph = nullptr;
#if CUDART_VERSION >= 13000
  check(cudaStreamGetCaptureInfo(stream, &status, &id, &graph, nullptr, nullptr, nullptr), "cudaStreamGetCaptureInfo");
#else
  check(cudaStreamGetCaptureInfo_v2(stream, &status, &id, &graph, nullptr, nullptr), "cudaStreamGetCaptureInfo");
#endif
  return status == cudaStreamCaptureStatusActive ? graph : nullptr;
}

// Copies a table from pageable host memory without waiting for the GPU: the driver has taken the bytes when
// cudaMemcpyAsync returns. A captured copy reads them at every replay instead, so the graph is given its own.
inline void upload(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  if (cudaGraph_t graph = capturing_graph(stream)) {
    void* kept = std::malloc(bytes);
    if (!kept) throw std::bad_alloc();
    std::memcpy(kept, from, bytes);
    cudaUserObject_t owner;
    check(cudaUserObjectCreate(&owner, kept, std::free, 1, cudaUserObjectNoDestructorSync), "cudaUserObjectCreate");
    check(cudaGraphRetainUserObject(graph, owner, 1, cudaGraphUserObjectMove), "cudaGraphRetainUserObject");
    from = kept;
  }
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
}

}  // namespace gpu
#endif
