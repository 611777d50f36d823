// Includes the kernel header named by FASTGAN_KERNELS once per instruction set, each time in a namespace of its own.
// Without include guards on purpose: every op family's .cpp includes it once, after defining FASTGAN_KERNELS.
//
// The function-level target (a pragma, not a compiler flag) keeps everything outside the namespace at the baseline, so
// that no inline function of the standard library can reach an old processor with new instructions in it.

#include "common/types.h"
#include "cpu/simd/isa.h"

#define FASTGAN_VECTOR_BYTES 16
namespace fastgan::baseline {
#include "cpu/simd/vectors.h"
#include FASTGAN_KERNELS
}  // namespace fastgan::baseline
#undef FASTGAN_VECTOR_BYTES

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define FASTGAN_VECTOR_BYTES 32
namespace fastgan::avx2 {
#include "cpu/simd/vectors.h"
#include FASTGAN_KERNELS
}  // namespace fastgan::avx2
#undef FASTGAN_VECTOR_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#endif
#define FASTGAN_VECTOR_BYTES 64
namespace fastgan::avx512 {
#include "cpu/simd/vectors.h"
#include FASTGAN_KERNELS
}  // namespace fastgan::avx512
#undef FASTGAN_VECTOR_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // __x86_64__
#undef FASTGAN_KERNELS
