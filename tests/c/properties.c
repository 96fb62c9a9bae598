#include "properties.h"

#include <string.h>

uint64_t next_number(void) {
    static uint64_t number;
    return ++number;
}

/* Makes the output be the input, as the operation says it may. */
static call call_in_place(const call *c, size_t pair) {
    call joined = *c;
    array *output = &joined.a[c->operation->in_place[pair].output];
    array *input = &joined.a[c->operation->in_place[pair].input];
    output->data = input->data;
    output->initial = input->initial;
    output->stride = input->stride;
    input->role = IGNORED;
    return joined;
}

static void check_in_place(const call *c, snapshot base) {
    for (size_t pair = 0; pair < 2 && c->operation->in_place[pair].output; pair++) {
        if (!c->a[c->operation->in_place[pair].output].data) continue;
        call joined = call_in_place(c, pair);
        CHECK_STATUS(NORMCORE_OK, call_run(&joined, NULL));
        call_check(&joined);
        CHECK_SAME(&joined, base, "out of place");
    }
}

static void check_cuts(call *c, snapshot base) {
    rng r = rng_new(c->number);
    for (int repeat = 0; repeat < 2; repeat++) {
        call_restore(c);
        for (size_t first = 0, last; first < c->n; first = last) {
            last = first + 1 + rng_below(&r, repeat ? c->n : 7);
            last = last > c->n ? c->n : last;
            call part = call_slice(c, first, last);
            CHECK_STATUS(NORMCORE_OK, c->operation->run(&part, NULL));
        }
        call_check(c);
        CHECK_SAME(c, base, "in one call");
    }
}

/* Special values in one row reach that row alone. */
static void check_poison(call *c) {
    rng r = rng_new(c->number);
    const size_t poisoned = rng_below(&r, c->n);
    CHECK_STATUS(NORMCORE_OK, call_run(c, NULL));
    const snapshot clean = call_snapshot(c);
    for (size_t i = 0; i < c->count; i++) {
        array *a = &c->a[i];
        if (a->data && a->by_row && a->role == INPUT && a->type == TYPE_REAL)
            for (size_t j = 0; j < a->cols; j++) {
                real value = rng_special(&r, 4);
                if (a->is_limited && value < (real)a->low) value = (real)a->low;
                if (a->is_limited && value > (real)a->high) value = (real)a->high;
                memcpy((unsigned char *)a->initial + (poisoned * a->stride + j) * sizeof value, &value, sizeof value);
            }
    }
    CHECK_STATUS(NORMCORE_OK, call_run(c, NULL));
    call_check(c);
    unsigned char *p = clean.bytes;
    for (size_t i = 0; i < c->count; i++) {
        const array *a = &c->a[i];
        const size_t size = a->cols * array_element_size(a);
        if (!a->data || (a->role != OUTPUT && a->role != INOUT)) continue;
        if (a->by_row && size)
            memcpy(p + poisoned * size, (unsigned char *)a->data + poisoned * a->stride * array_element_size(a), size);
        p += a->rows * size;
    }
    CHECK_SAME(c, clean, "with clean data in another row");
}

void check_flavour(const operation *operation, size_t n, size_t k, size_t m, flavour flavour, uint64_t number) {
    call c;
    const size_t best = isa_count() - 1;
    harness_note("%s n=%lu k=%lu m=%lu flavour %d case %lu", operation->name, (unsigned long)n, (unsigned long)k,
                 (unsigned long)m, (int)flavour, (unsigned long)number);
    call_prepare(&c, operation, n, k, m, flavour, number, number & 1, number & 2 ? GUARD_AFTER : GUARD_BEFORE);
    isa_use(0);
    if (!CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL))) {
        guard_reset();
        return;
    }
    call_check(&c);
    const snapshot base = call_snapshot(&c);
    if (flavour != SPECIAL && operation->verify) operation->verify(&c);
    for (size_t isa = 1; isa <= best; isa++) {
        isa_use(isa);
        CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
        call_check(&c);
        CHECK_SAME(&c, base, "on scalar");
    }
    isa_use(number % isa_count());
    check_in_place(&c, base);
    if (operation->flags & BY_ROW && n > 1) check_cuts(&c, base);

    /* The other layout, at the other kind of guard. */
    call other;
    call_prepare(&other, operation, n, k, m, flavour, number, !(number & 1), number & 2 ? GUARD_BEFORE : GUARD_AFTER);
    isa_use(best);
    CHECK_STATUS(NORMCORE_OK, call_run(&other, NULL));
    call_check(&other);
    CHECK_SAME(&other, base, "in another layout");
    if (operation->flags & BY_ROW && n > 1 && flavour == PLAIN) check_poison(&other);
    guard_reset();
}

void check_operation(const operation *operation, size_t n, size_t k, size_t m, uint64_t number) {
    check_flavour(operation, n, k, m, PLAIN, number);
    check_flavour(operation, n, k, m, SPECIAL, number);
}

/* Up to one block and past it, in vectors of up to 16 elements, unrolled up to four times. */
static const size_t edges[] = {47,  48,  49,  63,  64,  65,   127,  128,  129,  255,  256,
                               257, 511, 512, 513, 769, 1023, 1024, 1025, 4095, 4096, 4097};
#define EDGES (sizeof edges / sizeof *edges)

static void check_vectors(const operation *operation) {
    for (size_t n = operation->flags & NEEDS_COLS ? 1 : 0; n <= 40; n++)
        check_operation(operation, n, n, n, next_number());
    for (size_t i = 0; i < EDGES; i++)
        check_operation(operation, edges[i], operation->flags & NEEDS_COLS ? 10 + i : 0, 3, next_number());
}

void check_rows_and_columns(operation_list list) {
    static const size_t few[] = {1, 2, 7, 8, 9, 17, 33};
    for (size_t i = 0; i < list.count; i++) {
        const operation *operation = &list.items[i];
        rng r = rng_new(i);
        if (operation->flags & ONE_ROW) {
            check_vectors(operation);
            continue;
        }
        for (size_t k = operation->flags & NEEDS_COLS ? 1 : 0; k <= 40; k++)
            check_operation(operation, 1 + rng_below(&r, 9), k, k, next_number());
        for (size_t j = 0; j < EDGES; j++) {
            const size_t k = few[rng_below(&r, 7)];
            if (edges[j] <= 513) check_operation(operation, 1 + rng_below(&r, 5), edges[j], edges[j], next_number());
            if (edges[j] <= 1025) check_operation(operation, edges[j], k, k, next_number());
        }
        if (!(operation->flags & NEEDS_ROWS)) check_operation(operation, 0, 5, 5, next_number());
    }
}
