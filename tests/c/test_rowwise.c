/* Activations, softmax and log-softmax. */
#include "properties.h"
#include "reference.h"

#include <math.h>
#include <string.h>

#define EACH(list) (sizeof(list) / sizeof *(list))

static void test_shapes(void) { check_rows_and_columns(rowwise_operations()); }

static void test_relu_of_special_values(void) {
    const real inf = (real)INFINITY, not_a_number = (real)NAN, tiny = REAL_MIN * REAL_EPSILON;
    const real x[] = {0, -(real)0, tiny, -tiny, inf, -inf, not_a_number, 1, -1, REAL_MAX, -REAL_MAX};
    const real expected[] = {0, 0, tiny, 0, inf, 0, not_a_number, 1, 0, REAL_MAX, 0};
    const int passes[] = {0, 0, 1, 0, 1, 0, 1, 1, 0, 1, 0};
    real y[EACH(x)], dx[EACH(x)];
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        CHECK_STATUS(NORMCORE_OK, T(normcore_activation_forward)(NULL, NORMCORE_ACTIVATION_RELU, 0, 1, EACH(x), x,
                                                                 EACH(x), y, EACH(x)));
        CHECK_STATUS(NORMCORE_OK, T(normcore_activation_backward)(NULL, NORMCORE_ACTIVATION_RELU, 0, 1, EACH(x), x,
                                                                  EACH(x), x, EACH(x), dx, EACH(x)));
        for (size_t i = 0; i < EACH(x); i++) {
            CHECK(expected[i] != expected[i] ? y[i] != y[i] && real_is_canonical(y[i])
                                             : y[i] == expected[i] && !signbit(y[i]));
            CHECK(!passes[i] ? dx[i] == 0 && !signbit(dx[i]) : x[i] != x[i] ? dx[i] != dx[i] : dx[i] == x[i]);
        }
    }
}

#define ACTIVATIONS 6

static void activate(int activation, double slope, size_t count, const real *x, real *y) {
    CHECK_STATUS(NORMCORE_OK, T(normcore_activation_forward)(NULL, (normcore_activation)activation, slope, 1, count, x,
                                                             count, y, count));
}
static void activate_backward(int activation, double slope, size_t count, const real *dy, const real *saved, real *dx) {
    CHECK_STATUS(NORMCORE_OK, T(normcore_activation_backward)(NULL, (normcore_activation)activation, slope, 1, count,
                                                              dy, count, saved, count, dx, count));
}

/* The same number, the same zero, or NaN for NaN. */
static void check_same(const char *what, real x, real got, real expected) {
    if (expected != expected ? real_is_canonical(got) && got != got : memcmp(&got, &expected, sizeof got) == 0)
        harness_count(1);
    else
        harness_fail(__FILE__, __LINE__, "%s of %a is %a, not %a", what, (double)x, (double)got, (double)expected);
}

/* Results that are exact; where a line has no place for a zero's sign or for NaN it would be easy to lose them. */
static void test_activations_of_special_values(void) {
    const real inf = (real)INFINITY, nan = (real)NAN, tiny = REAL_MIN * REAL_EPSILON, zero = -(real)0, half = (real)0.5;
    const real slope = (real)0.25;
    const real x[] = {0, zero, inf, -inf, nan, tiny, -tiny, REAL_MAX, -REAL_MAX};
    const struct {
        const char *name;
        real y[EACH(x)], derivative[EACH(x)]; /* from the input x, or from this y */
    } expected[ACTIVATIONS] = {
        {"relu", {0, 0, inf, 0, nan, tiny, 0, REAL_MAX, 0}, {0, 0, 1, 0, 1, 1, 0, 1, 0}},
        {"leaky_relu",
         {0, zero, inf, -inf, nan, tiny, zero, REAL_MAX, -REAL_MAX * slope},
         {slope, slope, 1, slope, 1, 1, slope, 1, slope}},
        {"tanh", {0, zero, 1, -1, nan, tiny, -tiny, 1, -1}, {1, 1, 0, 0, nan, 1, 1, 0, 0}},
        {"logistic",
         {half, half, 1, 0, nan, half, half, 1, 0},
         {half / 2, half / 2, 0, 0, nan, half / 2, half / 2, 0, 0}},
        {"silu",
         {0, zero, inf, zero, nan, 0, zero, REAL_MAX, zero}, /* half a subnormal rounds to the even 0 */
         {half, half, 1, zero, nan, half, half, 1, zero}},
        {"relu6", {0, 0, 6, 0, nan, tiny, 0, 6, 0}, {0, 0, 0, 0, 1, 1, 0, 0, 0}},
    };
    real ones[EACH(x)], y[EACH(x)], dx[EACH(x)];
    for (size_t i = 0; i < EACH(x); i++) ones[i] = 1;
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        for (int a = 0; a < ACTIVATIONS; a++) {
            activate(a, 0.25, EACH(x), x, y);
            const int takes_input = normcore_activation_takes_input((normcore_activation)a);
            activate_backward(a, 0.25, EACH(x), ones, takes_input ? x : y, dx);
            for (size_t i = 0; i < EACH(x); i++) {
                check_same(expected[a].name, x[i], y[i], expected[a].y[i]);
                check_same("gradient", x[i], dx[i], expected[a].derivative[i]);
            }
        }
    }
}

static void test_activations_in_their_tails(void) {
    enum { POINTS = 4000 };
    real *x = scratch_alloc(POINTS * sizeof *x), *y = scratch_alloc(POINTS * sizeof *y);
    real *negative = scratch_alloc(POINTS * sizeof *x), *other = scratch_alloc(POINTS * sizeof *y);
    rng r = rng_new(5);
    for (size_t i = 0; i < POINTS; i++) {
        x[i] = i & 1 ? rng_real(&r, 0, 800) : (real)exp((double)rng_real(&r, log((double)REAL_MIN), 6));
        negative[i] = -x[i];
    }
    size_t subnormal = 0;
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        activate(NORMCORE_ACTIVATION_TANH, 0, POINTS, x, y);
        activate(NORMCORE_ACTIVATION_TANH, 0, POINTS, negative, other);
        for (size_t i = 0; i < POINTS; i++) CHECK(other[i] == -y[i] && y[i] > 0 && y[i] <= 1);
        activate(NORMCORE_ACTIVATION_LOGISTIC, 0, POINTS, x, y);
        activate(NORMCORE_ACTIVATION_LOGISTIC, 0, POINTS, negative, other);
        for (size_t i = 0; i < POINTS; i++) {
            subnormal += other[i] > 0 && other[i] < REAL_MIN;
            CHECK(fabsl((wide)y[i] + (wide)other[i] - 1) <= 2 * U);
            CHECK(fabsl((wide)other[i] - reference_logistic(-(wide)x[i])) <= 2 * ulp((wide)other[i]));
        }
        activate(NORMCORE_ACTIVATION_SILU, 0, POINTS, negative, other);
        for (size_t i = 0; i < POINTS; i++) {
            CHECK(signbit(other[i]));
            CHECK(fabsl((wide)other[i] + (wide)x[i] * reference_logistic(-(wide)x[i])) <= 2 * ulp((wide)other[i]));
        }
    }
    CHECK(subnormal > 0);
}

static void test_activation_arguments(void) {
    const real inf = (real)INFINITY, x[] = {-inf, -2, 3, -(real)0}, halved[] = {-inf, -1, 3, -(real)0};
    const double refused[] = {-1e-300, -1, 1 + 1e-15, (double)INFINITY, (double)NAN};
    real y[EACH(x)], of_relu[EACH(x)];
    static const int takes_input[ACTIVATIONS] = {0, 0, 0, 0, 1, 0};
    for (int a = 0; a < ACTIVATIONS; a++)
        CHECK(normcore_activation_takes_input((normcore_activation)a) == takes_input[a]);
    for (size_t i = 0; i < EACH(x); i++) y[i] = 7;
    for (int number = -1; number <= ACTIVATIONS; number += ACTIVATIONS + 1) {
        const normcore_activation none = (normcore_activation)number;
        CHECK(normcore_activation_takes_input(none) == -1);
        CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_activation_forward)(NULL, none, 0, 1, 4, x, 4, y, 4));
        CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_activation_backward)(NULL, none, 0, 1, 4, x, 4, x, 4, y, 4));
    }
    for (size_t i = 0; i < EACH(refused); i++) {
        const normcore_activation leaky = NORMCORE_ACTIVATION_LEAKY_RELU;
        const double slope = refused[i];
        CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_activation_forward)(NULL, leaky, slope, 1, 4, x, 4, y, 4));
        CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_activation_backward)(NULL, leaky, slope, 1, 4, x, 4, x, 4, y, 4));
        for (size_t j = 0; j < EACH(x); j++) CHECK(y[j] == 7);
        for (int a = 0; a < ACTIVATIONS; a++)
            if (a != NORMCORE_ACTIVATION_LEAKY_RELU) activate(a, slope, EACH(x), x, of_relu); /* not looked at */
    }
    activate(NORMCORE_ACTIVATION_LEAKY_RELU, 0.5, EACH(x), x, y);
    for (size_t i = 0; i < EACH(x); i++) check_same("leaky_relu", x[i], y[i], halved[i]);
    activate(NORMCORE_ACTIVATION_LEAKY_RELU, 1, EACH(x), x, y);
    for (size_t i = 0; i < EACH(x); i++) check_same("leaky_relu", x[i], y[i], x[i]);
    /* A slope without a number of its own is ReLU, of -inf and -0 too. */
    activate(NORMCORE_ACTIVATION_RELU, 0, EACH(x), x, of_relu);
    for (int denormal = 0; denormal < 2; denormal++) {
        activate(NORMCORE_ACTIVATION_LEAKY_RELU, denormal ? (double)REAL_MIN * (double)REAL_EPSILON / 4 : 0, EACH(x), x,
                 y);
        for (size_t i = 0; i < EACH(x); i++) check_same("leaky_relu", x[i], y[i], of_relu[i]);
    }
}

static void test_special_rows(void) {
    const real inf = (real)INFINITY, not_a_number = (real)NAN;
    const real rows[][3] = {{-inf, -inf, -inf}, {1, inf, 2}, {not_a_number, 0, 0}, {0, not_a_number, inf}};
    const real one_left[3] = {-inf, 5, -inf};
    real y[3];
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        for (size_t i = 0; i < EACH(rows); i++) {
            CHECK_STATUS(NORMCORE_OK, T(normcore_softmax)(NULL, 1, 3, rows[i], 3, y, 3));
            CHECK(y[0] != y[0] && y[1] != y[1] && y[2] != y[2]);
            CHECK_STATUS(NORMCORE_OK, T(normcore_log_softmax)(NULL, 1, 3, rows[i], 3, y, 3));
            CHECK(y[0] != y[0] && y[1] != y[1] && y[2] != y[2]);
        }
        CHECK_STATUS(NORMCORE_OK, T(normcore_softmax)(NULL, 1, 3, one_left, 3, y, 3));
        CHECK(y[0] == 0 && y[1] == 1 && y[2] == 0);
        CHECK_STATUS(NORMCORE_OK, T(normcore_log_softmax)(NULL, 1, 3, one_left, 3, y, 3));
        CHECK(y[0] == -inf && y[1] == 0 && y[2] == -inf);
    }
}

/* Nothing is clipped and nothing overflows. */
static void test_large_logits(void) {
    const real big = (real)(TEST_DTYPE == 32 ? 3e38 : 1e308);
    const real rows[][3] = {{10000, 10001, -10000}, {-10000, -10001, -10000}, {big, big, -big}, {-big, -big, -big}};
    const wide e = expl(1), third = 1 / 3.0L;
    const wide expected[][3] = {{1 / (1 + e), e / (1 + e), 0},
                                {e / (1 + 2 * e), 1 / (1 + 2 * e), e / (1 + 2 * e)},
                                {0.5L, 0.5L, 0},
                                {third, third, third}};
    real y[3];
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        for (size_t i = 0; i < EACH(rows); i++) {
            CHECK_STATUS(NORMCORE_OK, T(normcore_softmax)(NULL, 1, 3, rows[i], 3, y, 3));
            for (size_t j = 0; j < 3; j++) CHECK(fabsl((wide)y[j] - expected[i][j]) <= 3 * ulp(expected[i][j]));
            CHECK_STATUS(NORMCORE_OK, T(normcore_log_softmax)(NULL, 1, 3, rows[i], 3, y, 3));
            for (size_t j = 0; j < 3; j++)
                if (expected[i][j] > 0)
                    CHECK(fabsl((wide)y[j] - logl(expected[i][j])) <= 4 * U);
                else /* the logarithm of the sum is below 1, and infinity where the distance overflows */
                    CHECK(y[j] <= rows[i][j] - rows[i][1] && y[j] >= rows[i][j] - rows[i][1] - 1);
        }
    }
}

/* Two halves of the columns of one array share no element, so the one may be the output and the other the input. */
static void test_columns_of_one_array(void) {
    enum { N = 5, D = 7 };
    real both[N * 2 * D], expected[N * D];
    rng r = rng_new(3);
    for (size_t i = 0; i < N * 2 * D; i++) both[i] = rng_real(&r, -1, 1);
    CHECK_STATUS(NORMCORE_OK, T(normcore_softmax)(NULL, N, D, both, 2 * D, expected, D));
    CHECK_STATUS(NORMCORE_OK, T(normcore_softmax)(NULL, N, D, both, 2 * D, both + D, 2 * D));
    for (size_t i = 0; i < N; i++) CHECK(memcmp(both + (2 * i + 1) * D, expected + i * D, D * sizeof(real)) == 0);
}

#define POINTS 20000

/* Pairs (0, -x) walk through the exponential's whole range: p = exp(-x) / (1 + exp(-x)) down to the least normal. */
static void test_exponential_range(void) {
    const double end = -log((double)REAL_MIN) - 0.01;
    real *x = scratch_alloc(2 * POINTS * sizeof *x), *y = scratch_alloc(2 * POINTS * sizeof *y);
    rng r = rng_new(1);
    for (size_t i = 0; i < POINTS; i++) {
        x[2 * i] = 0;
        x[2 * i + 1] = rng_real(&r, -end, 0);
    }
    CHECK_STATUS(NORMCORE_OK, T(normcore_softmax)(NULL, POINTS, 2, x, 2, y, 2));
    wide worst = 0, at = 0;
    for (size_t i = 0; i < POINTS; i++) {
        const wide e = expl((wide)x[2 * i + 1]), p = e / (1 + e), off = fabsl((wide)y[2 * i + 1] - p) / ulp(p);
        if (p >= (wide)REAL_MIN && off > worst) {
            worst = off;
            at = (wide)x[2 * i + 1];
        }
    }
    harness_count(POINTS);
    if (worst > 3) harness_fail(__FILE__, __LINE__, "softmax of (0, %.20Lg) is off by %.2Lf ULP", at, worst);
    CHECK(worst > 0); /* nothing at all would mean that nothing was compared */
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"shapes", test_shapes},
        {"relu_of_special_values", test_relu_of_special_values},
        {"activations_of_special_values", test_activations_of_special_values},
        {"activations_in_their_tails", test_activations_in_their_tails},
        {"activation_arguments", test_activation_arguments},
        {"special_rows", test_special_rows},
        {"large_logits", test_large_logits},
        {"columns_of_one_array", test_columns_of_one_array},
        {"exponential_range", test_exponential_range},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
