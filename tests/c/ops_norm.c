/*
 * Batch and layer normalisation differ in the lines they normalise, columns or rows, and in how statistics reach them.
 * Error bounds: u is the data's unit roundoff, UD that of the statistics, which are double.
 */
#include "operations.h"
#include "reference.h"

#include <math.h>

enum {
    RUNNING = 1,
    UNBIASED = 2,
    EVALUATION = 4,
    DEFAULTS = 8,
    GRAPH = 16,
    NO_DX = 32,
    NO_PARAMETERS = 64,
    BARE = 128
};

#define EPS 1e-5

/* How the elements of line `line` of an (n, d) array lie. */
typedef struct lines {
    size_t lines, count, step, next; /* next: from one line's first element to that of the following */
    wide depth;                      /* additions in a row in the longest chain of a sum along a line */
} lines;

static wide batch_depth(size_t n) {
    wide depth = (wide)(n < 256 ? n : 256) + 4;
    for (size_t chunks = (n + 255) / 256; chunks > 1; chunks = (chunks + 1) / 2) depth += 4;
    return depth;
}

static wide row_depth(size_t d) { return (wide)d / 16 + 8; }

static lines lines_of(const call *c, int by_column) {
    const lines columns = {c->k, c->n, c->k, 1, batch_depth(c->n)}, rows = {c->n, c->k, 1, c->k, row_depth(c->k)};
    return by_column ? columns : rows;
}

/* Bounds on the errors of mean (absolute) and of the variance (relative). */
static void moment_errors(const lines *l, const wide *x, wide mean, wide var, wide *mean_error, wide *var_error) {
    wide low = 0, high = 0, greatest = 0;
    for (size_t i = 0; i < l->count; i++) {
        const wide value = x[i * l->step];
        low = i == 0 || value < low ? value : low;
        high = i == 0 || value > high ? value : high;
        greatest = fabsl(value) > greatest ? fabsl(value) : greatest;
    }
#if TEST_DTYPE == 32
    /* One pass over the distances from the first element: rule 4. */
    *mean_error = UD * (2 * fabsl(mean) + 2 * l->depth * (high - low));
    *var_error = 2 * UD * ((l->depth + 4) * (wide)(1 + l->count) + 4);
    (void)var;
#else
    *mean_error = 2 * UD * (l->depth + 3) * greatest;
    (void)mean;
    *var_error = 2 * UD * (l->depth + 8) + (var > 0 ? 2 * *mean_error / sqrtl(var) : 0);
#endif
}

/* ---------------------------------------------------------------- forward */

/*
 * y given statistics and the bounds of their errors. mean_error is absolute, rstd_error relative. In f32 the mean is
 * applied as hi + lo, which leaves U^2 of it.
 */
static void expect_line(const lines *l, int by_column, size_t line, const wide *x, const wide *gamma, const wide *beta,
                        wide mean, wide rstd, wide mean_error, wide rstd_error, wide *y, wide *tolerance) {
    for (size_t i = 0; i < l->count; i++) {
        const size_t e = line * l->next + i * l->step, column = by_column ? line : i;
        const wide xhat = (x[e] - mean) * rstd;
        const wide xhat_error =
            4 * U * fabsl(xhat) + (U * U * fabsl(mean) + mean_error) * rstd + fabsl(xhat) * rstd_error;
        y[e] = gamma[column] * xhat + beta[column];
        tolerance[e] = fabsl(gamma[column]) * xhat_error + 2 * U * (fabsl(gamma[column] * xhat) + fabsl(y[e])) +
                       (wide)REAL_MIN * U;
    }
}

/* Batch norm: 0 x, 1 gamma, 2 beta, 3 running_mean, 4 running_var, 5 y, 6 mean, 7 rstd */
static void setup_batch_forward(call *c) {
    const int variant = c->operation->variant;
    const role running = variant & EVALUATION ? INPUT : INOUT;
    add_matrix(c, INPUT, c->n, c->k, 1);
    add_vector(c, INPUT, c->k);
    add_vector(c, INPUT, c->k);
    if (variant & (RUNNING | EVALUATION)) {
        add_vector(c, running, c->k);
        add_vector(c, running, c->k);
        /* Where the running statistics do not move (n == 0), what was there must be canonical for the checks. */
        for (size_t j = 0; j < c->k; j++) {
            POINTER(4)[j] = POINTER(4)[j] < 0 ? -POINTER(4)[j] : POINTER(4)[j];
            if (!(variant & EVALUATION)) {
                POINTER(3)[j] = POINTER(3)[j] == POINTER(3)[j] ? POINTER(3)[j] : 0;
                POINTER(4)[j] = POINTER(4)[j] == POINTER(4)[j] ? POINTER(4)[j] : 0;
            }
        }
    } else {
        add_absent(c);
        add_absent(c);
    }
    add_matrix(c, OUTPUT, c->n, c->k, 1);
    add_doubles(c, OUTPUT, c->k, 0, 0, 0);
    add_doubles(c, OUTPUT, c->k, 0, 0, 0);
    CHECK_STATUS(NORMCORE_OK, normcore_batch_norm_defaults(&c->batch_norm, sizeof c->batch_norm));
    c->batch_norm.training = !(variant & EVALUATION);
    c->batch_norm.unbiased_running_var = (variant & UNBIASED) != 0;
    if (!(variant & DEFAULTS)) {
        c->batch_norm.momentum = 0.75;
        c->batch_norm.eps = 1e-3;
    }
}

static normcore_status run_batch_forward(const call *c, normcore_context *ctx) {
    return T(normcore_batch_norm_forward)(ctx, c->n, c->k, MATRIX(0), POINTER(1), POINTER(2),
                                          c->operation->variant & DEFAULTS ? NULL : &c->batch_norm, POINTER(3),
                                          POINTER(4), MATRIX(5), DOUBLES(6), DOUBLES(7));
}

static void verify_batch_forward(const call *c) {
    const normcore_batch_norm_options *o = &c->batch_norm;
    const lines l = lines_of(c, 1);
    const wide *x = widen(&c->a[0]), *gamma = widen(&c->a[1]), *beta = widen(&c->a[2]);
    const wide *old_mean = NULL, *old_var = NULL;
    wide *y = scratch_wide(c->n * c->k), *y_error = scratch_wide(c->n * c->k), *mean = scratch_wide(c->k);
    wide *rstd = scratch_wide(c->k), *mean_error = scratch_wide(c->k), *rstd_error = scratch_wide(c->k);
    wide *new_mean = scratch_wide(c->k), *new_var = scratch_wide(c->k);
    wide *new_mean_error = scratch_wide(c->k), *new_var_error = scratch_wide(c->k);
    if (c->a[3].data) {
        old_mean = widen_initial(&c->a[3]);
        old_var = widen_initial(&c->a[4]);
    }
    for (size_t j = 0; j < c->k; j++) {
        wide var, relative = 0;
        if (o->training) {
            reference_moments(c->n, c->k, x + j, &mean[j], &var);
            moment_errors(&l, x + j, mean[j], var, &mean_error[j], &relative);
            if (old_mean) {
                const wide kept = (wide)o->momentum, taken = 1 - kept;
                const wide moved = o->unbiased_running_var && c->n > 1 ? var * (wide)c->n / (wide)(c->n - 1) : var;
                new_mean[j] = c->n ? kept * old_mean[j] + taken * mean[j] : old_mean[j];
                new_var[j] = c->n ? kept * old_var[j] + taken * moved : old_var[j];
                if (c->n) {
                    new_mean_error[j] =
                        3 * U * (fabsl(kept * old_mean[j]) + fabsl(taken * mean[j])) + taken * mean_error[j];
                    new_var_error[j] = 3 * U * (kept * old_var[j] + taken * moved) + taken * moved * relative;
                }
            }
        } else {
            mean[j] = old_mean[j];
            var = old_var[j];
        }
        rstd[j] = c->n || !o->training ? 1 / sqrtl(var + (wide)o->eps) : 0;
        const wide rstd_relative = relative / 2 + 4 * UD;
        rstd_error[j] = rstd[j] * rstd_relative;
        expect_line(&l, 1, j, x, gamma, beta, mean[j], rstd[j], mean_error[j], rstd_relative, y, y_error);
    }
    check_near(c, 5, y, y_error);
    check_near(c, 6, mean, mean_error);
    check_near(c, 7, rstd, rstd_error);
    if (old_mean && o->training) {
        check_near(c, 3, new_mean, new_mean_error);
        check_near(c, 4, new_var, new_var_error);
    }
}

/* Layer norm: 0 x, 1 gamma, 2 beta, 3 y, 4 mean, 5 rstd */
static void setup_layer_forward(call *c) {
    add_matrix(c, INPUT, c->n, c->k, 1);
    add_vector(c, INPUT, c->k);
    add_vector(c, INPUT, c->k);
    add_matrix(c, OUTPUT, c->n, c->k, 1);
    if (c->operation->variant & BARE) {
        add_absent(c);
        add_absent(c);
    } else {
        add_doubles(c, OUTPUT, c->n, 1, 0, 0);
        add_doubles(c, OUTPUT, c->n, 1, 0, 0);
    }
    c->eps = EPS;
}

static normcore_status run_layer_forward(const call *c, normcore_context *ctx) {
    return T(normcore_layer_norm_forward)(ctx, c->n, c->k, MATRIX(0), POINTER(1), POINTER(2), c->eps, MATRIX(3),
                                          DOUBLES(4), DOUBLES(5));
}

static void verify_layer_forward(const call *c) {
    const lines l = lines_of(c, 0);
    const wide *x = widen(&c->a[0]), *gamma = widen(&c->a[1]), *beta = widen(&c->a[2]);
    wide *y = scratch_wide(c->n * c->k), *y_error = scratch_wide(c->n * c->k), *mean = scratch_wide(c->n);
    wide *rstd = scratch_wide(c->n), *mean_error = scratch_wide(c->n), *rstd_error = scratch_wide(c->n);
    if (c->k == 0) return; /* the mean of nothing: no y to compare, statistics unspecified */
    for (size_t i = 0; i < c->n; i++) {
        wide var, relative;
        reference_moments(c->k, 1, x + i * c->k, &mean[i], &var);
        moment_errors(&l, x + i * c->k, mean[i], var, &mean_error[i], &relative);
        rstd[i] = 1 / sqrtl(var + (wide)c->eps);
        rstd_error[i] = rstd[i] * (relative / 2 + 4 * UD);
        expect_line(&l, 0, i, x, gamma, beta, mean[i], rstd[i], mean_error[i], relative / 2 + 4 * UD, y, y_error);
    }
    check_near(c, 3, y, y_error);
    if (c->a[4].data) {
        check_near(c, 4, mean, mean_error);
        check_near(c, 5, rstd, rstd_error);
    }
}

/* ---------------------------------------------------------------- backward */

/* 0 dy, 1 x, 2 gamma, 3 mean, 4 rstd, 5 dx, 6 dgamma, 7 dbeta */
static void setup_backward(call *c, int by_column) {
    const int variant = c->operation->variant;
    add_matrix(c, INPUT, c->n, c->k, 1);
    add_matrix(c, INPUT, c->n, c->k, 1);
    add_vector(c, INPUT, c->k);
    for (int i = 0; i < 2; i++) add_doubles(c, INPUT, by_column ? c->k : c->n, !by_column, i ? 0.5 : -1, i ? 3 : 1);
    if (variant & NO_DX)
        add_absent(c);
    else
        add_matrix(c, OUTPUT, c->n, c->k, 1);
    for (int i = 0; i < 2; i++)
        if (variant & NO_PARAMETERS)
            add_absent(c);
        else
            add_vector(c, OUTPUT, c->k);
    const lines l = lines_of(c, by_column);
    const wide *x = widen(&c->a[1]);
    for (size_t line = 0; line < l.lines; line++) {
        if (c->flavour == SPECIAL) {
            if (rng_below(&c->data, 10) == 0) DOUBLES(3)[line] = (double)rng_special(&c->data, 4);
            if (rng_below(&c->data, 10) == 0) DOUBLES(4)[line] = (double)rng_special(&c->data, 4);
        } else if (!(variant & EVALUATION)) {
            wide mean, var;
            reference_moments(l.count, l.step, x + line * l.next, &mean, &var);
            DOUBLES(3)[line] = (double)mean;
            DOUBLES(4)[line] = (double)(1 / sqrtl(var + (wide)EPS));
        }
    }
}

static void setup_batch_backward(call *c) { setup_backward(c, 1); }
static void setup_layer_backward(call *c) { setup_backward(c, 0); }

static normcore_status run_batch_backward(const call *c, normcore_context *ctx) {
    return T(normcore_batch_norm_backward)(ctx, c->n, c->k, MATRIX(0), MATRIX(1), POINTER(2), DOUBLES(3), DOUBLES(4),
                                           !(c->operation->variant & EVALUATION),
                                           c->operation->variant & GRAPH ? NORMCORE_BATCH_NORM_GRAPH
                                                                         : NORMCORE_BATCH_NORM_FUSED,
                                           MATRIX(5), POINTER(6), POINTER(7));
}

static normcore_status run_layer_backward(const call *c, normcore_context *ctx) {
    return T(normcore_layer_norm_backward)(ctx, c->n, c->k, MATRIX(0), MATRIX(1), POINTER(2), DOUBLES(3), DOUBLES(4),
                                           MATRIX(5), POINTER(6), POINTER(7));
}

/*
 * dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy gamma. Each of the three terms is known to a few U of itself; the
 * means inherit the error of rounding g and xhat to the data's type, and of the sum.
 */
static void verify_backward(const call *c, int by_column) {
    const int statistics = !(c->operation->variant & EVALUATION);
    const lines l = lines_of(c, by_column);
    const wide *dy = widen(&c->a[0]), *x = widen(&c->a[1]), *gamma = widen(&c->a[2]);
    wide *dx = scratch_wide(c->n * c->k), *dx_error = scratch_wide(c->n * c->k);
    wide *dgamma = scratch_wide(c->k), *dgamma_error = scratch_wide(c->k);
    wide *dbeta = scratch_wide(c->k), *dbeta_error = scratch_wide(c->k);
    const wide batch_error = (batch_depth(c->n) + 4) * UD, line_error = (l.depth + 4) * UD;
    for (size_t line = 0; line < l.lines; line++) {
        const wide mean = (wide)DOUBLES(3)[line], rstd = (wide)DOUBLES(4)[line], count = (wide)l.count;
        const size_t first = line * l.next;
        wide sum = 0, product = 0, sum_size = 0, product_size = 0, product_error = 0;
        for (size_t i = 0; i < l.count; i++) {
            const size_t e = first + i * l.step, column = by_column ? line : i;
            const wide xhat = (x[e] - mean) * rstd, g = dy[e] * gamma[column];
            const wide xhat_error = 4 * U * fabsl(xhat) + U * U * fabsl(mean) * rstd;
            sum += g / count;
            product += g * xhat / count;
            sum_size += fabsl(g) / count;
            product_size += fabsl(g * xhat) / count;
            product_error += fabsl(g) * xhat_error / count;
            dgamma[column] += dy[e] * xhat;
            dgamma_error[column] += fabsl(dy[e]) * (xhat_error + (U + batch_error) * fabsl(xhat));
            dbeta[column] += dy[e];
            dbeta_error[column] += batch_error * fabsl(dy[e]);
        }
        reference_norm_backward(l.count, l.step, dy + first, x + first, gamma + (by_column ? line : 0), !by_column,
                                mean, rstd, statistics, dx + first);
        for (size_t i = 0; i < l.count; i++) {
            const size_t e = first + i * l.step, column = by_column ? line : i;
            const wide xhat = fabsl(x[e] - mean) * rstd, g = fabsl(dy[e] * gamma[column]);
            const wide xhat_error = 4 * U * xhat + U * U * fabsl(mean) * rstd;
            dx_error[e] = 6 * U * g;
            if (statistics)
                dx_error[e] += 6 * U * (fabsl(sum) + xhat * fabsl(product)) + xhat_error * fabsl(product) +
                               (2 * U + line_error) * (sum_size + xhat * product_size) + xhat * product_error;
            dx_error[e] *= rstd;
        }
    }
    for (size_t j = 0; j < c->k; j++) {
        dgamma_error[j] += 2 * U * fabsl(dgamma[j]);
        dbeta_error[j] += U * fabsl(dbeta[j]);
    }
    if (c->a[5].data) check_near(c, 5, dx, dx_error);
    if (c->a[6].data) {
        check_near(c, 6, dgamma, dgamma_error);
        check_near(c, 7, dbeta, dbeta_error);
    }
}

static void verify_batch_backward(const call *c) { verify_backward(c, 1); }
static void verify_layer_backward(const call *c) { verify_backward(c, 0); }

#define BATCH_FORWARD(name, variant, flags)                                                                            \
    {                                                                                                                  \
        name, variant, flags, setup_batch_forward, run_batch_forward, verify_batch_forward, {{5, 0}}                   \
    }
#define BATCH_BACKWARD(name, variant, flags, output)                                                                   \
    {                                                                                                                  \
        name, variant, flags, setup_batch_backward, run_batch_backward, verify_batch_backward, {{output, 0}}           \
    }

static const operation batch_operations[] = {
    BATCH_FORWARD("batch_norm_forward", DEFAULTS, 0),
    BATCH_FORWARD("batch_norm_forward, running", RUNNING, 0),
    BATCH_FORWARD("batch_norm_forward, unbiased", RUNNING | UNBIASED, 0),
    BATCH_FORWARD("batch_norm_forward, evaluation", EVALUATION, BY_ROW),
    BATCH_BACKWARD("batch_norm_backward, fused", 0, 0, 5),
    BATCH_BACKWARD("batch_norm_backward, graph", GRAPH, 0, 5),
    BATCH_BACKWARD("batch_norm_backward, evaluation", EVALUATION, 0, 5),
    BATCH_BACKWARD("batch_norm_backward, evaluation to dx", EVALUATION | GRAPH | NO_PARAMETERS, BY_ROW, 5),
    BATCH_BACKWARD("batch_norm_backward, fused to dx", NO_PARAMETERS, 0, 5),
    BATCH_BACKWARD("batch_norm_backward, graph to parameters", GRAPH | NO_DX, 0, 0),
};

static const operation layer_operations[] = {
    {"layer_norm_forward", 0, BY_ROW, setup_layer_forward, run_layer_forward, verify_layer_forward, {{3, 0}}},
    {"layer_norm_forward, bare", BARE, BY_ROW, setup_layer_forward, run_layer_forward, verify_layer_forward, {{3, 0}}},
    {"layer_norm_backward", 0, 0, setup_layer_backward, run_layer_backward, verify_layer_backward, {{5, 0}}},
    {"layer_norm_backward to dx",
     NO_PARAMETERS,
     BY_ROW,
     setup_layer_backward,
     run_layer_backward,
     verify_layer_backward,
     {{5, 0}}},
    {"layer_norm_backward to parameters",
     NO_DX,
     0,
     setup_layer_backward,
     run_layer_backward,
     verify_layer_backward,
     {{0, 0}}},
};

operation_list batch_norm_operations(void) {
    const operation_list list = {batch_operations, sizeof batch_operations / sizeof *batch_operations};
    return list;
}

operation_list layer_norm_operations(void) {
    const operation_list list = {layer_operations, sizeof layer_operations / sizeof *layer_operations};
    return list;
}
