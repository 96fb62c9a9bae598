/*
 * normcore_check_operands, the gate of every operation, against counting bytes: it never lets operands through of which
 * an output shares a byte with another operand (but where it may be that operand), nor one that does not fit into the
 * address space, and refuses for its size only what does not.
 */
#include "fuzz.h"

#include "runtime/check.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Operands lie near each other in memory that is never touched; LAST is past the end of all but huge ones. */
enum { OPERANDS = 3, BYTES_EACH = 10, FIRST = 4096, SPREAD = 200, LAST = FIRST + SPREAD + 6 * 12 * 8 };

static void stop(const char *what, const operand *o, normcore_status status) {
    fprintf(stderr, "status %d: %s\n", (int)status, what);
    for (int i = 0; i < OPERANDS; i++)
        fprintf(stderr, "%p, %zu x %zu, stride %zu, element %zu%s%s, may be %u\n", o[i].data, o[i].rows, o[i].cols,
                o[i].stride, o[i].element, o[i].output ? ", output" : "", o[i].optional ? ", optional" : "",
                o[i].may_be);
    abort();
}

static void decode(operand *o, const uint8_t *b, int huge) {
    memset(o, 0, sizeof *o);
    o->element = b[0] & 1 ? 8 : 4;
    o->rows = b[1] % 6;
    o->cols = b[2] % 7;
    o->stride = b[3] % 12;
    uintptr_t place = FIRST + b[4] % SPREAD;
    if (b[7] & 3) place &= ~(uintptr_t)3; /* mostly aligned */
    o->output = b[5] & 1;
    o->optional = b[5] >> 1 & 1;
    o->may_be = b[6] & 7;
    if ((b[5] & 0x60) == 0x60) place = 0;
    if (huge) {
        if (b[8] & 1) o->rows = SIZE_MAX >> b[9] % 64;
        if (b[8] & 2) o->cols = SIZE_MAX >> b[9] / 2 % 64;
        if (b[8] & 4) o->stride = SIZE_MAX >> b[9] / 3 % 64;
        if (b[8] & 8) place = UINTPTR_MAX - b[4];
        if (b[8] & 16 && o->stride < o->cols) o->stride = o->cols;
    }
    o->data = (const void *)place;
}

static int is_empty(const operand *o) { return !o->rows || !o->cols || (o->optional && !o->data); }

/* a * b, or a number beyond all sizes. */
static long double product(long double a, long double b) { return a * b; }

/* Exact far beyond 2^64, where the mantissa has 64 bits: what is lost there is too large anyhow. */
static int fits(const operand *o) {
    const long double elements = product((long double)(o->rows - 1), (long double)o->stride) + (long double)o->cols;
    const long double bytes = product(elements, (long double)o->element);
    return bytes <= (long double)PTRDIFF_MAX && (uintptr_t)o->data <= UINTPTR_MAX - (uintptr_t)bytes;
}

static int touches(const operand *o, uintptr_t byte) {
    if (byte < (uintptr_t)o->data) return 0;
    const uintptr_t offset = byte - (uintptr_t)o->data, pitch = o->stride * o->element;
    return offset / pitch < o->rows && offset % pitch < o->cols * o->element;
}

static int share_a_byte(const operand *a, const operand *b) {
    for (uintptr_t byte = FIRST; byte < LAST; byte++)
        if (touches(a, byte) && touches(b, byte)) return 1;
    return 0;
}

static int are_the_same(const operand *a, const operand *b) {
    return a->data == b->data && a->rows == b->rows && a->cols == b->cols && a->element == b->element &&
           (a->stride == b->stride || a->rows == 1);
}

/* Whether an output lies where it must not. */
static int collide(const operand *o) {
    for (int i = 0; i < OPERANDS; i++)
        for (int j = 0; j < OPERANDS; j++) {
            if (i == j || !o[i].output || is_empty(&o[i]) || is_empty(&o[j]) || !share_a_byte(&o[i], &o[j])) continue;
            const int may = (o[i].may_be >> j & 1) || (o[j].output && (o[j].may_be >> i & 1));
            if (!may || !are_the_same(&o[i], &o[j])) return 1;
        }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    operand o[OPERANDS];
    if (size < 1 + OPERANDS * BYTES_EACH) return 0;
    const int huge = data[0] & 1;
    for (int i = 0; i < OPERANDS; i++) decode(&o[i], data + 1 + i * BYTES_EACH, huge);
    const normcore_status status = normcore_check_operands(o, OPERANDS);

    int all_fit = 1, strides_hold = 1, all_there = 1;
    for (int i = 0; i < OPERANDS; i++) {
        if (is_empty(&o[i])) continue;
        all_fit &= fits(&o[i]);
        strides_hold &= o[i].stride >= o[i].cols;
        all_there &= o[i].data != NULL;
    }
    if (!strides_hold) {
        if (status != NORMCORE_ERROR_STRIDE) stop("a stride is less than its columns", o, status);
    } else if (!all_fit) {
        if (status != NORMCORE_ERROR_SIZE) stop("an operand does not fit into the address space", o, status);
    } else if (!all_there) {
        if (status != NORMCORE_ERROR_NULL) stop("an operand is missing", o, status);
    } else if (status != NORMCORE_OK && status != NORMCORE_ERROR_ALIAS) {
        stop("nothing is wrong but, perhaps, where they lie", o, status);
    } else if (!huge && status == NORMCORE_OK && collide(o)) {
        stop("an output shares a byte with another operand", o, status);
    }
    return 0;
}
