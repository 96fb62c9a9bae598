/* Layer normalisation: rows are independent; gamma's and beta's gradients go by chunks and tree. */
#include "ops/ops.h"

#include <string.h>

static void layer_norm_forward_task(void *arg, size_t index) {
    const layer_norm_args *p = arg;
    const row_range r = row_range_of(p->n, p->tasks, index);
    p->kernels->layer_norm_forward(r.count, p->d, p->x + r.start * p->x_stride, p->x_stride, p->gamma, p->beta, p->eps,
                                   p->out + r.start * p->out_stride, p->out_stride,
                                   p->mean_out ? p->mean_out + r.start : NULL,
                                   p->rstd_out ? p->rstd_out + r.start : NULL);
}

normcore_status NAME(normcore_layer_norm_forward_body)(call *c, void *arguments) {
    layer_norm_args *p = arguments;
    if (!p->n) return NORMCORE_OK;
    if (!p->d) { /* no element to normalise; the statistics of nothing, as batch normalisation gives them */
        for (size_t i = 0; p->mean_out && i < p->n; i++) p->mean_out[i] = 0.0;
        for (size_t i = 0; p->rstd_out && i < p->n; i++) p->rstd_out[i] = 0.0;
        return NORMCORE_OK;
    }
    p->kernels = kernels_of(c);
    p->tasks = normcore_call_threads(c, pass_ns(p->n, p->d, 3.0));
    if (p->tasks > p->n) p->tasks = p->n;
    normcore_call_parallel(c, p->tasks, layer_norm_forward_task, p, p->tasks);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_layer_norm_forward)(normcore_context *ctx, size_t n, size_t d, const real *x,
                                                  size_t x_stride, const real *gamma, const real *beta, double eps,
                                                  real *y, size_t y_stride, double *mean, double *rstd) {
    if (!is_eps(eps)) return NORMCORE_ERROR_VALUE;
    const operand operands[] = {IN_MATRIX(x, n, d, x_stride), IN_VECTOR(gamma, d),
                                IN_VECTOR(beta, d),           OUT_MATRIX(y, n, d, y_stride, 1u << 0),
                                OUT_OPTIONAL_VECTOR(mean, n), OUT_OPTIONAL_VECTOR(rstd, n)};
    const normcore_status status = normcore_check_operands(operands, 6);
    if (status) return status;
    layer_norm_args args = {.n = n,
                            .d = d,
                            .x = x,
                            .x_stride = x_stride,
                            .gamma = gamma,
                            .beta = beta,
                            .eps = eps,
                            .out = y,
                            .out_stride = y_stride,
                            .mean_out = mean,
                            .rstd_out = rstd};
    return normcore_call_run(ctx, NAME(normcore_layer_norm_forward_body), &args);
}

static void layer_norm_backward_task(void *arg, size_t chunk) {
    const layer_norm_args *p = arg;
    const size_t row = chunk * CONTRACT_CHUNK;
    p->kernels->layer_norm_chunk_backward(chunk_rows(p->n, chunk), p->d, p->dy + row * p->dy_stride, p->dy_stride,
                                          p->x + row * p->x_stride, p->x_stride, p->gamma, p->mean + row, p->rstd + row,
                                          p->out ? p->out + row * p->out_stride : NULL, p->out_stride,
                                          p->first + chunk * p->d, p->second + chunk * p->d);
}

normcore_status NAME(normcore_layer_norm_backward_body)(call *c, void *arguments) {
    layer_norm_args *p = arguments;
    if (!p->d) return NORMCORE_OK;
    const size_t mark = normcore_call_mark(c), chunks = chunk_count(p->n);
    p->kernels = kernels_of(c);
    p->first = normcore_call_scratch(c, chunks ? chunks : 1, p->d * sizeof *p->first);
    p->second = normcore_call_scratch(c, chunks ? chunks : 1, p->d * sizeof *p->second);
    if (!p->first || !p->second) return NORMCORE_ERROR_MEMORY;
    if (!chunks) {
        memset(p->first, 0, p->d * sizeof *p->first);
        memset(p->second, 0, p->d * sizeof *p->second);
    }
    normcore_call_parallel(c, normcore_call_threads(c, pass_ns(p->n, p->d, 6.0)), layer_norm_backward_task, p, chunks);
    normcore_tree_sum(p->first, chunks, p->d);
    normcore_tree_sum(p->second, chunks, p->d);
    store_sums(p->d, p->first, p->dgamma);
    store_sums(p->d, p->second, p->dbeta);
    normcore_call_release(c, mark);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_layer_norm_backward)(normcore_context *ctx, size_t n, size_t d, const real *dy,
                                                   size_t dy_stride, const real *x, size_t x_stride, const real *gamma,
                                                   const double *mean, const double *rstd, real *dx, size_t dx_stride,
                                                   real *dgamma, real *dbeta) {
    const operand operands[] = {IN_MATRIX(dy, n, d, dy_stride),
                                IN_MATRIX(x, n, d, x_stride),
                                IN_VECTOR(gamma, d),
                                IN_VECTOR(mean, n),
                                IN_VECTOR(rstd, n),
                                OUT_OPTIONAL_MATRIX(dx, n, d, dx_stride, 1u << 0),
                                OUT_OPTIONAL_VECTOR(dgamma, d),
                                OUT_OPTIONAL_VECTOR(dbeta, d)};
    const normcore_status status = normcore_check_operands(operands, 8);
    if (status) return status;
    layer_norm_args args = {.n = n,
                            .d = d,
                            .dy = dy,
                            .dy_stride = dy_stride,
                            .x = x,
                            .x_stride = x_stride,
                            .gamma = gamma,
                            .mean = mean,
                            .rstd = rstd,
                            .out = dx,
                            .out_stride = dx_stride,
                            .dgamma = dgamma,
                            .dbeta = dbeta};
    return normcore_call_run(ctx, NAME(normcore_layer_norm_backward_body), &args);
}
