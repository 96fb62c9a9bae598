/* ReLU, softmax and log-softmax. */
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
        CHECK_STATUS(NORMCORE_OK, T(normcore_relu_forward)(NULL, 1, EACH(x), x, EACH(x), y, EACH(x)));
        CHECK_STATUS(NORMCORE_OK, T(normcore_relu_backward)(NULL, 1, EACH(x), x, EACH(x), x, EACH(x), dx, EACH(x)));
        for (size_t i = 0; i < EACH(x); i++) {
            CHECK(expected[i] != expected[i] ? y[i] != y[i] && real_is_canonical(y[i])
                                             : y[i] == expected[i] && !signbit(y[i]));
            CHECK(!passes[i] ? dx[i] == 0 && !signbit(dx[i]) : x[i] != x[i] ? dx[i] != dx[i] : dx[i] == x[i]);
        }
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
        {"special_rows", test_special_rows},
        {"large_logits", test_large_logits},
        {"columns_of_one_array", test_columns_of_one_array},
        {"exponential_range", test_exponential_range},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
