// The storage types of half precision, what each type accumulates in, and the standard headers that cpu/simd/vectors.h
// needs: that file is compiled inside a namespace, once per instruction set, and cannot include them itself.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

namespace fastgan {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// fp16, bf16 and fp32 accumulate in fp32; fp64 in fp64.
template <class T>
using accumulate_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

}  // namespace fastgan
