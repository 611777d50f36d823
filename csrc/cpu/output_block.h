// Memory for the large outputs of one call, as one block. Fresh pages cost a memory-bound op the most: on a virtual
// machine a 4 KiB page fault takes as long as writing 40 KiB, malloc returns freed megabytes to the system, and torch's
// CPU allocator keeps nothing. So the outputs of a call on a list share a block of huge pages, and a large single
// output (empty_output) has its own block. A block goes to a small cache when the last tensor in it dies. Each output
// is a tensor with its own storage. torch's memory profiler does not see blocks; their bytes are counted here.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "common/checks.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

// Since torch 2.11; an older one leaves it null, and every output is allocated by torch.
extern "C" __attribute__((weak)) AOTITorchError torch_from_blob(void*, int64_t, const int64_t*, const int64_t*, int64_t,
                                                                int32_t, int32_t, int32_t, AtenTensorHandle*, int32_t,
                                                                const uint8_t*, int64_t, void (*)(void*, void*), void*);

namespace fastgan {

// An uninitialised contiguous tensor with the dtype of `like`. Straight to the allocator: torch::stable::new_empty goes
// through the dispatcher, which costs a small network's spectral norm as much as its arithmetic.
inline Tensor empty_on_cpu(const Tensor& like, IntHeaderOnlyArrayRef sizes) {
  std::vector<int64_t> strides(sizes.size());
  for (int64_t d = int64_t(sizes.size()) - 1, stride = 1; d >= 0; stride *= sizes[d--]) strides[d] = stride;
  int32_t dtype;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(sizes.size(), sizes.data(), strides.data(), dtype,
                                                         aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

class OutputBlock {
 public:
  // `bytes`: the sum of the outputs' room; too little to be worth a block is left to torch.
  explicit OutputBlock(size_t bytes) {
    if (bytes < kWorthABlock || !torch_from_blob) return;
    const size_t capacity = round_up(bytes, kHugePage);
    pages_ = take_cached(capacity);
    if (!pages_) pages_ = map(capacity);
    if (pages_) count(int64_t(capacity));
  }
  ~OutputBlock() {
    if (pages_) release(pages_);
  }
  OutputBlock(const OutputBlock&) = delete;

  // What a tensor like `like` takes of a block.
  static size_t room(const Tensor& like) { return round_up(like.numel() * like.element_size(), kAlignment); }

  // An uninitialised contiguous tensor like `like`.
  Tensor take(const Tensor& like) {
    if (!has_room(like)) return empty_on_cpu(like, like.sizes());
    std::vector<int64_t> strides(like.dim());
    for (int64_t d = like.dim() - 1, stride = 1; d >= 0; stride *= like.size(d--)) strides[d] = stride;
    return take(like, strides.data());
  }

  // One with the strides of `like`, which is dense.
  Tensor take_laid_out(const Tensor& like) {
    return has_room(like) ? take(like, like.strides().data()) : torch::stable::empty_like(like);
  }

  // The most bytes that blocks with a living tensor have had since the last call, which starts a new count.
  static int64_t peak_bytes() {
    Cache& c = cache();
    const std::lock_guard<std::mutex> lock(c.mutex);
    const int64_t peak = c.peak;
    c.peak = c.in_use;
    return peak;
  }

 private:
  bool has_room(const Tensor& like) const { return pages_ && used_ + room(like) <= pages_->capacity; }

  Tensor take(const Tensor& like, const int64_t* strides) {
    int32_t dtype;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
    AtenTensorHandle handle;
    pages_->users++;
    STABLE_TORCH_ERROR_CODE_CHECK(torch_from_blob(
        pages_->memory + used_, like.dim(), like.sizes().data(), strides, 0, dtype, aoti_torch_device_type_cpu(),
        /*no index*/ -1, &handle, aoti_torch_layout_strided(), nullptr, 0,
        [](void*, void* pages) { release(static_cast<Pages*>(pages)); }, pages_));
    used_ += room(like);
    return Tensor(handle);
  }

  static constexpr size_t kAlignment = 64, kHugePage = size_t(2) << 20, kWorthABlock = size_t(4) << 20;
  static constexpr size_t kCacheBytes = size_t(128) << 20;  // more is never kept

  struct Pages {
    char* memory;
    size_t capacity;
    std::atomic<int> users{1};
  };
  struct Cache {
    std::mutex mutex;
    std::vector<Pages*> free;  // oldest first
    size_t bytes = 0;
    int64_t in_use = 0, peak = 0;  // of blocks that are not here
  };

  static size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

  static Cache& cache() {
    static Cache* const cache = new Cache;  // never destroyed: tensors may outlive static objects
    return *cache;
  }

  static void count(int64_t bytes) {
    Cache& c = cache();
    const std::lock_guard<std::mutex> lock(c.mutex);
    c.in_use += bytes;
    c.peak = std::max(c.peak, c.in_use);
  }

  static Pages* take_cached(size_t capacity) {
    Cache& c = cache();
    const std::lock_guard<std::mutex> lock(c.mutex);
    for (size_t i = c.free.size(); i-- > 0;) {  // the latest first: it may still be in a processor's cache
      Pages* pages = c.free[i];
      if (pages->capacity != capacity) continue;
      c.free.erase(c.free.begin() + i);
      c.bytes -= capacity;
      pages->users = 1;
      return pages;
    }
    return nullptr;
  }

  static Pages* map(size_t capacity) {
    char* memory = static_cast<char*>(std::aligned_alloc(kHugePage, capacity));
    if (!memory) return nullptr;
#if defined(__linux__)
    (void)madvise(memory, capacity, MADV_HUGEPAGE);  // advice: a refusal changes nothing but time
#endif
    return new Pages{memory, capacity};
  }

  static void release(Pages* pages) {
    if (--pages->users > 0) return;
    Cache& c = cache();
    const std::lock_guard<std::mutex> lock(c.mutex);
    c.in_use -= pages->capacity;
    if (pages->capacity <= kCacheBytes) {
      c.free.push_back(pages);
      c.bytes += pages->capacity;
    } else {
      discard(pages);
    }
    for (; c.bytes > kCacheBytes; c.free.erase(c.free.begin())) {
      c.bytes -= c.free.front()->capacity;
      discard(c.free.front());
    }
  }

  static void discard(Pages* pages) {
    std::free(pages->memory);
    delete pages;
  }

  Pages* pages_ = nullptr;
  size_t used_ = 0;
};

// An uninitialised tensor like `like`, which is dense, with its strides.
inline Tensor empty_output(const Tensor& like) {
  OutputBlock block(OutputBlock::room(like));
  return block.take_laid_out(like);
}

}  // namespace fastgan
