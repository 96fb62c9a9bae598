/*
 * The scalar target: one lane. It is the reference for the bits of every other target and runs on any machine.
 * What stands here is what every such header provides.
 */
#ifndef NORMCORE_SIMD_SCALAR_H
#define NORMCORE_SIMD_SCALAR_H

#include "numeric/guards.h"

#include "numeric/dtype.h"
#include "numeric/exact_fma.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

enum { VL = 1 };
#define HAS_LANES_IN_MEMORY /* see FOR_LANES */
/* Tile of the matrix product in rows and vectors; see kernels/gemm.c. */
enum { GEMM_MR = 4, GEMM_NV = 2 };

typedef real vreal;
typedef int vmask;

NORMCORE_INLINE vreal v_load(const real *p) { return *p; }
NORMCORE_INLINE void v_store(real *p, vreal a) { *p = a; }
/* Tails: the first n < VL lanes; the others read as 0 and are not written. */
NORMCORE_INLINE vreal v_load_tail(const real *p, size_t n) { return n ? *p : (real)0; }
NORMCORE_INLINE void v_store_tail(real *p, vreal a, size_t n) {
    if (n) *p = a;
}
NORMCORE_INLINE vreal v_set1(real a) { return a; }
NORMCORE_INLINE vreal v_add(vreal a, vreal b) { return a + b; }
NORMCORE_INLINE vreal v_sub(vreal a, vreal b) { return a - b; }
NORMCORE_INLINE vreal v_mul(vreal a, vreal b) { return a * b; }
NORMCORE_INLINE vreal v_div(vreal a, vreal b) { return a / b; }
#if NORMCORE_DTYPE == 32
NORMCORE_INLINE vreal v_sqrt(vreal a) { return sqrtf(a); }
NORMCORE_INLINE vreal v_fma(vreal a, vreal b, vreal c) { return exact_fma_f32(a, b, c); }
#else
NORMCORE_INLINE vreal v_sqrt(vreal a) { return sqrt(a); }
NORMCORE_INLINE vreal v_fma(vreal a, vreal b, vreal c) { return exact_fma_f64(a, b, c); }
#endif
NORMCORE_INLINE vreal v_fnma(vreal a, vreal b, vreal c) { return v_fma(-a, b, c); }

/* The greater; either zero of two, either argument if one is NaN. */
NORMCORE_INLINE vreal v_max(vreal a, vreal b) { return a > b ? a : b; }
/* The greatest lane, for lanes without NaN. */
NORMCORE_INLINE real v_greatest(vreal a) { return a; }

NORMCORE_INLINE vmask v_gt(vreal a, vreal b) { return a > b; }
NORMCORE_INLINE vmask v_le(vreal a, vreal b) { return a <= b; }
NORMCORE_INLINE vmask v_eq(vreal a, vreal b) { return a == b; }
NORMCORE_INLINE vmask v_isnan(vreal a) { return a != a; }
NORMCORE_INLINE unsigned v_count(vmask m) { return (unsigned)m; }
NORMCORE_INLINE vreal v_select(vmask m, vreal a, vreal b) { return m ? a : b; }
NORMCORE_INLINE vreal v_select_tail(size_t n, vreal a, vreal b) { return n ? a : b; }

/* Round to the nearest integer, ties to even, for |a| < 2^22: adding and subtracting 1.5 2^23 (2^52) rounds. */
NORMCORE_INLINE vreal v_round(vreal a) {
#if NORMCORE_DTYPE == 32
    const real magic = 0x1.8p23f;
#else
    const real magic = 0x1.8p52;
#endif
    return (a + magic) - magic;
}
/*
 * a 2^n, n integral, |n| <= 2 (exponent bias - 1), rounded once if a 2^(n/2) is exact (a near 1). For other n, NaN and
 * infinities too, the result is unspecified.
 */
NORMCORE_INLINE vreal v_scale(vreal a, vreal n) {
    if (!(n > (real)-2000 && n < (real)2000)) return a; /* no int could hold it */
    const int whole = (int)n, half = whole / 2;
    union {
        real_bits bits;
        real value;
    } first, second;
#if NORMCORE_DTYPE == 32
    first.bits = (uint32_t)(half + 127) << 23;
    second.bits = (uint32_t)(whole - half + 127) << 23;
#else
    first.bits = (uint64_t)(half + 1023) << 52;
    second.bits = (uint64_t)(whole - half + 1023) << 52;
#endif
    return (a * first.value) * second.value;
}

/* Lane j of row i becomes lane i of row j, of VL vectors. */
NORMCORE_INLINE void v_transpose(vreal r[VL]) { (void)r; }

/* Wide: the same lanes in double. */
typedef double vwide;
NORMCORE_INLINE vwide w_widen(vreal a) { return (double)a; }
NORMCORE_INLINE vwide w_load_widened(const real *p) { return (double)*p; }
NORMCORE_INLINE vreal w_narrow(vwide a) { return (real)a; }
NORMCORE_INLINE vwide w_set1(double a) { return a; }
NORMCORE_INLINE vwide w_load(const double *p) { return *p; }
NORMCORE_INLINE void w_store(double *p, vwide a) { *p = a; }
NORMCORE_INLINE vwide w_load_tail(const double *p, size_t n) { return n ? *p : 0.0; }
NORMCORE_INLINE void w_store_tail(double *p, vwide a, size_t n) {
    if (n) *p = a;
}
NORMCORE_INLINE vwide w_add(vwide a, vwide b) { return a + b; }
/* sum + a, in the unit that the other sums of a loop leave free. */
NORMCORE_INLINE vwide w_accumulate(vwide sum, vwide a) { return sum + a; }
NORMCORE_INLINE vwide w_sub(vwide a, vwide b) { return a - b; }
NORMCORE_INLINE vwide w_mul(vwide a, vwide b) { return a * b; }
NORMCORE_INLINE vwide w_div(vwide a, vwide b) { return a / b; }
NORMCORE_INLINE vwide w_fma(vwide a, vwide b, vwide c) { return exact_fma_f64(a, b, c); }
/* Sum of the lanes: the upper half is added to the lower until one is left. */
NORMCORE_INLINE double w_fold(vwide a) { return a; }
NORMCORE_INLINE vwide w_select_tail(size_t n, vwide a, vwide b) { return n ? a : b; }
/* x where a is not 0 (NaN is not), +0 where it is, whatever x. */
NORMCORE_INLINE vwide w_where_nonzero(vwide a, vwide x) { return a != 0.0 ? x : 0.0; }

#endif
