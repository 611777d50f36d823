// Two accesses of one place by different threads, one of them a write, must be ordered by a __syncthreads() between
// them; threads of different blocks cannot order theirs within a launch at all. Time is one counter that steps at every
// barrier, block and launch, so that a number says which of these an access belongs to: blocks run one after another.
// Neither shuffles nor the order in which the fibers happened to run order memory: what is reported does not depend on
// the schedule.
#include "memory.h"

#include <pthread.h>

#include <cstdlib>
#include <memory>

namespace emulator {

namespace {

constexpr uint16_t kSeveral = 0xffff;  // readers

// The past of a few bytes: the last write, the first read of the launch, the last read. Time 0: never.
struct Cell {
  uint32_t written = 0, first_read = 0, read = 0;
  uint16_t writer = 0, reader = 0;
};

enum class Kind { input, output, workspace, shared };

struct Buffer {
  char* begin;
  size_t bytes;
  Kind kind;
  std::string name;
  size_t grain = 4;  // bytes of a cell: as fine as the finest access so far
  std::vector<Cell> cells = {};
  Traffic traffic = {};

  bool holds(const char* p) const { return p >= begin && p < begin + bytes; }
};

struct BlockStart {
  uint32_t time;
  uint3 block;
};

std::map<const char*, Buffer> buffers;                     // by where they begin
Buffer* last_found = nullptr;                              // the next access is often beside the last
std::map<const void*, std::unique_ptr<char[]>> shared_of;  // of the running launch, by declaration
uint32_t now = 0, launch_start = 0, block_start = 0;
std::vector<BlockStart> history;  // of the running launch

std::string quoted(const std::string& name) { return "`" + name + "`"; }

std::string who(uint32_t time, uint16_t thread) {
  uint3 block = history.front().block;
  for (const BlockStart& start : history) {
    if (start.time <= time) block = start.block;
  }
  const std::string number = thread == kSeveral ? "several threads" : "thread " + std::to_string(thread);
  return number + " of block " + to_string(block);
}

// ---------------------------------------------------------------- finding the buffer

bool on_host_stack(const char* p) {
  static char* begin = nullptr;
  static size_t bytes = 0;
  static pthread_t of = 0;
  if (!begin || of != pthread_self()) {
    pthread_attr_t attributes;
    of = pthread_self();
    pthread_getattr_np(of, &attributes);
    pthread_attr_getstack(&attributes, reinterpret_cast<void**>(&begin), &bytes);
    pthread_attr_destroy(&attributes);
  }
  return p >= begin && p < begin + bytes;
}

Buffer* find(const char* p) {
  if (last_found && last_found->holds(p)) return last_found;
  const auto after = buffers.upper_bound(p);
  if (after == buffers.begin()) return nullptr;
  last_found = &std::prev(after)->second;
  return last_found->holds(p) ? last_found : nullptr;
}

// Where p is, in words, if it is in no buffer.
std::string beside(const char* p) {
  constexpr int64_t kNear = 4096;
  auto after = buffers.upper_bound(p);
  const Buffer* right = after == buffers.end() ? nullptr : &after->second;
  const Buffer* left = after == buffers.begin() ? nullptr : &std::prev(after)->second;
  const int64_t past = left ? p - (left->begin + left->bytes) : kNear, before = right ? right->begin - p : kNear;
  if (past < kNear && past <= before) {
    return std::to_string(past) + " bytes past the end of " + quoted(left->name) + ", which has " +
           std::to_string(left->bytes);
  }
  if (before < kNear) return std::to_string(before) + " bytes before " + quoted(right->name);
  return "far from all buffers";
}

// ---------------------------------------------------------------- the order of accesses

void refine(Buffer& buffer, size_t grain) {
  std::vector<Cell> finer(buffer.bytes / grain + 1);
  for (size_t i = 0; i < finer.size(); i++) {
    const size_t coarse = i * grain / buffer.grain;
    if (coarse < buffer.cells.size()) finer[i] = buffer.cells[coarse];
  }
  buffer.cells.swap(finer);
  buffer.grain = grain;
}

// What a shared array held in an earlier block is nothing to this one; what a buffer held before the launch is.
uint32_t horizon(const Buffer& buffer) { return buffer.kind == Kind::shared ? block_start : launch_start; }

bool initialised(const Buffer& buffer, const Cell& cell) {
  if (buffer.kind == Kind::input) return true;
  return buffer.kind == Kind::shared ? cell.written >= block_start : cell.written > 0;
}

bool in_another_block(const Buffer& buffer, uint32_t time) { return time >= horizon(buffer) && time < block_start; }

void check_order(const Buffer& buffer, const Cell& cell, bool write, uint16_t thread, const void* site) {
  const char* access = write ? "write to " : "read of ";
  if (in_another_block(buffer, cell.written) || (cell.written == now && cell.writer != thread)) {
    stop(std::string("race: ") + access + quoted(buffer.name) + ", written by " + who(cell.written, cell.writer) +
             " without a barrier between them",
         site);
  }
  if (!write) return;
  const bool read_elsewhere = in_another_block(buffer, cell.first_read);
  if (read_elsewhere || (cell.read == now && cell.reader != thread)) {
    stop("race: write to " + quoted(buffer.name) + ", read by " +
             (read_elsewhere ? who(cell.first_read, kSeveral) : who(cell.read, cell.reader)) +
             " without a barrier between them",
         site);
  }
}

void remember(const Buffer& buffer, Cell& cell, bool write, uint16_t thread) {
  if (write) {
    cell = {now, 0, 0, thread, 0};
    return;
  }
  if (cell.first_read < horizon(buffer)) cell.first_read = now;
  cell.reader = cell.read == now && cell.reader != thread ? kSeveral : thread;
  cell.read = now;
}

}  // namespace

bool is_private(const void* p, bool write) {
  return !running() || on_own_stack(p) || (!write && on_host_stack(static_cast<const char*>(p)));
}

void access(const void* address, size_t bytes, bool write, const void* site) {
  if (is_private(address, write)) return;
  const auto p = static_cast<const char*>(address);
  const auto what = [&] { return (write ? "write of " : "read of ") + std::to_string(bytes) + " bytes"; };
  if (on_another_stack(p)) stop(what() + " on another thread's stack", site);
  maybe_preempt();

  Buffer* buffer = find(p);
  if (!buffer) stop("out of bounds: " + what() + " " + beside(p), site);
  if (!buffer->holds(p + bytes - 1))
    stop("out of bounds: " + what() + " across the end of " + quoted(buffer->name), site);
  if (write && buffer->kind == Kind::input) stop("write to the input " + quoted(buffer->name), site);
  const bool power = (bytes & (bytes - 1)) == 0;
  if (power && reinterpret_cast<uintptr_t>(p) % bytes)
    stop("misaligned " + what() + " of " + quoted(buffer->name), site);

  if (buffer->cells.empty()) buffer->cells.resize(buffer->bytes / buffer->grain + 1);
  const size_t offset = p - buffer->begin, finest = offset | bytes;
  while (finest % buffer->grain) refine(*buffer, buffer->grain / 2);
  const uint16_t thread = thread_number();
  for (size_t i = offset / buffer->grain; i < (offset + bytes) / buffer->grain; i++) {
    Cell& cell = buffer->cells[i];
    if (!write && !initialised(*buffer, cell)) stop("uninitialised read of " + quoted(buffer->name), site);
    check_order(*buffer, cell, write, thread, site);
    remember(*buffer, cell, write, thread);
  }
  (write ? buffer->traffic.written : buffer->traffic.read) += bytes;
}

// ---------------------------------------------------------------- buffers and time

static void add_buffer(const void* p, size_t bytes, Kind kind, const char* name) {
  if (bytes == 0) return;
  auto* begin = static_cast<char*>(const_cast<void*>(p));
  const auto known = buffers.find(begin);
  if (known != buffers.end() && known->second.bytes >= bytes) return;  // one tensor in two places of a list
  buffers[begin] = {begin, bytes, kind, name};
  if (kind != Kind::input) memset(begin, 0xff, bytes);  // NaN
}

void declare(const void* p, size_t bytes, gpu::Role role, const char* name) {
  add_buffer(p, bytes,
             role == gpu::Role::input    ? Kind::input
             : role == gpu::Role::output ? Kind::output
                                         : Kind::workspace,
             name);
}

void forget_buffers(bool complete) {
  std::map<const char*, Buffer> old;
  old.swap(buffers);
  last_found = nullptr;
  if (!complete) return;
  for (const auto& [begin, buffer] : old) {
    if (buffer.kind != Kind::output) continue;
    for (size_t i = 0; i < buffer.bytes / buffer.grain; i++) {
      if (buffer.cells.empty() || buffer.cells[i].written == 0) {
        throw Error("unwritten output: byte " + std::to_string(i * buffer.grain) + " of " + quoted(buffer.name));
      }
    }
  }
}

void* shared_memory(const void* key, size_t bytes, const char* name) {
  static char nothing;  // for a launch that requested none and uses none
  if (!key && !shared_of.count(key)) return &nothing;
  std::unique_ptr<char[]>& array = shared_of[key];
  if (!array) {
    array.reset(new char[bytes]);
    add_buffer(array.get(), bytes, Kind::shared, name);
  }
  return array.get();
}

void memory_begins_launch(size_t shared_bytes) {
  launch_start = ++now;
  history.clear();
  if (shared_bytes == 0) return;
  std::unique_ptr<char[]>& array = shared_of[nullptr];
  array.reset(new char[shared_bytes]);
  add_buffer(array.get(), shared_bytes, Kind::shared, "dynamic shared memory");
}

void memory_begins_block(uint3 block) {
  block_start = ++now;
  history.push_back({now, block});
}

void memory_passes_barrier() { ++now; }

std::map<std::string, Traffic> memory_ends_launch() {
  std::map<std::string, Traffic> total;
  for (auto& [begin, buffer] : buffers) {
    if (buffer.kind == Kind::shared || buffer.traffic.read + buffer.traffic.written == 0) continue;
    total[buffer.name].read += buffer.traffic.read;
    total[buffer.name].written += buffer.traffic.written;
    buffer.traffic = {};
  }
  last_found = nullptr;
  for (const auto& [key, array] : shared_of) buffers.erase(array.get());
  shared_of.clear();
  return total;
}

}  // namespace emulator
