#include "machine.h"

#include <sys/mman.h>

#include <algorithm>
#include <deque>
#include <memory>

#include "counters.h"
#include "fiber.h"
#include "memory.h"

namespace emulator {

Settings settings;
std::vector<Launch> launches;

namespace {

constexpr int kWarp = 32, kMostThreads = 1024;
constexpr size_t kStack = 64 * 1024;

enum class State { ready, at_barrier, in_exchange, returned };

struct Thread {
  Fiber fiber;
  uint3 index;
  int number;
  State state;
  const void* site;  // where it waits
};

// One exchange of a warp, and the one before it, which slow lanes may still be reading.
struct Warp {
  unsigned char values[2][kWarp][16];
  int generation, lanes, arrived;
};

struct Block {
  uint3 index;
  std::vector<Warp> warps;
  int threads, waiting;  // that have not returned, that are at the barrier
};

dim3 grid, block_shape;
void (*body)(const void*);
const void* argument;
std::vector<std::unique_ptr<Thread>> threads;  // kept from launch to launch
std::deque<Thread*> ready;
Block block;
Thread* current = nullptr;
Fiber scheduler;
std::string failure, kernel;
uint64_t random_state;

char* stacks() {
  static char* const memory = static_cast<char*>(
      mmap(nullptr, kMostThreads * kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return memory;
}

void suspend() {
  Thread* self = current;
  switch_to(self->fiber, scheduler);
}

void wake(Thread& thread) {
  thread.state = State::ready;
  ready.push_back(&thread);
}

template <class F>
void for_threads(State state, const F& f) {
  const int count = block_shape.x * block_shape.y * block_shape.z;
  for (int i = 0; i < count; i++) {
    if (threads[i]->state == state) f(*threads[i]);
  }
}

int count_threads(State state) {
  int count = 0;
  for_threads(state, [&](Thread&) { count++; });
  return count;
}

// All threads that have not returned are at the barrier.
void release_barrier() {
  const int returned = count_threads(State::returned);
  const Thread* first = nullptr;
  for_threads(State::at_barrier, [&](Thread& t) {
    if (!first) first = &t;
    if (t.site != first->site && source_position(t.site) != source_position(first->site)) {
      stop("barrier divergence: threads of one block wait at different __syncthreads(), the other " +
               source_position(t.site),
           first->site);
    }
  });
  if (returned) {
    stop("barrier divergence: __syncthreads() after " + std::to_string(returned) + " threads of the block returned",
         first->site);
  }
  memory_passes_barrier();
  for_threads(State::at_barrier, wake);
  block.waiting = 0;
}

void thread_main() {
  body(argument);
  current->state = State::returned;
  block.threads--;
  if (block.threads > 0 && block.waiting == block.threads) release_barrier();
  suspend();
  __builtin_unreachable();
}

Thread* next_ready() {
  if (settings.schedule == Schedule::random) std::swap(ready[random_number() % ready.size()], ready.front());
  Thread* thread = settings.schedule == Schedule::reverse ? ready.back() : ready.front();
  settings.schedule == Schedule::reverse ? ready.pop_back() : ready.pop_front();
  return thread;
}

void start_block(uint3 index) {
  const int count = block_shape.x * block_shape.y * block_shape.z;
  block.index = index;
  block.threads = count;
  block.waiting = 0;
  block.warps.assign((count + kWarp - 1) / kWarp, Warp{});
  memory_begins_block(index);
  ready.clear();
  for (int i = 0; i < count; i++) {
    if (int(threads.size()) == i) threads.push_back(std::make_unique<Thread>());
    Thread& thread = *threads[i];
    thread.number = i;
    thread.index = {i % block_shape.x, i / block_shape.x % block_shape.y, i / (block_shape.x * block_shape.y)};
    block.warps[i / kWarp].lanes++;
    prepare(thread.fiber, stacks() + i * kStack, kStack, thread_main);
    wake(thread);
  }
}

void run_block() {
  while (!ready.empty() && failure.empty()) {
    current = next_ready();
    switch_to(scheduler, current->fiber);
  }
  if (failure.empty() && block.threads > 0) {
    const int barrier = count_threads(State::at_barrier), exchange = count_threads(State::in_exchange);
    failure = "deadlock: " + std::to_string(barrier) + " threads wait at __syncthreads(), " + std::to_string(exchange) +
              " in a warp's exchange, " + std::to_string(count_threads(State::returned)) + " have returned";
    for_threads(exchange ? State::in_exchange : State::at_barrier, [&](Thread& t) { current = &t; });
    failure +=
        ", at " + source_position(current->site) + " [block " + to_string(block.index) + ", kernel " + kernel + "]";
  }
  current = nullptr;
}

std::vector<uint3> block_order() {
  std::vector<uint3> order;
  for (unsigned z = 0; z < grid.z; z++) {
    for (unsigned y = 0; y < grid.y; y++) {
      for (unsigned x = 0; x < grid.x; x++) order.push_back({x, y, z});
    }
  }
  if (settings.schedule == Schedule::reverse) std::reverse(order.begin(), order.end());
  if (settings.schedule == Schedule::random) {
    for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[random_number() % i]);
  }
  return order;
}

void check_configuration(size_t shared_bytes) {
  const uint64_t count = uint64_t(block_shape.x) * block_shape.y * block_shape.z;
  if (count == 0 || count > kMostThreads)
    throw Error("launch: blocks of 1 to 1024 threads, not " + std::to_string(count));
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > INT32_MAX || grid.y > 65535 || grid.z > 65535) {
    throw Error("launch: grid " + to_string({grid.x, grid.y, grid.z}));
  }
  if (int64_t(shared_bytes) > settings.shared_memory) {
    throw Error("launch: " + std::to_string(shared_bytes) + " bytes of shared memory, more than a block can have");
  }
}

}  // namespace

// ---------------------------------------------------------------- for the rest of the emulator

bool running() { return current != nullptr; }
int thread_number() { return current->number; }

bool on_own_stack(const void* p) {
  const char* own = stacks() + current->number * kStack;
  return p >= own && p < own + kStack;
}
bool on_another_stack(const void* p) { return p >= stacks() && p < stacks() + kMostThreads * kStack; }

uint64_t random_number() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

void maybe_preempt() {
  if (settings.preempt == 0 || random_number() % settings.preempt != 0) return;
  wake(*current);
  suspend();
}

void stop(const std::string& what, const void* site) {
  failure = what + ", at " + source_position(site) + " [thread " + to_string(current->index) + " of block " +
            to_string(block.index) + ", kernel " + kernel + "]";
  suspend();
  __builtin_unreachable();  // nobody wakes it
}

std::string to_string(uint3 index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
}

// ---------------------------------------------------------------- for kernels

uint3 thread_index() { return current->index; }
uint3 block_index() { return block.index; }
dim3 block_size() { return block_shape; }
dim3 grid_size() { return grid; }
int lane() { return current->number % kWarp; }
bool planted(Mistake mistake) { return settings.mistake == mistake; }

void barrier(const void* site) {
  current->state = State::at_barrier;
  current->site = site;
  block.waiting++;
  if (block.waiting == block.threads) release_barrier();
  suspend();
}

void exchange(const void* mine, void* theirs, size_t bytes, int source, unsigned mask, const void* site) {
  Warp& warp = block.warps[current->number / kWarp];
  if (mask != 0xffffffffu || warp.lanes != kWarp) stop("only exchanges of a whole warp of 32 are emulated", site);
  if (bytes > sizeof(warp.values[0][0])) stop("exchange of more than 16 bytes", site);
  auto& values = warp.values[warp.generation % 2];
  std::memcpy(values[lane()], mine, bytes);
  current->site = site;
  if (++warp.arrived == kWarp) {
    warp.arrived = 0;
    warp.generation++;
    const int first = current->number / kWarp * kWarp;
    for (int i = first; i < first + kWarp; i++) {
      if (threads[i]->state == State::in_exchange) wake(*threads[i]);
    }
  } else {
    current->state = State::in_exchange;
    suspend();
  }
  std::memcpy(theirs, values[source], bytes);
}

// ---------------------------------------------------------------- for the host

int64_t shared_memory_limit() { return settings.shared_memory; }

void launch(const char* name, dim3 blocks, dim3 block_threads, size_t shared_bytes, void (*thread)(const void*),
            const void* of_thread) {
  grid = blocks;
  block_shape = block_threads;
  body = thread;
  argument = of_thread;
  kernel = name;
  failure.clear();
  random_state = (settings.seed + 1) * 0x9E3779B97F4A7C15ull;
  check_configuration(shared_bytes);
  memory_begins_launch(shared_bytes);
  for (uint3 index : block_order()) {
    start_block(index);
    run_block();
    if (!failure.empty()) break;
  }
  launches.push_back({name, blocks.x * blocks.y * blocks.z, shared_bytes, memory_ends_launch()});
  if (!failure.empty()) throw Error(failure);
}

}  // namespace emulator
