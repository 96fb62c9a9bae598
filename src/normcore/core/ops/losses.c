/* Losses of numbers: values are checked, then rows are independent, then their losses meet in the chunk tree. */

#include "ops/ops.h"

/* The parameter of the loss; false if it is out of its range once it is rounded to the data's type. */
static int loss_parameter(normcore_loss loss, const normcore_loss_options *o, double *parameter) {
    *parameter = 0.0;
    if (loss == NORMCORE_LOSS_HUBER) {
        *parameter = o->delta;
        return isgreater(o->delta, REAL_UNDERFLOW) && fits(o->delta);
    }
    if (loss == NORMCORE_LOSS_QUANTILE) {
        *parameter = o->tau;
        return isgreater(o->tau, REAL_UNDERFLOW) && is_fraction(o->tau);
    }
    return 1;
}

/* Whether all targets are where the loss takes them; NaN, which reaches its row alone, is let through. Else *bad_row. */
static int are_targets_within(normcore_loss loss, const NAME(loss_problem) *p, size_t *bad_row) {
    real lowest = -REAL_INFINITY, highest = REAL_INFINITY;
#define LOSS(name, function, low, high)                                                                                \
    if (loss == NORMCORE_LOSS_##name) {                                                                                \
        lowest = (real)(low);                                                                                          \
        highest = (real)(high);                                                                                        \
    }
#include "kernels/losses.def"
#undef LOSS
    if (lowest == -REAL_INFINITY && highest == REAL_INFINITY) return 1;
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < p->d; j++) {
            const real t = p->t[i * p->t_stride + j];
            if (!isless(t, lowest) && !isgreater(t, highest)) continue;
            if (bad_row) *bad_row = i;
            return 0;
        }
    return 1;
}

normcore_status NAME(normcore_check_losses)(losses_args *p, size_t *bad_row) {
    if (!loss_parameter(p->which, &p->options, &p->parameter)) return NORMCORE_ERROR_VALUE;
    /* Sample weights as those of soft targets. */
    const normcore_cross_entropy_options weights = {.sample_weight = p->options.sample_weight,
                                                    .reduction = p->options.reduction};
    const normcore_status status = NAME(normcore_check_cross_entropy)(p->rows.n, 0, NULL, 1, &weights, bad_row);
    if (status) return status;
    return are_targets_within(p->which, &p->rows, bad_row) ? NORMCORE_OK : NORMCORE_ERROR_LABEL;
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
    p->kernels->loss_rows(p->which, &part);
}

normcore_status NAME(normcore_losses_body)(call *c, void *arguments) {
    losses_args *p = arguments;
    NAME(loss_problem) *rows = &p->rows;
    const size_t mark = normcore_call_mark(c), n = rows->n;
    const int none = p->options.reduction == NORMCORE_REDUCTION_NONE;
    p->kernels = kernels_of(c);
    rows->parameter = (real)p->parameter;
    rows->weights = p->options.sample_weight;
    rows->losses = none ? p->loss : normcore_call_scratch(c, n, sizeof *rows->losses);
    if (!rows->losses && n) return NORMCORE_ERROR_MEMORY;
    const double weight_sum = rows->weights ? pair_value(normcore_pair_sum(n, rows->weights)) : (double)n;
    rows->divisor = p->options.reduction == NORMCORE_REDUCTION_MEAN ? weight_sum : 1.0;
    p->tasks = normcore_call_threads(c, pass_ns(n, rows->d, p->which == NORMCORE_LOSS_LOGISTIC ? 20.0 : 6.0));
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

/* What the public functions have in common: everything but the loss. */
static normcore_status run_losses(normcore_context *ctx, normcore_loss loss, NAME(loss_problem) rows,
                                  const normcore_loss_options *options, double *losses, double *weight_sum,
                                  size_t *bad_row) {
    losses_args args = {.which = loss, .rows = rows, .loss = losses, .weight_sum = weight_sum};
    normcore_status status = read_loss_options(options, &args.options);
    if (status) return status;
    const normcore_loss_options *o = &args.options;
    const size_t count = o->reduction == NORMCORE_REDUCTION_NONE ? rows.n : 1;
    if (rows.n && !rows.d) return NORMCORE_ERROR_SIZE;
    const operand operands[] = {IN_MATRIX(rows.y, rows.n, rows.d, rows.y_stride),
                                IN_MATRIX(rows.t, rows.n, rows.d, rows.t_stride),
                                IN_OPTIONAL_VECTOR(o->sample_weight, rows.n),
                                OUT_VECTOR(losses, count),
                                OUT_OPTIONAL_MATRIX(rows.dy, rows.n, rows.d, rows.dy_stride, 1u << 0),
                                OUT_OPTIONAL_VECTOR(weight_sum, 1)};
    status = normcore_check_operands(operands, 6);
    if (!status) status = NAME(normcore_check_losses)(&args, bad_row);
    if (status) return status;
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
        return run_losses(ctx, NORMCORE_LOSS_##name, rows, options, loss, weight_sum, bad_row);                        \
    }
#include "kernels/losses.def"
#undef LOSS
