/* The multilayer perceptron: near the reference, gradients against finite differences, its object's life. */
#include "properties.h"
#include "reference.h"

#include <math.h>
#include <string.h>

#define EACH(list) (sizeof(list) / sizeof *(list))

static void test_shapes(void) {
    static const size_t shapes[][3] = {{1, 1, 1},  {2, 3, 2},   {3, 17, 10}, {8, 8, 8},     {9, 1, 5},  {16, 33, 1},
                                       {31, 5, 3}, {64, 40, 7}, {255, 3, 4}, {257, 20, 10}, {513, 9, 3}};
    const operation_list list = mlp_operations();
    for (size_t i = 0; i < list.count; i++) {
        for (size_t j = 0; j < EACH(shapes); j++)
            check_operation(&list.items[i], shapes[j][0], shapes[j][1], shapes[j][2], next_number());
        if (!(list.items[i].flags & NEEDS_ROWS)) check_operation(&list.items[i], 0, 5, 3, next_number());
    }
}

static const size_t sizes[4] = {5, 7, 6, 3};

typedef struct network {
    normcore_mlp *mlp;
    reference_mlp reference;
    size_t count, buffer_count;
} network;

static network network_new(normcore_norm norm, double keep) {
    network net;
    memset(&net, 0, sizeof net);
    normcore_mlp_options options;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_defaults(&options, sizeof options));
    options.num_sizes = 4;
    options.sizes = sizes;
    options.norm = norm;
    options.keep = keep;
    options.eps = 1e-3;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_create(&options, &net.mlp));
    net.reference.layers = 3;
    net.reference.norm = norm;
    net.reference.keep = (wide)keep;
    net.reference.eps = 1e-3L;
    net.reference.momentum = 0.9L;
    net.reference.sizes = sizes;
    net.count = reference_mlp_parameter_count(&net.reference);
    net.buffer_count = reference_mlp_buffer_count(&net.reference);
    return net;
}

/* The reference's gradients against its own losses: what everything else here rests on. */
static void test_reference_by_finite_differences(void) {
    enum { N = 12 };
    for (int norm = 0; norm < 3; norm++)
        for (int dropout = 0; dropout < 2; dropout++) {
            network net = network_new((normcore_norm)norm, dropout ? 0.6 : 1);
            wide *params = scratch_wide(net.count), *grads = scratch_wide(net.count), *x = scratch_wide(N * 5);
            int64_t labels[N];
            rng r = rng_new((uint64_t)norm);
            harness_note("norm %d, dropout %d", norm, dropout);
            for (size_t i = 0; i < net.count; i++) params[i] = (wide)rng_unit(&r) - 0.5L;
            for (size_t i = 0; i < N * 5; i++) x[i] = 2 * (wide)rng_unit(&r) - 1;
            for (size_t i = 0; i < N; i++) labels[i] = (int64_t)(i % 3);
            reference_mlp_loss(&net.reference, N, x, labels, NULL, NULL, 11, 12, params, NULL, grads, NULL);
            for (size_t i = 0; i < net.count; i++) {
                const wide kept = params[i], h = 1e-6L;
                params[i] = kept + h;
                const wide above =
                    reference_mlp_loss(&net.reference, N, x, labels, NULL, NULL, 11, 12, params, NULL, NULL, NULL);
                params[i] = kept - h;
                const wide below =
                    reference_mlp_loss(&net.reference, N, x, labels, NULL, NULL, 11, 12, params, NULL, NULL, NULL);
                params[i] = kept;
                CHECK(fabsl((above - below) / (2 * h) - grads[i]) < 1e-9L);
            }
            normcore_mlp_destroy(net.mlp);
            guard_reset();
        }
}

#if TEST_DTYPE == 64
static double loss_of(const network *net, size_t n, const double *x, const int64_t *labels, const double *params,
                      double *grads) {
    double buffers[64], loss = 0;
    for (size_t i = 0; i < net->buffer_count; i++) buffers[i] = 1;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_loss_and_grads_f64(NULL, net->mlp, n, x, 5, labels, NULL, 0, NULL, 11, 12,
                                                              params, buffers, grads, &loss, NULL, NULL));
    return loss;
}

/* The library's own gradients against its own losses. */
static void test_finite_differences(void) {
    enum { N = 12 };
    for (int norm = 0; norm < 3; norm++)
        for (int dropout = 0; dropout < 2; dropout++) {
            network net = network_new((normcore_norm)norm, dropout ? 0.6 : 1);
            double *params = scratch_alloc(net.count * sizeof *params),
                   *grads = scratch_alloc(net.count * sizeof *grads);
            double *unused = scratch_alloc(net.count * sizeof *unused), x[N * 5];
            int64_t labels[N];
            rng r = rng_new((uint64_t)norm);
            harness_note("norm %d, dropout %d", norm, dropout);
            for (size_t i = 0; i < net.count; i++) params[i] = rng_unit(&r) - 0.5;
            for (size_t i = 0; i < N * 5; i++) x[i] = 2 * rng_unit(&r) - 1;
            for (size_t i = 0; i < N; i++) labels[i] = (int64_t)(i % 3);
            loss_of(&net, N, x, labels, params, grads);
            for (size_t i = 0; i < net.count; i++) {
                const double kept = params[i], h = 1e-5;
                params[i] = kept + h;
                const double above = loss_of(&net, N, x, labels, params, unused);
                params[i] = kept - h;
                const double below = loss_of(&net, N, x, labels, params, unused);
                params[i] = kept;
                CHECK(fabs((above - below) / (2 * h) - grads[i]) < 1e-7);
            }
            normcore_mlp_destroy(net.mlp);
            guard_reset();
        }
}
#endif

static void test_segments(void) {
    static const normcore_mlp_kind kinds[2][4] = {
        {NORMCORE_MLP_WEIGHT, NORMCORE_MLP_BIAS},
        {NORMCORE_MLP_WEIGHT, NORMCORE_MLP_BIAS, NORMCORE_MLP_GAMMA, NORMCORE_MLP_BETA}};
    for (int norm = 0; norm < 3; norm++) {
        network net = network_new((normcore_norm)norm, 1);
        normcore_mlp_segment segment;
        size_t index = 0, offset = 0;
        CHECK(normcore_mlp_parameter_count(net.mlp) == net.count);
        CHECK(normcore_mlp_buffer_count(net.mlp) == net.buffer_count);
        for (size_t layer = 0; layer < 3; layer++) {
            const int hidden = norm && layer < 2;
            for (size_t i = 0; i < (hidden ? 4 : 2); i++, index++) {
                if (!CHECK_STATUS(NORMCORE_OK, normcore_mlp_get_segment(net.mlp, index, &segment))) continue;
                CHECK(segment.kind == kinds[hidden][i] && segment.layer == layer && segment.offset == offset);
                CHECK(segment.rows == (i == 0 ? sizes[layer] : 1) && segment.cols == sizes[layer + 1]);
                offset += segment.rows * segment.cols;
            }
        }
        CHECK(offset == net.count);
        offset = 0;
        for (size_t layer = 0; norm == NORMCORE_NORM_BATCH && layer < 2; layer++)
            for (size_t i = 0; i < 2; i++, index++) {
                if (!CHECK_STATUS(NORMCORE_OK, normcore_mlp_get_segment(net.mlp, index, &segment))) continue;
                CHECK(segment.kind == (i ? NORMCORE_MLP_RUNNING_VAR : NORMCORE_MLP_RUNNING_MEAN));
                CHECK(segment.layer == layer && segment.offset == offset);
                CHECK(segment.rows == 1 && segment.cols == sizes[layer + 1]);
                offset += segment.cols;
            }
        CHECK(offset == net.buffer_count);
        CHECK_STATUS(NORMCORE_ERROR_SIZE, normcore_mlp_get_segment(net.mlp, index, &segment));
        normcore_mlp_destroy(net.mlp);
    }
}

#define MOST 300

/* One object for batches of every size gives what a new object gives. */
static void test_one_object_for_many_batches(void) {
    static const size_t batches[] = {3, 300, 1, 17, 256, 2, 300};
    for (int norm = 0; norm < 3; norm++) {
        network net = network_new((normcore_norm)norm, 0.5);
        real *x = scratch_alloc(MOST * 5 * sizeof *x), params[256], grads[2][256], buffers[2][64];
        real logits[2][MOST * 3];
        int64_t labels[MOST];
        double loss[2];
        rng r = rng_new(4);
        for (size_t i = 0; i < MOST * 5; i++) x[i] = rng_real(&r, -1, 1);
        for (size_t i = 0; i < MOST; i++) labels[i] = (int64_t)(i % 3);
        CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_initialize)(NULL, net.mlp, 1, 2, -1, params, buffers[0]));
        for (size_t i = 0; i < EACH(batches); i++) {
            const size_t n = batches[i];
            memset(grads, 0, sizeof grads);
            for (int fresh = 0; fresh < 2; fresh++) {
                network other = fresh ? network_new((normcore_norm)norm, 0.5) : net;
                for (size_t j = 0; j < 64; j++) buffers[fresh][j] = 1;
                CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_loss_and_grads)(NULL, other.mlp, n, x, 5, labels, NULL, 0,
                                                                         NULL, 1, 100 * i, params, buffers[fresh],
                                                                         grads[fresh], &loss[fresh], NULL, NULL));
                CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_forward)(NULL, other.mlp, n, x, 5, params, buffers[fresh],
                                                                  logits[fresh], 3));
                if (fresh) normcore_mlp_destroy(other.mlp);
            }
            CHECK(loss[0] == loss[1] && memcmp(grads[0], grads[1], sizeof *grads) == 0);
            CHECK(memcmp(buffers[0], buffers[1], sizeof *buffers) == 0);
            CHECK(memcmp(logits[0], logits[1], n * 3 * sizeof(real)) == 0);
        }
        normcore_mlp_destroy(net.mlp);
        guard_reset();
    }
}

/* A network of one affine map is softmax regression; one of two sizes has no hidden layer to normalise. */
static void test_no_hidden_layer(void) {
    const size_t two[2] = {3, 2};
    normcore_mlp_options options;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_defaults(&options, sizeof options));
    normcore_mlp *mlp;
    const real x[6] = {1, 2, 3, 4, 5, 6}, params[8] = {1, 0, 0, 1, -1, 2, (real)0.5, -1};
    const real expected[4] = {(real)-1.5, 7, (real)-1.5, 16};
    real logits[4];
    options.num_sizes = 2;
    options.sizes = two;
    options.norm = NORMCORE_NORM_BATCH;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_create(&options, &mlp));
    CHECK(normcore_mlp_parameter_count(mlp) == 8 && normcore_mlp_buffer_count(mlp) == 0);
    CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_forward)(NULL, mlp, 2, x, 3, params, NULL, logits, 2));
    CHECK(memcmp(logits, expected, sizeof logits) == 0);
    normcore_mlp_destroy(mlp);
}

/* A bad label is found before the running statistics move. */
static void test_bad_labels_leave_everything(void) {
    network net = network_new(NORMCORE_NORM_BATCH, 1);
    real x[4 * 5], params[256], grads[256], buffers[64];
    const int64_t labels[4] = {0, 1, 3, -1};
    double loss = 7, weight_sum = 8, class_weight[3] = {1, 1, (double)NAN};
    size_t bad_row = 99;
    normcore_cross_entropy_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    for (size_t i = 0; i < 20; i++) x[i] = (real)i;
    CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_initialize)(NULL, net.mlp, 1, 2, -1, params, buffers));
    for (size_t i = 0; i < 256; i++) grads[i] = 7;
    CHECK_STATUS(NORMCORE_ERROR_LABEL,
                 T(normcore_mlp_loss_and_grads)(NULL, net.mlp, 4, x, 5, labels, NULL, 0, NULL, 0, 0, params, buffers,
                                                grads, &loss, &weight_sum, &bad_row));
    CHECK(bad_row == 2);
    options.class_weight = class_weight;
    const int64_t good[4] = {0, 1, 2, 0};
    CHECK_STATUS(NORMCORE_ERROR_WEIGHT,
                 T(normcore_mlp_loss_and_grads)(NULL, net.mlp, 4, x, 5, good, NULL, 0, &options, 0, 0, params, buffers,
                                                grads, &loss, &weight_sum, &bad_row));
    CHECK(bad_row == 2);
    options.class_weight = NULL;
    options.reduction = NORMCORE_REDUCTION_NONE; /* one loss, so mean or sum */
    CHECK_STATUS(NORMCORE_ERROR_VALUE,
                 T(normcore_mlp_loss_and_grads)(NULL, net.mlp, 4, x, 5, good, NULL, 0, &options, 0, 0, params, buffers,
                                                grads, &loss, &weight_sum, &bad_row));
    CHECK_STATUS(NORMCORE_ERROR_SIZE,
                 T(normcore_mlp_loss_and_grads)(NULL, net.mlp, 0, x, 5, good, NULL, 0, NULL, 0, 0, params, buffers,
                                                grads, &loss, &weight_sum, &bad_row));
    CHECK(loss == 7 && weight_sum == 8);
    for (size_t i = 0; i < 256; i++) CHECK(grads[i] == 7);
    for (size_t i = 0; i < net.buffer_count; i++) {
        const size_t in_layer = i < 14 ? i / 7 : (i - 14) / 6;
        CHECK(buffers[i] == (real)in_layer);
    }
    normcore_mlp_destroy(net.mlp);
}

static void test_refusals(void) {
    const size_t three[3] = {4, 3, 2}, zero[3] = {4, 0, 2}, huge[3] = {SIZE_MAX / 4, 8, 2};
    const size_t many[3] = {SIZE_MAX / 16, 1, SIZE_MAX / 2};
    const double nan = (double)NAN;
    normcore_mlp *mlp = NULL;
    normcore_mlp_options good, o;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_defaults(&good, sizeof good));
    CHECK(good.struct_size == sizeof good && good.norm == NORMCORE_NORM_NONE && good.keep == 1);
    CHECK(good.eps == 1e-5 && good.momentum == 0.9 && good.unbiased_running_var == 0);
    good.num_sizes = 3;
    good.sizes = three;
#define REFUSED(status, field, value)                                                                                  \
    do {                                                                                                               \
        o = good;                                                                                                      \
        o.field = value;                                                                                               \
        CHECK_STATUS(status, normcore_mlp_create(&o, &mlp));                                                           \
        CHECK(mlp == NULL);                                                                                            \
    } while (0)
    REFUSED(NORMCORE_ERROR_SIZE, num_sizes, 1);
    REFUSED(NORMCORE_ERROR_SIZE, num_sizes, 0);
    REFUSED(NORMCORE_ERROR_SIZE, sizes, zero);
    REFUSED(NORMCORE_ERROR_SIZE, sizes, huge);
    REFUSED(NORMCORE_ERROR_SIZE, sizes, many);
    REFUSED(NORMCORE_ERROR_NULL, sizes, NULL);
    REFUSED(NORMCORE_ERROR_VALUE, norm, (normcore_norm)3);
    REFUSED(NORMCORE_ERROR_VALUE, keep, 0);
    REFUSED(NORMCORE_ERROR_VALUE, keep, 1.5);
    REFUSED(NORMCORE_ERROR_VALUE, keep, 1e-10);
    REFUSED(NORMCORE_ERROR_VALUE, keep, nan);
    REFUSED(NORMCORE_ERROR_VALUE, eps, -1);
    REFUSED(NORMCORE_ERROR_VALUE, eps, nan);
    REFUSED(NORMCORE_ERROR_VALUE, momentum, 1.1);
    REFUSED(NORMCORE_ERROR_VALUE, momentum, nan);
    CHECK_STATUS(NORMCORE_ERROR_NULL, normcore_mlp_create(&good, NULL));
    CHECK_STATUS(NORMCORE_ERROR_NULL, normcore_mlp_create(NULL, &mlp));
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_create(&good, &mlp));
    CHECK_STATUS(NORMCORE_ERROR_NULL, normcore_mlp_get_segment(mlp, 0, NULL));
    real params[32], x[4] = {0}, logits[4];
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_mlp_forward)(NULL, NULL, 1, x, 4, params, NULL, logits, 2));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_mlp_initialize)(NULL, mlp, 0, 0, nan, params, NULL));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_mlp_initialize)(NULL, mlp, 0, 0, REAL_MAX / 8, params, NULL));
    CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_initialize)(NULL, mlp, 0, 0, REAL_MAX / 10, params, NULL));
    normcore_mlp_destroy(mlp);

    /* A negative running variance, in whichever layer, before anything is written. */
    const size_t four[4] = {4, 3, 2, 2};
    const int64_t labels[2] = {0, 1};
    real all[48] = {0}, grads[48], buffers[10], pairs[8] = {0};
    double loss = 7;
    o = good;
    o.num_sizes = 4;
    o.sizes = four;
    o.norm = NORMCORE_NORM_BATCH;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_create(&o, &mlp));
    CHECK(normcore_mlp_parameter_count(mlp) <= 48 && normcore_mlp_buffer_count(mlp) == 10);
    for (size_t i = 0; i < 10; i++) {
        const int variance = (i >= 3 && i < 6) || i >= 8; /* mean 3, variance 3, mean 2, variance 2 */
        for (size_t j = 0; j < 10; j++) buffers[j] = j == i ? -1 : 1;
        for (size_t j = 0; j < 48; j++) grads[j] = 7;
        harness_note("buffer %lu", (unsigned long)i);
        CHECK_STATUS(variance ? NORMCORE_ERROR_VALUE : NORMCORE_OK,
                     T(normcore_mlp_forward)(NULL, mlp, 2, pairs, 4, all, buffers, logits, 1 + 1));
        CHECK_STATUS(variance ? NORMCORE_ERROR_VALUE : NORMCORE_OK,
                     T(normcore_mlp_loss_and_grads)(NULL, mlp, 2, pairs, 4, labels, NULL, 0, NULL, 0, 0, all, buffers,
                                                    grads, &loss, NULL, NULL));
        CHECK(!variance || (grads[0] == 7 && buffers[i] == -1));
    }
    normcore_mlp_destroy(mlp);
    normcore_mlp_destroy(NULL);
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"shapes", test_shapes},
        {"reference_by_finite_differences", test_reference_by_finite_differences},
#if TEST_DTYPE == 64
        {"finite_differences", test_finite_differences},
#endif
        {"segments", test_segments},
        {"one_object_for_many_batches", test_one_object_for_many_batches},
        {"no_hidden_layer", test_no_hidden_layer},
        {"bad_labels_leave_everything", test_bad_labels_leave_everything},
        {"refusals", test_refusals},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
