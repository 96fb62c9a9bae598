/*
 * What kernels take and how they are reached: one table of function pointers for each (instruction set, dtype). The
 * dtype is that of the translation unit.
 */
#ifndef NORMCORE_KERNELS_H
#define NORMCORE_KERNELS_H

#include "numeric/guards.h"

#include "numeric/contract.h"
#include "numeric/dtype.h"

#include <stddef.h>
#include <stdint.h>

#include "normcore.h"

/* C (i, j) = sum over k of A (i, k) B (k, j), plus what the flags say. Strides of rows and columns for A and B. */
typedef struct NAME(gemm_problem) {
    size_t depth; /* length of k, cut into blocks of CONTRACT_BLOCK */
    const real *a;
    size_t a_row, a_col;
    const real *b;
    size_t b_row, b_col;
    real *c;
    size_t c_row;
    int accumulate;   /* add the sum to what is in C */
    const real *bias; /* (columns) or NULL, added last */
    int relu;
} NAME(gemm_problem);

typedef struct NAME(cross_entropy_row_problem) {
    size_t c;
    const real *z;
    size_t label;                             /* used if target is NULL */
    const real *target;                       /* (c) or NULL */
    const double *class_weight;               /* (c) or NULL: 1 */
    double class_weight_sum, class_weight_lo; /* of all classes, and what rounding it lost; used if smoothing > 0 */
    double smoothing;                         /* e */
    double factor; /* of the gradient: the row's sample weight, divided as the reduction says */
    real *dz;      /* (c), may be z; or scratch where no gradient is wanted */
} NAME(cross_entropy_row_problem);

/* How many losses of numbers there are. They are numbered from 1 on: 0 is cross-entropy, which has kernels of its own. */
#define LOSS(name, function, low, high) +1
enum {
    NUMERIC_LOSSES = 0
#include "kernels/losses.def"
};
#undef LOSS

/* Rows of a loss of numbers. */
typedef struct NAME(loss_problem) {
    size_t n, d;
    const real *y; /* outputs */
    size_t y_stride;
    const real *t; /* targets */
    size_t t_stride;
    real parameter;        /* delta or tau */
    const double *weights; /* (n) or NULL: 1 */
    double divisor;        /* of the weights in the gradients: their sum for a mean, else 1; 0: all rows weigh 0 */
    double *losses;        /* (n), times their weights */
    real *dy;              /* may be y; or NULL */
    size_t dy_stride;
} NAME(loss_problem);

/* The numbers that a norm applies to an element, and those that its dx takes beside: see kernels/norm_common.h. */
#define NORM_PLAIN_CONSTANTS(CONSTANT) CONSTANT(shift) CONSTANT(offset) CONSTANT(scale) CONSTANT(scale_rest)
#define NORM_POWERS(CONSTANT)          CONSTANT(before) CONSTANT(after)
#define NORM_CONSTANTS(CONSTANT)       NORM_PLAIN_CONSTANTS(CONSTANT) NORM_POWERS(CONSTANT)
#define NORM_DX_CONSTANTS(CONSTANT)                                                                                    \
    CONSTANT(power) CONSTANT(g_scale) CONSTANT(g_scale_rest) CONSTANT(t_scale) CONSTANT(t_scale_rest) CONSTANT(constant)

/* Each of them for every column. The powers are set and read only where plain is 0. */
#define COLUMN(name) real *name;
typedef struct NAME(norm_columns) {
    NORM_CONSTANTS(COLUMN)
    int plain;
} NAME(norm_columns);

typedef struct NAME(norm_dx_columns) {
    NORM_DX_CONSTANTS(COLUMN)
} NAME(norm_dx_columns);
#undef COLUMN

typedef struct NAME(optimizer_constants) {
    normcore_optimizer optimizer;
    int has_scale, has_l2, has_decay;
    real scale, l2, decay; /* decay: lr weight_decay */
    real lr, momentum;     /* lr of Adam: lr / (1 - b1^t) */
    real rho, one_minus_rho;
    real beta1, one_minus_beta1, beta2, one_minus_beta2;
    real root_correction2; /* sqrt(1 / (1 - b2^t)) */
    real eps;
} NAME(optimizer_constants);

#define KERNEL(name, arguments) void(*name) arguments;
typedef struct NAME(kernel_table) {
#include "kernels/kernels.def"
} NAME(kernel_table);
#undef KERNEL

#endif
