/*
 * fma(a, b, c) rounded once, on every machine: the hardware instruction where the compiler says it is one
 * (FP_FAST_FMA), else integer or double arithmetic of our own. The C library's fma is not trusted: several ship one
 * that rounds twice.
 */
#ifndef NORMCORE_EXACT_FMA_H
#define NORMCORE_EXACT_FMA_H

#include "numeric/guards.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/*
 * Emulation for float: the product of two floats is exact in double. The sum is rounded to odd (truncated, with the
 * last bit set if anything was cut), after which the rounding to float, 29 bits shorter, sees all it needs (Boldo and
 * Melquiond, IEEE TC 57 (2008) 462).
 */
NORMCORE_INLINE float emulated_fma_f32(float a, float b, float c) {
    const double p = (double)a * (double)b, addend = (double)c;
    double sum = p + addend;
    const double part = sum - p;
    const double error = (p - (sum - part)) + (addend - part); /* TwoSum: sum + error == p + c */
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if (error != 0.0 && error == error && !(bits & 1)) {
        /* sum was rounded away from or towards zero; step to the odd neighbour on the side of the error. */
        bits += (error > 0.0) == (sum > 0.0) ? 1u : UINT64_MAX;
        memcpy(&sum, &bits, sizeof sum);
    }
    return (float)sum;
}

/* 128-bit integers as two halves, for the double emulation. */
typedef struct fma_u128 {
    uint64_t hi, lo;
} fma_u128;

NORMCORE_INLINE fma_u128 fma_multiply(uint64_t a, uint64_t b) {
    const uint64_t a1 = a >> 32, a0 = a & 0xffffffffu, b1 = b >> 32, b0 = b & 0xffffffffu;
    const uint64_t low = a0 * b0, mid = a1 * b0 + (low >> 32), mid2 = a0 * b1 + (mid & 0xffffffffu);
    fma_u128 r;
    r.hi = a1 * b1 + (mid >> 32) + (mid2 >> 32);
    r.lo = (mid2 << 32) | (low & 0xffffffffu);
    return r;
}
NORMCORE_INLINE fma_u128 fma_shift_left(fma_u128 a, unsigned n) { /* n < 128 */
    if (n >= 64) {
        a.hi = a.lo << (n - 64);
        a.lo = 0;
    } else if (n) {
        a.hi = a.hi << n | a.lo >> (64 - n);
        a.lo <<= n;
    }
    return a;
}
/* Shifts right; the last bit of the result is set if any bit fell off. */
NORMCORE_INLINE fma_u128 fma_shift_right_sticky(fma_u128 a, int64_t n) {
    fma_u128 r;
    uint64_t lost;
    if (n >= 128) {
        lost = a.hi | a.lo;
        r.hi = r.lo = 0;
    } else if (n >= 64) {
        lost = a.lo | (n > 64 ? a.hi << (128 - n) : 0);
        r.hi = 0;
        r.lo = a.hi >> (n - 64);
    } else if (n > 0) {
        lost = a.lo << (64 - n);
        r.hi = a.hi >> n;
        r.lo = a.lo >> n | a.hi << (64 - n);
    } else {
        return a;
    }
    r.lo |= lost != 0;
    return r;
}

NORMCORE_INLINE int fma_leading_zeros(uint64_t a) { /* a != 0 */
#if defined(__GNUC__)
    return __builtin_clzll(a);
#else
    int zeros = 0;
    for (; !(a >> 63); a <<= 1) zeros++;
    return zeros;
#endif
}

/* |a| as mantissa 2^exponent with 2^52 <= mantissa < 2^53; a is finite and not 0. */
NORMCORE_INLINE uint64_t fma_split(double a, int64_t *exponent) {
    uint64_t bits;
    memcpy(&bits, &a, sizeof bits);
    uint64_t mantissa = bits & 0xfffffffffffffu;
    int64_t e = (int64_t)(bits >> 52 & 0x7ff);
    if (e) {
        mantissa |= 0x10000000000000u;
    } else {
        const int shift = fma_leading_zeros(mantissa) - 11;
        mantissa <<= shift;
        e = 1 - shift;
    }
    *exponent = e - 1075;
    return mantissa;
}

/*
 * Emulation for double in integers: the exact product and addend, aligned in 128 bits, added, rounded to nearest even
 * once. Never inlined: it is long, and kernels have hundreds of fmas (gcc took minutes over them for 32-bit ARM).
 */
NORMCORE_NOINLINE double emulated_fma_f64(double a, double b, double c) {
    const double infinity = (double)INFINITY;
    if (!(fabs(a) < infinity) || !(fabs(b) < infinity) || a == 0.0 || b == 0.0)
        return a * b + c; /* exact, or special */
    if (!(fabs(c) < infinity)) return c;
    if (c == 0.0) return a * b;

    int64_t ea, eb, ec;
    const uint64_t ma = fma_split(a, &ea), mb = fma_split(b, &eb), mc = fma_split(c, &ec);
    const int negative_product = (a < 0.0) != (b < 0.0), negative_addend = c < 0.0;
    /*
     * Both leading bits at 124 or 125. The low 20 bits are zero, so nothing is lost where the leading
     * bits could cancel.
     */
    fma_u128 p = fma_shift_left(fma_multiply(ma, mb), 20), q = {0, 0};
    q.lo = mc;
    q = fma_shift_left(q, 72);
    int64_t e = ea + eb - 20;
    const int64_t distance = e - (ec - 72);
    if (distance >= 0) {
        q = fma_shift_right_sticky(q, distance);
    } else {
        p = fma_shift_right_sticky(p, -distance);
        e = ec - 72;
    }

    int negative = negative_product;
    fma_u128 sum;
    if (negative_product == negative_addend) {
        sum.lo = p.lo + q.lo;
        sum.hi = p.hi + q.hi + (sum.lo < p.lo);
    } else {
        if (p.hi < q.hi || (p.hi == q.hi && p.lo < q.lo)) {
            const fma_u128 swap = p;
            p = q;
            q = swap;
            negative = negative_addend;
        }
        sum.lo = p.lo - q.lo;
        sum.hi = p.hi - q.hi - (p.lo < q.lo);
        if (!(sum.hi | sum.lo)) return 0.0;
    }

    const int64_t top = sum.hi ? 127 - fma_leading_zeros(sum.hi) : 63 - fma_leading_zeros(sum.lo);
    int64_t unit = top + e - 52; /* exponent of the result's last bit */
    if (unit < -1074) unit = -1074;
    uint64_t mantissa;
    if (unit <= e) {
        mantissa = fma_shift_left(sum, (unsigned)(e - unit)).lo;
    } else {
        /* Two bits more than the mantissa: half and sticky. */
        const fma_u128 cut = fma_shift_right_sticky(fma_shift_left(sum, 1), unit - e - 1);
        mantissa = cut.lo >> 2;
        if ((cut.lo & 2) && ((cut.lo & 1) || (mantissa & 1))) mantissa++;
    }
    if (mantissa >> 53) {
        mantissa >>= 1;
        unit++;
    }
    if (unit + 52 > 1023) return negative ? -infinity : infinity;
    uint64_t bits = mantissa;
    if (mantissa >> 52) bits = (mantissa & 0xfffffffffffffu) | (uint64_t)(unit + 1075) << 52;
    if (negative) bits |= 0x8000000000000000u;
    double result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* The builtin is the instruction even at -O0, where fma is a call of the C library. */
#if defined(__GNUC__)
#define NORMCORE_FMAF __builtin_fmaf
#define NORMCORE_FMA  __builtin_fma
#else
#define NORMCORE_FMAF fmaf
#define NORMCORE_FMA  fma
#endif

#if defined(FP_FAST_FMAF) || defined(__FP_FAST_FMAF)
NORMCORE_INLINE float exact_fma_f32(float a, float b, float c) { return NORMCORE_FMAF(a, b, c); }
#else
NORMCORE_INLINE float exact_fma_f32(float a, float b, float c) { return emulated_fma_f32(a, b, c); }
#endif
#if defined(FP_FAST_FMA) || defined(__FP_FAST_FMA)
NORMCORE_INLINE double exact_fma_f64(double a, double b, double c) { return NORMCORE_FMA(a, b, c); }
#else
NORMCORE_INLINE double exact_fma_f64(double a, double b, double c) { return emulated_fma_f64(a, b, c); }
#endif

#endif
