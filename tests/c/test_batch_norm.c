/* Batch normalisation: values, accuracy on hard data, edges, running statistics, its two backward algorithms. */
#include "norm_accuracy.h"
#include "properties.h"
#include "reference.h"

#include <math.h>
#include <string.h>

#define EACH(list) (sizeof(list) / sizeof *(list))

static void test_shapes(void) { check_rows_and_columns(batch_norm_operations()); }

static normcore_batch_norm_options options_of(double eps, double momentum) {
    normcore_batch_norm_options options;
    CHECK_STATUS(NORMCORE_OK, normcore_batch_norm_defaults(&options, sizeof options));
    options.eps = eps;
    options.momentum = momentum;
    return options;
}

/* Against bounds that depend on the data, in both types. */
static void test_hard_data_near_the_reference(void) {
    static const size_t shapes[][2] = {{2, 5}, {5, 3}, {64, 17}, {300, 9}, {700, 4}};
    for (size_t i = 0; i < hard_data_count; i++)
        for (size_t s = 0; s < EACH(shapes); s++) {
            call c;
            const uint64_t number = next_number();
            harness_note("hard data %lu, n=%lu", (unsigned long)i, (unsigned long)shapes[s][0]);
            call_prepare(&c, &batch_norm_operations().items[0], shapes[s][0], shapes[s][1], shapes[s][1], PLAIN, number,
                         0, GUARD_AFTER);
            hard_data_fill(&hard_data_list[i], c.n * c.k, number, (real *)c.a[0].data);
            call_commit(&c);
            CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
            call_check(&c);
            c.operation->verify(&c);
            guard_reset();
        }
}

#if TEST_DTYPE == 32
static void test_accuracy_goals(void) {
    static const size_t shapes[][2] = {{2, 5}, {5, 3}, {64, 17}, {300, 9}, {1500, 3}};
    for (size_t i = 0; i < hard_data_count; i++)
        for (size_t s = 0; s < EACH(shapes); s++) {
            const size_t n = shapes[s][0], d = shapes[s][1];
            const double eps = hard_data_list[i].scale > 1e-3 ? 1e-5 : 0;
            const normcore_batch_norm_options options = options_of(eps, 0.9);
            const uint64_t number = next_number();
            real *x = scratch_alloc(n * d * sizeof *x), *y = scratch_alloc(n * d * sizeof *y);
            real *dy = scratch_alloc(n * d * sizeof *dy), *ones = scratch_alloc(d * sizeof *ones);
            real *zeros = scratch_alloc(d * sizeof *zeros);
            double *mean = scratch_alloc(d * sizeof *mean), *rstd = scratch_alloc(d * sizeof *rstd);
            rng r = rng_new(number);
            harness_note("hard data %lu, n=%lu", (unsigned long)i, (unsigned long)n);
            hard_data_fill(&hard_data_list[i], n * d, number, x);
            for (size_t j = 0; j < d; j++) {
                ones[j] = 1;
                zeros[j] = 0;
            }
            for (size_t j = 0; j < n * d; j++) dy[j] = rng_real(&r, -1, 1);
            CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_forward)(NULL, n, d, x, d, ones, zeros, &options, NULL,
                                                                     NULL, y, d, mean, rstd));
            check_normalised(x, y, n, d, 1, eps);
            /* Where 1 / sd is not of an ordinary size, dx leaves the range of the type. */
            for (int algorithm = 0; algorithm < 2 && fabs(log10(rstd[0])) < 35; algorithm++) {
                CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_backward)(NULL, n, d, dy, d, x, d, ones, mean, rstd, 1,
                                                                          (normcore_batch_norm_algorithm)algorithm, y,
                                                                          d, NULL, NULL));
                check_gradient(dy, x, y, mean, rstd, n, d, 1);
            }
            guard_reset();
        }
}
#endif

/* A constant column gives beta, and neither it nor its gamma has a gradient, whatever the constant. */
static void test_constant_columns(void) {
    static const double constants[] = {0, 1, 0.1, -1e10, 1e-30, 12345.678, 3e37};
    static const size_t rows[] = {1, 2, 3, 10, 255, 256, 257, 1000};
    enum { D = 19 };
    for (size_t isa = 0; isa < isa_count(); isa++)
        for (size_t i = 0; i < EACH(constants); i++)
            for (size_t s = 0; s < EACH(rows); s++) {
                const size_t n = rows[s];
                real *x = scratch_alloc(n * D * sizeof *x), *y = scratch_alloc(n * D * sizeof *y);
                real *dx = scratch_alloc(n * D * sizeof *dx), gamma[D], beta[D], dgamma[D], dbeta[D];
                double mean[D], rstd[D];
                int same = 1;
                rng r = rng_new(i);
                isa_use(isa);
                harness_note("constant %g, %lu rows, %s", constants[i], (unsigned long)n, isa_get(isa));
                for (size_t j = 0; j < n * D; j++) x[j] = (real)constants[i];
                for (size_t j = 0; j < D; j++) {
                    gamma[j] = rng_real(&r, -2, 2);
                    beta[j] = rng_real(&r, -2, 2);
                }
                CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_forward)(NULL, n, D, x, D, gamma, beta, NULL, NULL,
                                                                         NULL, y, D, mean, rstd));
                for (size_t j = 0; j < n * D; j++) same &= y[j] == beta[j % D];
                CHECK(same);
                for (size_t j = 0; j < D; j++) CHECK(mean[j] == (double)(real)constants[i]);
                for (int algorithm = 0; algorithm < 2; algorithm++) {
                    /* One upstream gradient for the whole column: then dx is exactly 0 too. */
                    for (size_t j = 0; j < n * D; j++) y[j] = gamma[j % D];
                    CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_backward)(
                                                  NULL, n, D, y, D, x, D, gamma, mean, rstd, 1,
                                                  (normcore_batch_norm_algorithm)algorithm, dx, D, dgamma, dbeta));
                    same = 1;
                    for (size_t j = 0; j < D; j++) same &= dgamma[j] == 0;
                    for (size_t j = 0; n == 1 && j < D; j++) same &= dx[j] == 0;
                    CHECK(same);
                }
                guard_reset();
            }
}

/* A column of specials leaves the other columns alone. */
static void test_columns_are_independent(void) {
    const operation_list list = batch_norm_operations();
    for (size_t o = 0; o < list.count; o++)
        for (size_t isa = 0; isa < isa_count(); isa++) {
            call c;
            enum { D = 37, POISONED = 20 };
            isa_use(isa);
            harness_note("%s on %s", list.items[o].name, isa_get(isa));
            call_prepare(&c, &list.items[o], 300, D, D, PLAIN, next_number(), 1, GUARD_AFTER);
            CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
            const snapshot clean = call_snapshot(&c);
            rng r = rng_new(o);
            for (size_t i = 0; i < c.count; i++)
                for (size_t row = 0; c.a[i].data && c.a[i].role != OUTPUT && row < c.a[i].rows; row++) {
                    const real value = rng_special(&r, 4);
                    const double number = (double)value;
                    unsigned char *p = (unsigned char *)c.a[i].initial +
                                       (row * c.a[i].stride + POISONED) * array_element_size(&c.a[i]);
                    if (c.a[i].type == TYPE_REAL)
                        memcpy(p, &value, sizeof value);
                    else
                        memcpy(p, &number, sizeof number);
                }
            CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
            unsigned char *p = clean.bytes;
            for (size_t i = 0; i < c.count; i++)
                for (size_t row = 0; c.a[i].data && c.a[i].role != INPUT && row < c.a[i].rows; row++) {
                    const size_t size = array_element_size(&c.a[i]);
                    memcpy(p + POISONED * size, (unsigned char *)c.a[i].data + (row * c.a[i].stride + POISONED) * size,
                           size);
                    p += D * size;
                }
            CHECK_SAME(&c, clean, "with clean data in another column");
            guard_reset();
        }
}

static void test_running_statistics(void) {
    const real x[4] = {1, 2, 3, 6};
    const real gamma = 1, beta = 0;
    real y[4];
    double mean, rstd;
    normcore_batch_norm_options options = options_of(0, 0);
    for (int unbiased = 0; unbiased < 2; unbiased++) {
        real running_mean = 10, running_var = 20;
        options.unbiased_running_var = unbiased;
        options.momentum = 0; /* the batch's statistics replace the running ones */
        CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_forward)(NULL, 4, 1, x, 1, &gamma, &beta, &options,
                                                                 &running_mean, &running_var, y, 1, &mean, &rstd));
        CHECK(running_mean == 3 && fabsl((wide)running_var - (unbiased ? 14 / 3.0L : 3.5L)) <= ulp(4));
        CHECK(mean == 3 && fabs(rstd - 1 / sqrt(3.5)) < 1e-15);
        running_mean = 10;
        running_var = 20;
        options.momentum = 1; /* and here they do not move */
        CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_forward)(NULL, 4, 1, x, 1, &gamma, &beta, &options,
                                                                 &running_mean, &running_var, y, 1, &mean, &rstd));
        CHECK(running_mean == 10 && running_var == 20);
        options.momentum = 0.5;
        CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_forward)(NULL, 1, 1, x, 1, &gamma, &beta, &options,
                                                                 &running_mean, &running_var, y, 1, &mean, &rstd));
        CHECK(running_mean == (real)5.5 && running_var == 10); /* M2 / n = 0, biased or not */
        CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_forward)(NULL, 0, 1, NULL, 1, &gamma, &beta, &options,
                                                                 &running_mean, &running_var, NULL, 1, &mean, &rstd));
        CHECK(running_mean == (real)5.5 && running_var == 10 && mean == 0 && rstd == 0);
    }
    /* The same values as in training come out of evaluation with the batch's statistics. */
    real running_mean = 3, running_var = (real)3.5, y_eval[4];
    CHECK_STATUS(NORMCORE_OK, normcore_batch_norm_defaults(&options, sizeof options));
    CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_forward)(NULL, 4, 1, x, 1, &gamma, &beta, &options, NULL, NULL, y,
                                                             1, &mean, &rstd));
    options.training = 0;
    CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_forward)(NULL, 4, 1, x, 1, &gamma, &beta, &options, &running_mean,
                                                             &running_var, y_eval, 1, &mean, &rstd));
    CHECK(memcmp(y, y_eval, sizeof y) == 0);
    CHECK(running_mean == 3 && running_var == (real)3.5);
}

static void test_no_variance_and_no_eps(void) {
    const real x[3] = {5, 5, 5}, gamma = 2, beta = 1;
    real y[3];
    double mean, rstd;
    const normcore_batch_norm_options options = options_of(0, 0.9);
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_forward)(NULL, 3, 1, x, 1, &gamma, &beta, &options, NULL, NULL,
                                                                 y, 1, &mean, &rstd));
        CHECK(rstd == HUGE_VAL && y[0] != y[0] && y[1] != y[1] && y[2] != y[2]);
    }
}

static void test_defaults(void) {
    normcore_batch_norm_options options;
    CHECK_STATUS(NORMCORE_OK, normcore_batch_norm_defaults(&options, sizeof options));
    CHECK(options.struct_size == sizeof options);
    CHECK(options.training == 1 && options.unbiased_running_var == 0);
    CHECK(options.momentum == 0.9 && options.eps == 1e-5);
}

static void test_refusals(void) {
    const double bad_eps[] = {-1e-9, (double)NAN, (double)INFINITY}, bad_momentum[] = {-0.1, 1.1, (double)NAN};
    const real x[4] = {1, 2, 3, 4}, gamma[2] = {1, 1}, beta[2] = {0, 0};
    real y[4] = {7, 7, 7, 7}, running_mean[2] = {7, 7}, running_var[2] = {7, 7};
    double mean[2] = {7, 7}, rstd[2] = {7, 7};
    normcore_batch_norm_options options;
    for (size_t i = 0; i < 3; i++) {
        options = options_of(bad_eps[i], 0.9);
        CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_batch_norm_forward)(NULL, 2, 2, x, 2, gamma, beta, &options,
                                                                          running_mean, running_var, y, 2, mean, rstd));
        options = options_of(1e-5, bad_momentum[i]);
        CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_batch_norm_forward)(NULL, 2, 2, x, 2, gamma, beta, &options,
                                                                          running_mean, running_var, y, 2, mean, rstd));
    }
    options = options_of(1e-5, 0.9);
    for (options.training = 0; options.training < 2; options.training++)
        for (size_t j = 0; j < 2; j++) {
            running_var[j] = (real)-1e-30;
            CHECK_STATUS(NORMCORE_ERROR_VALUE,
                         T(normcore_batch_norm_forward)(NULL, 2, 2, x, 2, gamma, beta, &options, running_mean,
                                                        running_var, y, 2, mean, rstd));
            CHECK(running_var[j] == (real)-1e-30);
            running_var[j] = 7;
        }
    options.training = 1;
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_batch_norm_forward)(NULL, 2, 2, x, 2, gamma, beta, &options,
                                                                     running_mean, NULL, y, 2, mean, rstd));
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_batch_norm_forward)(NULL, 2, 2, x, 2, gamma, beta, &options, NULL,
                                                                     running_var, y, 2, mean, rstd));
    options.training = 0;
    CHECK_STATUS(NORMCORE_ERROR_NULL,
                 T(normcore_batch_norm_forward)(NULL, 2, 2, x, 2, gamma, beta, &options, NULL, NULL, y, 2, mean, rstd));
    CHECK_STATUS(NORMCORE_ERROR_VALUE,
                 T(normcore_batch_norm_backward)(NULL, 2, 2, x, 2, x, 2, gamma, mean, rstd, 1,
                                                 (normcore_batch_norm_algorithm)2, y, 2, NULL, NULL));
    for (size_t i = 0; i < 4; i++) CHECK(y[i] == 7);
    for (size_t i = 0; i < 2; i++) CHECK(mean[i] == 7 && rstd[i] == 7 && running_mean[i] == 7 && running_var[i] == 7);
    /* -0 is not a negative variance, and NaN stays in its column. */
    running_var[0] = (real)-0.0, running_var[1] = (real)NAN;
    CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_forward)(NULL, 2, 2, x, 2, gamma, beta, &options, running_mean,
                                                             running_var, y, 2, mean, rstd));
    CHECK(y[0] == y[0] && y[2] == y[2] && y[1] != y[1] && y[3] != y[3]);
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"shapes", test_shapes},
        {"hard_data_near_the_reference", test_hard_data_near_the_reference},
#if TEST_DTYPE == 32
        {"accuracy_goals", test_accuracy_goals},
#endif
        {"constant_columns", test_constant_columns},
        {"columns_are_independent", test_columns_are_independent},
        {"running_statistics", test_running_statistics},
        {"no_variance_and_no_eps", test_no_variance_and_no_eps},
        {"defaults", test_defaults},
        {"refusals", test_refusals},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
