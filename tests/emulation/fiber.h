// A fiber: a stack of its own and a place to go on from. Every CUDA thread of a block is one.
#pragma once

#include <ucontext.h>

#include <cstddef>

namespace emulator {

struct Fiber {
  void* stack_pointer = nullptr;
  ucontext_t context;  // where the processor has no switch of ours
};

// True: ucontext even where there is a faster switch (a test of the fallback).
extern bool portable_fibers;

// Makes `fiber` start in `entry`, which must not return, on the given stack when it is switched to.
void prepare(Fiber& fiber, char* stack, size_t bytes, void (*entry)());
void switch_to(Fiber& from, Fiber& to);

}  // namespace emulator
