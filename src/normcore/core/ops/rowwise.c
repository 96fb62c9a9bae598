/* Operations that are one kernel over rows: ReLU, softmax, log-softmax and their gradients. */

typedef enum rowwise_op {
    ROWWISE_RELU,
    ROWWISE_SOFTMAX,
    ROWWISE_LOG_SOFTMAX,
    ROWWISE_RELU_BACKWARD,
    ROWWISE_SOFTMAX_BACKWARD,
    ROWWISE_LOG_SOFTMAX_BACKWARD
} rowwise_op;

typedef struct rowwise_args {
    rowwise_op op;
    size_t n, d;
    const real *a; /* x, or dy */
    size_t a_stride;
    const real *y; /* of the backward kernels; else NULL */
    size_t y_stride;
    real *out;
    size_t out_stride;
    const NAME(kernel_table) * kernels;
    size_t tasks;
} rowwise_args;

static void rowwise_task(void *arg, size_t index) {
    const rowwise_args *p = arg;
    const row_range r = row_range_of(p->n, p->tasks, index);
    const real *const a = p->a + r.start * p->a_stride, *const y = p->y ? p->y + r.start * p->y_stride : NULL;
    real *const out = p->out + r.start * p->out_stride;
    const size_t n = r.count, d = p->d, as = p->a_stride, ys = p->y_stride, os = p->out_stride;
    switch (p->op) {
    case ROWWISE_RELU:
        p->kernels->relu_forward(n, d, a, as, out, os);
        break;
    case ROWWISE_SOFTMAX:
        p->kernels->softmax(n, d, a, as, out, os);
        break;
    case ROWWISE_LOG_SOFTMAX:
        p->kernels->log_softmax(n, d, a, as, out, os);
        break;
    case ROWWISE_RELU_BACKWARD:
        p->kernels->relu_backward(n, d, a, as, y, ys, out, os);
        break;
    case ROWWISE_SOFTMAX_BACKWARD:
        p->kernels->softmax_backward(n, d, a, as, y, ys, out, os);
        break;
    case ROWWISE_LOG_SOFTMAX_BACKWARD:
        p->kernels->log_softmax_backward(n, d, a, as, y, ys, out, os);
        break;
    }
}

static normcore_status rowwise_body(call *c, void *arguments) {
    rowwise_args *p = arguments;
    if (!p->n || !p->d) return NORMCORE_OK;
    p->kernels = kernels_of(c);
    const int exponential = p->op != ROWWISE_RELU && p->op != ROWWISE_RELU_BACKWARD;
    p->tasks = normcore_call_threads(c, pass_ns(p->n, p->d, exponential ? 6.0 : 2.0));
    if (p->tasks > p->n) p->tasks = p->n;
    normcore_call_parallel(c, p->tasks, rowwise_task, p, p->tasks);
    return NORMCORE_OK;
}

static normcore_status rowwise_forward(normcore_context *ctx, rowwise_op op, size_t n, size_t d, const real *x,
                                       size_t x_stride, real *y, size_t y_stride) {
    const operand operands[] = {IN_MATRIX(x, n, d, x_stride), OUT_MATRIX(y, n, d, y_stride, 1u << 0)};
    const normcore_status status = normcore_check_operands(operands, 2);
    if (status) return status;
    rowwise_args args = {op, n, d, x, x_stride, NULL, 0, y, y_stride, NULL, 0};
    return normcore_call_run(ctx, rowwise_body, &args);
}

static normcore_status rowwise_backward(normcore_context *ctx, rowwise_op op, size_t n, size_t d, const real *dy,
                                        size_t dy_stride, const real *y, size_t y_stride, real *dx, size_t dx_stride) {
    const operand operands[] = {IN_MATRIX(dy, n, d, dy_stride), IN_MATRIX(y, n, d, y_stride),
                                OUT_MATRIX(dx, n, d, dx_stride, 1u << 0 | 1u << 1)};
    const normcore_status status = normcore_check_operands(operands, 3);
    if (status) return status;
    rowwise_args args = {op, n, d, dy, dy_stride, y, y_stride, dx, dx_stride, NULL, 0};
    return normcore_call_run(ctx, rowwise_body, &args);
}

normcore_status NAME(normcore_relu_forward)(normcore_context *ctx, size_t n, size_t d, const real *x, size_t x_stride,
                                            real *y, size_t y_stride) {
    return rowwise_forward(ctx, ROWWISE_RELU, n, d, x, x_stride, y, y_stride);
}
normcore_status NAME(normcore_softmax)(normcore_context *ctx, size_t n, size_t d, const real *x, size_t x_stride,
                                       real *y, size_t y_stride) {
    return rowwise_forward(ctx, ROWWISE_SOFTMAX, n, d, x, x_stride, y, y_stride);
}
normcore_status NAME(normcore_log_softmax)(normcore_context *ctx, size_t n, size_t d, const real *x, size_t x_stride,
                                           real *y, size_t y_stride) {
    return rowwise_forward(ctx, ROWWISE_LOG_SOFTMAX, n, d, x, x_stride, y, y_stride);
}
normcore_status NAME(normcore_relu_backward)(normcore_context *ctx, size_t n, size_t d, const real *dy,
                                             size_t dy_stride, const real *y, size_t y_stride, real *dx,
                                             size_t dx_stride) {
    return rowwise_backward(ctx, ROWWISE_RELU_BACKWARD, n, d, dy, dy_stride, y, y_stride, dx, dx_stride);
}
normcore_status NAME(normcore_softmax_backward)(normcore_context *ctx, size_t n, size_t d, const real *dy,
                                                size_t dy_stride, const real *y, size_t y_stride, real *dx,
                                                size_t dx_stride) {
    return rowwise_backward(ctx, ROWWISE_SOFTMAX_BACKWARD, n, d, dy, dy_stride, y, y_stride, dx, dx_stride);
}
normcore_status NAME(normcore_log_softmax_backward)(normcore_context *ctx, size_t n, size_t d, const real *dy,
                                                    size_t dy_stride, const real *y, size_t y_stride, real *dx,
                                                    size_t dx_stride) {
    return rowwise_backward(ctx, ROWWISE_LOG_SOFTMAX_BACKWARD, n, d, dy, dy_stride, y, y_stride, dx, dx_stride);
}
