/*
 * Where a value stops being good: the last one that is, the first that is not, for each check of core/check.h and each
 * scalar argument of a public function. What refusals leave alone is test_contract's.
 */
#include "operations.h"
#include "properties.h"

#include "check.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- core/check.h */

static void test_products(void) {
    static const struct {
        size_t a, b;
        int fits;
    } cases[] = {
        {0, 0, 1},
        {0, SIZE_MAX, 1},
        {SIZE_MAX, 0, 1},
        {1, SIZE_MAX, 1},
        {SIZE_MAX, 1, 1},
        {2, SIZE_MAX / 2, 1},
        {SIZE_MAX / 2, 2, 1},
        {3, SIZE_MAX / 3, 1},
        {2, SIZE_MAX / 2 + 1, 0},
        {SIZE_MAX / 2 + 1, 2, 0},
        {3, SIZE_MAX / 3 + 1, 0},
        {SIZE_MAX, 2, 0},
        {SIZE_MAX, SIZE_MAX, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int ok = 1;
        harness_note("%zu * %zu", cases[i].a, cases[i].b);
        CHECK(normcore_check_product(cases[i].a, cases[i].b, &ok) == (cases[i].fits ? cases[i].a * cases[i].b : 0));
        CHECK(ok == cases[i].fits);
        ok = 0; /* what went wrong before stays */
        normcore_check_product(1, 1, &ok);
        CHECK(ok == 0);
    }
}

static void test_at_least(void) {
    const double infinity = (double)INFINITY, below = -0x1p-1074;
    CHECK(normcore_check_at_least(0.0, 0.0) && normcore_check_at_least(-0.0, 0.0));
    CHECK(normcore_check_at_least(0x1p-1074, 0.0) && normcore_check_at_least(DBL_MAX, 0.0));
    CHECK(!normcore_check_at_least(below, 0.0) && !normcore_check_at_least(-infinity, 0.0));
    CHECK(!normcore_check_at_least(infinity, 0.0) && !normcore_check_at_least((double)NAN, 0.0));
    CHECK(normcore_check_at_least(1.0, 1.0) && !normcore_check_at_least(1.0 - 0x1p-53, 1.0));
}

/* Fake addresses: no operand is ever read. */
static const void *address(uintptr_t at) { return (const void *)at; }

static normcore_status one(uintptr_t data, size_t rows, size_t cols, size_t stride, size_t element, int optional) {
    const operand o = {address(data), rows, cols, stride, element, optional, 1, 0};
    return normcore_check_operands(&o, 1);
}

static void test_one_operand(void) {
    const size_t most = PTRDIFF_MAX;
    CHECK_STATUS(NORMCORE_OK, normcore_check_operands(NULL, 0));
    /* strides */
    CHECK_STATUS(NORMCORE_OK, one(64, 3, 5, 5, 4, 0));
    CHECK_STATUS(NORMCORE_ERROR_STRIDE, one(64, 3, 5, 4, 4, 0));
    CHECK_STATUS(NORMCORE_ERROR_STRIDE, one(64, 1, 5, 4, 4, 0));
    CHECK_STATUS(NORMCORE_ERROR_STRIDE, one(64, 1, 5, 0, 4, 1));
    /* nothing there */
    CHECK_STATUS(NORMCORE_OK, one(64, 0, 5, 4, 4, 0));
    CHECK_STATUS(NORMCORE_OK, one(0, 0, 5, 5, 4, 0));
    CHECK_STATUS(NORMCORE_OK, one(0, 5, 0, 0, 4, 0));
    CHECK_STATUS(NORMCORE_OK, one(0, SIZE_MAX, 0, SIZE_MAX, 4, 0));
    CHECK_STATUS(NORMCORE_OK, one(0, 3, 5, 4, 4, 1));
    CHECK_STATUS(NORMCORE_ERROR_NULL, one(0, 3, 5, 5, 4, 0));
    CHECK_STATUS(NORMCORE_ERROR_NULL, one(0, 1, 1, 1, 4, 0));
    /* the last size that is one, in bytes */
    CHECK_STATUS(NORMCORE_OK, one(1, 1, most, most, 1, 0));
    CHECK_STATUS(NORMCORE_ERROR_SIZE, one(1, 1, most + 1, most + 1, 1, 0));
    CHECK_STATUS(NORMCORE_OK, one(1, 1, most / 8, most / 8, 8, 0));
    CHECK_STATUS(NORMCORE_ERROR_SIZE, one(1, 1, most / 8 + 1, most / 8 + 1, 8, 0));
    CHECK_STATUS(NORMCORE_OK, one(1, 2, 1, most - 1, 1, 0));
    CHECK_STATUS(NORMCORE_ERROR_SIZE, one(1, 2, 1, most, 1, 0));
    CHECK_STATUS(NORMCORE_OK, one(1, 3, 1, (most - 1) / 2, 1, 0));
    CHECK_STATUS(NORMCORE_ERROR_SIZE, one(1, 3, 2, (most - 1) / 2, 1, 0));
    /* products and sums that come out small, once they have overflowed */
    CHECK_STATUS(NORMCORE_ERROR_SIZE, one(1, 3, 2, SIZE_MAX / 2 + 2, 1, 0));
    CHECK_STATUS(NORMCORE_ERROR_SIZE, one(1, 2, 10, SIZE_MAX - 4, 1, 0));
    CHECK_STATUS(NORMCORE_ERROR_SIZE, one(1, 1, SIZE_MAX / 8 + 2, SIZE_MAX / 8 + 2, 8, 0));
    /* the end of the address space */
    CHECK_STATUS(NORMCORE_OK, one(UINTPTR_MAX - 10, 1, 10, 10, 1, 0));
    CHECK_STATUS(NORMCORE_ERROR_SIZE, one(UINTPTR_MAX - 10, 1, 11, 11, 1, 0));
    CHECK_STATUS(NORMCORE_OK, one(UINTPTR_MAX - 16, 2, 1, 3, 4, 0));
    CHECK_STATUS(NORMCORE_ERROR_SIZE, one(UINTPTR_MAX - 15, 2, 1, 3, 4, 0));
}

/* Faults are named in one order, whichever operand has them. */
static void test_order(void) {
    const operand good = {address(4096), 2, 3, 3, 4, 0, 0, 0}, alias = {address(4096), 2, 3, 3, 4, 0, 1, 0};
    const operand null = {NULL, 2, 3, 3, 4, 0, 0, 0}, size = {address(64), 2, 3, SIZE_MAX, 4, 0, 0, 0};
    const operand stride = {address(64), 2, 3, 2, 4, 0, 0, 0};
    const operand worst_last[] = {good, alias, null, size, stride}, worst_first[] = {stride, size, null, alias, good};
    static const normcore_status expected[] = {NORMCORE_ERROR_ALIAS, NORMCORE_ERROR_NULL, NORMCORE_ERROR_SIZE,
                                               NORMCORE_ERROR_STRIDE};
    for (size_t count = 2; count <= 5; count++) {
        harness_note("%zu operands", count);
        CHECK_STATUS(expected[count - 2], normcore_check_operands(worst_last, count));
        CHECK_STATUS(expected[count - 2], normcore_check_operands(worst_first + 5 - count, count));
    }
    CHECK_STATUS(NORMCORE_OK, normcore_check_operands(worst_last, 1));
}

/* Whether an element of `a` and one of `b` share a byte, by looking at all of them. */
static int share(const operand *a, const operand *b) {
    for (size_t i = 0; i < a->rows * a->cols; i++)
        for (size_t j = 0; j < b->rows * b->cols; j++) {
            const uintptr_t x = (uintptr_t)a->data + (i / a->cols * a->stride + i % a->cols) * a->element;
            const uintptr_t y = (uintptr_t)b->data + (j / b->cols * b->stride + j % b->cols) * b->element;
            if (x < y + b->element && y < x + a->element) return 1;
        }
    return 0;
}

static uintptr_t past(const operand *o) {
    return (uintptr_t)o->data + ((o->rows - 1) * o->stride + o->cols) * o->element;
}

/* Whether the check can see that two operands lie apart: one after the other, or side by side in one wider matrix. */
static int seen_apart(const operand *a, const operand *b) {
    if (past(a) <= (uintptr_t)b->data || past(b) <= (uintptr_t)a->data) return 1;
    if (a->stride != b->stride || a->element != b->element || (a->rows == 1 && b->rows == 1)) return 0;
    /* As if both had every row from the first of all to the last. */
    operand x = *a, y = *b;
    const size_t pitch = a->stride * a->element, rows = 12;
    x.data = address((uintptr_t)x.data - rows / 2 * pitch);
    y.data = address((uintptr_t)y.data - rows / 2 * pitch);
    x.rows = y.rows = 2 * rows;
    return !share(&x, &y);
}

static int is_same(const operand *a, const operand *b) {
    return a->data == b->data && a->rows == b->rows && a->cols == b->cols && (a->stride == b->stride || a->rows == 1);
}

static void test_overlaps(void) {
    rng r = rng_new(20);
    size_t refused = 0, side_by_side = 0, in_place = 0;
    for (int round = 0; round < 60000; round++) {
        operand o[3];
        const size_t count = 2 + rng_below(&r, 2), element = rng_below(&r, 2) ? 4 : 8, stride = 1 + rng_below(&r, 9);
        for (size_t i = 0; i < count; i++) {
            const int alike = rng_below(&r, 8) != 0;
            o[i].element = alike ? element : 12 - element;
            o[i].stride = alike ? stride : 1 + rng_below(&r, 9);
            o[i].cols = 1 + rng_below(&r, o[i].stride);
            o[i].rows = 1 + rng_below(&r, 4);
            o[i].data = address(65536 + (alike ? element * rng_below(&r, 40) : rng_below(&r, 200)));
            o[i].optional = 0;
            o[i].output = rng_below(&r, 2) != 0;
            o[i].may_be = (unsigned)rng_below(&r, 8);
            if (i && rng_below(&r, 6) == 0) { /* the same place, in most cases the same shape */
                const int output = o[i].output;
                const unsigned may_be = o[i].may_be;
                o[i] = o[i - 1];
                o[i].output = output;
                o[i].may_be = may_be;
                if (rng_below(&r, 4) == 0) o[i].rows = 1 + rng_below(&r, 4);
                if (rng_below(&r, 4) == 0) o[i].cols = 1 + rng_below(&r, o[i].stride);
                if (rng_below(&r, 4) == 0) o[i].stride += 1;
            }
        }
        normcore_status expected = NORMCORE_OK;
        for (size_t i = 0; i < count; i++)
            for (size_t j = 0; j < i; j++) {
                const int apart = seen_apart(&o[i], &o[j]);
                const unsigned allowed =
                    (o[i].output ? o[i].may_be >> j & 1 : 0) | (o[j].output ? o[j].may_be >> i & 1 : 0);
                if (!o[i].output && !o[j].output) continue;
                if (apart && share(&o[i], &o[j])) harness_fail(__FILE__, __LINE__, "the expectation itself is wrong");
                side_by_side += apart && past(&o[i]) > (uintptr_t)o[j].data && past(&o[j]) > (uintptr_t)o[i].data;
                if (apart) continue;
                if (allowed && is_same(&o[i], &o[j]) && o[i].element == o[j].element)
                    in_place++;
                else
                    expected = NORMCORE_ERROR_ALIAS;
            }
        refused += expected != NORMCORE_OK;
        harness_note("round %d", round);
        if (!CHECK_STATUS(expected, normcore_check_operands(o, count))) return;
    }
    CHECK(refused > 5000 && refused < 55000 && side_by_side > 1000 && in_place > 500);
}

/* ---------------------------------------------------------------- outputs over other arguments */

static int may_alias(const operation *o, size_t output, size_t input) {
    for (int i = 0; i < 2; i++)
        if (o->in_place[i].output == (int)output && o->in_place[i].output && o->in_place[i].input == (int)input)
            return 1;
    return 0;
}

/*
 * Every output at the very place of every other argument, of the same shape wherever the operation's shapes can be
 * equal: refused, with nothing written, but for those that may be computed in place. Inputs may share memory.
 */
static void test_outputs_at_the_place_of_others(void) {
    const operation *o;
    size_t refused = 0, allowed = 0, shared = 0;
    for (size_t index = 0; (o = operation_get(index)) != NULL; index++) {
        call c;
        call_prepare(&c, o, 19, 19, 19, PLAIN, next_number() | 1, 0, GUARD_AFTER);
        for (size_t i = 0; i < c.count; i++)
            for (size_t j = 0; j < c.count; j++) {
                const array *output = &c.a[i], *other = &c.a[j];
                const int inputs = output->role == INPUT && other->role == INPUT && output->type == other->type;
                if (i == j || !output->data || !other->data || output->role == IGNORED || other->role == IGNORED ||
                    (output->role == INPUT && !inputs))
                    continue;
                const size_t of_output = array_span(output), of_other = array_span(other);
                const size_t size = of_output > of_other ? of_output : of_other;
                if (!of_output || !of_other) continue;
                call joined = c;
                unsigned char *memory = guard_alloc(size), *before = scratch_alloc(size);
                memcpy(memory, output->data, of_output);
                memcpy(memory, other->data, of_other);
                memcpy(before, memory, size);
                joined.a[i].data = joined.a[j].data = memory;
                if (c.cross_entropy.class_weight == other->data) joined.cross_entropy.class_weight = (void *)memory;
                if (c.cross_entropy.sample_weight == other->data) joined.cross_entropy.sample_weight = (void *)memory;
                harness_note("%s: argument %lu at the place of %lu", o->name, (unsigned long)i, (unsigned long)j);
                if (inputs) { /* those may lie anywhere */
                    /* Running statistics count as outputs whether or not the mode writes them. */
                    const int running = strstr(o->name, "evaluation") && strstr(o->name, "forward") && (i > 2 || j > 2);
                    CHECK((o->run(&joined, NULL) == NORMCORE_ERROR_ALIAS) == running);
                    shared++;
                } else if (may_alias(o, i, j)) {
                    CHECK_STATUS(NORMCORE_OK, o->run(&joined, NULL));
                    allowed++;
                } else {
                    CHECK_STATUS(NORMCORE_ERROR_ALIAS, o->run(&joined, NULL));
                    CHECK(memcmp(memory, before, size) == 0);
                    refused++;
                }
            }
        guard_reset();
    }
    CHECK(refused > 300 && allowed > 10 && shared > 100);
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"products", test_products},       {"at_least", test_at_least},
        {"one_operand", test_one_operand}, {"order", test_order},
        {"overlaps", test_overlaps},       {"outputs_at_the_place_of_others", test_outputs_at_the_place_of_others},
    };
    return harness_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
