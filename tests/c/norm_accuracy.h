/* How accurate a normalisation is on data that are hard for it: large offsets, and scales far from 1. */
#ifndef NORMCORE_TESTS_NORM_ACCURACY_H
#define NORMCORE_TESTS_NORM_ACCURACY_H

#include "harness.h"

typedef struct hard_data {
    double offset, scale;
    int f32_goal; /* whether the goals in ULP apply (in f64, a mean rounded to double is all there is) */
} hard_data;

extern const hard_data hard_data_list[];
extern const size_t hard_data_count;

/* x (n, d), every value offset + scale * [-1, 1], rounded. */
void hard_data_fill(const hard_data *kind, size_t count, uint64_t number, real *x);

/*
 * Checks y (n, d), the normalised x before gamma and beta, line by line: 2.5 ULP for elements of at least 1/64 of the
 * line's greatest, and ULP of that for the others. f32 only.
 */
void check_normalised(const real *x, const real *y, size_t n, size_t d, int by_column, double eps);
/* Checks dx, for gamma of ones: 3 ULP of rstd times the line's greatest |dy|. f32 only. */
void check_gradient(const real *dy, const real *x, const real *dx, const double *mean, const double *rstd, size_t n,
                    size_t d, int by_column);

#endif
