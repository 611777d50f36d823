// The memory of the machine: who may touch what, in which order, and how much of it was touched.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "machine.h"

namespace emulator {

void memory_begins_launch(size_t shared_bytes);
void memory_begins_block(uint3 block);
void memory_passes_barrier();

struct Traffic {
  uint64_t read = 0, written = 0;  // bytes requested from global memory, cached or not
};
// Of the launch that ends here, by the buffers' names.
std::map<std::string, Traffic> memory_ends_launch();

// No other thread can touch it: the thread's own variables, and the arguments of the kernel, on the host's stack.
bool is_private(const void* p, bool write);

// Every load and store of a kernel comes through here.
void access(const void* p, size_t bytes, bool write, const void* site);

}  // namespace emulator
