// The host side of a GPU op: the device and stream of its tensors, the bytes that its kernels use, and its launches.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "common/checks.h"
#include "common/dispatch.h"
#include "cuda/device/gpu.h"
#include "cuda/device/table.h"

namespace fastgan {

// From the storage types of common/types.h to CUDA's.
template <class T>
using gpu_t = std::conditional_t<std::is_same_v<T, Half>, __half,
                                 std::conditional_t<std::is_same_v<T, BFloat16>, __nv_bfloat16, T>>;

class LaunchContext {
 public:
#if GPU_IS_CUDA
  explicit LaunchContext(const Tensor& like) : like_(like), guard_(like.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(like.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }
#else
  explicit LaunchContext(const Tensor& like) : like_(like) {}
#endif

  template <class T>
  const T* input(const Tensor& t, const char* name) {
    const void* p = t.const_data_ptr();
    buffers_.declare(p, t.numel() * sizeof(T), gpu::Role::input, name);
    return static_cast<const T*>(p);
  }

  template <class T>
  T* output(const Tensor& t, const char* name) {
    void* p = t.mutable_data_ptr();
    buffers_.declare(p, t.numel() * sizeof(T), gpu::Role::output, name);
    return static_cast<T*>(p);
  }

  // Arrays in one allocation that lives as long as this object: `arrange(take)` is called twice, to measure and to
  // place, and takes its arrays with take(A{}, count, name).
  template <class Arrange>
  void workspace(const Arrange& arrange) {
    int64_t bytes = 0;
    arrange([&](auto tag, int64_t count, const char* name) {
      bytes += padded(checked_product(name, {count, int64_t(sizeof(tag)), 2}) / 2);
      STD_TORCH_CHECK(bytes < kMostBytes, name,
                      ": the size of the scratch memory does not fit into 64 bits; use smaller tensors");
      return static_cast<decltype(tag)*>(nullptr);
    });
    auto* next = static_cast<unsigned char*>(allocate(bytes));
    arrange([&](auto tag, int64_t count, const char* name) {
      buffers_.declare(next, count * sizeof(tag), gpu::Role::workspace, name);
      auto* p = reinterpret_cast<decltype(tag)*>(next);
      next += padded(count * sizeof(tag));
      return p;
    });
  }

  template <class Layer>
  Table<Layer> table(const std::vector<Layer>& layers) {
    Table<Layer> table;
    table.count = layers.size();
    table.outside = nullptr;
    if (table.count <= Table<Layer>::kInline) {
      std::copy(layers.begin(), layers.end(), table.inside);
    } else {
      const size_t bytes = layers.size() * sizeof(Layer);
      void* outside = allocate(bytes);
      buffers_.declare(outside, bytes, gpu::Role::input, "layers");
      gpu::upload(outside, layers.data(), bytes, stream_);
      table.outside = static_cast<const Layer*>(outside);
    }
    return table;
  }

  template <class Kernel, class... Arguments>
  void launch(const char* name, Kernel kernel, int64_t blocks, int threads, size_t shared_bytes,
              const Arguments&... arguments) {
    STD_TORCH_CHECK(blocks <= INT32_MAX, name, ": a launch has at most 2^31 - 1 blocks, and the tensors need ", blocks);
    gpu::launch(name, kernel, blocks, threads, shared_bytes, stream_, arguments...);
  }

 private:
  static constexpr int64_t kMostBytes = int64_t(1) << 62;

  // Arrays start on 16 bytes. With a gap between them the emulator sees an access beyond the end of an array.
  static int64_t padded(int64_t bytes) { return (bytes + 15) / 16 * 16 + gpu::kGap; }

  void* allocate(int64_t bytes) {
    using torch::headeronly::ScalarType;
    memory_.push_back(torch::stable::new_empty(like_, {bytes}, ScalarType::Byte));
    return memory_.back().mutable_data_ptr();
  }

  Tensor like_;
  gpu::Buffers buffers_;
  std::vector<Tensor> memory_;  // torch reuses it in the stream's order
  cudaStream_t stream_ = nullptr;
#if GPU_IS_CUDA
  torch::stable::accelerator::DeviceGuard guard_;
#endif
};

}  // namespace fastgan
