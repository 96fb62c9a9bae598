/* AVX-512 F, BW, DQ, VL: 16 floats or 8 doubles. */
#ifndef NORMCORE_SIMD_AVX512_H
#define NORMCORE_SIMD_AVX512_H

#include "numeric/guards.h"

#include "numeric/dtype.h"

#include <immintrin.h>
#include <stddef.h>

NORMCORE_INLINE double fold_pd(__m512d a) {
    const __m256d b = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    const __m128d c = _mm_add_pd(_mm256_castpd256_pd128(b), _mm256_extractf128_pd(b, 1));
    return _mm_cvtsd_f64(_mm_add_sd(c, _mm_unpackhi_pd(c, c)));
}

#if NORMCORE_DTYPE == 32

enum { VL = 16 };
enum { GEMM_MR = 14, GEMM_NV = 2 };

typedef __m512 vreal;
typedef __mmask16 vmask;

NORMCORE_INLINE vmask v_first(size_t n) { return (vmask)((1u << n) - 1u); }
NORMCORE_INLINE vreal v_load(const real *p) { return _mm512_loadu_ps(p); }
NORMCORE_INLINE void v_store(real *p, vreal a) { _mm512_storeu_ps(p, a); }
NORMCORE_INLINE vreal v_load_tail(const real *p, size_t n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
NORMCORE_INLINE void v_store_tail(real *p, vreal a, size_t n) { _mm512_mask_storeu_ps(p, v_first(n), a); }
NORMCORE_INLINE vreal v_set1(real a) { return _mm512_set1_ps(a); }
NORMCORE_INLINE vreal v_add(vreal a, vreal b) { return _mm512_add_ps(a, b); }
NORMCORE_INLINE vreal v_sub(vreal a, vreal b) { return _mm512_sub_ps(a, b); }
NORMCORE_INLINE vreal v_mul(vreal a, vreal b) { return _mm512_mul_ps(a, b); }
NORMCORE_INLINE vreal v_div(vreal a, vreal b) { return _mm512_div_ps(a, b); }
NORMCORE_INLINE vreal v_sqrt(vreal a) { return _mm512_sqrt_ps(a); }
NORMCORE_INLINE vreal v_fma(vreal a, vreal b, vreal c) { return _mm512_fmadd_ps(a, b, c); }
NORMCORE_INLINE vreal v_fnma(vreal a, vreal b, vreal c) { return _mm512_fnmadd_ps(a, b, c); }
NORMCORE_INLINE vreal v_max(vreal a, vreal b) { return _mm512_max_ps(a, b); }
NORMCORE_INLINE real v_greatest(vreal a) { return _mm512_reduce_max_ps(a); }
NORMCORE_INLINE vmask v_gt(vreal a, vreal b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
NORMCORE_INLINE vmask v_le(vreal a, vreal b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
NORMCORE_INLINE vmask v_eq(vreal a, vreal b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
NORMCORE_INLINE vmask v_isnan(vreal a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
NORMCORE_INLINE unsigned v_count(vmask m) { return (unsigned)_mm_popcnt_u32(m); }
NORMCORE_INLINE vreal v_select(vmask m, vreal a, vreal b) { return _mm512_mask_blend_ps(m, b, a); }
NORMCORE_INLINE vreal v_select_tail(size_t n, vreal a, vreal b) { return v_select(v_first(n), a, b); }
NORMCORE_INLINE vreal v_round(vreal a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
NORMCORE_INLINE vreal v_scale(vreal a, vreal n) { return _mm512_scalef_ps(a, n); }

/* The lower half of a vector: as many of its fmas start in a cycle as of whole ones, or twice as many. */
#define HAS_HALF
typedef __m256 vhalf;
NORMCORE_INLINE vhalf h_load(const real *p) { return _mm256_loadu_ps(p); }
NORMCORE_INLINE vhalf h_set1(real a) { return _mm256_set1_ps(a); }
NORMCORE_INLINE vhalf h_fma(vhalf a, vhalf b, vhalf c) { return _mm256_fmadd_ps(a, b, c); }
NORMCORE_INLINE vreal v_of_half(vhalf a) { return _mm512_zextps256_ps512(a); }

/* Row i becomes lane i: pairs of 32, then 64, then 128 bits change places. */
NORMCORE_INLINE void v_transpose(vreal r[VL]) {
    __m512 t[16];
    NORMCORE_UNROLL
    for (int i = 0; i < 16; i += 4) {
        const __m512 a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        const __m512 c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm512_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    /* t[4 g + c] holds, in each 128-bit quarter q, column 4 q + c of rows 4 g ... 4 g + 3. */
    NORMCORE_UNROLL
    for (int c = 0; c < 4; c++) {
        const __m512 a = _mm512_shuffle_f32x4(t[c], t[4 + c], 0x88),
                     b = _mm512_shuffle_f32x4(t[8 + c], t[12 + c], 0x88);
        const __m512 d = _mm512_shuffle_f32x4(t[c], t[4 + c], 0xdd),
                     e = _mm512_shuffle_f32x4(t[8 + c], t[12 + c], 0xdd);
        r[c] = _mm512_shuffle_f32x4(a, b, 0x88);
        r[8 + c] = _mm512_shuffle_f32x4(a, b, 0xdd);
        r[4 + c] = _mm512_shuffle_f32x4(d, e, 0x88);
        r[12 + c] = _mm512_shuffle_f32x4(d, e, 0xdd);
    }
}

typedef struct vwide {
    __m512d lo, hi;
} vwide;
#define WIDE(lo_, hi_)                                                                                                 \
    vwide r;                                                                                                           \
    r.lo = (lo_);                                                                                                      \
    r.hi = (hi_);                                                                                                      \
    return r
NORMCORE_INLINE __mmask8 w_first_lo(size_t n) { return (__mmask8)(v_first(n) & 0xff); }
NORMCORE_INLINE __mmask8 w_first_hi(size_t n) { return (__mmask8)(v_first(n) >> 8); }
NORMCORE_INLINE vwide w_widen(vreal a) {
    WIDE(_mm512_cvtps_pd(_mm512_castps512_ps256(a)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)));
}
NORMCORE_INLINE vwide w_load_widened(const real *p) {
    WIDE(_mm512_cvtps_pd(_mm256_loadu_ps(p)), _mm512_cvtps_pd(_mm256_loadu_ps(p + 8)));
}
NORMCORE_INLINE vreal w_narrow(vwide a) {
    return _mm512_insertf32x8(_mm512_zextps256_ps512(_mm512_cvtpd_ps(a.lo)), _mm512_cvtpd_ps(a.hi), 1);
}
NORMCORE_INLINE vwide w_set1(double a) { WIDE(_mm512_set1_pd(a), _mm512_set1_pd(a)); }
NORMCORE_INLINE vwide w_load(const double *p) { WIDE(_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)); }
NORMCORE_INLINE void w_store(double *p, vwide a) {
    _mm512_storeu_pd(p, a.lo);
    _mm512_storeu_pd(p + 8, a.hi);
}
NORMCORE_INLINE vwide w_load_tail(const double *p, size_t n) {
    WIDE(_mm512_maskz_loadu_pd(w_first_lo(n), p), _mm512_maskz_loadu_pd(w_first_hi(n), p + 8));
}
NORMCORE_INLINE void w_store_tail(double *p, vwide a, size_t n) {
    _mm512_mask_storeu_pd(p, w_first_lo(n), a.lo);
    _mm512_mask_storeu_pd(p + 8, w_first_hi(n), a.hi);
}
NORMCORE_INLINE vwide w_add(vwide a, vwide b) { WIDE(_mm512_add_pd(a.lo, b.lo), _mm512_add_pd(a.hi, b.hi)); }
NORMCORE_INLINE vwide w_sub(vwide a, vwide b) { WIDE(_mm512_sub_pd(a.lo, b.lo), _mm512_sub_pd(a.hi, b.hi)); }
NORMCORE_INLINE vwide w_mul(vwide a, vwide b) { WIDE(_mm512_mul_pd(a.lo, b.lo), _mm512_mul_pd(a.hi, b.hi)); }
NORMCORE_INLINE vwide w_div(vwide a, vwide b) { WIDE(_mm512_div_pd(a.lo, b.lo), _mm512_div_pd(a.hi, b.hi)); }
NORMCORE_INLINE vwide w_fma(vwide a, vwide b, vwide c) {
    WIDE(_mm512_fmadd_pd(a.lo, b.lo, c.lo), _mm512_fmadd_pd(a.hi, b.hi, c.hi));
}
/*
 * As an fma with 1, which has the same bits: AMD's adders, which also convert, are not its multipliers, and loops of
 * conversions, subtractions and sums wait for them alone.
 */
NORMCORE_INLINE vwide w_accumulate(vwide sum, vwide a) { return w_fma(a, w_set1(1.0), sum); }
NORMCORE_INLINE double w_fold(vwide a) { return fold_pd(_mm512_add_pd(a.lo, a.hi)); }
NORMCORE_INLINE vwide w_select_tail(size_t n, vwide a, vwide b) {
    WIDE(_mm512_mask_blend_pd(w_first_lo(n), b.lo, a.lo), _mm512_mask_blend_pd(w_first_hi(n), b.hi, a.hi));
}
NORMCORE_INLINE __mmask8 w_nonzero(__m512d a) { return _mm512_cmp_pd_mask(a, _mm512_setzero_pd(), _CMP_NEQ_UQ); }
NORMCORE_INLINE vwide w_where_nonzero(vwide a, vwide x) {
    WIDE(_mm512_maskz_mov_pd(w_nonzero(a.lo), x.lo), _mm512_maskz_mov_pd(w_nonzero(a.hi), x.hi));
}
#undef WIDE

#else

enum { VL = 8 };
enum { GEMM_MR = 14, GEMM_NV = 2 };

typedef __m512d vreal;
typedef __mmask8 vmask;

NORMCORE_INLINE vmask v_first(size_t n) { return (vmask)((1u << n) - 1u); }
NORMCORE_INLINE vreal v_load(const real *p) { return _mm512_loadu_pd(p); }
NORMCORE_INLINE void v_store(real *p, vreal a) { _mm512_storeu_pd(p, a); }
NORMCORE_INLINE vreal v_load_tail(const real *p, size_t n) { return _mm512_maskz_loadu_pd(v_first(n), p); }
NORMCORE_INLINE void v_store_tail(real *p, vreal a, size_t n) { _mm512_mask_storeu_pd(p, v_first(n), a); }
NORMCORE_INLINE vreal v_set1(real a) { return _mm512_set1_pd(a); }
NORMCORE_INLINE vreal v_add(vreal a, vreal b) { return _mm512_add_pd(a, b); }
NORMCORE_INLINE vreal v_sub(vreal a, vreal b) { return _mm512_sub_pd(a, b); }
NORMCORE_INLINE vreal v_mul(vreal a, vreal b) { return _mm512_mul_pd(a, b); }
NORMCORE_INLINE vreal v_div(vreal a, vreal b) { return _mm512_div_pd(a, b); }
NORMCORE_INLINE vreal v_sqrt(vreal a) { return _mm512_sqrt_pd(a); }
NORMCORE_INLINE vreal v_fma(vreal a, vreal b, vreal c) { return _mm512_fmadd_pd(a, b, c); }
NORMCORE_INLINE vreal v_fnma(vreal a, vreal b, vreal c) { return _mm512_fnmadd_pd(a, b, c); }
NORMCORE_INLINE vreal v_max(vreal a, vreal b) { return _mm512_max_pd(a, b); }
NORMCORE_INLINE real v_greatest(vreal a) { return _mm512_reduce_max_pd(a); }
NORMCORE_INLINE vmask v_gt(vreal a, vreal b) { return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ); }
NORMCORE_INLINE vmask v_le(vreal a, vreal b) { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
NORMCORE_INLINE vmask v_eq(vreal a, vreal b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
NORMCORE_INLINE vmask v_isnan(vreal a) { return _mm512_cmp_pd_mask(a, a, _CMP_UNORD_Q); }
NORMCORE_INLINE unsigned v_count(vmask m) { return (unsigned)_mm_popcnt_u32(m); }
NORMCORE_INLINE vreal v_select(vmask m, vreal a, vreal b) { return _mm512_mask_blend_pd(m, b, a); }
NORMCORE_INLINE vreal v_select_tail(size_t n, vreal a, vreal b) { return v_select(v_first(n), a, b); }
NORMCORE_INLINE vreal v_round(vreal a) {
    return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
NORMCORE_INLINE vreal v_scale(vreal a, vreal n) { return _mm512_scalef_pd(a, n); }

#define HAS_HALF
typedef __m256d vhalf;
NORMCORE_INLINE vhalf h_load(const real *p) { return _mm256_loadu_pd(p); }
NORMCORE_INLINE vhalf h_set1(real a) { return _mm256_set1_pd(a); }
NORMCORE_INLINE vhalf h_fma(vhalf a, vhalf b, vhalf c) { return _mm256_fmadd_pd(a, b, c); }
NORMCORE_INLINE vreal v_of_half(vhalf a) { return _mm512_zextpd256_pd512(a); }

NORMCORE_INLINE void v_transpose(vreal r[VL]) {
    __m512d t[8];
    NORMCORE_UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm512_unpacklo_pd(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_pd(r[i], r[i + 1]);
    }
    /* t[2 g + c] holds, in each 128-bit quarter q, column 2 q + c of rows 2 g and 2 g + 1. */
    NORMCORE_UNROLL
    for (int c = 0; c < 2; c++) {
        const __m512d a = _mm512_shuffle_f64x2(t[c], t[2 + c], 0x88),
                      b = _mm512_shuffle_f64x2(t[4 + c], t[6 + c], 0x88);
        const __m512d d = _mm512_shuffle_f64x2(t[c], t[2 + c], 0xdd),
                      e = _mm512_shuffle_f64x2(t[4 + c], t[6 + c], 0xdd);
        r[c] = _mm512_shuffle_f64x2(a, b, 0x88);
        r[4 + c] = _mm512_shuffle_f64x2(a, b, 0xdd);
        r[2 + c] = _mm512_shuffle_f64x2(d, e, 0x88);
        r[6 + c] = _mm512_shuffle_f64x2(d, e, 0xdd);
    }
}

typedef vreal vwide;
NORMCORE_INLINE vwide w_widen(vreal a) { return a; }
NORMCORE_INLINE vreal w_narrow(vwide a) { return a; }
NORMCORE_INLINE double w_fold(vwide a) { return fold_pd(a); }
NORMCORE_INLINE vwide w_accumulate(vwide sum, vwide a) { return v_fma(a, v_set1(1.0), sum); }
NORMCORE_INLINE vwide w_where_nonzero(vwide a, vwide x) { return v_select(v_eq(a, v_set1(0.0)), v_set1(0.0), x); }
#define w_load_widened v_load
#define w_set1         v_set1
#define w_load         v_load
#define w_store        v_store
#define w_load_tail    v_load_tail
#define w_store_tail   v_store_tail
#define w_add          v_add
#define w_sub          v_sub
#define w_mul          v_mul
#define w_div          v_div
#define w_fma          v_fma
#define w_select_tail  v_select_tail

#endif

#endif
