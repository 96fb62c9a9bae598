#include "operations.h"
#include "reference.h"

#include <math.h>

/* A variant is a reference_kind, and what is asked of it. */
enum { WEIGHTED = 16, SUM = 32, EACH = 64, NO_GRADIENT = 128, KIND = 15 };

static reference_kind kind_of(const call *c) { return (reference_kind)(c->operation->variant & KIND); }

/* 0 outputs, 1 targets, 2 loss, 3 doutputs, 4 weight_sum, 5 sample_weight */
static void setup(call *c) {
    const int variant = c->operation->variant;
    add_matrix(c, INPUT, c->n, c->k, 1);
    array *targets = add_matrix(c, INPUT, c->n, c->k, 1);
    if (kind_of(c) == REFERENCE_LOGISTIC) limit(targets, 0, 1); /* many are 0 or 1, the others between */
    if (kind_of(c) == REFERENCE_POISSON) limit(targets, 0, (double)INFINITY);
    add_doubles(c, OUTPUT, variant & EACH ? c->n : 1, (variant & EACH) != 0, 0, 0);
    if (variant & NO_GRADIENT)
        add_absent(c);
    else
        add_matrix(c, OUTPUT, c->n, c->k, 1);
    if (variant & EACH)
        add_absent(c);
    else
        add_doubles(c, OUTPUT, 1, 0, 0, 0);
    CHECK_STATUS(NORMCORE_OK, normcore_loss_defaults(&c->loss, sizeof c->loss));
    if (variant & WEIGHTED) {
        c->loss.sample_weight = add_doubles(c, INPUT, c->n, 1, 0.1, 2)->data;
        if (c->n > 2) DOUBLES(5)[2] = 0;
        c->loss.delta = 0.3;
        c->loss.tau = 0.8;
    }
    c->loss.reduction = variant & SUM    ? NORMCORE_REDUCTION_SUM
                        : variant & EACH ? NORMCORE_REDUCTION_NONE
                                         : NORMCORE_REDUCTION_MEAN;
    if (c->flavour != PLAIN) return;
    /* Some outputs are far away, so that losses are large or, of the logistic one, tiny; some are their targets. */
    for (size_t i = 0; i < c->n; i++)
        for (size_t j = i % 3; j < c->k; j += 3) {
            real *const y = POINTER(0) + i * c->a[0].stride + j;
            *y = i % 2 ? *y * 20 : POINTER(1)[i * c->a[1].stride + j];
        }
}

static normcore_status run(const call *c, normcore_context *ctx) {
    static normcore_status (*const functions[])(normcore_context *, size_t, size_t, const real *, size_t, const real *,
                                                size_t, const normcore_loss_options *, double *, real *, size_t,
                                                double *, size_t *) = {
        T(normcore_logistic_loss), T(normcore_squared_error), T(normcore_huber_loss), T(normcore_quantile_loss),
        T(normcore_poisson_loss)};
    size_t bad_row;
    return functions[kind_of(c)](ctx, c->n, c->k, MATRIX(0), MATRIX(1), c->operation->variant & ~KIND ? &c->loss : NULL,
                                 DOUBLES(2), MATRIX(3), DOUBLES(4), &bad_row);
}

/* Losses and gradients to 4 ULP of the terms that they are the sum of; of double data the sums count as well. */
static void verify(const call *c) {
    const size_t n = c->n, k = c->k;
    const normcore_loss_options *o = &c->loss;
    const wide parameter = kind_of(c) == REFERENCE_HUBER ? (wide)(real)o->delta : (wide)(real)o->tau;
    const wide *y = widen(&c->a[0]), *t = widen(&c->a[1]), row_error = 8 * U + ((wide)k / 16 + 8) * UD;
    const wide batch_error = 4 * UD;
    wide *losses = scratch_wide(n + 1), *sizes = scratch_wide(n + 1), *dy = scratch_wide(n * k);
    wide *tolerance = scratch_wide(n * k), weight_sum = 0, loss = 0, size = 0;
    for (size_t i = 0; i < n; i++) weight_sum += o->sample_weight ? (wide)o->sample_weight[i] : 1;
    const wide divisor = o->reduction != NORMCORE_REDUCTION_MEAN ? 1 : weight_sum;
    for (size_t i = 0; i < n; i++) {
        const wide weight = o->sample_weight ? (wide)o->sample_weight[i] : 1;
        losses[i] = sizes[i] = 0;
        for (size_t j = 0; j < k; j++) {
            const reference_loss l = reference_loss_of(kind_of(c), parameter, y[i * k + j], t[i * k + j]);
            const wide share = weight / divisor / (wide)k;
            losses[i] += weight * l.loss / (wide)k;
            sizes[i] += weight * l.loss_size / (wide)k;
            dy[i * k + j] = share * l.derivative;
            tolerance[i * k + j] = (8 * U + batch_error) * share * l.derivative_size + (wide)REAL_MIN;
        }
        loss += losses[i] / divisor;
        size += sizes[i] / divisor;
    }
    if (c->a[3].data) check_near(c, 3, dy, tolerance);
    if (o->reduction == NORMCORE_REDUCTION_NONE) {
        for (size_t i = 0; i < n; i++) sizes[i] *= row_error;
        check_near(c, 2, losses, sizes);
    } else {
        size *= row_error + batch_error;
        check_near(c, 2, &loss, &size);
        size = batch_error * weight_sum;
        check_near(c, 4, &weight_sum, &size);
    }
}

#define OPERATION(name, variant, flags)                                                                                \
    {                                                                                                                  \
        "loss: " name, variant, NEEDS_COLS | (flags), setup, run, verify, {{3, 0}}                                     \
    }
#define OPERATIONS(name, kind)                                                                                         \
    OPERATION(name, kind, 0), OPERATION(name ", weighted", (kind) | WEIGHTED, 0),                                      \
        OPERATION(name ", weighted sum", (kind) | WEIGHTED | SUM, 0),                                                  \
        OPERATION(name ", each", (kind) | WEIGHTED | EACH, BY_ROW),                                                    \
        OPERATION(name " without gradient", (kind) | NO_GRADIENT, 0)

static const operation operations[] = {
    OPERATIONS("logistic", REFERENCE_LOGISTIC), OPERATIONS("squared error", REFERENCE_SQUARED),
    OPERATIONS("huber", REFERENCE_HUBER),       OPERATIONS("quantile", REFERENCE_QUANTILE),
    OPERATIONS("poisson", REFERENCE_POISSON),
};

operation_list losses_operations(void) {
    const operation_list list = {operations, sizeof operations / sizeof *operations};
    return list;
}
