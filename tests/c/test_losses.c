/* Losses of numbers: values, the smallest losses, weights, and every way of refusing an argument. */
#include "properties.h"
#include "reference.h"

#include <math.h>
#include <string.h>

#define EACH(list) (sizeof(list) / sizeof *(list))

enum { KINDS = REFERENCE_POISSON + 1 };

typedef normcore_status (*loss_function)(normcore_context *, size_t, size_t, const real *, size_t, const real *, size_t,
                                         const normcore_loss_options *, double *, real *, size_t, double *, size_t *);

static const loss_function functions[KINDS] = {T(normcore_logistic_loss), T(normcore_squared_error),
                                               T(normcore_huber_loss), T(normcore_quantile_loss),
                                               T(normcore_poisson_loss)};

static normcore_loss_options defaults(void) {
    normcore_loss_options o;
    CHECK_STATUS(NORMCORE_OK, normcore_loss_defaults(&o, sizeof o));
    return o;
}

static void test_shapes(void) { check_rows_and_columns(losses_operations()); }

#define POINTS 5000

/* Logistic losses are log1p(exp(-gap)), and their gradients 1 / (1 + exp(gap)), to 4 ULP down to the smallest. */
static void test_smallest_losses(void) {
    const double end = TEST_DTYPE == 32 ? 85 : 700;
    real *y = scratch_alloc(2 * POINTS * sizeof *y), *t = scratch_alloc(2 * POINTS * sizeof *t);
    real *dy = scratch_alloc(2 * POINTS * sizeof *dy);
    double *loss = scratch_alloc(2 * POINTS * sizeof *loss);
    normcore_loss_options options = defaults();
    options.reduction = NORMCORE_REDUCTION_NONE;
    rng r = rng_new(2);
    for (size_t i = 0; i < POINTS; i++) {
        y[2 * i] = rng_real(&r, 0, end);
        y[2 * i + 1] = -y[2 * i];
        t[2 * i] = 1;
        t[2 * i + 1] = 0;
    }
    CHECK_STATUS(NORMCORE_OK,
                 T(normcore_logistic_loss)(NULL, 2 * POINTS, 1, y, 1, t, 1, &options, loss, dy, 1, NULL, NULL));
    for (size_t i = 0; i < 2 * POINTS; i++) {
        const wide gap = fabsl((wide)y[i]), expected = log1pl(expl(-gap)), side = 1 / (1 + expl(gap));
        harness_note("gap %.20Lg", gap);
        if (!CHECK(fabsl((wide)loss[i] - expected) <= 8 * U * expected)) return; /* 4 ULP are 4 U to 8 U of the value */
        if (!CHECK(fabsl((wide)dy[i] - (t[i] == 1 ? -side : side)) <= 8 * U * side)) return;
        CHECK(i % 2 == 0 || loss[i] == loss[i - 1]);
    }
}

/* What is exact: integers, and the point where a loss has no derivative, or changes its formula. */
static void test_values(void) {
    const struct {
        reference_kind kind;
        double y, t, loss, gradient;
    } cases[] = {
        {REFERENCE_SQUARED, 3, 1, 4, 4},
        {REFERENCE_SQUARED, 1, 3, 4, -4},
        {REFERENCE_SQUARED, 2, 2, 0, 0},
        {REFERENCE_HUBER, 0.25, 0, 0.03125, 0.25},
        {REFERENCE_HUBER, 0.5, 0, 0.125, 0.5},
        {REFERENCE_HUBER, 3, 0, 1.375, 0.5},
        {REFERENCE_HUBER, 0, 3, 1.375, -0.5},
        {REFERENCE_HUBER, 7, 7, 0, 0},
        {REFERENCE_QUANTILE, 3, 1, 0.5, 0.25},
        {REFERENCE_QUANTILE, 1, 3, 1.5, -0.75},
        {REFERENCE_QUANTILE, 2, 2, 0, 0},
        {REFERENCE_POISSON, 0, 3, 1, -2},
        {REFERENCE_POISSON, 0, 1, 1, 0},
        {REFERENCE_LOGISTIC, 0, 0.5, -1, 0},
        {REFERENCE_LOGISTIC, 1e4, 1, 0, 0},
        {REFERENCE_LOGISTIC, -1e4, 0, 0, 0},
        {REFERENCE_LOGISTIC, 1e4, 0, 1e4, 1},
        {REFERENCE_LOGISTIC, -1e4, 1, 1e4, -1},
        {REFERENCE_LOGISTIC, 512, 0.25, 384, 0.75},
    };
    normcore_loss_options options = defaults();
    options.delta = 0.5;
    options.tau = 0.75;
    for (size_t i = 0; i < EACH(cases); i++)
        for (size_t isa = 0; isa < isa_count(); isa++) {
            const real y = (real)cases[i].y, t = (real)cases[i].t;
            real dy;
            double loss, weight_sum;
            isa_use(isa);
            harness_note("case %zu", i);
            CHECK_STATUS(NORMCORE_OK, functions[cases[i].kind](NULL, 1, 1, &y, 1, &t, 1, &options, &loss, &dy, 1,
                                                               &weight_sum, NULL));
            CHECK(loss == cases[i].loss || cases[i].loss < 0);
            CHECK((double)dy == cases[i].gradient && !signbit(cases[i].gradient == 0 ? (double)dy : 0.0));
            CHECK(weight_sum == 1);
        }
}

static void test_special_outputs(void) {
    const real infinity = (real)INFINITY, nan = (real)NAN;
    const struct {
        reference_kind kind;
        real y, t;
        double loss, gradient; /* NaN is expected where NaN stands */
    } cases[] = {
        {REFERENCE_SQUARED, infinity, 1, (double)INFINITY, (double)INFINITY},
        {REFERENCE_SQUARED, infinity, infinity, (double)NAN, (double)NAN},
        {REFERENCE_SQUARED, 1, nan, (double)NAN, (double)NAN},
        {REFERENCE_HUBER, -infinity, 1, (double)INFINITY, -1},
        {REFERENCE_HUBER, nan, 1, (double)NAN, (double)NAN},
        {REFERENCE_QUANTILE, infinity, 1, (double)INFINITY, 0.5},
        {REFERENCE_QUANTILE, infinity, infinity, (double)NAN, (double)NAN},
        {REFERENCE_QUANTILE, nan, 1, (double)NAN, (double)NAN},
        {REFERENCE_LOGISTIC, infinity, 1, 0, 0},
        {REFERENCE_LOGISTIC, -infinity, 0, 0, 0},
        {REFERENCE_LOGISTIC, infinity, 0, (double)INFINITY, 1},
        {REFERENCE_LOGISTIC, -infinity, (real)0.5, (double)INFINITY, -0.5},
        {REFERENCE_LOGISTIC, nan, 0, (double)NAN, (double)NAN},
        {REFERENCE_LOGISTIC, 1, nan, (double)NAN, (double)NAN},
        {REFERENCE_POISSON, -infinity, 0, 0, 0},
        {REFERENCE_POISSON, -infinity, 2, (double)INFINITY, -2},
        {REFERENCE_POISSON, 800, 2, (double)INFINITY, (double)INFINITY},
        {REFERENCE_POISSON, infinity, 0, (double)INFINITY, (double)INFINITY},
        {REFERENCE_POISSON, 1, nan, (double)NAN, (double)NAN},
    };
    for (size_t i = 0; i < EACH(cases); i++) {
        real dy;
        double loss;
        harness_note("case %zu", i);
        CHECK_STATUS(NORMCORE_OK, functions[cases[i].kind](NULL, 1, 1, &cases[i].y, 1, &cases[i].t, 1, NULL, &loss, &dy,
                                                           1, NULL, NULL));
        CHECK(isnan(cases[i].loss) ? isnan(loss) : loss == cases[i].loss);
        CHECK(isnan(cases[i].gradient) ? isnan(dy) : (double)dy == cases[i].gradient);
    }
}

/* NaN shows, whatever it weighs; what is infinite does not where it weighs nothing. */
static void test_weights_of_nothing(void) {
    const double weights[3] = {0, 0, 2}, none[3] = {0};
    for (int kind = 0; kind < KINDS; kind++) {
        real y[6] = {1, (real)INFINITY, 1, 1, 1, 1}, t[6] = {1, 0, 0, 1, 1, 0}, dy[6], alone[2];
        normcore_loss_options options = defaults();
        double loss, single, weight_sum;
        harness_note("kind %d", kind);
        options.sample_weight = weights;
        CHECK_STATUS(NORMCORE_OK, functions[kind](NULL, 3, 2, y, 2, t, 2, &options, &loss, dy, 2, &weight_sum, NULL));
        options.sample_weight = NULL;
        CHECK_STATUS(NORMCORE_OK,
                     functions[kind](NULL, 1, 2, y + 4, 2, t + 4, 2, &options, &single, alone, 2, NULL, NULL));
        CHECK(loss == single && weight_sum == 2);
        for (size_t i = 0; i < 6; i++) CHECK(dy[i] == (i < 4 ? (real)0 : alone[i - 4]));
        options.sample_weight = none;
        CHECK_STATUS(NORMCORE_OK, functions[kind](NULL, 3, 2, y, 2, t, 2, &options, &loss, dy, 2, &weight_sum, NULL));
        CHECK(loss == 0 && weight_sum == 0);
        for (size_t i = 0; i < 6; i++) CHECK(dy[i] == 0);
        y[0] = (real)NAN;
        CHECK_STATUS(NORMCORE_OK, functions[kind](NULL, 3, 2, y, 2, t, 2, &options, &loss, dy, 2, &weight_sum, NULL));
        CHECK(isnan(loss) && isnan(dy[0]) && dy[2] == 0);
    }
}

static void test_empty(void) {
    for (int kind = 0; kind < KINDS; kind++) {
        double loss = 7, weight_sum = 7;
        real x = 1;
        CHECK_STATUS(NORMCORE_OK,
                     functions[kind](NULL, 0, 3, NULL, 3, NULL, 3, NULL, &loss, NULL, 3, &weight_sum, NULL));
        CHECK(loss == 0 && weight_sum == 0);
        loss = 7;
        CHECK_STATUS(NORMCORE_ERROR_SIZE, functions[kind](NULL, 1, 0, &x, 0, &x, 0, NULL, &loss, &x, 0, NULL, NULL));
        CHECK(loss == 7 && x == 1);
    }
}

/* Refused, with nothing written. */
static void refused(normcore_status expected, reference_kind kind, const real *t, const normcore_loss_options *options,
                    size_t expected_row) {
    const real y[6] = {1, 1, 1, 1, 1, 1};
    real dy[6] = {7, 7, 7, 7, 7, 7};
    double loss[3] = {7, 7, 7}, weight_sum = 7;
    size_t bad_row = 99;
    CHECK_STATUS(expected, functions[kind](NULL, 3, 2, y, 2, t, 2, options, loss, dy, 2, &weight_sum, &bad_row));
    CHECK_STATUS(expected, functions[kind](NULL, 3, 2, y, 2, t, 2, options, loss, dy, 2, &weight_sum, NULL));
    CHECK(bad_row == expected_row);
    CHECK(loss[0] == 7 && loss[1] == 7 && weight_sum == 7);
    for (size_t i = 0; i < 6; i++) CHECK(dy[i] == 7);
}

static void accepted(reference_kind kind, const real *t, const normcore_loss_options *options) {
    const real y[6] = {1, 1, 1, 1, 1, 1};
    real dy[6];
    double loss[3];
    CHECK_STATUS(NORMCORE_OK, functions[kind](NULL, 3, 2, y, 2, t, 2, options, loss, dy, 2, NULL, NULL));
}

static void test_targets_are_checked(void) {
    const real beyond = 1 + REAL_EPSILON, below = -(real)1e-30, large = REAL_MAX;
    const real fine[6] = {0, 1, (real)-0.0, (real)0.5, (real)NAN, 1};
    for (int kind = 0; kind < KINDS; kind++) accepted((reference_kind)kind, fine, NULL);
    for (size_t at = 0; at < 6; at++) {
        real t[6] = {0};
        t[at] = beyond;
        refused(NORMCORE_ERROR_LABEL, REFERENCE_LOGISTIC, t, NULL, at / 2);
        t[at] = below;
        refused(NORMCORE_ERROR_LABEL, REFERENCE_LOGISTIC, t, NULL, at / 2);
        refused(NORMCORE_ERROR_LABEL, REFERENCE_POISSON, t, NULL, at / 2);
        accepted(REFERENCE_SQUARED, t, NULL);
        t[at] = -large;
        refused(NORMCORE_ERROR_LABEL, REFERENCE_POISSON, t, NULL, at / 2);
        accepted(REFERENCE_HUBER, t, NULL);
        accepted(REFERENCE_QUANTILE, t, NULL);
        t[at] = large;
        accepted(REFERENCE_POISSON, t, NULL);
        t[at] = (real)INFINITY;
        accepted(REFERENCE_POISSON, t, NULL);
        t[5] = -1; /* the first of several is named */
        refused(NORMCORE_ERROR_LABEL, REFERENCE_LOGISTIC, t, NULL, at / 2);
    }
}

static void test_options_are_checked(void) {
    static const real t[6] = {0};
    const double tiny = TEST_DTYPE == 32 ? 0x1p-150 : 0, huge = TEST_DTYPE == 32 ? 0x1.ffffffp+127 : (double)INFINITY;
    const double one = TEST_DTYPE == 32 ? 0x1.ffffffp-1 : 1;
    const double bad_delta[] = {0, tiny, huge, -1, (double)NAN, -(double)INFINITY};
    const double good_delta[] = {nextafter(tiny, 1), nextafter(huge, 1), 1};
    const double bad_tau[] = {0, tiny, one, 1, -0.5, (double)NAN, 2};
    const double good_tau[] = {nextafter(tiny, 1), nextafter(one, 0), 0.5};
    const double bad_weight[] = {-1, (double)NAN, (double)INFINITY, huge};
    for (size_t i = 0; i < EACH(bad_delta); i++) {
        normcore_loss_options o = defaults();
        harness_note("delta %g", o.delta = bad_delta[i]);
        refused(NORMCORE_ERROR_VALUE, REFERENCE_HUBER, t, &o, 99);
        accepted(REFERENCE_QUANTILE, t, &o);
        accepted(REFERENCE_SQUARED, t, &o);
    }
    for (size_t i = 0; i < EACH(bad_tau); i++) {
        normcore_loss_options o = defaults();
        harness_note("tau %g", o.tau = bad_tau[i]);
        refused(NORMCORE_ERROR_VALUE, REFERENCE_QUANTILE, t, &o, 99);
        accepted(REFERENCE_HUBER, t, &o);
        accepted(REFERENCE_LOGISTIC, t, &o);
    }
    for (size_t i = 0; i < 3; i++) {
        normcore_loss_options o = defaults();
        o.delta = good_delta[i];
        o.tau = good_tau[i];
        harness_note("delta %g, tau %g", o.delta, o.tau);
        accepted(REFERENCE_HUBER, t, &o);
        accepted(REFERENCE_QUANTILE, t, &o);
    }
    for (int kind = 0; kind < KINDS; kind++) {
        normcore_loss_options o = defaults();
        double weights[3] = {1, 1, 1};
        o.sample_weight = weights;
        for (size_t i = 0; i < EACH(bad_weight); i++) {
            harness_note("kind %d, weight %g", kind, weights[1] = bad_weight[i]);
            refused(NORMCORE_ERROR_WEIGHT, (reference_kind)kind, t, &o, 1);
        }
        weights[0] = weights[2] = 0;
        weights[1] = 0x1p-961;
        refused(NORMCORE_ERROR_WEIGHT, (reference_kind)kind, t, &o, 1);
        o.reduction = NORMCORE_REDUCTION_SUM;
        accepted((reference_kind)kind, t, &o);
        o.reduction = (normcore_reduction)3;
        refused(NORMCORE_ERROR_VALUE, (reference_kind)kind, t, &o, 99);
        o.reduction = (normcore_reduction)-1;
        refused(NORMCORE_ERROR_VALUE, (reference_kind)kind, t, &o, 99);
    }
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"shapes", test_shapes},
        {"smallest_losses", test_smallest_losses},
        {"values", test_values},
        {"special_outputs", test_special_outputs},
        {"weights_of_nothing", test_weights_of_nothing},
        {"empty", test_empty},
        {"targets_are_checked", test_targets_are_checked},
        {"options_are_checked", test_options_are_checked},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
