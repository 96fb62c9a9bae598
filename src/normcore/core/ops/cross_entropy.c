/*
 * Softmax cross-entropy: weights and labels are checked, then rows are independent, then losses meet in the chunk tree.
 */
#include "ops/ops.h"

static int is_ignored(const normcore_cross_entropy_options *o, int64_t label) {
    return o->has_ignore_index && label == o->ignore_index;
}

static int is_class(int64_t label, size_t c) { return label >= 0 && (uint64_t)label < c; }

/*
 * The class of row i, below c; or c for a row that counts for nothing. Labels are the caller's memory, which another
 * thread or process may change after the check: they are read here alone, once (volatile), and a label that is no longer
 * a class is ignored, for whatever this returns becomes an index.
 */
static size_t class_of(const cross_entropy_args *p, size_t i) {
    const int64_t label = *(const volatile int64_t *)&p->labels[i];
    return is_class(label, p->c) && !is_ignored(&p->options, label) ? (size_t)label : p->c;
}

/* Finds the greatest of `count` weights (1 without weights) and where it is; or, returning 0, the first that is none. */
static int check_weights(size_t count, const double *weights, double *greatest, size_t *at) {
    *greatest = weights && count ? 0.0 : 1.0;
    *at = 0;
    for (size_t i = 0; weights && i < count; i++) {
        const int good = normcore_check_at_least(weights[i], 0.0);
        if (good && weights[i] <= *greatest) continue;
        *greatest = weights[i];
        *at = i;
        if (!good) return 0;
    }
    return 1;
}

/* Whether the greatest weight fits the dtype, in which gradients are, and n of them, times losses, the range of double. */
static int are_weights_summable(size_t n, double greatest) { return fits(greatest) && greatest * (double)n <= 0x1p960; }

/*
 * Whether the weights of the rows, of which a mean takes shares, are 0 or sum to enough: of less, the products with
 * losses would be rounded to multiples of the least subnormal number. Else *at is the first row that weighs something.
 */
static int is_mean_of_weights(size_t n, size_t c, const int64_t *labels, const normcore_cross_entropy_options *o,
                              size_t *at) {
    if (o->reduction != NORMCORE_REDUCTION_MEAN || !(o->sample_weight || (labels && o->class_weight))) return 1;
    double sum = 0.0;
    int found = 0;
    for (size_t i = 0; i < n; i++) {
        const int64_t label = labels ? *(const volatile int64_t *)&labels[i] : 0;
        const int counts = !labels || (is_class(label, c) && !is_ignored(o, label));
        const double by_class = labels && counts && o->class_weight ? o->class_weight[label] : 1.0;
        const double by_sample = o->sample_weight ? o->sample_weight[i] : 1.0;
        if (!counts || by_class == 0.0 || by_sample == 0.0) continue;
        if (!found) *at = i;
        found = 1;
        sum += by_class * by_sample;
    }
    return !found || sum >= 0x1p-960;
}

/* Everything that can be wrong with the values, before anything is written. */
normcore_status NAME(normcore_check_cross_entropy)(size_t n, size_t c, const int64_t *labels, int soft,
                                                   const normcore_cross_entropy_options *o, size_t *bad_row) {
    if (!normcore_check_between(o->label_smoothing, 0.0, 1.0)) return NORMCORE_ERROR_VALUE;
    if ((unsigned)o->reduction > NORMCORE_REDUCTION_NONE) return NORMCORE_ERROR_VALUE;
    if (soft && o->has_ignore_index) return NORMCORE_ERROR_VALUE;
    double by_class, by_sample;
    size_t bad_class, bad_sample;
    const int good_classes = check_weights(c, o->class_weight, &by_class, &bad_class);
    const int good = check_weights(n, o->sample_weight, &by_sample, &bad_sample) && good_classes;
    if (!good || !are_weights_summable(n, by_class * by_sample)) {
        if (bad_row) *bad_row = !good_classes || (good && by_class > by_sample) ? bad_class : bad_sample;
        return NORMCORE_ERROR_WEIGHT;
    }
    for (size_t i = 0; labels && i < n; i++)
        if (!is_ignored(o, labels[i]) && !is_class(labels[i], c)) {
            if (bad_row) *bad_row = i;
            return NORMCORE_ERROR_LABEL;
        }
    if (!is_mean_of_weights(n, c, labels, o, &bad_sample)) {
        if (bad_row) *bad_row = bad_sample;
        return NORMCORE_ERROR_WEIGHT;
    }
    return NORMCORE_OK;
}

static double sample_weight(const cross_entropy_args *p, size_t i) {
    return p->options.sample_weight ? p->options.sample_weight[i] : 1.0;
}

/* What the row adds to the sum of the weights. Class weights of soft targets weigh their classes, not the row. */
static double row_weight(const cross_entropy_args *p, size_t i) {
    const normcore_cross_entropy_options *o = &p->options;
    const double weight = sample_weight(p, i);
    if (!p->labels) return weight;
    const size_t label = class_of(p, i);
    if (label == p->c) return 0.0;
    return o->class_weight ? o->class_weight[label] * weight : weight;
}

static void cross_entropy_task(void *arg, size_t index) {
    const cross_entropy_args *p = arg;
    const row_range r = row_range_of(p->n, p->tasks, index);
    for (size_t i = r.start; i < r.start + r.count; i++) {
        real *const dz = p->dz ? p->dz + i * p->dz_stride : p->row_scratch + index * p->c;
        const size_t label = p->labels ? class_of(p, i) : 0;
        if (label == p->c) {
            for (size_t j = 0; j < p->c; j++) dz[j] = (real)0;
            p->rows[i] = 0.0;
            continue;
        }
        /* The mean of rows that weigh nothing is 0. */
        const double weight = p->divisor > 0.0 ? sample_weight(p, i) : 0.0;
        const NAME(cross_entropy_row_problem) row = {
            .c = p->c,
            .z = p->z + i * p->z_stride,
            .label = label,
            .target = p->targets ? p->targets + i * p->targets_stride : NULL,
            .class_weight = p->options.class_weight,
            .class_weight_sum = p->class_weight_sum.hi,
            .class_weight_lo = p->class_weight_sum.lo,
            .smoothing = p->options.label_smoothing,
            .factor = p->divisor > 0.0 ? weight / p->divisor : weight,
            .dz = dz,
        };
        double loss;
        p->kernels->cross_entropy_row(&row, &loss);
        /* A row that weighs nothing adds nothing, even if its loss is infinite; NaN shows all the same. */
        p->rows[i] = weight == 0.0 && loss == loss ? 0.0 : canonical_double(loss * weight);
    }
}

normcore_status NAME(normcore_cross_entropy_body)(call *c, void *arguments) {
    cross_entropy_args *p = arguments;
    const normcore_cross_entropy_options *o = &p->options;
    const size_t mark = normcore_call_mark(c);
    const int none = o->reduction == NORMCORE_REDUCTION_NONE;
    p->kernels = kernels_of(c);
    p->tasks = normcore_call_threads(c, pass_ns(p->n, p->c, 10.0));
    if (p->tasks > p->n) p->tasks = p->n ? p->n : 1;
    p->rows = none ? p->loss : normcore_call_scratch(c, p->n, sizeof *p->rows);
    p->row_scratch = p->dz ? NULL : normcore_call_scratch(c, p->tasks, p->c * sizeof(real));
    if ((!none && !p->rows) || (!p->dz && !p->row_scratch)) return NORMCORE_ERROR_MEMORY;

    double weight_sum = (double)p->n; /* which is what so many ones are */
    if (o->sample_weight || (p->labels && (o->class_weight || o->has_ignore_index))) {
        for (size_t i = 0; i < p->n; i++) p->rows[i] = row_weight(p, i);
        weight_sum = pair_value(normcore_pair_sum(p->n, p->rows));
    }
    p->divisor = o->reduction == NORMCORE_REDUCTION_MEAN ? weight_sum : 1.0;
    const pair ones = {(double)p->c, 0.0};
    p->class_weight_sum = o->class_weight ? normcore_pair_sum(p->c, o->class_weight) : ones;
    if (p->n) normcore_call_parallel(c, p->tasks, cross_entropy_task, p, p->tasks);
    if (!none) {
        const double sum = pair_value(normcore_pair_sum(p->n, p->rows));
        *p->loss = canonical_double(p->divisor > 0.0 ? sum / p->divisor : sum);
    }
    if (p->weight_sum) *p->weight_sum = weight_sum;
    normcore_call_release(c, mark);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_cross_entropy)(normcore_context *ctx, size_t n, size_t c, const real *logits,
                                             size_t logits_stride, const int64_t *labels, const real *targets,
                                             size_t targets_stride, const normcore_cross_entropy_options *options,
                                             double *loss, real *dlogits, size_t dlogits_stride, double *weight_sum,
                                             size_t *bad_row) {
    normcore_cross_entropy_options o;
    normcore_status status = read_cross_entropy_options(options, &o);
    if (status) return status;
    const size_t losses = o.reduction == NORMCORE_REDUCTION_NONE ? n : 1;
    if (n && !c) return NORMCORE_ERROR_SIZE;
    if (n && !labels == !targets) return NORMCORE_ERROR_NULL;
    const operand operands[] = {IN_MATRIX(logits, n, c, logits_stride),
                                IN_OPTIONAL_VECTOR(labels, n),
                                IN_OPTIONAL_MATRIX(targets, n, c, targets_stride),
                                IN_OPTIONAL_VECTOR(o.class_weight, c),
                                IN_OPTIONAL_VECTOR(o.sample_weight, n),
                                OUT_VECTOR(loss, losses),
                                OUT_OPTIONAL_MATRIX(dlogits, n, c, dlogits_stride, 1u << 0),
                                OUT_OPTIONAL_VECTOR(weight_sum, 1)};
    status = normcore_check_operands(operands, 8);
    if (!status) status = NAME(normcore_check_cross_entropy)(n, c, labels, targets != NULL, &o, bad_row);
    if (status) return status;
    cross_entropy_args args = {.n = n,
                               .c = c,
                               .z = logits,
                               .z_stride = logits_stride,
                               .labels = labels,
                               .targets = targets,
                               .targets_stride = targets_stride,
                               .options = o,
                               .loss = loss,
                               .dz = dlogits,
                               .dz_stride = dlogits_stride,
                               .weight_sum = weight_sum};
    return normcore_call_run(ctx, NAME(normcore_cross_entropy_body), &args);
}
