#include "operations.h"
#include "reference.h"

#include <math.h>

/* Roundings of a sum along a row of d, in 16 lanes of doubles. */
static wide lane_error(size_t d) { return ((wide)d / 16 + 8) * UD; }

/* 0 x, 1 y */
static void setup_one(call *c) {
    add_matrix(c, INPUT, c->n, c->k, 1);
    add_matrix(c, OUTPUT, c->n, c->k, 1);
}

/* Numbers from mild to saturated, in place of those of a matrix: rows times 1, 10, 40 and 0.001. */
static void spread(const call *c, size_t index) {
    static const real scales[] = {1, 10, 40, (real)0.001};
    for (size_t i = 0; c->flavour == PLAIN && i < c->n; i++)
        for (size_t j = 0; j < c->k; j++) POINTER(index)[i * c->a[index].stride + j] *= scales[(i + c->number) % 4];
}

static void setup_logits(call *c) {
    setup_one(c);
    spread(c, 0);
}

/* 0 dy, 1 y, 2 dx */
static void setup_two(call *c) {
    add_matrix(c, INPUT, c->n, c->k, 1);
    add_matrix(c, INPUT, c->n, c->k, 1);
    add_matrix(c, OUTPUT, c->n, c->k, 1);
}

/* y of softmax or of log_softmax, rounded. */
static void setup_probabilities(call *c) {
    setup_two(c);
    if (c->flavour != PLAIN) return;
    const wide *x = widen(&c->a[1]);
    wide *y = scratch_wide(c->n * c->k);
    if (c->operation->variant)
        reference_log_softmax(c->n, c->k, x, y);
    else
        reference_softmax(c->n, c->k, x, y);
    for (size_t i = 0; i < c->n; i++)
        for (size_t j = 0; j < c->k; j++) POINTER(1)[i * c->a[1].stride + j] = (real)y[i * c->k + j];
}

#define RUN_ONE(function)                                                                                              \
    static normcore_status run_##function(const call *c, normcore_context *ctx) {                                      \
        return T(normcore_##function)(ctx, c->n, c->k, MATRIX(0), MATRIX(1));                                          \
    }
#define RUN_TWO(function)                                                                                              \
    static normcore_status run_##function(const call *c, normcore_context *ctx) {                                      \
        return T(normcore_##function)(ctx, c->n, c->k, MATRIX(0), MATRIX(1), MATRIX(2));                               \
    }

RUN_ONE(softmax)
RUN_ONE(log_softmax)
RUN_TWO(softmax_backward)
RUN_TWO(log_softmax_backward)

/* ---------------------------------------------------------------- activations: the variant is which */

#define SLOPE 0.01
static normcore_activation activation_of(const call *c) { return (normcore_activation)c->operation->variant; }

/* The output of the forward pass, rounded, or its input. */
static void setup_activation_backward(call *c) {
    setup_two(c);
    spread(c, 1);
    if (c->flavour != PLAIN || normcore_activation_takes_input(activation_of(c))) return;
    for (size_t i = 0; i < c->n; i++)
        for (size_t j = 0; j < c->k; j++) {
            real *y = &POINTER(1)[i * c->a[1].stride + j];
            *y = (real)reference_activation(activation_of(c), (real)SLOPE, (wide)*y);
        }
}

static normcore_status run_activation(const call *c, normcore_context *ctx) {
    return T(normcore_activation_forward)(ctx, activation_of(c), SLOPE, c->n, c->k, MATRIX(0), MATRIX(1));
}
static normcore_status run_activation_backward(const call *c, normcore_context *ctx) {
    return T(normcore_activation_backward)(ctx, activation_of(c), SLOPE, c->n, c->k, MATRIX(0), MATRIX(1), MATRIX(2));
}

/* 2 ULP; the product with the slope is one rounding, ReLU none. */
static void verify_activation(const call *c) {
    const wide roundings[] = {0, 0.5L, 2, 2, 2, 0}, *x = widen(&c->a[0]);
    wide *y = scratch_wide(c->n * c->k), *tolerance = scratch_wide(c->n * c->k);
    for (size_t i = 0; i < c->n * c->k; i++) {
        y[i] = reference_activation(activation_of(c), (real)SLOPE, x[i]);
        tolerance[i] = roundings[activation_of(c)] * ulp(y[i]);
    }
    check_near(c, 1, y, tolerance);
}

/* 1 - y^2 and y - y^2 rounded once, silu's derivative within 4 ULP of it or of the logistic function; the product. */
static void verify_activation_backward(const call *c) {
    const wide roundings[] = {0, 0, 0.5L, 0.5L, 4, 0}, *dy = widen(&c->a[0]), *saved = widen(&c->a[1]);
    wide *dx = scratch_wide(c->n * c->k), *tolerance = scratch_wide(c->n * c->k);
    for (size_t i = 0; i < c->n * c->k; i++) {
        const wide derivative = reference_activation_derivative(activation_of(c), (real)SLOPE, saved[i]);
        wide size = fabsl(derivative);
        if (activation_of(c) == NORMCORE_ACTIVATION_SILU) size = fmaxl(size, reference_logistic(saved[i]));
        dx[i] = dy[i] * derivative;
        tolerance[i] = roundings[activation_of(c)] * ulp(size) * fabsl(dy[i]);
        if (activation_of(c) != NORMCORE_ACTIVATION_RELU) tolerance[i] += 0.5L * ulp(fabsl(dx[i]) + tolerance[i]);
    }
    check_near(c, 2, dx, tolerance);
}

/* ---------------------------------------------------------------- softmax */

/* 3 ULP where p is normal, and the sum's roundings. */
static void verify_softmax(const call *c) {
    wide *y = scratch_wide(c->n * c->k), *tolerance = scratch_wide(c->n * c->k);
    reference_softmax(c->n, c->k, widen(&c->a[0]), y);
    for (size_t i = 0; i < c->n * c->k; i++)
        tolerance[i] = y[i] < (wide)REAL_MIN ? (wide)REAL_MIN : 3 * ulp(y[i]) + lane_error(c->k) * y[i];
    check_near(c, 1, y, tolerance);
}

/*
 * Roundings of x - max, of log(sum) (1 ULP, and what 1 ULP in each exponential makes of the sum) and
 * of their difference.
 */
static void verify_log_softmax(const call *c) {
    const wide *x = widen(&c->a[0]);
    wide *y = scratch_wide(c->n * c->k), *tolerance = scratch_wide(c->n * c->k);
    reference_log_softmax(c->n, c->k, x, y);
    for (size_t i = 0; i < c->n; i++) {
        wide greatest = 0;
        for (size_t j = 0; j < c->k; j++) greatest = j == 0 || x[i * c->k + j] > greatest ? x[i * c->k + j] : greatest;
        for (size_t j = 0; j < c->k; j++) {
            const size_t e = i * c->k + j;
            const wide distance = greatest - x[e], log_of_sum = fabsl(y[e] + distance);
            tolerance[e] = U * (distance + 2 * log_of_sum + fabsl(y[e]) + 2) + lane_error(c->k);
        }
    }
    check_near(c, 1, y, tolerance);
}

static void verify_softmax_backward(const call *c) {
    const wide *dy = widen(&c->a[0]), *y = widen(&c->a[1]);
    wide *dx = scratch_wide(c->n * c->k), *tolerance = scratch_wide(c->n * c->k);
    reference_softmax_backward(c->n, c->k, dy, y, dx);
    for (size_t i = 0; i < c->n; i++) {
        wide sum = 0, magnitude = 0;
        for (size_t j = 0; j < c->k; j++) {
            sum += dy[i * c->k + j] * y[i * c->k + j];
            magnitude += fabsl(dy[i * c->k + j] * y[i * c->k + j]);
        }
        for (size_t j = 0; j < c->k; j++) {
            const size_t e = i * c->k + j;
            tolerance[e] = fabsl(y[e]) * (3 * U * (fabsl(dy[e]) + fabsl(sum)) + lane_error(c->k) * magnitude);
        }
    }
    check_near(c, 2, dx, tolerance);
}

static void verify_log_softmax_backward(const call *c) {
    const wide *dy = widen(&c->a[0]), *y = widen(&c->a[1]);
    wide *dx = scratch_wide(c->n * c->k), *tolerance = scratch_wide(c->n * c->k);
    reference_log_softmax_backward(c->n, c->k, dy, y, dx);
    for (size_t i = 0; i < c->n; i++) {
        wide sum = 0, magnitude = 0;
        for (size_t j = 0; j < c->k; j++) {
            sum += dy[i * c->k + j];
            magnitude += fabsl(dy[i * c->k + j]);
        }
        for (size_t j = 0; j < c->k; j++) {
            const size_t e = i * c->k + j;
            /* exp 1 ULP, its product, the sum rounded to the data's type, the difference */
            tolerance[e] =
                U * (2 * fabsl(dy[e]) + 5 * fabsl(expl(y[e]) * sum)) + expl(y[e]) * lane_error(c->k) * magnitude;
        }
    }
    check_near(c, 2, dx, tolerance);
}

#define ACTIVATION_FORWARD(name, number)                                                                               \
    {                                                                                                                  \
        "activation_forward " name, number, BY_ROW, setup_logits, run_activation, verify_activation, {{1, 0}}          \
    }
#define ACTIVATION_BACKWARD(name, number)                                                                              \
    {                                                                                                                  \
        "activation_backward " name, number, BY_ROW, setup_activation_backward, run_activation_backward,               \
            verify_activation_backward, {                                                                              \
            {2, 0}, {2, 1}                                                                                             \
        }                                                                                                              \
    }

static const operation operations[] = {
    ACTIVATION_FORWARD("relu", NORMCORE_ACTIVATION_RELU),
    ACTIVATION_BACKWARD("relu", NORMCORE_ACTIVATION_RELU),
    ACTIVATION_FORWARD("leaky_relu", NORMCORE_ACTIVATION_LEAKY_RELU),
    ACTIVATION_BACKWARD("leaky_relu", NORMCORE_ACTIVATION_LEAKY_RELU),
    ACTIVATION_FORWARD("tanh", NORMCORE_ACTIVATION_TANH),
    ACTIVATION_BACKWARD("tanh", NORMCORE_ACTIVATION_TANH),
    ACTIVATION_FORWARD("logistic", NORMCORE_ACTIVATION_LOGISTIC),
    ACTIVATION_BACKWARD("logistic", NORMCORE_ACTIVATION_LOGISTIC),
    ACTIVATION_FORWARD("silu", NORMCORE_ACTIVATION_SILU),
    ACTIVATION_BACKWARD("silu", NORMCORE_ACTIVATION_SILU),
    ACTIVATION_FORWARD("relu6", NORMCORE_ACTIVATION_RELU6),
    ACTIVATION_BACKWARD("relu6", NORMCORE_ACTIVATION_RELU6),
    {"softmax", 0, BY_ROW, setup_logits, run_softmax, verify_softmax, {{1, 0}}},
    {"log_softmax", 0, BY_ROW, setup_logits, run_log_softmax, verify_log_softmax, {{1, 0}}},
    {"softmax_backward",
     0,
     BY_ROW,
     setup_probabilities,
     run_softmax_backward,
     verify_softmax_backward,
     {{2, 0}, {2, 1}}},
    {"log_softmax_backward",
     1,
     BY_ROW,
     setup_probabilities,
     run_log_softmax_backward,
     verify_log_softmax_backward,
     {{2, 0}, {2, 1}}},
};

operation_list rowwise_operations(void) {
    const operation_list list = {operations, sizeof operations / sizeof *operations};
    return list;
}
