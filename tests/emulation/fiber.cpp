#include "fiber.h"

#include <cstdint>

namespace emulator {

bool portable_fibers = false;

#if defined(__x86_64__)

// Saves the registers that a call must preserve on the old stack and takes them from the new one: 14 instructions,
// where swapcontext enters the kernel twice. Floating-point control words are the same in all fibers.
extern "C" void emulator_switch_stack(void** save, void* load);
asm(R"(
.text
.globl emulator_switch_stack
.hidden emulator_switch_stack
.type emulator_switch_stack, @function
emulator_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch_stack, .-emulator_switch_stack
)");

static void prepare_stack(Fiber& fiber, char* stack, size_t bytes, void (*entry)()) {
  constexpr int saved_registers = 6;
  auto top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t(15));
  *--top = nullptr;  // entry's return address; with it the stack is aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < saved_registers; i++) *--top = nullptr;
  fiber.stack_pointer = top;
}

static void switch_stack(Fiber& from, Fiber& to) { emulator_switch_stack(&from.stack_pointer, to.stack_pointer); }

#else

static void prepare_stack(Fiber&, char*, size_t, void (*)()) {}
static void switch_stack(Fiber&, Fiber&) {}

#endif

static bool portable() {
#if defined(__x86_64__)
  return portable_fibers;
#else
  return true;
#endif
}

void prepare(Fiber& fiber, char* stack, size_t bytes, void (*entry)()) {
  if (!portable()) return prepare_stack(fiber, stack, bytes, entry);
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
}

void switch_to(Fiber& from, Fiber& to) {
  if (portable()) {
    swapcontext(&from.context, &to.context);
  } else {
    switch_stack(from, to);
  }
}

}  // namespace emulator
