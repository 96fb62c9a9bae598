/*
 * How both norms turn a double mean and rstd into what is applied to elements.
 *
 * float: the mean is subtracted in two pieces, (x - hi) - lo: rounding it to float costs mean / std / 2^24, which is
 * what ruins large offsets. Where rstd lies outside 2^+-64, powers of two keep every step inside the range of float:
 * large data is made small before the subtraction, small data large after it. double: the plain formula.
 */

typedef struct norm_constants {
    real hi, lo, r, pre, post;
} norm_constants;

#if NORMCORE_DTYPE == 32

NORMCORE_INLINE int norm_is_plain(double rstd) { return rstd >= 0x1p-64 && rstd <= 0x1p64; }

NORMCORE_INLINE double power_of_two(int k) {
    const uint64_t bits = (uint64_t)(k + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* Constants for any rstd: 2^k is the power of two below it, k in [-126, 126]; NaN and 0 take k = 0. */
static norm_constants norm_constants_of(double mean, double rstd) {
    int k = 0;
    if (!norm_is_plain(rstd) && rstd > 0.0) {
        uint64_t bits;
        memcpy(&bits, &rstd, sizeof bits);
        k = (int)(bits >> 52) - 1023;
        k = k < -126 ? -126 : k > 126 ? 126 : k;
    }
    const double pre = k < 0 ? power_of_two(k) : 1.0, scaled_mean = mean * pre;
    norm_constants c;
    c.pre = (real)pre;
    c.post = (real)(k > 0 ? power_of_two(k) : 1.0);
    c.hi = (real)scaled_mean;
    c.lo = (real)(scaled_mean - (double)c.hi);
    c.r = (real)(rstd * power_of_two(-k));
    return c;
}

#else

NORMCORE_INLINE int norm_is_plain(double rstd) {
    (void)rstd;
    return 1;
}
static norm_constants norm_constants_of(double mean, double rstd) {
    const norm_constants c = {mean, 0.0, rstd, 1.0, 1.0};
    return c;
}

#endif

/* xhat where pre and post are 1; in double lo is always 0. */
NORMCORE_INLINE vreal v_xhat_plain(vreal x, vreal hi, vreal lo, vreal r) {
#if NORMCORE_DTYPE == 32
    return v_mul(v_sub(v_sub(x, hi), lo), r);
#else
    (void)lo;
    return v_mul(v_sub(x, hi), r);
#endif
}
NORMCORE_INLINE vreal v_xhat(vreal x, vreal pre, vreal hi, vreal lo, vreal post, vreal r) {
    return v_mul(v_mul(v_sub(v_sub(v_mul(x, pre), hi), lo), post), r);
}

/* Sum of squares about the mean from sums about a shift: floored at 0, NaN kept. */
NORMCORE_INLINE double m2_from_sums(double sum, double sum_of_squares, double count) {
    const double m2 = sum_of_squares - sum * sum / count;
    return m2 < 0.0 ? 0.0 : m2;
}
