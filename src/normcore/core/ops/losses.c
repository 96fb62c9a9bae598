/* Losses of numbers: values are checked, then rows are independent, then their losses meet in the chunk tree. */

#include "ops/ops.h"

/* The parameter of the loss; false if it is out of its range once it is rounded to the data's type. */
static int loss_parameter(loss_kind kind, const normcore_loss_options *o, double *parameter) {
    *parameter = 0.0;
    if (kind == LOSS_HUBER) {
        *parameter = o->delta;
        return isgreater(o->delta, REAL_UNDERFLOW) && fits(o->delta);
    }
    if (kind == LOSS_QUANTILE) {
        *parameter = o->tau;
        return isgreater(o->tau, REAL_UNDERFLOW) && is_fraction(o->tau);
    }
    return 1;
}

/* Whether all targets are within; NaN, which reaches its row alone, is let through. Else *bad_row. */
static int are_targets_within(const NAME(loss_problem) *p, real low, real high, size_t *bad_row) {
    if (low == -REAL_INFINITY && high == REAL_INFINITY) return 1;
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < p->d; j++) {
            const real t = p->t[i * p->t_stride + j];
            if (!isless(t, low) && !isgreater(t, high)) continue;
            if (bad_row) *bad_row = i;
            return 0;
        }
    return 1;
}

static normcore_status check_losses_values(const losses_args *p, real low, real high, size_t *bad_row) {
    /* Sample weights as those of soft targets. */
    const normcore_cross_entropy_options weights = {.sample_weight = p->options.sample_weight,
                                                    .reduction = p->options.reduction};
    const normcore_status status = NAME(normcore_check_cross_entropy)(p->rows.n, 0, NULL, 1, &weights, bad_row);
    if (status) return status;
    return are_targets_within(&p->rows, low, high, bad_row) ? NORMCORE_OK : NORMCORE_ERROR_LABEL;
}

static void losses_task(void *arg, size_t index) {
    const losses_args *p = arg;
    const row_range r = row_range_of(p->rows.n, p->tasks, index);
    NAME(loss_problem) part = p->rows;
    part.n = r.count;
    part.y += r.start * part.y_stride;
    part.t += r.start * part.t_stride;
    part.losses += r.start;
    if (part.weights) part.weights += r.start;
    if (part.dy) part.dy += r.start * part.dy_stride;
    p->kernels->loss_rows(p->kind, &part);
}

normcore_status NAME(normcore_losses_body)(call *c, void *arguments) {
    losses_args *p = arguments;
    NAME(loss_problem) *rows = &p->rows;
    const size_t mark = normcore_call_mark(c), n = rows->n;
    const int none = p->options.reduction == NORMCORE_REDUCTION_NONE;
    p->kernels = kernels_of(c);
    rows->parameter = (real)p->parameter;
    rows->losses = none ? p->loss : normcore_call_scratch(c, n, sizeof *rows->losses);
    if (!rows->losses && n) return NORMCORE_ERROR_MEMORY;
    const double weight_sum = rows->weights ? pair_value(normcore_pair_sum(n, rows->weights)) : (double)n;
    rows->divisor = p->options.reduction == NORMCORE_REDUCTION_MEAN ? weight_sum : 1.0;
    p->tasks = normcore_call_threads(c, pass_ns(n, rows->d, p->kind == LOSS_LOGISTIC ? 20.0 : 6.0));
    if (p->tasks > n) p->tasks = n;
    if (n) normcore_call_parallel(c, p->tasks, losses_task, p, p->tasks);
    if (!none) {
        const double sum = pair_value(normcore_pair_sum(n, rows->losses));
        *p->loss = canonical_double(rows->divisor > 0.0 ? sum / rows->divisor : sum);
    }
    if (p->weight_sum) *p->weight_sum = weight_sum;
    normcore_call_release(c, mark);
    return NORMCORE_OK;
}

/* What the public functions have in common: everything but the loss and where its targets lie. */
static normcore_status run_losses(normcore_context *ctx, loss_kind kind, real low, real high, NAME(loss_problem) rows,
                                  const normcore_loss_options *options, double *loss, double *weight_sum,
                                  size_t *bad_row) {
    losses_args args = {.kind = kind, .rows = rows, .loss = loss, .weight_sum = weight_sum};
    normcore_status status = options ? normcore_options_read_loss(options, &args.options)
                                     : normcore_loss_defaults(&args.options, sizeof args.options);
    if (status) return status;
    const normcore_loss_options *o = &args.options;
    const size_t losses = o->reduction == NORMCORE_REDUCTION_NONE ? rows.n : 1;
    if (rows.n && !rows.d) return NORMCORE_ERROR_SIZE;
    const operand operands[] = {IN_MATRIX(rows.y, rows.n, rows.d, rows.y_stride),
                                IN_MATRIX(rows.t, rows.n, rows.d, rows.t_stride),
                                IN_OPTIONAL_VECTOR(o->sample_weight, rows.n),
                                OUT_VECTOR(loss, losses),
                                OUT_OPTIONAL_MATRIX(rows.dy, rows.n, rows.d, rows.dy_stride, 1u << 0),
                                OUT_OPTIONAL_VECTOR(weight_sum, 1)};
    status = normcore_check_operands(operands, 6);
    if (!status && !loss_parameter(kind, o, &args.parameter)) status = NORMCORE_ERROR_VALUE;
    if (!status) status = check_losses_values(&args, low, high, bad_row);
    if (status) return status;
    args.rows.weights = o->sample_weight;
    return normcore_call_run(ctx, NAME(normcore_losses_body), &args);
}

#define LOSS(name, function, low, high)                                                                                \
    normcore_status NAME(normcore_##function)(normcore_context * ctx, size_t n, size_t d, const real *y,               \
                                              size_t y_stride, const real *t, size_t t_stride,                         \
                                              const normcore_loss_options *options, double *loss, real *dy,            \
                                              size_t dy_stride, double *weight_sum, size_t *bad_row) {                 \
        const NAME(loss_problem) rows = {.n = n,                                                                       \
                                         .d = d,                                                                       \
                                         .y = y,                                                                       \
                                         .y_stride = y_stride,                                                         \
                                         .t = t,                                                                       \
                                         .t_stride = t_stride,                                                         \
                                         .dy = dy,                                                                     \
                                         .dy_stride = dy_stride};                                                      \
        return run_losses(ctx, LOSS_##name, (real)(low), (real)(high), rows, options, loss, weight_sum, bad_row);      \
    }
#include "kernels/losses.def"
#undef LOSS
