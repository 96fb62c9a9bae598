/* Round to nearest, subnormals on, for the length of a call: what NC1 is defined in. */
#ifndef NORMCORE_FP_ENVIRONMENT_H
#define NORMCORE_FP_ENVIRONMENT_H

#include "numeric/guards.h"

#include <stdint.h>

#if defined(__SSE__)
#include <xmmintrin.h>

/*
 * MXCSR: exceptions masked, rounding to nearest, no FTZ (bit 15), no DAZ (bit 6). Flags (low six bits) are left alone.
 */
typedef unsigned fp_environment;
enum { FP_CONTROL = 0xffc0, FP_DEFAULT = 0x1f80 };

NORMCORE_INLINE fp_environment fp_environment_enter(void) {
    const unsigned saved = _mm_getcsr();
    if ((saved & FP_CONTROL) != FP_DEFAULT) _mm_setcsr((saved & ~(unsigned)FP_CONTROL) | FP_DEFAULT);
    return saved;
}
NORMCORE_INLINE void fp_environment_leave(fp_environment saved) {
    if ((saved & FP_CONTROL) != FP_DEFAULT) _mm_setcsr(saved);
}

#elif defined(__aarch64__)

/* FPCR: 0 is round to nearest, no flush to zero, traps off. */
typedef uint64_t fp_environment;

NORMCORE_INLINE fp_environment fp_environment_enter(void) {
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    if (saved) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return saved;
}
NORMCORE_INLINE void fp_environment_leave(fp_environment saved) {
    if (saved) __asm__ volatile("msr fpcr, %0" : : "r"(saved));
}

#elif defined(__arm__) && defined(__ARM_FP)

/*
 * FPSCR: default NaN, flush to zero, rounding mode, vector length and stride, traps; all 0. Flags and conditions share
 * the register and are left alone.
 */
typedef uint32_t fp_environment;
#define FP_CONTROL 0x07ff9f00u

NORMCORE_INLINE fp_environment fp_environment_enter(void) {
    uint32_t saved;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(saved));
    if (saved & FP_CONTROL) __asm__ volatile("vmsr fpscr, %0" : : "r"(saved & ~FP_CONTROL));
    return saved;
}
NORMCORE_INLINE void fp_environment_leave(fp_environment saved) {
    if (saved & FP_CONTROL) __asm__ volatile("vmsr fpscr, %0" : : "r"(saved));
}

#else
#include <fenv.h>

/*
 * Portable C knows the rounding mode only: RISC-V, z/Architecture, scalar POWER and WebAssembly have no flush to zero.
 * A target that has one needs a case of its own above. Where <fenv.h> names no other mode than to nearest, as with
 * arithmetic in software, there is nothing to set.
 */
typedef int fp_environment;

#if defined(FE_TONEAREST) && (defined(FE_UPWARD) || defined(FE_DOWNWARD) || defined(FE_TOWARDZERO))
NORMCORE_INLINE fp_environment fp_environment_enter(void) {
    const int saved = fegetround();
    if (saved != FE_TONEAREST) fesetround(FE_TONEAREST);
    return saved;
}
NORMCORE_INLINE void fp_environment_leave(fp_environment saved) {
    if (saved != FE_TONEAREST) fesetround(saved);
}
#else
NORMCORE_INLINE fp_environment fp_environment_enter(void) { return 0; }
NORMCORE_INLINE void fp_environment_leave(fp_environment saved) { (void)saved; }
#endif

#endif

#endif
