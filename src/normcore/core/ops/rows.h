/* Cutting rows into tasks, and how a call reaches its kernels. */
#ifndef NORMCORE_ROWS_H
#define NORMCORE_ROWS_H

#include "kernels/kernels.h"
#include "runtime/context.h"

/* Rows [start, start + count) of task `index` of `tasks`, cut as evenly as possible. */
typedef struct row_range {
    size_t start, count;
} row_range;

NORMCORE_INLINE row_range row_range_of(size_t rows, size_t tasks, size_t index) {
    if (tasks == 1) { /* the usual case, and the division takes as long as everything else here */
        const row_range all = {0, rows};
        return all;
    }
    const size_t each = rows / tasks, more = rows % tasks;
    const row_range r = {index * each + (index < more ? index : more), each + (index < more)};
    return r;
}

/* Rounds d sums to the dtype, NaN canonical. `out` may be NULL. */
NORMCORE_INLINE void store_sums(size_t d, const double *sums, real *out) {
    if (!out) return;
    for (size_t j = 0; j < d; j++) out[j] = sums[j] == sums[j] ? (real)sums[j] : REAL_NAN;
}

NORMCORE_INLINE const NAME(kernel_table) *kernels_of(const call *c) {
#if NORMCORE_DTYPE == 32
    return normcore_call_target(c)->f32;
#else
    return normcore_call_target(c)->f64;
#endif
}

/* Rough time of a pass that moves that many elements through a core, at 20 GB/s. */
NORMCORE_INLINE double pass_ns(size_t n, size_t d, double passes) {
    return (double)n * (double)d * (passes * (double)sizeof(real) / 20.0);
}

#endif
