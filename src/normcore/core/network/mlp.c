/*
 * The multilayer perceptron as a sequence of the operations beside this file. A training step is four calls: forward
 * in training mode, a loss, backward, update; what the first leaves for the third is a normcore_mlp_pass.
 */
#include "network/mlp_shape.h"
#include "ops/ops.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

/* Rows at a time in evaluation: bounds the work memory; rows do not depend on each other. */
enum { EVALUATION_ROWS = 256 };

/* Arrays of one hidden layer, (n, out), and statistics of its norm. Two of which one is not needed again are one. */
typedef struct mlp_activations {
    real *affine;  /* output of the affine map */
    real *normal;  /* of the norm; then, maybe in its place, what the activation's backward pass takes */
    real *active;  /* of the activation */
    real *dropped; /* of dropout: what the next layer reads */
    double *mean, *rstd;
} mlp_activations;

static normcore_status mlp_affine(call *c, const mlp_layer *layer, size_t n, const real *x, size_t x_stride,
                                  const real *params, int relu, real *y, size_t y_stride) {
    affine_forward_args args = {.n = n,
                                .k = layer->in,
                                .m = layer->out,
                                .x = x,
                                .x_stride = x_stride,
                                .w = params + layer->weight,
                                .w_stride = layer->out,
                                .b = params + layer->bias,
                                .relu = relu,
                                .y = y,
                                .y_stride = y_stride};
    return NAME(normcore_affine_forward_body)(c, &args);
}

static normcore_status mlp_norm_forward(call *c, const normcore_mlp *mlp, const mlp_layer *layer, size_t n,
                                        const real *params, real *buffers, int training, const mlp_activations *a) {
    const size_t d = layer->out;
    const real *const gamma = params + layer->gamma, *const beta = params + layer->beta;
    if (mlp->norm == NORMCORE_NORM_LAYER) {
        layer_norm_args args = {.n = n,
                                .d = d,
                                .x = a->affine,
                                .x_stride = d,
                                .gamma = gamma,
                                .beta = beta,
                                .eps = mlp->eps,
                                .out = a->normal,
                                .out_stride = d,
                                .mean_out = a->mean,
                                .rstd_out = a->rstd};
        return NAME(normcore_layer_norm_forward_body)(c, &args);
    }
    batch_norm_args args = {.n = n,
                            .d = d,
                            .x = a->affine,
                            .x_stride = d,
                            .gamma = gamma,
                            .beta = beta,
                            .options = {.training = training,
                                        .momentum = mlp->momentum,
                                        .eps = mlp->eps,
                                        .unbiased_running_var = mlp->unbiased_running_var},
                            .running_mean = buffers ? buffers + layer->running_mean : NULL,
                            .running_var = buffers ? buffers + layer->running_var : NULL,
                            .out = a->normal,
                            .out_stride = d,
                            .mean_out = a->mean,
                            .rstd_out = a->rstd};
    return NAME(normcore_batch_norm_forward_body)(c, &args);
}

static normcore_status mlp_activation(call *c, const normcore_mlp *mlp, rowwise_op op, size_t n, size_t d,
                                      const real *a, const real *y, real *out) {
    rowwise_args args = {.op = op,
                         .activation = mlp->activation->activation,
                         .slope = mlp->activation->slope,
                         .n = n,
                         .d = d,
                         .a = a,
                         .a_stride = d,
                         .y = y,
                         .y_stride = d,
                         .out = out,
                         .out_stride = d};
    return NAME(normcore_rowwise_body)(c, &args);
}

static normcore_status mlp_dropout(call *c, const normcore_mlp *mlp, size_t n, size_t d, uint64_t seed, uint64_t stream,
                                   const real *x, real *y) {
    dropout_args args = {.n = n,
                         .d = d,
                         .x = x,
                         .x_stride = d,
                         .keep = mlp->keep,
                         .seed = seed,
                         .stream = stream,
                         .y = y,
                         .y_stride = d};
    return NAME(normcore_dropout_body)(c, &args);
}

/* Affine map, norm and activation of a hidden layer. buffers: read in evaluation; in training moved, unless NULL. */
static normcore_status mlp_hidden_forward(call *c, const normcore_mlp *mlp, const mlp_layer *layer, size_t n,
                                          const real *x, size_t x_stride, const real *params, real *buffers,
                                          int training, const mlp_activations *a) {
    const int has_norm = mlp->norm != NORMCORE_NORM_NONE;
    const int fused = !has_norm && mlp->activation->activation == NORMCORE_ACTIVATION_RELU;
    normcore_status status = mlp_affine(c, layer, n, x, x_stride, params, fused, a->affine, layer->out);
    if (!status && has_norm) status = mlp_norm_forward(c, mlp, layer, n, params, buffers, training, a);
    if (!status && !fused)
        status = mlp_activation(c, mlp, ROWWISE_ACTIVATION, n, layer->out, a->normal, NULL, a->active);
    return status;
}

/* How many doubles each the mean and rstd of a layer take: one per column or one per row. */
static size_t mlp_statistics_size(const normcore_mlp *mlp, size_t n, size_t width) {
    return mlp->norm == NORMCORE_NORM_BATCH ? width : mlp->norm == NORMCORE_NORM_LAYER ? n : 0;
}

/* Whether no running variance is negative, and eps, which was given before the dtype was known, is one for it. */
static int has_norm_values(const normcore_mlp *mlp, const real *buffers) {
    if (!is_eps(mlp->eps)) return 0;
    for (size_t l = 0; buffers && mlp->buffer_count && l < mlp->num_layers; l++)
        if (mlp->layers[l].hidden &&
            !NAME(normcore_are_variances)(mlp->layers[l].out, buffers + mlp->layers[l].running_var))
            return 0;
    return 1;
}

/* ------------------------------------------------------------------------------------------------ evaluation */

typedef struct mlp_forward_args {
    const normcore_mlp *mlp;
    size_t n;
    const real *x;
    size_t x_stride;
    const real *params;
    real *buffers; /* read only */
    real *y;
    size_t y_stride;
} mlp_forward_args;

static normcore_status mlp_forward_body(call *c, void *arguments) {
    const mlp_forward_args *p = arguments;
    const normcore_mlp *mlp = p->mlp;
    const size_t mark = normcore_call_mark(c), rows = p->n < EVALUATION_ROWS ? p->n : EVALUATION_ROWS;
    if (!p->n) return NORMCORE_OK;
    const size_t width = mlp->widest_hidden, statistics = mlp_statistics_size(mlp, rows, width);
    real *const work = normcore_call_scratch(c, width, 3 * rows * sizeof(real));
    double *const moments = normcore_call_scratch(c, statistics, 2 * sizeof(double));
    if (!work || !moments) return NORMCORE_ERROR_MEMORY;
    for (size_t start = 0; start < p->n; start += rows) {
        const size_t n = p->n - start < rows ? p->n - start : rows;
        const real *x = p->x + start * p->x_stride;
        size_t x_stride = p->x_stride;
        for (size_t l = 0; l < mlp->num_layers; l++) {
            const mlp_layer *layer = &mlp->layers[l];
            /* Neighbouring layers alternate between two thirds of the memory; in the last is what a norm reads. */
            real *const active = work + (l % 2) * rows * width;
            const mlp_activations a = {.affine = mlp->norm == NORMCORE_NORM_NONE ? active : work + 2 * rows * width,
                                       .normal = active,
                                       .active = active,
                                       .dropped = active,
                                       .mean = moments,
                                       .rstd = moments + statistics};
            const normcore_status status =
                layer->hidden
                    ? mlp_hidden_forward(c, mlp, layer, n, x, x_stride, p->params, p->buffers, 0, &a)
                    : mlp_affine(c, layer, n, x, x_stride, p->params, 0, p->y + start * p->y_stride, p->y_stride);
            if (status) return status;
            x = a.active;
            x_stride = layer->out;
        }
    }
    normcore_call_release(c, mark);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_mlp_forward)(normcore_context *ctx, const normcore_mlp *mlp, size_t n, const real *x,
                                           size_t x_stride, const real *params, const real *buffers, real *y,
                                           size_t y_stride) {
    if (!mlp) return NORMCORE_ERROR_NULL;
    const size_t inputs = mlp->layers[0].in, outputs = mlp->layers[mlp->num_layers - 1].out;
    const operand operands[] = {IN_MATRIX(x, n, inputs, x_stride), IN_VECTOR(params, mlp->parameter_count),
                                IN_VECTOR(buffers, mlp->buffer_count), OUT_MATRIX(y, n, outputs, y_stride, 0)};
    normcore_status status = normcore_check_operands(operands, 4);
    if (!status && !has_norm_values(mlp, buffers)) status = NORMCORE_ERROR_VALUE;
    if (status) return status;
    mlp_forward_args args = {.mlp = mlp,
                             .n = n,
                             .x = x,
                             .x_stride = x_stride,
                             .params = params,
                             .buffers = (real *)(uintptr_t)buffers,
                             .y = y,
                             .y_stride = y_stride};
    return normcore_call_run(ctx, mlp_forward_body, &args);
}

/* ------------------------------------------------------------------------------------------------ the pass */

/* Arrays of a hidden layer that are not in each other's place. */
static size_t mlp_values_per_unit(const normcore_mlp *mlp) {
    return 1 + (size_t)(mlp->norm != NORMCORE_NORM_NONE) + (size_t)mlp->keeps_saved;
}

/* Elements of all hidden layers' values, and doubles of their statistics. 0 and *ok = 0 where they do not fit. */
static size_t mlp_pass_values(const normcore_mlp *mlp, size_t n, int *ok) {
    return normcore_check_product(normcore_check_product(mlp->hidden_total, mlp_values_per_unit(mlp), ok), n, ok);
}
static size_t mlp_pass_moments(const normcore_mlp *mlp, size_t n, int *ok) {
    const size_t hidden = mlp->num_layers - 1;
    return normcore_check_product(2,
                                  mlp->norm == NORMCORE_NORM_BATCH   ? mlp->hidden_total
                                  : mlp->norm == NORMCORE_NORM_LAYER ? normcore_check_product(n, hidden, ok)
                                                                     : 0,
                                  ok);
}

/* What the pass holds of one hidden layer. n is the call's own: another thread's call may change that of the pass. */
static mlp_activations mlp_activations_of(const normcore_mlp_pass *pass, size_t n, size_t l) {
    const normcore_mlp *mlp = pass->mlp;
    const mlp_layer *layer = &mlp->layers[l];
    const size_t statistics = mlp_statistics_size(mlp, n, layer->out), size = n * layer->out;
    real *const dropped = (real *)pass->values + n * layer->hidden_before * mlp_values_per_unit(mlp);
    real *const normal = mlp->keeps_saved ? dropped + size : dropped;
    double *const moments =
        pass->moments + 2 * (mlp->norm == NORMCORE_NORM_BATCH ? layer->hidden_before : l * statistics);
    const mlp_activations a = {.affine = mlp->norm == NORMCORE_NORM_NONE ? normal : normal + size,
                               .normal = normal,
                               .active = mlp->activation->takes == INPUT ? dropped : normal,
                               .dropped = dropped,
                               .mean = moments,
                               .rstd = moments + statistics};
    return a;
}

enum { PASS_ALIGNMENT = 64 };

static size_t round_up(size_t bytes, int *ok) {
    if (bytes > SIZE_MAX - PASS_ALIGNMENT) *ok = 0;
    return *ok ? (bytes + PASS_ALIGNMENT - 1) / PASS_ALIGNMENT * PASS_ALIGNMENT : 0;
}

/* Bytes of the struct and of the two arrays behind it, each rounded up. */
static size_t mlp_pass_layout(const normcore_mlp *mlp, size_t rows, size_t *values, size_t *moments) {
    int ok = 1;
    const size_t head = round_up(sizeof(normcore_mlp_pass), &ok);
    *values = round_up(normcore_check_product(mlp_pass_values(mlp, rows, &ok), sizeof(real), &ok), &ok);
    *moments = round_up(normcore_check_product(mlp_pass_moments(mlp, rows, &ok), sizeof(double), &ok), &ok);
    if (!ok || *values > SIZE_MAX - head - PASS_ALIGNMENT || *moments > SIZE_MAX - head - PASS_ALIGNMENT - *values)
        return 0;
    return head + *values + *moments + PASS_ALIGNMENT; /* the memory need not be aligned */
}

size_t NAME(normcore_mlp_pass_size)(const normcore_mlp *mlp, size_t rows) {
    size_t values, moments;
    return mlp ? mlp_pass_layout(mlp, rows, &values, &moments) : 0;
}

/* A pass in memory of any alignment and of the bytes that the layout needs. */
static normcore_mlp_pass *mlp_pass_place(const normcore_mlp *mlp, size_t rows, void *memory, size_t needed,
                                         size_t values, size_t moments) {
    unsigned char *const aligned =
        (unsigned char *)memory + (PASS_ALIGNMENT - (uintptr_t)memory % PASS_ALIGNMENT) % PASS_ALIGNMENT;
    normcore_mlp_pass *const made = (normcore_mlp_pass *)(void *)aligned;
    unsigned char *const arrays = aligned + (needed - PASS_ALIGNMENT - values - moments);
    *made = (normcore_mlp_pass){.mlp = mlp,
                                .element = sizeof(real),
                                .capacity = rows,
                                .bytes = needed - PASS_ALIGNMENT,
                                .values = arrays,
                                .moments = (double *)(void *)(arrays + values)};
    return made;
}

normcore_status NAME(normcore_mlp_pass_init)(const normcore_mlp *mlp, size_t rows, void *memory, size_t size,
                                             normcore_mlp_pass **pass) {
    size_t values, moments;
    if (!pass) return NORMCORE_ERROR_NULL;
    *pass = NULL;
    if (!mlp || !memory) return NORMCORE_ERROR_NULL;
    const size_t needed = mlp_pass_layout(mlp, rows, &values, &moments);
    if (!needed || size < needed) return NORMCORE_ERROR_SIZE;
    *pass = mlp_pass_place(mlp, rows, memory, needed, values, moments);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_mlp_pass_create)(const normcore_mlp *mlp, size_t rows, normcore_mlp_pass **pass) {
    size_t values, moments;
    if (!pass) return NORMCORE_ERROR_NULL;
    *pass = NULL;
    if (!mlp) return NORMCORE_ERROR_NULL;
    const size_t needed = mlp_pass_layout(mlp, rows, &values, &moments);
    if (!needed) return NORMCORE_ERROR_SIZE;
    const int saved = errno;
    void *const memory = malloc(needed);
    errno = saved;
    if (!memory) return NORMCORE_ERROR_MEMORY;
    *pass = mlp_pass_place(mlp, rows, memory, needed, values, moments);
    (*pass)->owned = memory;
    return NORMCORE_OK;
}

/* ------------------------------------------------------------------------------------------------ forward, training */

typedef struct mlp_forward_training_args {
    const normcore_mlp *mlp;
    size_t n;
    const real *x;
    size_t x_stride;
    const real *params;
    real *buffers; /* NULL: the running statistics stay as they are */
    uint64_t seed, stream;
    normcore_mlp_pass *pass;
    real *y;
    size_t y_stride;
} mlp_forward_training_args;

static normcore_status mlp_forward_training_body(call *c, void *arguments) {
    const mlp_forward_training_args *p = arguments;
    const normcore_mlp *mlp = p->mlp;
    const size_t last = mlp->num_layers - 1;
    const real *x = p->x;
    size_t x_stride = p->x_stride;
    p->pass->rows = p->n;
    p->pass->seed = p->seed;
    p->pass->stream = p->stream;
    for (size_t l = 0; l < last; l++) {
        const mlp_layer *layer = &mlp->layers[l];
        const mlp_activations a = mlp_activations_of(p->pass, p->n, l);
        normcore_status status = mlp_hidden_forward(c, mlp, layer, p->n, x, x_stride, p->params, p->buffers, 1, &a);
        if (!status && mlp->keep < 1.0)
            status = mlp_dropout(c, mlp, p->n, layer->out, p->seed, p->stream + l, a.active, a.dropped);
        if (status) return status;
        x = a.dropped;
        x_stride = layer->out;
    }
    return mlp_affine(c, &mlp->layers[last], p->n, x, x_stride, p->params, 0, p->y, p->y_stride);
}

/* Whether the pass belongs to this network and this type of data. */
static int mlp_pass_fits(const normcore_mlp_pass *pass, const normcore_mlp *mlp) {
    return pass->mlp == mlp && pass->element == sizeof(real);
}

normcore_status NAME(normcore_mlp_forward_training)(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                                    const real *x, size_t x_stride, const real *params, real *buffers,
                                                    uint64_t seed, uint64_t stream, normcore_mlp_pass *pass, real *y,
                                                    size_t y_stride) {
    if (!mlp || !pass) return NORMCORE_ERROR_NULL;
    if (!mlp_pass_fits(pass, mlp)) return NORMCORE_ERROR_VALUE;
    if (n > pass->capacity) return NORMCORE_ERROR_SIZE;
    const size_t inputs = mlp->layers[0].in, outputs = mlp->layers[mlp->num_layers - 1].out;
    unsigned char *const tape = (unsigned char *)pass;
    const operand operands[] = {IN_MATRIX(x, n, inputs, x_stride), IN_VECTOR(params, mlp->parameter_count),
                                OUT_OPTIONAL_VECTOR(buffers, mlp->buffer_count), OUT_VECTOR(tape, pass->bytes),
                                OUT_MATRIX(y, n, outputs, y_stride, 0)};
    normcore_status status = normcore_check_operands(operands, 5);
    if (!status && !has_norm_values(mlp, buffers)) status = NORMCORE_ERROR_VALUE;
    if (status) return status;
    mlp_forward_training_args args = {.mlp = mlp,
                                      .n = n,
                                      .x = x,
                                      .x_stride = x_stride,
                                      .params = params,
                                      .buffers = buffers,
                                      .seed = seed,
                                      .stream = stream,
                                      .pass = pass,
                                      .y = y,
                                      .y_stride = y_stride};
    pass->filled = 0;
    status = normcore_call_run(ctx, mlp_forward_training_body, &args);
    pass->filled = status == NORMCORE_OK;
    return status;
}

/* ------------------------------------------------------------------------------------------------ backward */

typedef struct mlp_backward_args {
    const normcore_mlp_pass *pass;
    size_t n;
    const real *x;
    size_t x_stride;
    const real *params;
    const real *dy;
    size_t dy_stride;
    real *grads;
    real *dx; /* or NULL */
    size_t dx_stride;
} mlp_backward_args;

static normcore_status mlp_norm_backward(call *c, const mlp_backward_args *p, const mlp_layer *layer,
                                         const mlp_activations *a, real *gradient) {
    const normcore_mlp *mlp = p->pass->mlp;
    const size_t n = p->n, d = layer->out;
    const real *const gamma = p->params + layer->gamma;
    real *const dgamma = p->grads + layer->gamma, *const dbeta = p->grads + layer->beta;
    if (mlp->norm == NORMCORE_NORM_LAYER) {
        layer_norm_args args = {.n = n,
                                .d = d,
                                .x = a->affine,
                                .x_stride = d,
                                .dy = gradient,
                                .dy_stride = d,
                                .gamma = gamma,
                                .mean = a->mean,
                                .rstd = a->rstd,
                                .out = gradient,
                                .out_stride = d,
                                .dgamma = dgamma,
                                .dbeta = dbeta};
        return NAME(normcore_layer_norm_backward_body)(c, &args);
    }
    batch_norm_args args = {.n = n,
                            .d = d,
                            .x = a->affine,
                            .x_stride = d,
                            .dy = gradient,
                            .dy_stride = d,
                            .gamma = gamma,
                            .options = {.training = 1},
                            .algorithm = NORMCORE_BATCH_NORM_FUSED,
                            .mean = a->mean,
                            .rstd = a->rstd,
                            .out = gradient,
                            .out_stride = d,
                            .dgamma = dgamma,
                            .dbeta = dbeta};
    return NAME(normcore_batch_norm_backward_body)(c, &args);
}

/* Through dropout, whose mask is drawn again, activation and norm of hidden layer l, in place. */
static normcore_status mlp_hidden_backward(call *c, const mlp_backward_args *p, size_t l, real *gradient) {
    const normcore_mlp_pass *pass = p->pass;
    const normcore_mlp *mlp = pass->mlp;
    const mlp_layer *layer = &mlp->layers[l];
    const mlp_activations a = mlp_activations_of(pass, p->n, l);
    normcore_status status = NORMCORE_OK;
    if (mlp->keep < 1.0)
        status = mlp_dropout(c, mlp, p->n, layer->out, pass->seed, pass->stream + l, gradient, gradient);
    if (!status)
        status = mlp_activation(c, mlp, ROWWISE_ACTIVATION_BACKWARD, p->n, layer->out, gradient, a.normal, gradient);
    if (!status && mlp->norm != NORMCORE_NORM_NONE) status = mlp_norm_backward(c, p, layer, &a, gradient);
    return status;
}

static normcore_status mlp_backward_body(call *c, void *arguments) {
    const mlp_backward_args *p = arguments;
    const normcore_mlp_pass *pass = p->pass;
    const normcore_mlp *mlp = pass->mlp;
    const size_t n = p->n, mark = normcore_call_mark(c);
    int ok = 1;
    const size_t widest = normcore_check_product(mlp->widest_hidden, n, &ok);
    if (!ok) return NORMCORE_ERROR_SIZE;
    /* The gradient flows through two buffers, each as wide as the widest hidden layer. */
    real *below = normcore_call_scratch(c, widest, sizeof(real));
    real *spare = normcore_call_scratch(c, widest, sizeof(real));
    if (!below || !spare) return NORMCORE_ERROR_MEMORY;
    const real *dy = p->dy; /* of the affine map of layer l */
    size_t dy_stride = p->dy_stride;
    for (size_t l = mlp->num_layers; l-- > 0;) {
        const mlp_layer *layer = &mlp->layers[l];
        affine_backward_args args = {.n = n,
                                     .k = layer->in,
                                     .m = layer->out,
                                     .dy = dy,
                                     .dy_stride = dy_stride,
                                     .x = l ? mlp_activations_of(pass, n, l - 1).dropped : p->x,
                                     .x_stride = l ? layer->in : p->x_stride,
                                     .w = p->params + layer->weight,
                                     .w_stride = layer->out,
                                     .dx = l ? below : p->dx,
                                     .dx_stride = l ? layer->in : p->dx_stride,
                                     .dw = p->grads + layer->weight,
                                     .dw_stride = layer->out,
                                     .db = p->grads + layer->bias};
        normcore_status status = NAME(normcore_affine_backward_body)(c, &args);
        if (!status && l) status = mlp_hidden_backward(c, p, l - 1, below);
        if (status) return status;
        dy = below;
        dy_stride = layer->in;
        below = spare;
        spare = (real *)(uintptr_t)dy;
    }
    normcore_call_release(c, mark);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_mlp_backward)(normcore_context *ctx, const normcore_mlp *mlp, size_t n, const real *x,
                                            size_t x_stride, const real *params, const normcore_mlp_pass *pass,
                                            const real *dy, size_t dy_stride, real *grads, real *dx, size_t dx_stride) {
    if (!mlp || !pass) return NORMCORE_ERROR_NULL;
    if (!mlp_pass_fits(pass, mlp) || !pass->filled) return NORMCORE_ERROR_VALUE;
    if (n != pass->rows) return NORMCORE_ERROR_SIZE;
    const size_t inputs = mlp->layers[0].in, outputs = mlp->layers[mlp->num_layers - 1].out;
    const unsigned char *const tape = (const unsigned char *)pass;
    const operand operands[] = {IN_MATRIX(x, n, inputs, x_stride),
                                IN_VECTOR(params, mlp->parameter_count),
                                IN_VECTOR(tape, pass->bytes),
                                IN_MATRIX(dy, n, outputs, dy_stride),
                                OUT_VECTOR(grads, mlp->parameter_count),
                                OUT_OPTIONAL_MATRIX(dx, n, inputs, dx_stride, 0)};
    const normcore_status status = normcore_check_operands(operands, 6);
    if (status) return status;
    mlp_backward_args args = {.pass = pass,
                              .n = n,
                              .x = x,
                              .x_stride = x_stride,
                              .params = params,
                              .dy = dy,
                              .dy_stride = dy_stride,
                              .grads = grads,
                              .dx = dx,
                              .dx_stride = dx_stride};
    return normcore_call_run(ctx, mlp_backward_body, &args);
}

/* ------------------------------------------------------------------------------------------------ all in one */

typedef struct mlp_loss_args {
    mlp_forward_training_args forward; /* pass, y and y_stride are set in the call */
    normcore_loss which;
    union { /* the loss; outputs and their gradients are set in the call */
        cross_entropy_args cross_entropy;
        losses_args numeric;
    } loss;
    mlp_backward_args backward;
} mlp_loss_args;

/* The loss of the outputs y, their gradients in its place. */
static normcore_status mlp_loss_of(call *c, mlp_loss_args *p, real *y, size_t y_stride) {
    if (p->which == NORMCORE_LOSS_CROSS_ENTROPY) {
        p->loss.cross_entropy.z = p->loss.cross_entropy.dz = y;
        p->loss.cross_entropy.z_stride = p->loss.cross_entropy.dz_stride = y_stride;
        return NAME(normcore_cross_entropy_body)(c, &p->loss.cross_entropy);
    }
    p->loss.numeric.rows.y = p->loss.numeric.rows.dy = y;
    p->loss.numeric.rows.y_stride = p->loss.numeric.rows.dy_stride = y_stride;
    return NAME(normcore_losses_body)(c, &p->loss.numeric);
}

/* Forward, loss, backward, over a pass in the call's own work memory. */
static normcore_status mlp_loss_body(call *c, void *arguments) {
    mlp_loss_args *p = arguments;
    const normcore_mlp *mlp = p->forward.mlp;
    const size_t n = p->forward.n, outputs = mlp->layers[mlp->num_layers - 1].out;
    int ok = 1;
    const size_t values = mlp_pass_values(mlp, n, &ok), moments = mlp_pass_moments(mlp, n, &ok);
    if (!ok) return NORMCORE_ERROR_SIZE;
    normcore_mlp_pass pass = {.mlp = mlp, .element = sizeof(real), .capacity = n};
    pass.values = normcore_call_scratch(c, values, sizeof(real));
    pass.moments = normcore_call_scratch(c, moments, sizeof(double));
    real *const y = normcore_call_scratch(c, n, outputs * sizeof(real)); /* the outputs, then their gradients */
    if (!pass.values || !pass.moments || !y) return NORMCORE_ERROR_MEMORY;
    p->forward.pass = &pass;
    p->forward.y = y;
    p->backward.pass = &pass;
    p->backward.dy = y;
    p->forward.y_stride = p->backward.dy_stride = outputs;
    normcore_status status = mlp_forward_training_body(c, &p->forward);
    if (!status) status = mlp_loss_of(c, p, y, outputs);
    if (!status) status = mlp_backward_body(c, &p->backward);
    return status;
}

/* What a loss is of, and what its options say that is checked alike for all losses. */
typedef struct mlp_goal {
    const int64_t *labels;
    const real *targets;
    size_t targets_stride;
    double *loss, *weight_sum;
    const double *class_weight, *sample_weight;
    normcore_reduction reduction;
} mlp_goal;

/* Which loss it is, and its options. */
static normcore_status mlp_loss_read(const normcore_mlp_loss_options *options, mlp_loss_args *p, mlp_goal *goal) {
    const size_t n = p->forward.n, outputs = p->forward.mlp->layers[p->forward.mlp->num_layers - 1].out;
    normcore_mlp_loss_options which;
    normcore_status status =
        options ? normcore_options_read_mlp_loss(options, &which) : normcore_mlp_loss_defaults(&which, sizeof which);
    if (status) return status;
    p->which = which.loss;
    if ((unsigned)which.loss > NUMERIC_LOSSES) return NORMCORE_ERROR_VALUE;
    if (which.loss == NORMCORE_LOSS_CROSS_ENTROPY) {
        cross_entropy_args *const l = &p->loss.cross_entropy;
        if (which.numeric) return NORMCORE_ERROR_VALUE;
        if (!goal->labels == !goal->targets) return NORMCORE_ERROR_NULL;
        *l = (cross_entropy_args){.n = n,
                                  .c = outputs,
                                  .labels = goal->labels,
                                  .targets = goal->targets,
                                  .targets_stride = goal->targets_stride,
                                  .loss = goal->loss,
                                  .weight_sum = goal->weight_sum};
        status = read_cross_entropy_options(which.cross_entropy, &l->options);
        goal->class_weight = l->options.class_weight;
        goal->sample_weight = l->options.sample_weight;
        goal->reduction = l->options.reduction;
    } else {
        losses_args *const l = &p->loss.numeric;
        if (which.cross_entropy || goal->labels) return NORMCORE_ERROR_VALUE;
        if (!goal->targets) return NORMCORE_ERROR_NULL;
        *l = (losses_args){.which = which.loss,
                           .rows = {.n = n, .d = outputs, .t = goal->targets, .t_stride = goal->targets_stride},
                           .loss = goal->loss,
                           .weight_sum = goal->weight_sum};
        status = read_loss_options(which.numeric, &l->options);
        goal->sample_weight = l->options.sample_weight;
        goal->reduction = l->options.reduction;
    }
    return status;
}

/* Out of line, so that the stack of the call proper does not hold the operands too. */
NORMCORE_NOINLINE normcore_status check_mlp_loss(const normcore_mlp_loss_options *options, mlp_loss_args *p,
                                                 mlp_goal goal, size_t *bad_row) {
    const mlp_forward_training_args *f = &p->forward;
    const size_t outputs = f->mlp->layers[f->mlp->num_layers - 1].out;
    normcore_status status = mlp_loss_read(options, p, &goal);
    if (status) return status;
    const operand operands[] = {IN_MATRIX(f->x, f->n, f->mlp->layers[0].in, f->x_stride),
                                IN_OPTIONAL_VECTOR(goal.labels, f->n),
                                IN_OPTIONAL_MATRIX(goal.targets, f->n, outputs, goal.targets_stride),
                                IN_OPTIONAL_VECTOR(goal.class_weight, outputs),
                                IN_OPTIONAL_VECTOR(goal.sample_weight, f->n),
                                IN_VECTOR(f->params, f->mlp->parameter_count),
                                OUT_OPTIONAL_VECTOR(f->buffers, f->mlp->buffer_count),
                                OUT_VECTOR(p->backward.grads, f->mlp->parameter_count),
                                OUT_VECTOR(goal.loss, 1),
                                OUT_OPTIONAL_VECTOR(goal.weight_sum, 1)};
    status = normcore_check_operands(operands, 10);
    if (status) return status;
    if (goal.reduction == NORMCORE_REDUCTION_NONE || !has_norm_values(f->mlp, f->buffers)) return NORMCORE_ERROR_VALUE;
    if (p->which != NORMCORE_LOSS_CROSS_ENTROPY) return NAME(normcore_check_losses)(&p->loss.numeric, bad_row);
    return NAME(normcore_check_cross_entropy)(f->n, outputs, goal.labels, goal.targets != NULL,
                                              &p->loss.cross_entropy.options, bad_row);
}

normcore_status NAME(normcore_mlp_loss_and_grads)(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                                  const real *x, size_t x_stride, const int64_t *labels,
                                                  const real *targets, size_t targets_stride,
                                                  const normcore_mlp_loss_options *options, uint64_t seed,
                                                  uint64_t stream, const real *params, real *buffers, real *grads,
                                                  double *loss, double *weight_sum, size_t *bad_row) {
    if (!mlp) return NORMCORE_ERROR_NULL;
    if (!n) return NORMCORE_ERROR_SIZE;
    mlp_loss_args args = {.forward = {.mlp = mlp,
                                      .n = n,
                                      .x = x,
                                      .x_stride = x_stride,
                                      .params = params,
                                      .buffers = buffers,
                                      .seed = seed,
                                      .stream = stream},
                          .backward = {.n = n, .x = x, .x_stride = x_stride, .params = params, .grads = grads}};
    const mlp_goal goal = {
        .labels = labels, .targets = targets, .targets_stride = targets_stride, .loss = loss, .weight_sum = weight_sum};
    const normcore_status status = check_mlp_loss(options, &args, goal, bad_row);
    return status ? status : normcore_call_run(ctx, mlp_loss_body, &args);
}

/* ------------------------------------------------------------------------------------------------ initialisation */

typedef struct mlp_initialize_args {
    const normcore_mlp *mlp;
    uint64_t seed, stream;
    double weight_scale; /* negative: by the activation */
    real *params, *buffers;
} mlp_initialize_args;

static void fill(real *values, size_t count, real value) {
    for (size_t i = 0; i < count; i++) values[i] = value;
}

static normcore_status mlp_initialize_body(call *c, void *arguments) {
    const mlp_initialize_args *p = arguments;
    const normcore_mlp *mlp = p->mlp;
    for (size_t l = 0; l < mlp->num_layers; l++) {
        const mlp_layer *layer = &mlp->layers[l];
        const size_t fan = mlp->activation->weights == GLOROT ? layer->in + layer->out : layer->in;
        random_args weights = {.seed = p->seed,
                               .stream = p->stream + l,
                               .n = layer->in * layer->out,
                               .b = p->weight_scale >= 0.0 ? p->weight_scale : sqrt(2.0 / (double)fan),
                               .normal = 1,
                               .out = p->params + layer->weight};
        const normcore_status status = NAME(normcore_random_body)(c, &weights);
        if (status) return status;
        fill(p->params + layer->bias, layer->out, (real)0);
        if (layer->hidden && mlp->norm != NORMCORE_NORM_NONE) {
            fill(p->params + layer->gamma, layer->out, (real)1);
            fill(p->params + layer->beta, layer->out, (real)0);
        }
        if (layer->hidden && mlp->norm == NORMCORE_NORM_BATCH) {
            fill(p->buffers + layer->running_mean, layer->out, (real)0);
            fill(p->buffers + layer->running_var, layer->out, (real)1);
        }
    }
    return NORMCORE_OK;
}

normcore_status NAME(normcore_mlp_initialize)(normcore_context *ctx, const normcore_mlp *mlp, uint64_t seed,
                                              uint64_t stream, double weight_scale, real *params, real *buffers) {
    if (!mlp) return NORMCORE_ERROR_NULL;
    if (!normcore_check_at_least(weight_scale, -DBL_MAX)) return NORMCORE_ERROR_VALUE;
    if (weight_scale >= 0.0 && !is_normal_range(0.0, weight_scale)) return NORMCORE_ERROR_VALUE;
    const operand operands[] = {OUT_VECTOR(params, mlp->parameter_count), OUT_VECTOR(buffers, mlp->buffer_count)};
    const normcore_status status = normcore_check_operands(operands, 2);
    if (status) return status;
    mlp_initialize_args args = {
        .mlp = mlp, .seed = seed, .stream = stream, .weight_scale = weight_scale, .params = params, .buffers = buffers};
    return normcore_call_run(ctx, mlp_initialize_body, &args);
}
