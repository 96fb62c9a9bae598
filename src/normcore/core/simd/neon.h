/* AArch64 Advanced SIMD: 4 floats or 2 doubles. */
#ifndef NORMCORE_SIMD_NEON_H
#define NORMCORE_SIMD_NEON_H

#include "numeric/guards.h"

#include "numeric/dtype.h"

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

/* 24 accumulators, 3 vectors of B and one of A in 32 registers; 8 x 12 floats is also the tile of BLIS's armv8a. */
enum { GEMM_MR = 8, GEMM_NV = 3 };

/* Tails go lane by lane: there is no masked access, and none may touch memory past the end. */
NORMCORE_INLINE float64x2_t load_tail_f64(const double *p, size_t n) {
    float64x2_t r = vdupq_n_f64(0.0);
    if (n > 0) r = vld1q_lane_f64(p, r, 0);
    if (n > 1) r = vld1q_lane_f64(p + 1, r, 1);
    return r;
}
NORMCORE_INLINE void store_tail_f64(double *p, float64x2_t a, size_t n) {
    if (n > 0) vst1q_lane_f64(p, a, 0);
    if (n > 1) vst1q_lane_f64(p + 1, a, 1);
}
/* The first n lanes. */
static const uint64_t lane_numbers_64[2] = {0, 1};
NORMCORE_INLINE uint64x2_t first_64(size_t n) { return vcgtq_u64(vdupq_n_u64(n), vld1q_u64(lane_numbers_64)); }

#if NORMCORE_DTYPE == 32

enum { VL = 4 };

typedef float32x4_t vreal;
typedef uint32x4_t vmask;

NORMCORE_INLINE vreal v_load(const real *p) { return vld1q_f32(p); }
NORMCORE_INLINE void v_store(real *p, vreal a) { vst1q_f32(p, a); }
NORMCORE_INLINE vreal v_load_tail(const real *p, size_t n) {
    vreal r = vdupq_n_f32(0.0f);
    if (n > 0) r = vld1q_lane_f32(p, r, 0);
    if (n > 1) r = vld1q_lane_f32(p + 1, r, 1);
    if (n > 2) r = vld1q_lane_f32(p + 2, r, 2);
    if (n > 3) r = vld1q_lane_f32(p + 3, r, 3);
    return r;
}
NORMCORE_INLINE void v_store_tail(real *p, vreal a, size_t n) {
    if (n > 0) vst1q_lane_f32(p, a, 0);
    if (n > 1) vst1q_lane_f32(p + 1, a, 1);
    if (n > 2) vst1q_lane_f32(p + 2, a, 2);
    if (n > 3) vst1q_lane_f32(p + 3, a, 3);
}
NORMCORE_INLINE vreal v_set1(real a) { return vdupq_n_f32(a); }
NORMCORE_INLINE vreal v_add(vreal a, vreal b) { return vaddq_f32(a, b); }
NORMCORE_INLINE vreal v_sub(vreal a, vreal b) { return vsubq_f32(a, b); }
NORMCORE_INLINE vreal v_mul(vreal a, vreal b) { return vmulq_f32(a, b); }
NORMCORE_INLINE vreal v_div(vreal a, vreal b) { return vdivq_f32(a, b); }
NORMCORE_INLINE vreal v_sqrt(vreal a) { return vsqrtq_f32(a); }
NORMCORE_INLINE vreal v_fma(vreal a, vreal b, vreal c) { return vfmaq_f32(c, a, b); }
NORMCORE_INLINE vreal v_fnma(vreal a, vreal b, vreal c) { return vfmsq_f32(c, a, b); }
NORMCORE_INLINE vreal v_max(vreal a, vreal b) { return vmaxq_f32(a, b); }
NORMCORE_INLINE real v_greatest(vreal a) { return vmaxvq_f32(a); }
NORMCORE_INLINE vmask v_gt(vreal a, vreal b) { return vcgtq_f32(a, b); }
NORMCORE_INLINE vmask v_le(vreal a, vreal b) { return vcleq_f32(a, b); }
NORMCORE_INLINE vmask v_eq(vreal a, vreal b) { return vceqq_f32(a, b); }
NORMCORE_INLINE vmask v_isnan(vreal a) { return vmvnq_u32(vceqq_f32(a, a)); }
NORMCORE_INLINE unsigned v_count(vmask m) { return vaddvq_u32(vshrq_n_u32(m, 31)); }
NORMCORE_INLINE vreal v_select(vmask m, vreal a, vreal b) { return vbslq_f32(m, a, b); }
static const uint32_t lane_numbers_32[4] = {0, 1, 2, 3};
NORMCORE_INLINE vreal v_select_tail(size_t n, vreal a, vreal b) {
    return v_select(vcgtq_u32(vdupq_n_u32((uint32_t)n), vld1q_u32(lane_numbers_32)), a, b);
}
NORMCORE_INLINE vreal v_round(vreal a) { return vrndnq_f32(a); }
NORMCORE_INLINE vreal v_scale(vreal a, vreal n) {
    const int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1), bias = vdupq_n_s32(127);
    const int32x4_t first = vshlq_n_s32(vaddq_s32(half, bias), 23);
    const int32x4_t second = vshlq_n_s32(vaddq_s32(vsubq_s32(whole, half), bias), 23);
    return vmulq_f32(vmulq_f32(a, vreinterpretq_f32_s32(first)), vreinterpretq_f32_s32(second));
}

/* Row i becomes lane i: pairs of 32, then of 64 bits change places. */
NORMCORE_INLINE void v_transpose(vreal r[VL]) {
    const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1])),
                      b = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
    const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3])),
                      d = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
    r[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    r[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    r[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    r[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

typedef struct vwide {
    float64x2_t lo, hi;
} vwide;
#define WIDE(lo_, hi_)                                                                                                 \
    vwide r;                                                                                                           \
    r.lo = (lo_);                                                                                                      \
    r.hi = (hi_);                                                                                                      \
    return r
NORMCORE_INLINE size_t w_count_lo(size_t n) { return n < 2 ? n : 2; }
NORMCORE_INLINE size_t w_count_hi(size_t n) { return n < 2 ? 0 : n - 2; }
NORMCORE_INLINE vwide w_widen(vreal a) { WIDE(vcvt_f64_f32(vget_low_f32(a)), vcvt_high_f64_f32(a)); }
NORMCORE_INLINE vwide w_load_widened(const real *p) { return w_widen(v_load(p)); }
NORMCORE_INLINE vreal w_narrow(vwide a) { return vcvt_high_f32_f64(vcvt_f32_f64(a.lo), a.hi); }
NORMCORE_INLINE vwide w_set1(double a) { WIDE(vdupq_n_f64(a), vdupq_n_f64(a)); }
NORMCORE_INLINE vwide w_load(const double *p) { WIDE(vld1q_f64(p), vld1q_f64(p + 2)); }
NORMCORE_INLINE void w_store(double *p, vwide a) {
    vst1q_f64(p, a.lo);
    vst1q_f64(p + 2, a.hi);
}
NORMCORE_INLINE vwide w_load_tail(const double *p, size_t n) {
    WIDE(load_tail_f64(p, w_count_lo(n)), load_tail_f64(p + 2, w_count_hi(n)));
}
NORMCORE_INLINE void w_store_tail(double *p, vwide a, size_t n) {
    store_tail_f64(p, a.lo, w_count_lo(n));
    store_tail_f64(p + 2, a.hi, w_count_hi(n));
}
NORMCORE_INLINE vwide w_add(vwide a, vwide b) { WIDE(vaddq_f64(a.lo, b.lo), vaddq_f64(a.hi, b.hi)); }
NORMCORE_INLINE vwide w_sub(vwide a, vwide b) { WIDE(vsubq_f64(a.lo, b.lo), vsubq_f64(a.hi, b.hi)); }
NORMCORE_INLINE vwide w_mul(vwide a, vwide b) { WIDE(vmulq_f64(a.lo, b.lo), vmulq_f64(a.hi, b.hi)); }
NORMCORE_INLINE vwide w_div(vwide a, vwide b) { WIDE(vdivq_f64(a.lo, b.lo), vdivq_f64(a.hi, b.hi)); }
NORMCORE_INLINE vwide w_fma(vwide a, vwide b, vwide c) {
    WIDE(vfmaq_f64(c.lo, a.lo, b.lo), vfmaq_f64(c.hi, a.hi, b.hi));
}
NORMCORE_INLINE vwide w_accumulate(vwide sum, vwide a) { return w_add(sum, a); }
NORMCORE_INLINE double w_fold(vwide a) { return vpaddd_f64(vaddq_f64(a.lo, a.hi)); }
NORMCORE_INLINE vwide w_select_tail(size_t n, vwide a, vwide b) {
    WIDE(vbslq_f64(first_64(w_count_lo(n)), a.lo, b.lo), vbslq_f64(first_64(w_count_hi(n)), a.hi, b.hi));
}
NORMCORE_INLINE float64x2_t w_clear_where_zero(float64x2_t a, float64x2_t x) {
    return vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(x), vceqzq_f64(a)));
}
NORMCORE_INLINE vwide w_where_nonzero(vwide a, vwide x) {
    WIDE(w_clear_where_zero(a.lo, x.lo), w_clear_where_zero(a.hi, x.hi));
}
#undef WIDE

#else

enum { VL = 2 };

typedef float64x2_t vreal;
typedef uint64x2_t vmask;

NORMCORE_INLINE vreal v_load(const real *p) { return vld1q_f64(p); }
NORMCORE_INLINE void v_store(real *p, vreal a) { vst1q_f64(p, a); }
NORMCORE_INLINE vreal v_load_tail(const real *p, size_t n) { return load_tail_f64(p, n); }
NORMCORE_INLINE void v_store_tail(real *p, vreal a, size_t n) { store_tail_f64(p, a, n); }
NORMCORE_INLINE vreal v_set1(real a) { return vdupq_n_f64(a); }
NORMCORE_INLINE vreal v_add(vreal a, vreal b) { return vaddq_f64(a, b); }
NORMCORE_INLINE vreal v_sub(vreal a, vreal b) { return vsubq_f64(a, b); }
NORMCORE_INLINE vreal v_mul(vreal a, vreal b) { return vmulq_f64(a, b); }
NORMCORE_INLINE vreal v_div(vreal a, vreal b) { return vdivq_f64(a, b); }
NORMCORE_INLINE vreal v_sqrt(vreal a) { return vsqrtq_f64(a); }
NORMCORE_INLINE vreal v_fma(vreal a, vreal b, vreal c) { return vfmaq_f64(c, a, b); }
NORMCORE_INLINE vreal v_fnma(vreal a, vreal b, vreal c) { return vfmsq_f64(c, a, b); }
NORMCORE_INLINE vreal v_max(vreal a, vreal b) { return vmaxq_f64(a, b); }
NORMCORE_INLINE real v_greatest(vreal a) { return vmaxvq_f64(a); }
NORMCORE_INLINE vmask v_gt(vreal a, vreal b) { return vcgtq_f64(a, b); }
NORMCORE_INLINE vmask v_le(vreal a, vreal b) { return vcleq_f64(a, b); }
NORMCORE_INLINE vmask v_eq(vreal a, vreal b) { return vceqq_f64(a, b); }
NORMCORE_INLINE vmask v_isnan(vreal a) { return vceqzq_u64(vceqq_f64(a, a)); }
NORMCORE_INLINE unsigned v_count(vmask m) { return (unsigned)vaddvq_u64(vshrq_n_u64(m, 63)); }
NORMCORE_INLINE vreal v_select(vmask m, vreal a, vreal b) { return vbslq_f64(m, a, b); }
NORMCORE_INLINE vreal v_select_tail(size_t n, vreal a, vreal b) { return v_select(first_64(n), a, b); }
NORMCORE_INLINE vreal v_round(vreal a) { return vrndnq_f64(a); }
NORMCORE_INLINE vreal v_scale(vreal a, vreal n) {
    const int64x2_t whole = vcvtnq_s64_f64(n), half = vshrq_n_s64(whole, 1), bias = vdupq_n_s64(1023);
    const int64x2_t first = vshlq_n_s64(vaddq_s64(half, bias), 52);
    const int64x2_t second = vshlq_n_s64(vaddq_s64(vsubq_s64(whole, half), bias), 52);
    return vmulq_f64(vmulq_f64(a, vreinterpretq_f64_s64(first)), vreinterpretq_f64_s64(second));
}

NORMCORE_INLINE void v_transpose(vreal r[VL]) {
    const float64x2_t a = r[0], b = r[1];
    r[0] = vtrn1q_f64(a, b);
    r[1] = vtrn2q_f64(a, b);
}

typedef vreal vwide;
NORMCORE_INLINE vwide w_widen(vreal a) { return a; }
NORMCORE_INLINE vreal w_narrow(vwide a) { return a; }
NORMCORE_INLINE double w_fold(vwide a) { return vpaddd_f64(a); }
NORMCORE_INLINE vwide w_where_nonzero(vwide a, vwide x) { return v_select(v_eq(a, v_set1(0.0)), v_set1(0.0), x); }
#define w_load_widened v_load
#define w_accumulate   v_add
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
