#include "reference.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- affine */

void reference_affine_forward(size_t n, size_t k, size_t m, const wide *x, const wide *w, const wide *b, int relu,
                              wide *y) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++) {
            wide sum = b ? b[j] : 0;
            for (size_t l = 0; l < k; l++) sum += x[i * k + l] * w[l * m + j];
            y[i * m + j] = relu && !(sum > 0) ? 0 : sum;
        }
}

void reference_affine_backward(size_t n, size_t k, size_t m, const wide *dy, const wide *x, const wide *w, wide *dx,
                               wide *dw, wide *db) {
    for (size_t i = 0; dx && i < n; i++)
        for (size_t l = 0; l < k; l++) {
            wide sum = 0;
            for (size_t j = 0; j < m; j++) sum += dy[i * m + j] * w[l * m + j];
            dx[i * k + l] = sum;
        }
    for (size_t l = 0; dw && l < k; l++)
        for (size_t j = 0; j < m; j++) {
            wide sum = 0;
            for (size_t i = 0; i < n; i++) sum += x[i * k + l] * dy[i * m + j];
            dw[l * m + j] = sum;
        }
    for (size_t j = 0; db && j < m; j++) {
        wide sum = 0;
        for (size_t i = 0; i < n; i++) sum += dy[i * m + j];
        db[j] = sum;
    }
}

#if TEST_DTYPE == 32
#define FMA fmaf
#else
#define FMA fma
#endif

#define BLOCK 256

static real block_dot(size_t count, const real *x, size_t x_step, const real *y, size_t y_step) {
    real sum = 0;
    for (size_t i = 0; i < count; i++) sum = FMA(x[i * x_step], y[i * y_step], sum);
    return sum;
}

real reference_dot_exact(size_t k, const real *x, size_t x_step, const real *w, size_t w_step) {
    real sum = block_dot(k < BLOCK ? k : BLOCK, x, x_step, w, w_step);
    for (size_t l = BLOCK; l < k; l += BLOCK)
        sum += block_dot(k - l < BLOCK ? k - l : BLOCK, x + l * x_step, x_step, w + l * w_step, w_step);
    return sum;
}

/* The number of rows in the left half: the greatest power of two of chunks below the number of chunks. */
static size_t left_rows(size_t n) {
    const size_t chunks = (n + BLOCK - 1) / BLOCK;
    size_t left = 1;
    while (2 * left < chunks) left *= 2;
    return left * BLOCK;
}

real reference_batch_dot_exact(size_t n, const real *x, size_t x_step, const real *y, size_t y_step) {
    if (n <= BLOCK) return block_dot(n, x, x_step, y, y_step);
    const size_t left = left_rows(n);
    return reference_batch_dot_exact(left, x, x_step, y, y_step) +
           reference_batch_dot_exact(n - left, x + left * x_step, x_step, y + left * y_step, y_step);
}

double reference_batch_sum_exact(size_t n, const real *x, size_t x_step) {
    if (n <= BLOCK) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)x[i * x_step];
        return sum;
    }
    const size_t left = left_rows(n);
    return reference_batch_sum_exact(left, x, x_step) + reference_batch_sum_exact(n - left, x + left * x_step, x_step);
}

/* ---------------------------------------------------------------- row by row */

wide reference_logistic(wide x) { return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x)); }

wide reference_activation(normcore_activation activation, wide slope, wide x) {
    switch (activation) {
    case NORMCORE_ACTIVATION_RELU:
        return x > 0 ? x : 0;
    case NORMCORE_ACTIVATION_LEAKY_RELU:
        return x > 0 ? x : slope * x;
    case NORMCORE_ACTIVATION_TANH:
        return tanhl(x);
    case NORMCORE_ACTIVATION_LOGISTIC:
        return reference_logistic(x);
    case NORMCORE_ACTIVATION_SILU:
        return x * reference_logistic(x);
    case NORMCORE_ACTIVATION_RELU6:
        return x > 6 ? 6 : x > 0 ? x : 0;
    }
    return (wide)NAN;
}

wide reference_activation_derivative(normcore_activation activation, wide slope, wide saved) {
    switch (activation) {
    case NORMCORE_ACTIVATION_RELU:
        return saved <= 0 ? 0 : 1;
    case NORMCORE_ACTIVATION_LEAKY_RELU:
        return saved <= 0 ? slope : 1;
    case NORMCORE_ACTIVATION_TANH:
        return (1 - saved) * (1 + saved);
    case NORMCORE_ACTIVATION_LOGISTIC:
        return saved * (1 - saved);
    case NORMCORE_ACTIVATION_SILU:
        return reference_logistic(saved) * (1 + saved * reference_logistic(-saved));
    case NORMCORE_ACTIVATION_RELU6:
        return saved <= 0 || saved >= 6 ? 0 : 1;
    }
    return (wide)NAN;
}

static size_t first_greatest(size_t d, const wide *x) {
    size_t best = 0;
    for (size_t j = 1; j < d; j++)
        if (x[j] > x[best]) best = j;
    return best;
}

/* log(sum(exp(x - x[best]))), as log1p of the others. */
static wide log_sum(size_t d, const wide *x, size_t best) {
    wide others = 0;
    for (size_t j = 0; j < d; j++)
        if (j != best) others += expl(x[j] - x[best]);
    return log1pl(others);
}

void reference_log_softmax(size_t n, size_t d, const wide *x, wide *y) {
    for (size_t i = 0; i < n && d; i++, x += d, y += d) {
        const size_t best = first_greatest(d, x);
        const wide log_of_sum = log_sum(d, x, best), greatest = x[best];
        for (size_t j = 0; j < d; j++) y[j] = (x[j] - greatest) - log_of_sum;
    }
}

void reference_softmax(size_t n, size_t d, const wide *x, wide *y) {
    reference_log_softmax(n, d, x, y);
    for (size_t i = 0; i < n * d; i++) y[i] = expl(y[i]);
}

void reference_softmax_backward(size_t n, size_t d, const wide *dy, const wide *y, wide *dx) {
    for (size_t i = 0; i < n; i++, dy += d, y += d, dx += d) {
        wide sum = 0;
        for (size_t j = 0; j < d; j++) sum += dy[j] * y[j];
        for (size_t j = 0; j < d; j++) dx[j] = y[j] * (dy[j] - sum);
    }
}

void reference_log_softmax_backward(size_t n, size_t d, const wide *dy, const wide *y, wide *dx) {
    for (size_t i = 0; i < n; i++, dy += d, y += d, dx += d) {
        wide sum = 0;
        for (size_t j = 0; j < d; j++) sum += dy[j];
        for (size_t j = 0; j < d; j++) dx[j] = dy[j] - expl(y[j]) * sum;
    }
}

wide reference_share(size_t c, const int64_t *labels, const wide *targets, const normcore_cross_entropy_options *o,
                     size_t i, size_t j) {
    const wide target = labels ? (wide)(labels[i] == (int64_t)j) : targets[i * c + j];
    const wide smooth = (1 - (wide)o->label_smoothing) * target + (wide)o->label_smoothing / (wide)c;
    return o->class_weight ? (wide)o->class_weight[j] * smooth : smooth;
}

/* A sum with what was rounded away: as good where `wide` is no wider than a double, as under valgrind. */
typedef struct exact_sum {
    wide sum, lost;
} exact_sum;

static void add(exact_sum *to, wide x) {
    const wide sum = to->sum + x, rounded = sum - to->sum;
    if (isfinite(sum)) to->lost += (to->sum - (sum - rounded)) + (x - rounded);
    to->sum = sum;
}

wide reference_cross_entropy(size_t n, size_t c, const wide *z, const int64_t *labels, const wide *targets,
                             const normcore_cross_entropy_options *options, wide *losses, wide *weights, wide *dz,
                             wide *weight_sum) {
    static const normcore_cross_entropy_options defaults;
    const normcore_cross_entropy_options *o = options ? options : &defaults;
    exact_sum losses_sum = {0, 0}, weights_sum = {0, 0};
    for (size_t i = 0; i < n; i++) {
        const size_t best = first_greatest(c, z + i * c);
        const wide log_of_sum = log_sum(c, z + i * c, best), greatest = z[i * c + best];
        const int ignored = labels && o->has_ignore_index && labels[i] == o->ignore_index;
        wide share_sum = 0, row = 0;
        weights[i] = ignored ? 0 : o->sample_weight ? (wide)o->sample_weight[i] : 1;
        for (size_t j = 0; j < c; j++) {
            const wide share = reference_share(c, labels, targets, o, i, j);
            share_sum += share;
            row += share * (log_of_sum + (greatest - z[i * c + j]));
        }
        for (size_t j = 0; dz && j < c; j++) {
            const wide p = expl((z[i * c + j] - greatest) - log_of_sum);
            dz[i * c + j] = ignored ? 0 : weights[i] * (p * share_sum - reference_share(c, labels, targets, o, i, j));
        }
        losses[i] = ignored ? 0 : weights[i] * row;
        add(&losses_sum, losses[i]);
        /* A label's class weight weighs the row; those of soft targets weigh their classes only. */
        add(&weights_sum,
            labels && !ignored && o->class_weight ? weights[i] * (wide)o->class_weight[labels[i]] : weights[i]);
    }
    const wide loss = losses_sum.sum + losses_sum.lost, total = weights_sum.sum + weights_sum.lost;
    if (weight_sum) *weight_sum = total;
    if (o->reduction != NORMCORE_REDUCTION_MEAN) return loss;
    for (size_t i = 0; dz && i < n * c; i++) dz[i] = total > 0 ? dz[i] / total : 0;
    return total > 0 ? loss / total : 0;
}

/* ---------------------------------------------------------------- losses of numbers */

static reference_loss squared(wide r) {
    const reference_loss l = {r * r, 2 * r, r * r, fabsl(2 * r)};
    return l;
}

static reference_loss huber(wide r, wide delta) {
    const int near = fabsl(r) <= delta;
    const wide loss = near ? r * r / 2 : delta * (fabsl(r) - delta / 2), derivative = near ? r : r > 0 ? delta : -delta;
    const reference_loss l = {loss, derivative, loss, fabsl(derivative)};
    return l;
}

static reference_loss quantile(wide r, wide tau) {
    const wide above = (1 - tau) * r, below = -tau * r, loss = above > below ? above : below;
    const wide derivative = r > 0 ? 1 - tau : r < 0 ? -tau : 0;
    const reference_loss l = {loss, derivative, loss, fabsl(derivative)};
    return l;
}

static reference_loss poisson(wide y, wide t) {
    const wide mean = expl(y);
    const reference_loss l = {mean - t * y, mean - t, mean + fabsl(t * y), mean + t};
    return l;
}

static reference_loss logistic(wide y, wide t) {
    /* -log of the probabilities of 1 and of 0, each in the form that does not overflow */
    const wide one = y < 0 ? log1pl(expl(y)) - y : log1pl(expl(-y)),
               zero = y < 0 ? log1pl(expl(y)) : y + log1pl(expl(-y));
    const wide loss = t * one + (1 - t) * zero, p = reference_logistic(y), q = reference_logistic(-y);
    const reference_loss l = {loss, (1 - t) * p - t * q, loss, (1 - t) * p + t * q};
    return l;
}

reference_loss reference_loss_of(reference_kind kind, wide parameter, wide y, wide t) {
    switch (kind) {
    case REFERENCE_LOGISTIC:
        return logistic(y, t);
    case REFERENCE_HUBER:
        return huber(y - t, parameter);
    case REFERENCE_QUANTILE:
        return quantile(y - t, parameter);
    case REFERENCE_POISSON:
        return poisson(y, t);
    case REFERENCE_SQUARED:
        break;
    }
    return squared(y - t);
}

/* ---------------------------------------------------------------- normalisation */

void reference_moments(size_t count, size_t step, const wide *x, wide *mean, wide *var) {
    wide sum = 0, squares = 0;
    *mean = *var = 0;
    if (count == 0) return;
    for (size_t i = 0; i < count; i++)
        sum += x[i * step] - x[0]; /* relative to the first, so that a large offset costs nothing */
    *mean = x[0] + sum / (wide)count;
    for (size_t i = 0; i < count; i++)
        squares += ((x[i * step] - x[0]) - sum / (wide)count) * ((x[i * step] - x[0]) - sum / (wide)count);
    *var = squares / (wide)count;
}

void reference_norm_backward(size_t count, size_t step, const wide *dy, const wide *x, const wide *gamma,
                             size_t gamma_step, wide mean, wide rstd, int statistics, wide *dx) {
    wide sum = 0, product = 0;
    for (size_t i = 0; i < count && statistics; i++) {
        const wide g = dy[i * step] * gamma[i * gamma_step];
        sum += g;
        product += g * ((x[i * step] - mean) * rstd);
    }
    for (size_t i = 0; i < count; i++) {
        const wide g = dy[i * step] * gamma[i * gamma_step], xhat = (x[i * step] - mean) * rstd;
        dx[i * step] = rstd * (g - sum / (wide)count - xhat * product / (wide)count);
    }
}

/* ---------------------------------------------------------------- random numbers */

void reference_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c[4], k0 = key[0], k1 = key[1];
    memcpy(c, counter, sizeof c);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        const uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c[3] ^ k1,
                                  (uint32_t)p0};
        memcpy(c, next, sizeof c);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

uint32_t reference_word(uint64_t seed, uint64_t stream, uint64_t index) {
    const uint64_t block = index / 4;
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t out[4];
    reference_philox(counter, key, out);
    return out[index % 4];
}

uint64_t reference_word64(uint64_t seed, uint64_t stream, uint64_t index) {
    return (uint64_t)reference_word(seed, stream, 2 * index + 1) << 32 | reference_word(seed, stream, 2 * index);
}

uint64_t reference_integer(uint64_t seed, uint64_t stream, uint64_t index, uint64_t bound) {
    const uint64_t word = reference_word64(seed, stream, index), low = UINT64_C(0xffffffff);
    const uint64_t middle = (word >> 32) * (bound & low) + ((word & low) * (bound & low) >> 32);
    return (word >> 32) * (bound >> 32) + (middle >> 32) + (((word & low) * (bound >> 32) + (middle & low)) >> 32);
}

wide reference_normal_probability(uint64_t seed, uint64_t stream, uint64_t index) {
#if TEST_DTYPE == 32
    return ldexpl((wide)reference_word(seed, stream, index) + 0.5L, -32);
#else
    return ldexpl((wide)(reference_word64(seed, stream, index) >> 12) + 0.5L, -52);
#endif
}

wide reference_normal_error(wide z, wide q) {
    const wide root_half = sqrtl(0.5L), density = 0.398942280401432677939946059934381868L * expl(-z * z / 2);
    const wide sign = z < 0 ? -1 : 1;
    /* The nearer of the centre and the tail: both differences then keep their relative accuracy. */
    if (fabsl(z) < 1) return (erfl(z * root_half) / 2 - q) / density;
    return sign * ((0.5L - sign * q) - erfcl(sign * z * root_half) / 2) / density;
}

uint64_t reference_keep_threshold(double keep) { return (uint64_t)(keep * 0x1p32); }

/* ---------------------------------------------------------------- optimisers */

static wide power(wide base, uint64_t exponent) {
    wide result = 1;
    for (; exponent; exponent /= 2, base *= base)
        if (exponent & 1) result *= base;
    return result;
}

/*
 * Each bound counts the roundings of the formula, one U for each operation and one for each scalar parameter, which may
 * be rounded to the data's type. Bias corrections are computed in double, where 1 - b^t loses what the t roundings of
 * b^t amount to.
 */
reference_element reference_optimizer(const normcore_optimizer_options *o, wide p, wide g, wide slot1, wide slot2) {
    reference_element r = {0, slot1, slot2, 0, 0, 0};
    const wide rate = (wide)o->learning_rate, scale = (wide)o->gradient_scale, l2 = (wide)o->l2;
    const wide eps = (wide)o->eps;
    const wide gradient = g * scale + l2 * p;
    const wide gradient_error = 4 * U * (fabsl(g * scale) + fabsl(l2 * p));
    wide update = 0, update_error = 0;
    if (o->weight_decay > 0) {
        r.p_error += 4 * U * fabsl(p) * (1 + rate * (wide)o->weight_decay);
        p -= rate * (wide)o->weight_decay * p;
    }
    switch (o->optimizer) {
    case NORMCORE_SGD:
        update = -rate * gradient;
        update_error = rate * gradient_error + 3 * U * fabsl(update);
        break;
    case NORMCORE_MOMENTUM:
    case NORMCORE_NESTEROV: {
        const wide mu = (wide)o->momentum;
        r.slot1 = mu * slot1 - rate * gradient;
        r.slot1_error = 3 * U * (fabsl(mu * slot1) + fabsl(rate * gradient)) + rate * gradient_error;
        update = r.slot1;
        update_error = r.slot1_error;
        if (o->optimizer == NORMCORE_NESTEROV) {
            update = mu * r.slot1 - rate * gradient;
            update_error =
                mu * r.slot1_error + rate * gradient_error + 4 * U * (fabsl(mu * r.slot1) + fabsl(rate * gradient));
        }
        break;
    }
    case NORMCORE_RMSPROP:
    case NORMCORE_ADAM: {
        const int adam = o->optimizer == NORMCORE_ADAM;
        const wide b1 = adam ? (wide)o->beta1 : 0, b2 = adam ? (wide)o->beta2 : (wide)o->decay_rate;
        const wide first = b1 * slot1 + (1 - b1) * gradient;
        const wide first_error =
            adam ? 4 * U * (fabsl(b1 * slot1) + fabsl((1 - b1) * gradient)) + (1 - b1) * gradient_error
                 : gradient_error;
        const wide correction1 = adam ? 1 - power(b1, o->step) : 1, correction2 = adam ? 1 - power(b2, o->step) : 1;
        const wide steps = adam ? (wide)o->step + 2 : 0;
        const wide loss1 = steps * UD * power(b1, o->step) / correction1;
        const wide loss2 = steps * UD * power(b2, o->step) / correction2;
        r.slot2 = b2 * slot2 + (1 - b2) * gradient * gradient;
        r.slot2_error = 5 * U * r.slot2 + (1 - b2) * (2 * fabsl(gradient) + gradient_error) * gradient_error;
        if (adam) {
            r.slot1 = first;
            r.slot1_error = first_error;
        }
        const wide root = sqrtl(r.slot2 / correction2) + eps;
        const wide root_error = r.slot2 > 0 ? (loss2 + r.slot2_error / r.slot2) / 2 + 4 * U : 4 * U;
        update = root > 0 ? -rate * (first / correction1) / root : 0;
        update_error =
            fabsl(update) * (root_error + loss1 + 6 * U) + (root > 0 ? rate * first_error / correction1 / root : 0);
        break;
    }
    }
    r.p_error += update_error + 2 * U * (fabsl(p) + fabsl(update));
    r.p = p + update;
    return r;
}

/* ---------------------------------------------------------------- multilayer perceptron */

size_t reference_mlp_parameter_count(const reference_mlp *mlp) {
    size_t count = 0;
    for (size_t l = 0; l < mlp->layers; l++) {
        count += (mlp->sizes[l] + 1) * mlp->sizes[l + 1];
        if (mlp->norm != NORMCORE_NORM_NONE && l + 1 < mlp->layers) count += 2 * mlp->sizes[l + 1];
    }
    return count;
}

size_t reference_mlp_buffer_count(const reference_mlp *mlp) {
    size_t count = 0;
    for (size_t l = 0; l + 1 < mlp->layers && mlp->norm == NORMCORE_NORM_BATCH; l++) count += 2 * mlp->sizes[l + 1];
    return count;
}

/* What the backward pass needs of one layer. */
typedef struct layer {
    const wide *w, *gamma;
    wide *input, *affine, *normal, *mean, *rstd, *active; /* normal: NULL without a norm; active: before dropout */
    size_t parameter;                                     /* where its parameters begin */
} layer;

#define MAX_LAYERS  8
#define LEAKY_SLOPE 0.01L /* as the header has it */

static wide dropout_factor(const reference_mlp *mlp, uint64_t seed, uint64_t stream, size_t element) {
    if (mlp->keep >= 1) return 1;
    return reference_word(seed, stream, element) < reference_keep_threshold((double)mlp->keep) ? 1 / mlp->keep : 0;
}

/* Runs all layers; returns the logits. */
static wide *run(const reference_mlp *mlp, size_t n, const wide *x, int training, uint64_t seed, uint64_t stream,
                 const wide *params, wide *buffers, layer *layers) {
    const wide *input = x;
    size_t at = 0, buffer = 0;
    wide *y = NULL;
    for (size_t l = 0; l < mlp->layers; l++) {
        const size_t k = mlp->sizes[l], m = mlp->sizes[l + 1];
        layer *layer = &layers[l];
        layer->parameter = at;
        layer->w = params + at;
        layer->input = scratch_wide(n * k);
        for (size_t i = 0; i < n * k; i++) layer->input[i] = input[i];
        y = layer->affine = scratch_wide(n * m);
        reference_affine_forward(n, k, m, input, params + at, params + at + k * m, 0, y);
        at += (k + 1) * m;
        if (l + 1 == mlp->layers) break;
        if (mlp->norm != NORMCORE_NORM_NONE) {
            const int batch = mlp->norm == NORMCORE_NORM_BATCH;
            const size_t lines = batch ? m : n, count = batch ? n : m, step = batch ? m : 1;
            const wide *gamma = layer->gamma = params + at, *beta = params + at + m;
            at += 2 * m;
            layer->mean = scratch_wide(lines);
            layer->rstd = scratch_wide(lines);
            layer->normal = scratch_wide(n * m);
            for (size_t line = 0; line < lines; line++) {
                const wide *values = layer->affine + (batch ? line : line * m);
                wide mean, var;
                reference_moments(count, step, values, &mean, &var);
                if (batch && !training) {
                    mean = buffers[buffer + line];
                    var = buffers[buffer + m + line];
                } else if (batch && buffers) {
                    const wide moved = mlp->unbiased_running_var && n > 1 ? var * (wide)n / (wide)(n - 1) : var;
                    buffers[buffer + line] = mlp->momentum * buffers[buffer + line] + (1 - mlp->momentum) * mean;
                    buffers[buffer + m + line] =
                        mlp->momentum * buffers[buffer + m + line] + (1 - mlp->momentum) * moved;
                }
                layer->mean[line] = mean;
                layer->rstd[line] = 1 / sqrtl(var + mlp->eps);
                for (size_t i = 0; i < count; i++) {
                    const size_t element = batch ? i * m + line : line * m + i, column = batch ? line : i;
                    layer->normal[element] =
                        gamma[column] * (layer->affine[element] - mean) * layer->rstd[line] + beta[column];
                }
            }
            buffer += batch ? 2 * m : 0;
            y = layer->normal;
        }
        layer->active = scratch_wide(n * m);
        wide *dropped = scratch_wide(n * m);
        for (size_t i = 0; i < n * m; i++) {
            layer->active[i] = reference_activation(mlp->activation, LEAKY_SLOPE, y[i]);
            dropped[i] = training ? layer->active[i] * dropout_factor(mlp, seed, stream + l, i) : layer->active[i];
        }
        input = dropped;
    }
    return y;
}

void reference_mlp_forward(const reference_mlp *mlp, size_t n, const wide *x, const wide *params, const wide *buffers,
                           wide *logits) {
    layer layers[MAX_LAYERS];
    const size_t count = reference_mlp_buffer_count(mlp);
    wide *copy = scratch_wide(count);
    for (size_t i = 0; i < count; i++) copy[i] = buffers[i];
    memset(layers, 0, sizeof layers);
    const wide *y = run(mlp, n, x, 0, 0, 0, params, copy, layers);
    for (size_t i = 0; i < n * mlp->sizes[mlp->layers]; i++) logits[i] = y[i];
}

wide reference_mlp_loss(const reference_mlp *mlp, size_t n, const wide *x, const int64_t *labels, const wide *targets,
                        const normcore_cross_entropy_options *options, uint64_t seed, uint64_t stream,
                        const wide *params, wide *buffers, wide *grads, wide *weight_sum) {
    layer layers[MAX_LAYERS];
    const size_t outputs = mlp->sizes[mlp->layers];
    memset(layers, 0, sizeof layers);
    const wide *logits = run(mlp, n, x, 1, seed, stream, params, buffers, layers);
    wide *dy = scratch_wide(n * outputs);
    const wide loss = reference_cross_entropy(n, outputs, logits, labels, targets, options, scratch_wide(n),
                                              scratch_wide(n), dy, weight_sum);
    for (size_t l = mlp->layers; grads && l-- > 0;) {
        const size_t k = mlp->sizes[l], m = mlp->sizes[l + 1];
        const layer *layer = &layers[l];
        wide *g = grads + layer->parameter;
        if (l + 1 < mlp->layers) {
            const wide *before = layer->normal ? layer->normal : layer->affine;
            const wide *saved = normcore_activation_takes_input(mlp->activation) ? before : layer->active;
            for (size_t i = 0; i < n * m; i++)
                dy[i] *= dropout_factor(mlp, seed, stream + l, i) *
                         reference_activation_derivative(mlp->activation, LEAKY_SLOPE, saved[i]);
            if (layer->normal) {
                const int batch = mlp->norm == NORMCORE_NORM_BATCH;
                const size_t lines = batch ? m : n;
                wide *dgamma = g + (k + 1) * m, *dbeta = dgamma + m, *dx = scratch_wide(n * m);
                for (size_t j = 0; j < m; j++) dgamma[j] = dbeta[j] = 0;
                for (size_t i = 0; i < n * m; i++) {
                    const size_t line = batch ? i % m : i / m;
                    dgamma[i % m] += dy[i] * (layer->affine[i] - layer->mean[line]) * layer->rstd[line];
                    dbeta[i % m] += dy[i];
                }
                for (size_t line = 0; line < lines; line++) {
                    const size_t first = batch ? line : line * m;
                    reference_norm_backward(batch ? n : m, batch ? m : 1, dy + first, layer->affine + first,
                                            layer->gamma + (batch ? line : 0), batch ? 0 : 1, layer->mean[line],
                                            layer->rstd[line], 1, dx + first);
                }
                dy = dx;
            }
        }
        wide *dx = scratch_wide(n * k);
        reference_affine_backward(n, k, m, dy, layer->input, layer->w, dx, g, g + k * m);
        dy = dx;
    }
    return loss;
}
