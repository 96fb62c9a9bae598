/*
 * Every operation of one dtype (-DDIGESTS_DTYPE=32 or 64) on all shapes and classes of values, and the training runs.
 * A change here needs another digest file.
 */
#include "digests.h"

#include <string.h>

#if DIGESTS_DTYPE == 32
typedef float real;
typedef uint32_t bits;
#define T(name)   name##_f32
#define DTYPE     "f32"
#define add_words case_add_32
enum { FRACTION = 23, EXPONENT = 8 };
#else
typedef double real;
typedef uint64_t bits;
#define T(name)   name##_f64
#define DTYPE     "f64"
#define add_words case_add_64
enum { FRACTION = 52, EXPONENT = 11 };
#endif
enum { BIAS = (1 << (EXPONENT - 1)) - 1 };

/* ---------------------------------------------------------------- values, put together from bits */

enum { PLAIN, WIDE, OFFSET, INTEGER, SPECIAL, VALUE_CLASSES, RANGE = VALUE_CLASSES /* of optimisers alone */ };
static const char *const value_names[] = {"plain", "wide", "offset", "integer", "special", "range"};

static real compose(uint64_t sign, uint64_t exponent, uint64_t fraction) {
    const bits one = 1, b = (bits)sign << (FRACTION + EXPONENT) | (bits)exponent << FRACTION |
                            ((bits)fraction & ((one << FRACTION) - one));
    real value;
    memcpy(&value, &b, sizeof value);
    return value;
}

/* Exact in both dtypes: whole multiples of 2^-20 in [-2, 2). */
static real plain(uint64_t *state) { return (real)((int32_t)(random_next(state) >> 42) - (1 << 21)) * (real)0x1p-20; }

/* NaN, infinities, zeros, subnormal or huge numbers; a menu has some of them, so that not every sum becomes NaN. */
static real special(uint64_t *state, size_t menu) {
    const uint64_t r = random_next(state), sign = r & 1, fraction = random_next(state);
    const size_t kind = menu % 5 < 4 ? menu % 5 : (size_t)(r >> 1) % 4;
    switch (kind) {
    case 0:
        return compose(sign, 2 * BIAS + 1, fraction | 1); /* NaN with a payload, quiet or not */
    case 1:
        return compose(sign, 2 * BIAS + 1, 0);
    case 2:
        return compose(sign, 0, r >> 8 & 1 ? fraction : 0);
    default:
        return compose(sign, 2 * (uint64_t)BIAS - (r >> 8) % 8, fraction);
    }
}

static real value(uint64_t *state, int values, size_t menu) {
    switch (values) {
    case WIDE: {
        const uint64_t r = random_next(state);
        return compose(r & 1, BIAS - 20 + (r >> 1) % 41, r >> 8);
    }
    case OFFSET:
        return (real)16384 + (real)(int32_t)(random_next(state) >> 53) * (real)0x1p-9;
    case INTEGER:
        return (real)((int32_t)random_below(state, 9) - 4);
    case SPECIAL:
        return random_below(state, 10) ? plain(state) : special(state, menu);
    case RANGE: {
        const uint64_t r = random_next(state); /* every normal number */
        return compose(r & 1, 1 + (r >> 1) % (2 * (uint64_t)BIAS), r >> 12);
    }
    default:
        return plain(state);
    }
}

/* ---------------------------------------------------------------- arrays */

typedef struct matrix {
    real *at;
    size_t rows, cols, stride;
} matrix;

static matrix matrix_of(size_t rows, size_t cols) {
    const size_t stride = take_stride(cols);
    const matrix m = {take(rows * stride + 1, sizeof(real)), rows, cols, stride};
    return m;
}

enum { BY_ROW, BY_COLUMN }; /* what shares a menu of special values */

static matrix filled(size_t rows, size_t cols, int values, int axis, uint64_t *state) {
    const matrix m = matrix_of(rows, cols);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) m.at[i * m.stride + j] = value(state, values, axis == BY_ROW ? i : j);
    return m;
}
static real *vector_of(size_t n) { return take(n + 1, sizeof(real)); }
static double *doubles_of(size_t n) { return take(n + 1, sizeof(double)); }
static real *filled_vector(size_t n, int values, uint64_t *state) {
    real *v = vector_of(n);
    for (size_t j = 0; j < n; j++) v[j] = value(state, values, j);
    return v;
}
/* In (0, 2]. */
static real *positive_vector(size_t n, uint64_t *state) {
    real *v = vector_of(n);
    for (size_t j = 0; j < n; j++) v[j] = (real)(1 + random_below(state, 1 << 21)) * (real)0x1p-20;
    return v;
}
static int64_t *labels_of(size_t n, size_t classes, uint64_t *state) {
    int64_t *labels = take(n + 1, sizeof *labels);
    for (size_t i = 0; i < n; i++) labels[i] = (int64_t)random_below(state, classes);
    return labels;
}

static void add_matrix(matrix m) {
    for (size_t i = 0; i < m.rows; i++) add_words(m.at + i * m.stride, m.cols);
}

#define ROW(m, i) (m).at + (i) * (m).stride, (m).stride
/* The rows [i, i + count) of n, all at once or in the pieces of this run. */
#define FOR_PIECES(i, count, n) for (size_t i = 0, count; i < (n) && (count = piece((n) - i)) > 0; i += count)

typedef struct shape {
    const char *name;
    size_t n, k, m;
} shape;
typedef void (*body)(const shape *s, int values, uint64_t *state);

/* The shape called large is there to occupy several threads, and has plain values only. */
static void all_cases(const char *op, const shape *shapes, size_t count, body run_case) {
    for (size_t s = 0; s < count; s++) {
        const int large = !strcmp(shapes[s].name, "large");
        for (int values = 0; values < (large ? 1 : VALUE_CLASSES) && !(large && run.quick); values++) {
            uint64_t state;
            if (!case_begin(op, DTYPE, shapes[s].name, value_names[values], &state)) continue;
            run_case(&shapes[s], values, &state);
            case_end();
        }
    }
}
#define COUNT(array)                (sizeof(array) / sizeof((array)[0]))
#define ALL_CASES(op, shapes, body) all_cases(op, shapes, COUNT(shapes), body)

/* ---------------------------------------------------------------- affine */

static const shape affine_shapes[] = {
    {"small", 3, 5, 4}, {"odd", 19, 37, 41}, {"deep", 9, 523, 18}, {"chunks", 1037, 9, 21}, {"large", 640, 320, 130},
};

static void affine_forward_with(const shape *s, int values, uint64_t *state, int relu) {
    const matrix x = filled(s->n, s->k, values, BY_ROW, state), w = filled(s->k, s->m, values, BY_COLUMN, state);
    const matrix y = matrix_of(s->n, s->m);
    const real *b = relu ? filled_vector(s->m, values, state) : NULL;
    FOR_PIECES(i, count, s->n)
    MUST(T(normcore_affine_forward)(run.ctx, count, s->k, s->m, ROW(x, i), w.at, w.stride, b, relu, ROW(y, i)));
    add_matrix(y);
}
static void affine_forward(const shape *s, int values, uint64_t *state) { affine_forward_with(s, values, state, 0); }
static void affine_bias_relu(const shape *s, int values, uint64_t *state) { affine_forward_with(s, values, state, 1); }

static void affine_backward_dx(const shape *s, int values, uint64_t *state) {
    const matrix dy = filled(s->n, s->m, values, BY_ROW, state), w = filled(s->k, s->m, values, BY_ROW, state);
    const matrix dx = matrix_of(s->n, s->k);
    FOR_PIECES(i, count, s->n)
    MUST(T(normcore_affine_backward)(run.ctx, count, s->k, s->m, ROW(dy, i), NULL, s->k, w.at, w.stride, ROW(dx, i),
                                     NULL, s->m, NULL));
    add_matrix(dx);
}

static void affine_backward_dw(const shape *s, int values, uint64_t *state) {
    const matrix dy = filled(s->n, s->m, values, BY_COLUMN, state), x = filled(s->n, s->k, values, BY_COLUMN, state);
    const matrix dw = matrix_of(s->k, s->m);
    real *db = vector_of(s->m);
    MUST(T(normcore_affine_backward)(run.ctx, s->n, s->k, s->m, dy.at, dy.stride, x.at, x.stride, NULL, s->m, NULL,
                                     s->k, dw.at, dw.stride, db));
    add_matrix(dw);
    add_words(db, s->m);
}

/* ---------------------------------------------------------------- row by row */

static const shape row_shapes[] = {
    {"small", 5, 3, 0}, {"odd", 19, 37, 0}, {"long", 7, 1031, 0}, {"chunks", 523, 17, 0}, {"large", 2100, 600, 0},
};

typedef normcore_status (*one_input)(normcore_context *, size_t, size_t, const real *, size_t, real *, size_t);
typedef normcore_status (*two_inputs)(normcore_context *, size_t, size_t, const real *, size_t, const real *, size_t,
                                      real *, size_t);

static void apply(one_input function, matrix x, matrix y) {
    FOR_PIECES(i, count, x.rows) MUST(function(run.ctx, count, x.cols, ROW(x, i), ROW(y, i)));
}
/* The gradient goes to dx from dy and from what `forward` makes of x; from x itself if that is NULL. */
static void apply_backward(one_input forward, two_inputs backward, const shape *s, int values, uint64_t *state) {
    const matrix x = filled(s->n, s->k, values, BY_ROW, state), dy = filled(s->n, s->k, values, BY_ROW, state);
    const matrix y = forward ? matrix_of(s->n, s->k) : x, dx = matrix_of(s->n, s->k);
    if (forward) apply(forward, x, y);
    FOR_PIECES(i, count, s->n) MUST(backward(run.ctx, count, s->k, ROW(dy, i), ROW(y, i), ROW(dx, i)));
    add_matrix(dx);
}
static void apply_forward(one_input forward, const shape *s, int values, uint64_t *state) {
    const matrix x = filled(s->n, s->k, values, BY_ROW, state), y = matrix_of(s->n, s->k);
    apply(forward, x, y);
    add_matrix(y);
}

#define FORWARD(op)                                                                                                    \
    static void op(const shape *s, int values, uint64_t *state) { apply_forward(T(normcore_##op), s, values, state); }
#define BACKWARD(op, forward, backward)                                                                                \
    static void op(const shape *s, int values, uint64_t *state) {                                                      \
        apply_backward(T(forward), T(backward), s, values, state);                                                     \
    }
FORWARD(softmax)
FORWARD(log_softmax)
BACKWARD(softmax_backward, normcore_softmax, normcore_softmax_backward)
BACKWARD(log_softmax_backward, normcore_log_softmax, normcore_log_softmax_backward)

/* An activation as functions of the types above, and its cases. */
#define ACTIVATION(name, number)                                                                                       \
    static normcore_status name(normcore_context *ctx, size_t n, size_t d, const real *x, size_t xs, real *y,          \
                                size_t ys) {                                                                           \
        return T(normcore_activation_forward)(ctx, number, 0.01, n, d, x, xs, y, ys);                                  \
    }                                                                                                                  \
    static normcore_status name##_gradient(normcore_context *ctx, size_t n, size_t d, const real *dy, size_t dys,      \
                                           const real *saved, size_t ss, real *dx, size_t dxs) {                       \
        return T(normcore_activation_backward)(ctx, number, 0.01, n, d, dy, dys, saved, ss, dx, dxs);                  \
    }                                                                                                                  \
    static void name##_forward(const shape *s, int values, uint64_t *state) { apply_forward(name, s, values, state); } \
    static void name##_backward(const shape *s, int values, uint64_t *state) {                                         \
        apply_backward(normcore_activation_takes_input(number) ? NULL : name, name##_gradient, s, values, state);      \
    }
ACTIVATION(relu, NORMCORE_ACTIVATION_RELU)
ACTIVATION(leaky_relu, NORMCORE_ACTIVATION_LEAKY_RELU)
ACTIVATION(hyperbolic_tangent, NORMCORE_ACTIVATION_TANH)
ACTIVATION(logistic, NORMCORE_ACTIVATION_LOGISTIC)
ACTIVATION(silu, NORMCORE_ACTIVATION_SILU)
ACTIVATION(relu6, NORMCORE_ACTIVATION_RELU6)

static void dropout(const shape *s, int values, uint64_t *state) {
    const matrix x = filled(s->n, s->k, values, BY_ROW, state), y = matrix_of(s->n, s->k);
    const uint64_t seed = random_next(state), stream = random_next(state);
    FOR_PIECES(i, count, s->n)
    MUST(T(normcore_dropout)(run.ctx, count, s->k, ROW(x, i), 0.7, seed, stream, 11 + i * s->k, ROW(y, i)));
    add_matrix(y);
}

/* ---------------------------------------------------------------- cross-entropy */

/* Losses and gradients of the rows, without a sum over them. */
static void cross_entropy_rows(const shape *s, int values, uint64_t *state) {
    const matrix z = filled(s->n, s->k, values, BY_ROW, state), dz = matrix_of(s->n, s->k);
    const int64_t *labels = labels_of(s->n, s->k, state);
    double *losses = doubles_of(s->n);
    normcore_cross_entropy_options options;
    MUST(normcore_cross_entropy_defaults(&options, sizeof options));
    options.reduction = NORMCORE_REDUCTION_NONE;
    FOR_PIECES(i, count, s->n)
    MUST(T(normcore_cross_entropy)(run.ctx, count, s->k, ROW(z, i), labels + i, NULL, s->k, &options, losses + i,
                                   ROW(dz, i), NULL, NULL));
    case_add_64(losses, s->n);
    add_matrix(dz);
}

enum { LABELS, TARGETS, SIGNED_TARGETS };

static void cross_entropy_mean(const shape *s, int values, uint64_t *state, int kind) {
    const int soft = kind != LABELS;
    const matrix z = filled(s->n, s->k, values, BY_ROW, state), dz = matrix_of(s->n, s->k);
    int64_t *labels = labels_of(s->n, s->k, state);
    matrix targets = matrix_of(s->n, s->k);
    double *class_weight = doubles_of(s->k), *sample_weight = doubles_of(s->n), loss, weight_sum;
    for (size_t j = 0; j < s->k; j++) class_weight[j] = (double)random_below(state, 1024) * 0x1p-9;
    for (size_t i = 0; i < s->n; i++) {
        sample_weight[i] = (double)random_below(state, 1024) * 0x1p-9;
        for (size_t j = 0; j < s->k; j++)
            targets.at[i * targets.stride + j] =
                random_below(state, 3) ? (real)random_below(state, 1 << 20) * (real)0x1p-20 : (real)0;
    }
    /* Without smoothing, classes of weight 0 and targets of 0 have no share. */
    for (size_t j = 0; kind == SIGNED_TARGETS && j < s->k; j++) {
        if (j % 4 == 3) class_weight[j] = 0.0;
        for (size_t i = j % 2; i < s->n; i += 2) targets.at[i * targets.stride + j] *= (real)-1;
    }
    normcore_cross_entropy_options options;
    MUST(normcore_cross_entropy_defaults(&options, sizeof options));
    options.class_weight = class_weight;
    options.sample_weight = sample_weight;
    options.label_smoothing = kind == SIGNED_TARGETS ? 0.0 : 0.1;
    options.has_ignore_index = !soft;
    options.ignore_index = 1;
    MUST(T(normcore_cross_entropy)(run.ctx, s->n, s->k, z.at, z.stride, soft ? NULL : labels, soft ? targets.at : NULL,
                                   targets.stride, &options, &loss, dz.at, dz.stride, &weight_sum, NULL));
    case_add_64(&loss, 1);
    case_add_64(&weight_sum, 1);
    add_matrix(dz);
}
static void cross_entropy_labels(const shape *s, int values, uint64_t *state) {
    cross_entropy_mean(s, values, state, LABELS);
}
static void cross_entropy_targets(const shape *s, int values, uint64_t *state) {
    cross_entropy_mean(s, values, state, TARGETS);
}
static void cross_entropy_signed(const shape *s, int values, uint64_t *state) {
    cross_entropy_mean(s, values, state, SIGNED_TARGETS);
}

/* So many rows that the tree has several levels. */
static const shape many_rows[] = {{"many", 40007, 3, 0}};

/* ---------------------------------------------------------------- losses of numbers */

typedef normcore_status (*loss_function)(normcore_context *ctx, size_t n, size_t d, const real *y, size_t y_stride,
                                         const real *t, size_t t_stride, const normcore_loss_options *options,
                                         double *loss, real *dy, size_t dy_stride, double *weight_sum, size_t *bad_row);

enum { ANY_TARGETS, SHARES, COUNTS };

static matrix targets_of(const shape *s, int values, uint64_t *state, int kind) {
    if (kind == ANY_TARGETS) return filled(s->n, s->k, values, BY_ROW, state);
    const matrix t = matrix_of(s->n, s->k);
    for (size_t i = 0; i < s->n; i++)
        for (size_t j = 0; j < s->k; j++) {
            real *const target = &t.at[i * t.stride + j];
            if (kind == COUNTS)
                *target = (real)random_below(state, 9);
            else /* half of them certain */
                *target = random_below(state, 2) ? (real)random_below(state, 2)
                                                 : (real)random_below(state, 1 << 20) * (real)0x1p-20;
        }
    return t;
}

/* Losses and gradients of the rows with the default parameters, then the weighted mean with others. */
static void losses(const shape *s, int values, uint64_t *state, loss_function function, int kind) {
    const matrix y = filled(s->n, s->k, values, BY_ROW, state), t = targets_of(s, values, state, kind);
    const matrix dy = matrix_of(s->n, s->k), dy_mean = matrix_of(s->n, s->k);
    double *each = doubles_of(s->n), *sample_weight = doubles_of(s->n), loss, weight_sum;
    for (size_t i = 0; i < s->n; i++) sample_weight[i] = (double)random_below(state, 1024) * 0x1p-9;
    normcore_loss_options options;
    MUST(normcore_loss_defaults(&options, sizeof options));
    options.reduction = NORMCORE_REDUCTION_NONE;
    FOR_PIECES(i, count, s->n)
    MUST(function(run.ctx, count, s->k, ROW(y, i), ROW(t, i), &options, each + i, ROW(dy, i), NULL, NULL));
    case_add_64(each, s->n);
    add_matrix(dy);
    options.reduction = NORMCORE_REDUCTION_MEAN;
    options.sample_weight = sample_weight;
    options.delta = 0.3;
    options.tau = 0.8;
    MUST(function(run.ctx, s->n, s->k, y.at, y.stride, t.at, t.stride, &options, &loss, dy_mean.at, dy_mean.stride,
                  &weight_sum, NULL));
    case_add_64(&loss, 1);
    case_add_64(&weight_sum, 1);
    add_matrix(dy_mean);
}

#define LOSS(function, kind)                                                                                           \
    static void function(const shape *s, int values, uint64_t *state) {                                                \
        losses(s, values, state, T(normcore_##function), kind);                                                        \
    }
LOSS(logistic_loss, SHARES)
LOSS(squared_error, ANY_TARGETS)
LOSS(huber_loss, ANY_TARGETS)
LOSS(quantile_loss, ANY_TARGETS)
LOSS(poisson_loss, COUNTS)
#undef LOSS

/* ---------------------------------------------------------------- batch normalisation */

static const shape column_shapes[] = {
    {"single", 1, 9, 0}, {"short", 15, 21, 0}, {"odd", 37, 19, 0}, {"chunks", 1037, 11, 0}, {"large", 2100, 600, 0},
};

static void batch_norm_forward(const shape *s, int values, uint64_t *state) {
    const matrix x = filled(s->n, s->k, values, BY_COLUMN, state), y = matrix_of(s->n, s->k);
    const real *gamma = filled_vector(s->k, PLAIN, state), *beta = filled_vector(s->k, PLAIN, state);
    real *running_mean = filled_vector(s->k, PLAIN, state), *running_var = positive_vector(s->k, state);
    double *mean = doubles_of(s->k), *rstd = doubles_of(s->k);
    MUST(T(normcore_batch_norm_forward)(run.ctx, s->n, s->k, x.at, x.stride, gamma, beta, NULL, running_mean,
                                        running_var, y.at, y.stride, mean, rstd));
    add_matrix(y);
    case_add_64(mean, s->k);
    case_add_64(rstd, s->k);
    add_words(running_mean, s->k);
    add_words(running_var, s->k);
}

/* Running statistics are constants, so that it goes row by row. */
static void batch_norm_evaluation(const shape *s, int values, uint64_t *state) {
    const matrix x = filled(s->n, s->k, values, BY_COLUMN, state), y = matrix_of(s->n, s->k);
    const matrix dy = filled(s->n, s->k, values, BY_COLUMN, state), dx = matrix_of(s->n, s->k);
    const real *gamma = filled_vector(s->k, PLAIN, state), *beta = filled_vector(s->k, PLAIN, state);
    real *running_mean = filled_vector(s->k, values, state), *running_var = positive_vector(s->k, state);
    double *mean = doubles_of(s->k), *rstd = doubles_of(s->k);
    normcore_batch_norm_options options;
    MUST(normcore_batch_norm_defaults(&options, sizeof options));
    options.training = 0;
    FOR_PIECES(i, count, s->n) {
        MUST(T(normcore_batch_norm_forward)(run.ctx, count, s->k, ROW(x, i), gamma, beta, &options, running_mean,
                                            running_var, ROW(y, i), mean, rstd));
        MUST(T(normcore_batch_norm_backward)(run.ctx, count, s->k, ROW(dy, i), ROW(x, i), gamma, mean, rstd, 0,
                                             NORMCORE_BATCH_NORM_FUSED, ROW(dx, i), NULL, NULL));
    }
    add_matrix(y);
    add_matrix(dx);
    case_add_64(mean, s->k);
    case_add_64(rstd, s->k);
}

static void batch_norm_backward(const shape *s, int values, uint64_t *state, normcore_batch_norm_algorithm algorithm) {
    const matrix x = filled(s->n, s->k, values, BY_COLUMN, state), y = matrix_of(s->n, s->k);
    const matrix dy = filled(s->n, s->k, values, BY_COLUMN, state), dx = matrix_of(s->n, s->k);
    const real *gamma = filled_vector(s->k, PLAIN, state), *beta = filled_vector(s->k, PLAIN, state);
    real *dgamma = vector_of(s->k), *dbeta = vector_of(s->k);
    double *mean = doubles_of(s->k), *rstd = doubles_of(s->k);
    MUST(T(normcore_batch_norm_forward)(run.ctx, s->n, s->k, x.at, x.stride, gamma, beta, NULL, NULL, NULL, y.at,
                                        y.stride, mean, rstd));
    MUST(T(normcore_batch_norm_backward)(run.ctx, s->n, s->k, dy.at, dy.stride, x.at, x.stride, gamma, mean, rstd, 1,
                                         algorithm, dx.at, dx.stride, dgamma, dbeta));
    add_matrix(dx);
    add_words(dgamma, s->k);
    add_words(dbeta, s->k);
}
static void batch_norm_fused(const shape *s, int values, uint64_t *state) {
    batch_norm_backward(s, values, state, NORMCORE_BATCH_NORM_FUSED);
}
static void batch_norm_graph(const shape *s, int values, uint64_t *state) {
    batch_norm_backward(s, values, state, NORMCORE_BATCH_NORM_GRAPH);
}

/* ---------------------------------------------------------------- layer normalisation */

static void layer_norm_forward(const shape *s, int values, uint64_t *state) {
    const matrix x = filled(s->n, s->k, values, BY_ROW, state), y = matrix_of(s->n, s->k);
    const real *gamma = filled_vector(s->k, PLAIN, state), *beta = filled_vector(s->k, PLAIN, state);
    double *mean = doubles_of(s->n), *rstd = doubles_of(s->n);
    FOR_PIECES(i, count, s->n)
    MUST(T(normcore_layer_norm_forward)(run.ctx, count, s->k, ROW(x, i), gamma, beta, 1e-5, ROW(y, i), mean + i,
                                        rstd + i));
    add_matrix(y);
    case_add_64(mean, s->n);
    case_add_64(rstd, s->n);
}

static void layer_norm_backward_dx(const shape *s, int values, uint64_t *state) {
    const matrix x = filled(s->n, s->k, values, BY_ROW, state), y = matrix_of(s->n, s->k);
    const matrix dy = filled(s->n, s->k, values, BY_ROW, state), dx = matrix_of(s->n, s->k);
    const real *gamma = filled_vector(s->k, PLAIN, state);
    double *mean = doubles_of(s->n), *rstd = doubles_of(s->n);
    FOR_PIECES(i, count, s->n) {
        MUST(T(normcore_layer_norm_forward)(run.ctx, count, s->k, ROW(x, i), gamma, gamma, 1e-5, ROW(y, i), mean + i,
                                            rstd + i));
        MUST(T(normcore_layer_norm_backward)(run.ctx, count, s->k, ROW(dy, i), ROW(x, i), gamma, mean + i, rstd + i,
                                             ROW(dx, i), NULL, NULL));
    }
    add_matrix(dx);
}

/* One special value in x would make NaN of its whole row, and so of every sum over the rows: they are in dy only. */
static void layer_norm_backward_parameters(const shape *s, int values, uint64_t *state) {
    const matrix x = filled(s->n, s->k, values == SPECIAL ? PLAIN : values, BY_ROW, state), y = matrix_of(s->n, s->k);
    const matrix dy = filled(s->n, s->k, values, BY_COLUMN, state);
    const real *gamma = filled_vector(s->k, PLAIN, state);
    double *mean = doubles_of(s->n), *rstd = doubles_of(s->n);
    real *dgamma = vector_of(s->k), *dbeta = vector_of(s->k);
    MUST(T(normcore_layer_norm_forward)(run.ctx, s->n, s->k, x.at, x.stride, gamma, gamma, 1e-5, y.at, y.stride, mean,
                                        rstd));
    MUST(T(normcore_layer_norm_backward)(run.ctx, s->n, s->k, dy.at, dy.stride, x.at, x.stride, gamma, mean, rstd, NULL,
                                         s->k, dgamma, dbeta));
    add_words(dgamma, s->k);
    add_words(dbeta, s->k);
}

/* ---------------------------------------------------------------- optimisers and sums */

static const shape flat_shapes[] = {{"small", 5, 0, 0}, {"odd", 1037, 0, 0}, {"large", 1000000, 0, 0}};

static void optimizer(const shape *s, int values, uint64_t *state, normcore_optimizer kind) {
    normcore_optimizer_options options;
    MUST(normcore_optimizer_defaults(kind, &options, sizeof options));
    options.learning_rate = 0.01;
    options.l2 = 0.001;
    options.weight_decay = 0.02;
    options.gradient_scale = 0.75;
    const int has_slot1 = kind == NORMCORE_MOMENTUM || kind == NORMCORE_NESTEROV || kind == NORMCORE_ADAM;
    const int has_slot2 = kind == NORMCORE_RMSPROP || kind == NORMCORE_ADAM;
    real *p = filled_vector(s->n, PLAIN, state), *slot1 = vector_of(s->n), *slot2 = vector_of(s->n);
    for (options.step = 1; options.step <= 3; options.step++) {
        const real *g = filled_vector(s->n, values, state);
        FOR_PIECES(i, count, s->n)
        MUST(T(normcore_optimizer_update)(run.ctx, &options, count, p + i, g + i, has_slot1 ? slot1 + i : NULL,
                                          has_slot2 ? slot2 + i : NULL));
    }
    add_words(p, s->n);
    add_words(slot1, s->n);
    add_words(slot2, s->n);
}
#define OPTIMIZER(name, kind)                                                                                          \
    static void name(const shape *s, int values, uint64_t *state) { optimizer(s, values, state, kind); }
OPTIMIZER(sgd, NORMCORE_SGD)
OPTIMIZER(momentum, NORMCORE_MOMENTUM)
OPTIMIZER(nesterov, NORMCORE_NESTEROV)
OPTIMIZER(rmsprop, NORMCORE_RMSPROP)
OPTIMIZER(adam, NORMCORE_ADAM)

/* Gradients of every size: what is stored may overflow, and nothing before it. */
static void optimizer_range(const char *op, body run_case) {
    uint64_t state;
    if (!case_begin(op, DTYPE, flat_shapes[1].name, value_names[RANGE], &state)) return;
    run_case(&flat_shapes[1], RANGE, &state);
    case_end();
}

static void sum_of_squares(const shape *s, int values, uint64_t *state) {
    double sum;
    MUST(T(normcore_sum_of_squares)(run.ctx, s->n, filled_vector(s->n, values, state), &sum));
    case_add_64(&sum, 1);
}

/* ---------------------------------------------------------------- random numbers */

/* The same stream whole and in pieces: values depend on their number only. */
static void random_numbers(const char *op, const char *parameters, int normal, double a, double b) {
    enum { N = 5000 };
    uint64_t state;
    if (!case_begin(op, DTYPE, parameters, NULL, &state)) return;
    const uint64_t seed = random_next(&state), stream = random_next(&state);
    real *out = vector_of(N);
    FOR_PIECES(i, count, (size_t)N)
    MUST((normal ? T(normcore_random_normal) : T(normcore_random_uniform))(run.ctx, seed, stream, 7 + i, count, a, b,
                                                                           out + i));
    add_words(out, N);
    case_end();
}

#if DIGESTS_DTYPE == 64
/* Random integers have no dtype: here they are made once. */
static void random_whole_numbers(const char *shape_name, size_t n, uint64_t bound) {
    uint64_t state;
    if (case_begin("random_integers", "i64", shape_name, NULL, &state)) {
        const uint64_t seed = random_next(&state), stream = random_next(&state);
        int64_t *out = take(n, sizeof *out);
        FOR_PIECES(i, count, n) MUST(normcore_random_integers(run.ctx, seed, stream, 7 + i, count, bound, out + i));
        case_add_64(out, n);
        case_end();
    }
    if (case_begin("random_permutation", "i64", shape_name, NULL, &state)) {
        const uint64_t seed = random_next(&state), stream = random_next(&state);
        int64_t *out = take(n, sizeof *out);
        MUST(normcore_random_permutation(run.ctx, seed, stream, 7, n, out));
        case_add_64(out, n);
        case_end();
    }
}
#endif

/* ---------------------------------------------------------------- networks */

enum { FEATURES = 16, CLASSES = 5 };

static normcore_mlp *network(normcore_norm norm, normcore_activation activation, double keep) {
    static const size_t sizes[] = {FEATURES, 37, 20, CLASSES};
    normcore_mlp_options options;
    MUST(normcore_mlp_defaults(&options, sizeof options));
    options.num_sizes = COUNT(sizes);
    options.sizes = sizes;
    options.norm = norm;
    options.activation = activation;
    options.keep = keep;
    normcore_mlp *mlp;
    MUST(normcore_mlp_create(&options, &mlp));
    return mlp;
}

static const shape network_shapes[] = {{"small", 9, 0, 0}, {"chunks", 523, 0, 0}};

static void mlp(const shape *s, int values, uint64_t *state, normcore_norm norm, normcore_activation activation,
                double keep) {
    normcore_mlp *net = network(norm, activation, keep);
    const size_t parameters = normcore_mlp_parameter_count(net), buffer_count = normcore_mlp_buffer_count(net);
    real *params = vector_of(parameters), *buffers = vector_of(buffer_count), *grads = vector_of(parameters);
    const matrix x = filled(s->n, FEATURES, values == SPECIAL ? WIDE : values, BY_ROW, state);
    const matrix evaluated = filled(s->n, FEATURES, values, BY_ROW, state), logits = matrix_of(s->n, CLASSES);
    const int64_t *labels = labels_of(s->n, CLASSES, state);
    double loss;
    MUST(T(normcore_mlp_initialize)(run.ctx, net, random_next(state), 3, -1.0, params, buffers));
    MUST(T(normcore_mlp_loss_and_grads)(run.ctx, net, s->n, x.at, x.stride, labels, NULL, CLASSES, NULL,
                                        random_next(state), 5, params, buffers, grads, &loss, NULL, NULL));
    FOR_PIECES(i, count, s->n)
    MUST(T(normcore_mlp_forward)(run.ctx, net, count, ROW(evaluated, i), params, buffers, ROW(logits, i)));
    add_words(params, parameters);
    add_words(buffers, buffer_count);
    add_words(grads, parameters);
    case_add_64(&loss, 1);
    add_matrix(logits);
    normcore_mlp_destroy(net);
}
#define MLP(name, norm, activation, keep)                                                                              \
    static void name(const shape *s, int values, uint64_t *state) { mlp(s, values, state, norm, activation, keep); }
MLP(mlp_plain, NORMCORE_NORM_NONE, NORMCORE_ACTIVATION_RELU, 1.0)
MLP(mlp_batch_norm, NORMCORE_NORM_BATCH, NORMCORE_ACTIVATION_RELU, 1.0)
MLP(mlp_layer_norm_dropout, NORMCORE_NORM_LAYER, NORMCORE_ACTIVATION_RELU, 0.8)
MLP(mlp_leaky_relu_dropout, NORMCORE_NORM_NONE, NORMCORE_ACTIVATION_LEAKY_RELU, 0.8)
MLP(mlp_tanh_dropout, NORMCORE_NORM_NONE, NORMCORE_ACTIVATION_TANH, 0.8)
MLP(mlp_logistic_layer_norm, NORMCORE_NORM_LAYER, NORMCORE_ACTIVATION_LOGISTIC, 1.0)
MLP(mlp_silu_batch_norm_dropout, NORMCORE_NORM_BATCH, NORMCORE_ACTIVATION_SILU, 0.8)

/*
 * Three epochs on points around a centre for each class, shuffled, with a last batch that is not full. Losses, logits
 * after each epoch, and all state at the end.
 */
static void training(const char *name, normcore_norm norm, normcore_activation activation, double keep,
                     normcore_optimizer kind, size_t batch) {
    enum { N = 500, EPOCHS = 3 };
    uint64_t state;
    if (!case_begin(name, DTYPE, NULL, NULL, &state)) return;
    normcore_mlp *net = network(norm, activation, keep);
    const size_t parameters = normcore_mlp_parameter_count(net), buffer_count = normcore_mlp_buffer_count(net);
    real *params = vector_of(parameters), *buffers = vector_of(buffer_count), *grads = vector_of(parameters);
    real *slot1 = vector_of(parameters), *slot2 = vector_of(parameters);
    const matrix centres = filled(CLASSES, FEATURES, INTEGER, BY_ROW, &state), x = matrix_of(N, FEATURES);
    const matrix batch_x = matrix_of(batch, FEATURES), logits = matrix_of(N, CLASSES);
    const int64_t *labels = labels_of(N, CLASSES, &state);
    int64_t *order = take(N, sizeof *order), *batch_labels = take(batch, sizeof *batch_labels);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < FEATURES; j++)
            x.at[i * x.stride + j] = centres.at[(size_t)labels[i] * centres.stride + j] + plain(&state);
    normcore_optimizer_options options;
    MUST(normcore_optimizer_defaults(kind, &options, sizeof options));
    options.learning_rate = 0.02;
    options.l2 = 1e-4;
    const uint64_t seed = random_next(&state);
    uint64_t stream = 1000;
    MUST(T(normcore_mlp_initialize)(run.ctx, net, seed, 0, -1.0, params, buffers));
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        MUST(normcore_random_permutation(run.ctx, seed, 100 + epoch, 0, N, order));
        for (size_t start = 0; start < N; start += batch, options.step++, stream += 10) {
            const size_t rows = N - start < batch ? N - start : batch;
            double loss;
            for (size_t i = 0; i < rows; i++) {
                const size_t from = (size_t)order[start + i];
                memcpy(batch_x.at + i * batch_x.stride, x.at + from * x.stride, FEATURES * sizeof(real));
                batch_labels[i] = labels[from];
            }
            MUST(T(normcore_mlp_loss_and_grads)(run.ctx, net, rows, batch_x.at, batch_x.stride, batch_labels, NULL,
                                                CLASSES, NULL, seed, stream, params, buffers, grads, &loss, NULL,
                                                NULL));
            MUST(T(normcore_optimizer_update)(run.ctx, &options, parameters, params, grads,
                                              kind == NORMCORE_RMSPROP ? NULL : slot1,
                                              kind == NORMCORE_MOMENTUM ? NULL : slot2));
            case_add_64(&loss, 1);
        }
        FOR_PIECES(i, count, (size_t)N)
        MUST(T(normcore_mlp_forward)(run.ctx, net, count, ROW(x, i), params, buffers, ROW(logits, i)));
        add_matrix(logits);
    }
    add_words(params, parameters);
    add_words(buffers, buffer_count);
    add_words(slot1, parameters);
    add_words(slot2, parameters);
    case_end();
    normcore_mlp_destroy(net);
}

/* ---------------------------------------------------------------- everything */

void T(cases)(void) {
    ALL_CASES("affine_forward", affine_shapes, affine_forward);
    ALL_CASES("affine_bias_relu", affine_shapes, affine_bias_relu);
    ALL_CASES("affine_backward_dx", affine_shapes, affine_backward_dx);
    ALL_CASES("affine_backward_dw", affine_shapes, affine_backward_dw);
    ALL_CASES("relu_forward", row_shapes, relu_forward);
    ALL_CASES("relu_backward", row_shapes, relu_backward);
    ALL_CASES("leaky_relu_forward", row_shapes, leaky_relu_forward);
    ALL_CASES("leaky_relu_backward", row_shapes, leaky_relu_backward);
    ALL_CASES("tanh_forward", row_shapes, hyperbolic_tangent_forward);
    ALL_CASES("tanh_backward", row_shapes, hyperbolic_tangent_backward);
    ALL_CASES("logistic_forward", row_shapes, logistic_forward);
    ALL_CASES("logistic_backward", row_shapes, logistic_backward);
    ALL_CASES("silu_forward", row_shapes, silu_forward);
    ALL_CASES("silu_backward", row_shapes, silu_backward);
    ALL_CASES("relu6_forward", row_shapes, relu6_forward);
    ALL_CASES("relu6_backward", row_shapes, relu6_backward);
    ALL_CASES("softmax", row_shapes, softmax);
    ALL_CASES("softmax_backward", row_shapes, softmax_backward);
    ALL_CASES("log_softmax", row_shapes, log_softmax);
    ALL_CASES("log_softmax_backward", row_shapes, log_softmax_backward);
    ALL_CASES("cross_entropy_rows", row_shapes, cross_entropy_rows);
    ALL_CASES("cross_entropy_labels", row_shapes, cross_entropy_labels);
    ALL_CASES("cross_entropy_targets", row_shapes, cross_entropy_targets);
    ALL_CASES("cross_entropy_signed", row_shapes, cross_entropy_signed);
    ALL_CASES("cross_entropy_labels", many_rows, cross_entropy_labels);
    ALL_CASES("cross_entropy_targets", many_rows, cross_entropy_targets);
    ALL_CASES("cross_entropy_signed", many_rows, cross_entropy_signed);
    ALL_CASES("logistic_loss", row_shapes, logistic_loss);
    ALL_CASES("squared_error", row_shapes, squared_error);
    ALL_CASES("huber_loss", row_shapes, huber_loss);
    ALL_CASES("quantile_loss", row_shapes, quantile_loss);
    ALL_CASES("poisson_loss", row_shapes, poisson_loss);
    ALL_CASES("dropout", row_shapes, dropout);
    ALL_CASES("batch_norm_forward", column_shapes, batch_norm_forward);
    ALL_CASES("batch_norm_evaluation", column_shapes, batch_norm_evaluation);
    ALL_CASES("batch_norm_backward_fused", column_shapes, batch_norm_fused);
    ALL_CASES("batch_norm_backward_graph", column_shapes, batch_norm_graph);
    ALL_CASES("layer_norm_forward", row_shapes, layer_norm_forward);
    ALL_CASES("layer_norm_backward_dx", row_shapes, layer_norm_backward_dx);
    ALL_CASES("layer_norm_backward_parameters", row_shapes, layer_norm_backward_parameters);
    ALL_CASES("sgd", flat_shapes, sgd);
    ALL_CASES("momentum", flat_shapes, momentum);
    ALL_CASES("nesterov", flat_shapes, nesterov);
    ALL_CASES("rmsprop", flat_shapes, rmsprop);
    ALL_CASES("adam", flat_shapes, adam);
    optimizer_range("sgd", sgd);
    optimizer_range("momentum", momentum);
    optimizer_range("nesterov", nesterov);
    optimizer_range("rmsprop", rmsprop);
    optimizer_range("adam", adam);
    ALL_CASES("sum_of_squares", flat_shapes, sum_of_squares);
    ALL_CASES("mlp", network_shapes, mlp_plain);
    ALL_CASES("mlp_batch_norm", network_shapes, mlp_batch_norm);
    ALL_CASES("mlp_layer_norm_dropout", network_shapes, mlp_layer_norm_dropout);
    ALL_CASES("mlp_leaky_relu_dropout", network_shapes, mlp_leaky_relu_dropout);
    ALL_CASES("mlp_tanh_dropout", network_shapes, mlp_tanh_dropout);
    ALL_CASES("mlp_logistic_layer_norm", network_shapes, mlp_logistic_layer_norm);
    ALL_CASES("mlp_silu_batch_norm_dropout", network_shapes, mlp_silu_batch_norm_dropout);
    random_numbers("random_uniform", "unit", 0, 0.0, 1.0);
    random_numbers("random_uniform", "wide", 0, -1e30, 1e-30);
    random_numbers("random_normal", "standard", 1, 0.0, 1.0);
    random_numbers("random_normal", "small", 1, 0.25, 1e-37);
    const normcore_activation relu = NORMCORE_ACTIVATION_RELU;
    training("training_batch_norm", NORMCORE_NORM_BATCH, relu, 1.0, NORMCORE_ADAM, 300);
#if DIGESTS_DTYPE == 32
    training("training_layer_norm_dropout", NORMCORE_NORM_LAYER, relu, 0.8, NORMCORE_RMSPROP, 64);
    training("training_tanh_dropout", NORMCORE_NORM_NONE, NORMCORE_ACTIVATION_TANH, 0.8, NORMCORE_ADAM, 64);
    training("training_silu", NORMCORE_NORM_NONE, NORMCORE_ACTIVATION_SILU, 1.0, NORMCORE_MOMENTUM, 96);
#else
    training("training_double", NORMCORE_NORM_NONE, relu, 1.0, NORMCORE_MOMENTUM, 96);
    training("training_logistic_batch_norm", NORMCORE_NORM_BATCH, NORMCORE_ACTIVATION_LOGISTIC, 1.0, NORMCORE_ADAM, 64);
    training("training_leaky_relu_dropout", NORMCORE_NORM_NONE, NORMCORE_ACTIVATION_LEAKY_RELU, 0.8, NORMCORE_RMSPROP,
             300);
    random_whole_numbers("one", 1, 1);
    random_whole_numbers("many", 3000, 1000003);
    random_whole_numbers("full", 300, (uint64_t)1 << 63);
#endif
}
