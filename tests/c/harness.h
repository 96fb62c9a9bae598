/*
 * A small test harness: checks that say where they failed, random data that a seed reproduces, and memory whose end (or
 * beginning) lies at a page that cannot be touched.
 *
 * Every test program is compiled once for each dtype, with -DTEST_DTYPE=32 or 64.
 */
#ifndef NORMCORE_TESTS_HARNESS_H
#define NORMCORE_TESTS_HARNESS_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>

#include "normcore.h"

#if TEST_DTYPE == 32
typedef float real;
#define T(name)       name##_f32
#define DTYPE_NAME    "f32"
#define REAL_EPSILON  FLT_EPSILON
#define REAL_MIN      FLT_MIN
#define REAL_MAX      FLT_MAX
#define REAL_MANTISSA FLT_MANT_DIG
#elif TEST_DTYPE == 64
typedef double real;
#define T(name)       name##_f64
#define DTYPE_NAME    "f64"
#define REAL_EPSILON  DBL_EPSILON
#define REAL_MIN      DBL_MIN
#define REAL_MAX      DBL_MAX
#define REAL_MANTISSA DBL_MANT_DIG
#else
#error "compile with -DTEST_DTYPE=32 or -DTEST_DTYPE=64"
#endif

/* The type in which expected values are computed. */
typedef long double wide;

/* Unit roundoff of the data and of double. */
#define U  ((wide)REAL_EPSILON / 2)
#define UD ((wide)DBL_EPSILON / 2)

/* ---------------------------------------------------------------- checks */

#define CHECK(condition)             harness_check((condition) != 0, __FILE__, __LINE__, #condition)
#define CHECK_STATUS(expected, call) harness_check_status((expected), (call), __FILE__, __LINE__, #call)

/* Return whether the check held. */
int harness_check(int condition, const char *file, int line, const char *text);
int harness_check_status(normcore_status expected, normcore_status got, const char *file, int line, const char *text);
/* A failed check with a printf-like explanation. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
void harness_fail(const char *file, int line, const char *format, ...);
/* Says what is being tested; printed with each failure from here on. */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
void harness_note(const char *format, ...);
/* Counts checks that held, for loops that call harness_fail() themselves. */
void harness_count(size_t checks);
size_t harness_failures(void);

typedef struct test {
    const char *name;
    void (*run)(void);
} test;

/*
 * Runs the tests named on the command line, or all of them. Fails if a check failed or if a test checked nothing.
 * TEST_SEED in the environment replaces the seed.
 */
int harness_main(int argc, char **argv, const test *tests, size_t count);

/* ---------------------------------------------------------------- random data */

typedef struct rng {
    uint64_t state;
} rng;

uint64_t harness_seed(void);
rng rng_new(uint64_t seed);
uint64_t rng_next(rng *r);
size_t rng_below(rng *r, size_t bound);
/* In [0, 1). */
double rng_unit(rng *r);
/* In [low, high]. */
real rng_real(rng *r, double low, double high);

typedef enum flavour {
    PLAIN,   /* uniform in [-2, 2] */
    INTEGER, /* whole numbers in [-4, 4]: sums of products are exact */
    SPECIAL  /* as PLAIN, about one in ten NaN, Inf, +-0, subnormal or huge, mixed differently by row or by column */
} flavour;

/* A row (or column) of SPECIAL data draws from one of five menus, so that not everything ends up NaN. */
real rng_special(rng *r, unsigned menu);

/* ---------------------------------------------------------------- guarded memory */

typedef enum guard { GUARD_AFTER, GUARD_BEFORE } guard;

/* Memory filled with 0xff, at a page that cannot be touched, on the side that guard_set_side() said last. */
void *guard_alloc(size_t size);
void guard_set_side(guard side);
/* Takes back everything since the last call and checks that the bytes around each allocation are as they were. */
void guard_reset(void);
/* An address that cannot be touched, for arguments that must not be read. */
void *guard_fake(size_t index);

/* Plain memory that lives until guard_reset(). */
void *scratch_alloc(size_t size);
wide *scratch_wide(size_t count);

/* ---------------------------------------------------------------- instruction sets */

/* The scalar target comes first, then the others, best last. */
size_t isa_count(void);
const char *isa_get(size_t index);
void isa_use(size_t index);
/* Back to the default. */
void isa_reset(void);

/* ---------------------------------------------------------------- floating-point environments */

typedef struct environment {
    const char *name;
    int rounding;
    unsigned control; /* bits to set in MXCSR besides: flush to zero, denormals are zero */
} environment;

extern const environment environments[];
extern const size_t environment_count;

void environment_enter(const environment *e);
/* Back to the default. */
void environment_leave(void);
/* Rounding mode and control bits of this thread; which exceptions have been raised is not part of it. */
unsigned environment_control(void);

/* ---------------------------------------------------------------- bits */

int real_is_canonical(real value); /* not NaN, or the canonical one */
int double_is_canonical(double value);
wide ulp(wide value); /* of the data's type, at value */

#endif
