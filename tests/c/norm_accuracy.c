#include "norm_accuracy.h"
#include "reference.h"

#include <math.h>

const hard_data hard_data_list[] = {
    {0, 1, 1},    {1, 1, 1},     {1e4, 1, 1},  {-1e6, 1, 1},    {1e6, 1e3, 1}, {0, 1e-30, 1},
    {0, 1e20, 1}, {0, 1e-20, 1}, {3, 1e-4, 1}, {1e20, 1e18, 1}, {0, 1e37, 1},  {1e-30, 1e-32, 1},
};
const size_t hard_data_count = sizeof hard_data_list / sizeof *hard_data_list;

void hard_data_fill(const hard_data *kind, size_t count, uint64_t number, real *x) {
    rng r = rng_new(number);
    for (size_t i = 0; i < count; i++) x[i] = (real)(kind->offset + kind->scale * (2 * rng_unit(&r) - 1));
}

static void check_line(size_t count, size_t step, const real *x, const real *y, double eps, size_t line) {
    wide *values = scratch_wide(count), mean, var, greatest = 0, worst = 0;
    for (size_t i = 0; i < count; i++) values[i] = (wide)x[i * step];
    reference_moments(count, 1, values, &mean, &var);
    for (size_t i = 0; i < count; i++) {
        values[i] = (values[i] - mean) / sqrtl(var + (wide)eps);
        greatest = fabsl(values[i]) > greatest ? fabsl(values[i]) : greatest;
    }
    for (size_t i = 0; i < count; i++) {
        const wide unit = ulp(fabsl(values[i]) >= greatest / 64 ? values[i] : greatest);
        const wide off = fabsl((wide)y[i * step] - values[i]) / unit;
        worst = off <= worst ? worst : off;
    }
    harness_count(count);
    if (!(worst <= 2.5L)) harness_fail(__FILE__, __LINE__, "line %lu is off by %.3Lg ULP", (unsigned long)line, worst);
}

void check_normalised(const real *x, const real *y, size_t n, size_t d, int by_column, double eps) {
    for (size_t line = 0; line < (by_column ? d : n); line++)
        check_line(by_column ? n : d, by_column ? d : 1, x + (by_column ? line : line * d),
                   y + (by_column ? line : line * d), eps, line);
}

void check_gradient(const real *dy, const real *x, const real *dx, const double *mean, const double *rstd, size_t n,
                    size_t d, int by_column) {
    const size_t count = by_column ? n : d, step = by_column ? d : 1;
    wide *wide_dy = scratch_wide(n * d), *wide_x = scratch_wide(n * d), *expected = scratch_wide(n * d), one = 1;
    for (size_t i = 0; i < n * d; i++) {
        wide_dy[i] = (wide)dy[i];
        wide_x[i] = (wide)x[i];
    }
    for (size_t line = 0; line < (by_column ? d : n); line++) {
        const size_t first = by_column ? line : line * d;
        wide greatest = 0, worst = 0;
        reference_norm_backward(count, step, wide_dy + first, wide_x + first, &one, 0, (wide)mean[line],
                                (wide)rstd[line], 1, expected + first);
        for (size_t i = 0; i < count; i++)
            greatest = fabsl(wide_dy[first + i * step]) > greatest ? fabsl(wide_dy[first + i * step]) : greatest;
        for (size_t i = 0; i < count; i++) {
            const size_t e = first + i * step;
            const wide off = fabsl((wide)dx[e] - expected[e]) / ulp((wide)rstd[line] * greatest);
            worst = off <= worst ? worst : off;
        }
        harness_count(count);
        if (!(worst <= 3))
            harness_fail(__FILE__, __LINE__, "the gradient of line %lu is off by %.3Lg ULP", (unsigned long)line,
                         worst);
    }
}
