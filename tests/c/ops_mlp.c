#include "operations.h"
#include "reference.h"

#include <math.h>

enum { NORM = 3, DROPOUT = 4, SOFT = 8, WEIGHTED = 16, SUM = 32, ACTIVATION_SHIFT = 6, LOSS_SHIFT = 9 };
#define ACTIVATION(name) (NORMCORE_ACTIVATION_##name << ACTIVATION_SHIFT)
#define LOSS_OF(name)    (NORMCORE_LOSS_##name << LOSS_SHIFT)

#define HIDDEN1  13
#define HIDDEN2  9
#define MOMENTUM 0.8
#define EPS      1e-3
#define KEEP     0.7

static reference_mlp reference_of(const call *c) {
    const int variant = c->operation->variant;
    const reference_mlp mlp = {.layers = 3,
                               .sizes = c->sizes,
                               .norm = (normcore_norm)(variant & NORM),
                               .activation = (normcore_activation)(variant >> ACTIVATION_SHIFT & 7),
                               .keep = variant & DROPOUT ? (wide)KEEP : 1,
                               .eps = (wide)EPS,
                               .momentum = (wide)MOMENTUM,
                               .unbiased_running_var = variant & WEIGHTED};
    return mlp;
}

static normcore_status create(const call *c, normcore_mlp **mlp) {
    normcore_mlp_options options;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_defaults(&options, sizeof options));
    const reference_mlp shape = reference_of(c);
    options.num_sizes = 4;
    options.sizes = c->sizes;
    options.norm = shape.norm;
    options.activation = shape.activation;
    options.keep = (double)shape.keep;
    options.eps = EPS;
    options.momentum = MOMENTUM;
    options.unbiased_running_var = shape.unbiased_running_var;
    return normcore_mlp_create(&options, mlp);
}

static void setup_sizes(call *c) {
    c->sizes[0] = c->k;
    c->sizes[1] = HIDDEN1;
    c->sizes[2] = HIDDEN2;
    c->sizes[3] = c->m;
    c->seed = rng_next(&c->data);
    c->stream = rng_next(&c->data);
}

static void add_parameters(call *c, role parameters, role buffers) {
    const reference_mlp mlp = reference_of(c);
    add_vector(c, parameters, reference_mlp_parameter_count(&mlp));
    if (mlp.norm == NORMCORE_NORM_BATCH)
        add_vector(c, buffers, reference_mlp_buffer_count(&mlp));
    else
        add_absent(c);
    const array *p = &c->a[c->count - 2], *b = &c->a[c->count - 1];
    /* Where the running statistics do not move (n == 0), what was there must be canonical for the checks. */
    for (size_t i = 0; buffers == INOUT && b->data && i < b->cols; i++)
        if (((real *)b->data)[i] != ((real *)b->data)[i]) ((real *)b->data)[i] = 0;
    if (c->flavour == SPECIAL) { /* all but negative variances, which are refused */
        for (size_t i = 0; buffers != OUTPUT && b->data && i < b->cols; i++)
            if (((real *)b->data)[i] < 0) ((real *)b->data)[i] = -((real *)b->data)[i];
        return;
    }
    for (size_t i = 0; parameters != OUTPUT && i < p->cols; i++) ((real *)p->data)[i] *= (real)0.25;
    for (size_t i = 0; buffers != OUTPUT && b->data && i < b->cols; i++)
        ((real *)b->data)[i] = (real)(0.125L + fabsl((wide)((real *)b->data)[i]));
}

/* ---------------------------------------------------------------- initialize: 0 params, 1 buffers */

static void setup_initialize(call *c) {
    setup_sizes(c);
    c->low = c->number % 2 ? -1 : 0.25;
    add_parameters(c, OUTPUT, OUTPUT);
}

static normcore_status run_initialize(const call *c, normcore_context *ctx) {
    normcore_mlp *mlp;
    normcore_status status = create(c, &mlp);
    if (status == NORMCORE_OK)
        status = T(normcore_mlp_initialize)(ctx, mlp, c->seed, c->stream, c->low, POINTER(0), POINTER(1));
    normcore_mlp_destroy(mlp);
    return status;
}

static void verify_initialize(const call *c) {
    const reference_mlp mlp = reference_of(c);
    const size_t count = reference_mlp_parameter_count(&mlp);
    wide *expected = scratch_wide(count), *tolerance = scratch_wide(count);
    size_t at = 0;
    for (size_t l = 0; l < 3; l++) {
        const size_t k = c->sizes[l], m = c->sizes[l + 1];
        const int glorot = mlp.activation == NORMCORE_ACTIVATION_TANH || mlp.activation == NORMCORE_ACTIVATION_LOGISTIC;
        const wide scale = c->low < 0 ? sqrtl(2 / (wide)(glorot ? k + m : k)) : (wide)c->low;
        for (size_t i = 0; i < k * m; i++, at++) {
            const wide q = reference_normal_probability(c->seed, c->stream + l, i) - 0.5L;
            const wide z = array_at(&c->a[0], 0, at) / scale;
            expected[at] = scale * (z - reference_normal_error(z, q));
            tolerance[at] = U * 10 * scale * fabsl(z);
        }
        at += m;
        for (size_t j = 0; l < 2 && mlp.norm != NORMCORE_NORM_NONE && j < 2 * m; j++) expected[at++] = j < m;
    }
    check_near(c, 0, expected, tolerance);
    if (!c->a[1].data) return;
    const size_t buffers = reference_mlp_buffer_count(&mlp);
    wide *statistics = scratch_wide(buffers);
    for (size_t j = 0; j < HIDDEN1; j++) statistics[HIDDEN1 + j] = 1;
    for (size_t j = 0; j < HIDDEN2; j++) statistics[2 * HIDDEN1 + HIDDEN2 + j] = 1;
    check_near(c, 1, statistics, scratch_wide(buffers));
}

/* ---------------------------------------------------------------- tolerances */

/* Copies with each element moved by a few roundings, to see what roundings do to the results. */
static wide *jitter(const wide *values, size_t count, rng *r) {
    wide *result = scratch_wide(count);
    for (size_t i = 0; i < count; i++) result[i] = values[i] * (1 + U * (wide)(4 * rng_unit(r) - 2));
    return result;
}

static wide greatest(const wide *values, size_t count) {
    wide result = 0;
    for (size_t i = 0; i < count; i++) result = fabsl(values[i]) > result ? fabsl(values[i]) : result;
    return result;
}

static wide greatest_difference(const wide *a, const wide *b, size_t count) {
    wide result = 0;
    for (size_t i = 0; i < count; i++) result = fabsl(a[i] - b[i]) > result ? fabsl(a[i] - b[i]) : result;
    return result;
}

#define TRIALS 2

/*
 * A whole network has no short error bound. What a few U on every input do to the results is the scale; the factor
 * allows for the roundings inside, of which there are a few for each layer.
 */
#define ROUNDINGS 30

static void fill(wide *values, size_t count, wide value) {
    for (size_t i = 0; i < count; i++) values[i] = value;
}

/* ---------------------------------------------------------------- forward: 0 x, 1 params, 2 buffers, 3 logits */

static void setup_forward(call *c) {
    setup_sizes(c);
    add_matrix(c, INPUT, c->n, c->k, 1);
    add_parameters(c, INPUT, INPUT);
    add_matrix(c, OUTPUT, c->n, c->m, 1);
}

static normcore_status run_forward(const call *c, normcore_context *ctx) {
    normcore_mlp *mlp;
    normcore_status status = create(c, &mlp);
    if (status == NORMCORE_OK)
        status = T(normcore_mlp_forward)(ctx, mlp, c->n, MATRIX(0), POINTER(1), POINTER(2), MATRIX(3));
    normcore_mlp_destroy(mlp);
    return status;
}

static void verify_forward(const call *c) {
    const reference_mlp mlp = reference_of(c);
    const size_t count = c->n * c->m;
    const wide *x = widen(&c->a[0]), *params = widen(&c->a[1]), *buffers = widen(&c->a[2]);
    wide *logits = scratch_wide(count), *moved = scratch_wide(count), *tolerance = scratch_wide(count), spread = 0;
    rng r = rng_new(c->number);
    reference_mlp_forward(&mlp, c->n, x, params, buffers, logits);
    for (int trial = 0; trial < TRIALS; trial++) {
        reference_mlp_forward(&mlp, c->n, jitter(x, c->n * c->k, &r), jitter(params, c->a[1].cols, &r), buffers, moved);
        const wide difference = greatest_difference(logits, moved, count);
        spread = difference > spread ? difference : spread;
    }
    fill(tolerance, count, ROUNDINGS * (spread + U * greatest(logits, count)));
    check_near(c, 3, logits, tolerance);
}

/* --- loss_and_grads: 0 x, 1 labels, 2 targets, 3 params, 4 buffers, 5 grads, 6 loss, 7 weight_sum, 8, 9 weights */

static normcore_loss loss_of(const call *c) { return (normcore_loss)(c->operation->variant >> LOSS_SHIFT); }

static void setup_loss(call *c) {
    const int variant = c->operation->variant, is_numeric = loss_of(c) != NORMCORE_LOSS_CROSS_ENTROPY;
    setup_sizes(c);
    add_matrix(c, INPUT, c->n, c->k, 1);
    if (is_numeric || variant & SOFT) {
        add_absent(c);
        array *targets = add_matrix(c, INPUT, c->n, c->m, 1);
        if (is_numeric) limit(targets, 0, 1); /* which every loss takes */
    } else {
        add_labels(c, c->n, c->m);
        add_absent(c);
    }
    add_parameters(c, INPUT, INOUT);
    add_vector(c, OUTPUT, c->a[3].cols);
    add_doubles(c, OUTPUT, 1, 0, 0, 0);
    add_doubles(c, OUTPUT, 1, 0, 0, 0);
    if (is_numeric) {
        CHECK_STATUS(NORMCORE_OK, normcore_loss_defaults(&c->loss, sizeof c->loss));
        if (variant & SUM) c->loss.reduction = NORMCORE_REDUCTION_SUM;
        if (variant & WEIGHTED) c->loss.sample_weight = add_doubles(c, INPUT, c->n, 1, 0.1, 2)->data;
        return;
    }
    c->cross_entropy.struct_size = sizeof c->cross_entropy;
    if (variant & SUM) c->cross_entropy.reduction = NORMCORE_REDUCTION_SUM;
    if (variant & WEIGHTED) {
        c->cross_entropy.class_weight = add_doubles(c, INPUT, c->m, 0, 0.1, 3)->data;
        c->cross_entropy.sample_weight = add_doubles(c, INPUT, c->n, 1, 0.1, 2)->data;
        c->cross_entropy.label_smoothing = 0.2;
    }
    for (size_t i = 0; variant & SOFT && c->flavour == PLAIN && i < c->n; i++)
        for (size_t j = 0; j < c->m; j++)
            POINTER(2)[i * c->a[2].stride + j] = (real)fabsl((wide)POINTER(2)[i * c->a[2].stride + j]) / (real)c->m;
}

static normcore_status run_loss(const call *c, normcore_context *ctx) {
    normcore_mlp *mlp;
    size_t bad_row;
    normcore_mlp_loss_options options;
    normcore_status status = create(c, &mlp);
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_loss_defaults(&options, sizeof options));
    options.loss = loss_of(c);
    if (options.loss == NORMCORE_LOSS_CROSS_ENTROPY)
        options.cross_entropy = &c->cross_entropy;
    else
        options.numeric = &c->loss;
    if (status == NORMCORE_OK)
        status = T(normcore_mlp_loss_and_grads)(ctx, mlp, c->n, MATRIX(0), LABELS(1), MATRIX(2), &options, c->seed,
                                                c->stream, POINTER(3), POINTER(4), POINTER(5), DOUBLES(6), DOUBLES(7),
                                                &bad_row);
    normcore_mlp_destroy(mlp);
    return status;
}

typedef struct outcome {
    wide loss, weight_sum, *buffers, *grads;
} outcome;

static outcome expect_loss(const call *c, const reference_mlp *mlp, const wide *x, const wide *params) {
    outcome o = {0, 0, widen_initial(&c->a[4]), scratch_wide(c->a[5].cols)};
    o.loss = reference_mlp_loss(mlp, c->n, x, c->a[1].data ? LABELS(1) : NULL, widen(&c->a[2]), &c->cross_entropy,
                                c->seed, c->stream, params, o.buffers, o.grads, &o.weight_sum);
    return o;
}

static void verify_loss(const call *c) {
    const reference_mlp mlp = reference_of(c);
    const size_t count = c->a[5].cols, buffers = c->a[4].cols;
    const wide *x = widen(&c->a[0]), *params = widen(&c->a[3]);
    const outcome expected = expect_loss(c, &mlp, x, params);
    wide *tolerance = scratch_wide(count + buffers), loss_spread = 0, grads_spread = 0, buffers_spread = 0;
    rng r = rng_new(c->number);
    for (int trial = 0; trial < TRIALS; trial++) {
        const outcome moved = expect_loss(c, &mlp, jitter(x, c->n * c->k, &r), jitter(params, count, &r));
        const wide loss = fabsl(moved.loss - expected.loss);
        const wide grads = greatest_difference(moved.grads, expected.grads, count);
        loss_spread = loss > loss_spread ? loss : loss_spread;
        grads_spread = grads > grads_spread ? grads : grads_spread;
        if (buffers) {
            const wide statistics = greatest_difference(moved.buffers, expected.buffers, buffers);
            buffers_spread = statistics > buffers_spread ? statistics : buffers_spread;
        }
    }
    fill(tolerance, 1, ROUNDINGS * (loss_spread + U * fabsl(expected.loss)));
    check_near(c, 6, &expected.loss, tolerance);
    fill(tolerance, 1, (wide)(c->n + 4) * UD * expected.weight_sum);
    check_near(c, 7, &expected.weight_sum, tolerance);
    if (buffers) {
        fill(tolerance, buffers, ROUNDINGS * (buffers_spread + U * greatest(expected.buffers, buffers)));
        check_near(c, 4, expected.buffers, tolerance);
    }
    /* With few rows, batch norm's gradient is a small difference of large terms: only rounding is left to compare. */
    if (mlp.norm == NORMCORE_NORM_BATCH && c->n < 8) return;
    fill(tolerance, count, ROUNDINGS * (grads_spread + U * greatest(expected.grads, count)));
    check_near(c, 5, expected.grads, tolerance);
}

/* ---------------------------------------------------------------- the parts: their sum is tested in test_mlp.c */

/* 0 x, 1 params, 2 buffers, 3 y */
static void setup_forward_training(call *c) {
    setup_sizes(c);
    add_matrix(c, INPUT, c->n, c->k, 0);
    add_parameters(c, INPUT, INOUT);
    add_matrix(c, OUTPUT, c->n, c->m, 0);
}

static normcore_status run_forward_training(const call *c, normcore_context *ctx) {
    normcore_mlp *mlp;
    normcore_mlp_pass *pass = NULL;
    normcore_status status = create(c, &mlp);
    if (status == NORMCORE_OK) status = T(normcore_mlp_pass_create)(mlp, c->n < 4096 ? c->n : 4096, &pass);
    if (status == NORMCORE_OK)
        status = T(normcore_mlp_forward_training)(ctx, mlp, c->n, MATRIX(0), POINTER(1), POINTER(2), c->seed, c->stream,
                                                  pass, MATRIX(3));
    normcore_mlp_pass_destroy(pass);
    normcore_mlp_destroy(mlp);
    return status;
}

/* Sixteenths: exact in every rounding mode. */
static real *random_values(rng *r, size_t count) {
    real *values = scratch_alloc((count + 1) * sizeof *values);
    for (size_t i = 0; i < count; i++) values[i] = (real)((double)rng_below(r, 33) / 16 - 1);
    return values;
}

/* 0 x, 1 params, 2 dy, 3 grads, 4 dx */
static void setup_backward(call *c) {
    setup_sizes(c);
    add_matrix(c, INPUT, c->n, c->k, 0);
    const reference_mlp mlp = reference_of(c);
    const array *params = add_vector(c, INPUT, reference_mlp_parameter_count(&mlp));
    for (size_t i = 0; c->flavour != SPECIAL && i < params->cols; i++) ((real *)params->data)[i] *= (real)0.25;
    add_matrix(c, INPUT, c->n, c->m, 0);
    add_vector(c, OUTPUT, params->cols);
    add_matrix(c, OUTPUT, c->n, c->k, 0);
    rng r = rng_new(c->seed);
    c->forward.n = c->n;
    c->forward.x = random_values(&r, c->n * c->k);
    c->forward.params = random_values(&r, params->cols);
    c->forward.y = random_values(&r, c->n * c->m);
}

static normcore_status run_backward(const call *c, normcore_context *ctx) {
    normcore_mlp *mlp;
    normcore_mlp_pass *pass = NULL;
    normcore_status status = create(c, &mlp);
    if (status == NORMCORE_OK) status = T(normcore_mlp_pass_create)(mlp, c->forward.n, &pass);
    if (status == NORMCORE_OK)
        status = T(normcore_mlp_forward_training)(ctx, mlp, c->forward.n, c->forward.x, c->k, c->forward.params, NULL,
                                                  c->seed, c->stream, pass, c->forward.y, c->m);
    if (status == NORMCORE_OK)
        status =
            T(normcore_mlp_backward)(ctx, mlp, c->n, MATRIX(0), POINTER(1), pass, MATRIX(2), POINTER(3), MATRIX(4));
    normcore_mlp_pass_destroy(pass);
    normcore_mlp_destroy(mlp);
    return status;
}

#define INITIALIZE(name, variant)                                                                                      \
    {                                                                                                                  \
        name, variant, ONE_ROW | NEEDS_COLS, setup_initialize, run_initialize, verify_initialize, {{0, 0}}             \
    }
#define FORWARD(name, variant)                                                                                         \
    {                                                                                                                  \
        name, variant, BY_ROW | NEEDS_COLS, setup_forward, run_forward, verify_forward, {{0, 0}}                       \
    }
/* Their values are compared with those of loss_and_grads, which the reference verifies. */
#define FORWARD_TRAINING(name, variant)                                                                                \
    {                                                                                                                  \
        name, variant, NEEDS_COLS, setup_forward_training, run_forward_training, NULL, {{0, 0}}                        \
    }
#define BACKWARD(name, variant)                                                                                        \
    {                                                                                                                  \
        name, variant, NEEDS_COLS, setup_backward, run_backward, NULL, {{0, 0}}                                        \
    }
#define LOSS(name, variant)                                                                                            \
    {                                                                                                                  \
        name, variant, NEEDS_ROWS | NEEDS_COLS, setup_loss, run_loss, verify_loss, {{0, 0}}                            \
    }

/* Their values are compared with those of the functions of a step. */
#define NUMERIC_LOSS(name, variant)                                                                                    \
    {                                                                                                                  \
        name, variant, NEEDS_ROWS | NEEDS_COLS, setup_loss, run_loss, NULL, {{0, 0}}                                   \
    }

static const operation operations[] = {
    INITIALIZE("mlp_initialize", NORMCORE_NORM_NONE),
    INITIALIZE("mlp_initialize, batch norm", NORMCORE_NORM_BATCH),
    INITIALIZE("mlp_initialize, leaky relu", ACTIVATION(LEAKY_RELU)),
    INITIALIZE("mlp_initialize, tanh, layer norm", NORMCORE_NORM_LAYER | ACTIVATION(TANH)),
    INITIALIZE("mlp_initialize, logistic", ACTIVATION(LOGISTIC)),
    INITIALIZE("mlp_initialize, silu", ACTIVATION(SILU)),
    FORWARD("mlp_forward", NORMCORE_NORM_NONE),
    FORWARD("mlp_forward, batch norm", NORMCORE_NORM_BATCH),
    FORWARD("mlp_forward, layer norm, dropout", NORMCORE_NORM_LAYER | DROPOUT),
    FORWARD("mlp_forward, leaky relu, batch norm", NORMCORE_NORM_BATCH | ACTIVATION(LEAKY_RELU)),
    FORWARD("mlp_forward, tanh", ACTIVATION(TANH)),
    FORWARD("mlp_forward, logistic, layer norm", NORMCORE_NORM_LAYER | ACTIVATION(LOGISTIC)),
    FORWARD("mlp_forward, silu, batch norm", NORMCORE_NORM_BATCH | ACTIVATION(SILU)),
    FORWARD_TRAINING("mlp_forward_training, dropout", DROPOUT),
    FORWARD_TRAINING("mlp_forward_training, batch norm", NORMCORE_NORM_BATCH),
    FORWARD_TRAINING("mlp_forward_training, layer norm", NORMCORE_NORM_LAYER),
    FORWARD_TRAINING("mlp_forward_training, tanh, dropout", DROPOUT | ACTIVATION(TANH)),
    FORWARD_TRAINING("mlp_forward_training, silu, batch norm", NORMCORE_NORM_BATCH | ACTIVATION(SILU)),
    BACKWARD("mlp_backward, dropout", DROPOUT),
    BACKWARD("mlp_backward, batch norm", NORMCORE_NORM_BATCH),
    BACKWARD("mlp_backward, layer norm, dropout", NORMCORE_NORM_LAYER | DROPOUT),
    BACKWARD("mlp_backward, logistic, batch norm, dropout", NORMCORE_NORM_BATCH | DROPOUT | ACTIVATION(LOGISTIC)),
    BACKWARD("mlp_backward, silu", ACTIVATION(SILU)),
    BACKWARD("mlp_backward, relu6", ACTIVATION(RELU6)),
    LOSS("mlp_loss_and_grads", NORMCORE_NORM_NONE),
    LOSS("mlp_loss_and_grads, dropout, soft, sum", DROPOUT | SOFT | SUM),
    LOSS("mlp_loss_and_grads, batch norm, weighted", NORMCORE_NORM_BATCH | WEIGHTED),
    LOSS("mlp_loss_and_grads, batch norm, dropout", NORMCORE_NORM_BATCH | DROPOUT),
    LOSS("mlp_loss_and_grads, layer norm", NORMCORE_NORM_LAYER),
    LOSS("mlp_loss_and_grads, layer norm, dropout, weighted", NORMCORE_NORM_LAYER | DROPOUT | WEIGHTED),
    LOSS("mlp_loss_and_grads, leaky relu, dropout", DROPOUT | ACTIVATION(LEAKY_RELU)),
    LOSS("mlp_loss_and_grads, tanh", ACTIVATION(TANH)),
    LOSS("mlp_loss_and_grads, tanh, batch norm, dropout", NORMCORE_NORM_BATCH | DROPOUT | ACTIVATION(TANH)),
    LOSS("mlp_loss_and_grads, logistic, layer norm, dropout", NORMCORE_NORM_LAYER | DROPOUT | ACTIVATION(LOGISTIC)),
    LOSS("mlp_loss_and_grads, silu, dropout", DROPOUT | ACTIVATION(SILU)),
    LOSS("mlp_loss_and_grads, silu, batch norm", NORMCORE_NORM_BATCH | ACTIVATION(SILU)),
    NUMERIC_LOSS("mlp_loss_and_grads, logistic loss, sum", LOSS_OF(LOGISTIC) | SUM),
    NUMERIC_LOSS("mlp_loss_and_grads, squared error, batch norm, weighted",
                 NORMCORE_NORM_BATCH | LOSS_OF(SQUARED_ERROR) | WEIGHTED),
    NUMERIC_LOSS("mlp_loss_and_grads, quantile loss, dropout", DROPOUT | LOSS_OF(QUANTILE)),
};

operation_list mlp_operations(void) {
    const operation_list list = {operations, sizeof operations / sizeof *operations};
    return list;
}
