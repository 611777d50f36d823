// What the compiler calls around every load and store of a file that is compiled with -fsanitize=thread. That library
// is not linked: its functions are here, and hand the access over to the checker.
#include <algorithm>
#include <cstring>

#include "memory.h"

#define SITE __builtin_return_address(0)

// A range element by element, as the device would copy it.
static void access_range(const void* p, size_t bytes, bool write, const void* site) {
  if (emulator::is_private(p, write)) return;
  for (size_t i = 0; i < bytes; i += 4) {
    emulator::access(static_cast<const char*>(p) + i, std::min<size_t>(4, bytes - i), write, site);
  }
}

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define ACCESS(bytes)                                                                     \
  void __tsan_read##bytes(void* p) { emulator::access(p, bytes, false, SITE); }           \
  void __tsan_write##bytes(void* p) { emulator::access(p, bytes, true, SITE); }           \
  void __tsan_unaligned_read##bytes(void* p) { emulator::access(p, bytes, false, SITE); } \
  void __tsan_unaligned_write##bytes(void* p) { emulator::access(p, bytes, true, SITE); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __tsan_read_range(void* p, size_t bytes) { access_range(p, bytes, false, SITE); }
void __tsan_write_range(void* p, size_t bytes) { access_range(p, bytes, true, SITE); }

void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  access_range(from, bytes, false, SITE);
  access_range(to, bytes, true, SITE);
  return memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, size_t bytes) {
  access_range(from, bytes, false, SITE);
  access_range(to, bytes, true, SITE);
  return memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, size_t bytes) {
  access_range(to, bytes, true, SITE);
  return memset(to, value, bytes);
}

// Host code that is compiled along counts references with these (shared_ptr); kernels have no std::atomic.
int __tsan_atomic32_fetch_add(volatile int* p, int value, int) {
  return __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST);
}
int __tsan_atomic32_fetch_sub(volatile int* p, int value, int) {
  return __atomic_fetch_sub(p, value, __ATOMIC_SEQ_CST);
}
int __tsan_atomic32_load(const volatile int* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
char __tsan_atomic8_load(const volatile char* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
}
