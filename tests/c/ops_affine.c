#include "operations.h"
#include "reference.h"

#include <math.h>

enum { NO_BIAS = 1, RELU = 2, NO_DX = 4, NO_DW = 8, NO_DB = 16 };

/* |a| of count elements; the reference applied to magnitudes gives the scale of the rounding errors. */
static wide *magnitudes(const wide *a, size_t count) {
    if (!a) return NULL;
    wide *result = scratch_wide(count);
    for (size_t i = 0; i < count; i++) result[i] = fabsl(a[i]);
    return result;
}

/* (min(k, 256) + ceil(k / 256) + 1) U, a little more for terms of second order, and underflow. */
static void sum_tolerances(size_t terms, wide *magnitude, size_t count) {
    const wide depth = (wide)((terms < 256 ? terms : 256) + (terms + 255) / 256 + 1);
    for (size_t i = 0; i < count; i++)
        magnitude[i] = 1.001L * depth * U * magnitude[i] + (wide)REAL_MIN * U * (wide)(terms + 1);
}

static void check_exact(const call *c, size_t index, size_t row, size_t col, real expected, const char *what) {
    const wide got = array_at(&c->a[index], row, col);
    if (got != (wide)expected)
        harness_fail(__FILE__, __LINE__, "%s[%lu][%lu] is %La, the contract's order of operations gives %La", what,
                     (unsigned long)row, (unsigned long)col, got, (wide)expected);
    harness_count(1);
}

/* 0 x, 1 w, 2 b, 3 y */
static void setup_forward(call *c) {
    add_matrix(c, INPUT, c->n, c->k, 1);
    add_matrix(c, INPUT, c->k, c->m, 0);
    if (c->operation->variant & NO_BIAS)
        add_absent(c);
    else
        add_vector(c, INPUT, c->m);
    add_matrix(c, OUTPUT, c->n, c->m, 1);
}

static normcore_status run_forward(const call *c, normcore_context *ctx) {
    return T(normcore_affine_forward)(ctx, c->n, c->k, c->m, MATRIX(0), MATRIX(1), POINTER(2),
                                      c->operation->variant & RELU, MATRIX(3));
}

static void verify_forward(const call *c) {
    const size_t n = c->n, k = c->k, m = c->m;
    const int relu = c->operation->variant & RELU;
    const wide *x = widen(&c->a[0]), *w = widen(&c->a[1]), *b = widen(&c->a[2]);
    wide *y = scratch_wide(n * m), *tolerance = scratch_wide(n * m);
    reference_affine_forward(n, k, m, x, w, b, relu, y);
    reference_affine_forward(n, k, m, magnitudes(x, n * k), magnitudes(w, k * m), magnitudes(b, m), 0, tolerance);
    sum_tolerances(k, tolerance, n * m);
    for (size_t i = 0; c->flavour == INTEGER && i < n * m; i++) tolerance[i] = 0;
    check_near(c, 3, y, tolerance);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++) {
            real sum = reference_dot_exact(k, POINTER(0) + i * c->a[0].stride, 1, POINTER(1) + j, c->a[1].stride);
            if (b) sum += POINTER(2)[j];
            check_exact(c, 3, i, j, relu && !(sum > 0) ? 0 : sum, "y");
        }
}

/* 0 dy, 1 x, 2 w, 3 dx, 4 dw, 5 db */
static void setup_backward(call *c) {
    const int variant = c->operation->variant;
    add_matrix(c, INPUT, c->n, c->m, 1);
    if (variant & NO_DW)
        add_absent(c);
    else
        add_matrix(c, INPUT, c->n, c->k, 1);
    if (variant & NO_DX)
        add_absent(c);
    else
        add_matrix(c, INPUT, c->k, c->m, 0);
    if (variant & NO_DX)
        add_absent(c);
    else
        add_matrix(c, OUTPUT, c->n, c->k, 1);
    if (variant & NO_DW)
        add_absent(c);
    else
        add_matrix(c, OUTPUT, c->k, c->m, 0);
    if (variant & NO_DB)
        add_absent(c);
    else
        add_vector(c, OUTPUT, c->m);
}

static normcore_status run_backward(const call *c, normcore_context *ctx) {
    return T(normcore_affine_backward)(ctx, c->n, c->k, c->m, MATRIX(0), MATRIX(1), MATRIX(2), MATRIX(3), MATRIX(4),
                                       POINTER(5));
}

static void verify_backward(const call *c) {
    const size_t n = c->n, k = c->k, m = c->m;
    const wide *dy = widen(&c->a[0]), *x = widen(&c->a[1]), *w = widen(&c->a[2]);
    wide *dx = c->a[3].data ? scratch_wide(n * k) : NULL, *dw = c->a[4].data ? scratch_wide(k * m) : NULL;
    wide *db = c->a[5].data ? scratch_wide(m) : NULL;
    wide *dx_error = dx ? scratch_wide(n * k) : NULL, *dw_error = dw ? scratch_wide(k * m) : NULL;
    wide *db_error = db ? scratch_wide(m) : NULL;
    reference_affine_backward(n, k, m, dy, x, w, dx, dw, db);
    reference_affine_backward(n, k, m, magnitudes(dy, n * m), magnitudes(x, n * k), magnitudes(w, k * m), dx_error,
                              dw_error, db_error);
    if (dx) {
        sum_tolerances(m, dx_error, n * k);
        check_near(c, 3, dx, dx_error);
        for (size_t i = 0; i < n; i++)
            for (size_t l = 0; l < k; l++)
                check_exact(
                    c, 3, i, l,
                    reference_dot_exact(m, POINTER(0) + i * c->a[0].stride, 1, POINTER(2) + l * c->a[2].stride, 1),
                    "dx");
    }
    if (dw) {
        sum_tolerances(n, dw_error, k * m);
        check_near(c, 4, dw, dw_error);
        for (size_t l = 0; l < k; l++)
            for (size_t j = 0; j < m; j++)
                check_exact(
                    c, 4, l, j,
                    reference_batch_dot_exact(n, POINTER(1) + l, c->a[1].stride, POINTER(0) + j, c->a[0].stride), "dw");
    }
    if (db) {
        sum_tolerances(n, db_error, m);
        check_near(c, 5, db, db_error);
        for (size_t j = 0; j < m; j++)
            check_exact(c, 5, 0, j, (real)reference_batch_sum_exact(n, POINTER(0) + j, c->a[0].stride), "db");
    }
}

static const operation operations[] = {
    {"affine_forward", 0, BY_ROW, setup_forward, run_forward, verify_forward, {{0, 0}}},
    {"affine_forward without bias", NO_BIAS, BY_ROW, setup_forward, run_forward, verify_forward, {{0, 0}}},
    {"affine_forward with relu", RELU, BY_ROW, setup_forward, run_forward, verify_forward, {{0, 0}}},
    {"affine_backward", 0, 0, setup_backward, run_backward, verify_backward, {{0, 0}}},
    {"affine_backward to dx", NO_DW | NO_DB, BY_ROW, setup_backward, run_backward, verify_backward, {{0, 0}}},
    {"affine_backward to dw, db", NO_DX, 0, setup_backward, run_backward, verify_backward, {{0, 0}}},
    {"affine_backward to db", NO_DX | NO_DW, 0, setup_backward, run_backward, verify_backward, {{0, 0}}},
};

operation_list affine_operations(void) {
    const operation_list list = {operations, sizeof operations / sizeof *operations};
    return list;
}
