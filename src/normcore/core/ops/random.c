/* Random values and dropout: words by index, so that any stretch and any thread can be made alone. */
#include "ops/ops.h"

enum { WORDS_PER_VALUE = sizeof(real) / 4, WORD_BUFFER = 192 };

/* How many words from this number on fill the buffer: up to a block of four, of which none is then made twice. */
static size_t words_at_once(uint64_t number) { return WORD_BUFFER - (size_t)(number % 4); }

static void random_task(void *arg, size_t index) {
    const random_args *p = arg;
    const row_range r = row_range_of(p->n, p->tasks, index);
    uint32_t words[WORD_BUFFER];
    for (size_t i = r.start, end = r.start + r.count; i < end;) {
        const uint64_t number = (p->offset + i) * WORDS_PER_VALUE;
        const size_t values = words_at_once(number) / WORDS_PER_VALUE, count = end - i < values ? end - i : values;
        p->kernels->random_words(p->seed, p->stream, number, count * WORDS_PER_VALUE, words);
        if (p->normal)
            p->kernels->random_normal(count, words, p->a, p->b, p->out + i);
        else
            p->kernels->random_uniform(count, words, p->a, p->b, p->out + i);
        i += count;
    }
}

normcore_status NAME(normcore_random_body)(call *c, void *arguments) {
    random_args *p = arguments;
    if (!p->n) return NORMCORE_OK;
    p->kernels = kernels_of(c);
    p->tasks = normcore_call_threads(c, (double)p->n * (p->normal ? 20.0 : 2.0));
    if (p->tasks > p->n) p->tasks = p->n;
    normcore_call_parallel(c, p->tasks, random_task, p, p->tasks);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_random_uniform)(normcore_context *ctx, uint64_t seed, uint64_t stream, uint64_t offset,
                                              size_t n, double low, double high, real *out) {
    if (!fits(low) || !fits(high) || !fits(high - low) || !(low <= high)) return NORMCORE_ERROR_VALUE;
    const operand operands[] = {OUT_VECTOR(out, n)};
    const normcore_status status = normcore_check_operands(operands, 1);
    if (status) return status;
    random_args args = {.seed = seed, .stream = stream, .offset = offset, .n = n, .a = low, .b = high, .out = out};
    return normcore_call_run(ctx, NAME(normcore_random_body), &args);
}

normcore_status NAME(normcore_random_normal)(normcore_context *ctx, uint64_t seed, uint64_t stream, uint64_t offset,
                                             size_t n, double mean, double scale, real *out) {
    if (!is_normal_range(mean, scale)) return NORMCORE_ERROR_VALUE;
    const operand operands[] = {OUT_VECTOR(out, n)};
    const normcore_status status = normcore_check_operands(operands, 1);
    if (status) return status;
    random_args args = {
        .seed = seed, .stream = stream, .offset = offset, .n = n, .a = mean, .b = scale, .normal = 1, .out = out};
    return normcore_call_run(ctx, NAME(normcore_random_body), &args);
}

static void dropout_task(void *arg, size_t index) {
    const dropout_args *p = arg;
    const row_range r = row_range_of(p->n, p->tasks, index);
    /* keep == 1 keeps all: no 32-bit word is below 2^32 - 1 with certainty, so that case does not come here. */
    const uint32_t threshold = (uint32_t)(p->keep * 0x1p32);
    const real factor = (real)(1.0 / p->keep);
    uint32_t words[WORD_BUFFER];
    for (size_t i = r.start; i < r.start + r.count; i++)
        for (size_t j = 0; j < p->d;) {
            const uint64_t number = p->offset + (uint64_t)i * p->d + j;
            const size_t values = words_at_once(number), count = p->d - j < values ? p->d - j : values;
            p->kernels->random_words(p->seed, p->stream, number, count, words);
            p->kernels->dropout(count, p->x + i * p->x_stride + j, words, threshold, factor,
                                p->y + i * p->y_stride + j);
            j += count;
        }
}

normcore_status NAME(normcore_dropout_body)(call *c, void *arguments) {
    dropout_args *p = arguments;
    if (!p->n || !p->d) return NORMCORE_OK;
    p->kernels = kernels_of(c);
    if (p->keep == 1.0) {
        for (size_t i = 0; i < p->n; i++)
            for (size_t j = 0; j < p->d; j++) {
                const real value = p->x[i * p->x_stride + j];
                p->y[i * p->y_stride + j] = value == value ? value : REAL_NAN;
            }
        return NORMCORE_OK;
    }
    p->tasks = normcore_call_threads(c, (double)p->n * (double)p->d * 2.0);
    if (p->tasks > p->n) p->tasks = p->n;
    normcore_call_parallel(c, p->tasks, dropout_task, p, p->tasks);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_dropout)(normcore_context *ctx, size_t n, size_t d, const real *x, size_t x_stride,
                                       double keep, uint64_t seed, uint64_t stream, uint64_t offset, real *y,
                                       size_t y_stride) {
    if (!normcore_check_keep(keep)) return NORMCORE_ERROR_VALUE;
    const operand operands[] = {IN_MATRIX(x, n, d, x_stride), OUT_MATRIX(y, n, d, y_stride, 1u << 0)};
    const normcore_status status = normcore_check_operands(operands, 2);
    if (status) return status;
    dropout_args args = {.n = n,
                         .d = d,
                         .x = x,
                         .x_stride = x_stride,
                         .keep = keep,
                         .seed = seed,
                         .stream = stream,
                         .offset = offset,
                         .y = y,
                         .y_stride = y_stride};
    return normcore_call_run(ctx, NAME(normcore_dropout_body), &args);
}
