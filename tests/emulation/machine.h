// The machine that runs a launch: blocks one after another, the threads of a block as fibers on one core.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "emulator.h"

namespace emulator {

enum class Schedule { sequential, reverse, random };

struct Settings {
  Schedule schedule = Schedule::sequential;  // of the blocks of a launch and of the ready threads of a block
  uint64_t seed = 0;
  int preempt = 0;  // n: also switch at about one in n memory accesses
  int64_t shared_memory = 99 * 1024;
  Mistake mistake = Mistake::none;
};
extern Settings settings;

// What a kernel did that CUDA does not allow.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Ends the launch with an Error that names the running thread and the place in the source.
[[noreturn]] void stop(const std::string& what, const void* site);
bool running();       // a thread of a kernel is
int thread_number();  // in its block
bool on_own_stack(const void* p);
bool on_another_stack(const void* p);
void maybe_preempt();
uint64_t random_number();

std::string to_string(uint3 index);
// "file:line", through inlined calls, outermost last.
std::string source_position(const void* site);

}  // namespace emulator
