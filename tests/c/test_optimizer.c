/* Optimisers and sums of squares. */
#include "properties.h"
#include "reference.h"

#include <math.h>
#include <string.h>

#define EACH(list) (sizeof(list) / sizeof *(list))

static void test_shapes(void) { check_rows_and_columns(optimizer_operations()); }

static void test_defaults(void) {
    for (int kind = 0; kind <= NORMCORE_ADAM; kind++) {
        normcore_optimizer_options o;
        CHECK_STATUS(NORMCORE_OK, normcore_optimizer_defaults((normcore_optimizer)kind, &o, sizeof o));
        CHECK(o.struct_size == sizeof o && o.optimizer == (normcore_optimizer)kind);
        CHECK(o.learning_rate == 1e-3 && o.momentum == 0.9 && o.decay_rate == 0.99 && o.eps == 1e-8);
        CHECK(o.beta1 == 0.9 && o.beta2 == 0.999 && o.l2 == 0 && o.weight_decay == 0);
        CHECK(o.gradient_scale == 1 && o.step == 1);
    }
}

/* Many steps on p^2 / 2 end near its minimum, with whichever optimiser. */
static void test_descent(void) {
    for (int kind = 0; kind <= NORMCORE_ADAM; kind++) {
        real p[3] = {1, -2, (real)0.5}, g[3], slot1[3] = {0}, slot2[3] = {0};
        normcore_optimizer_options o;
        CHECK_STATUS(NORMCORE_OK, normcore_optimizer_defaults((normcore_optimizer)kind, &o, sizeof o));
        const int first = kind == NORMCORE_MOMENTUM || kind == NORMCORE_NESTEROV || kind == NORMCORE_ADAM;
        o.learning_rate = 0.02;
        for (o.step = 1; o.step <= 600; o.step++) {
            memcpy(g, p, sizeof g);
            CHECK_STATUS(NORMCORE_OK, T(normcore_optimizer_update)(NULL, &o, 3, p, g, first ? slot1 : NULL,
                                                                   kind >= NORMCORE_RMSPROP ? slot2 : NULL));
        }
        for (size_t i = 0; i < 3; i++) CHECK(fabsl((wide)p[i]) < 0.03L);
    }
}

/* Formulas on numbers that all of them represent exactly. */
static void test_exact_steps(void) {
    real p = 1, slot1 = (real)0.5;
    const real g = 2;
    normcore_optimizer_options o;
    CHECK_STATUS(NORMCORE_OK, normcore_optimizer_defaults(NORMCORE_SGD, &o, sizeof o));
    o.learning_rate = 0.25;
    CHECK_STATUS(NORMCORE_OK, T(normcore_optimizer_update)(NULL, &o, 1, &p, &g, NULL, NULL));
    CHECK(p == (real)0.5);
    o.gradient_scale = 0.5;
    o.l2 = 4; /* g = 1 + 4 * 0.5 */
    CHECK_STATUS(NORMCORE_OK, T(normcore_optimizer_update)(NULL, &o, 1, &p, &g, NULL, NULL));
    CHECK(p == (real)-0.25);
    CHECK_STATUS(NORMCORE_OK, normcore_optimizer_defaults(NORMCORE_SGD, &o, sizeof o));
    o.learning_rate = 0.25;
    o.weight_decay = 2; /* p = p - 0.5 p - 0.5 */
    CHECK_STATUS(NORMCORE_OK, T(normcore_optimizer_update)(NULL, &o, 1, &p, &g, NULL, NULL));
    CHECK(p == (real)-0.625);
    CHECK_STATUS(NORMCORE_OK, normcore_optimizer_defaults(NORMCORE_MOMENTUM, &o, sizeof o));
    o.learning_rate = 0.25;
    o.momentum = 0.5;
    p = 1;
    CHECK_STATUS(NORMCORE_OK, T(normcore_optimizer_update)(NULL, &o, 1, &p, &g, &slot1, NULL));
    CHECK(slot1 == (real)-0.25 && p == (real)0.75);
    o.optimizer = NORMCORE_NESTEROV; /* v = -0.125 - 0.5, p += 0.5 v - 0.5 */
    CHECK_STATUS(NORMCORE_OK, T(normcore_optimizer_update)(NULL, &o, 1, &p, &g, &slot1, NULL));
    CHECK(slot1 == (real)-0.625 && p == (real)-0.0625);
}

static void test_sums_of_squares(void) {
    enum { COUNT = 5000 };
    real *x = scratch_alloc(COUNT * sizeof *x);
    double sum, expected = 0;
    for (size_t i = 0; i < COUNT; i++) {
        x[i] = (real)((double)(i % 17) - 8);
        expected += (double)(x[i] * x[i]);
    }
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        CHECK_STATUS(NORMCORE_OK, T(normcore_sum_of_squares)(NULL, COUNT, x, &sum));
        CHECK(sum == expected); /* whole numbers: exact */
        CHECK_STATUS(NORMCORE_OK, T(normcore_sum_of_squares)(NULL, 0, NULL, &sum));
        CHECK(sum == 0);
        x[4321] = (real)INFINITY;
        CHECK_STATUS(NORMCORE_OK, T(normcore_sum_of_squares)(NULL, COUNT, x, &sum));
        CHECK(sum == HUGE_VAL);
        x[1234] = (real)NAN;
        CHECK_STATUS(NORMCORE_OK, T(normcore_sum_of_squares)(NULL, COUNT, x, &sum));
        CHECK(sum != sum);
        x[1234] = x[1234 % 17];
        x[4321] = x[4321 % 17];
    }
#if TEST_DTYPE == 32
    /* The squares of the greatest and of the smallest floats are ordinary doubles. */
    const float ends[2] = {FLT_MAX, FLT_MIN};
    CHECK_STATUS(NORMCORE_OK, normcore_sum_of_squares_f32(NULL, 1, ends, &sum));
    CHECK(sum == (double)FLT_MAX * (double)FLT_MAX);
    CHECK_STATUS(NORMCORE_OK, normcore_sum_of_squares_f32(NULL, 1, ends + 1, &sum));
    CHECK(sum == (double)FLT_MIN * (double)FLT_MIN);
#endif
}

static void test_refusals(void) {
    const double nan = (double)NAN, inf = (double)INFINITY;
    const double not_a_size[] = {-1e-3, nan, inf}, not_a_fraction[] = {-0.1, 1, 1.5, nan};
    for (int kind = 0; kind <= NORMCORE_ADAM; kind++) {
        real p[2] = {7, 7}, slot1[2] = {7, 7}, slot2[2] = {7, 7};
        const real g[2] = {1, 1};
        const int first = kind == NORMCORE_MOMENTUM || kind == NORMCORE_NESTEROV || kind == NORMCORE_ADAM;
        const int second = kind >= NORMCORE_RMSPROP;
        normcore_optimizer_options good;
        CHECK_STATUS(NORMCORE_OK, normcore_optimizer_defaults((normcore_optimizer)kind, &good, sizeof good));
        normcore_optimizer_options o;
#define REFUSED(status)                                                                                                \
    CHECK_STATUS(status, T(normcore_optimizer_update)(NULL, &o, 2, p, g, first ? slot1 : NULL, second ? slot2 : NULL))
        for (size_t i = 0; i < EACH(not_a_size); i++) {
            harness_note("optimiser %d, size %lu", kind, (unsigned long)i);
            o = good, o.learning_rate = not_a_size[i];
            REFUSED(NORMCORE_ERROR_VALUE);
            o = good, o.l2 = not_a_size[i];
            REFUSED(NORMCORE_ERROR_VALUE);
            o = good, o.weight_decay = not_a_size[i];
            REFUSED(NORMCORE_ERROR_VALUE);
            o = good, o.eps = not_a_size[i];
            if (second) REFUSED(NORMCORE_ERROR_VALUE);
            o = good, o.gradient_scale = not_a_size[i];
            if (i > 0) /* a negative scale climbs; it is allowed */
                REFUSED(NORMCORE_ERROR_VALUE);
        }
        for (size_t i = 0; i < EACH(not_a_fraction); i++) {
            harness_note("optimiser %d, fraction %lu", kind, (unsigned long)i);
            o = good, o.momentum = not_a_fraction[i];
            if (kind == NORMCORE_MOMENTUM || kind == NORMCORE_NESTEROV) REFUSED(NORMCORE_ERROR_VALUE);
            o = good, o.decay_rate = not_a_fraction[i];
            if (kind == NORMCORE_RMSPROP) REFUSED(NORMCORE_ERROR_VALUE);
            o = good, o.beta1 = not_a_fraction[i];
            if (kind == NORMCORE_ADAM) REFUSED(NORMCORE_ERROR_VALUE);
            o = good, o.beta2 = not_a_fraction[i];
            if (kind == NORMCORE_ADAM) REFUSED(NORMCORE_ERROR_VALUE);
        }
        harness_note("optimiser %d, scalars that do not fit", kind);
        const double too_large = TEST_DTYPE == 32 ? 0x1.ffffffp+127 : inf;
        o = good, o.learning_rate = too_large;
        REFUSED(NORMCORE_ERROR_VALUE);
        o = good, o.l2 = too_large;
        REFUSED(NORMCORE_ERROR_VALUE);
        o = good, o.eps = too_large;
        REFUSED(NORMCORE_ERROR_VALUE);
        o = good, o.gradient_scale = -too_large;
        REFUSED(NORMCORE_ERROR_VALUE);
        o = good, o.learning_rate = (double)REAL_MAX / 1e3, o.weight_decay = 1.01e3;
        REFUSED(NORMCORE_ERROR_VALUE);
        o = good, o.learning_rate = (double)REAL_MAX / 9.9;
        if (kind == NORMCORE_ADAM) REFUSED(NORMCORE_ERROR_VALUE);
#if TEST_DTYPE == 32
        /* Half the least float rounds to 0, 1 - 2^-25 to 1; the next double does not. In an environment that flushes, too. */
        for (size_t e = 0; e < environment_count; e++) {
            environment_enter(&environments[e]);
            for (int next = 0; next < 2; next++) {
                const double tiny = next ? 0x1.0000000000001p-150 : 0x1p-150;
                const double nearly_1 = next ? 0x1.fffffefffffffp-1 : 0x1.ffffffp-1;
                normcore_status status[7];
#define UPDATE(i, field, value)                                                                                        \
    o = good, o.field = (value);                                                                                       \
    status[i] = normcore_optimizer_update_f32(NULL, &o, 0, NULL, NULL, NULL, NULL)
                UPDATE(0, eps, tiny);
                UPDATE(1, l2, tiny);
                UPDATE(2, gradient_scale, -tiny);
                UPDATE(3, momentum, nearly_1);
                UPDATE(4, decay_rate, nearly_1);
                UPDATE(5, beta1, nearly_1);
                UPDATE(6, beta2, nearly_1);
                environment_leave();
                for (size_t i = 0; i < 7; i++) {
                    harness_note("optimiser %d, %s, number %lu", kind, environments[e].name, (unsigned long)i);
                    CHECK_STATUS(next ? NORMCORE_OK : NORMCORE_ERROR_VALUE, status[i]);
                }
                environment_enter(&environments[e]);
            }
            environment_leave();
        }
        /* A rate that rounds to 0 moves nothing, as a schedule that goes on falling wants it. */
        o = good, o.learning_rate = 1e-60;
        CHECK_STATUS(NORMCORE_OK, normcore_optimizer_update_f32(NULL, &o, 0, NULL, NULL, NULL, NULL));
#endif
        o = good, o.eps = 0, o.l2 = 0, o.gradient_scale = 0, o.learning_rate = 0;
        CHECK_STATUS(NORMCORE_OK, T(normcore_optimizer_update)(NULL, &o, 0, NULL, NULL, NULL, NULL));
        harness_note("optimiser %d", kind);
        o = good, o.optimizer = (normcore_optimizer)9;
        REFUSED(NORMCORE_ERROR_VALUE);
        o = good, o.step = 0;
        if (kind == NORMCORE_ADAM) REFUSED(NORMCORE_ERROR_VALUE);
        o = good;
        CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_optimizer_update)(NULL, NULL, 2, p, g, slot1, slot2));
        if (first) CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_optimizer_update)(NULL, &o, 2, p, g, NULL, slot2));
        if (second) CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_optimizer_update)(NULL, &o, 2, p, g, slot1, NULL));
        for (size_t i = 0; i < 2; i++) CHECK(p[i] == 7 && slot1[i] == 7 && slot2[i] == 7);
    }
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"shapes", test_shapes},
        {"defaults", test_defaults},
        {"descent", test_descent},
        {"exact_steps", test_exact_steps},
        {"sums_of_squares", test_sums_of_squares},
        {"refusals", test_refusals},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
