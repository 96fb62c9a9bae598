/*
 * How both norms turn a double mean and rstd into what is applied to elements.
 *
 * float: xhat = (x - hi) r + ((x - hi) r_lo + c) by two fmas, where hi is the mean rounded to float, c = -(mean - hi)
 * rstd what that rounding left out (it costs mean / std / 2^24 elsewhere, which is what ruins large offsets), and r +
 * r_lo is rstd: errors of at most 1.5 ulp where (x - hi - lo) r has 2.7, for the same three operations. Where rstd
 * lies outside 2^+-64, powers of two keep every step inside the range of float: large data is made small before the
 * subtraction, small data large after it. double: the plain formula.
 */

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
 * dx = g s + (g s_lo + (xhat q + p)), with s + s_lo = rstd, p = -rstd mean(g) and q = -rstd mean(g xhat), all divided
 * by the power of two that follows at the end. In double s_lo is 0 and left out.
 */
NORMCORE_INLINE vreal v_norm_dx(vreal g, vreal xhat, vreal s, vreal s_lo, vreal q, vreal p, const norm_block *b,
                                int plain) {
    vreal rest = v_fma(xhat, q, p);
#if NORMCORE_DTYPE == 32
    rest = v_fma(g, s_lo, rest);
#else
    (void)s_lo;
#endif
    const vreal dx = v_fma(g, s, rest);
    return plain ? dx : v_mul(v_mul(dx, b->pre), b->post);
}

/*
 * Means over fewer than CONTRACT_SHORT elements: xhat and the result may be several times the greatest |dy| rstd, so
 * that roundings to float which are harmless in longer means cost up to 4.2 ulp of it. Everything is in double there and
 * rounded once, and a mean over one element gives exactly 0.
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
