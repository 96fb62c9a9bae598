/*
 * Sums over the rows of a batch: chunks of CONTRACT_CHUNK rows, joined by the contract's tree. They are in double,
 * whatever the dtype.
 */
#ifndef NORMCORE_SUMS_H
#define NORMCORE_SUMS_H

#include "numeric/guards.h"

#include "numeric/contract.h"

#include <math.h>
#include <stddef.h>

NORMCORE_INLINE size_t chunk_count(size_t n) { return n / CONTRACT_CHUNK + (n % CONTRACT_CHUNK != 0); }
NORMCORE_INLINE size_t chunk_rows(size_t n, size_t chunk) {
    const size_t left = n - chunk * CONTRACT_CHUNK;
    return left < CONTRACT_CHUNK ? left : CONTRACT_CHUNK;
}

/* Chunks in the left subtree of a range: the largest power of two below its length. */
NORMCORE_INLINE size_t tree_split(size_t chunks) {
    size_t left = 1;
    while (left * 2 < chunks) left *= 2;
    return left;
}

/* Sums `chunks` partial vectors of `width` doubles, `width` apart, into the first, by the contract's tree. */
void normcore_tree_sum(double *partials, size_t chunks, size_t width);

NORMCORE_INLINE double canonical_double(double a) { return a == a ? a : (double)NAN; }

/*
 * A sum in two doubles, hi + lo: lo is what rounding hi lost at each step. Its value is within one ULP of the exact sum
 * of terms of one sign, and of the order of 2^-100 of the sum of the magnitudes for others.
 */
typedef struct pair {
    double hi, lo;
} pair;

/* Values are added to +0 in order within a chunk; chunks are joined by the contract's tree. */
pair normcore_pair_sum(size_t n, const double *values);

/* lo is not finite where hi overflowed or is NaN. */
NORMCORE_INLINE double pair_value(pair a) { return canonical_double(a.lo - a.lo == 0.0 ? a.hi + a.lo : a.hi); }

#endif
