/*
 * Batch normalisation: columns are vectors, rows are walked in blocks across all columns, so that a column's constants
 * and accumulators are loaded once per block. (Strips of columns over all rows instead: 1.4 times slower at 256 x 1024,
 * through cache conflicts between rows.)
 */
#include "kernels/norm_common.h"

enum { BLOCK_ROWS = 4 };

/*
 * Rows of a block in passes that also write. Rows a multiple of a page apart share their cache sets: four of each array
 * and the constants evict each other there (dx at 256 x 1024: 98 us with four, 80 with two, 106 with one; at 64 x 512
 * 6.1, 6.2, 9.2).
 */
NORMCORE_INLINE size_t written_rows(size_t stride) {
    return stride * sizeof(real) % 4096 ? BLOCK_ROWS : BLOCK_ROWS / 2;
}

#if NORMCORE_DTYPE == 32
/* One pass: sums of t = x - x0 and t^2 in double, x0 the column's first element in the chunk; see m2_from_sums. */
static void batch_norm_chunk_statistics(size_t n, size_t d, const real *x, size_t xs, double *mean, double *m2) {
    for (size_t j = 0; j < d; j++) mean[j] = m2[j] = 0.0;
    for (size_t i0 = 0; i0 < n; i0 += BLOCK_ROWS) {
        const size_t i1 = i0 + BLOCK_ROWS < n ? i0 + BLOCK_ROWS : n;
        FOR_VECTORS(j, count, d, {
            const vwide x0 = w_widen(v_get(x + j, count));
            vwide s1 = w_get(mean + j, count), s2 = w_get(m2 + j, count);
            for (size_t i = i0; i < i1; i++) {
                const vwide t = w_sub(w_get_widened(x + i * xs + j, count), x0);
                s1 = w_accumulate(s1, t);
                s2 = w_fma(t, t, s2);
            }
            w_put_n(mean + j, s1, count);
            w_put_n(m2 + j, s2, count);
        });
    }
    const double rows = (double)n;
    for (size_t j = 0; j < d; j++) {
        const double s1 = mean[j];
        m2[j] = m2_from_sums(s1, m2[j], rows);
        mean[j] = (double)x[j] + s1 / rows;
    }
}
#else
/*
 * Two passes: the mean about x0, then sums of t = x - mean and t^2, the first a correction for the mean's rounding. In
 * strips of columns that the second pass finds in the cache: STRIP columns of a chunk are 256 KiB.
 */
enum { STRIP = 128 };

static void batch_norm_strip_statistics(size_t n, size_t d, const real *x, size_t xs, double *mean, double *m2) {
    const double rows = (double)n;
    double correction[STRIP];
    for (size_t j = 0; j < d; j++) mean[j] = m2[j] = correction[j] = 0.0;
    for (size_t i0 = 0; i0 < n; i0 += BLOCK_ROWS) {
        const size_t i1 = i0 + BLOCK_ROWS < n ? i0 + BLOCK_ROWS : n;
        FOR_VECTORS(j, count, d, {
            const vwide x0 = v_get(x + j, count);
            vwide s = w_get(mean + j, count);
            for (size_t i = i0; i < i1; i++) s = w_accumulate(s, w_sub(v_get(x + i * xs + j, count), x0));
            w_put_n(mean + j, s, count);
        });
    }
    for (size_t j = 0; j < d; j++) mean[j] = x[j] + mean[j] / rows;
    for (size_t i0 = 0; i0 < n; i0 += BLOCK_ROWS) {
        const size_t i1 = i0 + BLOCK_ROWS < n ? i0 + BLOCK_ROWS : n;
        FOR_VECTORS(j, count, d, {
            const vwide m = w_get(mean + j, count);
            vwide s1 = w_get(correction + j, count), s2 = w_get(m2 + j, count);
            for (size_t i = i0; i < i1; i++) {
                const vwide t = w_sub(v_get(x + i * xs + j, count), m);
                s1 = w_accumulate(s1, t);
                s2 = w_fma(t, t, s2);
            }
            w_put_n(correction + j, s1, count);
            w_put_n(m2 + j, s2, count);
        });
    }
    for (size_t j = 0; j < d; j++) m2[j] = m2_from_sums(correction[j], m2[j], rows);
}
static void batch_norm_chunk_statistics(size_t n, size_t d, const real *x, size_t xs, double *mean, double *m2) {
    for (size_t j = 0; j < d; j += STRIP)
        batch_norm_strip_statistics(n, d - j < STRIP ? d - j : STRIP, x + j, xs, mean + j, m2 + j);
}
#endif

static void batch_norm_rstd(size_t d, const double *variance, double eps, double *rstd) {
    for (size_t j = 0; j < d; j++) {
        const double r = 1.0 / sqrt(variance[j] + eps);
        rstd[j] = r == r ? r : (double)NAN;
    }
}

static void batch_norm_prepare(size_t d, const double *mean, const double *rstd, NAME(norm_columns) *columns) {
    int plain = 1;
    for (size_t j = 0; j < d; j++) plain &= norm_is_plain(rstd[j]);
    columns->plain = plain;
#define STORE(name) columns->name[j] = c.name;
    for (size_t j = 0; plain && j < d; j++) {
        const norm_constants c = plain_constants_of(mean[j], rstd[j]);
        NORM_PLAIN_CONSTANTS(STORE)
    }
    for (size_t j = 0; !plain && j < d; j++) {
        const norm_constants c = norm_constants_of(mean[j], rstd[j]);
        NORM_CONSTANTS(STORE)
    }
#undef STORE
}

#define LOAD(name)          b.name = v_get(columns->name + j, count);
#define ZERO_IF_PLAIN(name) b.name = plain ? v_zero() : v_get(columns->name + j, count);

NORMCORE_INLINE norm_block load_columns(const NAME(norm_columns) *columns, size_t j, size_t count, int plain) {
    norm_block b;
    NORM_PLAIN_CONSTANTS(LOAD)
    NORM_POWERS(ZERO_IF_PLAIN)
    return b;
}

NORMCORE_INLINE norm_dx_block load_dx_columns(const NAME(norm_dx_columns) *columns, size_t j, size_t count) {
    norm_dx_block b;
    NORM_DX_CONSTANTS(LOAD)
    return b;
}

#undef LOAD
#undef ZERO_IF_PLAIN

/* Each kernel below is inlined twice, with plain a constant. */
#define PLAIN_OR_NOT(plain, call)                                                                                      \
    do {                                                                                                               \
        if (plain)                                                                                                     \
            call(1);                                                                                                   \
        else                                                                                                           \
            call(0);                                                                                                   \
    } while (0)

NORMCORE_INLINE void apply_rows(const int plain, size_t n, size_t d, const real *x, size_t xs,
                                const NAME(norm_columns) *columns, const real *gamma, const real *beta, real *y,
                                size_t ys) {
    const size_t block = written_rows(ys);
    for (size_t i0 = 0; i0 < n; i0 += block) {
        const size_t i1 = i0 + block < n ? i0 + block : n;
        FOR_STORED_VECTORS(j, count, d, y + i0 * ys, {
            const norm_block b = load_columns(columns, j, count, plain);
            const vreal g = v_get(gamma + j, count), shift = v_get(beta + j, count);
            for (size_t i = i0; i < i1; i++)
                v_put_n(y + i * ys + j, v_fma(v_xhat(v_get(x + i * xs + j, count), &b, plain), g, shift), count);
        });
    }
}
static void batch_norm_apply(size_t n, size_t d, const real *x, size_t xs, const NAME(norm_columns) *columns,
                             const real *gamma, const real *beta, real *y, size_t ys) {
#define CALL(plain) apply_rows(plain, n, d, x, xs, columns, gamma, beta, y, ys)
    PLAIN_OR_NOT(columns->plain, CALL);
#undef CALL
}

NORMCORE_INLINE void chunk_gradients(const int plain, size_t n, size_t d, const real *dy, size_t dys, const real *x,
                                     size_t xs, const NAME(norm_columns) *columns, double *dgamma, double *dbeta) {
    for (size_t j = 0; j < d; j++) dgamma[j] = dbeta[j] = 0.0;
    for (size_t i0 = 0; i0 < n; i0 += BLOCK_ROWS) {
        const size_t i1 = i0 + BLOCK_ROWS < n ? i0 + BLOCK_ROWS : n;
        FOR_VECTORS(j, count, d, {
            const norm_block b = load_columns(columns, j, count, plain);
            vwide sum_xhat = w_get(dgamma + j, count), sum = w_get(dbeta + j, count);
            for (size_t i = i0; i < i1; i++) {
                const vwide g = w_get_widened(dy + i * dys + j, count);
                const vwide xhat = w_widen(v_xhat(v_get(x + i * xs + j, count), &b, plain));
                sum_xhat = w_fma(g, xhat, sum_xhat);
                sum = w_accumulate(sum, g);
            }
            w_put_n(dgamma + j, sum_xhat, count);
            w_put_n(dbeta + j, sum, count);
        });
    }
}
static void batch_norm_chunk_gradients(size_t n, size_t d, const real *dy, size_t dys, const real *x, size_t xs,
                                       const NAME(norm_columns) *columns, double *dgamma, double *dbeta) {
#define CALL(plain) chunk_gradients(plain, n, d, dy, dys, x, xs, columns, dgamma, dbeta)
    PLAIN_OR_NOT(columns->plain, CALL);
#undef CALL
}

/* Two loops of three results: with six a compiler gives up asking whether they overlap, and uses no vectors. */
NORMCORE_INLINE void dx_constants(const int plain, size_t d, double count, const real *gamma, const double *rstd,
                                  const double *dgamma, const double *dbeta, const NAME(norm_columns) *columns,
                                  const NAME(norm_dx_columns) *dx_columns) {
#define CONSTANTS(mean_g, mean_g_xhat)                                                                                 \
    norm_dx_constants_of(plain, rstd[j], plain ? 1.0 : (double)columns->before[j] * (double)columns->after[j],         \
                         (double)columns->offset[j], (double)gamma[j], mean_g, mean_g_xhat)
    for (size_t j = 0; j < d; j++) {
        const norm_dx_constants k = CONSTANTS(0.0, 0.0);
        dx_columns->power[j] = k.power;
        dx_columns->g_scale[j] = k.g_scale;
        dx_columns->g_scale_rest[j] = k.g_scale_rest;
    }
    for (size_t j = 0; j < d; j++) {
        const norm_dx_constants k = CONSTANTS(dbeta[j] / count, dgamma[j] / count);
        dx_columns->t_scale[j] = k.t_scale;
        dx_columns->t_scale_rest[j] = k.t_scale_rest;
        dx_columns->constant[j] = k.constant;
    }
#undef CONSTANTS
}
static void batch_norm_dx_constants(size_t d, double count, const real *gamma, const double *rstd, const double *dgamma,
                                    const double *dbeta, const NAME(norm_columns) *columns,
                                    const NAME(norm_dx_columns) *dx_columns) {
#define CALL(plain) dx_constants(plain, d, count, gamma, rstd, dgamma, dbeta, columns, dx_columns)
    PLAIN_OR_NOT(columns->plain, CALL);
#undef CALL
}

/* dx = gamma rstd (dy - mean(dy) - xhat mean(dy xhat)) */
NORMCORE_INLINE void fused_dx(const int plain, size_t n, size_t d, const real *dy, size_t dys, const real *x, size_t xs,
                              const NAME(norm_columns) *columns, const NAME(norm_dx_columns) *dx_columns, real *dx,
                              size_t dxs) {
    const size_t block = written_rows(dxs);
    for (size_t i0 = 0; i0 < n; i0 += block) {
        const size_t i1 = i0 + block < n ? i0 + block : n;
        FOR_STORED_VECTORS(j, count, d, dx + i0 * dxs, {
            const norm_block b = load_columns(columns, j, count, plain);
            const norm_dx_block k = load_dx_columns(dx_columns, j, count);
            for (size_t i = i0; i < i1; i++) {
                const vreal g = v_get(dy + i * dys + j, count);
                v_put_n(dx + i * dxs + j, v_norm_dx(g, v_get(x + i * xs + j, count), &b, &k, plain), count);
            }
        });
    }
}
static void batch_norm_fused_dx(size_t n, size_t d, const real *dy, size_t dys, const real *x, size_t xs,
                                const NAME(norm_columns) *columns, const NAME(norm_dx_columns) *dx_columns, real *dx,
                                size_t dxs) {
#define CALL(plain) fused_dx(plain, n, d, dy, dys, x, xs, columns, dx_columns, dx, dxs)
    PLAIN_OR_NOT(columns->plain, CALL);
#undef CALL
}
#undef PLAIN_OR_NOT

/* The same for fewer than CONTRACT_SHORT rows, with the sums dgamma and dbeta; dx may be NULL, or dy. */
static void batch_norm_short_backward(size_t n, size_t d, const real *dy, size_t dys, const real *x, size_t xs,
                                      const real *gamma, const double *mean, const double *rstd, real *dx, size_t dxs,
                                      double *dgamma, double *dbeta) {
    const vwide rows = w_set1((double)n);
    FOR_VECTORS(j, count, d, {
        const vwide m = w_get(mean + j, count), r = w_get(rstd + j, count);
        vwide sum_xhat = w_set1(0.0), sum = w_set1(0.0);
        for (size_t i = 0; i < n; i++) {
            const vwide g = w_widen(v_get(dy + i * dys + j, count));
            sum_xhat = w_fma(g, w_xhat(v_get(x + i * xs + j, count), m, r), sum_xhat);
            sum = w_add(sum, g);
        }
        w_put_n(dgamma + j, sum_xhat, count);
        w_put_n(dbeta + j, sum, count);
        const vwide scale = w_mul(w_widen(v_get(gamma + j, count)), r);
        const vwide mean_g = w_div(sum, rows), mean_g_xhat = w_div(sum_xhat, rows);
        for (size_t i = 0; dx && i < n; i++) {
            const vwide g = w_widen(v_get(dy + i * dys + j, count));
            const vwide xhat = w_xhat(v_get(x + i * xs + j, count), m, r);
            v_put_n(dx + i * dxs + j, w_norm_dx(g, xhat, mean_g, mean_g_xhat, scale), count);
        }
    });
}

/* Evaluation: the statistics are constants, dx = dy gamma rstd. */
static void batch_norm_evaluation_dx(size_t n, size_t d, const real *dy, size_t dys, const real *scale,
                                     const NAME(norm_columns) *columns, real *dx, size_t dxs) {
    for (size_t i = 0; i < n; i++, dy += dys, dx += dxs)
        FOR_STORED_VECTORS(j, count, d, dx, {
            vreal g = v_mul(v_get(dy + j, count), v_get(scale + j, count));
            if (!columns->plain)
                g = v_mul(v_mul(g, v_get(columns->before + j, count)), v_get(columns->after + j, count));
            v_put_n(dx + j, g, count);
        });
}

/*
 * The backward pass through the computational graph, node by node, every intermediate a double array in memory:
 * inner: xmu = x - mean, dxhat = dy gamma, divar = sum of dxhat xmu; middle: dx1 = dxhat rstd + 2 xmu dsq (over xmu)
 * and its sum; outer: dx = dx1 + dx2. The arrays xmu and dxhat are (n, d), dense.
 */
static void batch_norm_graph_inner(size_t n, size_t d, const real *dy, size_t dys, const real *x, size_t xs,
                                   const real *gamma, const double *mean, double *xmu, double *dxhat, double *divar) {
    for (size_t j = 0; j < d; j++) divar[j] = 0.0;
    for (size_t i = 0; i < n; i++)
        FOR_VECTORS(j, count, d, {
            const vwide centred = w_sub(w_widen(v_get(x + i * xs + j, count)), w_get(mean + j, count));
            const vwide g = w_mul(w_widen(v_get(dy + i * dys + j, count)), w_widen(v_get(gamma + j, count)));
            w_put_n(xmu + i * d + j, centred, count);
            w_put_n(dxhat + i * d + j, g, count);
            w_put_n(divar + j, w_fma(g, centred, w_get(divar + j, count)), count);
        });
}

static void batch_norm_graph_middle(size_t n, size_t d, const double *rstd, const double *dsq, double *xmu,
                                    const double *dxhat, double *dx1_sum) {
    for (size_t j = 0; j < d; j++) dx1_sum[j] = 0.0;
    for (size_t i = 0; i < n; i++)
        FOR_VECTORS(j, count, d, {
            const vwide through_xhat = w_mul(w_get(dxhat + i * d + j, count), w_get(rstd + j, count));
            const vwide twice = w_mul(w_set1(2.0), w_get(xmu + i * d + j, count));
            const vwide dx1 = w_fma(twice, w_get(dsq + j, count), through_xhat);
            w_put_n(xmu + i * d + j, dx1, count);
            w_put_n(dx1_sum + j, w_add(w_get(dx1_sum + j, count), dx1), count);
        });
}

static void batch_norm_graph_outer(size_t n, size_t d, const double *dx1, const double *dx2, real *dx, size_t dxs) {
    for (size_t i = 0; i < n; i++)
        FOR_VECTORS(j, count, d, {
            v_put_n(dx + i * dxs + j, w_narrow(w_add(w_get(dx1 + i * d + j, count), w_get(dx2 + j, count))), count);
        });
}
