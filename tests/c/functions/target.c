/* Compiled like core/kernels/kernels.c: once per target and dtype, with that target's flags. */
#include "simd/simd.h"
#include "simd/vmath.h"

#include "functions.h"

static void exp_of(size_t count, const real *x, const real *lo, double *y) {
    (void)lo;
    for (size_t i = 0; i < count; i += VL) w_store(y + i, w_widen(v_exp(v_load(x + i))));
}
static void exp_sum_of(size_t count, const real *x, const real *lo, double *y) {
    for (size_t i = 0; i < count; i += VL) w_store(y + i, w_widen(v_exp_sum(v_load(x + i), v_load(lo + i))));
}
static void log_of(size_t count, const real *x, const real *lo, double *y) {
    (void)lo;
    for (size_t i = 0; i < count; i++) y[i] = s_log((double)x[i]);
}
static void log1p_of(size_t count, const real *x, const real *lo, double *y) {
    (void)lo;
    for (size_t i = 0; i < count; i++) y[i] = s_log1p((double)x[i]);
}

static void log1p_unit_of(size_t count, const real *x, const real *lo, double *y) {
    (void)lo;
    for (size_t i = 0; i < count; i += VL) w_store(y + i, w_log1p_unit(w_widen(v_load(x + i))));
}

/* As a kernel stores them: NaN canonical. */
#define ACTIVATION_OF(name)                                                                                            \
    static void name##_of(size_t count, const real *x, const real *lo, double *y) {                                    \
        (void)lo;                                                                                                      \
        for (size_t i = 0; i < count; i += VL) w_store(y + i, w_widen(v_canonical(v_##name(v_load(x + i)))));          \
    }
ACTIVATION_OF(tanh)
ACTIVATION_OF(logistic)
ACTIVATION_OF(silu)
ACTIVATION_OF(silu_derivative)

extern function *const FUNCTIONS(NORMCORE_DTYPE, NORMCORE_ISA)[FUNCTION_COUNT];
function *const FUNCTIONS(NORMCORE_DTYPE, NORMCORE_ISA)[FUNCTION_COUNT] = {
    exp_of, exp_sum_of, log_of, log1p_of, log1p_unit_of, tanh_of, logistic_of, silu_of, silu_derivative_of};
