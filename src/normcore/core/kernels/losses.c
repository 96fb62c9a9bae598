/*
 * Losses of numbers: what each computes from an output y and its target t, and the pass over rows for every line of
 * losses.def. What stands in the data's type is exp, a comparison, or a difference that a gradient is rounded to anyway;
 * losses are double.
 */
#include "kernels/kernels.h"
#include "simd/vmath.h"

typedef struct element_loss {
    vwide loss, gradient;
} element_loss;

/* max(y, 0) - y t + log1p(exp(-|y|)), in terms that are not negative; a target that is reached leaves no infinity. */
NORMCORE_INLINE element_loss logistic_loss(vreal y, vreal t, vreal unused) {
    (void)unused;
    const vreal one = v_set1((real)1), size = v_minus_size(y), e = v_exp(size);
    const vmask above = v_gt(y, v_zero());
    const vreal missing = v_select(above, v_sub(one, t), t); /* of the target, on the side where y is */
    const vreal other = v_div(e, v_add(one, e));             /* probability of the other side: no cancellation */
    const vwide gap = w_mul(w_widen(missing), w_widen(v_minus(size)));
    const element_loss l = {w_add(w_where_nonzero(w_widen(missing), gap), w_log1p_unit(w_widen(e))),
                            w_widen(v_select(above, v_sub(missing, other), v_sub(other, missing)))};
    return l;
}

NORMCORE_INLINE element_loss squared_error(vreal y, vreal t, vreal unused) {
    (void)unused;
    const vwide r = w_sub(w_widen(y), w_widen(t));
    const element_loss l = {w_mul(r, r), w_add(r, r)};
    return l;
}

/* For c = r cut off at delta, c (r - c / 2) is r^2 / 2 within, delta (|r| - delta / 2) beyond; c is the gradient. */
NORMCORE_INLINE element_loss huber_loss(vreal y, vreal t, vreal delta) {
    const vreal r = v_sub(y, t), minus = v_minus(delta);
    const vwide c = w_widen(v_select(v_gt(r, delta), delta, v_select(v_gt(minus, r), minus, r)));
    const vwide whole = w_sub(w_widen(y), w_widen(t));
    const element_loss l = {w_mul(c, w_sub(whole, w_mul(w_set1(0.5), c))), c};
    return l;
}

/* The gradient is 1 - tau above the target, -tau below it and 0 at it. */
NORMCORE_INLINE element_loss quantile_loss(vreal y, vreal t, vreal tau) {
    const vreal at = v_sub(y, t); /* 0, or NaN, where y is neither above nor below */
    const vreal above = v_sub(v_set1((real)1), tau), below = v_minus(tau);
    const vwide slope = w_widen(v_select(v_gt(y, t), above, v_select(v_gt(t, y), below, at)));
    const element_loss l = {w_mul(slope, w_sub(w_widen(y), w_widen(t))), slope};
    return l;
}

/* exp(y) - t y; a count of 0 takes no part in t y, so that y may be -inf there. */
NORMCORE_INLINE element_loss poisson_loss(vreal y, vreal t, vreal unused) {
    (void)unused;
    const vwide mean = w_widen(v_exp(y)), count = w_widen(t);
    const element_loss l = {w_sub(mean, w_mul(count, w_where_nonzero(count, w_widen(y)))), w_sub(mean, count)};
    return l;
}

NORMCORE_INLINE element_loss loss_of(const normcore_loss loss, vreal y, vreal t, vreal parameter) {
    switch (loss) {
#define LOSS(name, function, low, high)                                                                                \
    case NORMCORE_LOSS_##name:                                                                                         \
        return function(y, t, parameter);
#include "kernels/losses.def"
#undef LOSS
    case NORMCORE_LOSS_CROSS_ENTROPY: /* it has kernels of its own */
        break;
    }
    return squared_error(y, t, parameter);
}

/* Mean of the losses of a row, and their gradients times factor; dy may be NULL, or y. */
NORMCORE_INLINE double loss_row(const normcore_loss loss, size_t d, const real *y, const real *t, real parameter,
                                double factor, real *dy) {
    lanes sum = lanes_zero();
    const vreal p = v_set1(parameter);
    const vwide f = w_set1(factor);
    FOR_LANES(j, v, count, d, {
        const element_loss l = loss_of(loss, v_get(y + j, count), v_get(t + j, count), p);
        sum.v[v] = w_keep_tail(count, w_add(sum.v[v], l.loss), sum.v[v]);
        if (dy) v_put_n(dy + j, w_narrow(w_mul(l.gradient, f)), count);
    });
    return lanes_fold(&sum) / (double)d;
}

NORMCORE_INLINE void loss_rows_of(const normcore_loss loss, const NAME(loss_problem) *p) {
    const size_t d = p->d;
    for (size_t i = 0; i < p->n; i++) {
        const double weight = !(p->divisor > 0.0) ? 0.0 : p->weights ? p->weights[i] : 1.0;
        const double factor = p->divisor > 0.0 ? weight / p->divisor / (double)d : 0.0;
        real *const dy = p->dy ? p->dy + i * p->dy_stride : NULL;
        const double row_loss =
            loss_row(loss, d, p->y + i * p->y_stride, p->t + i * p->t_stride, p->parameter, factor, dy);
        /* A row that weighs nothing adds nothing, even if its loss is infinite; NaN shows all the same. */
        const int is_nothing = weight == 0.0 && row_loss == row_loss;
        p->losses[i] = is_nothing ? 0.0 : canonical(row_loss * weight);
        for (size_t j = 0; is_nothing && dy && j < d; j++) dy[j] = (real)0;
    }
}

static void loss_rows(normcore_loss loss, const NAME(loss_problem) *problem) {
    switch (loss) {
#define LOSS(name, function, low, high)                                                                                \
    case NORMCORE_LOSS_##name:                                                                                         \
        loss_rows_of(NORMCORE_LOSS_##name, problem);                                                                   \
        break;
#include "kernels/losses.def"
#undef LOSS
    case NORMCORE_LOSS_CROSS_ENTROPY:
        break;
    }
}
