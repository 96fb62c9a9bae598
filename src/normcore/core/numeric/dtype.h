/*
 * The one switch between float and double: -DNORMCORE_DTYPE=32 or 64 gives `real`, its limits and NAME(), the suffix of
 * every name that exists once per dtype. A translation unit has one dtype.
 */
#ifndef NORMCORE_DTYPE_H
#define NORMCORE_DTYPE_H

#include <float.h>
#include <math.h>
#include <stdint.h>

#if NORMCORE_DTYPE == 32
#define real          float
#define real_bits     uint32_t
#define NAME(name)    name##_f32
#define REAL_INFINITY ((float)INFINITY)
#define REAL_NAN      ((float)NAN)
#define REAL_MAX      FLT_MAX
#elif NORMCORE_DTYPE == 64
#define real          double
#define real_bits     uint64_t
#define NAME(name)    name##_f64
#define REAL_INFINITY ((double)INFINITY)
#define REAL_NAN      ((double)NAN)
#define REAL_MAX      DBL_MAX
#else
#error "NORMCORE_DTYPE must be 32 or 64"
#endif

#endif
