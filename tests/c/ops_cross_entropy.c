#include "operations.h"
#include "reference.h"

#include <math.h>

enum { SOFT = 1, WEIGHTED = 2, SMOOTH = 4, IGNORE = 8, SUM = 16, EACH = 32, NO_GRADIENT = 64 };

#define IGNORED_LABEL (-100)

/* 0 logits, 1 labels, 2 targets, 3 loss, 4 dlogits, 5 weight_sum, 6 class_weight, 7 sample_weight */
static void setup(call *c) {
    const int variant = c->operation->variant;
    add_matrix(c, INPUT, c->n, c->k, 1);
    if (variant & SOFT) {
        add_absent(c);
        add_matrix(c, INPUT, c->n, c->k, 1);
    } else {
        add_labels(c, c->n, c->k);
        add_absent(c);
    }
    add_doubles(c, OUTPUT, variant & EACH ? c->n : 1, (variant & EACH) != 0, 0, 0);
    if (variant & NO_GRADIENT)
        add_absent(c);
    else
        add_matrix(c, OUTPUT, c->n, c->k, 1);
    if (variant & EACH)
        add_absent(c);
    else
        add_doubles(c, OUTPUT, 1, 0, 0, 0);
    if (variant & WEIGHTED) {
        c->cross_entropy.class_weight = add_doubles(c, INPUT, c->k, 0, 0.1, 3)->data;
        c->cross_entropy.sample_weight = add_doubles(c, INPUT, c->n, 1, 0.1, 2)->data;
        if (c->n > 2) DOUBLES(7)[2] = 0;
    }
    c->cross_entropy.struct_size = sizeof c->cross_entropy;
    c->cross_entropy.label_smoothing = variant & SMOOTH ? 0.1 : 0;
    c->cross_entropy.reduction = variant & SUM    ? NORMCORE_REDUCTION_SUM
                                 : variant & EACH ? NORMCORE_REDUCTION_NONE
                                                  : NORMCORE_REDUCTION_MEAN;
    if (variant & IGNORE) {
        c->cross_entropy.has_ignore_index = 1;
        c->cross_entropy.ignore_index = IGNORED_LABEL;
        for (size_t i = 0; i < c->n; i += 5) LABELS(1)[i] = IGNORED_LABEL;
    }
    if (c->flavour != PLAIN) return;
    for (size_t i = 0; i < c->n; i++) {
        /* Every third row is nearly certain, mostly of the right class, so that losses are tiny or large. */
        if (i % 3 == 0 && !(variant & SOFT) && LABELS(1)[i] >= 0)
            POINTER(0)[i * c->a[0].stride + (size_t)LABELS(1)[i]] += i % 2 ? (real)-30 : (real)(20 + (int)(i % 40));
        if (variant & SOFT) {
            wide sum = 0;
            real *t = POINTER(2) + i * c->a[2].stride;
            for (size_t j = 0; j < c->k; j++) sum += (wide)(t[j] = (real)fabsl((wide)t[j]));
            /* Even rows sum to 1 up to rounding, the others to whatever they do. */
            for (size_t j = 0; j < c->k && i % 2 == 0; j++) t[j] = (real)((wide)t[j] / sum);
        }
    }
}

static normcore_status run(const call *c, normcore_context *ctx) {
    size_t bad_row;
    return T(normcore_cross_entropy)(ctx, c->n, c->k, MATRIX(0), LABELS(1), MATRIX(2),
                                     c->operation->variant ? &c->cross_entropy : NULL, DOUBLES(3), MATRIX(4),
                                     DOUBLES(5), &bad_row);
}

/*
 * Losses to 4 ULP, for each term of soft or smoothed targets; the loss is a sum of terms that are not negative, so that
 * bound is relative. Gradients: the probability to 3 ULP, its products and the difference.
 */
static void verify(const call *c) {
    const size_t n = c->n, k = c->k;
    const normcore_cross_entropy_options *o = &c->cross_entropy;
    const int mixed = (c->operation->variant & (SOFT | SMOOTH)) != 0;
    const wide *z = widen(&c->a[0]), *targets = widen(&c->a[2]);
    const int64_t *labels = c->a[1].data ? LABELS(1) : NULL;
    wide *losses = scratch_wide(n), *weights = scratch_wide(n), *dz = scratch_wide(n * k), weight_sum = 0;
    wide *tolerance = scratch_wide(n * k > n ? n * k : n + 1);
    const wide row_error = 8 * U + ((wide)k / 16 + 12) * UD + (mixed ? 4 * U + (wide)k / 16 * UD : 0);
    const wide batch_error = 4 * UD; /* of both sums, their quotient and their terms' roundings */
    const wide loss = reference_cross_entropy(n, k, z, labels, targets, o, losses, weights, dz, &weight_sum);
    if (o->reduction == NORMCORE_REDUCTION_NONE) {
        for (size_t i = 0; i < n; i++) tolerance[i] = row_error * losses[i];
        check_near(c, 3, losses, tolerance);
    } else {
        tolerance[0] = (row_error + batch_error) * loss;
        check_near(c, 3, &loss, tolerance);
    }
    if (c->a[5].data) {
        tolerance[0] = batch_error * weight_sum;
        check_near(c, 5, &weight_sum, tolerance);
    }
    if (!c->a[4].data) return;
    for (size_t i = 0; i < n; i++) {
        const wide factor = o->reduction != NORMCORE_REDUCTION_MEAN ? weights[i]
                            : weight_sum > 0                        ? weights[i] / weight_sum
                                                                    : 0;
        wide share_sum = 0, greatest = 0, sum = 0;
        for (size_t j = 0; j < k; j++) {
            share_sum += reference_share(k, labels, targets, o, i, j);
            greatest = j == 0 || z[i * k + j] > greatest ? z[i * k + j] : greatest;
        }
        for (size_t j = 0; j < k; j++) sum += expl(z[i * k + j] - greatest);
        for (size_t j = 0; j < k; j++) {
            const wide share = reference_share(k, labels, targets, o, i, j), p = expl(z[i * k + j] - greatest) / sum;
            tolerance[i * k + j] = factor * ((9 * U + ((wide)k / 8 + 16) * UD) * p * share_sum + 4 * U * share) +
                                   (3 * U + batch_error) * fabsl(dz[i * k + j]) + (wide)REAL_MIN;
        }
    }
    check_near(c, 4, dz, tolerance);
}

#define OPERATION(name, variant, flags)                                                                                \
    {                                                                                                                  \
        name, variant, NEEDS_COLS | (flags), setup, run, verify, {{4, 0}}                                              \
    }

static const operation operations[] = {
    OPERATION("cross_entropy", 0, 0),
    OPERATION("cross_entropy, weighted sum", WEIGHTED | SMOOTH | IGNORE | SUM, 0),
    OPERATION("cross_entropy, weighted mean", WEIGHTED | IGNORE, 0),
    OPERATION("cross_entropy, smoothed", SMOOTH, 0),
    OPERATION("cross_entropy, each", EACH | WEIGHTED | IGNORE, BY_ROW),
    OPERATION("cross_entropy, soft", SOFT, 0),
    OPERATION("cross_entropy, soft, weighted", SOFT | WEIGHTED | SMOOTH, 0),
    OPERATION("cross_entropy, soft, each", SOFT | EACH, BY_ROW),
    {"cross_entropy without gradient", NO_GRADIENT | SUM, NEEDS_COLS, setup, run, verify, {{0, 0}}},
};

operation_list cross_entropy_operations(void) {
    const operation_list list = {operations, sizeof operations / sizeof *operations};
    return list;
}
