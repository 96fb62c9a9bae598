/*
 * Where a value stops being good: the last one that is, the first that is not, for each check of core/runtime/check.h and each
 * scalar argument of a public function. What refusals leave alone is test_contract's.
 */
#define _GNU_SOURCE /* feenableexcept */
#include "operations.h"
#include "properties.h"

#include "runtime/check.h"

#include <fenv.h>
#include <float.h>
#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- core/runtime/check.h */

static void test_products(void) {
    const size_t root = (size_t)1 << (4 * sizeof root); /* of SIZE_MAX + 1 */
    const struct {
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
        {root, root, 0},
        {root, root - 1, 1},
        {root - 1, root, 1},
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

static void test_between(void) {
    CHECK(normcore_check_between(1.0, 1.0, 2.0) && normcore_check_between(2.0, 1.0, 2.0));
    CHECK(!normcore_check_between(1.0 - 0x1p-53, 1.0, 2.0) && !normcore_check_between(2.0 + 0x1p-51, 1.0, 2.0));
    CHECK(!normcore_check_between((double)NAN, 1.0, 2.0));
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

static int is_empty(const operand *o) { return !o->rows || !o->cols; }

/* Whether the check can see that two operands lie apart: one after the other, or side by side in one wider matrix. */
static int seen_apart(const operand *a, const operand *b) {
    if (is_empty(a) || is_empty(b)) return 1;
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
    size_t refused = 0, side_by_side = 0, in_place = 0, empty = 0, other_type = 0;
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
                if (rng_below(&r, 8) == 0) o[i].element = 12 - o[i].element;
            }
            if (rng_below(&r, 16) == 0) *(rng_below(&r, 2) ? &o[i].rows : &o[i].cols) = 0;
        }
        normcore_status expected = NORMCORE_OK;
        for (size_t i = 0; i < count; i++)
            for (size_t j = 0; j < i; j++) {
                const int apart = seen_apart(&o[i], &o[j]);
                const unsigned allowed =
                    (o[i].output ? o[i].may_be >> j & 1 : 0) | (o[j].output ? o[j].may_be >> i & 1 : 0);
                if (!o[i].output && !o[j].output) continue;
                if (apart && share(&o[i], &o[j])) harness_fail(__FILE__, __LINE__, "the expectation itself is wrong");
                const int nothing = is_empty(&o[i]) || is_empty(&o[j]);
                empty += (size_t)nothing;
                side_by_side +=
                    apart && !nothing && past(&o[i]) > (uintptr_t)o[j].data && past(&o[j]) > (uintptr_t)o[i].data;
                if (apart) continue;
                other_type += allowed && is_same(&o[i], &o[j]) && o[i].element != o[j].element;
                if (allowed && is_same(&o[i], &o[j]) && o[i].element == o[j].element)
                    in_place++;
                else
                    expected = NORMCORE_ERROR_ALIAS;
            }
        refused += expected != NORMCORE_OK;
        harness_note("round %d", round);
        if (!CHECK_STATUS(expected, normcore_check_operands(o, count))) return;
    }
    CHECK(refused > 5000 && refused < 55000 && side_by_side > 1000 && in_place > 500 && empty > 5000);
    CHECK(other_type > 50);
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
                call_redirect(&joined, other->data, memory);
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

/* All arguments in one block of memory, each beginning where the one before ends: apart, and so accepted. */
static void test_arguments_that_touch(void) {
    const operation *o;
    for (size_t index = 0; (o = operation_get(index)) != NULL; index++) {
        call c;
        call_prepare(&c, o, 19, 19, 19, PLAIN, next_number() | 1, 0, GUARD_AFTER);
        call touching = c;
        size_t size = 0;
        for (size_t i = 0; i < c.count; i++) size += array_span(&c.a[i]);
        size = (size + 7) / 8 * 8; /* guard_alloc() puts the end at a page, and the beginning must be aligned too */
        unsigned char *memory = guard_alloc(size);
        for (int wide_ones = 1; wide_ones >= 0; wide_ones--) /* those first, lest they be misaligned */
            for (size_t i = 0; i < c.count; i++) {
                const size_t span = array_span(&c.a[i]);
                if (!c.a[i].data || !span || (array_element_size(&c.a[i]) == 8) != wide_ones) continue;
                touching.a[i].data = memcpy(memory, c.a[i].data, span);
                call_redirect(&touching, c.a[i].data, memory);
                memory += span;
            }
        harness_note("%s", o->name);
        CHECK_STATUS(NORMCORE_OK, o->run(&touching, NULL));
        guard_reset();
    }
}

/* ---------------------------------------------------------------- scalars: the ends of their ranges */

#define ROWS 3
#define COLS 4

static const double infinity = (double)INFINITY, not_a_number = (double)NAN, largest = (double)REAL_MAX;

static void test_random_scalars(void) {
    real out[COLS];
    const double beyond = TEST_DTYPE == 32 ? 2 * largest : infinity,
                 just = TEST_DTYPE == 32 ? 1.25 * largest : infinity;
    const struct {
        double low, high;
        int good;
    } uniform[] = {
        {-just, -largest, 0},
        {largest, just, 0},
        {2, 2, 1},
        {2, 2.5, 1},
        {2.5, 2, 0},
        {0, largest, 1},
        {-largest, 0, 1},
        {0, beyond, 0},
        {-beyond, 0, 0},
        {beyond, beyond, 0},
        {-largest, largest, 0},
        {largest, largest, 1},
        {not_a_number, 1, 0},
        {0, not_a_number, 0},
        {-infinity, 0, 0},
        {0, infinity, 0},
        {-largest, -largest, 1},
    };
    for (size_t i = 0; i < sizeof uniform / sizeof *uniform; i++) {
        harness_note("low %g, high %g", uniform[i].low, uniform[i].high);
        CHECK_STATUS(uniform[i].good ? NORMCORE_OK : NORMCORE_ERROR_VALUE,
                     T(normcore_random_uniform)(NULL, 1, 2, 3, COLS, uniform[i].low, uniform[i].high, out));
    }
    const struct {
        double mean, scale;
        int good;
    } normal[] = {
        {0, 0, 1},
        {-1, 2, 1},
        {0, -0.5, 0},
        {largest, 0, 1},
        {-largest, 0, 1},
        {beyond, 0, 0},
        {0, largest / 16, 1},
        {0, largest / 9.5, 1},
        {0, largest / 8, 0},
        {largest, largest / 32, 0},
        {-largest, largest / 32, 0},
        {not_a_number, 1, 0},
        {0, not_a_number, 0},
        {0, infinity, 0},
        {infinity, 1, 0},
    };
    for (size_t i = 0; i < sizeof normal / sizeof *normal; i++) {
        harness_note("mean %g, scale %g", normal[i].mean, normal[i].scale);
        CHECK_STATUS(normal[i].good ? NORMCORE_OK : NORMCORE_ERROR_VALUE,
                     T(normcore_random_normal)(NULL, 1, 2, 3, COLS, normal[i].mean, normal[i].scale, out));
    }
    const double keep[] = {0.5, 1, 0x1p-32, 0x1.fffffffffffffp-33, 0, -0.5, 1.5, not_a_number, infinity};
    real x[COLS] = {1, 2, 3, 4};
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++) {
        harness_note("keep %g", keep[i]);
        CHECK_STATUS(i < 3 ? NORMCORE_OK : NORMCORE_ERROR_VALUE,
                     T(normcore_dropout)(NULL, 1, COLS, x, COLS, keep[i], 1, 2, 3, out, COLS));
    }
}

/* Status of one call of each kind, with everything good but what the test changes. */
typedef struct norm_call {
    normcore_batch_norm_options options;
    real x[ROWS * COLS], y[ROWS * COLS], gamma[COLS], beta[COLS], running_mean[COLS], running_var[COLS];
    double mean[COLS], rstd[COLS];
} norm_call;

static norm_call norm_prepare(void) {
    norm_call c;
    memset(&c, 0, sizeof c);
    c.options.struct_size = sizeof c.options;
    c.options.training = 1;
    c.options.momentum = 0.5;
    c.options.eps = 1e-3;
    for (int i = 0; i < ROWS * COLS; i++) c.x[i] = (real)i;
    for (int i = 0; i < COLS; i++) c.gamma[i] = c.running_var[i] = 1;
    return c;
}

static normcore_status norm_forward(norm_call *c, int running) {
    return T(normcore_batch_norm_forward)(NULL, ROWS, COLS, c->x, COLS, c->gamma, c->beta, &c->options,
                                          running & 1 ? c->running_mean : NULL, running & 2 ? c->running_var : NULL,
                                          c->y, COLS, c->mean, c->rstd);
}

static void test_norm_scalars(void) {
    const double least = sizeof(real) == 4 ? (double)FLT_MIN : DBL_MIN;
    const double eps[] = {0, least, 0.5, -0.5, not_a_number, infinity, -infinity, least * (1 - DBL_EPSILON)};
    const double momentum[] = {0, 0.5, 1, -0.5, 1.5, not_a_number, infinity, 1 + DBL_EPSILON};
    norm_call c = norm_prepare();
    for (size_t i = 0; i < 8; i++) {
        const normcore_status expected = i < 3 ? NORMCORE_OK : NORMCORE_ERROR_VALUE;
        harness_note("eps %g, momentum %g", eps[i], momentum[i]);
        c = norm_prepare();
        c.options.eps = eps[i];
        CHECK_STATUS(expected, norm_forward(&c, 3));
        c = norm_prepare();
        c.options.momentum = momentum[i];
        CHECK_STATUS(expected, norm_forward(&c, 3));
        CHECK_STATUS(expected, T(normcore_layer_norm_forward)(NULL, ROWS, COLS, c.x, COLS, c.gamma, c.beta, eps[i], c.y,
                                                              COLS, NULL, NULL));
    }
    for (int training = 0; training < 2; training++)
        for (int running = 0; running < 4; running++) {
            c = norm_prepare();
            c.options.training = training;
            harness_note("training %d, running statistics %d", training, running);
            CHECK_STATUS(running == 3 || (training && running == 0) ? NORMCORE_OK : NORMCORE_ERROR_NULL,
                         norm_forward(&c, running));
        }
    /* Without columns there is nothing they could hold. */
    c.options.training = 0;
    CHECK_STATUS(NORMCORE_OK, T(normcore_batch_norm_forward)(NULL, ROWS, 0, NULL, 0, NULL, NULL, &c.options, NULL, NULL,
                                                             NULL, 0, NULL, NULL));
    for (int algorithm = -1; algorithm < 4; algorithm++) {
        const int known = algorithm == NORMCORE_BATCH_NORM_FUSED || algorithm == NORMCORE_BATCH_NORM_GRAPH;
        c = norm_prepare();
        harness_note("algorithm %d", algorithm);
        CHECK_STATUS(known ? NORMCORE_OK : NORMCORE_ERROR_VALUE,
                     T(normcore_batch_norm_backward)(NULL, ROWS, COLS, c.x, COLS, c.x, COLS, c.gamma, c.mean, c.rstd, 1,
                                                     (normcore_batch_norm_algorithm)algorithm, c.y, COLS, NULL, NULL));
    }
}

static normcore_cross_entropy_options good_loss(void) {
    normcore_cross_entropy_options o;
    memset(&o, 0, sizeof o);
    o.struct_size = sizeof o;
    return o;
}

static const int64_t good_labels[ROWS] = {0, COLS - 1, 1};

typedef struct loss_call {
    size_t n, c;
    const int64_t *labels;
    const real *targets;
    normcore_cross_entropy_options options;
    size_t bad;
} loss_call;

static normcore_status loss(loss_call *c) {
    static const real z[ROWS * COLS] = {1, 2, 3, 4};
    real dz[ROWS * COLS];
    double losses[ROWS], weight;
    c->bad = SIZE_MAX;
    return T(normcore_cross_entropy)(NULL, c->n, c->c, z, COLS, c->labels, c->targets, COLS, &c->options, losses, dz,
                                     COLS, &weight, &c->bad);
}

/* The same through a training pass of a network. */
static normcore_mlp *network(void) {
    static const size_t sizes[2] = {COLS, COLS};
    normcore_mlp_options o;
    normcore_mlp *mlp = NULL;
    memset(&o, 0, sizeof o);
    o.struct_size = sizeof o;
    o.sizes = sizes;
    o.num_sizes = 2;
    o.keep = 1;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_create(&o, &mlp));
    return mlp;
}

static normcore_status pass(loss_call *c, const normcore_mlp *mlp) {
    static const real x[ROWS * COLS] = {1, 2, 3, 4};
    real params[COLS * COLS + COLS] = {0}, grads[COLS * COLS + COLS];
    double total, weight;
    normcore_mlp_loss_options options;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_loss_defaults(&options, sizeof options));
    options.cross_entropy = &c->options;
    c->bad = SIZE_MAX;
    return T(normcore_mlp_loss_and_grads)(NULL, mlp, c->n, x, COLS, c->labels, c->targets, COLS, &options, 1, 2, params,
                                          NULL, grads, &total, &weight, &c->bad);
}

static void both(normcore_status expected, loss_call c, size_t bad, normcore_mlp *mlp) {
    CHECK_STATUS(expected, loss(&c));
    CHECK(c.bad == bad);
    CHECK_STATUS(expected, pass(&c, mlp));
    CHECK(c.bad == bad);
}

static void test_loss_scalars(void) {
    static const real targets[ROWS * COLS] = {1};
    const double smoothing[] = {0, 0.5, 1, -0.5, 1.5, not_a_number, infinity};
    normcore_mlp *mlp = network();
    const loss_call good = {ROWS, COLS, good_labels, NULL, good_loss(), 0};
    loss_call c = good;
    both(NORMCORE_OK, c, SIZE_MAX, mlp);
    for (size_t i = 0; i < 7; i++) {
        harness_note("label smoothing %g", smoothing[i]);
        c.options.label_smoothing = smoothing[i];
        both(i < 3 ? NORMCORE_OK : NORMCORE_ERROR_VALUE, c, SIZE_MAX, mlp);
    }
    harness_note("reductions");
    c = good;
    c.options.reduction = NORMCORE_REDUCTION_NONE;
    CHECK_STATUS(NORMCORE_OK, loss(&c));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, pass(&c, mlp)); /* one number is wanted */
    c.options.reduction = (normcore_reduction)(NORMCORE_REDUCTION_NONE + 1);
    both(NORMCORE_ERROR_VALUE, c, SIZE_MAX, mlp);
    c.options.reduction = (normcore_reduction)-1;
    both(NORMCORE_ERROR_VALUE, c, SIZE_MAX, mlp);

    harness_note("labels and targets");
    c = good;
    c.targets = targets;
    both(NORMCORE_ERROR_NULL, c, SIZE_MAX, mlp);
    c.labels = NULL;
    both(NORMCORE_OK, c, SIZE_MAX, mlp);
    c.options.has_ignore_index = 1;
    both(NORMCORE_ERROR_VALUE, c, SIZE_MAX, mlp);
    c.options.has_ignore_index = 0;
    c.targets = NULL;
    both(NORMCORE_ERROR_NULL, c, SIZE_MAX, mlp);
    c.n = 0;
    CHECK_STATUS(NORMCORE_OK, loss(&c));
    CHECK_STATUS(NORMCORE_ERROR_SIZE, pass(&c, mlp));
    c.c = 0;
    CHECK_STATUS(NORMCORE_OK, loss(&c));
    c = good;
    c.c = 0;
    CHECK_STATUS(NORMCORE_ERROR_SIZE, loss(&c));

    for (int64_t label = -3; label < COLS + 3; label++)
        for (size_t row = 0; row < ROWS; row++)
            for (int ignored = 0; ignored < 2; ignored++) {
                int64_t labels[ROWS] = {0, COLS - 1, 1};
                labels[row] = label;
                c = good;
                c.labels = labels;
                c.options.has_ignore_index = ignored;
                c.options.ignore_index = -2;
                const int fine = (label >= 0 && label < COLS) || (ignored && label == -2);
                harness_note("label %d in row %lu, ignored -2: %d", (int)label, (unsigned long)row, ignored);
                both(fine ? NORMCORE_OK : NORMCORE_ERROR_LABEL, c, fine ? SIZE_MAX : row, mlp);
            }

    const double weights[] = {0, 1, 2.5, -0.5, not_a_number, infinity};
    for (size_t i = 0; i < 6; i++) {
        double samples[ROWS] = {1, 1, weights[i]}, classes[COLS] = {1, 1, 1, weights[i]};
        const normcore_status expected = i < 3 ? NORMCORE_OK : NORMCORE_ERROR_WEIGHT;
        harness_note("weight %g", weights[i]);
        c = good;
        c.options.sample_weight = samples;
        both(expected, c, i < 3 ? SIZE_MAX : ROWS - 1, mlp);
        c = good;
        c.options.class_weight = classes;
        both(expected, c, i < 3 ? SIZE_MAX : COLS - 1, mlp);
        /* None is looked at past the end. */
        c.c = COLS - 1;
        int64_t fewer[ROWS] = {0, 1, 2};
        c.labels = fewer;
        CHECK_STATUS(NORMCORE_OK, loss(&c));
    }
    CHECK_STATUS(NORMCORE_ERROR_NULL, pass(&c, NULL));
    normcore_mlp_destroy(mlp);
}

/* What says no row is optional. */
static void test_bad_rows_need_not_be_wanted(void) {
    const int64_t labels[ROWS] = {0, 9, 1};
    const double weights[COLS] = {1, -1, 1, 1};
    real z[ROWS * COLS] = {0}, dz[ROWS * COLS];
    double value;
    normcore_cross_entropy_options o = good_loss();
    CHECK_STATUS(NORMCORE_ERROR_LABEL, T(normcore_cross_entropy)(NULL, ROWS, COLS, z, COLS, labels, NULL, 0, &o, &value,
                                                                 dz, COLS, NULL, NULL));
    o.class_weight = weights;
    CHECK_STATUS(NORMCORE_ERROR_WEIGHT, T(normcore_cross_entropy)(NULL, ROWS, COLS, z, COLS, good_labels, NULL, 0, &o,
                                                                  &value, dz, COLS, NULL, NULL));
    o.class_weight = NULL;
    o.sample_weight = weights;
    CHECK_STATUS(NORMCORE_ERROR_WEIGHT, T(normcore_cross_entropy)(NULL, ROWS, COLS, z, COLS, good_labels, NULL, 0, &o,
                                                                  &value, dz, COLS, NULL, NULL));
}

static normcore_optimizer_options good_update(int optimizer) {
    normcore_optimizer_options o;
    memset(&o, 0, sizeof o);
    o.struct_size = sizeof o;
    o.optimizer = (normcore_optimizer)optimizer;
    o.learning_rate = 0.5;
    o.gradient_scale = 1;
    o.step = 1;
    return o;
}

static normcore_status update(const normcore_optimizer_options *o, int slots) {
    real p[COLS] = {1, 2, 3, 4}, g[COLS] = {1, 1, 1, 1}, first[COLS] = {0}, second[COLS] = {0};
    return T(normcore_optimizer_update)(NULL, o, COLS, p, g, slots & 1 ? first : NULL, slots & 2 ? second : NULL);
}

/* A mean's weights may sum to 0, but not to so little that the shares would be rounded away. Ignored rows weigh nothing. */
static void test_weights_of_a_mean(void) {
    const int64_t labels[ROWS] = {1, 0, 1};
    double weights[COLS] = {0x1p-961, 1, 1, 1}, value;
    real z[ROWS * COLS] = {0}, dz[ROWS * COLS];
    size_t bad = 99;
    normcore_cross_entropy_options o = good_loss();
    o.class_weight = weights;
#define LOSS(status, bad_row)                                                                                          \
    CHECK_STATUS(status, T(normcore_cross_entropy)(NULL, ROWS, COLS, z, COLS, labels, NULL, 0, &o, &value, dz, COLS,   \
                                                   NULL, bad_row))
    LOSS(NORMCORE_OK, &bad); /* the label 1 weighs 1 */
    o.has_ignore_index = 1;
    o.ignore_index = 1;
    LOSS(NORMCORE_ERROR_WEIGHT, &bad);
    CHECK(bad == 1);
    LOSS(NORMCORE_ERROR_WEIGHT, NULL);
    weights[0] = 0x1p-960;
    LOSS(NORMCORE_OK, &bad);
    weights[0] = 0;
    LOSS(NORMCORE_OK, &bad);
    weights[0] = 0x1p-961;
    o.reduction = NORMCORE_REDUCTION_SUM;
    LOSS(NORMCORE_OK, &bad);
    /* Too great of one kind, without the other: the first of the greatest is named. */
    weights[1] = weights[2] = DBL_MAX;
    LOSS(NORMCORE_ERROR_WEIGHT, &bad);
    CHECK(bad == 1);
    o.class_weight = NULL;
    o.sample_weight = weights;
    bad = 99;
    LOSS(NORMCORE_ERROR_WEIGHT, &bad);
    CHECK(bad == 1);
#undef LOSS
}

/* A network knows no type of data before it is called. */
static void test_eps_of_networks(void) {
    static const size_t sizes[3] = {COLS, 3, 2};
    const double least = TEST_DTYPE == 32 ? (double)FLT_MIN : DBL_MIN, eps[] = {0, least, least / 2};
    for (size_t i = 0; i < 3; i++) {
        const normcore_status expected = i < 2 ? NORMCORE_OK : NORMCORE_ERROR_VALUE;
        normcore_mlp *mlp;
        normcore_mlp_pass *pass;
        normcore_mlp_options o;
        real params[64] = {0}, buffers[64], grads[64], x[2 * COLS] = {0}, y[2 * 2];
        const int64_t labels[2] = {0, 1};
        double loss;
        CHECK_STATUS(NORMCORE_OK, normcore_mlp_defaults(&o, sizeof o));
        o.num_sizes = 3;
        o.sizes = sizes;
        o.norm = NORMCORE_NORM_BATCH;
        o.eps = eps[i];
        harness_note("eps %g", eps[i]);
        for (size_t j = 0; j < 64; j++) buffers[j] = 1;
        CHECK_STATUS(NORMCORE_OK, normcore_mlp_create(&o, &mlp));
        CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_pass_create)(mlp, 2, &pass));
        CHECK_STATUS(expected, T(normcore_mlp_forward)(NULL, mlp, 2, x, COLS, params, buffers, y, 2));
        CHECK_STATUS(expected, T(normcore_mlp_forward_training)(NULL, mlp, 2, x, COLS, params, NULL, 0, 0, pass, y, 2));
        CHECK_STATUS(expected, T(normcore_mlp_loss_and_grads)(NULL, mlp, 2, x, COLS, labels, NULL, 0, NULL, 0, 0,
                                                              params, buffers, grads, &loss, NULL, NULL));
        normcore_mlp_pass_destroy(pass);
        normcore_mlp_destroy(mlp);
    }
}

static void test_optimizer_scalars(void) {
    const double amounts[] = {0, 0.25, -0.25, not_a_number, infinity, -infinity};
    const double fractions[] = {0, 0.25, -0.25, not_a_number, 1, 1.5};
    normcore_optimizer_options o;
    for (int kind = -1; kind <= NORMCORE_ADAM + 1; kind++)
        for (int slots = 0; slots < 4; slots++) {
            const int known = kind >= 0 && kind <= NORMCORE_ADAM;
            const int needs = kind == NORMCORE_ADAM ? 3 : kind == NORMCORE_RMSPROP ? 2 : kind != NORMCORE_SGD;
            o = good_update(kind);
            harness_note("optimizer %d, slots %d", kind, slots);
            CHECK_STATUS(!known                     ? NORMCORE_ERROR_VALUE
                         : (slots & needs) != needs ? NORMCORE_ERROR_NULL
                                                    : NORMCORE_OK,
                         update(&o, slots));
        }
#define TRY(field, values)                                                                                             \
    for (size_t i = 0; i < 6; i++) {                                                                                   \
        o = good_update(NORMCORE_ADAM);                                                                                \
        o.field = values[i];                                                                                           \
        harness_note(#field " %g", values[i]);                                                                         \
        CHECK_STATUS(i < 2 ? NORMCORE_OK : NORMCORE_ERROR_VALUE, update(&o, 3));                                       \
    }
    TRY(learning_rate, amounts)
    TRY(eps, amounts)
    TRY(l2, amounts)
    TRY(weight_decay, amounts)
    TRY(momentum, fractions)
    TRY(decay_rate, fractions)
    TRY(beta1, fractions)
    TRY(beta2, fractions)
#undef TRY
    for (size_t i = 0; i < 6; i++) {
        o = good_update(NORMCORE_SGD);
        o.gradient_scale = amounts[i];
        harness_note("gradient scale %g", amounts[i]);
        CHECK_STATUS(i < 3 ? NORMCORE_OK : NORMCORE_ERROR_VALUE, update(&o, 0));
    }
    o = good_update(NORMCORE_ADAM);
    o.step = 0;
    CHECK_STATUS(NORMCORE_ERROR_VALUE, update(&o, 3));
    o.step = UINT64_MAX;
    CHECK_STATUS(NORMCORE_OK, update(&o, 3));
    CHECK_STATUS(NORMCORE_ERROR_NULL, update(NULL, 3));
}

static void test_networks(void) {
    const double scales[] = {0, 0.5, -1, not_a_number, infinity, -infinity};
    static const size_t two[2] = {COLS, 1};
    real params[COLS * COLS + COLS], x[COLS] = {0}, y[COLS];
    normcore_mlp *mlp = network(), *made = NULL;
    CHECK(normcore_mlp_parameter_count(NULL) == 0 && normcore_mlp_buffer_count(NULL) == 0);
    CHECK(normcore_mlp_parameter_count(mlp) == COLS * COLS + COLS && normcore_mlp_buffer_count(mlp) == 0);
    for (size_t i = 0; i < 6; i++) {
        harness_note("weight scale %g", scales[i]);
        CHECK_STATUS(i < 3 ? NORMCORE_OK : NORMCORE_ERROR_VALUE,
                     T(normcore_mlp_initialize)(NULL, mlp, 1, 2, scales[i], params, NULL));
    }
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_mlp_initialize)(NULL, NULL, 1, 2, 1, params, NULL));
    CHECK_STATUS(NORMCORE_OK, T(normcore_mlp_forward)(NULL, mlp, 1, x, COLS, params, NULL, y, COLS));
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_mlp_forward)(NULL, NULL, 1, x, COLS, params, NULL, y, COLS));
    normcore_mlp_segment segment;
    CHECK_STATUS(NORMCORE_ERROR_NULL, normcore_mlp_get_segment(NULL, 0, &segment));
    CHECK_STATUS(NORMCORE_ERROR_NULL, normcore_mlp_get_segment(mlp, 0, NULL));
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_get_segment(mlp, 1, &segment));
    CHECK_STATUS(NORMCORE_ERROR_SIZE, normcore_mlp_get_segment(mlp, 2, &segment));
    normcore_mlp_destroy(mlp);

    normcore_mlp_options good, o;
    memset(&good, 0, sizeof good);
    good.struct_size = sizeof good;
    good.sizes = two;
    good.num_sizes = 2;
    good.keep = 1;
    const double keep[] = {0x1p-32, 0.5, 1, 0x1.fffffffffffffp-33, 1.5, -0.5, not_a_number};
    const double momentum[] = {0, 0.5, 1, -0.5, 1.5, not_a_number, infinity};
    const double eps[] = {0, 1e-5, 0.5, -0.5, not_a_number, infinity, -infinity};
    for (size_t i = 0; i < 7; i++) {
        const normcore_status expected = i < 3 ? NORMCORE_OK : NORMCORE_ERROR_VALUE;
        harness_note("keep %g, momentum %g, eps %g", keep[i], momentum[i], eps[i]);
        o = good;
        o.keep = keep[i];
        CHECK_STATUS(expected, normcore_mlp_create(&o, &made));
        normcore_mlp_destroy(made);
        o = good;
        o.momentum = momentum[i];
        CHECK_STATUS(expected, normcore_mlp_create(&o, &made));
        normcore_mlp_destroy(made);
        o = good;
        o.eps = eps[i];
        CHECK_STATUS(expected, normcore_mlp_create(&o, &made));
        normcore_mlp_destroy(made);
    }
    /* The most parameters are those of which a double each can be addressed. Sums must not come out small either. */
    const size_t most = PTRDIFF_MAX / sizeof(double);
    const struct {
        size_t sizes[3], count;
        normcore_status expected;
    } shapes[] = {
        {{1, 1, 0}, 2, NORMCORE_OK},
        {{0, 1, 0}, 2, NORMCORE_ERROR_SIZE},
        {{1, 0, 0}, 2, NORMCORE_ERROR_SIZE},
        {{1, 1, 0}, 3, NORMCORE_ERROR_SIZE},
        {{1, 1, 0}, 1, NORMCORE_ERROR_SIZE},
        {{most - 1, 1, 0}, 2, NORMCORE_OK},
        {{most, 1, 0}, 2, NORMCORE_ERROR_SIZE},
        {{3, 1, SIZE_MAX - 2}, 3, NORMCORE_ERROR_SIZE},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        harness_note("shape %zu", i);
        o = good;
        o.sizes = shapes[i].sizes;
        o.num_sizes = shapes[i].count;
        CHECK_STATUS(shapes[i].expected, normcore_mlp_create(&o, &made));
        normcore_mlp_destroy(made);
    }
    for (int norm = -1; norm <= NORMCORE_NORM_LAYER + 1; norm++) {
        o = good;
        o.norm = (normcore_norm)norm;
        harness_note("norm %d", norm);
        CHECK_STATUS(norm >= 0 && norm <= NORMCORE_NORM_LAYER ? NORMCORE_OK : NORMCORE_ERROR_VALUE,
                     normcore_mlp_create(&o, &made));
        normcore_mlp_destroy(made);
    }
    for (int activation = -1; activation <= NORMCORE_ACTIVATION_RELU6 + 1; activation++) {
        o = good;
        o.activation = (normcore_activation)activation;
        harness_note("activation %d", activation);
        CHECK_STATUS(activation >= 0 && activation <= NORMCORE_ACTIVATION_RELU6 ? NORMCORE_OK : NORMCORE_ERROR_VALUE,
                     normcore_mlp_create(&o, &made));
        normcore_mlp_destroy(made);
    }
}

/* Judged as they come out in the data's type: on both sides of where that changes. */
static void test_scalars_as_they_are_rounded(void) {
#if TEST_DTYPE == 32
    const double overflow = 0x1.ffffffp+127, most = 0x1.fffffefffffffp+127, one = 0x1.ffffffp-1,
                 fraction = 0x1.fffffefffffffp-1, vanishes = 0x1p-150, least = 0x1.0000000000001p-150;
#else
    const double overflow = infinity, most = DBL_MAX, one = 1, fraction = 0x1.fffffffffffffp-1, vanishes = not_a_number,
                 least = 0x1p-1074;
#endif
    normcore_optimizer_options o;
#define TRY(field, value, good)                                                                                        \
    o = good_update(NORMCORE_SGD);                                                                                     \
    o.field = value;                                                                                                   \
    harness_note(#field " %a", value);                                                                                 \
    CHECK_STATUS(good ? NORMCORE_OK : NORMCORE_ERROR_VALUE, update(&o, 0));
    TRY(gradient_scale, most, 1)
    TRY(gradient_scale, -most, 1)
    TRY(gradient_scale, overflow, 0)
    TRY(gradient_scale, -overflow, 0)
    TRY(gradient_scale, least, 1)
    TRY(gradient_scale, -least, 1)
    TRY(gradient_scale, vanishes, 0)
    TRY(gradient_scale, -vanishes, 0)
    TRY(gradient_scale, -0.0, 1)
    TRY(eps, most, 1)
    TRY(eps, overflow, 0)
    TRY(eps, least, 1)
    TRY(eps, vanishes, 0)
    TRY(l2, most, 1)
    TRY(l2, overflow, 0)
    TRY(l2, least, 1)
    TRY(l2, vanishes, 0)
    TRY(momentum, fraction, 1)
    TRY(momentum, one, 0)
    TRY(momentum, -least, 0)
    TRY(beta1, fraction, 1)
    TRY(beta1, one, 0)
    TRY(beta2, fraction, 1)
    TRY(beta2, one, 0)
    TRY(decay_rate, fraction, 1)
    TRY(decay_rate, one, 0)
#undef TRY
}

#if defined(__GLIBC__)
static void scalars_of_activations(void) {
    const real x[COLS] = {1, -2, 3, -4};
    const double slopes[] = {0, 0.5, 1, -0x1p-1074, 1 + DBL_EPSILON, not_a_number, infinity};
    real y[COLS];
    for (size_t i = 0; i < sizeof slopes / sizeof *slopes; i++) {
        const normcore_status expected = i < 3 ? NORMCORE_OK : NORMCORE_ERROR_VALUE;
        harness_note("slope %g", slopes[i]);
        CHECK_STATUS(expected, T(normcore_activation_forward)(NULL, NORMCORE_ACTIVATION_LEAKY_RELU, slopes[i], 1, COLS,
                                                              x, COLS, y, COLS));
        CHECK_STATUS(expected, T(normcore_activation_backward)(NULL, NORMCORE_ACTIVATION_LEAKY_RELU, slopes[i], 1, COLS,
                                                               x, COLS, x, COLS, y, COLS));
    }
}

static void nan_among_variances(void) {
    for (int training = 0; training < 2; training++) {
        norm_call c = norm_prepare();
        c.options.training = training;
        c.running_var[1] = (real)NAN;
        CHECK_STATUS(NORMCORE_OK, norm_forward(&c, 3));
    }
}

/* All of the above where the caller has traps enabled: a signal would end this program. */
static void test_traps(void) {
    void (*const tests[])(void) = {scalars_of_activations, nan_among_variances,
                                   test_random_scalars,    test_norm_scalars,
                                   test_loss_scalars,      test_bad_rows_need_not_be_wanted,
                                   test_optimizer_scalars, test_scalars_as_they_are_rounded,
                                   test_networks};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        feclearexcept(FE_ALL_EXCEPT);
        feenableexcept(FE_INVALID | FE_DIVBYZERO); /* no effect on machines that cannot trap */
        tests[i]();
        fedisableexcept(FE_ALL_EXCEPT);
    }
}
#endif

int main(int argc, char **argv) {
    static const test tests[] = {
        {"products", test_products},
        {"between", test_between},
        {"at_least", test_at_least},
        {"one_operand", test_one_operand},
        {"order", test_order},
        {"overlaps", test_overlaps},
        {"outputs_at_the_place_of_others", test_outputs_at_the_place_of_others},
        {"arguments_that_touch", test_arguments_that_touch},
        {"random_scalars", test_random_scalars},
        {"norm_scalars", test_norm_scalars},
        {"loss_scalars", test_loss_scalars},
        {"bad_rows_need_not_be_wanted", test_bad_rows_need_not_be_wanted},
        {"weights_of_a_mean", test_weights_of_a_mean},
        {"eps_of_networks", test_eps_of_networks},
        {"optimizer_scalars", test_optimizer_scalars},
        {"scalars_as_they_are_rounded", test_scalars_as_they_are_rounded},
        {"networks", test_networks},
#if defined(__GLIBC__)
        {"traps", test_traps},
#endif
    };
    return harness_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
