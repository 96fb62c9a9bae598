/*
 * How both norms turn a double mean and rstd into what is applied to elements.
 *
 * float: with t = x - shift, xhat = t scale + (t scale_rest + offset) by two fmas. shift is the mean rounded to float,
 * offset = -(mean - shift) rstd what that rounding left out (it costs mean / std / 2^24 elsewhere, which is what ruins
 * large offsets), and scale + scale_rest is rstd: errors of at most 1.5 ulp where (x - shift - rest) scale has 2.7, for
 * the same three operations. Where rstd lies outside 2^+-64, powers of two keep every step inside the range of float:
 * `before` makes large data small before the subtraction, `after` small data large after it. double: the plain formula.
 */
#ifndef NORMCORE_NORM_COMMON_H
#define NORMCORE_NORM_COMMON_H

#include "kernels/kernels.h"
#include "simd/simd.h"

#define NUMBER(name) real name;
#define VECTOR(name) vreal name;

typedef struct norm_constants {
    NORM_CONSTANTS(NUMBER)
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
/* before times after. */
NORMCORE_INLINE double norm_power(double rstd) { return power_of_two(norm_exponent(rstd)); }

NORMCORE_INLINE norm_constants plain_constants_of(double mean, double rstd) {
    norm_constants c;
    c.shift = (real)mean;
    c.offset = (real)(((double)c.shift - mean) * rstd);
    c.scale = (real)rstd;
    c.scale_rest = (real)(rstd - (double)c.scale);
    c.before = c.after = (real)1;
    return c;
}

static norm_constants norm_constants_of(double mean, double rstd) {
    const int k = norm_exponent(rstd);
    const double pre = k < 0 ? power_of_two(k) : 1.0, scaled_mean = mean * pre;
    norm_constants c;
    c.before = (real)pre;
    c.after = (real)(k > 0 ? power_of_two(k) : 1.0);
    const double scaled_rstd = rstd * power_of_two(-k); /* by both pre and post */
    c.shift = (real)scaled_mean;
    c.offset = (real)(((double)c.shift - scaled_mean) * ((double)c.after * scaled_rstd));
    c.scale = (real)scaled_rstd;
    c.scale_rest = (real)(scaled_rstd - (double)c.scale);
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
    NORM_CONSTANTS(VECTOR)
} norm_block;

/* plain: before and after are 1. */
NORMCORE_INLINE vreal v_xhat(vreal x, const norm_block *b, int plain) {
#if NORMCORE_DTYPE == 32
    const vreal t = plain ? v_sub(x, b->shift) : v_mul(v_sub(v_mul(x, b->before), b->shift), b->after);
    return v_fma(t, b->scale, v_fma(t, b->scale_rest, b->offset));
#else
    (void)plain;
    return v_mul(v_sub(x, b->shift), b->scale);
#endif
}

/*
 * dx = rstd (g - mean(g) - xhat mean(g xhat)), times gamma in batch norm. With scale = gamma rstd, h = -scale mean(g
 * xhat) and xhat = t u + offset it is g scale + t (h u) + (offset h - scale mean(g)), without xhat, whose rounding error
 * would be multiplied by h. The product of t comes last: it is the greatest where g goes along with x. g_scale +
 * g_scale_rest is scale, t_scale + t_scale_rest is h u, constant the sum in brackets. t is x - mean times a power of
 * two, `power`, of about rstd, which keeps t_scale within range. double: g g_scale + (xhat t_scale + constant), without
 * the rests.
 */
typedef struct norm_dx_constants {
    NORM_DX_CONSTANTS(NUMBER)
} norm_dx_constants;

/* `power` = before after, which divides everything, is 1 where plain; offset as in norm_constants. */
NORMCORE_INLINE norm_dx_constants norm_dx_constants_of(const int plain, double rstd, double power, double offset,
                                                       double gamma, double mean_g, double mean_g_xhat) {
    const double scaled = plain ? rstd : rstd / power, scale = gamma * scaled;
    const double h = -mean_g_xhat * scale, rest = -mean_g * scale;
    norm_dx_constants d;
    d.g_scale = (real)scale;
#if NORMCORE_DTYPE == 32
    d.power = plain || norm_is_plain(rstd) ? power_below((real)rstd) : (real)1;
    const double product = h * (scaled / (double)d.power);
    d.g_scale_rest = (real)(scale - (double)d.g_scale);
    d.t_scale = (real)product;
    d.t_scale_rest = (real)(product - (double)d.t_scale);
    d.constant = (real)(offset * h + rest);
#else
    (void)offset;
    d.t_scale = h;
    d.constant = rest;
    d.power = d.g_scale_rest = d.t_scale_rest = 0.0;
#endif
    return d;
}

typedef struct norm_dx_block {
    NORM_DX_CONSTANTS(VECTOR)
} norm_dx_block;

#undef NUMBER
#undef VECTOR

NORMCORE_INLINE vreal v_norm_dx(vreal g, vreal x, const norm_block *b, const norm_dx_block *d, int plain) {
#if NORMCORE_DTYPE == 32
    const vreal centred = plain ? v_sub(x, b->shift) : v_mul(v_sub(v_mul(x, b->before), b->shift), b->after);
    const vreal t = v_mul(centred, d->power);
    const vreal dx =
        v_fma(t, d->t_scale, v_fma(g, d->g_scale, v_fma(g, d->g_scale_rest, v_fma(t, d->t_scale_rest, d->constant))));
    return plain ? dx : v_mul(v_mul(dx, b->before), b->after);
#else
    return v_fma(g, d->g_scale, v_fma(v_xhat(x, b, plain), d->t_scale, d->constant));
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
