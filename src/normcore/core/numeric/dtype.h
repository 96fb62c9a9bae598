/*
 * The one switch between float and double: -DNORMCORE_DTYPE=32 or 64 gives `real`, its limits and NAME(), the suffix of
 * every name that exists once per dtype. May be included again after NORMCORE_DTYPE has been redefined.
 */
#include <stdint.h>

#undef real
#undef real_bits
#undef NAME
#undef REAL_INFINITY
#undef REAL_NAN
#undef REAL_MAX

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
