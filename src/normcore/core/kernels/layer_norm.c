/* Layer normalisation, row by row; sums run in the sixteen double lanes of a row. */

#define FOR_BLOCKS(j0, count, d)                                                                                       \
    for (size_t block = 0; block < (d); block += CONTRACT_LANES) NORMCORE_UNROLL                                       \
    for (int v = 0; v < BLOCK_V; v++)                                                                                  \
        for (size_t j0 = block + (size_t)(v * VL), count = lanes_at(j0, d), once = count != 0; once; once = 0)

#if NORMCORE_DTYPE == 32
/* One pass, sums of t = x - x0 and t^2, x0 the row's first element. */
NORMCORE_INLINE void row_statistics(size_t d, const real *x, double *mean, double *variance) {
    const vwide x0 = w_set1((double)x[0]);
    lanes s1 = lanes_zero(), s2 = lanes_zero();
    FOR_BLOCKS(j, count, d) {
        const vwide t = w_sub(w_widen(v_get(x + j, count)), x0);
        const vwide sum = w_add(s1.v[v], t), squares = w_fma(t, t, s2.v[v]);
        s1.v[v] = count == (size_t)VL ? sum : w_select_tail(count, sum, s1.v[v]);
        s2.v[v] = count == (size_t)VL ? squares : w_select_tail(count, squares, s2.v[v]);
    }
    const double columns = (double)d, sum = lanes_fold(&s1);
    *mean = (double)x[0] + sum / columns;
    *variance = m2_from_sums(sum, lanes_fold(&s2), columns) / columns;
}
#else
/* Two passes; see batch_norm_chunk_statistics. */
NORMCORE_INLINE void row_statistics(size_t d, const real *x, double *mean, double *variance) {
    const vwide x0 = w_set1(x[0]);
    lanes s = lanes_zero();
    FOR_BLOCKS(j, count, d) { s.v[v] = w_select_tail(count, w_add(s.v[v], w_sub(v_get(x + j, count), x0)), s.v[v]); }
    const double columns = (double)d, m = x[0] + lanes_fold(&s) / columns;
    lanes s1 = lanes_zero(), s2 = lanes_zero();
    FOR_BLOCKS(j, count, d) {
        const vwide t = w_sub(v_get(x + j, count), w_set1(m));
        s1.v[v] = w_select_tail(count, w_add(s1.v[v], t), s1.v[v]);
        s2.v[v] = w_select_tail(count, w_fma(t, t, s2.v[v]), s2.v[v]);
    }
    *mean = m;
    *variance = m2_from_sums(lanes_fold(&s1), lanes_fold(&s2), columns) / columns;
}
#endif

/* Constants of one row, in every lane. */
NORMCORE_INLINE norm_block row_constants(double mean, double rstd) {
    const norm_constants c = norm_constants_of(mean, rstd);
    norm_block b;
    b.hi = v_set1(c.hi);
    b.c = v_set1(c.c);
    b.r = v_set1(c.r);
    b.r_lo = v_set1(c.r_lo);
    b.pre = v_set1(c.pre);
    b.post = v_set1(c.post);
    return b;
}

NORMCORE_INLINE void layer_norm_apply(const int plain, size_t d, const real *x, const norm_block *b, const real *gamma,
                                      const real *beta, real *y) {
    for (size_t j = 0; j < d; j += VL) {
        const size_t count = lanes_at(j, d);
        const vreal xhat = v_xhat(v_get(x + j, count), b, plain);
        v_put_n(y + j, v_fma(xhat, v_get(gamma + j, count), v_get(beta + j, count)), count);
    }
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
    FOR_BLOCKS(j, count, d) {
        const vreal g = v_mul(v_get(dy + j, count), v_get(gamma + j, count));
        const vwide wide = w_widen(g), xhat = w_widen(v_xhat(v_get(x + j, count), b, plain));
        const vwide sum = w_add(s1.v[v], wide), product = w_fma(wide, xhat, s2.v[v]);
        s1.v[v] = count == (size_t)VL ? sum : w_select_tail(count, sum, s1.v[v]);
        s2.v[v] = count == (size_t)VL ? product : w_select_tail(count, product, s2.v[v]);
    }
    const double power = plain ? 1.0 : norm_power(rstd), scale = rstd / power, columns = (double)d;
    const vreal p = v_set1((real)(-(lanes_fold(&s1) / columns) * scale));
    const vreal q = v_set1((real)(-(lanes_fold(&s2) / columns) * scale));
    for (size_t j = 0; j < d; j += VL) {
        const size_t count = lanes_at(j, d);
        const vreal g = v_mul(v_get(dy + j, count), v_get(gamma + j, count));
        const vreal xhat = v_xhat(v_get(x + j, count), b, plain);
        v_put_n(dx + j, v_norm_dx(g, xhat, b->r, b->r_lo, q, p, b, plain, d == 1), count);
    }
}

static void layer_norm_backward_dx(size_t n, size_t d, const real *dy, size_t dys, const real *x, size_t xs,
                                   const real *gamma, const double *mean, const double *rstd, real *dx, size_t dxs) {
    for (size_t i = 0; i < n; i++, dy += dys, x += xs, dx += dxs) {
        const norm_block b = row_constants(mean[i], rstd[i]);
        if (norm_is_plain(rstd[i]))
            layer_norm_dx(1, d, dy, x, &b, rstd[i], gamma, dx);
        else
            layer_norm_dx(0, d, dy, x, &b, rstd[i], gamma, dx);
    }
}

static void layer_norm_chunk_gradients(size_t n, size_t d, const real *dy, size_t dys, const real *x, size_t xs,
                                       const double *mean, const double *rstd, double *dgamma, double *dbeta) {
    for (size_t j = 0; j < d; j++) dgamma[j] = dbeta[j] = 0.0;
    for (size_t i = 0; i < n; i++, dy += dys, x += xs) {
        const norm_block b = row_constants(mean[i], rstd[i]);
        const int plain = norm_is_plain(rstd[i]);
        for (size_t j = 0; j < d; j += VL) {
            const size_t count = lanes_at(j, d);
            const vwide g = w_widen(v_get(dy + j, count));
            const vwide xhat = w_widen(v_xhat(v_get(x + j, count), &b, plain));
            w_put_n(dgamma + j, w_fma(g, xhat, w_get(dgamma + j, count)), count);
            w_put_n(dbeta + j, w_add(w_get(dbeta + j, count), g), count);
        }
    }
}
#undef FOR_BLOCKS
