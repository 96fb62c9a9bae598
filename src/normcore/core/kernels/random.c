/*
 * Random numbers: Philox4x32-10 in lanes that the compiler vectorises, and what is made of its words. No fma, no libm.
 */
#include "simd/vmath.h"

enum { PHILOX_LANES = 16 };

/* Ten rounds on PHILOX_LANES consecutive blocks (Salmon, Moraes, Dror and Shaw, SC'11, figure 2 and table 2). */
static void philox_blocks(uint64_t seed, uint64_t stream, uint64_t block, uint32_t out[PHILOX_LANES][4]) {
    uint32_t c0[PHILOX_LANES], c1[PHILOX_LANES], c2[PHILOX_LANES], c3[PHILOX_LANES];
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int i = 0; i < PHILOX_LANES; i++) {
        const uint64_t number = (block + (uint64_t)i) & (UINT64_MAX >> 2); /* words are numbered modulo 2^64 */
        c0[i] = (uint32_t)number;
        c1[i] = (uint32_t)(number >> 32);
        c2[i] = (uint32_t)stream;
        c3[i] = (uint32_t)(stream >> 32);
    }
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < PHILOX_LANES; i++) {
            const uint64_t p0 = (uint64_t)0xd2511f53u * c0[i], p1 = (uint64_t)0xcd9e8d57u * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
            c1[i] = (uint32_t)p1;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c3[i] = (uint32_t)p0;
        }
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    for (int i = 0; i < PHILOX_LANES; i++) {
        out[i][0] = c0[i];
        out[i][1] = c1[i];
        out[i][2] = c2[i];
        out[i][3] = c3[i];
    }
}

static void random_words(uint64_t seed, uint64_t stream, uint64_t offset, size_t n, uint32_t *words) {
    uint32_t buffer[PHILOX_LANES][4];
    uint64_t block = offset / 4;
    size_t skip = (size_t)(offset % 4);
    while (n) {
        philox_blocks(seed, stream, block, buffer);
        const size_t take = n < 4 * PHILOX_LANES - skip ? n : 4 * PHILOX_LANES - skip;
        memcpy(words, &buffer[0][0] + skip, take * sizeof *words);
        words += take;
        n -= take;
        skip = 0;
        block += PHILOX_LANES;
    }
}

/* Value i takes one word (float) or words 2i (low) and 2i + 1 (high). */
#if NORMCORE_DTYPE == 32
NORMCORE_INLINE double unit_left(const uint32_t *words, size_t i) { return (double)(words[i] >> 8) * 0x1p-24; }
NORMCORE_INLINE double unit_middle(const uint32_t *words, size_t i) { return ((double)words[i] + 0.5) * 0x1p-32; }
#else
NORMCORE_INLINE uint64_t word64(const uint32_t *words, size_t i) {
    return (uint64_t)words[2 * i + 1] << 32 | words[2 * i];
}
NORMCORE_INLINE double unit_left(const uint32_t *words, size_t i) {
    return (double)(int64_t)(word64(words, i) >> 11) * 0x1p-53;
}
NORMCORE_INLINE double unit_middle(const uint32_t *words, size_t i) {
    return ((double)(int64_t)(word64(words, i) >> 12) + 0.5) * 0x1p-52;
}
#endif

static void random_uniform(size_t n, const uint32_t *words, double low, double high, real *out) {
    const double width = high - low;
    for (size_t i = 0; i < n; i++) out[i] = (real)(low + width * unit_left(words, i));
}

NORMCORE_INLINE double horner(const double *c, int degree, double x) {
    double sum = c[degree];
    for (int i = degree - 1; i >= 0; i--) sum = sum * x + c[i];
    return sum;
}

/*
 * The p-quantile of the normal distribution, 0 < p < 1, to about 1e-16: Wichura, Algorithm AS 241 (PPND16), Applied
 * Statistics 37 (1988) 477.
 */
static double normal_quantile(double p) {
    static const double a[] = {3.3871328727963666080e0,  1.3314166789178437745e+2, 1.9715909503065514427e+3,
                               1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                               3.3430575583588128105e+4, 2.5090809287301226727e+3};
    static const double b[] = {1.0,
                               4.2313330701600911252e+1,
                               6.8718700749205790830e+2,
                               5.3941960214247511077e+3,
                               2.1213794301586595867e+4,
                               3.9307895800092710610e+4,
                               2.8729085735721942674e+4,
                               5.2264952788528545610e+3};
    static const double c[] = {1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                               3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                               2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static const double d[] = {1.0,
                               2.05319162663775882187e0,
                               1.67638483018380384940e0,
                               6.89767334985100004550e-1,
                               1.48103976427480074590e-1,
                               1.51986665636164571966e-2,
                               5.47593808499534494600e-4,
                               1.05075007164441684324e-9};
    static const double e[] = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                               2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                               2.71155556874348757815e-5, 2.01033439929228813265e-7};
    static const double f[] = {1.0,
                               5.99832206555887937690e-1,
                               1.36929880922735805310e-1,
                               1.48753612908506148525e-2,
                               7.86869131145613259100e-4,
                               1.84631831751005468180e-5,
                               1.42151175831644588870e-7,
                               2.04426310338993978564e-15};
    const double q = p - 0.5;
    if (fabs(q) <= 0.425) {
        const double r = 0.180625 - q * q;
        return q * horner(a, 7, r) / horner(b, 7, r);
    }
    const double r = sqrt(-s_log(q < 0.0 ? p : 1.0 - p));
    const double tail =
        r <= 5.0 ? horner(c, 7, r - 1.6) / horner(d, 7, r - 1.6) : horner(e, 7, r - 5.0) / horner(f, 7, r - 5.0);
    return q < 0.0 ? -tail : tail;
}

static void random_normal(size_t n, const uint32_t *words, double mean, double scale, real *out) {
    for (size_t i = 0; i < n; i++) out[i] = (real)(mean + scale * normal_quantile(unit_middle(words, i)));
}

static void dropout(size_t d, const real *x, const uint32_t *words, uint32_t threshold, real factor, real *y) {
    for (size_t j = 0; j < d; j++) {
        const real kept = x[j] * factor;
        y[j] = words[j] < threshold ? (kept == kept ? kept : REAL_NAN) : (real)0;
    }
}
