/*
 * The multilayer perceptron as a sequence of the operations beside this file, over work memory taken once a call:
 * for each hidden layer its affine output (needed by the norm's backward pass) and its activation, both (n, out).
 */

/* Rows at a time in evaluation: bounds the work memory; rows do not depend on each other. */
enum { EVALUATION_ROWS = 256 };

typedef struct mlp_args {
    const normcore_mlp *mlp;
    size_t n;
    const real *x;
    size_t x_stride;
    const int64_t *labels;
    const real *targets;
    size_t targets_stride;
    normcore_cross_entropy_options options;
    uint64_t seed, stream;
    const real *params;
    real *buffers; /* const in evaluation */
    real *grads;
    real *logits;
    size_t logits_stride;
    double *loss, *weight_sum;
} mlp_args;

/* Work memory of one hidden layer. */
typedef struct mlp_activations {
    real *affine;     /* output of the affine map, where a norm follows; else the activation itself */
    real *activation; /* after norm, ReLU and dropout */
    double *mean, *rstd;
} mlp_activations;

static normcore_status mlp_affine(call *c, const mlp_layer *layer, size_t n, const real *x, size_t x_stride,
                                  const real *params, int relu, real *y, size_t y_stride) {
    affine_forward_args args = {
        n,    layer->in, layer->out, x, x_stride, params + layer->weight, layer->out, params + layer->bias,
        relu, y,         y_stride};
    return affine_forward_body(c, &args);
}

static normcore_status mlp_norm_forward(call *c, const mlp_args *p, const mlp_layer *layer, size_t n, int training,
                                        const mlp_activations *a) {
    const normcore_mlp *mlp = p->mlp;
    if (mlp->norm == NORMCORE_NORM_LAYER) {
        layer_norm_args args = {0};
        args.n = n;
        args.d = layer->out;
        args.x = a->affine;
        args.gamma = p->params + layer->gamma;
        args.beta = p->params + layer->beta;
        args.eps = mlp->eps;
        args.out = a->activation;
        args.x_stride = args.out_stride = layer->out;
        args.mean_out = a->mean;
        args.rstd_out = a->rstd;
        return layer_norm_forward_body(c, &args);
    }
    batch_norm_args args = {0};
    args.n = n;
    args.d = layer->out;
    args.x = a->affine;
    args.gamma = p->params + layer->gamma;
    args.beta = p->params + layer->beta;
    (void)normcore_batch_norm_defaults(&args.options, sizeof args.options);
    args.options.training = training;
    args.options.eps = mlp->eps;
    args.options.momentum = mlp->momentum;
    args.options.unbiased_running_var = mlp->unbiased_running_var;
    args.running_mean = p->buffers + layer->running_mean;
    args.running_var = p->buffers + layer->running_var;
    args.out = a->activation;
    args.x_stride = args.out_stride = layer->out;
    args.mean_out = a->mean;
    args.rstd_out = a->rstd;
    return batch_norm_forward_body(c, &args);
}

static normcore_status mlp_rowwise(call *c, rowwise_op op, size_t n, size_t d, const real *a, const real *y,
                                   real *out) {
    rowwise_args args = {op, n, d, a, d, y, d, out, d, NULL, 0};
    return rowwise_body(c, &args);
}

static normcore_status mlp_dropout(call *c, const mlp_args *p, size_t layer, size_t d, real *values) {
    dropout_args args = {p->n, d, values, d, p->mlp->keep, p->seed, p->stream + layer, 0, values, d, 0, NULL};
    return dropout_body(c, &args);
}

/* Affine map, norm and ReLU of a hidden layer. */
static normcore_status mlp_hidden_forward(call *c, const mlp_args *p, const mlp_layer *layer, size_t n, const real *x,
                                          size_t x_stride, int training, const mlp_activations *a) {
    if (p->mlp->norm == NORMCORE_NORM_NONE)
        return mlp_affine(c, layer, n, x, x_stride, p->params, 1, a->activation, layer->out);
    normcore_status status = mlp_affine(c, layer, n, x, x_stride, p->params, 0, a->affine, layer->out);
    if (!status) status = mlp_norm_forward(c, p, layer, n, training, a);
    if (!status) status = mlp_rowwise(c, ROWWISE_RELU, n, layer->out, a->activation, NULL, a->activation);
    return status;
}

/* Doubles each for mean and rstd of a layer: one a column or one a row. */
static size_t mlp_statistics_size(const normcore_mlp *mlp, size_t n, size_t width) {
    return mlp->norm == NORMCORE_NORM_BATCH ? width : mlp->norm == NORMCORE_NORM_LAYER ? n : 0;
}

/* Whether no running variance is negative. */
static int are_buffers(const normcore_mlp *mlp, const real *buffers) {
    for (size_t l = 0; mlp->buffer_count && l < mlp->num_layers; l++)
        if (mlp->layers[l].hidden && !are_variances(mlp->layers[l].out, buffers + mlp->layers[l].running_var)) return 0;
    return 1;
}

/* ------------------------------------------------------------------------------------------------ evaluation */

static normcore_status mlp_forward_body(call *c, void *arguments) {
    const mlp_args *p = arguments;
    const normcore_mlp *mlp = p->mlp;
    const size_t mark = normcore_call_mark(c), rows = p->n < EVALUATION_ROWS ? p->n : EVALUATION_ROWS;
    if (!p->n) return NORMCORE_OK;
    const size_t statistics = mlp_statistics_size(mlp, rows, mlp->widest);
    real *const work = normcore_call_scratch(c, mlp->widest, 3 * rows * sizeof(real));
    double *const moments = normcore_call_scratch(c, statistics, 2 * sizeof(double));
    if (!work || !moments) return NORMCORE_ERROR_MEMORY;
    for (size_t start = 0; start < p->n; start += rows) {
        const size_t n = p->n - start < rows ? p->n - start : rows;
        const real *x = p->x + start * p->x_stride;
        size_t x_stride = p->x_stride;
        real *const logits = p->logits + start * p->logits_stride;
        for (size_t l = 0; l < mlp->num_layers; l++) {
            const mlp_layer *layer = &mlp->layers[l];
            /*
             * Activations of neighbouring layers alternate between two thirds of the memory; the last holds affine
             * outputs.
             */
            const mlp_activations a = {work + 2 * rows * mlp->widest, work + (l % 2) * rows * mlp->widest, moments,
                                       moments + statistics};
            const normcore_status status =
                layer->hidden ? mlp_hidden_forward(c, p, layer, n, x, x_stride, 0, &a)
                              : mlp_affine(c, layer, n, x, x_stride, p->params, 0, logits, p->logits_stride);
            if (status) return status;
            x = a.activation;
            x_stride = layer->out;
        }
    }
    normcore_call_release(c, mark);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_mlp_forward)(normcore_context *ctx, const normcore_mlp *mlp, size_t n, const real *x,
                                           size_t x_stride, const real *params, const real *buffers, real *logits,
                                           size_t logits_stride) {
    if (!mlp) return NORMCORE_ERROR_NULL;
    const size_t inputs = mlp->layers[0].in, outputs = mlp->layers[mlp->num_layers - 1].out;
    const operand operands[] = {IN_MATRIX(x, n, inputs, x_stride), IN_VECTOR(params, mlp->parameter_count),
                                IN_VECTOR(buffers, mlp->buffer_count),
                                OUT_MATRIX(logits, n, outputs, logits_stride, 0)};
    normcore_status status = normcore_check_operands(operands, 4);
    if (!status && !are_buffers(mlp, buffers)) status = NORMCORE_ERROR_VALUE;
    if (status) return status;
    mlp_args args = {0};
    args.mlp = mlp;
    args.n = n;
    args.x = x;
    args.x_stride = x_stride;
    args.params = params;
    args.buffers = (real *)(uintptr_t)buffers; /* evaluation reads them only */
    args.logits = logits;
    args.logits_stride = logits_stride;
    return normcore_call_run(ctx, mlp_forward_body, &args);
}

/* ------------------------------------------------------------------------------------------------ training */

/* Work memory of all hidden layers, carved from two blocks. */
static mlp_activations mlp_activations_of(const normcore_mlp *mlp, size_t n, size_t layer, real *work,
                                          double *moments) {
    mlp_activations a = {NULL, NULL, NULL, NULL};
    const int has_norm = mlp->norm != NORMCORE_NORM_NONE;
    for (size_t l = 0; l <= layer; l++) {
        const size_t width = mlp->layers[l].out, statistics = mlp_statistics_size(mlp, n, width);
        a.activation = work;
        work += n * width;
        a.affine = has_norm ? work : a.activation;
        if (has_norm) work += n * width;
        a.mean = moments;
        a.rstd = moments + statistics;
        moments += 2 * statistics;
    }
    return a;
}

static normcore_status mlp_norm_backward(call *c, const mlp_args *p, const mlp_layer *layer, const mlp_activations *a,
                                         real *gradient) {
    real *const dgamma = p->grads + layer->gamma, *const dbeta = p->grads + layer->beta;
    if (p->mlp->norm == NORMCORE_NORM_LAYER) {
        layer_norm_args args = {0};
        args.n = p->n;
        args.d = layer->out;
        args.x = a->affine;
        args.dy = args.out = gradient;
        args.x_stride = args.dy_stride = args.out_stride = layer->out;
        args.gamma = p->params + layer->gamma;
        args.mean = a->mean;
        args.rstd = a->rstd;
        args.out = gradient;
        args.dgamma = dgamma;
        args.dbeta = dbeta;
        return layer_norm_backward_body(c, &args);
    }
    batch_norm_args args = {0};
    args.n = p->n;
    args.d = layer->out;
    args.x = a->affine;
    args.dy = gradient;
    args.x_stride = args.dy_stride = args.out_stride = layer->out;
    args.gamma = p->params + layer->gamma;
    args.mean = a->mean;
    args.rstd = a->rstd;
    args.options.training = 1;
    args.algorithm = NORMCORE_BATCH_NORM_FUSED;
    args.out = gradient;
    args.dgamma = dgamma;
    args.dbeta = dbeta;
    return batch_norm_backward_body(c, &args);
}

static normcore_status mlp_training_body(call *c, void *arguments) {
    const mlp_args *p = arguments;
    const normcore_mlp *mlp = p->mlp;
    const size_t n = p->n, last = mlp->num_layers - 1, outputs = mlp->layers[last].out;
    const size_t per_width = mlp->norm == NORMCORE_NORM_NONE ? 1 : 2;
    int ok = 1;
    const size_t activations =
        normcore_check_product(normcore_check_product(mlp->hidden_total, per_width, &ok), n, &ok);
    const size_t moments_size = mlp->norm == NORMCORE_NORM_BATCH   ? mlp->hidden_total
                                : mlp->norm == NORMCORE_NORM_LAYER ? normcore_check_product(n, last, &ok)
                                                                   : 0;
    const size_t widest = normcore_check_product(mlp->widest, n, &ok);
    if (!ok) return NORMCORE_ERROR_SIZE;
    real *const work = normcore_call_scratch(c, activations, sizeof(real));
    double *const moments = normcore_call_scratch(c, moments_size, 2 * sizeof(double));
    real *const logits = normcore_call_scratch(c, n, outputs * sizeof(real));
    /* The gradient flows through two buffers, each as wide as the widest layer. */
    real *gradient = normcore_call_scratch(c, widest, sizeof(real));
    real *below = normcore_call_scratch(c, widest, sizeof(real));
    if (!work || !moments || !logits || !gradient || !below) return NORMCORE_ERROR_MEMORY;

    normcore_status status = NORMCORE_OK;
    const real *x = p->x;
    size_t x_stride = p->x_stride;
    for (size_t l = 0; l < last && !status; l++) {
        const mlp_layer *layer = &mlp->layers[l];
        const mlp_activations a = mlp_activations_of(mlp, n, l, work, moments);
        status = mlp_hidden_forward(c, p, layer, n, x, x_stride, 1, &a);
        if (!status && mlp->keep < 1.0) status = mlp_dropout(c, p, l, layer->out, a.activation);
        x = a.activation;
        x_stride = layer->out;
    }
    if (!status) status = mlp_affine(c, &mlp->layers[last], n, x, x_stride, p->params, 0, logits, outputs);
    if (!status) {
        cross_entropy_args args = {n,          outputs, logits,   outputs, p->labels,     p->targets, p->targets_stride,
                                   p->options, p->loss, gradient, outputs, p->weight_sum, NULL,       0.0,
                                   {0.0, 0.0}, NULL,    NULL,     0};
        status = cross_entropy_body(c, &args);
    }
    for (size_t l = last + 1; l-- > 0 && !status;) {
        const mlp_layer *layer = &mlp->layers[l];
        if (layer->hidden) {
            const mlp_activations a = mlp_activations_of(mlp, n, l, work, moments);
            /*
             * A dropped or negative unit has activation 0, so that ReLU's mask covers both; then the factor of what
             * was kept.
             */
            if (mlp->keep < 1.0) status = mlp_dropout(c, p, l, layer->out, gradient);
            if (!status)
                status = mlp_rowwise(c, ROWWISE_RELU_BACKWARD, n, layer->out, gradient, a.activation, gradient);
            if (!status && mlp->norm != NORMCORE_NORM_NONE) status = mlp_norm_backward(c, p, layer, &a, gradient);
            if (status) break;
        }
        const real *const input = l ? mlp_activations_of(mlp, n, l - 1, work, moments).activation : p->x;
        affine_backward_args args = {n,
                                     layer->in,
                                     layer->out,
                                     gradient,
                                     layer->out,
                                     input,
                                     l ? layer->in : p->x_stride,
                                     p->params + layer->weight,
                                     layer->out,
                                     l ? below : NULL,
                                     layer->in, /* nobody needs the gradient of the data */
                                     p->grads + layer->weight,
                                     layer->out,
                                     p->grads + layer->bias};
        status = affine_backward_body(c, &args);
        real *const swap = gradient;
        gradient = below;
        below = swap;
    }
    return status;
}

normcore_status NAME(normcore_mlp_loss_and_grads)(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                                  const real *x, size_t x_stride, const int64_t *labels,
                                                  const real *targets, size_t targets_stride,
                                                  const normcore_cross_entropy_options *options, uint64_t seed,
                                                  uint64_t stream, const real *params, real *buffers, real *grads,
                                                  double *loss, double *weight_sum, size_t *bad_row) {
    if (!mlp) return NORMCORE_ERROR_NULL;
    if (!n) return NORMCORE_ERROR_SIZE;
    if (!labels == !targets) return NORMCORE_ERROR_NULL;
    normcore_cross_entropy_options o;
    normcore_status status = read_cross_entropy_options(options, &o);
    if (status) return status;
    const size_t inputs = mlp->layers[0].in, outputs = mlp->layers[mlp->num_layers - 1].out;
    const operand operands[] = {IN_MATRIX(x, n, inputs, x_stride),
                                IN_OPTIONAL_VECTOR(labels, n),
                                IN_OPTIONAL_MATRIX(targets, n, outputs, targets_stride),
                                IN_OPTIONAL_VECTOR(o.class_weight, outputs),
                                IN_OPTIONAL_VECTOR(o.sample_weight, n),
                                IN_VECTOR(params, mlp->parameter_count),
                                OUT_VECTOR(buffers, mlp->buffer_count),
                                OUT_VECTOR(grads, mlp->parameter_count),
                                OUT_VECTOR(loss, 1),
                                OUT_OPTIONAL_VECTOR(weight_sum, 1)};
    status = normcore_check_operands(operands, 10);
    if (!status && (o.reduction == NORMCORE_REDUCTION_NONE || !are_buffers(mlp, buffers)))
        status = NORMCORE_ERROR_VALUE;
    if (!status) status = check_cross_entropy_values(n, outputs, labels, targets != NULL, &o, bad_row);
    if (status) return status;
    mlp_args args = {0};
    args.mlp = mlp;
    args.n = n;
    args.x = x;
    args.x_stride = x_stride;
    args.labels = labels;
    args.targets = targets;
    args.targets_stride = targets_stride;
    args.options = o;
    args.seed = seed;
    args.stream = stream;
    args.params = params;
    args.buffers = buffers;
    args.grads = grads;
    args.loss = loss;
    args.weight_sum = weight_sum;
    return normcore_call_run(ctx, mlp_training_body, &args);
}

/* ------------------------------------------------------------------------------------------------ initialisation */

static normcore_status mlp_initialize_body(call *c, void *arguments) {
    const mlp_args *p = arguments;
    const normcore_mlp *mlp = p->mlp;
    for (size_t l = 0; l < mlp->num_layers; l++) {
        const mlp_layer *layer = &mlp->layers[l];
        const double scale = *p->loss >= 0.0 ? *p->loss : sqrt(2.0 / (double)layer->in);
        random_args weights = {
            p->seed, p->stream + l, 0, layer->in * layer->out, 0.0, scale, 1, p->grads + layer->weight, 0, NULL};
        const normcore_status status = random_body(c, &weights);
        if (status) return status;
        for (size_t j = 0; j < layer->out; j++) {
            p->grads[layer->bias + j] = (real)0;
            if (layer->hidden && mlp->norm != NORMCORE_NORM_NONE) {
                p->grads[layer->gamma + j] = (real)1;
                p->grads[layer->beta + j] = (real)0;
            }
            if (layer->hidden && mlp->norm == NORMCORE_NORM_BATCH) {
                p->buffers[layer->running_mean + j] = (real)0;
                p->buffers[layer->running_var + j] = (real)1;
            }
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
    mlp_args args = {0};
    args.mlp = mlp;
    args.seed = seed;
    args.stream = stream;
    args.grads = params;
    args.buffers = buffers;
    args.loss = &weight_scale;
    return normcore_call_run(ctx, mlp_initialize_body, &args);
}
