#pragma once

#include <string>
#include <vector>

namespace emulator {

// Runs a small kernel with a mistake that the kernels of csrc/cuda have no place for, or throws std::out_of_range.
void run_planted(const std::string& name);

}  // namespace emulator
