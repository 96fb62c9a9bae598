/* Layer normalisation, row by row; sums run in the sixteen double lanes of a row. */
#include "kernels/norm_common.h"

#if NORMCORE_DTYPE == 32
/* One pass, sums of t = x - x0 and t^2, x0 the row's first element. */
NORMCORE_INLINE void row_statistics(size_t d, const real *x, double *mean, double *variance) {
    const vwide x0 = w_set1((double)x[0]);
    lanes s1 = lanes_zero(), s2 = lanes_zero();
    FOR_LANES(j, v, count, d, {
        const vwide t = w_sub(w_get_widened(x + j, count), x0);
        const vwide sum = w_accumulate(s1.v[v], t), squares = w_fma(t, t, s2.v[v]);
        s1.v[v] = w_keep_tail(count, sum, s1.v[v]);
        s2.v[v] = w_keep_tail(count, squares, s2.v[v]);
    });
    const double columns = (double)d, sum = lanes_fold(&s1);
    *mean = (double)x[0] + sum / columns;
    *variance = m2_from_sums(sum, lanes_fold(&s2), columns) / columns;
}
#else
/* Two passes; see batch_norm_chunk_statistics. */
NORMCORE_INLINE void row_statistics(size_t d, const real *x, double *mean, double *variance) {
    const vwide x0 = w_set1(x[0]);
    lanes s = lanes_zero(), s1 = lanes_zero(), s2 = lanes_zero();
    FOR_LANES(j, v, count, d, { s.v[v] = w_keep_tail(count, w_add(s.v[v], w_sub(v_get(x + j, count), x0)), s.v[v]); });
    const double columns = (double)d, m = x[0] + lanes_fold(&s) / columns;
    FOR_LANES(j, v, count, d, {
        const vwide t = w_sub(v_get(x + j, count), w_set1(m));
        s1.v[v] = w_keep_tail(count, w_add(s1.v[v], t), s1.v[v]);
        s2.v[v] = w_keep_tail(count, w_fma(t, t, s2.v[v]), s2.v[v]);
    });
    *mean = m;
    *variance = m2_from_sums(lanes_fold(&s1), lanes_fold(&s2), columns) / columns;
}
#endif

NORMCORE_INLINE norm_constants row_constants(const int plain, double mean, double rstd) {
    return plain ? plain_constants_of(mean, rstd) : norm_constants_of(mean, rstd);
}

/* Constants of one row, in every lane. */
#define SPREAD(name) b.name = v_set1(c->name);
NORMCORE_INLINE norm_block row_block(const norm_constants *c) {
    norm_block b;
    NORM_CONSTANTS(SPREAD)
    return b;
}
NORMCORE_INLINE norm_dx_block row_dx_block(const norm_dx_constants *c) {
    norm_dx_block b;
    NORM_DX_CONSTANTS(SPREAD)
    return b;
}
#undef SPREAD

NORMCORE_INLINE void layer_norm_apply(const int plain, size_t d, const real *x, double mean, double rstd,
                                      const real *gamma, const real *beta, real *y) {
    const norm_constants c = row_constants(plain, mean, rstd);
    const norm_block b = row_block(&c);
    FOR_STORED_VECTORS(j, count, d, y, {
        const vreal xhat = v_xhat(v_get(x + j, count), &b, plain);
        v_put_n(y + j, v_fma(xhat, v_get(gamma + j, count), v_get(beta + j, count)), count);
    });
}

/*
 * Short rows in groups: the root and the quotient of one row need not be waited for, and the rows stay in L1. Four rows
 * of 1024 a page apart do not: 4096 of them took 1.9 ms, one by one 1.05.
 */
enum { FORWARD_ROWS = 4, FORWARD_WIDTH = 512 };

static void layer_norm_forward(size_t n, size_t d, const real *x, size_t xs, const real *gamma, const real *beta,
                               double eps, real *y, size_t ys, double *mean, double *rstd) {
    const size_t group = d <= FORWARD_WIDTH ? FORWARD_ROWS : 1;
    for (size_t i = 0, rows; i < n; i += rows) {
        double m[FORWARD_ROWS], r[FORWARD_ROWS];
        rows = n - i < group ? n - i : group;
        for (size_t k = 0; k < rows; k++) {
            m[k] = r[k] = 0.0;
            if (d) row_statistics(d, x + k * xs, &m[k], &r[k]);
        }
        for (size_t k = 0; k < rows; k++) {
            m[k] = canonical(m[k]);
            r[k] = canonical(1.0 / sqrt(r[k] + eps));
            if (mean) mean[i + k] = m[k];
            if (rstd) rstd[i + k] = r[k];
        }
        for (size_t k = 0; k < rows; k++, x += xs, y += ys)
            if (norm_is_plain(r[k]))
                layer_norm_apply(1, d, x, m[k], r[k], gamma, beta, y);
            else
                layer_norm_apply(0, d, x, m[k], r[k], gamma, beta, y);
    }
}

/* All of a row of fewer than CONTRACT_SHORT elements; see w_norm_dx. dx may be NULL. */
static void layer_norm_short_row(size_t d, const real *dy, const real *x, double mean, double rstd, const real *gamma,
                                 real *dx, double *dgamma, double *dbeta) {
    const vwide m = w_set1(mean), r = w_set1(rstd);
    lanes s1 = lanes_zero(), s2 = lanes_zero();
    FOR_LANES(j, v, count, d, {
        const vwide wide = w_widen(v_get(dy + j, count)), xhat = w_xhat(v_get(x + j, count), m, r);
        const vwide g = w_mul(wide, w_widen(v_get(gamma + j, count)));
        s1.v[v] = w_keep_tail(count, w_add(s1.v[v], g), s1.v[v]);
        s2.v[v] = w_keep_tail(count, w_fma(g, xhat, s2.v[v]), s2.v[v]);
        w_put_n(dgamma + j, w_fma(wide, xhat, w_get(dgamma + j, count)), count);
        w_put_n(dbeta + j, w_add(w_get(dbeta + j, count), wide), count);
    });
    const vwide mean_g = w_set1(lanes_fold(&s1) / (double)d), mean_g_xhat = w_set1(lanes_fold(&s2) / (double)d);
    if (!dx) return;
    FOR_VECTORS(j, count, d, {
        const vwide g = w_mul(w_widen(v_get(dy + j, count)), w_widen(v_get(gamma + j, count)));
        v_put_n(dx + j, w_norm_dx(g, w_xhat(v_get(x + j, count), m, r), mean_g, mean_g_xhat, r), count);
    });
}

/*
 * dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy gamma, means along the row. Rows in blocks, so that the sums of a
 * column are loaded and stored once per block: two where the sixteen lanes are two registers, else the accumulators of one
 * row fill what registers there are.
 */
enum { GRADIENT_ROWS = VL * sizeof(real) >= 64 ? 2 : 1 };

/* dx may be NULL, or dy. rows is a constant where this is inlined. */
NORMCORE_INLINE void layer_norm_rows_backward(const int plain, const int rows, size_t d, const real *dy, size_t dys,
                                              const real *x, size_t xs, const real *gamma, const double *mean,
                                              const double *rstd, real *dx, size_t dxs, double *dgamma, double *dbeta) {
    norm_block b[GRADIENT_ROWS];
    norm_constants c[GRADIENT_ROWS];
    lanes s1[GRADIENT_ROWS], s2[GRADIENT_ROWS];
    NORMCORE_UNROLL
    for (int i = 0; i < rows; i++) {
        c[i] = row_constants(plain, mean[i], rstd[i]);
        b[i] = row_block(&c[i]);
        s1[i] = s2[i] = lanes_zero();
    }
    FOR_LANES(j, v, count, d, {
        const vreal scale = v_get(gamma + j, count);
        vwide sum_xhat = w_get(dgamma + j, count), sum = w_get(dbeta + j, count);
        NORMCORE_UNROLL
        for (int i = 0; i < rows; i++) {
            const real *const dy_i = dy + (size_t)i * dys + j;
            const vwide wide = w_get_widened(dy_i, count), g = w_widen(v_mul(v_get(dy_i, count), scale));
            const vwide xhat = w_widen(v_xhat(v_get(x + (size_t)i * xs + j, count), &b[i], plain));
            const vwide row_sum = w_accumulate(s1[i].v[v], g), product = w_fma(g, xhat, s2[i].v[v]);
            s1[i].v[v] = w_keep_tail(count, row_sum, s1[i].v[v]);
            s2[i].v[v] = w_keep_tail(count, product, s2[i].v[v]);
            sum_xhat = w_fma(wide, xhat, sum_xhat);
            sum = w_add(sum, wide);
        }
        w_put_n(dgamma + j, sum_xhat, count);
        w_put_n(dbeta + j, sum, count);
    });
    for (int i = 0; dx && i < rows; i++, dy += dys, x += xs, dx += dxs) {
        const double power = plain ? 1.0 : norm_power(rstd[i]), columns = (double)d;
        const double mean_g = lanes_fold(&s1[i]) / columns, mean_g_xhat = lanes_fold(&s2[i]) / columns;
        const norm_dx_constants k =
            norm_dx_constants_of(plain, rstd[i], power, (double)c[i].offset, 1.0, mean_g, mean_g_xhat);
        const norm_dx_block kb = row_dx_block(&k);
        FOR_STORED_VECTORS(j, count, d, dx, {
            const vreal g = v_mul(v_get(dy + j, count), v_get(gamma + j, count));
            v_put_n(dx + j, v_norm_dx(g, v_get(x + j, count), &b[i], &kb, plain), count);
        });
    }
}

static void layer_norm_chunk_backward(size_t n, size_t d, const real *dy, size_t dys, const real *x, size_t xs,
                                      const real *gamma, const double *mean, const double *rstd, real *dx, size_t dxs,
                                      double *dgamma, double *dbeta) {
    for (size_t j = 0; j < d; j++) dgamma[j] = dbeta[j] = 0.0;
    for (size_t i = 0, rows; i < n; i += rows, dy += rows * dys, x += rows * xs, dx = dx ? dx + rows * dxs : NULL) {
        const int plain = norm_is_plain(rstd[i]);
        const int pair = GRADIENT_ROWS == 2 && n - i >= 2 && plain && norm_is_plain(rstd[i + 1]);
        rows = pair ? 2 : 1;
        if (d < CONTRACT_SHORT) {
            rows = 1;
            layer_norm_short_row(d, dy, x, mean[i], rstd[i], gamma, dx, dgamma, dbeta);
        } else if (pair)
            layer_norm_rows_backward(1, GRADIENT_ROWS, d, dy, dys, x, xs, gamma, mean + i, rstd + i, dx, dxs, dgamma,
                                     dbeta);
        else if (plain)
            layer_norm_rows_backward(1, 1, d, dy, dys, x, xs, gamma, mean + i, rstd + i, dx, dxs, dgamma, dbeta);
        else
            layer_norm_rows_backward(0, 1, d, dy, dys, x, xs, gamma, mean + i, rstd + i, dx, dxs, dgamma, dbeta);
    }
}
