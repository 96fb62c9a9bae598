/* The SIMD layer of the row this file is compiled for (NORMCORE_ISA_HEADER), and what follows from it for any row. */
#include "../kernels.h"

#include <math.h>
#include <string.h>

#include NORMCORE_ISA_HEADER

/* A block of CONTRACT_LANES columns is BLOCK_V vectors. */
enum { BLOCK_V = CONTRACT_LANES / VL };

/* How many of the n columns from column j on lie in the vector that starts there. */
NORMCORE_INLINE size_t lanes_at(size_t j, size_t n) { return j >= n ? 0 : n - j < (size_t)VL ? n - j : (size_t)VL; }

NORMCORE_INLINE vreal v_zero(void) { return v_set1((real)0); }
NORMCORE_INLINE vreal v_canonical(vreal a) { return v_select(v_isnan(a), v_set1(REAL_NAN), a); }
NORMCORE_INLINE vreal v_relu(vreal a) {
    return v_select(v_gt(a, v_zero()), a, v_select(v_isnan(a), v_set1(REAL_NAN), v_zero()));
}
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
NORMCORE_INLINE void w_put_n(double *p, vwide a, size_t n) {
    if (n == (size_t)VL)
        w_store(p, a);
    else
        w_store_tail(p, a, n);
}

NORMCORE_INLINE double canonical(double a) { return a == a ? a : (double)NAN; }

/*
 * Sixteen double lanes, lane = column mod 16: the accumulator of every reduction along a row. After the last column
 * the lanes fold 8-4-2-1. Lanes past the end of the row are left alone: adding a padding zero would turn -0 into +0.
 */
typedef struct lanes {
    vwide v[BLOCK_V];
} lanes;

NORMCORE_INLINE lanes lanes_zero(void) {
    lanes s;
    NORMCORE_UNROLL
    for (int v = 0; v < BLOCK_V; v++) s.v[v] = w_set1(0.0);
    return s;
}
NORMCORE_INLINE double lanes_fold(const lanes *s) {
    double sum[CONTRACT_LANES];
    for (int v = 0; v < BLOCK_V; v++) w_store(sum + v * VL, s->v[v]);
    for (int half = CONTRACT_LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) sum[lane] += sum[lane + half];
    return sum[0];
}
