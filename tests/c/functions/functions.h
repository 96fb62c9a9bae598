/* What target.c gives for each (instruction set, dtype): the elementary functions of simd/vmath.h over arrays. */
#ifndef NORMCORE_TESTS_FUNCTIONS_H
#define NORMCORE_TESTS_FUNCTIONS_H

#include <math.h>
#include <stddef.h>

#include "numeric/dtype.h"

enum {
    FUNCTION_EXP,
    FUNCTION_EXP_SUM,
    FUNCTION_LOG,
    FUNCTION_LOG1P,
    FUNCTION_LOG1P_UNIT,
    FUNCTION_TANH,
    FUNCTION_LOGISTIC,
    FUNCTION_SILU,
    FUNCTION_SILU_DERIVATIVE,
    FUNCTION_COUNT
};

/* y = f(x), of exp_sum f(x, lo); count is a multiple of 16. Results but those of logarithms are widened, which changes no bit of them. */
typedef void function(size_t count, const real *x, const real *lo, double *y);

#define FUNCTIONS_(dtype, isa) functions_f##dtype##_##isa
#define FUNCTIONS(dtype, isa)  FUNCTIONS_(dtype, isa)

#endif
