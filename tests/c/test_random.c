/* Random numbers and dropout: the published vectors of Philox, and every value from its counter. */
#include "properties.h"
#include "reference.h"

#include <math.h>
#include <string.h>

#define EACH(list) (sizeof(list) / sizeof *(list))

/* From the known-answer file of Random123, which the authors of Philox published. */
static void test_known_answers_of_the_reference(void) {
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < EACH(cases); i++) {
        uint32_t out[4];
        reference_philox(cases[i].counter, cases[i].key, out);
        CHECK(memcmp(out, cases[i].out, sizeof out) == 0);
    }
}

/* The same vectors out of the library, as far as its counters reach: word i is element i % 4 of block i / 4. */
static void test_known_answers(void) {
    static const uint32_t zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    /* Seed and stream of the third vector; its block does not fit into a 64-bit offset of words, so another one. */
    const uint64_t seed = UINT64_C(0x299f31d0a4093822), stream = UINT64_C(0x0370734413198a2e);
    const uint64_t offset = 4 * UINT64_C(0x05a308d3243f6a88);
    for (size_t isa = 0; isa < isa_count(); isa++) {
        int64_t integers[2];
        float words[4];
        double pairs[2];
        isa_use(isa);
        CHECK_STATUS(NORMCORE_OK, normcore_random_uniform_f32(NULL, 0, 0, 0, 4, 0, 1, words));
        CHECK_STATUS(NORMCORE_OK, normcore_random_uniform_f64(NULL, 0, 0, 0, 2, 0, 1, pairs));
        CHECK_STATUS(NORMCORE_OK, normcore_random_integers(NULL, 0, 0, 0, 2, UINT64_C(1) << 63, integers));
        for (size_t i = 0; i < 4; i++) CHECK(words[i] == (float)(zero[i] >> 8) * 0x1p-24f);
        for (size_t i = 0; i < 2; i++) {
            const uint64_t word = (uint64_t)zero[2 * i + 1] << 32 | zero[2 * i];
            CHECK(pairs[i] == (double)(word >> 11) * 0x1p-53);
            CHECK(integers[i] == (int64_t)(word >> 1));
        }
        CHECK_STATUS(NORMCORE_OK, normcore_random_uniform_f32(NULL, seed, stream, offset, 4, 0, 1, words));
        for (size_t i = 0; i < 4; i++)
            CHECK(words[i] == (float)(reference_word(seed, stream, offset + i) >> 8) * 0x1p-24f);
    }
}

static void test_shapes(void) { check_rows_and_columns(random_operations()); }

/* Any stretch of a stream, at any offset, holds what the whole of it holds there. */
static void test_stretches(void) {
    enum { COUNT = 300 };
    real uniform[COUNT], normal[COUNT], part[COUNT];
    int64_t integers[COUNT], some[COUNT];
    for (size_t isa = 0; isa < isa_count(); isa++) {
        rng r = rng_new(7);
        isa_use(isa);
        CHECK_STATUS(NORMCORE_OK, T(normcore_random_uniform)(NULL, 5, 6, 0, COUNT, 0, 1, uniform));
        CHECK_STATUS(NORMCORE_OK, T(normcore_random_normal)(NULL, 5, 6, 0, COUNT, 0, 1, normal));
        CHECK_STATUS(NORMCORE_OK, normcore_random_integers(NULL, 5, 6, 0, COUNT, 12345, integers));
        for (int i = 0; i < 100; i++) {
            const size_t first = rng_below(&r, COUNT), count = rng_below(&r, COUNT - first);
            CHECK_STATUS(NORMCORE_OK, T(normcore_random_uniform)(NULL, 5, 6, first, count, 0, 1, part));
            CHECK(memcmp(part, uniform + first, count * sizeof *part) == 0);
            CHECK_STATUS(NORMCORE_OK, T(normcore_random_normal)(NULL, 5, 6, first, count, 0, 1, part));
            CHECK(memcmp(part, normal + first, count * sizeof *part) == 0);
            CHECK_STATUS(NORMCORE_OK, normcore_random_integers(NULL, 5, 6, first, count, 12345, some));
            CHECK(memcmp(some, integers + first, count * sizeof *some) == 0);
        }
    }
}

/* Far into the tails, and over the whole range; every deviate within the bound the header gives. */
static void test_normal_tails(void) {
    enum { COUNT = 60000 };
    const operation *operation = &random_operations().items[3];
    call c;
    call_prepare(&c, operation, COUNT, 0, 0, PLAIN, next_number(), 0, GUARD_AFTER);
    CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
    operation->verify(&c);
    wide sum = 0, squares = 0, greatest = 0;
    for (size_t i = 0; i < COUNT; i++) {
        const wide z = array_at(&c.a[0], 0, i);
        sum += z;
        squares += z * z;
        greatest = fabsl(z) > greatest ? fabsl(z) : greatest;
    }
    CHECK(greatest > 3.5L && greatest < 8.3L);
    CHECK(fabsl(sum / COUNT) < 5 / sqrtl(COUNT) && fabsl(squares / COUNT - 1) < 5 * sqrtl(2) / sqrtl(COUNT));
}

static void test_streams_and_seeds_differ(void) {
    real a[64], b[64];
    CHECK_STATUS(NORMCORE_OK, T(normcore_random_uniform)(NULL, 1, 1, 0, 64, 0, 1, a));
    for (int i = 0; i < 64; i++) {
        const uint64_t bit = UINT64_C(1) << i;
        CHECK_STATUS(NORMCORE_OK, T(normcore_random_uniform)(NULL, 1 ^ bit, 1, 0, 64, 0, 1, b));
        CHECK(memcmp(a, b, sizeof a) != 0);
        CHECK_STATUS(NORMCORE_OK, T(normcore_random_uniform)(NULL, 1, 1 ^ bit, 0, 64, 0, 1, b));
        CHECK(memcmp(a, b, sizeof a) != 0);
    }
}

static void test_integers_stay_below_the_bound(void) {
    static const uint64_t bounds[] = {1, 2, 3, 10, UINT64_C(1) << 32, UINT64_C(1) << 63, (UINT64_C(1) << 63) - 1};
    enum { COUNT = 500 };
    int64_t out[COUNT];
    for (size_t i = 0; i < EACH(bounds); i++) {
        uint64_t greatest = 0;
        CHECK_STATUS(NORMCORE_OK, normcore_random_integers(NULL, 8, 9, 10, COUNT, bounds[i], out));
        for (size_t j = 0; j < COUNT; j++) {
            CHECK(out[j] >= 0 && (uint64_t)out[j] < bounds[i]);
            greatest = (uint64_t)out[j] > greatest ? (uint64_t)out[j] : greatest;
        }
        CHECK(greatest >= bounds[i] / 10 * 9); /* 500 draws of at most 10 or of very many values reach the top */
    }
}

static void test_dropout_backward_is_dropout(void) {
    enum { N = 50, D = 41 };
    real x[N * D], y[N * D], dx[N * D];
    size_t kept = 0;
    for (size_t i = 0; i < N * D; i++) x[i] = 1;
    CHECK_STATUS(NORMCORE_OK, T(normcore_dropout)(NULL, N, D, x, D, 0.75, 1, 2, 3, y, D));
    CHECK_STATUS(NORMCORE_OK, T(normcore_dropout)(NULL, N, D, y, D, 0.75, 1, 2, 3, dx, D));
    for (size_t i = 0; i < N * D; i++) {
        CHECK(y[i] == 0 ? dx[i] == 0 : fabsl((wide)y[i] * 0.75L - 1) < 2 * U && dx[i] > y[i]);
        kept += y[i] != 0;
    }
    CHECK(kept > N * D * 70 / 100 && kept < N * D * 80 / 100);
}

static void test_refusals(void) {
    const double nan = (double)NAN, inf = (double)INFINITY;
    const double keeps[] = {0, -0.5, 1.0000001, nan, inf, -inf, 0x1.fffffffffffffp-33};
    real out[4] = {7, 7, 7, 7};
    const real x[4] = {1, 2, 3, 4};
    int64_t integers[4] = {7, 7, 7, 7};
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_random_normal)(NULL, 0, 0, 0, 4, 0, -1, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_random_normal)(NULL, 0, 0, 0, 4, 0, nan, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_random_normal)(NULL, 0, 0, 0, 4, 0, inf, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_random_normal)(NULL, 0, 0, 0, 4, nan, 1, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_random_uniform)(NULL, 0, 0, 0, 4, nan, 1, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_random_uniform)(NULL, 0, 0, 0, 4, 0, nan, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_random_uniform)(NULL, 0, 0, 0, 4, 2, 1, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_random_uniform)(NULL, 0, 0, 0, 4, 0, 1.01 * REAL_MAX, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_random_uniform)(NULL, 0, 0, 0, 4, -1.01 * REAL_MAX, 0, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE,
                 T(normcore_random_uniform)(NULL, 0, 0, 0, 4, -0.6 * REAL_MAX, 0.6 * REAL_MAX, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_random_normal)(NULL, 0, 0, 0, 4, 0, REAL_MAX / 8, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE,
                 T(normcore_random_normal)(NULL, 0, 0, 0, 4, -0.2 * REAL_MAX, REAL_MAX / 10, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, normcore_random_integers(NULL, 0, 0, 0, 4, 0, integers));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, normcore_random_integers(NULL, 0, 0, 0, 4, (UINT64_C(1) << 63) + 1, integers));
    for (size_t i = 0; i < EACH(keeps); i++)
        CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_dropout)(NULL, 2, 2, x, 2, keeps[i], 0, 0, 0, out, 2));
    for (size_t i = 0; i < 4; i++) CHECK(out[i] == 7 && integers[i] == 7);
    CHECK_STATUS(NORMCORE_OK, T(normcore_dropout)(NULL, 2, 2, x, 2, 0x1p-32, 0, 0, 0, out, 2));
    CHECK_STATUS(NORMCORE_OK, T(normcore_random_uniform)(NULL, 0, 0, 0, 4, -0.5 * REAL_MAX, 0.5 * REAL_MAX, out));
    CHECK_STATUS(NORMCORE_OK, T(normcore_random_normal)(NULL, 0, 0, 0, 4, 0, REAL_MAX / 9.1, out));
    CHECK_STATUS(NORMCORE_OK, T(normcore_random_normal)(NULL, 0, 0, 0, 4, 2, 0, out));
    for (size_t i = 0; i < 4; i++) CHECK(out[i] == 2);
}

/* Behind word 2^64 - 1 comes word 0, wherever a stretch is cut. Offsets count values, of one word (float) or two. */
static void test_words_are_numbered_modulo_2_to_the_64(void) {
    const uint64_t values = UINT64_MAX / (sizeof(real) / 4); /* less one */
    real across[100], from_zero[96];
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        CHECK_STATUS(NORMCORE_OK, T(normcore_random_uniform)(NULL, 1, 2, values - 3, 100, 0, 1, across));
        CHECK_STATUS(NORMCORE_OK, T(normcore_random_uniform)(NULL, 1, 2, 0, 96, 0, 1, from_zero));
        CHECK(memcmp(across + 4, from_zero, sizeof from_zero) == 0);
    }
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"known_answers_of_the_reference", test_known_answers_of_the_reference},
        {"known_answers", test_known_answers},
        {"shapes", test_shapes},
        {"stretches", test_stretches},
        {"words_are_numbered_modulo_2_to_the_64", test_words_are_numbered_modulo_2_to_the_64},
        {"normal_tails", test_normal_tails},
        {"streams_and_seeds_differ", test_streams_and_seeds_differ},
        {"integers_stay_below_the_bound", test_integers_stay_below_the_bound},
        {"dropout_backward_is_dropout", test_dropout_backward_is_dropout},
        {"refusals", test_refusals},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
