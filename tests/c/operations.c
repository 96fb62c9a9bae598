#include "operations.h"

#include <math.h>
#include <string.h>

const operation *operation_get(size_t index) {
    const operation_list lists[] = {affine_operations(), rowwise_operations(),    cross_entropy_operations(),
                                    losses_operations(), batch_norm_operations(), layer_norm_operations(),
                                    random_operations(), optimizer_operations(),  mlp_operations()};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        if (index < lists[i].count) return &lists[i].items[index];
        index -= lists[i].count;
    }
    return NULL;
}

size_t array_element_size(const array *a) { return a->type == TYPE_REAL ? sizeof(real) : 8; }

size_t array_span(const array *a) {
    return a->rows && a->cols ? ((a->rows - 1) * a->stride + a->cols) * array_element_size(a) : 0;
}

static unsigned char *at(const array *a, const void *base, size_t row, size_t col) {
    return (unsigned char *)(uintptr_t)base + (row * a->stride + col) * array_element_size(a);
}

/* ---------------------------------------------------------------- setup */

static array *add(call *c, role role, type type, size_t rows, size_t cols, size_t stride) {
    array *a = &c->a[c->count++];
    memset(a, 0, sizeof *a);
    a->rows = rows;
    a->cols = cols;
    a->stride = stride;
    a->role = role;
    a->type = type;
    a->data = guard_alloc(array_span(a));
    return a;
}

static void fill_reals(call *c, array *a) {
    const unsigned swap = (unsigned)(c->number & 1);
    for (size_t i = 0; i < a->rows; i++)
        for (size_t j = 0; j < a->cols; j++) {
            const size_t line = swap ? j : i;
            const unsigned menu = (unsigned)((line * 2654435761u >> 4) + c->number) % 5;
            real value;
            if (c->flavour == SPECIAL)
                value = rng_special(&c->data, menu);
            else if (c->flavour == INTEGER)
                value = (real)((double)rng_below(&c->data, 9) - 4);
            else
                value = rng_real(&c->data, -2, 2);
            memcpy(at(a, a->data, i, j), &value, sizeof value);
        }
}

array *add_matrix(call *c, role role, size_t rows, size_t cols, int by_row) {
    const size_t pad = c->strided ? 1 + rng_below(&c->layout, 5) : 0;
    array *a = add(c, role, TYPE_REAL, rows, cols, cols + pad);
    a->by_row = by_row;
    a->is_matrix = 1;
    if (role != OUTPUT) fill_reals(c, a);
    return a;
}

array *add_vector(call *c, role role, size_t cols) {
    array *a = add(c, role, TYPE_REAL, 1, cols, cols);
    if (role != OUTPUT) fill_reals(c, a);
    return a;
}

array *add_doubles(call *c, role role, size_t count, int by_row, double low, double high) {
    array *a = by_row ? add(c, role, TYPE_DOUBLE, count, 1, 1) : add(c, role, TYPE_DOUBLE, 1, count, count);
    a->by_row = by_row;
    if (role != OUTPUT)
        for (size_t i = 0; i < count; i++) ((double *)a->data)[i] = low + (high - low) * rng_unit(&c->data);
    return a;
}

array *add_labels(call *c, size_t rows, size_t classes) {
    array *a = add(c, INPUT, TYPE_INT64, rows, 1, 1);
    a->by_row = 1;
    for (size_t i = 0; i < rows; i++) ((int64_t *)a->data)[i] = classes ? (int64_t)rng_below(&c->data, classes) : 0;
    return a;
}

array *add_absent(call *c) {
    array *a = &c->a[c->count++];
    memset(a, 0, sizeof *a);
    a->role = IGNORED;
    return a;
}

void limit(array *a, double low, double high) {
    a->is_limited = 1;
    a->low = low;
    a->high = high;
    for (size_t i = 0; i < a->rows; i++)
        for (size_t j = 0; j < a->cols; j++) {
            real value;
            memcpy(&value, at(a, a->data, i, j), sizeof value);
            if (value < (real)low) value = (real)low;
            if (value > (real)high) value = (real)high;
            memcpy(at(a, a->data, i, j), &value, sizeof value);
        }
}

/* ---------------------------------------------------------------- verify */

static wide read(const array *a, const void *base, size_t row, size_t col) {
    const unsigned char *p = at(a, base, row, col);
    if (a->type == TYPE_REAL) {
        real value;
        memcpy(&value, p, sizeof value);
        return (wide)value;
    }
    if (a->type == TYPE_DOUBLE) {
        double value;
        memcpy(&value, p, sizeof value);
        return (wide)value;
    }
    int64_t value;
    memcpy(&value, p, sizeof value);
    return (wide)value;
}

wide array_at(const array *a, size_t row, size_t col) { return read(a, a->data, row, col); }
wide array_initial_at(const array *a, size_t row, size_t col) { return read(a, a->initial, row, col); }

static wide *widen_from(const array *a, const void *base) {
    if (!a->data) return NULL;
    wide *w = scratch_wide(a->rows * a->cols);
    for (size_t i = 0; i < a->rows; i++)
        for (size_t j = 0; j < a->cols; j++) w[i * a->cols + j] = read(a, base, i, j);
    return w;
}

wide *widen(const array *a) { return widen_from(a, a->data); }
wide *widen_initial(const array *a) { return widen_from(a, a->initial); }

void check_near(const call *c, size_t index, const wide *expected, const wide *tolerance) {
    const array *a = &c->a[index];
    harness_count(a->rows * a->cols);
    for (size_t i = 0; i < a->rows; i++)
        for (size_t j = 0; j < a->cols; j++) {
            const wide got = array_at(a, i, j), want = expected[i * a->cols + j];
            const wide off = fabsl(got - want), limit = tolerance[i * a->cols + j];
            if (want != want ? got == got : !(off <= limit)) {
                harness_fail(
                    __FILE__, __LINE__,
                    "%s: argument %lu [%lu][%lu] is %.20Lg, not %.20Lg: off by %.3Lg (%.3Lg ULP), allowed %.3Lg",
                    c->operation->name, (unsigned long)index, (unsigned long)i, (unsigned long)j, got, want, off,
                    off / ulp(want), limit);
                return;
            }
        }
}

/* ---------------------------------------------------------------- life of a call */

void call_prepare(call *c, const operation *operation, size_t n, size_t k, size_t m, flavour flavour, uint64_t number,
                  int strided, guard side) {
    memset(c, 0, sizeof *c);
    c->operation = operation;
    c->n = n;
    c->k = k;
    c->m = m;
    c->flavour = flavour;
    c->number = number;
    c->strided = strided;
    c->data = rng_new(number);
    c->layout = rng_new(number ^ UINT64_C(0x5bd1e995));
    guard_set_side(side);
    operation->setup(c);
    call_commit(c);
}

void call_commit(call *c) {
    for (size_t i = 0; i < c->count; i++) {
        array *a = &c->a[i];
        if (a->data) {
            a->initial = scratch_alloc(array_span(a));
            memcpy(a->initial, a->data, array_span(a));
        }
    }
}

void call_restore(call *c) {
    for (size_t i = 0; i < c->count; i++)
        if (c->a[i].data && array_span(&c->a[i])) memcpy(c->a[i].data, c->a[i].initial, array_span(&c->a[i]));
}

normcore_status call_run(call *c, normcore_context *ctx) {
    call_restore(c);
    return c->operation->run(c, ctx);
}

int call_is_untouched(const call *c) {
    for (size_t i = 0; i < c->count; i++)
        if (c->a[i].data && array_span(&c->a[i]) && memcmp(c->a[i].data, c->a[i].initial, array_span(&c->a[i])) != 0)
            return 0;
    return 1;
}

static int element_is_canonical(const array *a, size_t row, size_t col) {
    const unsigned char *p = at(a, a->data, row, col);
    if (a->type == TYPE_INT64) return 1;
    if (a->type == TYPE_DOUBLE) {
        double value;
        memcpy(&value, p, sizeof value);
        return double_is_canonical(value);
    }
    real value;
    memcpy(&value, p, sizeof value);
    return real_is_canonical(value);
}

void call_check(const call *c) {
    for (size_t i = 0; i < c->count; i++) {
        const array *a = &c->a[i];
        const size_t size = array_element_size(a);
        if (!a->data || a->role == IGNORED || array_span(a) == 0) continue;
        if (a->role == INPUT) {
            if (memcmp(a->data, a->initial, array_span(a)) != 0)
                harness_fail(__FILE__, __LINE__, "%s wrote to its input %lu", c->operation->name, (unsigned long)i);
            harness_count(1);
            continue;
        }
        for (size_t row = 0; row < a->rows; row++) {
            /* What was not written is still 0xffff..., which no result can be: that NaN is not the canonical one. */
            for (size_t col = 0; col < a->cols; col++)
                if (!element_is_canonical(a, row, col)) {
                    harness_fail(__FILE__, __LINE__, "%s: argument %lu [%lu][%lu] is not written or not canonical",
                                 c->operation->name, (unsigned long)i, (unsigned long)row, (unsigned long)col);
                    return;
                }
            if (row + 1 < a->rows && a->stride > a->cols &&
                memcmp(at(a, a->data, row, a->cols), at(a, a->initial, row, a->cols), (a->stride - a->cols) * size)) {
                harness_fail(__FILE__, __LINE__, "%s: argument %lu: the padding after row %lu was written",
                             c->operation->name, (unsigned long)i, (unsigned long)row);
                return;
            }
        }
        harness_count(a->rows * a->cols);
    }
}

const double **call_pointer(call *c, size_t index) {
    const double **pointers[] = {&c->cross_entropy.class_weight, &c->cross_entropy.sample_weight,
                                 &c->loss.sample_weight};
    return index < sizeof pointers / sizeof *pointers ? pointers[index] : NULL;
}

void call_redirect(call *c, const void *from, const void *to) {
    const double **pointer;
    for (size_t i = 0; (pointer = call_pointer(c, i)) != NULL; i++)
        if (*pointer && *pointer == from) *pointer = to;
}

call call_slice(const call *c, size_t first, size_t last) {
    call part = *c;
    part.n = last - first;
    part.offset += first * c->k; /* dropout counts elements */
    for (size_t i = 0; i < c->count; i++) {
        array *a = &part.a[i];
        if (!a->by_row || !a->data) continue;
        void *const start = at(a, a->data, first, 0);
        call_redirect(&part, a->data, start);
        a->data = start;
        a->initial = at(a, a->initial, first, 0);
        a->rows = last - first;
    }
    return part;
}

snapshot call_snapshot(const call *c) {
    snapshot s = {NULL, 0};
    for (size_t i = 0; i < c->count; i++)
        if (c->a[i].data && (c->a[i].role == OUTPUT || c->a[i].role == INOUT))
            s.size += c->a[i].rows * c->a[i].cols * array_element_size(&c->a[i]);
    unsigned char *p = s.bytes = scratch_alloc(s.size);
    for (size_t i = 0; i < c->count; i++) {
        const array *a = &c->a[i];
        const size_t row_size = a->cols * array_element_size(a);
        if (a->data && row_size && (a->role == OUTPUT || a->role == INOUT))
            for (size_t row = 0; row < a->rows; row++, p += row_size) memcpy(p, at(a, a->data, row, 0), row_size);
    }
    return s;
}

int call_same(const call *c, snapshot expected, const char *file, int line, const char *what) {
    const unsigned char *p = expected.bytes;
    for (size_t i = 0; i < c->count; i++) {
        const array *a = &c->a[i];
        const size_t size = array_element_size(a), row_size = a->cols * size;
        if (!a->data || !row_size || (a->role != OUTPUT && a->role != INOUT)) continue;
        for (size_t row = 0; row < a->rows; row++, p += row_size) {
            if (memcmp(p, at(a, a->data, row, 0), row_size) == 0) continue;
            size_t col = 0;
            while (memcmp(p + col * size, at(a, a->data, row, col), size) == 0) col++;
            array one = *a;
            one.data = scratch_alloc(size);
            memcpy(one.data, p + col * size, size);
            harness_fail(file, line, "%s: argument %lu [%lu][%lu] is %La, but %La %s", c->operation->name,
                         (unsigned long)i, (unsigned long)row, (unsigned long)col, array_at(a, row, col),
                         array_at(&one, 0, 0), what);
            return 0;
        }
    }
    harness_count(expected.size);
    return 1;
}
