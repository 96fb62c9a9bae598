/* AVX2 and FMA: 8 floats or 4 doubles. */
#ifndef NORMCORE_SIMD_AVX2_H
#define NORMCORE_SIMD_AVX2_H

#include "numeric/guards.h"

#include "numeric/dtype.h"

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Sliding window: the n first lanes of a vector are on at index 8 - n. maskload and maskstore fault on no lane
 * that is off.
 */
static const int32_t first_lanes_32[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
static const int64_t first_lanes_64[8] = {-1, -1, -1, -1, 0, 0, 0, 0};

NORMCORE_INLINE __m256i first_32(size_t n) { return _mm256_loadu_si256((const __m256i *)(first_lanes_32 + 8 - n)); }
NORMCORE_INLINE __m256i first_64(size_t n) { return _mm256_loadu_si256((const __m256i *)(first_lanes_64 + 4 - n)); }

NORMCORE_INLINE double fold_pd(__m256d a) {
    const __m128d b = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(b, _mm_unpackhi_pd(b, b)));
}

#if NORMCORE_DTYPE == 32

enum { VL = 8 };
enum { GEMM_MR = 6, GEMM_NV = 2 };

typedef __m256 vreal;
typedef __m256 vmask;

NORMCORE_INLINE vreal v_load(const real *p) { return _mm256_loadu_ps(p); }
NORMCORE_INLINE void v_store(real *p, vreal a) { _mm256_storeu_ps(p, a); }
NORMCORE_INLINE vreal v_load_tail(const real *p, size_t n) { return _mm256_maskload_ps(p, first_32(n)); }
NORMCORE_INLINE void v_store_tail(real *p, vreal a, size_t n) { _mm256_maskstore_ps(p, first_32(n), a); }
NORMCORE_INLINE vreal v_set1(real a) { return _mm256_set1_ps(a); }
NORMCORE_INLINE vreal v_add(vreal a, vreal b) { return _mm256_add_ps(a, b); }
NORMCORE_INLINE vreal v_sub(vreal a, vreal b) { return _mm256_sub_ps(a, b); }
NORMCORE_INLINE vreal v_mul(vreal a, vreal b) { return _mm256_mul_ps(a, b); }
NORMCORE_INLINE vreal v_div(vreal a, vreal b) { return _mm256_div_ps(a, b); }
NORMCORE_INLINE vreal v_sqrt(vreal a) { return _mm256_sqrt_ps(a); }
NORMCORE_INLINE vreal v_fma(vreal a, vreal b, vreal c) { return _mm256_fmadd_ps(a, b, c); }
NORMCORE_INLINE vreal v_fnma(vreal a, vreal b, vreal c) { return _mm256_fnmadd_ps(a, b, c); }
NORMCORE_INLINE vreal v_max(vreal a, vreal b) { return _mm256_max_ps(a, b); }
NORMCORE_INLINE real v_greatest(vreal a) {
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
NORMCORE_INLINE vmask v_gt(vreal a, vreal b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
NORMCORE_INLINE vmask v_le(vreal a, vreal b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
NORMCORE_INLINE vmask v_eq(vreal a, vreal b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
NORMCORE_INLINE vmask v_isnan(vreal a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
NORMCORE_INLINE unsigned v_count(vmask m) { return (unsigned)_mm_popcnt_u32((unsigned)_mm256_movemask_ps(m)); }
NORMCORE_INLINE vreal v_select(vmask m, vreal a, vreal b) { return _mm256_blendv_ps(b, a, m); }
NORMCORE_INLINE vreal v_select_tail(size_t n, vreal a, vreal b) {
    return v_select(_mm256_castsi256_ps(first_32(n)), a, b);
}
NORMCORE_INLINE vreal v_round(vreal a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
NORMCORE_INLINE vreal v_scale(vreal a, vreal n) {
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256 size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), n);
    if (!_mm256_movemask_ps(_mm256_cmp_ps(size, _mm256_set1_ps(126.0f), _CMP_NLT_UQ))) /* a near 1: results normal */
        return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(whole, 23)));
    const __m256i half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    const __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

/* Row i becomes lane i: pairs of 32, then 64, then 128 bits change places. */
NORMCORE_INLINE void v_transpose(vreal r[VL]) {
    __m256 t[8];
    NORMCORE_UNROLL
    for (int i = 0; i < 8; i += 4) {
        const __m256 a = _mm256_unpacklo_ps(r[i], r[i + 1]), b = _mm256_unpackhi_ps(r[i], r[i + 1]);
        const __m256 c = _mm256_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm256_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    NORMCORE_UNROLL
    for (int c = 0; c < 4; c++) {
        r[c] = _mm256_permute2f128_ps(t[c], t[4 + c], 0x20);
        r[4 + c] = _mm256_permute2f128_ps(t[c], t[4 + c], 0x31);
    }
}

typedef struct vwide {
    __m256d lo, hi;
} vwide;
#define WIDE(lo_, hi_)                                                                                                 \
    vwide r;                                                                                                           \
    r.lo = (lo_);                                                                                                      \
    r.hi = (hi_);                                                                                                      \
    return r
NORMCORE_INLINE size_t w_count_lo(size_t n) { return n < 4 ? n : 4; }
NORMCORE_INLINE size_t w_count_hi(size_t n) { return n < 4 ? 0 : n - 4; }
NORMCORE_INLINE vwide w_widen(vreal a) {
    WIDE(_mm256_cvtps_pd(_mm256_castps256_ps128(a)), _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)));
}
NORMCORE_INLINE vwide w_load_widened(const real *p) {
    WIDE(_mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p + 4)));
}
NORMCORE_INLINE vreal w_narrow(vwide a) { return _mm256_set_m128(_mm256_cvtpd_ps(a.hi), _mm256_cvtpd_ps(a.lo)); }
NORMCORE_INLINE vwide w_set1(double a) { WIDE(_mm256_set1_pd(a), _mm256_set1_pd(a)); }
NORMCORE_INLINE vwide w_load(const double *p) { WIDE(_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)); }
NORMCORE_INLINE void w_store(double *p, vwide a) {
    _mm256_storeu_pd(p, a.lo);
    _mm256_storeu_pd(p + 4, a.hi);
}
NORMCORE_INLINE vwide w_load_tail(const double *p, size_t n) {
    WIDE(_mm256_maskload_pd(p, first_64(w_count_lo(n))), _mm256_maskload_pd(p + 4, first_64(w_count_hi(n))));
}
NORMCORE_INLINE void w_store_tail(double *p, vwide a, size_t n) {
    _mm256_maskstore_pd(p, first_64(w_count_lo(n)), a.lo);
    _mm256_maskstore_pd(p + 4, first_64(w_count_hi(n)), a.hi);
}
NORMCORE_INLINE vwide w_add(vwide a, vwide b) { WIDE(_mm256_add_pd(a.lo, b.lo), _mm256_add_pd(a.hi, b.hi)); }
NORMCORE_INLINE vwide w_sub(vwide a, vwide b) { WIDE(_mm256_sub_pd(a.lo, b.lo), _mm256_sub_pd(a.hi, b.hi)); }
NORMCORE_INLINE vwide w_mul(vwide a, vwide b) { WIDE(_mm256_mul_pd(a.lo, b.lo), _mm256_mul_pd(a.hi, b.hi)); }
NORMCORE_INLINE vwide w_div(vwide a, vwide b) { WIDE(_mm256_div_pd(a.lo, b.lo), _mm256_div_pd(a.hi, b.hi)); }
NORMCORE_INLINE vwide w_fma(vwide a, vwide b, vwide c) {
    WIDE(_mm256_fmadd_pd(a.lo, b.lo, c.lo), _mm256_fmadd_pd(a.hi, b.hi, c.hi));
}
NORMCORE_INLINE __m256d w_blend(size_t n, __m256d a, __m256d b) {
    return _mm256_blendv_pd(b, a, _mm256_castsi256_pd(first_64(n)));
}
/* As an fma with 1; see avx512.h. */
NORMCORE_INLINE vwide w_accumulate(vwide sum, vwide a) { return w_fma(a, w_set1(1.0), sum); }
NORMCORE_INLINE double w_fold(vwide a) { return fold_pd(_mm256_add_pd(a.lo, a.hi)); }
NORMCORE_INLINE vwide w_select_tail(size_t n, vwide a, vwide b) {
    WIDE(w_blend(w_count_lo(n), a.lo, b.lo), w_blend(w_count_hi(n), a.hi, b.hi));
}
NORMCORE_INLINE __m256d w_nonzero(__m256d a) { return _mm256_cmp_pd(a, _mm256_setzero_pd(), _CMP_NEQ_UQ); }
NORMCORE_INLINE vwide w_where_nonzero(vwide a, vwide x) {
    WIDE(_mm256_and_pd(w_nonzero(a.lo), x.lo), _mm256_and_pd(w_nonzero(a.hi), x.hi));
}
#undef WIDE

#else

enum { VL = 4 };
enum { GEMM_MR = 6, GEMM_NV = 2 };

typedef __m256d vreal;
typedef __m256d vmask;

NORMCORE_INLINE vreal v_load(const real *p) { return _mm256_loadu_pd(p); }
NORMCORE_INLINE void v_store(real *p, vreal a) { _mm256_storeu_pd(p, a); }
NORMCORE_INLINE vreal v_load_tail(const real *p, size_t n) { return _mm256_maskload_pd(p, first_64(n)); }
NORMCORE_INLINE void v_store_tail(real *p, vreal a, size_t n) { _mm256_maskstore_pd(p, first_64(n), a); }
NORMCORE_INLINE vreal v_set1(real a) { return _mm256_set1_pd(a); }
NORMCORE_INLINE vreal v_add(vreal a, vreal b) { return _mm256_add_pd(a, b); }
NORMCORE_INLINE vreal v_sub(vreal a, vreal b) { return _mm256_sub_pd(a, b); }
NORMCORE_INLINE vreal v_mul(vreal a, vreal b) { return _mm256_mul_pd(a, b); }
NORMCORE_INLINE vreal v_div(vreal a, vreal b) { return _mm256_div_pd(a, b); }
NORMCORE_INLINE vreal v_sqrt(vreal a) { return _mm256_sqrt_pd(a); }
NORMCORE_INLINE vreal v_fma(vreal a, vreal b, vreal c) { return _mm256_fmadd_pd(a, b, c); }
NORMCORE_INLINE vreal v_fnma(vreal a, vreal b, vreal c) { return _mm256_fnmadd_pd(a, b, c); }
NORMCORE_INLINE vreal v_max(vreal a, vreal b) { return _mm256_max_pd(a, b); }
NORMCORE_INLINE real v_greatest(vreal a) {
    const __m128d b = _mm_max_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_max_sd(b, _mm_unpackhi_pd(b, b)));
}
NORMCORE_INLINE vmask v_gt(vreal a, vreal b) { return _mm256_cmp_pd(a, b, _CMP_GT_OQ); }
NORMCORE_INLINE vmask v_le(vreal a, vreal b) { return _mm256_cmp_pd(a, b, _CMP_LE_OQ); }
NORMCORE_INLINE vmask v_eq(vreal a, vreal b) { return _mm256_cmp_pd(a, b, _CMP_EQ_OQ); }
NORMCORE_INLINE vmask v_isnan(vreal a) { return _mm256_cmp_pd(a, a, _CMP_UNORD_Q); }
NORMCORE_INLINE unsigned v_count(vmask m) { return (unsigned)_mm_popcnt_u32((unsigned)_mm256_movemask_pd(m)); }
NORMCORE_INLINE vreal v_select(vmask m, vreal a, vreal b) { return _mm256_blendv_pd(b, a, m); }
NORMCORE_INLINE vreal v_select_tail(size_t n, vreal a, vreal b) {
    return v_select(_mm256_castsi256_pd(first_64(n)), a, b);
}
NORMCORE_INLINE vreal v_round(vreal a) { return _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
NORMCORE_INLINE __m256d w_power_of_two(__m128i n) {
    return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_cvtepi32_epi64(_mm_add_epi32(n, _mm_set1_epi32(1023))), 52));
}
NORMCORE_INLINE vreal v_scale(vreal a, vreal n) {
    const __m128i whole = _mm256_cvtpd_epi32(n), half = _mm_srai_epi32(whole, 1);
    return _mm256_mul_pd(_mm256_mul_pd(a, w_power_of_two(half)), w_power_of_two(_mm_sub_epi32(whole, half)));
}

NORMCORE_INLINE void v_transpose(vreal r[VL]) {
    const __m256d a = _mm256_unpacklo_pd(r[0], r[1]), b = _mm256_unpackhi_pd(r[0], r[1]);
    const __m256d c = _mm256_unpacklo_pd(r[2], r[3]), d = _mm256_unpackhi_pd(r[2], r[3]);
    r[0] = _mm256_permute2f128_pd(a, c, 0x20);
    r[1] = _mm256_permute2f128_pd(b, d, 0x20);
    r[2] = _mm256_permute2f128_pd(a, c, 0x31);
    r[3] = _mm256_permute2f128_pd(b, d, 0x31);
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
