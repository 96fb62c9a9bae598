/* The SIMD layer of the target this is compiled for (NORMCORE_ISA_HEADER), and what follows from it for any target. */
#ifndef NORMCORE_SIMD_H
#define NORMCORE_SIMD_H

#include "numeric/guards.h"

#include "numeric/contract.h"
#include "numeric/dtype.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include NORMCORE_ISA_HEADER

/*
 * A block's loop over its vectors is unrolled, so that sums are registers. Where they are more than the registers, they
 * are an array anyway, and sixteen copies of an exp, each with an emulated fma for every term, only fill the cache.
 */
#ifdef HAS_LANES_IN_MEMORY
#define LANES_UNROLL      NORMCORE_UNROLL_TWICE
#define LANES_UNROLL_TAIL NORMCORE_UNROLL_NOT
#else
#define LANES_UNROLL      NORMCORE_UNROLL
#define LANES_UNROLL_TAIL NORMCORE_UNROLL
#endif

/* A block of CONTRACT_LANES columns is BLOCK_V vectors. */
enum { BLOCK_V = CONTRACT_LANES / VL };

/* Vectors of half the length, for what is left at the end; where a target has none, whole ones. */
#ifdef HAS_HALF
enum { VL_HALF = VL / 2 };
#else
enum { VL_HALF = VL };
typedef vreal vhalf;
NORMCORE_INLINE vhalf h_load(const real *p) { return v_load(p); }
NORMCORE_INLINE vhalf h_set1(real a) { return v_set1(a); }
NORMCORE_INLINE vhalf h_fma(vhalf a, vhalf b, vhalf c) { return v_fma(a, b, c); }
NORMCORE_INLINE vreal v_of_half(vhalf a) { return a; }
#endif

/* How many of the n columns from column j on lie in the vector that starts there. */
NORMCORE_INLINE size_t lanes_at(size_t j, size_t n) { return j >= n ? 0 : n - j < (size_t)VL ? n - j : (size_t)VL; }

NORMCORE_INLINE vreal v_zero(void) { return v_set1((real)0); }
NORMCORE_INLINE vreal v_canonical(vreal a) { return v_select(v_isnan(a), v_set1(REAL_NAN), a); }
/* +0 for -0 too; NaN stays. */
NORMCORE_INLINE vreal v_relu(vreal a) { return v_select(v_le(a, v_zero()), v_zero(), a); }
/* Stores with NaN made canonical: the only way a kernel stores a result. */
NORMCORE_INLINE void v_put(real *p, vreal a) { v_store(p, v_canonical(a)); }
NORMCORE_INLINE void v_put_tail(real *p, vreal a, size_t n) { v_store_tail(p, v_canonical(a), n); }
NORMCORE_INLINE vreal v_get(const real *p, size_t n) { return n == (size_t)VL ? v_load(p) : v_load_tail(p, n); }
NORMCORE_INLINE void v_put_n(real *p, vreal a, size_t n) {
    if (n == (size_t)VL)
        v_put(p, a);
    else
        v_put_tail(p, a, n);
}
NORMCORE_INLINE vwide w_get(const double *p, size_t n) { return n == (size_t)VL ? w_load(p) : w_load_tail(p, n); }
NORMCORE_INLINE vwide w_get_widened(const real *p, size_t n) {
    return n == (size_t)VL ? w_load_widened(p) : w_widen(v_load_tail(p, n));
}
NORMCORE_INLINE void w_put_n(double *p, vwide a, size_t n) {
    if (n == (size_t)VL)
        w_store(p, a);
    else
        w_store_tail(p, a, n);
}

NORMCORE_INLINE double canonical(double a) { return a == a ? a : (double)NAN; }

/*
 * The braced body for each vector of the d columns: j is its first column, count its lanes. The body is compiled twice, with
 * count == VL as a constant for whole vectors and once for the tail, so that loads and stores need no test in the loop.
 */
#define FOR_VECTORS(j, count, d, ...)                                                                                  \
    do {                                                                                                               \
        size_t j = 0;                                                                                                  \
        for (; j + VL <= (d); j += VL) {                                                                               \
            const size_t count = VL;                                                                                   \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
        if (j < (d)) {                                                                                                 \
            const size_t count = (d) - j;                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    } while (0)

/* Elements before the first at an address that whole vectors are aligned to, at most d. */
NORMCORE_INLINE size_t unaligned_head(const real *p, size_t d) {
    const size_t bytes = (size_t)(uintptr_t)p % (VL * sizeof *p), head = bytes ? VL - bytes / sizeof *p : 0;
    return bytes % sizeof *p ? 0 : head < d ? head : d;
}

/*
 * FOR_VECTORS for loops that store to y[j]: a shorter first vector, so that whole ones are aligned there. NumPy aligns
 * to 16 bytes; stores of 64 that cross cache lines made batch norm 1.5 times slower.
 */
#define FOR_STORED_VECTORS(j, count, d, y, ...)                                                                        \
    do {                                                                                                               \
        size_t j = 0, part_ = unaligned_head((y), (d));                                                                \
        for (int pass_ = 0; pass_ < 2; pass_++) {                                                                      \
            if (part_) {                                                                                               \
                const size_t count = part_;                                                                            \
                __VA_ARGS__                                                                                            \
                j += part_;                                                                                            \
            }                                                                                                          \
            if (pass_) break;                                                                                          \
            for (; j + VL <= (d); j += VL) {                                                                           \
                const size_t count = VL;                                                                               \
                __VA_ARGS__                                                                                            \
            }                                                                                                          \
            part_ = (d) - j;                                                                                           \
        }                                                                                                              \
    } while (0)

/* The same in blocks of CONTRACT_LANES columns; v, a constant when unrolled, is the place of the vector in its block. */
#define FOR_LANES(j, v, count, d, ...)                                                                                 \
    do {                                                                                                               \
        size_t block_ = 0;                                                                                             \
        for (; block_ + CONTRACT_LANES <= (d); block_ += CONTRACT_LANES) {                                             \
            LANES_UNROLL                                                                                               \
            for (int v = 0; v < BLOCK_V; v++) {                                                                        \
                const size_t count = VL;                                                                               \
                const size_t j = block_ + (size_t)(v * VL);                                                            \
                __VA_ARGS__                                                                                            \
            }                                                                                                          \
        }                                                                                                              \
        LANES_UNROLL_TAIL                                                                                              \
        for (int v = 0; v < BLOCK_V; v++) {                                                                            \
            const size_t j = block_ + (size_t)(v * VL), count = lanes_at(j, (d));                                      \
            if (!count) break;                                                                                         \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    } while (0)

/*
 * Sixteen double lanes, lane = column mod 16: the accumulator of every reduction along a row. After the last column
 * the lanes fold 8-4-2-1. Lanes past the end of the row are left alone: adding a padding zero would turn -0 into +0.
 */
typedef struct lanes {
    vwide v[BLOCK_V];
} lanes;

/* Lane sums with the lanes of a tail left alone. */
NORMCORE_INLINE vwide w_keep_tail(size_t count, vwide sum, vwide old) {
    return count == (size_t)VL ? sum : w_select_tail(count, sum, old);
}

NORMCORE_INLINE lanes lanes_zero(void) {
    lanes s;
    NORMCORE_UNROLL
    for (int v = 0; v < BLOCK_V; v++) s.v[v] = w_set1(0.0);
    return s;
}
NORMCORE_INLINE double lanes_fold(const lanes *s) {
    lanes sum = *s;
    NORMCORE_UNROLL
    for (int half = BLOCK_V / 2; half; half /= 2) {
        NORMCORE_UNROLL
        for (int v = 0; v < half; v++) sum.v[v] = w_add(sum.v[v], sum.v[v + half]);
    }
    return w_fold(sum.v[0]);
}

#endif
