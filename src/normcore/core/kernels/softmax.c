/*
 * Softmax, log-softmax, their gradients, and a row of softmax cross-entropy.
 *
 * x - max is kept exact as hi + lo (rounding it costs |x - max| / 2 ulp of the result, 44 ulp at 88). For
 * logarithms the greatest term, exp(0) = 1, is kept out of the sum: log1p of the rest is accurate where log of the
 * whole has lost it.
 */
#include "kernels/kernels.h"
#include "simd/vmath.h"

/* Greatest element that is not NaN; -inf if there is none. */
NORMCORE_INLINE real row_max(size_t d, const real *x) {
    /* Four chains, for what one maximum takes to be there for the next. */
    vreal greatest = v_set1(-REAL_INFINITY), second = greatest, third = greatest, fourth = greatest;
    for (; d >= 4 * VL; d -= 4 * VL, x += 4 * VL) {
        greatest = v_max(v_load(x), greatest);
        second = v_max(v_load(x + VL), second);
        third = v_max(v_load(x + 2 * VL), third);
        fourth = v_max(v_load(x + 3 * VL), fourth);
    }
    greatest = v_max(v_max(greatest, second), v_max(third, fourth));
    FOR_VECTORS(j, count, d, {
        vreal v = v_get(x + j, count);
        if (count < (size_t)VL) v = v_select_tail(count, v, v_set1(-REAL_INFINITY));
        greatest = v_max(v, greatest);
    });
    return v_greatest(greatest);
}

/* Softmax of a row is undefined, NaN, where no greatest element or an infinite one was found; a NaN shows in the sum. */
NORMCORE_INLINE int is_finite_max(real max) { return max > -REAL_INFINITY && max < REAL_INFINITY; }
NORMCORE_INLINE int is_sum(double sum) { return sum == sum; }

static void row_fill(size_t d, real *y, real value) {
    for (size_t j = 0; j < d; j++) y[j] = value;
}

NORMCORE_INLINE vreal exp_below_max(vreal x, vreal max) {
    const vreal hi = v_sub(x, max);
    /* TwoSum for the subtraction: hi + lo == x - max. NaN where hi is infinite, and not used there. */
    const vreal part = v_sub(hi, x);
    const vreal lo = v_sub(v_sub(x, v_sub(hi, part)), v_add(max, part));
    return v_exp_sum(hi, lo);
}

/*
 * y = exp(x - max) and its sum; y may be NULL. If without_max, the sum leaves out one greatest element: every element
 * equal to the maximum, whose term is exactly 1, is counted instead, and the count less one is added at the end.
 */
NORMCORE_INLINE double row_exp(const int without_max, size_t d, const real *x, real max, real *y) {
    lanes s = lanes_zero();
    size_t at_max = 0;
    const vreal m = v_set1(max);
    FOR_LANES(j, v, count, d, {
        vreal z = v_get(x + j, count);
        /* exp is 0 in the lanes past the end, and adding 0 to a sum of terms >= 0 changes nothing. */
        if (count < (size_t)VL) z = v_select_tail(count, z, v_set1(-REAL_INFINITY));
        const vreal e = exp_below_max(z, m);
        if (y) {
            if (count == (size_t)VL)
                v_store(y + j, e);
            else
                v_store_tail(y + j, e, count);
        }
        if (without_max) {
            const vmask is_max = v_eq(z, m);
            at_max += v_count(is_max);
            s.v[v] = w_accumulate(s.v[v], w_widen(v_select(is_max, v_zero(), e)));
        } else {
            s.v[v] = w_accumulate(s.v[v], w_widen(e));
        }
    });
    const double sum = lanes_fold(&s);
    return without_max ? sum + (double)(at_max - 1) : sum;
}

/* y = y f; for float, f in two pieces, so that its own rounding does not count. */
static void row_scale(size_t d, real *y, double f) {
    const vreal hi = v_set1((real)f);
#if NORMCORE_DTYPE == 32
    const vreal lo = v_set1((real)(f - (double)(real)f));
    FOR_STORED_VECTORS(j, count, d, y, {
        const vreal e = v_get(y + j, count);
        v_put_n(y + j, v_fma(e, hi, v_mul(e, lo)), count);
    });
#else
    FOR_STORED_VECTORS(j, count, d, y, { v_put_n(y + j, v_mul(v_get(y + j, count), hi), count); });
#endif
}

static void softmax(size_t n, size_t d, const real *x, size_t xs, real *y, size_t ys) {
    for (size_t i = 0; i < n; i++, x += xs, y += ys) {
        const real max = row_max(d, x);
        const double sum = row_exp(0, d, x, max, y);
        if (is_finite_max(max) && is_sum(sum))
            row_scale(d, y, 1.0 / sum);
        else
            row_fill(d, y, REAL_NAN);
    }
}

static void log_softmax(size_t n, size_t d, const real *x, size_t xs, real *y, size_t ys) {
    for (size_t i = 0; i < n; i++, x += xs, y += ys) {
        const real max = row_max(d, x);
        const double rest = row_exp(1, d, x, max, NULL);
        if (!is_finite_max(max) || !is_sum(rest)) {
            row_fill(d, y, REAL_NAN);
            continue;
        }
        const vwide m = w_set1((double)max), log_sum = w_set1(s_log1p(rest));
        FOR_VECTORS(j, count, d,
                    { v_put_n(y + j, w_narrow(w_sub(w_sub(w_widen(v_get(x + j, count)), m), log_sum)), count); });
    }
}

/* Sum along the row of a b, or of a where b is NULL. */
NORMCORE_INLINE double row_dot(size_t d, const real *a, const real *b) {
    lanes s = lanes_zero();
    FOR_LANES(j, v, count, d, {
        const vwide wa = w_widen(v_get(a + j, count));
        const vwide sum = b ? w_fma(wa, w_widen(v_get(b + j, count)), s.v[v]) : w_add(s.v[v], wa);
        s.v[v] = w_keep_tail(count, sum, s.v[v]);
    });
    return lanes_fold(&s);
}

static void softmax_backward(size_t n, size_t d, const real *dy, size_t dys, const real *y, size_t ys, real *dx,
                             size_t dxs) {
    for (size_t i = 0; i < n; i++, dy += dys, y += ys, dx += dxs) {
        const vwide dot = w_set1(row_dot(d, dy, y));
        FOR_VECTORS(j, count, d, {
            const vwide difference = w_sub(w_widen(v_get(dy + j, count)), dot);
            v_put_n(dx + j, w_narrow(w_mul(w_widen(v_get(y + j, count)), difference)), count);
        });
    }
}

static void log_softmax_backward(size_t n, size_t d, const real *dy, size_t dys, const real *y, size_t ys, real *dx,
                                 size_t dxs) {
    for (size_t i = 0; i < n; i++, dy += dys, y += ys, dx += dxs) {
        const vwide sum = w_set1(-row_dot(d, dy, NULL));
        FOR_VECTORS(j, count, d, {
            const vwide p = w_widen(v_exp(v_get(y + j, count)));
            v_put_n(dx + j, w_narrow(w_fma(p, sum, w_widen(v_get(dy + j, count)))), count);
        });
    }
}

/*
 * Shares of a row's classes: class weight times smoothed target, (1 - e) t + e / c. With labels they are the smoothing's
 * alone: the caller adds the label's own. A copy of what the loops over them need, which their stores cannot change.
 */
typedef struct row_shares {
    const real *target;
    const double *class_weight;
    vwide keep, even; /* 1 - e, e / c */
} row_shares;

NORMCORE_INLINE row_shares row_shares_of(const NAME(cross_entropy_row_problem) *p) {
    const row_shares s = {p->target, p->class_weight, w_set1(1.0 - p->smoothing), w_set1(p->smoothing / (double)p->c)};
    return s;
}

NORMCORE_INLINE vwide row_share(const row_shares *s, size_t j, size_t count) {
    vwide share = s->even;
    if (s->target) share = w_add(w_mul(s->keep, w_widen(v_get(s->target + j, count))), share);
    return s->class_weight ? w_mul(w_get(s->class_weight + j, count), share) : share;
}

/* Sum of share (max - z), and of the shares (*total). A class without a share takes no part, whatever its logit. */
static double row_share_sums(const NAME(cross_entropy_row_problem) *p, real max, double *total) {
    const row_shares shares = row_shares_of(p);
    const real *const z = p->z;
    lanes loss = lanes_zero(), sum = lanes_zero();
    const vwide m = w_set1((double)max);
    FOR_LANES(j, v, count, p->c, {
        const vwide share = row_share(&shares, j, count);
        const vwide gap = w_where_nonzero(share, w_sub(m, w_widen(v_get(z + j, count))));
        loss.v[v] = w_keep_tail(count, w_fma(share, gap, loss.v[v]), loss.v[v]);
        sum.v[v] = w_keep_tail(count, w_add(sum.v[v], share), sum.v[v]);
    });
    *total = lanes_fold(&sum);
    return lanes_fold(&loss);
}

/* dz = dz - share factor. */
static void row_subtract_shares(const NAME(cross_entropy_row_problem) *p) {
    const row_shares shares = row_shares_of(p);
    real *const dz = p->dz;
    const vwide factor = w_set1(p->factor);
    FOR_VECTORS(j, count, p->c, {
        const vreal share = w_narrow(w_mul(row_share(&shares, j, count), factor));
        v_put_n(dz + j, v_sub(v_get(dz + j, count), share), count);
    });
}

/* -sum(share log(softmax(z))) and its gradient, softmax(z) sum(share) - share, times factor. */
static void cross_entropy_row(const NAME(cross_entropy_row_problem) *p, double *loss) {
    const size_t c = p->c;
    const real max = row_max(c, p->z);
    const double base = p->smoothing / (double)c; /* e / c */
    double total = 0.0, share_loss = 0.0;
    if (p->target || p->smoothing > 0.0) share_loss = row_share_sums(p, max, &total);

    const real z_label = p->target ? (real)0 : p->z[p->label]; /* dz may overwrite z */
    const double rest = row_exp(1, c, p->z, max, p->dz);
    if (!is_finite_max(max) || !is_sum(rest)) {
        *loss = (double)NAN;
        row_fill(c, p->dz, REAL_NAN);
        return;
    }
    const double sum = 1.0 + rest, log_sum = s_log1p(rest);

    if (p->target) {
        *loss = canonical(log_sum * total + share_loss);
        row_scale(c, p->dz, total * p->factor / sum);
        row_subtract_shares(p);
        return;
    }

    const double weight = p->class_weight ? p->class_weight[p->label] : 1.0, own = (1.0 - p->smoothing) * weight;
    const double gap = (double)max - (double)z_label, e_label = (double)p->dz[p->label];
    /* Softmax of the label less 1 is minus the sum of all others over the sum: no cancellation where it is nearly 1. */
    const double others = gap == 0.0 ? rest : (rest - e_label) + 1.0;
    double share = own, other_shares = 0.0;
    if (p->smoothing > 0.0) {
        share = own + base * weight;
        other_shares = base * ((p->class_weight_sum - weight) + p->class_weight_lo);
        total = share + other_shares;
    } else {
        total = own;
    }
    *loss = canonical(log_sum * total + ((own > 0.0 ? own * gap : 0.0) + share_loss)); /* gap may be infinite */
    row_scale(c, p->dz, total * p->factor / sum);
    if (p->smoothing > 0.0) {
        row_subtract_shares(p);
        /* e_y total / sum - share = (e_y (total - share) - (sum - e_y) share) / sum */
        const double scale = p->factor / sum;
        p->dz[p->label] = (real)canonical(other_shares * e_label * scale - share * others * scale);
    } else {
        p->dz[p->label] = (real)canonical(-others * (own * p->factor / sum));
    }
}
