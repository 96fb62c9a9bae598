#include "numeric/guards.h"

#include "runtime/check.h"

#include <math.h>
#include <stdint.h>

size_t normcore_check_product(size_t a, size_t b, int *ok) {
    if (a && b > SIZE_MAX / a) {
        *ok = 0;
        return 0;
    }
    return a * b;
}

int normcore_check_between(double x, double low, double high) { return isgreaterequal(x, low) && islessequal(x, high); }

int normcore_check_at_least(double x, double low) { return normcore_check_between(x, low, DBL_MAX); }

int normcore_check_keep(double keep) { return normcore_check_between(keep, 0x1p-32, 1.0); }

static int is_empty(const operand *o) { return !o->rows || !o->cols || (o->optional && !o->data); }

/* Bytes from the first element to past the last. */
static size_t extent(const operand *o) { return ((o->rows - 1) * o->stride + o->cols) * o->element; }

static int overlap(const operand *a, const operand *b) {
    const uintptr_t pa = (uintptr_t)a->data, pb = (uintptr_t)b->data;
    if (pa + extent(a) <= pb || pb + extent(b) <= pa) return 0;
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

normcore_status normcore_check_operands(const operand *operands, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const operand *o = &operands[i];
        if (is_empty(o)) continue;
        if (o->stride < o->cols) return NORMCORE_ERROR_STRIDE;
    }
    for (size_t i = 0; i < count; i++) {
        const operand *o = &operands[i];
        if (is_empty(o)) continue;
        int ok = 1;
        const size_t before_last = normcore_check_product(o->rows - 1, o->stride, &ok);
        if (!ok || before_last > SIZE_MAX - o->cols) return NORMCORE_ERROR_SIZE;
        const size_t bytes = normcore_check_product(before_last + o->cols, o->element, &ok);
        if (!ok || bytes > PTRDIFF_MAX || bytes > UINTPTR_MAX - (uintptr_t)o->data) return NORMCORE_ERROR_SIZE;
    }
    for (size_t i = 0; i < count; i++)
        if (!is_empty(&operands[i]) && !operands[i].data) return NORMCORE_ERROR_NULL;
    for (size_t i = 0; i < count; i++) {
        if (!operands[i].output || is_empty(&operands[i])) continue;
        for (size_t j = 0; j < count; j++) {
            if (j == i || is_empty(&operands[j]) || !overlap(&operands[i], &operands[j])) continue;
            const int allowed = (operands[i].may_be >> j & 1) && same(&operands[i], &operands[j]);
            const int allowed_back =
                operands[j].output && (operands[j].may_be >> i & 1) && same(&operands[i], &operands[j]);
            if (!allowed && !allowed_back) return NORMCORE_ERROR_ALIAS;
        }
    }
    return NORMCORE_OK;
}
