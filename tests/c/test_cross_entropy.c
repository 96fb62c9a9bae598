/* Softmax cross-entropy: values, the smallest losses, weights, and every way of refusing an argument. */
#include "properties.h"
#include "reference.h"

#include <math.h>
#include <string.h>

#define EACH(list) (sizeof(list) / sizeof *(list))

static void test_shapes(void) { check_rows_and_columns(cross_entropy_operations()); }

#define POINTS 5000

/*
 * Logits (gap, 0) of label 0 have the loss log1p(exp(-gap)), which must keep its relative accuracy of 4 ULP down to
 * 1e-37 (f32; gaps up to 85) and the like; of label 1, gap + log1p(exp(-gap)).
 */
static void test_smallest_losses(void) {
    const double end = TEST_DTYPE == 32 ? 85 : 700;
    real *z = scratch_alloc(2 * POINTS * sizeof *z);
    int64_t *labels = scratch_alloc(POINTS * sizeof *labels);
    double *loss = scratch_alloc(POINTS * sizeof *loss);
    normcore_cross_entropy_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.reduction = NORMCORE_REDUCTION_NONE;
    rng r = rng_new(2);
    for (size_t i = 0; i < POINTS; i++) {
        z[2 * i] = rng_real(&r, 0, end);
        z[2 * i + 1] = 0;
        labels[i] = i % 4 == 3;
    }
    CHECK_STATUS(NORMCORE_OK, T(normcore_cross_entropy)(NULL, POINTS, 2, z, 2, labels, NULL, 0, &options, loss, NULL, 0,
                                                        NULL, NULL));
    wide worst = 0, at = 0;
    for (size_t i = 0; i < POINTS; i++) {
        const wide gap = (wide)z[2 * i], expected = log1pl(expl(-gap)) + (labels[i] ? gap : 0);
        const wide off = fabsl((wide)loss[i] - expected) / expected;
        if (!(off <= worst)) {
            worst = off;
            at = gap;
        }
    }
    harness_count(POINTS);
    if (!(worst <= 8 * U)) /* 4 ULP are between 4 U and 8 U of the value */
        harness_fail(__FILE__, __LINE__, "the loss at gap %.20Lg is off by %.3Lg U", at, worst / U);
    CHECK(loss[0] > 0);
}

static void test_uniform_logits(void) {
    real z[7 * 5], dz[7 * 5];
    int64_t labels[7];
    double loss, weight_sum;
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        for (size_t i = 0; i < 35; i++) z[i] = (real)-1000;
        for (size_t i = 0; i < 7; i++) labels[i] = (int64_t)(i % 5);
        CHECK_STATUS(NORMCORE_OK, T(normcore_cross_entropy)(NULL, 7, 5, z, 5, labels, NULL, 0, NULL, &loss, dz, 5,
                                                            &weight_sum, NULL));
        CHECK(fabsl((wide)loss - logl(5)) <= 4 * ulp(2));
        CHECK(weight_sum == 7);
        for (size_t i = 0; i < 35; i++) CHECK(fabsl((wide)dz[i] - (0.2L - (i / 5 % 5 == i % 5)) / 7) <= 3 * U);
    }
}

/* Hard labels written as soft targets mean the same; the class weights of labels, though, divide the mean as well. */
static void test_soft_targets_equal_labels(void) {
    real z[9 * 4], targets[9 * 4], dz[9 * 4], dz_soft[9 * 4];
    int64_t labels[9];
    double class_weight[4] = {0.5, 1, 2, 3}, loss, loss_soft, sum, sum_soft;
    rng r = rng_new(3);
    for (size_t i = 0; i < 36; i++) {
        z[i] = rng_real(&r, -3, 3);
        labels[i / 4] = (int64_t)(i / 4 % 4);
        targets[i] = i % 4 == i / 4 % 4;
    }
    for (int kind = 0; kind < 8; kind++) {
        const int weighted = kind & 1, mean = kind >> 1 & 1;
        normcore_cross_entropy_options options;
        memset(&options, 0, sizeof options);
        options.struct_size = sizeof options;
        options.class_weight = weighted ? class_weight : NULL;
        options.reduction = mean ? NORMCORE_REDUCTION_MEAN : NORMCORE_REDUCTION_SUM;
        options.label_smoothing = kind >> 2 ? 0.1 : 0.0;
        harness_note("kind %d", kind);
        CHECK_STATUS(NORMCORE_OK,
                     T(normcore_cross_entropy)(NULL, 9, 4, z, 4, labels, NULL, 0, &options, &loss, dz, 4, &sum, NULL));
        CHECK_STATUS(NORMCORE_OK, T(normcore_cross_entropy)(NULL, 9, 4, z, 4, NULL, targets, 4, &options, &loss_soft,
                                                            dz_soft, 4, &sum_soft, NULL));
        CHECK(sum == (weighted ? 2 * (0.5 + 1 + 2 + 3) + 0.5 : 9) && sum_soft == 9);
        const wide times = mean ? (wide)sum_soft / (wide)sum : 1;
        CHECK(fabsl((wide)loss - (wide)loss_soft * times) <= 8 * U * (wide)loss);
        for (size_t i = 0; i < 36; i++) CHECK(fabsl((wide)dz[i] - (wide)dz_soft[i] * times) <= (mean ? 8 : 32) * U);
    }
    harness_note("%s", "");
}

static void test_nothing_counts(void) {
    real z[6] = {1, 2, 3, 4, 5, 6}, dz[6];
    const int64_t ignored[2] = {-1, -1}, labels[2] = {0, 1};
    const double zeros[3] = {0, 0, 0};
    double loss, weight_sum;
    normcore_cross_entropy_options options;
    for (int kind = 0; kind < 4; kind++) {
        memset(&options, 0, sizeof options);
        options.struct_size = sizeof options;
        options.has_ignore_index = kind == 0;
        options.ignore_index = -1;
        options.class_weight = kind == 1 ? zeros : NULL;
        options.sample_weight = kind == 2 ? zeros : NULL;
        for (int reduction = 0; reduction < 2; reduction++) {
            options.reduction = (normcore_reduction)reduction;
            memset(dz, 0xff, sizeof dz);
            loss = weight_sum = -1;
            CHECK_STATUS(NORMCORE_OK,
                         T(normcore_cross_entropy)(NULL, kind == 3 ? 0 : 2, 3, z, 3, kind == 0 ? ignored : labels, NULL,
                                                   0, &options, &loss, dz, 3, &weight_sum, NULL));
            CHECK(loss == 0 && weight_sum == 0);
            for (size_t i = 0; kind != 3 && i < 6; i++) CHECK(dz[i] == 0);
        }
    }
    /* An empty batch may have no classes; a batch with rows may not. */
    CHECK_STATUS(NORMCORE_OK,
                 T(normcore_cross_entropy)(NULL, 0, 0, NULL, 0, NULL, NULL, 0, NULL, &loss, NULL, 0, NULL, NULL));
    CHECK_STATUS(NORMCORE_ERROR_SIZE,
                 T(normcore_cross_entropy)(NULL, 2, 0, z, 0, labels, NULL, 0, NULL, &loss, dz, 0, &weight_sum, NULL));
}

static void test_special_rows(void) {
    const real inf = (real)INFINITY;
    real z[5 * 3] = {1, 2, 3, -inf, -inf, -inf, 0, inf, 0, (real)NAN, 1, 2, 0, -inf, 5};
    const int64_t labels[5] = {0, 0, 1, 2, 2};
    double loss[5];
    real dz[15];
    normcore_cross_entropy_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.reduction = NORMCORE_REDUCTION_NONE;
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        CHECK_STATUS(NORMCORE_OK,
                     T(normcore_cross_entropy)(NULL, 5, 3, z, 3, labels, NULL, 0, &options, loss, dz, 3, NULL, NULL));
        for (size_t i = 0; i < 5; i++) {
            const int bad = i >= 1 && i <= 3;
            CHECK((loss[i] != loss[i]) == bad);
            for (size_t j = 0; j < 3; j++) CHECK((dz[3 * i + j] != dz[3 * i + j]) == bad);
        }
        CHECK(dz[13] == 0); /* a logit of -inf that is not the label costs nothing and gets nothing */
        /* With a label of that logit the loss is infinite, the gradient finite. */
        const int64_t impossible = 1;
        CHECK_STATUS(NORMCORE_OK, T(normcore_cross_entropy)(NULL, 1, 3, z + 12, 3, &impossible, NULL, 0, NULL, loss, dz,
                                                            3, NULL, NULL));
        CHECK(loss[0] == HUGE_VAL && dz[1] == -1);
    }
}

typedef struct refusal {
    int64_t labels[4];
    double class_weight[3], sample_weight[4];
    normcore_status status;
    size_t bad_row;
} refusal;

/* Nothing is written but *bad_row, and the first culprit is named. */
static void test_labels_and_weights_are_checked_first(void) {
    const double nan = (double)NAN, inf = (double)INFINITY;
    const refusal cases[] = {
        {{0, 1, 3, 9}, {1, 1, 1}, {1, 1, 1, 1}, NORMCORE_ERROR_LABEL, 2},
        {{0, -1, 2, 1}, {1, 1, 1}, {1, 1, 1, 1}, NORMCORE_ERROR_LABEL, 1},
        {{INT64_MIN, 0, 0, 0}, {1, 1, 1}, {1, 1, 1, 1}, NORMCORE_ERROR_LABEL, 0},
        {{0, 0, 0, INT64_MAX}, {1, 1, 1}, {1, 1, 1, 1}, NORMCORE_ERROR_LABEL, 3},
        {{0, 0, 0, (INT64_C(1) << 32)}, {1, 1, 1}, {1, 1, 1, 1}, NORMCORE_ERROR_LABEL, 3},
        {{0, 1, 2, 0}, {1, -1, 1}, {1, 1, 1, 1}, NORMCORE_ERROR_WEIGHT, 1},
        {{0, 1, 2, 0}, {1, 1, nan}, {1, 1, 1, 1}, NORMCORE_ERROR_WEIGHT, 2},
        {{0, 1, 2, 0}, {inf, 1, nan}, {1, 1, 1, 1}, NORMCORE_ERROR_WEIGHT, 0},
        {{0, 1, 2, 0}, {1, 1, 1}, {1, 1, 1, -0.5}, NORMCORE_ERROR_WEIGHT, 3},
        {{0, 1, 2, 0}, {1, 1, 1}, {1, inf, nan, 1}, NORMCORE_ERROR_WEIGHT, 1},
        {{0, 1, 2, 0}, {1, 1, 1}, {nan, 1, 1, 1}, NORMCORE_ERROR_WEIGHT, 0},
        /* Weights whose sum over the rows is infinite, or that a gradient of this type cannot hold. */
        {{0, 1, 2, 0}, {1, 1, 1}, {1, 1, 0x1.0000001p958, 0}, NORMCORE_ERROR_WEIGHT, 2},
        {{0, 1, 2, 0}, {0.1, 1, 0x1.0000001p958}, {1, 1, 1, 1}, NORMCORE_ERROR_WEIGHT, 2},
        {{0, 1, 2, 0}, {1, 2e160, 1}, {1, 1e160, 1, 1}, NORMCORE_ERROR_WEIGHT, 1},
#if TEST_DTYPE == 32
        {{0, 1, 2, 0}, {1, 1, 1}, {1, 1e39, 1, 1}, NORMCORE_ERROR_WEIGHT, 1},
        {{0, 1, 2, 0}, {1, 1, 2e19}, {1, 1, 1, 2e19}, NORMCORE_ERROR_WEIGHT, 3},
#endif
    };
    real z[12] = {0}, dz[12], dz_before[12];
    for (size_t i = 0; i < EACH(cases); i++)
        for (int reduction = 0; reduction < 3; reduction++) {
            double loss[4] = {7, 7, 7, 7}, weight_sum = 8;
            size_t bad_row = 99;
            normcore_cross_entropy_options options;
            harness_note("refusal %lu, reduction %d", (unsigned long)i, reduction);
            memset(&options, 0, sizeof options);
            options.struct_size = sizeof options;
            options.class_weight = cases[i].class_weight;
            options.sample_weight = cases[i].sample_weight;
            options.reduction = (normcore_reduction)reduction;
            memset(dz, 0x55, sizeof dz);
            memset(dz_before, 0x55, sizeof dz);
            CHECK_STATUS(cases[i].status, T(normcore_cross_entropy)(NULL, 4, 3, z, 3, cases[i].labels, NULL, 0,
                                                                    &options, loss, dz, 3, &weight_sum, &bad_row));
            CHECK(bad_row == cases[i].bad_row);
            CHECK(loss[0] == 7 && loss[1] == 7 && loss[2] == 7 && loss[3] == 7 && weight_sum == 8);
            CHECK(memcmp(dz, dz_before, sizeof dz) == 0);
            CHECK_STATUS(cases[i].status, T(normcore_cross_entropy)(NULL, 4, 3, z, 3, cases[i].labels, NULL, 0,
                                                                    &options, loss, dz, 3, &weight_sum, NULL));
        }
    /* Weights of which a mean could not be told. As sums they are what they are. */
    const refusal small[] = {
        {{0, 1, 2, 0}, {1, 1, 1}, {0, 0x1p-961, 0x1p-1074, 0}, NORMCORE_ERROR_WEIGHT, 1},
        {{0, 1, 2, 0}, {1, 0, 0x1p-1074}, {0, 1, 1, 0}, NORMCORE_ERROR_WEIGHT, 2},
        {{0, 1, 2, 0}, {1e-200, 1, 1}, {1e-200, 0, 0, 1e-200}, NORMCORE_ERROR_WEIGHT, 0},
        {{0, 1, 2, 0}, {1, 1, 1}, {0x1p-961, 0x1p-1074, 0x1p-961, 0}, NORMCORE_OK, 99},
        {{0, 1, 2, 0}, {1, 0, 0}, {0, 1, 1, 0}, NORMCORE_OK, 99},
    };
    for (size_t i = 0; i < EACH(small); i++)
        for (int reduction = 0; reduction < 3; reduction++) {
            double loss[4];
            size_t bad_row = 99;
            const int mean = reduction == NORMCORE_REDUCTION_MEAN;
            normcore_cross_entropy_options options;
            harness_note("small weights %lu, reduction %d", (unsigned long)i, reduction);
            CHECK_STATUS(NORMCORE_OK, normcore_cross_entropy_defaults(&options, sizeof options));
            options.class_weight = small[i].class_weight;
            options.sample_weight = small[i].sample_weight;
            options.reduction = (normcore_reduction)reduction;
            CHECK_STATUS(mean ? small[i].status : NORMCORE_OK,
                         T(normcore_cross_entropy)(NULL, 4, 3, z, 3, small[i].labels, NULL, 0, &options, loss, dz, 3,
                                                   NULL, &bad_row));
            CHECK(bad_row == (mean ? small[i].bad_row : 99));
        }
    harness_note("%s", "");
    /* The ignored label is not a bad one, wherever it lies. */
    const int64_t labels[3] = {2, 77, 0};
    double loss, weight_sum;
    normcore_cross_entropy_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.has_ignore_index = 1;
    options.ignore_index = 77;
    CHECK_STATUS(NORMCORE_OK, T(normcore_cross_entropy)(NULL, 3, 3, z, 3, labels, NULL, 0, &options, &loss, dz, 3,
                                                        &weight_sum, NULL));
    CHECK(weight_sum == 2 && dz[3] == 0 && dz[4] == 0 && dz[5] == 0);
    /* Nor need it be no class. */
    const int64_t classes[3] = {2, 1, 0};
    real expected[9];
    memcpy(expected, dz, sizeof expected);
    const double expected_loss = loss;
    options.ignore_index = 1;
    CHECK_STATUS(NORMCORE_OK, T(normcore_cross_entropy)(NULL, 3, 3, z, 3, classes, NULL, 0, &options, &loss, dz, 3,
                                                        &weight_sum, NULL));
    CHECK(weight_sum == 2 && loss == expected_loss && memcmp(expected, dz, sizeof expected) == 0);
    options.ignore_index = 0;
    size_t bad_row = 99;
    CHECK_STATUS(NORMCORE_ERROR_LABEL, T(normcore_cross_entropy)(NULL, 3, 3, z, 3, labels, NULL, 0, &options, &loss, dz,
                                                                 3, &weight_sum, &bad_row));
    CHECK(bad_row == 1);
}

/* The greatest weights that are taken give numbers. */
static void test_large_weights(void) {
    const double greatest = TEST_DTYPE == 32 ? (double)REAL_MAX : 0x1p958;
    const double weights[4] = {greatest, greatest, greatest, greatest};
    const int64_t row_labels[4] = {0, 1, 2, 0};
    real z[12] = {1, 2, 0, 3, 1, 1, 0, 0, 0, 2, 0, 1}, dz[12];
    normcore_cross_entropy_options options;
    double loss, mean, weight_sum;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    CHECK_STATUS(NORMCORE_OK,
                 T(normcore_cross_entropy)(NULL, 4, 3, z, 3, row_labels, NULL, 0, NULL, &mean, dz, 3, NULL, NULL));
    options.sample_weight = weights;
    for (int reduction = 0; reduction < 2; reduction++) {
        options.reduction = (normcore_reduction)reduction;
        CHECK_STATUS(NORMCORE_OK, T(normcore_cross_entropy)(NULL, 4, 3, z, 3, row_labels, NULL, 0, &options, &loss, dz,
                                                            3, &weight_sum, NULL));
        CHECK(weight_sum == 4 * greatest);
        if (reduction == NORMCORE_REDUCTION_MEAN) CHECK(fabsl((wide)(loss - mean)) < 1e-14L);
        for (size_t i = 0; i < 12; i++) CHECK(dz[i] == dz[i] && fabsl((wide)dz[i]) <= (wide)REAL_MAX);
    }
}

static void test_options_are_checked(void) {
    const double smoothing[] = {-0.1, 1.1, (double)NAN, (double)INFINITY};
    real z[6] = {1, 2, 3, 4, 5, 6}, targets[6] = {0}, dz[6];
    const int64_t labels[2] = {0, 1};
    double loss = 7;
    normcore_cross_entropy_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    for (size_t i = 0; i < EACH(smoothing); i++) {
        options.label_smoothing = smoothing[i];
        CHECK_STATUS(NORMCORE_ERROR_VALUE,
                     T(normcore_cross_entropy)(NULL, 2, 3, z, 3, labels, NULL, 0, &options, &loss, dz, 3, NULL, NULL));
    }
    options.label_smoothing = 0;
    options.reduction = (normcore_reduction)3;
    CHECK_STATUS(NORMCORE_ERROR_VALUE,
                 T(normcore_cross_entropy)(NULL, 2, 3, z, 3, labels, NULL, 0, &options, &loss, dz, 3, NULL, NULL));
    CHECK(T(normcore_cross_entropy)(NULL, 2, 3, z, 3, NULL, NULL, 0, NULL, &loss, dz, 3, NULL, NULL) != NORMCORE_OK);
    CHECK(T(normcore_cross_entropy)(NULL, 2, 3, z, 3, labels, targets, 3, NULL, &loss, dz, 3, NULL, NULL) !=
          NORMCORE_OK);
    CHECK(loss == 7);
    /* Full smoothing makes all targets the same; it is allowed. */
    options.reduction = NORMCORE_REDUCTION_MEAN;
    options.label_smoothing = 1;
    CHECK_STATUS(NORMCORE_OK,
                 T(normcore_cross_entropy)(NULL, 2, 3, z, 3, labels, NULL, 0, &options, &loss, dz, 3, NULL, NULL));
    CHECK(fabsl((wide)loss - 1.40760596444438012L) < 8 * U);
}

/* Knuth's TwoSum of the parts' upper halves; what it lost goes to the lower one. */
static void add_to_pair(double pair[2], double hi, double lo) {
    const double sum = pair[0] + hi, t = sum - pair[0];
    pair[1] = (pair[1] + ((pair[0] - (sum - t)) + (hi - t))) + lo;
    pair[0] = sum;
}

/* The bits of the sums over rows, which weights of few bits would not show: pairs in chunks of 256, then the tree. */
static void test_order_of_sums(void) {
    enum { N = 5 * 256 + 7, C = 37 };
    static real z[N * C], targets[N * C];
    static double class_weight[C], sample_weight[N], losses[N];
    static int64_t labels[N];
    normcore_cross_entropy_options options;
    rng r = rng_new(5);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.class_weight = class_weight;
    options.sample_weight = sample_weight;
    for (size_t j = 0; j < C; j++) class_weight[j] = rng_unit(&r);
    for (size_t i = 0; i < N; i++) {
        sample_weight[i] = rng_unit(&r);
        labels[i] = (int64_t)(i % C);
    }
    for (size_t i = 0; i < N * C; i++) {
        z[i] = rng_real(&r, -3, 3);
        targets[i] = rng_real(&r, -1, 1);
    }
    for (int soft = 0; soft < 2; soft++) {
        double weights[6][2] = {{0}}, sums[6][2] = {{0}}, loss, weight_sum;
#define CROSS_ENTROPY(loss)                                                                                            \
    CHECK_STATUS(NORMCORE_OK, T(normcore_cross_entropy)(NULL, N, C, z, C, soft ? NULL : labels, soft ? targets : NULL, \
                                                        C, &options, loss, NULL, C, &weight_sum, NULL))
        options.reduction = NORMCORE_REDUCTION_NONE;
        CROSS_ENTROPY(losses);
        for (size_t i = 0; i < N; i++) {
            add_to_pair(weights[i / 256], (soft ? 1.0 : class_weight[labels[i]]) * sample_weight[i], 0.0);
            add_to_pair(sums[i / 256], losses[i], 0.0);
        }
        /* ((0 + 1) + (2 + 3)) + (4 + 5) */
        static const int joins[5][2] = {{0, 1}, {2, 3}, {0, 2}, {4, 5}, {0, 4}};
        for (size_t k = 0; k < 5; k++) {
            add_to_pair(weights[joins[k][0]], weights[joins[k][1]][0], weights[joins[k][1]][1]);
            add_to_pair(sums[joins[k][0]], sums[joins[k][1]][0], sums[joins[k][1]][1]);
        }
        const double total = sums[0][0] + sums[0][1], weight = weights[0][0] + weights[0][1];
        CHECK(weight_sum == weight);
        options.reduction = NORMCORE_REDUCTION_SUM;
        CROSS_ENTROPY(&loss);
        CHECK(loss == total && weight_sum == weight);
        options.reduction = NORMCORE_REDUCTION_MEAN;
        CROSS_ENTROPY(&loss);
        CHECK(loss == total / weight && weight_sum == weight);
#undef CROSS_ENTROPY
    }
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"shapes", test_shapes},
        {"smallest_losses", test_smallest_losses},
        {"uniform_logits", test_uniform_logits},
        {"soft_targets_equal_labels", test_soft_targets_equal_labels},
        {"order_of_sums", test_order_of_sums},
        {"nothing_counts", test_nothing_counts},
        {"special_rows", test_special_rows},
        {"labels_and_weights_are_checked_first", test_labels_and_weights_are_checked_first},
        {"large_weights", test_large_weights},
        {"options_are_checked", test_options_are_checked},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
