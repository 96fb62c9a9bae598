/*
 * Optimiser updates: elementwise formulas, one pass, in the order of operations of the numeric contract. The order is
 * one in which nothing overflows but what is stored: g is scaled before it is squared, the root of the second moment is
 * taken before the correction multiplies it, and the step is divided before the rate multiplies it.
 */
#include "kernels/kernels.h"
#include "simd/simd.h"

/* Inlined once for each optimiser, a constant there. g, p and the slots of one vector. */
NORMCORE_INLINE void update_vector(const normcore_optimizer optimizer, const NAME(optimizer_constants) *c, real *p,
                                   const real *grad, real *slot1, real *slot2, size_t count) {
    vreal x = v_get(p, count), g = v_get(grad, count);
    if (c->has_scale) g = v_mul(g, v_set1(c->scale));
    if (c->has_l2) g = v_fma(v_set1(c->l2), x, g);
    if (c->has_decay) x = v_fnma(v_set1(c->decay), x, x);
    const vreal lr = v_set1(c->lr);
    switch (optimizer) {
    case NORMCORE_SGD:
        x = v_fnma(lr, g, x);
        break;
    case NORMCORE_MOMENTUM:
    case NORMCORE_NESTEROV: {
        const vreal mu = v_set1(c->momentum), velocity = v_fnma(lr, g, v_mul(mu, v_get(slot1, count)));
        v_put_n(slot1, velocity, count);
        x = optimizer == NORMCORE_MOMENTUM ? v_add(x, velocity) : v_add(x, v_fnma(lr, g, v_mul(mu, velocity)));
        break;
    }
    case NORMCORE_RMSPROP: {
        const vreal square = v_mul(v_mul(v_set1(c->one_minus_rho), g), g);
        const vreal s = v_fma(v_set1(c->rho), v_get(slot2, count), square);
        v_put_n(slot2, s, count);
        x = v_fnma(lr, v_div(g, v_add(v_sqrt(s), v_set1(c->eps))), x);
        break;
    }
    case NORMCORE_ADAM: {
        const vreal m = v_fma(v_set1(c->beta1), v_get(slot1, count), v_mul(v_set1(c->one_minus_beta1), g));
        const vreal square = v_mul(v_mul(v_set1(c->one_minus_beta2), g), g);
        const vreal s = v_fma(v_set1(c->beta2), v_get(slot2, count), square);
        v_put_n(slot1, m, count);
        v_put_n(slot2, s, count);
        const vreal root = v_fma(v_sqrt(s), v_set1(c->root_correction2), v_set1(c->eps));
        x = v_fnma(lr, v_div(m, root), x);
        break;
    }
    }
    v_put_n(p, x, count);
}

static void optimizer_update(const NAME(optimizer_constants) *c, size_t n, real *p, const real *g, real *slot1,
                             real *slot2) {
#define UPDATE(optimizer, s1, s2)                                                                                      \
    FOR_VECTORS(j, count, n, { update_vector(optimizer, c, p + j, g + j, s1, s2, count); });                           \
    break
    switch (c->optimizer) {
    case NORMCORE_SGD:
        UPDATE(NORMCORE_SGD, NULL, NULL);
    case NORMCORE_MOMENTUM:
        UPDATE(NORMCORE_MOMENTUM, slot1 + j, NULL);
    case NORMCORE_NESTEROV:
        UPDATE(NORMCORE_NESTEROV, slot1 + j, NULL);
    case NORMCORE_RMSPROP:
        UPDATE(NORMCORE_RMSPROP, NULL, slot2 + j);
    case NORMCORE_ADAM:
        UPDATE(NORMCORE_ADAM, slot1 + j, slot2 + j);
    }
#undef UPDATE
}
