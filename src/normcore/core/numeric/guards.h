/*
 * Refuses to compile where the compiler would not keep the numeric contract. Included first by every file of the core.
 */
#ifndef NORMCORE_GUARDS_H
#define NORMCORE_GUARDS_H

#include <float.h>

#if defined(__FAST_MATH__)
#error "normcore: -ffast-math breaks the numeric contract"
#endif
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "normcore: -ffinite-math-only breaks the numeric contract"
#endif
#if defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || defined(__NO_SIGNED_ZEROS__)
#error "normcore: -funsafe-math-optimizations breaks the numeric contract"
#endif
/* 0: each type in its own precision. 16: the same, and _Float16 has a precision of its own (gcc with AVX512-FP16). */
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "normcore: excess precision breaks the contract (x86: -msse2 -mfpmath=sse; s390x: -fexcess-precision=fast)"
#endif
#if defined(__GNUC__)
#define NORMCORE_INLINE   static inline __attribute__((always_inline, unused))
#define NORMCORE_NOINLINE static __attribute__((noinline, unused))
/* Fully unrolls a loop with a small constant count, so that arrays of vectors live in registers. */
#if defined(__clang__)
#define NORMCORE_UNROLL       _Pragma("clang loop unroll(full)")
#define NORMCORE_UNROLL_TWICE _Pragma("clang loop unroll_count(2)")
#define NORMCORE_UNROLL_NOT   _Pragma("clang loop unroll(disable)")
#else
#define NORMCORE_UNROLL       _Pragma("GCC unroll 16")
#define NORMCORE_UNROLL_TWICE _Pragma("GCC unroll 2")
#define NORMCORE_UNROLL_NOT   _Pragma("GCC unroll 1")
#endif
#else
#define NORMCORE_INLINE   static inline
#define NORMCORE_NOINLINE static
#define NORMCORE_UNROLL
#define NORMCORE_UNROLL_TWICE
#define NORMCORE_UNROLL_NOT
#endif

#endif
