/* Activations of hidden layers: what each computes, and the passes over rows for every line of activations.def. */
#include "kernels/kernels.h"
#include "simd/vmath.h"

NORMCORE_INLINE vreal activation_of(const normcore_activation activation, vreal x, vreal slope) {
    switch (activation) {
    case NORMCORE_ACTIVATION_RELU:
        return v_relu(x);
    case NORMCORE_ACTIVATION_LEAKY_RELU:
        return v_select(v_le(x, v_zero()), v_mul(x, slope), x);
    case NORMCORE_ACTIVATION_TANH:
        return v_tanh(x);
    case NORMCORE_ACTIVATION_LOGISTIC:
        return v_logistic(x);
    case NORMCORE_ACTIVATION_SILU:
        return v_silu(x);
    case NORMCORE_ACTIVATION_RELU6:
        return v_select(v_gt(x, v_set1((real)6)), v_set1((real)6), v_relu(x));
    }
    return x;
}

/* `saved` is the output y, for silu the input x. The fma leaves one rounding and no cancellation where y nears 1. */
NORMCORE_INLINE vreal activation_gradient(const normcore_activation activation, vreal dy, vreal saved, vreal slope) {
    switch (activation) {
    case NORMCORE_ACTIVATION_RELU:
        return v_select(v_le(saved, v_zero()), v_zero(), dy);
    case NORMCORE_ACTIVATION_LEAKY_RELU:
        return v_select(v_le(saved, v_zero()), v_mul(dy, slope), dy);
    case NORMCORE_ACTIVATION_TANH: /* 1 - y^2 */
        return v_mul(dy, v_fnma(saved, saved, v_set1((real)1)));
    case NORMCORE_ACTIVATION_LOGISTIC: /* y - y^2 */
        return v_mul(dy, v_fnma(saved, saved, saved));
    case NORMCORE_ACTIVATION_SILU:
        return v_mul(dy, v_silu_derivative(saved));
    case NORMCORE_ACTIVATION_RELU6: /* 0 up to 0 and from 6 on */
        return v_select(v_le(saved, v_zero()), v_zero(), v_select(v_le(v_set1((real)6), saved), v_zero(), dy));
    }
    return dy;
}

static void activation_forward(normcore_activation activation, real slope, size_t n, size_t d, const real *x, size_t xs,
                               real *y, size_t ys) {
    const vreal s = v_set1(slope);
    switch (activation) {
#define ACTIVATION(name, takes, weights, slope)                                                                        \
    case NORMCORE_ACTIVATION_##name:                                                                                   \
        for (size_t i = 0; i < n; i++, x += xs, y += ys)                                                               \
            FOR_STORED_VECTORS(j, count, d, y, {                                                                       \
                v_put_n(y + j, activation_of(NORMCORE_ACTIVATION_##name, v_get(x + j, count), s), count);              \
            });                                                                                                        \
        break;
#include "kernels/activations.def"
#undef ACTIVATION
    }
}

static void activation_backward(normcore_activation activation, real slope, size_t n, size_t d, const real *dy,
                                size_t dys, const real *saved, size_t saveds, real *dx, size_t dxs) {
    const vreal s = v_set1(slope);
    switch (activation) {
#define ACTIVATION(name, takes, weights, slope)                                                                        \
    case NORMCORE_ACTIVATION_##name:                                                                                   \
        for (size_t i = 0; i < n; i++, dy += dys, saved += saveds, dx += dxs)                                          \
            FOR_STORED_VECTORS(j, count, d, dx, {                                                                      \
                const vreal g = v_get(dy + j, count);                                                                  \
                const vreal a = v_get(saved + j, count);                                                               \
                v_put_n(dx + j, activation_gradient(NORMCORE_ACTIVATION_##name, g, a, s), count);                      \
            });                                                                                                        \
        break;
#include "kernels/activations.def"
#undef ACTIVATION
    }
}
