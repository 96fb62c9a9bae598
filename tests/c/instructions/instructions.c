/*
 * Calls every public operation once on a fixed shape, one thread, between two requests to callgrind: the counters are
 * zeroed, the operation runs, the counters are dumped under its name. Each runs once before, so that what is made at a first
 * call (dispatch, scratch memory) is not counted. Compiled once for each dtype. compare.py runs it and reads the dumps.
 */
#include "normcore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/callgrind.h>

#if TEST_DTYPE == 32
typedef float real;
#define CALL(name) name##_f32
#define SUFFIX     "_f32"
#else
typedef double real;
#define CALL(name) name##_f64
#define SUFFIX     "_f64"
#endif

enum { STRETCH = 1024, SIZE = 80 * STRETCH, NORMS = 3, NETS = NORMS + NORMCORE_ACTIVATION_RELU6 + 1 };

/* Inputs are made anew before each operation: the count of one may not hang on what another left behind. */
static struct {
    real a[SIZE], b[SIZE], c[SIZE], slot1[SIZE], slot2[SIZE];
    real u[SIZE], v[SIZE], w[SIZE];
    double mean[1024], rstd[1024], loss, weight_sum;
    int64_t labels[1024], integers[1024];
} data;

static normcore_mlp *nets[NETS]; /* 64, 64, 64, 10; by normcore_norm, then without one by activation */
static normcore_mlp_pass *passes[NETS];

/* A stretch of numbers, repeated: making them all would take most of the time. */
static void fill(real *x, uint64_t seed, double low, double high) {
    for (size_t i = 0; i < STRETCH; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = (real)(low + (high - low) * (double)(seed >> 40) * 0x1p-24);
    }
    for (size_t i = STRETCH; i < SIZE; i += STRETCH) memcpy(x + i, x, STRETCH * sizeof(real));
}

static void reset(void) {
    memset(&data, 0, sizeof data);
    fill(data.a, 1, -1.0, 1.0);
    fill(data.b, 2, -1.0, 1.0);
    fill(data.c, 3, 0.5, 1.5);
    for (size_t i = 0; i < 1024; i++) {
        data.rstd[i] = 1.0;
        data.labels[i] = (int64_t)(i % 10);
    }
}

/* ---------------------------------------------------------------- operations: name, shape, the call */

#define AFFINE(n, k, m, relu) CALL(normcore_affine_forward)(ctx, n, k, m, data.a, k, data.b, m, data.c, relu, data.u, m)
#define AFFINE_BACKWARD(n, k, m, dx)                                                                                   \
    CALL(normcore_affine_backward)(ctx, n, k, m, data.a, m, data.b, k, data.c, m, dx, k, data.v, m, data.w)
#define MAP(name, n, d)         CALL(normcore_##name)(ctx, n, d, data.a, d, data.u, d)
#define MAP2(name, n, d)        CALL(normcore_##name)(ctx, n, d, data.a, d, data.b, d, data.u, d)
#define ACTIVATION(which, n, d) CALL(normcore_activation_forward)(ctx, which, 0.01, n, d, data.a, d, data.u, d)
#define ACTIVATION_BACKWARD(which, n, d)                                                                               \
    CALL(normcore_activation_backward)(ctx, which, 0.01, n, d, data.a, d, data.b, d, data.u, d)
#define CROSS_ENTROPY(n, c, labels, targets)                                                                           \
    CALL(normcore_cross_entropy)(ctx, n, c, data.a, c, labels, targets, c, NULL, &data.loss, data.u, c,                \
                                 &data.weight_sum, NULL)
#define LOSS(name, n, d, targets)                                                                                      \
    CALL(normcore_##name)(ctx, n, d, data.a, d, targets, d, NULL, &data.loss, data.u, d, &data.weight_sum, NULL)
#define BATCH_NORM(n, d, is_training)                                                                                  \
    do {                                                                                                               \
        normcore_batch_norm_options options;                                                                           \
        (void)normcore_batch_norm_defaults(&options, sizeof options);                                                  \
        options.training = is_training;                                                                                \
        return CALL(normcore_batch_norm_forward)(ctx, n, d, data.a, d, data.c, data.b, &options, data.slot1,           \
                                                 data.slot2, data.u, d, data.mean, data.rstd);                         \
    } while (0)
#define BATCH_NORM_BACKWARD(n, d, training, algorithm)                                                                 \
    CALL(normcore_batch_norm_backward)(ctx, n, d, data.a, d, data.b, d, data.c, data.mean, data.rstd, training,        \
                                       algorithm, data.u, d, data.v, data.w)
#define LAYER_NORM(n, d)                                                                                               \
    CALL(normcore_layer_norm_forward)(ctx, n, d, data.a, d, data.c, data.b, 1e-5, data.u, d, data.mean, data.rstd)
#define LAYER_NORM_BACKWARD(n, d)                                                                                      \
    CALL(normcore_layer_norm_backward)(ctx, n, d, data.a, d, data.b, d, data.c, data.mean, data.rstd, data.u, d,       \
                                       data.v, data.w)
#define UPDATE(optimizer, n)                                                                                           \
    do {                                                                                                               \
        normcore_optimizer_options options;                                                                            \
        (void)normcore_optimizer_defaults(optimizer, &options, sizeof options);                                        \
        real *slot1 = optimizer == NORMCORE_SGD || optimizer == NORMCORE_RMSPROP ? NULL : data.slot1;                  \
        real *slot2 = optimizer == NORMCORE_RMSPROP || optimizer == NORMCORE_ADAM ? data.slot2 : NULL;                 \
        return CALL(normcore_optimizer_update)(ctx, &options, n, data.a, data.b, slot1, slot2);                        \
    } while (0)
#define WITH(activation)    (NORMS + NORMCORE_ACTIVATION_##activation)
#define MLP_FORWARD(net, n) CALL(normcore_mlp_forward)(ctx, nets[net], n, data.a, 64, data.b, data.c, data.u, 10)
#define MLP_FORWARD_TRAINING(net, n)                                                                                   \
    CALL(normcore_mlp_forward_training)(ctx, nets[net], n, data.a, 64, data.b, data.c, 1, 2, passes[net], data.u, 10)
#define MLP_BACKWARD(net, n)                                                                                           \
    CALL(normcore_mlp_backward)(ctx, nets[net], n, data.a, 64, data.b, passes[net], data.c, 10, data.u, NULL, 0)
#define MLP_GRADS(net, n)                                                                                              \
    CALL(normcore_mlp_loss_and_grads)(ctx, nets[net], n, data.a, 64, data.labels, NULL, 0, NULL, 1, 2, data.b, data.c, \
                                      data.u, &data.loss, &data.weight_sum, NULL)

#define OPERATIONS(_)                                                                                                  \
    _(affine_forward, 32x128x128, return AFFINE(32, 128, 128, 1))                                                      \
    _(affine_forward, 64x512x150, return AFFINE(64, 512, 150, 0))                                                      \
    _(affine_forward, 1x784x100, return AFFINE(1, 784, 100, 0))                                                        \
    _(affine_forward, 128x100x10, return AFFINE(128, 100, 10, 0))                                                      \
    _(affine_backward, 32x128x128, return AFFINE_BACKWARD(32, 128, 128, data.u))                                       \
    _(affine_backward, 300x100x100, return AFFINE_BACKWARD(300, 100, 100, data.u))                                     \
    _(affine_backward, 50x784x100_no_dx, return AFFINE_BACKWARD(50, 784, 100, NULL))                                   \
    _(activation_forward, 64x512_relu, return ACTIVATION(NORMCORE_ACTIVATION_RELU, 64, 512))                           \
    _(activation_backward, 64x512_relu, return ACTIVATION_BACKWARD(NORMCORE_ACTIVATION_RELU, 64, 512))                 \
    _(activation_forward, 64x512_leaky_relu, return ACTIVATION(NORMCORE_ACTIVATION_LEAKY_RELU, 64, 512))               \
    _(activation_backward, 64x512_leaky_relu, return ACTIVATION_BACKWARD(NORMCORE_ACTIVATION_LEAKY_RELU, 64, 512))     \
    _(activation_forward, 64x512_tanh, return ACTIVATION(NORMCORE_ACTIVATION_TANH, 64, 512))                           \
    _(activation_backward, 64x512_tanh, return ACTIVATION_BACKWARD(NORMCORE_ACTIVATION_TANH, 64, 512))                 \
    _(activation_forward, 64x512_logistic, return ACTIVATION(NORMCORE_ACTIVATION_LOGISTIC, 64, 512))                   \
    _(activation_backward, 64x512_logistic, return ACTIVATION_BACKWARD(NORMCORE_ACTIVATION_LOGISTIC, 64, 512))         \
    _(activation_forward, 64x512_silu, return ACTIVATION(NORMCORE_ACTIVATION_SILU, 64, 512))                           \
    _(activation_backward, 64x512_silu, return ACTIVATION_BACKWARD(NORMCORE_ACTIVATION_SILU, 64, 512))                 \
    _(activation_forward, 64x512_relu6, return ACTIVATION(NORMCORE_ACTIVATION_RELU6, 64, 512))                         \
    _(activation_backward, 64x512_relu6, return ACTIVATION_BACKWARD(NORMCORE_ACTIVATION_RELU6, 64, 512))               \
    _(softmax, 64x512, return MAP(softmax, 64, 512))                                                                   \
    _(softmax, 256x10, return MAP(softmax, 256, 10))                                                                   \
    _(log_softmax, 64x512, return MAP(log_softmax, 64, 512))                                                           \
    _(softmax_backward, 64x512, return MAP2(softmax_backward, 64, 512))                                                \
    _(log_softmax_backward, 64x512, return MAP2(log_softmax_backward, 64, 512))                                        \
    _(cross_entropy, 64x512, return CROSS_ENTROPY(64, 512, data.labels, NULL))                                         \
    _(cross_entropy, 256x10, return CROSS_ENTROPY(256, 10, data.labels, NULL))                                         \
    _(cross_entropy, 64x512_targets, return CROSS_ENTROPY(64, 512, NULL, data.c))                                      \
    _(logistic_loss, 64x512, return LOSS(logistic_loss, 64, 512, data.slot1))                                          \
    _(logistic_loss, 256x10, return LOSS(logistic_loss, 256, 10, data.slot1))                                          \
    _(squared_error, 64x512, return LOSS(squared_error, 64, 512, data.c))                                              \
    _(squared_error, 1000x1, return LOSS(squared_error, 1000, 1, data.c))                                              \
    _(huber_loss, 64x512, return LOSS(huber_loss, 64, 512, data.c))                                                    \
    _(quantile_loss, 64x512, return LOSS(quantile_loss, 64, 512, data.c))                                              \
    _(poisson_loss, 64x512, return LOSS(poisson_loss, 64, 512, data.c))                                                \
    _(batch_norm_forward, 64x512, BATCH_NORM(64, 512, 1))                                                              \
    _(batch_norm_forward, 64x512_evaluation, BATCH_NORM(64, 512, 0))                                                   \
    _(batch_norm_forward, 300x100, BATCH_NORM(300, 100, 1))                                                            \
    _(batch_norm_backward, 64x512, return BATCH_NORM_BACKWARD(64, 512, 1, NORMCORE_BATCH_NORM_FUSED))                  \
    _(batch_norm_backward, 64x512_graph, return BATCH_NORM_BACKWARD(64, 512, 1, NORMCORE_BATCH_NORM_GRAPH))            \
    _(batch_norm_backward, 64x512_evaluation, return BATCH_NORM_BACKWARD(64, 512, 0, NORMCORE_BATCH_NORM_FUSED))       \
    _(batch_norm_backward, 8x100, return BATCH_NORM_BACKWARD(8, 100, 1, NORMCORE_BATCH_NORM_FUSED))                    \
    _(layer_norm_forward, 64x512, return LAYER_NORM(64, 512))                                                          \
    _(layer_norm_forward, 300x100, return LAYER_NORM(300, 100))                                                        \
    _(layer_norm_backward, 64x512, return LAYER_NORM_BACKWARD(64, 512))                                                \
    _(layer_norm_backward, 300x100, return LAYER_NORM_BACKWARD(300, 100))                                              \
    _(layer_norm_backward, 300x8, return LAYER_NORM_BACKWARD(300, 8))                                                  \
    _(dropout, 64x512, return CALL(normcore_dropout)(ctx, 64, 512, data.a, 512, 0.5, 1, 2, 0, data.u, 512))            \
    _(random_uniform, 10000, return CALL(normcore_random_uniform)(ctx, 1, 2, 0, 10000, 0.0, 1.0, data.u))              \
    _(random_normal, 10000, return CALL(normcore_random_normal)(ctx, 1, 2, 0, 10000, 0.0, 1.0, data.u))                \
    _(random_integers, 1000, return normcore_random_integers(ctx, 1, 2, 0, 1000, 1000, data.integers))                 \
    _(random_permutation, 1000, return normcore_random_permutation(ctx, 1, 2, 0, 1000, data.integers))                 \
    _(optimizer_update, 10000_sgd, UPDATE(NORMCORE_SGD, 10000))                                                        \
    _(optimizer_update, 10000_momentum, UPDATE(NORMCORE_MOMENTUM, 10000))                                              \
    _(optimizer_update, 10000_nesterov, UPDATE(NORMCORE_NESTEROV, 10000))                                              \
    _(optimizer_update, 10000_rmsprop, UPDATE(NORMCORE_RMSPROP, 10000))                                                \
    _(optimizer_update, 10000_adam, UPDATE(NORMCORE_ADAM, 10000))                                                      \
    _(sum_of_squares, 10000, return CALL(normcore_sum_of_squares)(ctx, 10000, data.a, &data.loss))                     \
    _(mlp_initialize, 64_64_64_10, return CALL(normcore_mlp_initialize)(ctx, nets[1], 1, 0, -1.0, data.u, data.v))     \
    _(mlp_forward, 32_rows, return MLP_FORWARD(0, 32))                                                                 \
    _(mlp_forward, 32_rows_batch, return MLP_FORWARD(1, 32))                                                           \
    _(mlp_forward, 32_rows_layer, return MLP_FORWARD(2, 32))                                                           \
    _(mlp_forward, 1_row_batch, return MLP_FORWARD(1, 1))                                                              \
    _(mlp_forward_training, 32_rows, return MLP_FORWARD_TRAINING(0, 32))                                               \
    _(mlp_forward_training, 32_rows_batch, return MLP_FORWARD_TRAINING(1, 32))                                         \
    _(mlp_forward_training, 32_rows_layer, return MLP_FORWARD_TRAINING(2, 32))                                         \
    _(mlp_backward, 32_rows, return MLP_BACKWARD(0, 32))                                                               \
    _(mlp_backward, 32_rows_batch, return MLP_BACKWARD(1, 32))                                                         \
    _(mlp_backward, 32_rows_layer, return MLP_BACKWARD(2, 32))                                                         \
    _(mlp_loss_and_grads, 32_rows, return MLP_GRADS(0, 32))                                                            \
    _(mlp_loss_and_grads, 32_rows_batch, return MLP_GRADS(1, 32))                                                      \
    _(mlp_loss_and_grads, 32_rows_layer, return MLP_GRADS(2, 32))                                                      \
    _(mlp_forward, 32_rows_leaky_relu, return MLP_FORWARD(WITH(LEAKY_RELU), 32))                                       \
    _(mlp_forward, 32_rows_tanh, return MLP_FORWARD(WITH(TANH), 32))                                                   \
    _(mlp_forward, 32_rows_logistic, return MLP_FORWARD(WITH(LOGISTIC), 32))                                           \
    _(mlp_forward, 32_rows_silu, return MLP_FORWARD(WITH(SILU), 32))                                                   \
    _(mlp_forward, 32_rows_relu6, return MLP_FORWARD(WITH(RELU6), 32))                                                 \
    _(mlp_loss_and_grads, 32_rows_leaky_relu, return MLP_GRADS(WITH(LEAKY_RELU), 32))                                  \
    _(mlp_loss_and_grads, 32_rows_tanh, return MLP_GRADS(WITH(TANH), 32))                                              \
    _(mlp_loss_and_grads, 32_rows_logistic, return MLP_GRADS(WITH(LOGISTIC), 32))                                      \
    _(mlp_loss_and_grads, 32_rows_silu, return MLP_GRADS(WITH(SILU), 32))                                              \
    _(mlp_loss_and_grads, 32_rows_relu6, return MLP_GRADS(WITH(RELU6), 32))

#define DEFINE(name, shape, ...)                                                                                       \
    static normcore_status run_##name##_##shape(normcore_context *ctx) { __VA_ARGS__; }
OPERATIONS(DEFINE)

typedef struct operation {
    const char *name;
    normcore_status (*run)(normcore_context *ctx);
} operation;
#define ROW(name, shape, ...) {#name SUFFIX " " #shape, run_##name##_##shape},
static const operation operations[] = {OPERATIONS(ROW)};

static int check(normcore_status status, const char *name) {
    if (status) fprintf(stderr, "%s: %s\n", name, normcore_strerror(status));
    return status == NORMCORE_OK;
}

int main(void) {
    const size_t sizes[] = {64, 64, 64, 10};
    normcore_context_options options;
    normcore_context *ctx;
    if (!check(normcore_context_defaults(&options, sizeof options), "options")) return 1;
    options.num_threads = 1;
    if (!check(normcore_context_create(&options, &ctx), "context")) return 1;
    for (int net = 0; net < NETS; net++) {
        normcore_mlp_options net_options;
        if (!check(normcore_mlp_defaults(&net_options, sizeof net_options), "options")) return 1;
        net_options.num_sizes = sizeof sizes / sizeof sizes[0];
        net_options.sizes = sizes;
        if (net < NORMS)
            net_options.norm = (normcore_norm)net;
        else
            net_options.activation = (normcore_activation)(net - NORMS);
        if (!check(normcore_mlp_create(&net_options, &nets[net]), "network")) return 1;
    }
#ifdef __clang__
    printf("compiler clang %d\n", __clang_major__);
#else
    printf("compiler gcc %d\n", __GNUC__);
#endif
    printf("isa %s\n", normcore_get_isa());
    reset();
    for (int net = 0; net < NETS; net++) /* for mlp_backward, which leaves them as they are */
        if (!check(CALL(normcore_mlp_pass_create)(nets[net], 32, &passes[net]), "pass") ||
            !check(MLP_FORWARD_TRAINING(net, 32), "pass"))
            return 1;
    reset();
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        const operation *op = &operations[i];
        if (!check(op->run(ctx), op->name)) return 1;
        reset();
        CALLGRIND_ZERO_STATS;
        const normcore_status status = op->run(ctx);
        CALLGRIND_DUMP_STATS_AT(op->name);
        if (!check(status, op->name)) return 1;
    }
    for (int net = 0; net < NETS; net++) {
        normcore_mlp_pass_destroy(passes[net]);
        normcore_mlp_destroy(nets[net]);
    }
    normcore_context_destroy(ctx);
    return 0;
}
