/* Layer normalisation, row by row; sums run in the sixteen double lanes of a row. */

#if NORMCORE_DTYPE == 32
/* One pass, sums of t = x - x0 and t^2, x0 the row's first element. */
NORMCORE_INLINE void row_statistics(size_t d, const real *x, double *mean, double *variance) {
    const vwide x0 = w_set1((double)x[0]);
    lanes s1 = lanes_zero(), s2 = lanes_zero();
    FOR_LANES(j, v, count, d, {
        const vwide t = w_sub(w_widen(v_get(x + j, count)), x0);
        const vwide sum = w_add(s1.v[v], t), squares = w_fma(t, t, s2.v[v]);
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

/* Constants of one row, in every lane. */
NORMCORE_INLINE norm_block row_block(const norm_constants *c) {
    norm_block b;
    b.hi = v_set1(c->hi);
    b.c = v_set1(c->c);
    b.r = v_set1(c->r);
    b.r_lo = v_set1(c->r_lo);
    b.pre = v_set1(c->pre);
    b.post = v_set1(c->post);
    return b;
}
NORMCORE_INLINE norm_block row_constants(double mean, double rstd) {
    const norm_constants c = norm_constants_of(mean, rstd);
    return row_block(&c);
}

NORMCORE_INLINE void layer_norm_apply(const int plain, size_t d, const real *x, const norm_block *b, const real *gamma,
                                      const real *beta, real *y) {
    FOR_VECTORS(j, count, d, {
        const vreal xhat = v_xhat(v_get(x + j, count), b, plain);
        v_put_n(y + j, v_fma(xhat, v_get(gamma + j, count), v_get(beta + j, count)), count);
    });
}

static void layer_norm_forward(size_t n, size_t d, const real *x, size_t xs, const real *gamma, const real *beta,
                               double eps, real *y, size_t ys, double *mean, double *rstd) {
    for (size_t i = 0; i < n; i++, x += xs, y += ys) {
        double m = 0.0, variance = 0.0;
        if (d) row_statistics(d, x, &m, &variance);
        const double r = canonical(1.0 / sqrt(variance + eps));
        m = canonical(m);
        const norm_block b = row_constants(m, r);
        if (norm_is_plain(r))
            layer_norm_apply(1, d, x, &b, gamma, beta, y);
        else
            layer_norm_apply(0, d, x, &b, gamma, beta, y);
        if (mean) mean[i] = m;
        if (rstd) rstd[i] = r;
    }
}

/* dx = rstd (dxhat - mean(dxhat) - xhat mean(dxhat xhat)), dxhat = dy gamma, means along the row. */
NORMCORE_INLINE void layer_norm_dx(const int plain, size_t d, const real *dy, const real *x, const norm_block *b,
                                   double rstd, const real *gamma, real *dx) {
    lanes s1 = lanes_zero(), s2 = lanes_zero();
    FOR_LANES(j, v, count, d, {
        const vreal g = v_mul(v_get(dy + j, count), v_get(gamma + j, count));
        const vwide wide = w_widen(g), xhat = w_widen(v_xhat(v_get(x + j, count), b, plain));
        const vwide sum = w_add(s1.v[v], wide), product = w_fma(wide, xhat, s2.v[v]);
        s1.v[v] = w_keep_tail(count, sum, s1.v[v]);
        s2.v[v] = w_keep_tail(count, product, s2.v[v]);
    });
    const double power = plain ? 1.0 : norm_power(rstd), scale = rstd / power, columns = (double)d;
    const vreal p = v_set1((real)(-(lanes_fold(&s1) / columns) * scale));
    const vreal q = v_set1((real)(-(lanes_fold(&s2) / columns) * scale));
    FOR_VECTORS(j, count, d, {
        const vreal g = v_mul(v_get(dy + j, count), v_get(gamma + j, count));
        const vreal xhat = v_xhat(v_get(x + j, count), b, plain);
        v_put_n(dx + j, v_norm_dx(g, xhat, b->r, b->r_lo, q, p, b, plain), count);
    });
}

/* All of a row of fewer than CONTRACT_SHORT elements; see w_norm_dx. dgamma and dbeta, or dx, may be NULL. */
static void layer_norm_short_row(size_t d, const real *dy, const real *x, double mean, double rstd, const real *gamma,
                                 real *dx, double *dgamma, double *dbeta) {
    const vwide m = w_set1(mean), r = w_set1(rstd);
    lanes s1 = lanes_zero(), s2 = lanes_zero();
    FOR_LANES(j, v, count, d, {
        const vwide wide = w_widen(v_get(dy + j, count)), xhat = w_xhat(v_get(x + j, count), m, r);
        const vwide g = w_mul(wide, w_widen(v_get(gamma + j, count)));
        s1.v[v] = w_keep_tail(count, w_add(s1.v[v], g), s1.v[v]);
        s2.v[v] = w_keep_tail(count, w_fma(g, xhat, s2.v[v]), s2.v[v]);
        if (dgamma) {
            w_put_n(dgamma + j, w_fma(wide, xhat, w_get(dgamma + j, count)), count);
            w_put_n(dbeta + j, w_add(w_get(dbeta + j, count), wide), count);
        }
    });
    const vwide mean_g = w_set1(lanes_fold(&s1) / (double)d), mean_g_xhat = w_set1(lanes_fold(&s2) / (double)d);
    if (!dx) return;
    FOR_VECTORS(j, count, d, {
        const vwide g = w_mul(w_widen(v_get(dy + j, count)), w_widen(v_get(gamma + j, count)));
        v_put_n(dx + j, w_norm_dx(g, w_xhat(v_get(x + j, count), m, r), mean_g, mean_g_xhat, r), count);
    });
}

/*
 * Rows in blocks, so that the sums of a column are loaded and stored once a block, and dx finds the rows in the cache.
 * Four rows of dy and x are as many streams as the prefetcher follows.
 */
enum { GRADIENT_ROWS = 4 };

NORMCORE_INLINE void layer_norm_gradients(const int plain, size_t rows, size_t d, const real *dy, size_t dys,
                                          const real *x, size_t xs, const norm_constants *constants, double *dgamma,
                                          double *dbeta) {
    FOR_VECTORS(j, count, d, {
        vwide sum_xhat = w_get(dgamma + j, count), sum = w_get(dbeta + j, count);
        for (size_t i = 0; i < rows; i++) {
            const norm_block b = row_block(&constants[i]);
            const vwide g = w_widen(v_get(dy + i * dys + j, count));
            const vwide xhat = w_widen(v_xhat(v_get(x + i * xs + j, count), &b, plain));
            sum_xhat = w_fma(g, xhat, sum_xhat);
            sum = w_add(sum, g);
        }
        w_put_n(dgamma + j, sum_xhat, count);
        w_put_n(dbeta + j, sum, count);
    });
}

static void layer_norm_chunk_backward(size_t n, size_t d, const real *dy, size_t dys, const real *x, size_t xs,
                                      const real *gamma, const double *mean, const double *rstd, real *dx, size_t dxs,
                                      double *dgamma, double *dbeta) {
    for (size_t j = 0; dgamma && j < d; j++) dgamma[j] = dbeta[j] = 0.0;
    if (d < CONTRACT_SHORT) {
        for (size_t i = 0; i < n; i++)
            layer_norm_short_row(d, dy + i * dys, x + i * xs, mean[i], rstd[i], gamma, dx ? dx + i * dxs : NULL, dgamma,
                                 dbeta);
        return;
    }
    for (size_t i0 = 0; i0 < n; i0 += GRADIENT_ROWS) {
        const size_t rows = n - i0 < GRADIENT_ROWS ? n - i0 : GRADIENT_ROWS;
        const real *const dy0 = dy + i0 * dys, *const x0 = x + i0 * xs;
        norm_constants constants[GRADIENT_ROWS];
        int plain = 1;
        for (size_t i = 0; i < rows; i++) {
            constants[i] = norm_constants_of(mean[i0 + i], rstd[i0 + i]);
            plain &= norm_is_plain(rstd[i0 + i]);
        }
        if (dgamma && plain)
            layer_norm_gradients(1, rows, d, dy0, dys, x0, xs, constants, dgamma, dbeta);
        else if (dgamma)
            layer_norm_gradients(0, rows, d, dy0, dys, x0, xs, constants, dgamma, dbeta);
        for (size_t i = 0; dx && i < rows; i++) { /* last: dx may be dy */
            const norm_block b = row_block(&constants[i]);
            const real *const dy_row = dy0 + i * dys, *const x_row = x0 + i * xs;
            real *const dx_row = dx + (i0 + i) * dxs;
            const double r = rstd[i0 + i];
            if (norm_is_plain(r))
                layer_norm_dx(1, d, dy_row, x_row, &b, r, gamma, dx_row);
            else
                layer_norm_dx(0, d, dy_row, x_row, &b, r, gamma, dx_row);
        }
    }
}
