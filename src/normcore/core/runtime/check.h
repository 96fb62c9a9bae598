/* Checks of arguments, made before any array is touched. */
#ifndef NORMCORE_CHECK_H
#define NORMCORE_CHECK_H

#include "normcore.h"

/* One array argument, `rows` rows of `cols` elements. */
typedef struct operand {
    const void *data;
    size_t rows, cols, stride, element;
    int optional;    /* may be NULL: then it is not there */
    int output;      /* overlaps no other operand ... */
    unsigned may_be; /* ... but may be exactly the operands whose bits are set */
} operand;

#define IN_MATRIX(p, n, d, s)                   {(p), (n), (d), (s), sizeof *(p), 0, 0, 0}
#define IN_VECTOR(p, d)                         {(p), 1, (d), (d), sizeof *(p), 0, 0, 0}
#define IN_OPTIONAL_MATRIX(p, n, d, s)          {(p), (n), (d), (s), sizeof *(p), 1, 0, 0}
#define IN_OPTIONAL_VECTOR(p, d)                {(p), 1, (d), (d), sizeof *(p), 1, 0, 0}
#define OUT_MATRIX(p, n, d, s, may_be)          {(p), (n), (d), (s), sizeof *(p), 0, 1, (may_be)}
#define OUT_VECTOR(p, d)                        {(p), 1, (d), (d), sizeof *(p), 0, 1, 0}
#define OUT_OPTIONAL_MATRIX(p, n, d, s, may_be) {(p), (n), (d), (s), sizeof *(p), 1, 1, (may_be)}
#define OUT_OPTIONAL_VECTOR(p, d)               {(p), 1, (d), (d), sizeof *(p), 1, 1, 0}
/* Needed only where `unused` is 0. */
#define IN_MATRIX_UNLESS(unused, p, n, d, s) {(p), (n), (d), (s), sizeof *(p), (unused), 0, 0}
#define OUT_VECTOR_UNLESS(unused, p, d)      {(p), 1, (d), (d), sizeof *(p), (unused), 1, 0}

enum { MAX_OPERANDS = 10 }; /* of a call */

/* STRIDE, SIZE, NULL, ALIAS, in that order; NORMCORE_OK if all is well. Empty operands are not looked at further. */
normcore_status normcore_check_operands(const operand *operands, size_t count);

/* a * b, or 0 and *ok = 0 on overflow. */
size_t normcore_check_product(size_t a, size_t b, int *ok);

/*
 * Whether low <= x <= high; false for NaN. Scalars are checked in the caller's floating-point environment: all three
 * compare quietly, so that no trap of the caller's fires at NaN.
 */
int normcore_check_between(double x, double low, double high);

/* Whether x is finite and low <= x; false for NaN. */
int normcore_check_at_least(double x, double low);

/* Whether dropout can keep elements with that probability: it compares 32-bit words with keep 2^32. */
int normcore_check_keep(double keep);

#endif
