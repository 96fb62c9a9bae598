/* Sums and other passes in which every element stands for itself. */
#include "simd/simd.h"

/* y += x: joins two sums of the contract's tree. */
static void add_into(size_t n, size_t d, real *y, size_t ys, const real *x, size_t xs) {
    for (size_t i = 0; i < n; i++, x += xs, y += ys)
        FOR_VECTORS(j, count, d, { v_put_n(y + j, v_add(v_get(y + j, count), v_get(x + j, count)), count); });
}

static void sum_of_squares(size_t n, const real *x, double *result) {
    lanes s = lanes_zero();
    FOR_LANES(j, v, count, n, {
        const vwide w = w_widen(v_get(x + j, count));
        s.v[v] = w_keep_tail(count, w_fma(w, w, s.v[v]), s.v[v]);
    });
    *result = canonical(lanes_fold(&s));
}

/* sums[j] = sum of the rows of column j, in double, rows ascending from +0: db of one chunk. */
static void column_sums(size_t n, size_t d, const real *x, size_t xs, double *sums) {
    enum { ROWS = 8 };
    for (size_t j = 0; j < d; j++) sums[j] = 0.0;
    for (size_t i0 = 0; i0 < n; i0 += ROWS) {
        const size_t rows = n - i0 < ROWS ? n - i0 : ROWS;
        FOR_VECTORS(j, count, d, {
            vwide s = w_get(sums + j, count);
            for (size_t i = i0; i < i0 + rows; i++) s = w_accumulate(s, w_get_widened(x + i * xs + j, count));
            w_put_n(sums + j, s, count);
        });
    }
}
