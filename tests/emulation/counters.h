// What every launch so far did: the nearest thing to a profiler that there is without a GPU.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "memory.h"

namespace emulator {

struct Launch {
  std::string kernel;
  uint64_t blocks, shared_bytes;
  std::map<std::string, Traffic> traffic;
};
extern std::vector<Launch> launches;

}  // namespace emulator
