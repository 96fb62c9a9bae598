/*
 * Operations as other files of the library use them: a struct of arguments and a body, which normcore_call_run() runs
 * or another body calls. The struct begins with what the caller sets; what is left out is 0. It ends with the body's
 * working state.
 */
#ifndef NORMCORE_OPS_H
#define NORMCORE_OPS_H

#include "kernels/kernels.h"
#include "ops/rows.h"
#include "ops/scalars.h"
#include "ops/sums.h"
#include "runtime/check.h"
#include "runtime/context.h"
#include "runtime/options.h"

/* ------------------------------------------------------------------------------------------------ ops/affine.c */

typedef struct affine_forward_args {
    size_t n, k, m;
    const real *x;
    size_t x_stride;
    const real *w;
    size_t w_stride;
    const real *b;
    int relu;
    real *y;
    size_t y_stride;
} affine_forward_args;

normcore_status NAME(normcore_affine_forward_body)(call *c, void *arguments);

typedef struct affine_backward_args {
    size_t n, k, m;
    const real *dy;
    size_t dy_stride;
    const real *x;
    size_t x_stride;
    const real *w;
    size_t w_stride;
    real *dx;
    size_t dx_stride;
    real *dw;
    size_t dw_stride;
    real *db;
} affine_backward_args;

normcore_status NAME(normcore_affine_backward_body)(call *c, void *arguments);

/* ------------------------------------------------------------------------------------------------ ops/rowwise.c */

typedef enum rowwise_op {
    ROWWISE_ACTIVATION,
    ROWWISE_SOFTMAX,
    ROWWISE_LOG_SOFTMAX,
    ROWWISE_ACTIVATION_BACKWARD,
    ROWWISE_SOFTMAX_BACKWARD,
    ROWWISE_LOG_SOFTMAX_BACKWARD
} rowwise_op;

typedef struct rowwise_args {
    rowwise_op op;
    normcore_activation activation; /* of the first of each kind, with its slope */
    double slope;
    size_t n, d;
    const real *a; /* x, or dy */
    size_t a_stride;
    const real *y; /* of the backward kernels (x where they take the input); else NULL */
    size_t y_stride;
    real *out;
    size_t out_stride;
    const NAME(kernel_table) *kernels;
    size_t tasks;
} rowwise_args;

normcore_status NAME(normcore_rowwise_body)(call *c, void *arguments);

/* ---------------------------------------------------------------------------------------------- ops/cross_entropy.c */

typedef struct cross_entropy_args {
    size_t n, c;
    const real *z;
    size_t z_stride;
    const int64_t *labels;
    const real *targets;
    size_t targets_stride;
    normcore_cross_entropy_options options;
    double *loss;
    real *dz;
    size_t dz_stride;
    double *weight_sum;
    /* working state */
    double *rows;          /* (n) weights, then losses; the caller's for NORMCORE_REDUCTION_NONE */
    double divisor;        /* of the mean; 1 for the other reductions */
    pair class_weight_sum; /* used if labels are smoothed */
    real *row_scratch;     /* (tasks, c) where no gradient is wanted */
    const NAME(kernel_table) *kernels;
    size_t tasks;
} cross_entropy_args;

normcore_status NAME(normcore_cross_entropy_body)(call *c, void *arguments);

NORMCORE_INLINE normcore_status read_cross_entropy_options(const normcore_cross_entropy_options *options,
                                                           normcore_cross_entropy_options *full) {
    return options ? normcore_options_read_cross_entropy(options, full)
                   : normcore_cross_entropy_defaults(full, sizeof *full);
}

/* Everything that can be wrong with the values, before anything is written. */
normcore_status NAME(normcore_check_cross_entropy)(size_t n, size_t c, const int64_t *labels, int soft,
                                                   const normcore_cross_entropy_options *o, size_t *bad_row);

/* ------------------------------------------------------------------------------------------------ ops/losses.c */

typedef struct losses_args {
    normcore_loss which;
    normcore_loss_options options; /* sample_weight too is taken from here */
    double parameter;              /* delta or tau, before it is rounded */
    NAME(loss_problem) rows;       /* all of them; parameter, weights, divisor and losses are working state */
    double *loss, *weight_sum;
    /* working state */
    const NAME(kernel_table) *kernels;
    size_t tasks;
} losses_args;

normcore_status NAME(normcore_losses_body)(call *c, void *arguments);

NORMCORE_INLINE normcore_status read_loss_options(const normcore_loss_options *options, normcore_loss_options *full) {
    return options ? normcore_options_read_loss(options, full) : normcore_loss_defaults(full, sizeof *full);
}

/* Everything that can be wrong with the values, before anything is written; sets the parameter. */
normcore_status NAME(normcore_check_losses)(losses_args *p, size_t *bad_row);

/* ------------------------------------------------------------------------------------------------ ops/batch_norm.c */

typedef struct batch_norm_args {
    size_t n, d;
    const real *x;
    size_t x_stride;
    const real *dy;
    size_t dy_stride;
    const real *gamma, *beta;
    normcore_batch_norm_options options;
    normcore_batch_norm_algorithm algorithm;
    real *running_mean, *running_var;
    real *out; /* y or dx */
    size_t out_stride;
    double *mean_out, *rstd_out;
    const double *mean, *rstd;
    real *dgamma, *dbeta;
    /* working state */
    NAME(norm_columns) columns;
    NAME(norm_dx_columns) dx_columns;
    double *first, *second;    /* (chunks, d) partial results of a chunk */
    double *xmu, *dxhat, *dsq; /* of the graph algorithm */
    size_t threads, chunks, col_tasks, row_tasks;
    const NAME(kernel_table) *kernels;
} batch_norm_args;

normcore_status NAME(normcore_batch_norm_forward_body)(call *c, void *arguments);
normcore_status NAME(normcore_batch_norm_backward_body)(call *c, void *arguments);

/* No variance is negative. NaN passes: it reaches the results of its column alone. */
int NAME(normcore_are_variances)(size_t d, const real *var);

/* ------------------------------------------------------------------------------------------------ ops/layer_norm.c */

typedef struct layer_norm_args {
    size_t n, d;
    const real *x;
    size_t x_stride;
    const real *dy;
    size_t dy_stride;
    const real *gamma, *beta;
    double eps;
    real *out; /* y or dx */
    size_t out_stride;
    double *mean_out, *rstd_out; /* may be NULL */
    const double *mean, *rstd;
    real *dgamma, *dbeta;
    double *first, *second; /* (chunks, d) */
    const NAME(kernel_table) *kernels;
    size_t tasks;
} layer_norm_args;

normcore_status NAME(normcore_layer_norm_forward_body)(call *c, void *arguments);
normcore_status NAME(normcore_layer_norm_backward_body)(call *c, void *arguments);

/* ------------------------------------------------------------------------------------------------ ops/random.c */

typedef struct random_args {
    uint64_t seed, stream, offset;
    size_t n;
    double a, b; /* low, high or mean, scale */
    int normal;
    real *out;
    size_t tasks;
    const NAME(kernel_table) *kernels;
} random_args;

normcore_status NAME(normcore_random_body)(call *c, void *arguments);

typedef struct dropout_args {
    size_t n, d;
    const real *x;
    size_t x_stride;
    double keep;
    uint64_t seed, stream, offset;
    real *y;
    size_t y_stride;
    size_t tasks;
    const NAME(kernel_table) *kernels;
} dropout_args;

normcore_status NAME(normcore_dropout_body)(call *c, void *arguments);

/* ------------------------------------------------------------------------------------------------ ops/optimizer.c */

typedef struct optimizer_args {
    const normcore_optimizer_options *options;
    size_t n;
    real *p;
    const real *g;
    real *slot1, *slot2;
    NAME(optimizer_constants) constants;
    size_t tasks;
    const NAME(kernel_table) *kernels;
} optimizer_args;

normcore_status NAME(normcore_optimizer_body)(call *c, void *arguments);

#endif
