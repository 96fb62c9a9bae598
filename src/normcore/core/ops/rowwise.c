/* Operations that are one kernel over rows: activations, softmax, log-softmax and their gradients. */
#include "ops/ops.h"

static void rowwise_task(void *arg, size_t index) {
    const rowwise_args *p = arg;
    const row_range r = row_range_of(p->n, p->tasks, index);
    const real *const a = p->a + r.start * p->a_stride, *const y = p->y ? p->y + r.start * p->y_stride : NULL;
    real *const out = p->out + r.start * p->out_stride;
    const size_t n = r.count, d = p->d, as = p->a_stride, ys = p->y_stride, os = p->out_stride;
    switch (p->op) {
    case ROWWISE_ACTIVATION:
        p->kernels->activation_forward(p->activation, (real)p->slope, n, d, a, as, out, os);
        break;
    case ROWWISE_SOFTMAX:
        p->kernels->softmax(n, d, a, as, out, os);
        break;
    case ROWWISE_LOG_SOFTMAX:
        p->kernels->log_softmax(n, d, a, as, out, os);
        break;
    case ROWWISE_ACTIVATION_BACKWARD:
        p->kernels->activation_backward(p->activation, (real)p->slope, n, d, a, as, y, ys, out, os);
        break;
    case ROWWISE_SOFTMAX_BACKWARD:
        p->kernels->softmax_backward(n, d, a, as, y, ys, out, os);
        break;
    case ROWWISE_LOG_SOFTMAX_BACKWARD:
        p->kernels->log_softmax_backward(n, d, a, as, y, ys, out, os);
        break;
    }
}

/* Roughly: gradients that start from an output take no exponential. */
static double rowwise_passes(const rowwise_args *p) {
    const int is_relu = p->activation == NORMCORE_ACTIVATION_RELU || p->activation == NORMCORE_ACTIVATION_LEAKY_RELU;
    if (p->op == ROWWISE_ACTIVATION) return is_relu ? 2.0 : 6.0;
    if (p->op == ROWWISE_ACTIVATION_BACKWARD) return normcore_activation_takes_input(p->activation) ? 6.0 : 2.0;
    return 6.0;
}

normcore_status NAME(normcore_rowwise_body)(call *c, void *arguments) {
    rowwise_args *p = arguments;
    if (!p->n || !p->d) return NORMCORE_OK;
    p->kernels = kernels_of(c);
    /* A slope that is 0 in the data's type makes ReLU of it: 0 times -inf would not. */
    if (p->activation == NORMCORE_ACTIVATION_LEAKY_RELU && (real)p->slope == (real)0)
        p->activation = NORMCORE_ACTIVATION_RELU;
    p->tasks = normcore_call_threads(c, pass_ns(p->n, p->d, rowwise_passes(p)));
    if (p->tasks > p->n) p->tasks = p->n;
    normcore_call_parallel(c, p->tasks, rowwise_task, p, p->tasks);
    return NORMCORE_OK;
}

/* Everything but the arrays: op, activation, slope. */
static normcore_status rowwise_forward(normcore_context *ctx, rowwise_args args, size_t n, size_t d, const real *x,
                                       size_t x_stride, real *y, size_t y_stride) {
    const operand operands[] = {IN_MATRIX(x, n, d, x_stride), OUT_MATRIX(y, n, d, y_stride, 1u << 0)};
    const normcore_status status = normcore_check_operands(operands, 2);
    if (status) return status;
    args.n = n;
    args.d = d;
    args.a = x;
    args.a_stride = x_stride;
    args.out = y;
    args.out_stride = y_stride;
    return normcore_call_run(ctx, NAME(normcore_rowwise_body), &args);
}

static normcore_status rowwise_backward(normcore_context *ctx, rowwise_args args, size_t n, size_t d, const real *dy,
                                        size_t dy_stride, const real *y, size_t y_stride, real *dx, size_t dx_stride) {
    const operand operands[] = {IN_MATRIX(dy, n, d, dy_stride), IN_MATRIX(y, n, d, y_stride),
                                OUT_MATRIX(dx, n, d, dx_stride, 1u << 0 | 1u << 1)};
    const normcore_status status = normcore_check_operands(operands, 3);
    if (status) return status;
    args.n = n;
    args.d = d;
    args.a = dy;
    args.a_stride = dy_stride;
    args.y = y;
    args.y_stride = y_stride;
    args.out = dx;
    args.out_stride = dx_stride;
    return normcore_call_run(ctx, NAME(normcore_rowwise_body), &args);
}

static normcore_status check_activation(normcore_activation activation, double slope) {
    const int kind = normcore_activation_takes_input(activation);
    if (kind < 0 || (activation == NORMCORE_ACTIVATION_LEAKY_RELU && !normcore_check_between(slope, 0.0, 1.0)))
        return NORMCORE_ERROR_VALUE;
    return NORMCORE_OK;
}

normcore_status NAME(normcore_activation_forward)(normcore_context *ctx, normcore_activation activation, double slope,
                                                  size_t n, size_t d, const real *x, size_t x_stride, real *y,
                                                  size_t y_stride) {
    const rowwise_args args = {.op = ROWWISE_ACTIVATION, .activation = activation, .slope = slope};
    const normcore_status status = check_activation(activation, slope);
    return status ? status : rowwise_forward(ctx, args, n, d, x, x_stride, y, y_stride);
}
normcore_status NAME(normcore_activation_backward)(normcore_context *ctx, normcore_activation activation, double slope,
                                                   size_t n, size_t d, const real *dy, size_t dy_stride,
                                                   const real *saved, size_t saved_stride, real *dx, size_t dx_stride) {
    const rowwise_args args = {.op = ROWWISE_ACTIVATION_BACKWARD, .activation = activation, .slope = slope};
    const normcore_status status = check_activation(activation, slope);
    return status ? status : rowwise_backward(ctx, args, n, d, dy, dy_stride, saved, saved_stride, dx, dx_stride);
}

#define ROWWISE(operation) ((rowwise_args){.op = operation})
normcore_status NAME(normcore_softmax)(normcore_context *ctx, size_t n, size_t d, const real *x, size_t x_stride,
                                       real *y, size_t y_stride) {
    return rowwise_forward(ctx, ROWWISE(ROWWISE_SOFTMAX), n, d, x, x_stride, y, y_stride);
}
normcore_status NAME(normcore_log_softmax)(normcore_context *ctx, size_t n, size_t d, const real *x, size_t x_stride,
                                           real *y, size_t y_stride) {
    return rowwise_forward(ctx, ROWWISE(ROWWISE_LOG_SOFTMAX), n, d, x, x_stride, y, y_stride);
}
normcore_status NAME(normcore_softmax_backward)(normcore_context *ctx, size_t n, size_t d, const real *dy,
                                                size_t dy_stride, const real *y, size_t y_stride, real *dx,
                                                size_t dx_stride) {
    return rowwise_backward(ctx, ROWWISE(ROWWISE_SOFTMAX_BACKWARD), n, d, dy, dy_stride, y, y_stride, dx, dx_stride);
}
normcore_status NAME(normcore_log_softmax_backward)(normcore_context *ctx, size_t n, size_t d, const real *dy,
                                                    size_t dy_stride, const real *y, size_t y_stride, real *dx,
                                                    size_t dx_stride) {
    return rowwise_backward(ctx, ROWWISE(ROWWISE_LOG_SOFTMAX_BACKWARD), n, d, dy, dy_stride, y, y_stride, dx,
                            dx_stride);
}
