/*
 * Scalars are judged as they are used: where a kernel takes one in the data's type, rounded to it. Comparisons of doubles
 * say so, for checks run in the caller's floating-point environment, where a conversion might flush or round otherwise.
 * Where x may be NaN they are the quiet ones of math.h, at which no trap of the caller's fires.
 */
#ifndef NORMCORE_SCALARS_H
#define NORMCORE_SCALARS_H

#include "numeric/guards.h"

#include "numeric/dtype.h"

#include "runtime/check.h"

/* From REAL_OVERFLOW on a double rounds to infinity, up to REAL_UNDERFLOW to 0, from REAL_ONE on to 1. */
#if NORMCORE_DTYPE == 32
#define REAL_OVERFLOW  0x1.ffffffp+127
#define REAL_UNDERFLOW 0x1p-150
#define REAL_ONE       0x1.ffffffp-1
#define REAL_NORMAL    0x1p-126
#else
#define REAL_OVERFLOW  ((double)INFINITY)
#define REAL_UNDERFLOW 0.0
#define REAL_ONE       1.0
#define REAL_NORMAL    DBL_MIN
#endif

/* Whether x stays finite; false for NaN. */
NORMCORE_INLINE int fits(double x) { return isless(fabs(x), REAL_OVERFLOW); }

/* Whether x stays finite and does not become 0: where 0 would do something else. */
NORMCORE_INLINE int fits_or_is_zero(double x) { return fits(x) && (x == 0.0 || fabs(x) > REAL_UNDERFLOW); }

/*
 * Whether x is the eps of a norm: 0, which says what it does, or large enough for 1 / sqrt(eps), what a line that is
 * constant is multiplied by, and its powers to stay in range: 0 times infinity would be NaN.
 */
NORMCORE_INLINE int is_eps(double x) { return normcore_check_at_least(x, 0.0) && (x == 0.0 || x >= REAL_NORMAL); }

/* Whether x stays in [0, 1). */
NORMCORE_INLINE int is_fraction(double x) { return isgreaterequal(x, 0.0) && isless(x, REAL_ONE); }

/* Above every normal deviate: the quantile of 2^-53 is -8.2. */
enum { LARGEST_DEVIATE = 9 };

/* Whether every normal deviate of that mean and scale stays finite. */
NORMCORE_INLINE int is_normal_range(double mean, double scale) {
    return normcore_check_at_least(scale, 0.0) && fits(fabs(mean) + LARGEST_DEVIATE * scale);
}

#endif
