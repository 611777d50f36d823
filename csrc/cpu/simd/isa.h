// Which instruction set the CPU kernels of this process use. One binary carries three versions of every kernel
// (each_isa.h); the best one that the processor has is chosen once. FASTGAN_ISA=baseline|avx2|avx512 chooses a
// lower one.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fastgan {

enum class Isa { baseline, avx2, avx512 };

inline const char* isa_name(Isa isa) { return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "baseline"; }

inline Isa detect_isa() {
  Isa best = Isa::baseline;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    best = Isa::avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      best = Isa::avx512;
    }
  }
#endif
  const char* wanted = std::getenv("FASTGAN_ISA");
  if (!wanted || !*wanted) return best;
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (std::strcmp(wanted, isa_name(isa)) == 0 && isa <= best) return isa;
  }
  std::fprintf(stderr, "fastgan: FASTGAN_ISA=%s is not an instruction set of this processor; using %s\n", wanted,
               isa_name(best));
  return best;
}

inline Isa isa() {
  static const Isa chosen = detect_isa();
  return chosen;
}

}  // namespace fastgan

// FASTGAN_CALL(kernel<T>)(args...) calls the chosen version of a kernel that each_isa.h has compiled.
#if defined(__x86_64__)
#define FASTGAN_CALL(...)                                                      \
  (::fastgan::isa() == ::fastgan::Isa::avx512 ? ::fastgan::avx512::__VA_ARGS__ \
   : ::fastgan::isa() == ::fastgan::Isa::avx2 ? ::fastgan::avx2::__VA_ARGS__   \
                                              : ::fastgan::baseline::__VA_ARGS__)
#else
#define FASTGAN_CALL(...) ::fastgan::baseline::__VA_ARGS__
#endif
