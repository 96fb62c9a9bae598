/* Random integers and permutations: no dtype, no instruction set that matters. */
#define NORMCORE_DTYPE 32
#include "kernels/kernels.h"

#include "runtime/check.h"
#include "runtime/context.h"

typedef struct integers_args {
    uint64_t seed, stream, offset;
    size_t n;
    uint64_t bound;
    int64_t *out;
} integers_args;

/* High half of a b, in 32-bit pieces. */
static uint64_t multiply_high(uint64_t a, uint64_t b) {
    const uint64_t a1 = a >> 32, a0 = a & 0xffffffffu, b1 = b >> 32, b0 = b & 0xffffffffu;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32), middle2 = a0 * b1 + (middle & 0xffffffffu);
    return a1 * b1 + (middle >> 32) + (middle2 >> 32);
}

enum { INTEGER_BUFFER = 96 };

/* How many integers from this number on fill the buffer: up to a block of two, of which none is then made twice. */
static size_t integers_at_once(uint64_t number) { return INTEGER_BUFFER - (size_t)(number % 2); }

static normcore_status integers_body(call *c, void *arguments) {
    const integers_args *p = arguments;
    const kernel_table_f32 *kernels = normcore_call_target(c)->f32;
    uint32_t words[2 * INTEGER_BUFFER];
    for (size_t i = 0; i < p->n;) {
        const size_t most = integers_at_once(p->offset + i), count = p->n - i < most ? p->n - i : most;
        kernels->random_words(p->seed, p->stream, 2 * (p->offset + i), 2 * count, words);
        for (size_t j = 0; j < count; j++)
            p->out[i + j] = (int64_t)multiply_high((uint64_t)words[2 * j + 1] << 32 | words[2 * j], p->bound);
        i += count;
    }
    return NORMCORE_OK;
}

normcore_status normcore_random_integers(normcore_context *ctx, uint64_t seed, uint64_t stream, uint64_t offset,
                                         size_t n, uint64_t bound, int64_t *out) {
    if (!bound || bound > (uint64_t)1 << 63) return NORMCORE_ERROR_VALUE;
    const operand operands[] = {OUT_VECTOR(out, n)};
    const normcore_status status = normcore_check_operands(operands, 1);
    if (status) return status;
    integers_args args = {.seed = seed, .stream = stream, .offset = offset, .n = n, .bound = bound, .out = out};
    return normcore_call_run(ctx, integers_body, &args);
}

static normcore_status permutation_body(call *c, void *arguments) {
    const integers_args *p = arguments;
    const kernel_table_f32 *kernels = normcore_call_target(c)->f32;
    uint32_t words[2 * INTEGER_BUFFER];
    for (size_t i = 0; i < p->n; i++) p->out[i] = (int64_t)i;
    /* Draw number t (at offset + t) places element i = n - 1 - t. */
    for (size_t t = 0; t + 1 < p->n;) {
        const size_t left = p->n - 1 - t, most = integers_at_once(p->offset + t), count = left < most ? left : most;
        kernels->random_words(p->seed, p->stream, 2 * (p->offset + t), 2 * count, words);
        for (size_t j = 0; j < count; j++) {
            const size_t i = p->n - 1 - (t + j);
            const size_t k = (size_t)multiply_high((uint64_t)words[2 * j + 1] << 32 | words[2 * j], (uint64_t)i + 1);
            const int64_t swap = p->out[i];
            p->out[i] = p->out[k];
            p->out[k] = swap;
        }
        t += count;
    }
    return NORMCORE_OK;
}

normcore_status normcore_random_permutation(normcore_context *ctx, uint64_t seed, uint64_t stream, uint64_t offset,
                                            size_t n, int64_t *out) {
    const operand operands[] = {OUT_VECTOR(out, n)};
    const normcore_status status = normcore_check_operands(operands, 1);
    if (status) return status;
    integers_args args = {.seed = seed, .stream = stream, .offset = offset, .n = n, .out = out};
    return normcore_call_run(ctx, permutation_body, &args);
}
