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

static network network_of(normcore_norm norm, normcore_activation activation, double keep) {
    network net;
    memset(&net, 0, sizeof net);
    normcore_mlp_options options;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_defaults(&options, sizeof options));
    options.num_sizes = 4;
    options.sizes = sizes;
    options.norm = norm;
    options.activation = activation;
    options.keep = keep;
    options.eps = 1e-3;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_create(&options, &net.mlp));
    net.reference.layers = 3;
    net.reference.norm = norm;
    net.reference.activation = activation;
    net.reference.keep = (wide)keep;
    net.reference.eps = 1e-3L;
    net.reference.momentum = 0.9L;
    net.reference.sizes = sizes;
    net.count = reference_mlp_parameter_count(&net.reference);
    net.buffer_count = reference_mlp_buffer_count(&net.reference);
    return net;
}
static network network_new(normcore_norm norm, double keep) { return network_of(norm, NORMCORE_ACTIVATION_RELU, keep); }

/* Every norm and activation, with and without dropout. */
typedef struct combination {
    normcore_norm norm;
    normcore_activation activation;
    double keep;
} combination;
enum { ACTIVATIONS = NORMCORE_ACTIVATION_RELU6 + 1, COMBINATIONS = 3 * ACTIVATIONS * 2 };

static combination combination_of(int number) {
    const combination c = {.norm = (normcore_norm)(number / 2 % 3),
                           .activation = (normcore_activation)(number / 6),
                           .keep = number % 2 ? 0.6 : 1};
    harness_note("norm %d, activation %d, keep %g", (int)c.norm, (int)c.activation, c.keep);
    return c;
}

/* The reference's gradients against its own losses: what everything else here rests on. */
static void test_reference_by_finite_differences(void) {
    enum { N = 12 };
    for (int number = 0; number < COMBINATIONS; number++) {
        const combination c = combination_of(number);
        network net = network_of(c.norm, c.activation, c.keep);
        wide *params = scratch_wide(net.count), *grads = scratch_wide(net.count), *x = scratch_wide(N * 5);
        int64_t labels[N];
        rng r = rng_new((uint64_t)c.norm);
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
    for (int number = 0; number < COMBINATIONS; number++) {
        const combination c = combination_of(number);
        network net = network_of(c.norm, c.activation, c.keep);
        double *params = scratch_alloc(net.count * sizeof *params), *grads = scratch_alloc(net.count * sizeof *grads);
        double *unused = scratch_alloc(net.count * sizeof *unused), x[N * 5];
        int64_t labels[N];
        rng r = rng_new((uint64_t)c.norm);
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

static normcore_status (*const numeric_losses[])(normcore_context *, size_t, size_t, const real *, size_t, const real *,
                                                 size_t, const normcore_loss_options *, double *, real *, size_t,
                                                 double *,
                                                 size_t *) = {[NORMCORE_LOSS_LOGISTIC] = T(normcore_logistic_loss),
                                                              [NORMCORE_LOSS_SQUARED_ERROR] = T(normcore_squared_error),
                                                              [NORMCORE_LOSS_HUBER] = T(normcore_huber_loss),
                                                              [NORMCORE_LOSS_QUANTILE] = T(normcore_quantile_loss),
                                                              [NORMCORE_LOSS_POISSON] = T(normcore_poisson_loss)};

/* The four words of a step, and all of it in one call: the same bits, whatever the loss, strides and the pass's past. */
static void test_the_parts_make_the_whole(void) {
    static const size_t batches[] = {3, 300, 1, 17, 256, 300};
    enum { Y_STRIDE = 5, DY_STRIDE = 4, T_STRIDE = 6 };
    for (int number = 0; number < COMBINATIONS; number++) {
        const combination c = combination_of(number);
        network net = network_of(c.norm, c.activation, c.keep);
        real *x = scratch_alloc(MOST * 5 * sizeof *x), params[256], grads[2][256], buffers[2][64];
        real y[MOST * Y_STRIDE], dy[MOST * DY_STRIDE];
        real *t = scratch_alloc(MOST * T_STRIDE * sizeof *t); /* targets that every loss takes */
        double weights[MOST];
        int64_t labels[MOST];
        normcore_loss_options weighted;
        double loss[2], weight_sum[2];
        normcore_mlp_pass *pass;
        rng r = rng_new(5);
        for (size_t i = 0; i < MOST * 5; i++) x[i] = rng_real(&r, -1, 1);
        for (size_t i = 0; i < MOST; i++) labels[i] = (int64_t)(i % 3);
        for (size_t i = 0; i < MOST * T_STRIDE; i++) t[i] = (real)(i % 5) / 4;
        for (size_t i = 0; i < MOST; i++) weights[i] = (double)(i % 4);
        CHECK_STATUS(NORMCORE_OK, normcore_loss_defaults(&weighted, sizeof weighted));
        weighted.sample_weight = weights;
        weighted.delta = 0.25;
        weighted.tau = 0.875;
        CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_initialize)(NULL, net.mlp, 1, 2, -1, params, buffers[0]));
        memcpy(buffers[1], buffers[0], sizeof *buffers);
        CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_pass_create)(net.mlp, MOST, &pass));
        memset(grads, 0, sizeof grads);
        for (size_t i = 0; i < EACH(batches); i++) {
            const size_t n = batches[i];
            const normcore_loss which = (normcore_loss)(((size_t)number + i) % (NORMCORE_LOSS_POISSON + 1));
            const int is_numeric = which != NORMCORE_LOSS_CROSS_ENTROPY;
            const normcore_mlp_loss_options options = {sizeof options, which, NULL,
                                                       is_numeric && i % 2 ? &weighted : NULL};
            harness_note("loss %d, batch %zu", (int)which, n);
            CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_loss_and_grads)(
                                          NULL, net.mlp, n, x, 5, is_numeric ? NULL : labels, is_numeric ? t : NULL,
                                          T_STRIDE, i < 2 && !is_numeric ? NULL : &options, 1, 100 * i, params,
                                          buffers[0], grads[0], &loss[0], &weight_sum[0], NULL));
            CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_forward_training)(NULL, net.mlp, n, x, 5, params, buffers[1], 1,
                                                                       100 * i, pass, y, Y_STRIDE));
            if (is_numeric)
                CHECK_STATUS(NORMCORE_OK, numeric_losses[which](NULL, n, 3, y, Y_STRIDE, t, T_STRIDE, options.numeric,
                                                                &loss[1], dy, DY_STRIDE, &weight_sum[1], NULL));
            else
                CHECK_STATUS(NORMCORE_OK, T(normcore_cross_entropy)(NULL, n, 3, y, Y_STRIDE, labels, NULL, 0, NULL,
                                                                    &loss[1], dy, DY_STRIDE, &weight_sum[1], NULL));
            for (int again = 0; again < 2; again++) { /* the pass is left as it is */
                CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_backward)(NULL, net.mlp, n, x, 5, params, pass, dy, DY_STRIDE,
                                                                   grads[1], NULL, 0));
                CHECK(memcmp(grads[0], grads[1], sizeof *grads) == 0);
            }
            CHECK(loss[0] == loss[1] && weight_sum[0] == weight_sum[1]);
            CHECK(memcmp(buffers[0], buffers[1], net.buffer_count * sizeof(real)) == 0);
        }
        normcore_mlp_pass_destroy(pass);
        normcore_mlp_destroy(net.mlp);
        guard_reset();
    }
}

/* Without buffers a training pass gives the same results and leaves no trace. */
static void test_statistics_left_alone(void) {
    enum { N = 9 };
    network net = network_new(NORMCORE_NORM_BATCH, 0.5);
    real x[N * 5], params[256], buffers[64], grads[2][256];
    int64_t labels[N];
    double loss[2];
    rng r = rng_new(6);
    for (size_t i = 0; i < N * 5; i++) x[i] = rng_real(&r, -1, 1);
    for (size_t i = 0; i < N; i++) labels[i] = (int64_t)(i % 3);
    CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_initialize)(NULL, net.mlp, 1, 2, -1, params, buffers));
    memset(grads, 0, sizeof grads);
    for (int i = 0; i < 2; i++)
        CHECK_STATUS(NORMCORE_OK,
                     T(normcore_mlp_loss_and_grads)(NULL, net.mlp, N, x, 5, labels, NULL, 0, NULL, 1, 2, params,
                                                    i ? NULL : buffers, grads[i], &loss[i], NULL, NULL));
    CHECK(loss[0] == loss[1] && memcmp(grads[0], grads[1], sizeof *grads) == 0);
    normcore_mlp_destroy(net.mlp);
}

/* Arrays of (n, out) that a pass holds for each hidden layer: of ReLU no more than what the next layer reads. */
static void test_memory_of_passes(void) {
    static const size_t without_dropout[ACTIVATIONS] = {1, 1, 1, 1, 2, 1},
                        with_dropout[ACTIVATIONS] = {1, 1, 2, 2, 2, 2};
    enum { ROWS = 640 }; /* so that no part is rounded up to a multiple of 64 bytes */
    for (int number = 0; number < COMBINATIONS; number++) {
        const combination c = combination_of(number);
        network net = network_of(c.norm, c.activation, c.keep);
        const size_t arrays =
            (c.keep < 1 ? with_dropout : without_dropout)[c.activation] + (c.norm != NORMCORE_NORM_NONE);
        const size_t statistics = c.norm == NORMCORE_NORM_LAYER ? ROWS * 2 * 2 * sizeof(double) : 0;
        CHECK(T(normcore_mlp_pass_size)(net.mlp, 2 * ROWS) - T(normcore_mlp_pass_size)(net.mlp, ROWS) ==
              ROWS * (sizes[1] + sizes[2]) * arrays * sizeof(real) + statistics);
        normcore_mlp_destroy(net.mlp);
    }
    harness_note("%s", "");
}

#if TEST_DTYPE == 64
/* dx against finite differences of sum(y dy), for a dy that no loss gives. */
static void test_gradient_of_the_data(void) {
    enum { N = 6 };
    for (int number = 0; number < COMBINATIONS; number++) {
        const combination c = combination_of(number);
        network net = network_of(c.norm, c.activation, c.keep);
        double params[256], x[N * 5], dy[N * 3], y[N * 3], grads[256], dx[N * 5];
        normcore_mlp_pass *pass;
        rng r = rng_new((uint64_t)c.norm + 7);
        for (size_t i = 0; i < net.count; i++) params[i] = rng_unit(&r) - 0.5;
        for (size_t i = 0; i < N * 5; i++) x[i] = 2 * rng_unit(&r) - 1;
        for (size_t i = 0; i < N * 3; i++) dy[i] = 2 * rng_unit(&r) - 1;
        CHECK_STATUS(NORMCORE_OK, normcore_mlp_pass_create_f64(net.mlp, N, &pass));
#define FORWARD()                                                                                                      \
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_forward_training_f64(NULL, net.mlp, N, x, 5, params, NULL, 1, 2, pass, y, 3))
        FORWARD();
        CHECK_STATUS(NORMCORE_OK, normcore_mlp_backward_f64(NULL, net.mlp, N, x, 5, params, pass, dy, 3, grads, dx, 5));
        for (size_t i = 0; i < N * 5; i++) {
            const double kept = x[i], h = 1e-5;
            double change = 0;
            for (int side = 1; side >= -1; side -= 2) {
                x[i] = kept + side * h;
                FORWARD();
                for (size_t j = 0; j < N * 3; j++) change += side * y[j] * dy[j];
            }
            x[i] = kept;
            CHECK(fabs(change / (2 * h) - dx[i]) < 1e-7);
        }
#undef FORWARD
        normcore_mlp_pass_destroy(pass);
        normcore_mlp_destroy(net.mlp);
    }
}
#endif

#if SIZE_MAX > 0xffffffff
/* An address far from all others. */
static real *fake(int bit) { return (real *)((uintptr_t)1 << bit); }
#endif

#if TEST_DTYPE == 32
typedef double other_real;
#define OTHER(name) name##_f64
#else
typedef float other_real;
#define OTHER(name) name##_f32
#endif

static void test_passes(void) {
    network net = network_new(NORMCORE_NORM_LAYER, 1), other = network_new(NORMCORE_NORM_LAYER, 1);
    normcore_mlp_pass *pass, *none;
    real params[256] = {0}, grads[256], x[8 * 5] = {0}, y[8 * 3], dy[8 * 3] = {0};
    const size_t size = T(normcore_mlp_pass_size)(net.mlp, 8);
    unsigned char *memory = scratch_alloc(size + 1);
    CHECK(size > 0 && T(normcore_mlp_pass_size)(NULL, 8) == 0);
    CHECK(T(normcore_mlp_pass_size)(net.mlp, SIZE_MAX / 8) == 0 && T(normcore_mlp_pass_size)(net.mlp, SIZE_MAX) == 0);
    CHECK_STATUS(NORMCORE_ERROR_SIZE, T(normcore_mlp_pass_create)(net.mlp, SIZE_MAX / 8, &none));
    CHECK(none == NULL);
    none = (normcore_mlp_pass *)(void *)memory;
    CHECK_STATUS(NORMCORE_ERROR_SIZE, T(normcore_mlp_pass_init)(net.mlp, 8, memory, size - 1, &none));
    CHECK(none == NULL);
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_mlp_pass_init)(net.mlp, 8, NULL, size, &none));
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_mlp_pass_init)(NULL, 8, memory, size, &none));
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_mlp_pass_init)(net.mlp, 8, memory, size, NULL));
    CHECK_STATUS(NORMCORE_ERROR_SIZE, T(normcore_mlp_pass_init)(net.mlp, SIZE_MAX / 8, memory, size, &none));
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_mlp_pass_create)(net.mlp, 8, NULL));
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_mlp_pass_create)(NULL, 8, &none));
    CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_pass_init)(net.mlp, 8, memory + 1, size, &pass)); /* of any alignment */

#define FORWARD(status, net, n, pass)                                                                                  \
    CHECK_STATUS(status, T(normcore_mlp_forward_training)(NULL, net, n, x, 5, params, NULL, 0, 0, pass, y, 3))
#define BACKWARD(status, net, n, pass)                                                                                 \
    CHECK_STATUS(status, T(normcore_mlp_backward)(NULL, net, n, x, 5, params, pass, dy, 3, grads, NULL, 0))
    BACKWARD(NORMCORE_ERROR_VALUE, net.mlp, 8, pass); /* it holds no forward pass */
    FORWARD(NORMCORE_ERROR_SIZE, net.mlp, 9, pass);
    FORWARD(NORMCORE_ERROR_VALUE, other.mlp, 8, pass);
    FORWARD(NORMCORE_ERROR_NULL, NULL, 8, pass);
    FORWARD(NORMCORE_ERROR_NULL, net.mlp, 8, NULL);
    FORWARD(NORMCORE_OK, net.mlp, 8, pass);
    BACKWARD(NORMCORE_OK, net.mlp, 8, pass);
    BACKWARD(NORMCORE_ERROR_SIZE, net.mlp, 7, pass);
    BACKWARD(NORMCORE_ERROR_VALUE, other.mlp, 8, pass);
    BACKWARD(NORMCORE_ERROR_NULL, NULL, 8, pass);
    BACKWARD(NORMCORE_ERROR_NULL, net.mlp, 8, NULL);
    FORWARD(NORMCORE_OK, net.mlp, 0, pass); /* no rows: no gradients */
    for (size_t i = 0; i < 256; i++) grads[i] = 7;
    BACKWARD(NORMCORE_OK, net.mlp, 0, pass);
    for (size_t i = 0; i < net.count; i++) CHECK(grads[i] == 0);
    /* Outputs that lie in the pass. */
    CHECK_STATUS(NORMCORE_ERROR_ALIAS, T(normcore_mlp_forward_training)(NULL, net.mlp, 1, x, 5, params, NULL, 0, 0,
                                                                        pass, (real *)(void *)pass, 3));
    CHECK_STATUS(NORMCORE_ERROR_ALIAS,
                 T(normcore_mlp_backward)(NULL, net.mlp, 0, x, 5, params, pass, dy, 3, (real *)(void *)pass, NULL, 0));
    /* A pass is for one type of data. */
    other_real other_x[5] = {0}, other_params[256] = {0}, other_y[3];
    CHECK_STATUS(NORMCORE_ERROR_VALUE, OTHER(normcore_mlp_forward_training)(NULL, net.mlp, 1, other_x, 5, other_params,
                                                                            NULL, 0, 0, pass, other_y, 3));
#undef FORWARD
#undef BACKWARD
    normcore_mlp_pass_destroy(pass); /* the memory is the caller's */
    normcore_mlp_pass_destroy(NULL);
    normcore_mlp_destroy(net.mlp);
    normcore_mlp_destroy(other.mlp);
    guard_reset();
}

/* Rows for which the bytes of a pass are near the greatest size: the roundings and sums on the way may overflow. */
static void test_passes_too_large(void) {
    static const size_t thin[3] = {1, 1, 1};
    const size_t line = 64; /* bytes, to which each part is rounded */
    normcore_mlp_options options;
    normcore_mlp *mlp;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_defaults(&options, sizeof options));
    options.num_sizes = 3;
    options.sizes = thin;
    for (int norm = 0; norm < 3; norm++) {
        options.norm = (normcore_norm)norm;
        CHECK_STATUS(NORMCORE_OK, normcore_mlp_create(&options, &mlp));
        const size_t values = (norm ? 2 : 1) * sizeof(real), one = T(normcore_mlp_pass_size)(mlp, 1);
        size_t fit = 0;
        CHECK(one > line && one % line == 0);
        for (size_t back = 0; norm != NORMCORE_NORM_LAYER && back <= 16 * line; back += 4) {
            const size_t rows = (SIZE_MAX - back) / values, bytes = rows * values, room = SIZE_MAX - (one - line);
            const size_t rounded = bytes > SIZE_MAX - line ? SIZE_MAX : (bytes + line - 1) / line * line;
            harness_note("norm %d, %lu rows", norm, (unsigned long)rows);
            CHECK(T(normcore_mlp_pass_size)(mlp, rows) == (rounded > room ? 0 : one - line + rounded));
            fit += rounded <= room;
        }
        CHECK(norm == NORMCORE_NORM_LAYER || (fit > 10 && fit < 16 * line / 4 - 10));
        /* A mean and a scale for each row as well: alone they fit, together with the values they do not. */
        harness_note("%s", "");
        if (norm == NORMCORE_NORM_LAYER) CHECK(T(normcore_mlp_pass_size)(mlp, SIZE_MAX / 20) == 0);
        normcore_mlp_destroy(mlp);
    }
#if SIZE_MAX > 0xffffffff
    /* A batch that can be addressed, with more hidden values than can. Nothing is read. */
    static const size_t fat[3] = {1, (size_t)1 << 20, 1};
    const size_t n = (size_t)1 << 44;
    double loss = 7;
    options.norm = NORMCORE_NORM_NONE;
    options.sizes = fat;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_create(&options, &mlp));
    CHECK_STATUS(NORMCORE_ERROR_SIZE,
                 T(normcore_mlp_loss_and_grads)(NULL, mlp, n, fake(50), 1, NULL, fake(51), 1, NULL, 0, 0, fake(52),
                                                NULL, fake(53), &loss, NULL, NULL));
    CHECK(loss == 7);
    normcore_mlp_destroy(mlp);
#endif
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
    normcore_mlp_loss_options which;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_loss_defaults(&which, sizeof which));
    which.cross_entropy = &options;
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
                 T(normcore_mlp_loss_and_grads)(NULL, net.mlp, 4, x, 5, good, NULL, 0, &which, 0, 0, params, buffers,
                                                grads, &loss, &weight_sum, &bad_row));
    CHECK(bad_row == 2);
    options.class_weight = NULL;
    options.reduction = NORMCORE_REDUCTION_NONE; /* one loss, so mean or sum */
    CHECK_STATUS(NORMCORE_ERROR_VALUE,
                 T(normcore_mlp_loss_and_grads)(NULL, net.mlp, 4, x, 5, good, NULL, 0, &which, 0, 0, params, buffers,
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

/* Options and targets are those of the loss, or refused before anything is written. */
static void test_losses_and_their_options(void) {
    network net = network_new(NORMCORE_NORM_BATCH, 1);
    real x[4 * 5], t[4 * 3], params[256], grads[256], buffers[64] = {0}, before[64];
    const int64_t labels[4] = {0, 1, 2, 0};
    const double nan_weight[4] = {1, 1, (double)NAN, 1};
    double loss = 7, weight_sum = 8;
    size_t bad_row = 99;
    normcore_loss_options numeric;
    normcore_cross_entropy_options cross_entropy;
    for (size_t i = 0; i < 20; i++) x[i] = (real)i;
    for (size_t i = 0; i < 12; i++) t[i] = (real)(i % 3) / 2;
    for (size_t i = 0; i < 256; i++) grads[i] = 7;
    CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_initialize)(NULL, net.mlp, 1, 2, -1, params, buffers));
    memcpy(before, buffers, sizeof before);
    CHECK_STATUS(NORMCORE_OK, normcore_loss_defaults(&numeric, sizeof numeric));
    CHECK_STATUS(NORMCORE_OK, normcore_cross_entropy_defaults(&cross_entropy, sizeof cross_entropy));
#define TRY(expected, loss_, labels_, targets_, cross_entropy_, numeric_)                                              \
    do {                                                                                                               \
        const normcore_mlp_loss_options options = {sizeof options, (normcore_loss)(loss_), cross_entropy_, numeric_};  \
        harness_note("loss %d", (int)(loss_));                                                                         \
        CHECK_STATUS(expected,                                                                                         \
                     T(normcore_mlp_loss_and_grads)(NULL, net.mlp, 4, x, 5, labels_, targets_, 3, &options, 0, 0,      \
                                                    params, buffers, grads, &loss, &weight_sum, &bad_row));            \
    } while (0)
    TRY(NORMCORE_ERROR_VALUE, -1, NULL, t, NULL, NULL);
    TRY(NORMCORE_ERROR_VALUE, 1000, NULL, t, NULL, NULL);
    TRY(NORMCORE_ERROR_VALUE, NORMCORE_LOSS_CROSS_ENTROPY, labels, NULL, NULL, &numeric);
    TRY(NORMCORE_ERROR_NULL, NORMCORE_LOSS_CROSS_ENTROPY, labels, t, NULL, NULL);
    TRY(NORMCORE_ERROR_NULL, NORMCORE_LOSS_CROSS_ENTROPY, NULL, NULL, NULL, NULL);
    for (int which = NORMCORE_LOSS_LOGISTIC; which <= NORMCORE_LOSS_POISSON; which++) {
        TRY(NORMCORE_ERROR_VALUE, which, NULL, t, &cross_entropy, NULL);
        TRY(NORMCORE_ERROR_VALUE, which, labels, t, NULL, NULL);
        TRY(NORMCORE_ERROR_NULL, which, NULL, NULL, NULL, NULL);
        numeric.reduction = NORMCORE_REDUCTION_NONE;
        TRY(NORMCORE_ERROR_VALUE, which, NULL, t, NULL, &numeric);
        numeric.reduction = NORMCORE_REDUCTION_MEAN;
        numeric.struct_size = 1;
        TRY(NORMCORE_ERROR_VALUE, which, NULL, t, NULL, &numeric);
        numeric.struct_size = sizeof numeric;
        numeric.sample_weight = nan_weight;
        bad_row = 99;
        TRY(NORMCORE_ERROR_WEIGHT, which, NULL, t, NULL, &numeric);
        CHECK(bad_row == 2);
        numeric.sample_weight = NULL;
    }
    numeric.delta = 0;
    TRY(NORMCORE_ERROR_VALUE, NORMCORE_LOSS_HUBER, NULL, t, NULL, &numeric);
    numeric.tau = 1;
    TRY(NORMCORE_ERROR_VALUE, NORMCORE_LOSS_QUANTILE, NULL, t, NULL, &numeric);
    t[4] = -1;
    TRY(NORMCORE_ERROR_LABEL, NORMCORE_LOSS_LOGISTIC, NULL, t, NULL, NULL);
    CHECK(bad_row == 1);
    bad_row = 99;
    TRY(NORMCORE_ERROR_LABEL, NORMCORE_LOSS_POISSON, NULL, t, NULL, NULL);
    CHECK(bad_row == 1);
    CHECK(loss == 7 && weight_sum == 8 && memcmp(before, buffers, sizeof before) == 0);
    for (size_t i = 0; i < 256; i++) CHECK(grads[i] == 7);
    TRY(NORMCORE_OK, NORMCORE_LOSS_SQUARED_ERROR, NULL, t, NULL, &numeric); /* which looks at neither */
    TRY(NORMCORE_OK, NORMCORE_LOSS_CROSS_ENTROPY, labels, NULL, &cross_entropy, NULL);
#undef TRY
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
    CHECK(good.activation == NORMCORE_ACTIVATION_RELU);
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
    REFUSED(NORMCORE_ERROR_VALUE, activation, (normcore_activation)ACTIVATIONS);
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

    /* An eps that only double holds as a normal number is refused where the dtype is known. */
    for (int small = 0; small < 2; small++) {
        real one[32] = {0};
        o = good;
        o.eps = small ? 1e-39 : 1e-37;
        o.norm = NORMCORE_NORM_LAYER;
        CHECK_STATUS(NORMCORE_OK, normcore_mlp_create(&o, &mlp));
        CHECK(normcore_mlp_parameter_count(mlp) <= 32);
        CHECK_STATUS(small && sizeof(real) == 4 ? NORMCORE_ERROR_VALUE : NORMCORE_OK,
                     T(normcore_mlp_forward)(NULL, mlp, 1, x, 4, one, NULL, logits, 2));
        normcore_mlp_destroy(mlp);
    }

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
    normcore_mlp_pass *pass;
    CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_pass_create)(mlp, 2, &pass));
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
        CHECK_STATUS(variance ? NORMCORE_ERROR_VALUE : NORMCORE_OK,
                     T(normcore_mlp_forward_training)(NULL, mlp, 2, pairs, 4, all, buffers, 0, 0, pass, logits, 2));
        CHECK(!variance || (grads[0] == 7 && buffers[i] == -1));
    }
    normcore_mlp_pass_destroy(pass);
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
        {"the_parts_make_the_whole", test_the_parts_make_the_whole},
        {"statistics_left_alone", test_statistics_left_alone},
        {"memory_of_passes", test_memory_of_passes},
#if TEST_DTYPE == 64
        {"gradient_of_the_data", test_gradient_of_the_data},
#endif
        {"passes", test_passes},
        {"passes_too_large", test_passes_too_large},
        {"no_hidden_layer", test_no_hidden_layer},
        {"bad_labels_leave_everything", test_bad_labels_leave_everything},
        {"losses_and_their_options", test_losses_and_their_options},
        {"refusals", test_refusals},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
