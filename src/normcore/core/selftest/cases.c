/* Small runs of every operation over values with tails, NaN, infinities, signed zeros and subnormals; their digests. */
#include "selftest/selftest.h"

#include "ops/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ST_N = 7, ST_K = 5, ST_M = 37, ST_SIZE = ST_N * ST_M, ST_DEEP = 300 };

typedef struct selftest_state {
    uint64_t *digests;
    real a[ST_DEEP * 8], b[ST_DEEP * 8], c[ST_DEEP * 8];
    real out[ST_SIZE], out2[ST_SIZE], out3[ST_SIZE];
    double mean[ST_M], rstd[ST_M];
} selftest_state;

/* FNV-1a over the bit patterns as numbers: the same on any byte order. */
static void digest_reals(uint64_t *digest, size_t n, const real *x) {
    for (size_t i = 0; i < n; i++) {
        real_bits bits;
        memcpy(&bits, &x[i], sizeof bits);
        *digest = (*digest ^ bits) * 0x100000001b3u;
    }
}
static void digest_doubles(uint64_t *digest, size_t n, const double *x) {
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        *digest = (*digest ^ bits) * 0x100000001b3u;
    }
}

/* Numbers of all sizes from a linear congruence; exact in any arithmetic. */
static void selftest_fill(real *x, size_t n, uint64_t seed, double scale) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = (real)((double)(int64_t)(seed >> 40) * 0x1p-23 - 1.0) * (real)scale;
    }
}

static normcore_status selftest_body(call *c, void *arguments) {
    selftest_state *s = arguments;
    const NAME(kernel_table) *kernels = kernels_of(c);
    normcore_batch_norm_options training;
    normcore_status status = normcore_batch_norm_defaults(&training, sizeof training);
    for (int i = 0; i < SELFTEST_COUNT; i++) s->digests[i] = 0xcbf29ce484222325u;

    /* Sums deeper than a block, with products that need all bits. */
    selftest_fill(s->a, sizeof s->a / sizeof s->a[0], 1, 3.0);
    selftest_fill(s->b, sizeof s->b / sizeof s->b[0], 2, 1.0 / 3.0);
    affine_forward_args deep = {.n = 2,
                                .k = ST_DEEP,
                                .m = 3,
                                .x = s->a,
                                .x_stride = ST_DEEP,
                                .w = s->b,
                                .w_stride = 3,
                                .y = s->out,
                                .y_stride = 3};
    status = NAME(normcore_affine_forward_body)(c, &deep);
    if (status) return status;
    digest_reals(&s->digests[SELFTEST_fma], 6, s->out);

    /* A tile higher than a vector of any target, in depth and width not a multiple of one. */
    affine_forward_args tile = {
        .n = 15, .k = 20, .m = 17, .x = s->a, .x_stride = 20, .w = s->b, .w_stride = 17, .y = s->out, .y_stride = 17};
    status = NAME(normcore_affine_forward_body)(c, &tile);
    if (status) return status;
    digest_reals(&s->digests[SELFTEST_affine_forward], 15 * 17, s->out);

    affine_forward_args forward = {.n = ST_N,
                                   .k = ST_K,
                                   .m = ST_M,
                                   .x = s->a,
                                   .x_stride = ST_K,
                                   .w = s->b,
                                   .w_stride = ST_M,
                                   .b = s->b + 1000,
                                   .relu = 1,
                                   .y = s->out,
                                   .y_stride = ST_M};
    status = NAME(normcore_affine_forward_body)(c, &forward);
    if (status) return status;
    digest_reals(&s->digests[SELFTEST_affine_forward], ST_SIZE, s->out);

    affine_backward_args backward = {.n = ST_N,
                                     .k = ST_K,
                                     .m = ST_M,
                                     .dy = s->a,
                                     .dy_stride = ST_M,
                                     .x = s->a + 300,
                                     .x_stride = ST_K,
                                     .w = s->b,
                                     .w_stride = ST_M,
                                     .dx = s->out,
                                     .dx_stride = ST_K,
                                     .dw = s->c,
                                     .dw_stride = ST_M,
                                     .db = s->out2};
    status = NAME(normcore_affine_backward_body)(c, &backward);
    if (status) return status;
    digest_reals(&s->digests[SELFTEST_affine_backward], ST_N * ST_K, s->out);
    digest_reals(&s->digests[SELFTEST_affine_backward], ST_K * ST_M, s->c);
    digest_reals(&s->digests[SELFTEST_affine_backward], ST_M, s->out2);

    /* From here on a holds special values as well: each in a row and a column of its own. */
    const real special[] = {REAL_NAN, REAL_INFINITY, -REAL_INFINITY, (real)-0.0, (real)1e-310, (real)1e-42, (real)1e30};
    for (size_t i = 0; i < ST_N; i++) s->a[i * ST_M + 5 * i] = special[i];

    for (int kind = NORMCORE_ACTIVATION_RELU; normcore_activation_takes_input((normcore_activation)kind) >= 0; kind++) {
        uint64_t *digest = &s->digests[kind == NORMCORE_ACTIVATION_RELU ? SELFTEST_relu : SELFTEST_activation];
        const normcore_activation activation = (normcore_activation)kind;
        kernels->activation_forward(activation, (real)0.01, ST_N, ST_M, s->a, ST_M, s->out, ST_M);
        kernels->activation_backward(activation, (real)0.01, ST_N, ST_M, s->b, ST_M, s->a, ST_M, s->out2, ST_M);
        digest_reals(digest, ST_SIZE, s->out);
        digest_reals(digest, ST_SIZE, s->out2);
    }

    kernels->softmax(ST_N, ST_M, s->a, ST_M, s->out, ST_M);
    kernels->softmax_backward(ST_N, ST_M, s->b, ST_M, s->out, ST_M, s->out2, ST_M);
    digest_reals(&s->digests[SELFTEST_softmax], ST_SIZE, s->out);
    digest_reals(&s->digests[SELFTEST_softmax], ST_SIZE, s->out2);

    kernels->log_softmax(ST_N, ST_M, s->a, ST_M, s->out, ST_M);
    kernels->log_softmax_backward(ST_N, ST_M, s->b, ST_M, s->out, ST_M, s->out2, ST_M);
    digest_reals(&s->digests[SELFTEST_log_softmax], ST_SIZE, s->out);
    digest_reals(&s->digests[SELFTEST_log_softmax], ST_SIZE, s->out2);

    /* Labels, smoothed labels, and soft targets of any sign with class weights, some of which are 0. */
    for (size_t j = 0; j < ST_M; j++) s->mean[j] = (double)(j % 4) * 0.75;
    for (int form = 0; form < 3; form++) {
        static const int64_t labels[ST_N] = {0, 36, 5, 11, 20, 25, 36};
        double loss = 0.0, weight_sum = 0.0;
        cross_entropy_args ce = {
            .n = ST_N - 3, /* the rows without NaN and infinities */
            .c = ST_M,
            .z = s->a + 3 * ST_M,
            .z_stride = ST_M,
            .labels = form < 2 ? labels + 3 : NULL,
            .targets = form < 2 ? NULL : s->b,
            .targets_stride = ST_M,
            .options = {.class_weight = form < 2 ? NULL : s->mean, .label_smoothing = form == 1 ? 0.125 : 0.0},
            .loss = &loss,
            .dz = s->out,
            .dz_stride = ST_M,
            .weight_sum = &weight_sum};
        status = NAME(normcore_cross_entropy_body)(c, &ce);
        if (status) return status;
        digest_doubles(&s->digests[SELFTEST_cross_entropy], 1, &loss);
        digest_reals(&s->digests[SELFTEST_cross_entropy], (ST_N - 3) * ST_M, s->out);
    }

    /* Targets that all of them take, on the rows with NaN and infinities too. */
    for (size_t i = 0; i < ST_SIZE; i++) s->out2[i] = (real)(i % 5) * (real)0.25;
    for (int loss = 1; loss <= NUMERIC_LOSSES; loss++) {
        double losses[ST_N];
        losses_args la = {.which = (normcore_loss)loss,
                          .options = {.reduction = NORMCORE_REDUCTION_NONE},
                          .parameter = 0.75,
                          .rows = {.n = ST_N,
                                   .d = ST_M,
                                   .y = s->a,
                                   .y_stride = ST_M,
                                   .t = s->out2,
                                   .t_stride = ST_M,
                                   .dy = s->out,
                                   .dy_stride = ST_M},
                          .loss = losses};
        status = NAME(normcore_losses_body)(c, &la);
        if (status) return status;
        digest_doubles(&s->digests[SELFTEST_losses], ST_N, losses);
        digest_reals(&s->digests[SELFTEST_losses], ST_SIZE, s->out);
    }

    batch_norm_args bn = {.n = ST_N,
                          .d = ST_M,
                          .x = s->a,
                          .x_stride = ST_M,
                          .dy = s->b,
                          .dy_stride = ST_M,
                          .gamma = s->b + 500,
                          .beta = s->b + 600,
                          .options = training,
                          .out = s->out,
                          .out_stride = ST_M,
                          .mean_out = s->mean,
                          .rstd_out = s->rstd};
    status = NAME(normcore_batch_norm_forward_body)(c, &bn);
    if (status) return status;
    digest_reals(&s->digests[SELFTEST_batch_norm_forward], ST_SIZE, s->out);
    digest_doubles(&s->digests[SELFTEST_batch_norm_forward], ST_M, s->mean);
    digest_doubles(&s->digests[SELFTEST_batch_norm_forward], ST_M, s->rstd);
    bn.mean = s->mean;
    bn.rstd = s->rstd;
    bn.dgamma = s->out2;
    bn.dbeta = s->out3;
    for (int graph = 0; graph < 2; graph++) {
        uint64_t *digest = &s->digests[graph ? SELFTEST_batch_norm_backward_graph : SELFTEST_batch_norm_backward_fused];
        bn.algorithm = graph ? NORMCORE_BATCH_NORM_GRAPH : NORMCORE_BATCH_NORM_FUSED;
        status = NAME(normcore_batch_norm_backward_body)(c, &bn);
        if (status) return status;
        digest_reals(digest, ST_SIZE, s->out);
        digest_reals(digest, ST_M, s->out2);
        digest_reals(digest, ST_M, s->out3);
    }

    kernels->layer_norm_forward(ST_N, ST_M, s->a, ST_M, s->b, s->b + 100, 1e-5, s->out, ST_M, s->mean, s->rstd);
    digest_reals(&s->digests[SELFTEST_layer_norm_forward], ST_SIZE, s->out);
    digest_doubles(&s->digests[SELFTEST_layer_norm_forward], ST_N, s->mean);
    digest_doubles(&s->digests[SELFTEST_layer_norm_forward], ST_N, s->rstd);
    layer_norm_args ln = {.n = ST_N,
                          .d = ST_M,
                          .x = s->a,
                          .x_stride = ST_M,
                          .dy = s->b,
                          .dy_stride = ST_M,
                          .gamma = s->b + 500,
                          .mean = s->mean,
                          .rstd = s->rstd,
                          .out = s->out,
                          .out_stride = ST_M,
                          .dgamma = s->out2,
                          .dbeta = s->out3};
    status = NAME(normcore_layer_norm_backward_body)(c, &ln);
    if (status) return status;
    digest_reals(&s->digests[SELFTEST_layer_norm_backward], ST_SIZE, s->out);
    digest_reals(&s->digests[SELFTEST_layer_norm_backward], ST_M, s->out2);
    digest_reals(&s->digests[SELFTEST_layer_norm_backward], ST_M, s->out3);

    for (int normal = 0; normal < 2; normal++) {
        random_args random = {.seed = 0x0123456789abcdefu,
                              .stream = 42,
                              .offset = 5,
                              .n = ST_SIZE,
                              .a = normal ? 0.5 : -1.0,
                              .b = 2.0,
                              .normal = normal,
                              .out = s->out};
        status = NAME(normcore_random_body)(c, &random);
        if (status) return status;
        digest_reals(&s->digests[SELFTEST_random], ST_SIZE, s->out);
    }
    dropout_args drop = {.n = ST_N,
                         .d = ST_M,
                         .x = s->a,
                         .x_stride = ST_M,
                         .keep = 0.7,
                         .seed = 3,
                         .stream = 4,
                         .offset = 5,
                         .y = s->out,
                         .y_stride = ST_M};
    status = NAME(normcore_dropout_body)(c, &drop);
    if (status) return status;
    digest_reals(&s->digests[SELFTEST_dropout], ST_SIZE, s->out);

    for (int kind = NORMCORE_SGD; kind <= NORMCORE_ADAM; kind++) {
        normcore_optimizer_options options;
        (void)normcore_optimizer_defaults((normcore_optimizer)kind, &options, sizeof options);
        options.learning_rate = 0.1;
        options.l2 = 0.01;
        options.weight_decay = 0.02;
        options.gradient_scale = 0.5;
        selftest_fill(s->out, ST_M, 3, 1.0);
        selftest_fill(s->out2, ST_M, 4, 1.0);
        memset(s->out3, 0, ST_M * sizeof *s->out3);
        memset(s->c, 0, ST_M * sizeof *s->c);
        optimizer_args update = {
            .options = &options, .n = ST_M, .p = s->out, .g = s->out2, .slot1 = s->out3, .slot2 = s->c};
        for (options.step = 1; options.step < 4; options.step++) {
            status = NAME(normcore_optimizer_body)(c, &update);
            if (status) return status;
        }
        digest_reals(&s->digests[SELFTEST_optimizer], ST_M, s->out);
    }
    return NORMCORE_OK;
}

normcore_status NAME(normcore_selftest_digests)(const isa_target *target, uint64_t digests[SELFTEST_COUNT]) {
    const int saved = errno;
    selftest_state *state = malloc(sizeof *state);
    errno = saved;
    if (!state) return NORMCORE_ERROR_MEMORY;
    state->digests = digests;
    const normcore_status status = normcore_call_run_on(target, NULL, selftest_body, state);
    free(state);
    return status;
}
