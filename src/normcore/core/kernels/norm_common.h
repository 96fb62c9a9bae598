/*
 * How both norms turn a double mean and rstd into what is applied to elements.
 *
 * float: xhat = (x - hi) r + ((x - hi) r_lo + c) by two fmas, where hi is the mean rounded to float, c = -(mean - hi)
 * rstd what that rounding left out (it costs mean / std / 2^24 elsewhere, which is what ruins large offsets), and r +
 * r_lo is rstd: errors of at most 1.5 ulp where (x - hi - lo) r has 2.7, for the same three operations. Where rstd
 * lies outside 2^+-64, powers of two keep every step inside the range of float: large data is made small before the
 * subtraction, small data large after it. double: the plain formula.
 */
#ifndef NORMCORE_NORM_COMMON_H
#define NORMCORE_NORM_COMMON_H

#include "kernels/kernels.h"
#include "simd/simd.h"

typedef struct norm_constants {
    real hi, c, r, r_lo, pre, post;
} norm_constants;

#if NORMCORE_DTYPE == 32

NORMCORE_INLINE int norm_is_plain(double rstd) { return rstd >= 0x1p-64 && rstd <= 0x1p64; }

NORMCORE_INLINE double power_of_two(int k) {
    const uint64_t bits = (uint64_t)(k + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* The greatest power of two that is not above a positive number that is not subnormal. */
NORMCORE_INLINE float power_below(float a) {
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    bits &= UINT32_C(0xff) << 23;
    memcpy(&a, &bits, sizeof a);
    return a;
}

/* 2^k is the power of two below rstd, k in [-126, 126]; 0 where it is plain, NaN or 0. */
NORMCORE_INLINE int norm_exponent(double rstd) {
    if (norm_is_plain(rstd) || !(rstd > 0.0)) return 0;
    uint64_t bits;
    memcpy(&bits, &rstd, sizeof bits);
    const int k = (int)(bits >> 52) - 1023;
    return k < -126 ? -126 : k > 126 ? 126 : k;
}
/* pre times post. */
NORMCORE_INLINE double norm_power(double rstd) { return power_of_two(norm_exponent(rstd)); }

NORMCORE_INLINE norm_constants plain_constants_of(double mean, double rstd) {
    norm_constants c;
    c.hi = (real)mean;
    c.c = (real)(((double)c.hi - mean) * rstd);
    c.r = (real)rstd;
    c.r_lo = (real)(rstd - (double)c.r);
    c.pre = c.post = (real)1;
    return c;
}

static norm_constants norm_constants_of(double mean, double rstd) {
    const int k = norm_exponent(rstd);
    const double pre = k < 0 ? power_of_two(k) : 1.0, scaled_mean = mean * pre;
    norm_constants c;
    c.pre = (real)pre;
    c.post = (real)(k > 0 ? power_of_two(k) : 1.0);
    const double scaled_rstd = rstd * power_of_two(-k); /* by both pre and post */
    c.hi = (real)scaled_mean;
    c.c = (real)(((double)c.hi - scaled_mean) * ((double)c.post * scaled_rstd));
    c.r = (real)scaled_rstd;
    c.r_lo = (real)(scaled_rstd - (double)c.r);
    return c;
}

#else

NORMCORE_INLINE int norm_is_plain(double rstd) {
    (void)rstd;
    return 1;
}
NORMCORE_INLINE double norm_power(double rstd) {
    (void)rstd;
    return 1.0;
}
NORMCORE_INLINE norm_constants plain_constants_of(double mean, double rstd) {
    const norm_constants c = {mean, 0.0, rstd, 0.0, 1.0, 1.0};
    return c;
}
static norm_constants norm_constants_of(double mean, double rstd) { return plain_constants_of(mean, rstd); }

#endif

/* The constants in vectors: of the columns of one vector, or of a row in every lane. */
typedef struct norm_block {
    vreal hi, c, r, r_lo, pre, post;
} norm_block;

/* plain: pre and post are 1. */
NORMCORE_INLINE vreal v_xhat(vreal x, const norm_block *b, int plain) {
#if NORMCORE_DTYPE == 32
    const vreal t = plain ? v_sub(x, b->hi) : v_mul(v_sub(v_mul(x, b->pre), b->hi), b->post);
    return v_fma(t, b->r, v_fma(t, b->r_lo, b->c));
#else
    (void)plain;
    return v_mul(v_sub(x, b->hi), b->r);
#endif
}

/*
 * dx = rstd (g - mean(g) - xhat mean(g xhat)), times gamma in batch norm. With scale = gamma rstd, h = -scale mean(g
 * xhat) and xhat = t u + c it is g scale + t (h u) + (c h - scale mean(g)), without xhat, whose rounding error would be
 * multiplied by h. The product of t comes last: it is the greatest where g goes along with x. s + s_lo is scale, q +
 * q_lo is h u. t is x - mean times a power of two, w, of about rstd, which keeps q within range. double: g s + (xhat q +
 * p), without the low parts.
 */
typedef struct norm_dx_constants {
    real w, s, s_lo, q, q_lo, p;
} norm_dx_constants;

/* 2^k = pre post, which divides everything, is 1 where plain; c as in norm_constants. */
NORMCORE_INLINE norm_dx_constants norm_dx_constants_of(const int plain, double rstd, double power, double c,
                                                       double gamma, double mean_g, double mean_g_xhat) {
    const double scaled = plain ? rstd : rstd / power, scale = gamma * scaled;
    const double h = -mean_g_xhat * scale, rest = -mean_g * scale;
    norm_dx_constants d;
    d.s = (real)scale;
#if NORMCORE_DTYPE == 32
    d.w = plain || norm_is_plain(rstd) ? power_below((real)rstd) : (real)1;
    const double product = h * (scaled / (double)d.w);
    d.s_lo = (real)(scale - (double)d.s);
    d.q = (real)product;
    d.q_lo = (real)(product - (double)d.q);
    d.p = (real)(c * h + rest);
#else
    (void)c;
    d.q = h;
    d.p = rest;
    d.w = d.s_lo = d.q_lo = 0.0;
#endif
    return d;
}

typedef struct norm_dx_block {
    vreal w, s, s_lo, q, q_lo, p;
} norm_dx_block;

NORMCORE_INLINE vreal v_norm_dx(vreal g, vreal x, const norm_block *b, const norm_dx_block *d, int plain) {
#if NORMCORE_DTYPE == 32
    const vreal centred = plain ? v_sub(x, b->hi) : v_mul(v_sub(v_mul(x, b->pre), b->hi), b->post);
    const vreal t = v_mul(centred, d->w);
    const vreal dx = v_fma(t, d->q, v_fma(g, d->s, v_fma(g, d->s_lo, v_fma(t, d->q_lo, d->p))));
    return plain ? dx : v_mul(v_mul(dx, b->pre), b->post);
#else
    return v_fma(g, d->s, v_fma(v_xhat(x, b, plain), d->q, d->p));
#endif
}

/*
 * Means over fewer than CONTRACT_SHORT elements: xhat and the result may be several times the greatest |dy| rstd, so that
 * v_norm_dx would cost up to 3 ulp of it. Everything is in double there and rounded once, and a mean over one element
 * gives exactly 0.
 */
NORMCORE_INLINE vwide w_xhat(vreal x, vwide mean, vwide rstd) { return w_mul(w_sub(w_widen(x), mean), rstd); }
NORMCORE_INLINE vreal w_norm_dx(vwide g, vwide xhat, vwide mean_g, vwide mean_g_xhat, vwide scale) {
    return w_narrow(w_mul(w_sub(w_sub(g, mean_g), w_mul(xhat, mean_g_xhat)), scale));
}

/* Sum of squares about the mean from sums about a shift: floored at 0, NaN kept. */
NORMCORE_INLINE double m2_from_sums(double sum, double sum_of_squares, double count) {
    const double m2 = sum_of_squares - sum * sum / count;
    return m2 < 0.0 ? 0.0 : m2;
}

#endif
