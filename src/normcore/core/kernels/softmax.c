/*
 * Softmax, log-softmax, their gradients, and a row of softmax cross-entropy.
 *
 * x - max is kept exact as hi + lo (rounding it costs |x - max| / 2 ulp of the result, 44 ulp at 88), and the greatest
 * term, exp(0) = 1, is kept out of the sum: log1p of the rest is accurate where log of the whole has lost it.
 */

/* Greatest element; 0 where softmax is undefined: NaN or +inf in the row, nothing but -inf in it, or no element. */
static int row_max(size_t d, const real *x, real *max) {
    vreal greatest = v_set1(-REAL_INFINITY);
    unsigned nan = 0;
    for (size_t j = 0; j < d; j += VL) {
        const size_t count = lanes_at(j, d);
        vreal v = v_get(x + j, count);
        if (count < (size_t)VL) v = v_select_tail(count, v, v_set1(-REAL_INFINITY));
        nan |= v_count(v_isnan(v));
        greatest = v_select(v_gt(v, greatest), v, greatest);
    }
    real lane[VL];
    v_store(lane, greatest);
    real m = lane[0];
    for (int v = 1; v < VL; v++)
        if (lane[v] > m) m = lane[v];
    *max = m;
    return !nan && m > -REAL_INFINITY && m < REAL_INFINITY;
}

static void row_fill(size_t d, real *y, real value) {
    for (size_t j = 0; j < d; j++) y[j] = value;
}

/* exp(x - max) in vectors; *at_max counts the lanes that hold the maximum. */
NORMCORE_INLINE vreal exp_below_max(vreal x, vreal max, unsigned *at_max) {
    const vreal hi = v_sub(x, max);
    /* TwoSum for the subtraction: hi + lo == x - max. NaN where hi is infinite, and not used there. */
    const vreal part = v_sub(hi, x);
    const vreal lo = v_sub(v_sub(x, v_sub(hi, part)), v_add(max, part));
    *at_max += v_count(v_eq(hi, v_zero()));
    return v_exp_sum(hi, lo);
}

/*
 * y = exp(x - max), and the sum of y but for one greatest element. The sum leaves out every element equal to the
 * maximum (their term is exactly 1) and counts them instead. y may be NULL.
 */
static double row_exp(size_t d, const real *x, real max, real *y) {
    lanes s = lanes_zero();
    size_t at_max = 0;
    const vreal m = v_set1(max);
    for (size_t j = 0; j < d; j += CONTRACT_LANES) NORMCORE_UNROLL
    for (int v = 0; v < BLOCK_V; v++) {
        const size_t j0 = j + (size_t)(v * VL), count = lanes_at(j0, d);
        if (!count) break;
        vreal z = v_get(x + j0, count);
        /* exp is 0 in the lanes past the end, and adding 0 to a sum of terms >= 0 changes nothing. */
        if (count < (size_t)VL) z = v_select_tail(count, z, v_set1(-REAL_INFINITY));
        unsigned equal = 0;
        const vreal e = exp_below_max(z, m, &equal);
        at_max += equal;
        if (y) {
            if (count == (size_t)VL)
                v_store(y + j0, e);
            else
                v_store_tail(y + j0, e, count);
        }
        s.v[v] = w_add(s.v[v], w_widen(v_select(v_eq(z, m), v_zero(), e)));
    }
    return lanes_fold(&s) + (double)(at_max - 1);
}

/* y = y f, f in two pieces so that its own rounding does not count. */
static void row_scale(size_t d, real *y, double f) {
    const real hi = (real)f;
#if NORMCORE_DTYPE == 32
    const real lo = (real)(f - (double)hi);
#endif
    for (size_t j = 0; j < d; j += VL) {
        const size_t count = lanes_at(j, d);
        const vreal e = v_get(y + j, count);
#if NORMCORE_DTYPE == 32
        v_put_n(y + j, v_fma(e, v_set1(hi), v_mul(e, v_set1(lo))), count);
#else
        v_put_n(y + j, v_mul(e, v_set1(hi)), count);
#endif
    }
}

static void softmax(size_t n, size_t d, const real *x, size_t xs, real *y, size_t ys) {
    for (size_t i = 0; i < n; i++, x += xs, y += ys) {
        real max;
        if (!row_max(d, x, &max)) {
            row_fill(d, y, REAL_NAN);
            continue;
        }
        const double rest = row_exp(d, x, max, y);
        row_scale(d, y, 1.0 / (1.0 + rest));
    }
}

static void log_softmax(size_t n, size_t d, const real *x, size_t xs, real *y, size_t ys) {
    for (size_t i = 0; i < n; i++, x += xs, y += ys) {
        real max;
        if (!row_max(d, x, &max)) {
            row_fill(d, y, REAL_NAN);
            continue;
        }
        const vwide m = w_set1((double)max), log_sum = w_set1(s_log1p(row_exp(d, x, max, NULL)));
        for (size_t j = 0; j < d; j += VL) {
            const size_t count = lanes_at(j, d);
            v_put_n(y + j, w_narrow(w_sub(w_sub(w_widen(v_get(x + j, count)), m), log_sum)), count);
        }
    }
}

/* Sum along the row of a b, or of a where b is NULL. */
static double row_dot(size_t d, const real *a, const real *b) {
    lanes s = lanes_zero();
    for (size_t j = 0; j < d; j += CONTRACT_LANES) NORMCORE_UNROLL
    for (int v = 0; v < BLOCK_V; v++) {
        const size_t j0 = j + (size_t)(v * VL), count = lanes_at(j0, d);
        if (!count) break;
        const vwide wa = w_widen(v_get(a + j0, count));
        const vwide sum = b ? w_fma(wa, w_widen(v_get(b + j0, count)), s.v[v]) : w_add(s.v[v], wa);
        s.v[v] = w_select_tail(count, sum, s.v[v]);
    }
    return lanes_fold(&s);
}

static void softmax_backward(size_t n, size_t d, const real *dy, size_t dys, const real *y, size_t ys, real *dx,
                             size_t dxs) {
    for (size_t i = 0; i < n; i++, dy += dys, y += ys, dx += dxs) {
        const vwide dot = w_set1(row_dot(d, dy, y));
        for (size_t j = 0; j < d; j += VL) {
            const size_t count = lanes_at(j, d);
            const vwide difference = w_sub(w_widen(v_get(dy + j, count)), dot);
            v_put_n(dx + j, w_narrow(w_mul(w_widen(v_get(y + j, count)), difference)), count);
        }
    }
}

static void log_softmax_backward(size_t n, size_t d, const real *dy, size_t dys, const real *y, size_t ys, real *dx,
                                 size_t dxs) {
    for (size_t i = 0; i < n; i++, dy += dys, y += ys, dx += dxs) {
        const vwide sum = w_set1(-row_dot(d, dy, NULL));
        for (size_t j = 0; j < d; j += VL) {
            const size_t count = lanes_at(j, d);
            const vwide p = w_widen(v_exp(v_get(y + j, count)));
            v_put_n(dx + j, w_narrow(w_fma(p, sum, w_widen(v_get(dy + j, count)))), count);
        }
    }
}

/* Target of column block j0 in double: (1 - e) t + e / c. */
NORMCORE_INLINE vwide smoothed(vreal t, double smoothing, double base) {
    return w_add(w_mul(w_set1(1.0 - smoothing), w_widen(t)), w_set1(base));
}

/*
 * Sum of target (max - z), and of the targets (*total). A target of 0 takes no part, whatever its logit. With labels
 * the target is the smoothing alone: the caller adds the label's own share.
 */
static double row_target_sums(const NAME(cross_entropy_row_problem) * p, real max, double base, double *total) {
    lanes loss = lanes_zero(), sum = lanes_zero();
    const vreal m = v_set1(max);
    for (size_t j = 0; j < p->c; j += CONTRACT_LANES) NORMCORE_UNROLL
    for (int v = 0; v < BLOCK_V; v++) {
        const size_t j0 = j + (size_t)(v * VL), count = lanes_at(j0, p->c);
        if (!count) break;
        vreal z = v_get(p->z + j0, count);
        vwide t = w_set1(base);
        if (p->target) {
            const vreal raw = v_get(p->target + j0, count);
            t = smoothed(raw, p->smoothing, base);
            if (base == 0.0) z = v_select(v_eq(raw, v_zero()), m, z);
        }
        const vwide gap = w_sub(w_set1((double)max), w_widen(z));
        loss.v[v] = w_select_tail(count, w_fma(t, gap, loss.v[v]), loss.v[v]);
        sum.v[v] = w_select_tail(count, w_add(sum.v[v], t), sum.v[v]);
    }
    *total = lanes_fold(&sum);
    return lanes_fold(&loss);
}

static void cross_entropy_row(const NAME(cross_entropy_row_problem) * p, double *loss) {
    const size_t c = p->c;
    real max;
    if (!row_max(c, p->z, &max)) {
        *loss = (double)NAN;
        row_fill(c, p->dz, REAL_NAN);
        return;
    }
    const double base = p->smoothing / (double)c; /* e / c */
    double total = 1.0, target_loss = 0.0;
    if (p->target || p->smoothing > 0.0) target_loss = row_target_sums(p, max, base, &total);

    const real z_label = p->target ? (real)0 : p->z[p->label]; /* dz may overwrite z */
    const double rest = row_exp(c, p->z, max, p->dz), sum = 1.0 + rest, log_sum = s_log1p(rest);

    if (p->target) {
        *loss = canonical(log_sum * total + target_loss);
        /* dz = softmax total factor - target factor */
        row_scale(c, p->dz, total * p->factor / sum);
        const vwide factor = w_set1(p->factor);
        for (size_t j = 0; j < c; j += VL) {
            const size_t count = lanes_at(j, c);
            const vreal t = w_narrow(w_mul(smoothed(v_get(p->target + j, count), p->smoothing, base), factor));
            v_put_n(p->dz + j, v_sub(v_get(p->dz + j, count), t), count);
        }
        return;
    }

    const double own = 1.0 - p->smoothing, gap = (double)max - (double)z_label;
    const double e_label = (double)p->dz[p->label], scale = p->factor / sum;
    /* Softmax of the label less 1 is minus the sum of all others over the sum: no cancellation where it is nearly 1. */
    const double others = gap == 0.0 ? rest : (rest - e_label) + 1.0;
    row_scale(c, p->dz, scale);
    if (p->smoothing > 0.0) {
        *loss = canonical(log_sum + ((own > 0.0 ? own * gap : 0.0) + target_loss)); /* gap may be infinite */
        const vreal even = v_set1((real)(base * p->factor));
        for (size_t j = 0; j < c; j += VL) {
            const size_t count = lanes_at(j, c);
            v_put_n(p->dz + j, v_sub(v_get(p->dz + j, count), even), count);
        }
        /* e_y / sum - own - base = (own + base) (-others / sum) + (1 - own - base) e_y / sum */
        p->dz[p->label] = (real)canonical((p->smoothing - base) * e_label * scale - (own + base) * others * scale);
    } else {
        *loss = canonical(log_sum + gap);
        p->dz[p->label] = (real)canonical(-others * scale);
    }
}
