/* Layer normalisation: values, accuracy on hard data, edges. */
#include "norm_accuracy.h"
#include "properties.h"
#include "reference.h"

#include <math.h>
#include <string.h>

#define EACH(list) (sizeof(list) / sizeof *(list))

static void test_shapes(void) { check_rows_and_columns(layer_norm_operations()); }

/* Against bounds that depend on the data, in both types. */
static void test_hard_data_near_the_reference(void) {
    static const size_t widths[] = {2, 3, 17, 64, 300, 1000};
    for (size_t i = 0; i < hard_data_count; i++)
        for (size_t s = 0; s < EACH(widths); s++) {
            call c;
            const uint64_t number = next_number();
            harness_note("hard data %lu, d=%lu", (unsigned long)i, (unsigned long)widths[s]);
            call_prepare(&c, &layer_norm_operations().items[0], 7, widths[s], widths[s], PLAIN, number, 0, GUARD_AFTER);
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
    static const size_t shapes[][2] = {{5, 2}, {5, 3}, {17, 64}, {9, 300}, {3, 1500}};
    for (size_t i = 0; i < hard_data_count; i++)
        for (size_t s = 0; s < EACH(shapes); s++) {
            const size_t n = shapes[s][0], d = shapes[s][1];
            const double eps = hard_data_list[i].scale > 1e-3 ? 1e-5 : 0;
            const uint64_t number = next_number();
            real *x = scratch_alloc(n * d * sizeof *x), *y = scratch_alloc(n * d * sizeof *y);
            real *dy = scratch_alloc(n * d * sizeof *dy), *ones = scratch_alloc(d * sizeof *ones);
            real *zeros = scratch_alloc(d * sizeof *zeros);
            double *mean = scratch_alloc(n * sizeof *mean), *rstd = scratch_alloc(n * sizeof *rstd);
            rng r = rng_new(number);
            harness_note("hard data %lu, d=%lu", (unsigned long)i, (unsigned long)d);
            hard_data_fill(&hard_data_list[i], n * d, number, x);
            for (size_t j = 0; j < d; j++) {
                ones[j] = 1;
                zeros[j] = 0;
            }
            for (size_t j = 0; j < n * d; j++) dy[j] = rng_real(&r, -1, 1);
            CHECK_STATUS(NORMCORE_OK,
                         T(normcore_layer_norm_forward)(NULL, n, d, x, d, ones, zeros, eps, y, d, mean, rstd));
            check_normalised(x, y, n, d, 0, eps);
            /* Where 1 / sd is not of an ordinary size, dx leaves the range of the type. */
            if (fabs(log10(rstd[0])) < 35) {
                CHECK_STATUS(NORMCORE_OK, T(normcore_layer_norm_backward)(NULL, n, d, dy, d, x, d, ones, mean, rstd, y,
                                                                          d, NULL, NULL));
                check_gradient(dy, x, y, mean, rstd, n, d, 0);
            }
            guard_reset();
        }
}
#endif

/* A constant row gives beta; with one column there is no gradient either. */
static void test_constant_rows(void) {
    static const double constants[] = {0, 1, 0.1, -1e10, 1e-30, 12345.678, 3e37};
    static const size_t widths[] = {1, 2, 3, 15, 16, 17, 64, 100, 1000};
    enum { N = 5 };
    for (size_t isa = 0; isa < isa_count(); isa++)
        for (size_t i = 0; i < EACH(constants); i++)
            for (size_t s = 0; s < EACH(widths); s++) {
                const size_t d = widths[s];
                real *x = scratch_alloc(N * d * sizeof *x), *y = scratch_alloc(N * d * sizeof *y);
                real *dx = scratch_alloc(N * d * sizeof *dx), *gamma = scratch_alloc(d * sizeof *gamma);
                real *beta = scratch_alloc(d * sizeof *beta), *dgamma = scratch_alloc(d * sizeof *dgamma);
                double mean[N], rstd[N];
                int same = 1;
                rng r = rng_new(i);
                isa_use(isa);
                harness_note("constant %g, %lu columns, %s", constants[i], (unsigned long)d, isa_get(isa));
                for (size_t j = 0; j < N * d; j++) x[j] = (real)constants[i];
                for (size_t j = 0; j < d; j++) {
                    gamma[j] = rng_real(&r, -2, 2);
                    beta[j] = rng_real(&r, -2, 2);
                }
                CHECK_STATUS(NORMCORE_OK,
                             T(normcore_layer_norm_forward)(NULL, N, d, x, d, gamma, beta, 1e-5, y, d, mean, rstd));
                for (size_t j = 0; j < N * d; j++) same &= y[j] == beta[j % d];
                CHECK(same);
                for (size_t j = 0; j < N; j++) CHECK(mean[j] == (double)(real)constants[i]);
                CHECK_STATUS(NORMCORE_OK, T(normcore_layer_norm_backward)(NULL, N, d, y, d, x, d, gamma, mean, rstd, dx,
                                                                          d, dgamma, NULL));
                same = 1;
                for (size_t j = 0; j < d; j++) same &= dgamma[j] == 0;
                for (size_t j = 0; d == 1 && j < N; j++) same &= dx[j] == 0;
                CHECK(same);
                guard_reset();
            }
}

static void test_no_variance_and_no_eps(void) {
    const real x[3] = {5, 5, 5}, gamma[3] = {2, 2, 2}, beta[3] = {1, 1, 1};
    real y[3];
    double mean, rstd;
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        CHECK_STATUS(NORMCORE_OK, T(normcore_layer_norm_forward)(NULL, 1, 3, x, 3, gamma, beta, 0, y, 3, &mean, &rstd));
        CHECK(rstd == HUGE_VAL && y[0] != y[0] && y[1] != y[1] && y[2] != y[2]);
    }
}

static void test_no_rows(void) {
    const real gamma[3] = {2, 2, 2}, beta[3] = {1, 1, 1};
    real dgamma[3] = {7, 7, 7}, dbeta[3] = {7, 7, 7};
    CHECK_STATUS(NORMCORE_OK,
                 T(normcore_layer_norm_forward)(NULL, 0, 3, NULL, 3, gamma, beta, 1e-5, NULL, 3, NULL, NULL));
    CHECK_STATUS(NORMCORE_OK, T(normcore_layer_norm_backward)(NULL, 0, 3, NULL, 3, NULL, 3, gamma, NULL, NULL, NULL, 3,
                                                              dgamma, dbeta));
    for (size_t j = 0; j < 3; j++) CHECK(dgamma[j] == 0 && dbeta[j] == 0);
}

static void test_refusals(void) {
    const double bad_eps[] = {-1e-9, (double)NAN, (double)INFINITY};
    const real x[4] = {1, 2, 3, 4}, gamma[2] = {1, 1}, beta[2] = {0, 0};
    real y[4] = {7, 7, 7, 7};
    double mean[2] = {7, 7}, rstd[2] = {7, 7};
    for (size_t i = 0; i < 3; i++)
        CHECK_STATUS(NORMCORE_ERROR_VALUE,
                     T(normcore_layer_norm_forward)(NULL, 2, 2, x, 2, gamma, beta, bad_eps[i], y, 2, mean, rstd));
    for (size_t i = 0; i < 4; i++) CHECK(y[i] == 7);
    CHECK(mean[0] == 7 && mean[1] == 7 && rstd[0] == 7 && rstd[1] == 7);
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"shapes", test_shapes},
        {"hard_data_near_the_reference", test_hard_data_near_the_reference},
#if TEST_DTYPE == 32
        {"accuracy_goals", test_accuracy_goals},
#endif
        {"constant_rows", test_constant_rows},
        {"no_variance_and_no_eps", test_no_variance_and_no_eps},
        {"no_rows", test_no_rows},
        {"refusals", test_refusals},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
