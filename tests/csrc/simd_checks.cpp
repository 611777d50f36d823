// Runs the CPU kernels' vector layer without torch, so that any compiler and processor (or emulator) can check it.
// Exit code 0 and a line per instruction set that this processor has.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

static double half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double value = exponent == 31 ? (fraction ? NAN : INFINITY)
                 : exponent     ? std::ldexp(1024 + fraction, exponent - 25)
                                : std::ldexp(fraction, -24);
  return bits & 0x8000 ? -value : value;
}

static double bfloat16_value(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

static bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

static int failures = 0;
static void expect(bool right, const char* isa, const char* what, double detail) {
  if (!right && failures++ < 20) std::printf("%s: %s (%g)\n", isa, what, detail);
}

#define FASTGAN_KERNELS "simd_checks.h"
#include "cpu/simd/each_isa.h"

int main() {
  using fastgan::Isa;
  fastgan::baseline::check("baseline");
#if defined(__x86_64__)
  if (fastgan::detect_isa() >= Isa::avx2) fastgan::avx2::check("avx2");
  if (fastgan::detect_isa() >= Isa::avx512) fastgan::avx512::check("avx512");
#endif
  return failures != 0;
}
