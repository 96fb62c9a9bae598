/* Optimiser updates and sums of squares over flat arrays. */
#include "ops/ops.h"

#include <math.h>

static void optimizer_task(void *arg, size_t index) {
    const optimizer_args *p = arg;
    const row_range r = row_range_of(p->n, p->tasks, index);
    p->kernels->optimizer_update(&p->constants, r.count, p->p + r.start, p->g + r.start,
                                 p->slot1 ? p->slot1 + r.start : NULL, p->slot2 ? p->slot2 + r.start : NULL);
}

/* base^exponent by repeated squaring: pow() of the C library is not the same everywhere. */
static double integer_power(double base, uint64_t exponent) {
    double power = 1.0;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1) power *= base;
    return power;
}

/* Scalars are combined in double and rounded to the dtype once. */
static NAME(optimizer_constants) optimizer_constants_of(const normcore_optimizer_options *o) {
    const double correction1 = 1.0 - integer_power(o->beta1, o->step),
                 correction2 = 1.0 - integer_power(o->beta2, o->step);
    return (NAME(optimizer_constants)){
        .optimizer = o->optimizer,
        .has_scale = o->gradient_scale != 1.0,
        .has_l2 = o->l2 != 0.0,
        .has_decay = o->weight_decay != 0.0,
        .scale = (real)o->gradient_scale,
        .l2 = (real)o->l2,
        .decay = (real)(o->learning_rate * o->weight_decay),
        .lr = (real)(o->optimizer == NORMCORE_ADAM ? o->learning_rate / correction1 : o->learning_rate),
        .momentum = (real)o->momentum,
        .rho = (real)o->decay_rate,
        .one_minus_rho = (real)(1.0 - o->decay_rate),
        .beta1 = (real)o->beta1,
        .one_minus_beta1 = (real)(1.0 - o->beta1),
        .beta2 = (real)o->beta2,
        .one_minus_beta2 = (real)(1.0 - o->beta2),
        .root_correction2 = (real)sqrt(1.0 / correction2),
        .eps = (real)o->eps};
}

normcore_status NAME(normcore_optimizer_body)(call *c, void *arguments) {
    optimizer_args *p = arguments;
    if (!p->n) return NORMCORE_OK;
    p->kernels = kernels_of(c);
    p->constants = optimizer_constants_of(p->options);
    p->tasks = normcore_call_threads(c, pass_ns(p->n, 1, 6.0));
    if (p->tasks > p->n) p->tasks = p->n;
    normcore_call_parallel(c, p->tasks, optimizer_task, p, p->tasks);
    return NORMCORE_OK;
}

static int is_size(double x) { return isgreaterequal(x, 0.0) && fits(x); }

/*
 * A learning rate or decay that rounds to 0 moves nothing, as a smaller one would; an eps, l2 or gradient_scale of 0
 * is another update.
 */
static normcore_status check_optimizer_options(const normcore_optimizer_options *o) {
    if ((unsigned)o->optimizer > NORMCORE_ADAM || !o->step) return NORMCORE_ERROR_VALUE;
    const int good = is_size(o->learning_rate) && is_size(o->eps) && fits_or_is_zero(o->eps) && is_size(o->l2) &&
                     fits_or_is_zero(o->l2) && is_size(o->weight_decay) && fits(o->learning_rate * o->weight_decay) &&
                     fits_or_is_zero(o->gradient_scale) && is_fraction(o->momentum) && is_fraction(o->decay_rate) &&
                     is_fraction(o->beta1) && is_fraction(o->beta2) &&
                     (o->optimizer != NORMCORE_ADAM || fits(o->learning_rate / (1.0 - o->beta1)));
    return good ? NORMCORE_OK : NORMCORE_ERROR_VALUE;
}

normcore_status NAME(normcore_optimizer_update)(normcore_context *ctx, const normcore_optimizer_options *options,
                                                size_t n, real *p, const real *g, real *slot1, real *slot2) {
    if (!options) return NORMCORE_ERROR_NULL;
    normcore_optimizer_options o;
    normcore_status status = normcore_options_read_optimizer(options, &o);
    if (!status) status = check_optimizer_options(&o);
    if (status) return status;
    const normcore_optimizer kind = o.optimizer;
    const int has1 = kind == NORMCORE_MOMENTUM || kind == NORMCORE_NESTEROV || kind == NORMCORE_ADAM;
    const int has2 = kind == NORMCORE_RMSPROP || kind == NORMCORE_ADAM;
    if (!has1) slot1 = NULL;
    if (!has2) slot2 = NULL;
    const operand operands[] = {OUT_VECTOR(p, n), IN_VECTOR(g, n), OUT_VECTOR_UNLESS(!has1, slot1, n),
                                OUT_VECTOR_UNLESS(!has2, slot2, n)};
    status = normcore_check_operands(operands, 4);
    if (status) return status;
    optimizer_args args = {.options = &o, .n = n, .p = p, .g = g, .slot1 = slot1, .slot2 = slot2};
    return normcore_call_run(ctx, NAME(normcore_optimizer_body), &args);
}

typedef struct sum_of_squares_args {
    size_t n;
    const real *x;
    double *result;
} sum_of_squares_args;

static normcore_status sum_of_squares_body(call *c, void *arguments) {
    const sum_of_squares_args *p = arguments;
    kernels_of(c)->sum_of_squares(p->n, p->x, p->result);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_sum_of_squares)(normcore_context *ctx, size_t n, const real *x, double *result) {
    const operand operands[] = {IN_VECTOR(x, n), OUT_VECTOR(result, 1)};
    const normcore_status status = normcore_check_operands(operands, 2);
    if (status) return status;
    sum_of_squares_args args = {.n = n, .x = x, .result = result};
    return normcore_call_run(ctx, sum_of_squares_body, &args);
}
