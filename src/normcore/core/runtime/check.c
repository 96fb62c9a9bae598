#include "numeric/guards.h"

#include "runtime/check.h"

#include <math.h>
#include <stdint.h>

size_t normcore_check_product(size_t a, size_t b, int *ok) {
    const size_t root = (size_t)1 << (4 * sizeof root); /* no product of two numbers below it overflows */
    if ((a >= root || b >= root) && a && b > SIZE_MAX / a) {
        *ok = 0;
        return 0;
    }
    return a * b;
}

int normcore_check_between(double x, double low, double high) { return isgreaterequal(x, low) && islessequal(x, high); }

int normcore_check_at_least(double x, double low) { return normcore_check_between(x, low, DBL_MAX); }

int normcore_check_keep(double keep) { return normcore_check_between(keep, 0x1p-32, 1.0); }

/* Whether a and b, which have bytes between the same two addresses, share any. */
static int share(const operand *a, const operand *b) {
    const uintptr_t pa = (uintptr_t)a->data, pb = (uintptr_t)b->data;
    if (a->stride != b->stride || a->element != b->element || (a->rows == 1 && b->rows == 1)) return 1;
    /* Same stride: columns of one wider matrix may lie side by side. Where does b's row start within a's? */
    const size_t pitch = a->stride * a->element;
    const size_t shift = pb >= pa ? (size_t)(pb - pa) % pitch : (pitch - (size_t)(pa - pb) % pitch) % pitch;
    return shift < a->cols * a->element || shift + b->cols * b->element > pitch;
}

static int same(const operand *a, const operand *b) {
    return a->data == b->data && a->element == b->element && a->rows == b->rows && a->cols == b->cols &&
           (a->stride == b->stride || a->rows == 1);
}

/* Whether one of the two is an output that may be the other, and is. */
static int may_share(const operand *operands, size_t i, size_t j) {
    const operand *a = &operands[i], *b = &operands[j];
    return ((a->output && (a->may_be >> j & 1)) || (b->output && (b->may_be >> i & 1))) && same(a, b);
}

normcore_status normcore_check_operands(const operand *operands, size_t count) {
    /* Those that are not empty, by their index, and from where to where their bytes lie. */
    size_t index[MAX_OPERANDS], filled = 0;
    uintptr_t first[MAX_OPERANDS], end[MAX_OPERANDS];
    int fit = 1, there = 1;
    for (size_t i = 0; i < count; i++) {
        const operand *o = &operands[i];
        if (!o->rows || !o->cols || (o->optional && !o->data)) continue;
        if (o->stride < o->cols) return NORMCORE_ERROR_STRIDE;
        const uintptr_t data = (uintptr_t)o->data;
        int ok = 1;
        const size_t before_last = normcore_check_product(o->rows - 1, o->stride, &ok);
        if (before_last > SIZE_MAX - o->cols) ok = 0;
        const size_t bytes = normcore_check_product(before_last + o->cols, o->element, &ok);
        if (!ok || bytes > PTRDIFF_MAX || bytes > UINTPTR_MAX - data) fit = 0;
        if (!data) there = 0;
        index[filled] = i;
        first[filled] = data;
        end[filled++] = data + bytes;
    }
    if (!fit) return NORMCORE_ERROR_SIZE;
    if (!there) return NORMCORE_ERROR_NULL;
    for (size_t i = 1; i < filled; i++)
        for (size_t j = 0; j < i; j++) {
            if ((first[i] >= end[j]) | (first[j] >= end[i])) continue; /* one branch, which is nearly always taken */
            const operand *a = &operands[index[i]], *b = &operands[index[j]];
            if ((a->output || b->output) && share(a, b) && !may_share(operands, index[i], index[j]))
                return NORMCORE_ERROR_ALIAS;
        }
    return NORMCORE_OK;
}
