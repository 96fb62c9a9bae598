#include "operations.h"
#include "reference.h"

#include <math.h>

enum { UNIFORM = 1, UNIFORM_UNIT = 2, NORMAL = 3, NORMAL_UNIT = 4, INTEGERS = 5, PERMUTATION = 6 };

static void setup_counter(call *c) {
    c->seed = rng_next(&c->data);
    c->stream = rng_next(&c->data);
    /* Small offsets, and ones whose block does not fit into 32 bits. */
    c->offset = rng_next(&c->data) >> (c->number % 2 ? 58 : 4);
}

/* 0 out */
static void setup(call *c) {
    setup_counter(c);
    if (c->operation->variant < INTEGERS) {
        add_vector(c, OUTPUT, c->n);
        c->low = c->operation->variant == UNIFORM ? -3.25 : c->operation->variant == NORMAL ? 0.5 : 0;
        c->high = c->operation->variant == UNIFORM ? 7.5 : c->operation->variant == NORMAL ? 2.5 : 1;
    } else {
        array *a = add_doubles(c, OUTPUT, c->n, 0, 0, 0);
        a->type = TYPE_INT64;
        c->bound = c->number % 3 == 0   ? UINT64_C(1) << 63
                   : c->number % 3 == 1 ? 1 + rng_next(&c->data) % 1000
                                        : 1 + (rng_next(&c->data) >> 1);
    }
}

static normcore_status run(const call *c, normcore_context *ctx) {
    switch (c->operation->variant) {
    case UNIFORM:
    case UNIFORM_UNIT:
        return T(normcore_random_uniform)(ctx, c->seed, c->stream, c->offset, c->n, c->low, c->high, POINTER(0));
    case NORMAL:
    case NORMAL_UNIT:
        return T(normcore_random_normal)(ctx, c->seed, c->stream, c->offset, c->n, c->low, c->high, POINTER(0));
    case INTEGERS:
        return normcore_random_integers(ctx, c->seed, c->stream, c->offset, c->n, c->bound, LABELS(0));
    default:
        return normcore_random_permutation(ctx, c->seed, c->stream, c->offset, c->n, LABELS(0));
    }
}

/* The bits of an element's uniform number: 24 of a word, or 53 of two. */
static uint64_t uniform_bits(const call *c, size_t i) {
#if TEST_DTYPE == 32
    return reference_word(c->seed, c->stream, c->offset + i) >> 8;
#else
    return reference_word64(c->seed, c->stream, c->offset + i) >> 11;
#endif
}

static void verify_uniform(const call *c) {
    const wide low = (wide)c->low, range = (wide)c->high - low;
    wide *out = scratch_wide(c->n), *tolerance = scratch_wide(c->n);
    for (size_t i = 0; i < c->n; i++) {
        out[i] = low + range * ldexpl((wide)uniform_bits(c, i), -REAL_MANTISSA);
        /* On [0, 1) there is nothing to round. */
        tolerance[i] = c->operation->variant == UNIFORM ? 2 * U * (fabsl(low) + fabsl(range)) : 0;
    }
    check_near(c, 0, out, tolerance);
}

/* The deviate at the middle of one of 2^32 (f32) or 2^52 (f64) intervals of probability. */
static void verify_normal(const call *c) {
    const wide mean = (wide)c->low, scale = (wide)c->high;
    wide *out = scratch_wide(c->n), *tolerance = scratch_wide(c->n);
    for (size_t i = 0; i < c->n; i++) {
        const wide q = reference_normal_probability(c->seed, c->stream, c->offset + i) - 0.5L;
        const wide z = (array_at(&c->a[0], 0, i) - mean) / scale, error = reference_normal_error(z, q);
        out[i] = mean + scale * (z - error);
        tolerance[i] = U * (8 * scale * fabsl(z) + 2 * fabsl(mean));
    }
    check_near(c, 0, out, tolerance);
}

static void verify_integers(const call *c) {
    for (size_t i = 0; i < c->n; i++)
        CHECK((uint64_t)LABELS(0)[i] == reference_integer(c->seed, c->stream, c->offset + i, c->bound));
}

static void verify_permutation(const call *c) {
    int64_t *expected = scratch_alloc(c->n * sizeof *expected);
    for (size_t i = 0; i < c->n; i++) expected[i] = (int64_t)i;
    for (size_t i = c->n; i-- > 1;) {
        const size_t j = (size_t)reference_integer(c->seed, c->stream, c->offset + c->n - 1 - i, i + 1);
        const int64_t moved = expected[i];
        expected[i] = expected[j];
        expected[j] = moved;
    }
    for (size_t i = 0; i < c->n; i++) CHECK(LABELS(0)[i] == expected[i]);
}

/* 0 x, 1 y */
static void setup_dropout(call *c) {
    static const double keeps[] = {0.5, 0.8, 0.1, 1, 0.999999};
    setup_counter(c);
    c->keep = keeps[c->number % 5];
    add_matrix(c, INPUT, c->n, c->k, 1);
    add_matrix(c, OUTPUT, c->n, c->k, 1);
}

static normcore_status run_dropout(const call *c, normcore_context *ctx) {
    return T(normcore_dropout)(ctx, c->n, c->k, MATRIX(0), c->keep, c->seed, c->stream, c->offset, MATRIX(1));
}

static void verify_dropout(const call *c) {
    const uint64_t threshold = reference_keep_threshold(c->keep);
    wide *y = widen(&c->a[0]), *tolerance = scratch_wide(c->n * c->k);
    for (size_t i = 0; i < c->n * c->k && c->keep < 1; i++) {
        y[i] = reference_word(c->seed, c->stream, c->offset + i) < threshold ? y[i] / (wide)c->keep : 0;
        tolerance[i] = 2 * U * fabsl(y[i]);
    }
    check_near(c, 1, y, tolerance);
}

static const operation operations[] = {
    {"random_uniform", UNIFORM, ONE_ROW, setup, run, verify_uniform, {{0, 0}}},
    {"random_uniform on [0, 1)", UNIFORM_UNIT, ONE_ROW, setup, run, verify_uniform, {{0, 0}}},
    {"random_normal", NORMAL, ONE_ROW, setup, run, verify_normal, {{0, 0}}},
    {"random_normal of scale 1", NORMAL_UNIT, ONE_ROW, setup, run, verify_normal, {{0, 0}}},
    {"random_integers", INTEGERS, ONE_ROW, setup, run, verify_integers, {{0, 0}}},
    {"random_permutation", PERMUTATION, ONE_ROW, setup, run, verify_permutation, {{0, 0}}},
    {"dropout", 0, BY_ROW, setup_dropout, run_dropout, verify_dropout, {{1, 0}}},
};

operation_list random_operations(void) {
    const operation_list list = {operations, sizeof operations / sizeof *operations};
    return list;
}
