// CUDA C++ as a plain C++ compiler sees it in the emulator's build: what cuda/device/gpu.h includes instead of the
// runtime. The CUDA headers give the types (dim3, uint4, __half ...); this file gives what only a device has. It holds
// what the kernels of csrc/cuda use and no more: atomics, __syncwarp, cooperative groups, asynchronous copies and the
// matrix instructions have their place here when a kernel needs them, with their rules in machine.cpp and memory.cpp.
//
// What it cannot show: the text of inline PTX, weak memory ordering, fast-math and FMA rounding, bank conflicts, speed.
#pragma once

#include <cmath>
#include <cstring>
#include <exception>
#include <type_traits>

#undef __grid_constant__
#define __grid_constant__
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __forceinline__
#define __forceinline__ inline
#undef __shared__
#define __shared__ static_assert(false, "shared memory is declared with GPU_SHARED or GPU_DYNAMIC_SHARED");

namespace gpu {
enum class Role { input, output, workspace };
}

namespace emulator {

// ---------------------------------------------------------------- what a running thread can ask for

uint3 thread_index();
uint3 block_index();
dim3 block_size();
dim3 grid_size();
int lane();

void barrier(const void* site);
// Every lane of the warp gives `bytes` (at most 16) and gets lane `source`'s.
void exchange(const void* mine, void* theirs, size_t bytes, int source, unsigned mask, const void* site);
// A block's array, which belongs to the place in the source that `key` stands for; null: what the launch requested.
void* shared_memory(const void* key, size_t bytes, const char* name);

// Mistakes that the tests plant in the kernels.
enum class Mistake { none, missing_barrier, out_of_bounds, uninitialised_read };
bool planted(Mistake mistake);

// ---------------------------------------------------------------- what the host asks for

int64_t shared_memory_limit();
void declare(const void* p, size_t bytes, gpu::Role role, const char* name);
// Forgets all buffers; an output that no thread wrote in full is an error where `complete`.
void forget_buffers(bool complete);
// Every thread runs thread(argument).
void launch(const char* name, dim3 grid, dim3 block, size_t shared_bytes, void (*thread)(const void*),
            const void* argument);

#define EMULATOR_SITE __builtin_return_address(0)

}  // namespace emulator

#define GPU_LIBRARY fastgan_emulated
#define GPU_KEY CPU
#define GPU_IS_CUDA false

#define threadIdx (emulator::thread_index())
#define blockIdx (emulator::block_index())
#define blockDim (emulator::block_size())
#define gridDim (emulator::grid_size())

#define GPU_SHARED(T, name, count)  \
  static const char name##_key = 0; \
  T* const name = static_cast<T*>(emulator::shared_memory(&name##_key, sizeof(T) * (count), #name))
#define GPU_DYNAMIC_SHARED(name) \
  auto* const name = static_cast<unsigned char*>(emulator::shared_memory(nullptr, 0, #name))
#define GPU_PLANT(mistake) emulator::planted(emulator::Mistake::mistake)

// ---------------------------------------------------------------- device functions

__attribute__((noinline)) inline void __syncthreads() { emulator::barrier(EMULATOR_SITE); }

template <class T>
__attribute__((noinline)) T __shfl_xor_sync(unsigned mask, T value, int lanes_apart) {
  T theirs;
  emulator::exchange(&value, &theirs, sizeof(T), emulator::lane() ^ lanes_apart, mask, EMULATOR_SITE);
  return theirs;
}

template <class T>
inline T __ldg(const T* p) {
  return *p;
}

template <class A, class B>
inline auto min(A a, B b) {
  return b < a ? std::common_type_t<A, B>(b) : std::common_type_t<A, B>(a);
}

using std::sqrt;

// ---------------------------------------------------------------- gpu.h's host side

namespace gpu {

constexpr int kGap = 64;

struct Buffers {
  Buffers() { emulator::forget_buffers(false); }
  ~Buffers() noexcept(false) { emulator::forget_buffers(std::uncaught_exceptions() == 0); }
  void declare(const void* p, size_t bytes, Role role, const char* name) { emulator::declare(p, bytes, role, name); }
};

inline int64_t shared_memory_limit() { return emulator::shared_memory_limit(); }

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared_bytes,
            cudaStream_t, const Arguments&... arguments) {
  const auto thread = [&] { kernel(arguments...); };
  using Thread = decltype(thread);
  emulator::launch(
      name, dim3(unsigned(blocks)), dim3(threads), shared_bytes, [](const void* p) { (*static_cast<Thread*>(p))(); },
      &thread);
}

inline void upload(void* to, const void* from, size_t bytes, cudaStream_t) { std::memcpy(to, from, bytes); }

}  // namespace gpu
