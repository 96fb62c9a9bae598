/*
 * What every operation means, in plain loops over long double, written from the header and the formulas in the papers
 * it cites, not from the kernels. Arrays are contiguous. Nothing here is fast or careful about order; the rounding
 * errors of long double are far below the tolerances. On platforms where long double is double, the f64 comparisons
 * lean on the slack in the bounds.
 *
 * Only the functions named _exact follow the numeric contract's order of operations, in the data's own type.
 */
#ifndef NORMCORE_TESTS_REFERENCE_H
#define NORMCORE_TESTS_REFERENCE_H

#include "harness.h"

/* ---------------------------------------------------------------- affine */

void reference_affine_forward(size_t n, size_t k, size_t m, const wide *x, const wide *w, const wide *b, int relu,
                              wide *y);
void reference_affine_backward(size_t n, size_t k, size_t m, const wide *dy, const wide *x, const wide *w, wide *dx,
                               wide *dw, wide *db);

/* Rule 1: one element of x w, before the bias. */
real reference_dot_exact(size_t k, const real *x, size_t x_step, const real *w, size_t w_step);
/* Rule 2: sum over rows of x[i] y[i], by chunks of 256 rows and a tree. */
real reference_batch_dot_exact(size_t n, const real *x, size_t x_step, const real *y, size_t y_step);
/* Rule 2 in double: the sum over rows. */
double reference_batch_sum_exact(size_t n, const real *x, size_t x_step);

/* ---------------------------------------------------------------- row by row */

wide reference_logistic(wide x);
/* slope is leaky ReLU's. */
wide reference_activation(normcore_activation activation, wide slope, wide x);
/* The derivative from the output of the forward pass, or from the input where normcore_activation_takes_input(). */
wide reference_activation_derivative(normcore_activation activation, wide slope, wide saved);
void reference_softmax(size_t n, size_t d, const wide *x, wide *y);
void reference_log_softmax(size_t n, size_t d, const wide *x, wide *y);
void reference_softmax_backward(size_t n, size_t d, const wide *dy, const wide *y, wide *dx);
void reference_log_softmax_backward(size_t n, size_t d, const wide *dy, const wide *y, wide *dx);

/* Class weight times smoothed target of class j in row i. */
wide reference_share(size_t c, const int64_t *labels, const wide *targets, const normcore_cross_entropy_options *o,
                     size_t i, size_t j);
/*
 * losses (n): weighted, not reduced; weights (n): sample weights, 0 of ignored rows; dz (n, c). labels or targets. Returns the loss that the reduction
 * asks for (of NONE: the sum).
 */
wide reference_cross_entropy(size_t n, size_t c, const wide *z, const int64_t *labels, const wide *targets,
                             const normcore_cross_entropy_options *options, wide *losses, wide *weights, wide *dz,
                             wide *weight_sum);

/* ---------------------------------------------------------------- losses of numbers */

typedef enum reference_kind {
    REFERENCE_LOGISTIC,
    REFERENCE_SQUARED,
    REFERENCE_HUBER,
    REFERENCE_QUANTILE,
    REFERENCE_POISSON
} reference_kind;

/* A loss and its derivative by y; and what rounding errors are relative to, the sizes of the terms of each. */
typedef struct reference_loss {
    wide loss, derivative, loss_size, derivative_size;
} reference_loss;

/* parameter: delta or tau. */
reference_loss reference_loss_of(reference_kind kind, wide parameter, wide y, wide t);

/* ---------------------------------------------------------------- normalisation */

/* count values, step apart. */
void reference_moments(size_t count, size_t step, const wide *x, wide *mean, wide *var);
/*
 * dx of one normalised line of count values, step apart. gamma is gamma[0], gamma[gamma_step], ... statistics == 0:
 * mean and rstd do not depend on x.
 */
void reference_norm_backward(size_t count, size_t step, const wide *dy, const wide *x, const wide *gamma,
                             size_t gamma_step, wide mean, wide rstd, int statistics, wide *dx);

/* ---------------------------------------------------------------- random numbers */

void reference_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
/* Word `index` of a stream, and the 64-bit word made of words 2 index and 2 index + 1. */
uint32_t reference_word(uint64_t seed, uint64_t stream, uint64_t index);
uint64_t reference_word64(uint64_t seed, uint64_t stream, uint64_t index);
uint64_t reference_integer(uint64_t seed, uint64_t stream, uint64_t index, uint64_t bound);
/* The cumulative probability of normal deviate `index`: the middle of one of 2^32 (f32) or 2^52 (f64) intervals. */
wide reference_normal_probability(uint64_t seed, uint64_t stream, uint64_t index);
/*
 * How far z is from the standard normal deviate whose cumulative probability is 1/2 + q: one Newton step, good to the
 * square of the distance.
 */
wide reference_normal_error(wide z, wide q);
/* floor(keep 2^32): words below it are kept. */
uint64_t reference_keep_threshold(double keep);

/* ---------------------------------------------------------------- optimisers */

typedef struct reference_element {
    wide p, slot1, slot2;                   /* after the update */
    wide p_error, slot1_error, slot2_error; /* bounds on the rounding error of an evaluation in the data's type */
} reference_element;

reference_element reference_optimizer(const normcore_optimizer_options *options, wide p, wide g, wide slot1,
                                      wide slot2);

/* ---------------------------------------------------------------- multilayer perceptron */

typedef struct reference_mlp {
    size_t layers; /* affine maps */
    const size_t *sizes;
    normcore_norm norm;
    normcore_activation activation;
    wide keep, eps, momentum;
    int unbiased_running_var;
} reference_mlp;

size_t reference_mlp_parameter_count(const reference_mlp *mlp);
size_t reference_mlp_buffer_count(const reference_mlp *mlp);
/*
 * The loss of a training pass; grads and buffers (updated) may be NULL. Parameters lie layer by layer: w, b, gamma,
 * beta; buffers: running mean, running variance.
 */
wide reference_mlp_loss(const reference_mlp *mlp, size_t n, const wide *x, const int64_t *labels, const wide *targets,
                        const normcore_cross_entropy_options *options, uint64_t seed, uint64_t stream,
                        const wide *params, wide *buffers, wide *grads, wide *weight_sum);
void reference_mlp_forward(const reference_mlp *mlp, size_t n, const wide *x, const wide *params, const wide *buffers,
                           wide *logits);

#endif
