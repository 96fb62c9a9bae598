/*
 * Every operation of the library as data: its arguments, how to call it, and how to tell whether the result is near
 * what the naive reference says. What holds for all operations alike (the same bits on every instruction set, nothing
 * written outside, errors before anything is written, ...) is tested once, over this table: see properties.h.
 *
 * A new operation is one line in a table of its topic's file ops_*.c, and one setup, run and verify function.
 */
#ifndef NORMCORE_TESTS_OPERATIONS_H
#define NORMCORE_TESTS_OPERATIONS_H

#include "harness.h"

typedef enum role { INPUT, OUTPUT, INOUT, IGNORED } role;
typedef enum type { TYPE_REAL, TYPE_DOUBLE, TYPE_INT64 } type;

/* One pointer argument. data is NULL where the argument is left out (rows is then 0). */
typedef struct array {
    void *data;
    size_t rows, cols, stride; /* a vector is one row */
    role role;
    type type;
    int by_row;    /* rows of this array are rows of the batch */
    int is_matrix; /* has a stride argument of its own */
    void *initial; /* what data held before the call, all (rows - 1) * stride + cols elements of it */
    int is_limited;
    double low, high; /* where its elements lie that are not NaN, if it is limited */
} array;

#define MAX_ARRAYS 16

typedef struct operation operation;

typedef struct call {
    const operation *operation;
    size_t n, k, m; /* rows, columns, and the columns of the output where they differ */
    flavour flavour;
    uint64_t number; /* of the case: seeds the data */
    rng data, layout;
    int strided;
    size_t count;
    array a[MAX_ARRAYS];
    /* Scalar arguments, set by setup; which ones count depends on the operation. */
    uint64_t seed, stream, offset;
    double eps, keep, low, high;
    uint64_t bound;
    normcore_cross_entropy_options cross_entropy;
    normcore_loss_options loss;
    normcore_batch_norm_options batch_norm;
    normcore_optimizer_options optimizer;
    size_t sizes[4];
    struct { /* of mlp_backward: a forward pass of data of its own, as those of the call may be wrong on purpose */
        size_t n;
        real *x, *params, *y;
    } forward;
} call;

enum {
    BY_ROW = 1,     /* every result is computed row by row: the rows may be cut into calls anywhere */
    ONE_ROW = 2,    /* arguments are vectors of n elements */
    NEEDS_ROWS = 4, /* n == 0 is an error */
    NEEDS_COLS = 8  /* k == 0 is an error */
};

struct operation {
    const char *name;
    int variant;
    unsigned flags;
    void (*setup)(call *c);
    normcore_status (*run)(const call *c, normcore_context *ctx);
    void (*verify)(const call *c); /* of PLAIN and INTEGER data, after a run; NULL where `run` is bit-exact elsewhere */
    struct {
        int output, input;
    } in_place[2]; /* pairs of arrays that may be the same; {0, 0} is none */
};

typedef struct operation_list {
    const operation *items;
    size_t count;
} operation_list;

operation_list affine_operations(void);
operation_list rowwise_operations(void);
operation_list cross_entropy_operations(void);
operation_list losses_operations(void);
operation_list batch_norm_operations(void);
operation_list layer_norm_operations(void);
operation_list random_operations(void);
operation_list optimizer_operations(void);
operation_list mlp_operations(void);
/* All of them; NULL past the end. */
const operation *operation_get(size_t index);

/* ---------------------------------------------------------------- for setup */

array *add_matrix(call *c, role role, size_t rows, size_t cols, int by_row);
array *add_vector(call *c, role role, size_t cols);
/* Vectors of double, filled with [low, high] whatever the flavour. by_row: one element a row. */
array *add_doubles(call *c, role role, size_t count, int by_row, double low, double high);
array *add_labels(call *c, size_t rows, size_t classes);
array *add_absent(call *c);
/* Brings what a matrix holds, and will hold, into [low, high]; NaN stays. */
void limit(array *a, double low, double high);

/* ---------------------------------------------------------------- for run */

#define POINTER(i) ((real *)c->a[i].data)
#define MATRIX(i)  POINTER(i), c->a[i].stride
#define DOUBLES(i) ((double *)c->a[i].data)
#define LABELS(i)  ((int64_t *)c->a[i].data)

/* ---------------------------------------------------------------- for verify */

wide array_at(const array *a, size_t row, size_t col);
wide array_initial_at(const array *a, size_t row, size_t col);
/* The contents (initial contents) as rows * cols wide numbers; NULL for an absent array. */
wide *widen(const array *a);
wide *widen_initial(const array *a);
/* Checks |a[i][j] - expected| <= tolerance, or NaN where NaN is expected, for every element. */
void check_near(const call *c, size_t index, const wide *expected, const wide *tolerance);

/* ---------------------------------------------------------------- life of a call */

/* Sets up the arguments. The data depend on `number` and the shape alone, not on layout or guard. */
void call_prepare(call *c, const operation *operation, size_t n, size_t k, size_t m, flavour flavour, uint64_t number,
                  int strided, guard side);
/* Puts everything back to what it was before the first run. */
void call_restore(call *c);
normcore_status call_run(call *c, normcore_context *ctx);
/* Inputs and paddings are untouched, every output is written, every NaN canonical. */
void call_check(const call *c);
/* The same, but nothing at all may have been written. */
int call_is_untouched(const call *c);
/* Takes what the arrays hold now as what they held before. */
void call_commit(call *c);
/* The index-th pointer in the options that leads to one of the arrays, or may; NULL past the last. */
const double **call_pointer(call *c, size_t index);
/* Makes pointers in the options that lead to `from` lead to `to`. */
void call_redirect(call *c, const void *from, const void *to);
/* The rows [first, last) of a call of a BY_ROW operation. */
call call_slice(const call *c, size_t first, size_t last);

/* The outputs, row after row without padding. */
typedef struct snapshot {
    unsigned char *bytes;
    size_t size;
} snapshot;

snapshot call_snapshot(const call *c);
/* Fails, naming array, row and column, if the outputs of c are not the same bits as the snapshot. */
int call_same(const call *c, snapshot expected, const char *file, int line, const char *what);
#define CHECK_SAME(c, expected, what) call_same((c), (expected), __FILE__, __LINE__, (what))

size_t array_element_size(const array *a);
size_t array_span(const array *a); /* in bytes, from first to last element */

#endif
