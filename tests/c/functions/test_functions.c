/*
 * exp, exp of a sum, log, log1p, the activations made of exp, and the derivative of silu, as the kernels have them:
 * errors against the C library's long double, the results that must be exact, monotony, and the same bits from every
 * instruction set of this machine.
 *
 *     test_functions_f32 [--runs N | --all]
 *                        [exp | exp_sum | log | log1p | log1p_unit | tanh | logistic | silu | silu_derivative]
 *
 * Inputs are runs of 16 neighbouring numbers, spread at random over each interval in the order of the numbers: N of
 * them, or as many as it takes to leave nothing out (--all; of float64, which has too many, 2^22).
 */
#include "numeric/guards.h"

#include "functions.h"

#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cpu.h"

typedef long double wide;

#define ISA_TARGET(name, needs) extern function *const FUNCTIONS(NORMCORE_DTYPE, name)[FUNCTION_COUNT];
#include "isa_targets.h"
#undef ISA_TARGET

#define ISA_TARGET(name, needs) {#name, needs, FUNCTIONS(NORMCORE_DTYPE, name)},
static const struct {
    const char *name;
    unsigned needs;
    function *const *functions;
} targets[] = {
#include "isa_targets.h"
};
#undef ISA_TARGET
enum { TARGETS = sizeof targets / sizeof *targets };

#if NORMCORE_DTYPE == 32
enum { DIGITS = FLT_MANT_DIG, LEAST = FLT_MIN_EXP };
#define SMALLEST    0x1p-149f
#define LOG_FROM    SMALLEST /* a float's subnormals are normal doubles, and log is of doubles */
#define EXP_ALL_1   0x1p-30f /* exp(x) is 1 + x to every digit of a double below */
#define EXP_NOTHING (-104.0f)
#define EXP_EXCESS  89.0f
#define SILU_LAST   109.0f /* silu is x above, -0 below the negative */
enum { DEFAULT_RUNS = 1 << 17 };
#else
enum { DIGITS = DBL_MANT_DIG, LEAST = DBL_MIN_EXP };
#define SMALLEST    0x1p-1074
#define LOG_FROM    DBL_MIN
#define EXP_ALL_1   0x1p-62
#define EXP_NOTHING (-745.2)
#define EXP_EXCESS  710.0
#define SILU_LAST   752.0
enum { DEFAULT_RUNS = 1 << 15 };
#endif

/* A long double of more than 64 bits is a matter of software. */
enum { RUNS = LDBL_MANT_DIG > 64 ? DEFAULT_RUNS / 16 : DEFAULT_RUNS };
enum { RUN = 16, BLOCK = 256 * RUN };

/* ---------------------------------------------------------------- the numbers in order, NaN at both ends */

/* Key k + 1 belongs to the next number; keys of numbers below +0 are negative. */
#if NORMCORE_DTYPE == 32
#define KEY_LAST ((int64_t)INT32_MAX)
#else
#define KEY_LAST INT64_MAX
#endif

static real number_at(int64_t key) {
    real x;
#if NORMCORE_DTYPE == 32
    const uint32_t bits = key >= 0 ? (uint32_t)key : 0x80000000u | (uint32_t)(-1 - key);
#else
    const uint64_t bits = key >= 0 ? (uint64_t)key : 0x8000000000000000u | (uint64_t)(-1 - key);
#endif
    memcpy(&x, &bits, sizeof x);
    return x;
}
static int64_t key_of(real x) {
#if NORMCORE_DTYPE == 32
    int32_t bits;
    const int32_t magnitude = INT32_MAX;
#else
    int64_t bits;
    const int64_t magnitude = INT64_MAX;
#endif
    memcpy(&bits, &x, sizeof bits);
    return bits >= 0 ? bits : -1 - (int64_t)(bits & magnitude);
}

/* ---------------------------------------------------------------- what is right */

/* exp(x) / (1 + exp(x)) without loss on either side of 0. */
static wide logistic(wide x) {
    const wide e = expl(-fabsl(x));
    return (x < 0 ? e : 1) / (1 + e);
}

static wide truth_of(int which, real x, real lo) {
    const int tiny = x > -EXP_ALL_1 && x < EXP_ALL_1;
    switch (which) {
    case FUNCTION_TANH:
        if (tiny) return (wide)x;
        return fabsl((wide)x) > EXP_EXCESS ? copysignl(1, (wide)x) : tanhl((wide)x);
    case FUNCTION_LOGISTIC:
        if (x < EXP_NOTHING || x > EXP_EXCESS) return x > 0;
        return tiny ? 0.5L + (wide)x / 4 : logistic((wide)x);
    case FUNCTION_SILU:
        if (x < -SILU_LAST || x > SILU_LAST) return x > 0 ? (wide)x : -0.0L;
        return (wide)x * (tiny ? 0.5L + (wide)x / 4 : logistic((wide)x));
    case FUNCTION_SILU_DERIVATIVE:
        if (x < -SILU_LAST || x > SILU_LAST) return x > 0 ? 1 : -0.0L;
        return tiny ? 0.5L + (wide)x / 2 : logistic((wide)x) * (1 + (wide)x * logistic(-(wide)x));
    case FUNCTION_LOG:
        return logl((wide)x);
    case FUNCTION_LOG1P:
    case FUNCTION_LOG1P_UNIT:
        return log1pl((wide)x);
    default:
        break;
    }
    /* Nothing to compute in most of the numbers there are. */
    if (x < EXP_NOTHING) return 0;
    if (x > EXP_EXCESS) return (wide)INFINITY;
    if (tiny) return 1 + (wide)x;
    if (which == FUNCTION_EXP || x != x) return expl((wide)x);
    return expl((wide)x) * (1 + (wide)lo); /* lo is at most 2^-18 (2^-44): its square is nothing */
}

typedef struct judge {
    const char *name;
    int which, digits, least; /* of the result's type */
    int monotone, is_real;    /* is_real: of the data's type, else double */
    wide limit, worst, worst_lo;
    real worst_at;
    uint64_t inputs, digest;
    int failures;
    double last; /* of the run before in the same interval */
} judge;

static void fail(judge *j, real x, double y, const char *what) {
    if (j->failures++ < 10) printf("%s(%a) = %a: %s\n", j->name, (double)x, y, what);
}

static void check(judge *j, real x, real lo, double y) {
    const wide truth = truth_of(j->which, x, lo);
    const double rounded = j->is_real ? (double)(real)truth : (double)truth;
    if (truth != truth) {
        const double nan = (double)NAN;
        if (j->is_real ? memcmp(&y, &nan, sizeof y) != 0 : y == y) fail(j, x, y, "not the canonical NaN");
        return;
    }
    if (j->monotone && !(y >= j->last)) fail(j, x, y, "below its predecessor");
    j->last = y;
    if (rounded == 0 || y == 0 || rounded > DBL_MAX || y > DBL_MAX || x == 0 || x - x != 0) {
        if (memcmp(&y, &rounded, sizeof y) != 0) fail(j, x, y, "0, 1 or infinity, wrongly");
        return;
    }
    const int is_bounded = j->which == FUNCTION_TANH || j->which == FUNCTION_LOGISTIC;
    if (is_bounded && !(y >= -1 && y <= 1)) fail(j, x, y, "beyond 1");
    int exponent;
    wide size = fabsl(truth);
    if (j->which == FUNCTION_SILU_DERIVATIVE) size = fmaxl(size, logistic((wide)x)); /* it has a zero */
    (void)frexpl(size, &exponent);
    const wide unit = ldexpl(1, (exponent < j->least ? j->least : exponent) - j->digits);
    const wide error = fabsl((wide)y - truth) / unit;
    if (!(error <= j->worst)) {
        j->worst = error;
        j->worst_at = x;
        j->worst_lo = (wide)lo;
    }
    if (!(error <= j->limit)) fail(j, x, y, "off by more than the limit");
}

/* ---------------------------------------------------------------- sweeps */

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void run_block(judge *j, size_t count, const real *x, uint64_t *state) {
    static real lo[BLOCK];
    static double expected[BLOCK], got[BLOCK];
    for (size_t i = 0; i < count; i++) {
        /* Up to half a unit of x, as x - max leaves it; where x is infinite, NaN, as it leaves that. */
        int exponent = 0;
        if (x[i] - x[i] == 0) (void)frexp((double)x[i], &exponent);
        const int power = (exponent < LEAST ? LEAST : exponent) - DIGITS - 3;
        lo[i] = x[i] - x[i] == 0 ? (real)ldexp((double)(next_random(state) % 9) - 4, power) : REAL_NAN;
    }
    targets[TARGETS - 1].functions[j->which](count, x, lo, expected);
    for (size_t i = 0; i < count; i++) {
        uint64_t bits;
        memcpy(&bits, &expected[i], sizeof bits);
        j->digest = ((j->digest ^ (j->digest >> 32)) ^ bits) * 0x9e3779b97f4a7c15u;
        check(j, x[i], j->which == FUNCTION_EXP_SUM ? lo[i] : 0, expected[i]);
    }
    for (size_t t = 0; t + 1 < TARGETS; t++) {
        if ((targets[t].needs & normcore_cpu_detect()) != targets[t].needs) continue;
        targets[t].functions[j->which](count, x, lo, got);
        for (size_t i = 0; i < count; i++)
            if (memcmp(&got[i], &expected[i], sizeof got[i]) != 0) fail(j, x[i], got[i], targets[t].name);
    }
    j->inputs += count;
}

/* Returns whether it left nothing out. */
static int sweep(judge *j, real from, real to, uint64_t runs) {
    static real x[BLOCK];
    const int64_t first = key_of(from);
    const uint64_t span = (uint64_t)key_of(to) - (uint64_t)first;
    const int all = span / RUN < runs;
    const uint64_t step = all ? RUN : span / runs;
    uint64_t state = (uint64_t)first;
    size_t filled = 0;
    j->last = -(double)INFINITY;
    if (all) runs = span / RUN + 1;
    for (uint64_t run = 0; run < runs; run++) {
        const uint64_t start = run * step + (step > RUN ? next_random(&state) % (step - RUN + 1) : 0);
        for (uint64_t i = start; i < start + RUN; i++)
            x[filled++] = number_at((int64_t)((uint64_t)first + (i < span ? i : span)));
        if (filled == BLOCK || run + 1 == runs) {
            run_block(j, filled, x, &state);
            filled = 0;
        }
    }
    return all;
}

static int judge_function(int which, const char *name, uint64_t runs) {
    const int is_real = which != FUNCTION_LOG && which != FUNCTION_LOG1P && which != FUNCTION_LOG1P_UNIT;
    const int is_plain = which == FUNCTION_EXP || which == FUNCTION_LOG;
    const int digits = is_real ? DIGITS : DBL_MANT_DIG, least = is_real ? LEAST : DBL_MIN_EXP;
    judge j = {.name = name,
               .which = which,
               .digits = digits,
               .least = least,
               .is_real = is_real,
               .digest = 0xcbf29ce484222325u};
    /*
     * The goal is 1 for exp and log, 2 for the activations, 4 for the derivative. lo, and what 1 + x dropped, come with
     * a rounding of their own.
     */
    j.limit = is_plain                            ? 1
              : which == FUNCTION_TANH            ? 1.5L
              : which == FUNCTION_LOG1P_UNIT      ? 2
              : which == FUNCTION_SILU_DERIVATIVE ? 3
                                                  : 1.25L;
    j.monotone = is_plain || which == FUNCTION_TANH || which == FUNCTION_LOGISTIC;
    /* Where the C library's long double is no wider than double, it has errors of its own, one for each step. */
    if (digits == LDBL_MANT_DIG) j.limit += which < FUNCTION_TANH ? 0.5L : 3;

    /* First everything, then where something happens. */
    switch (which) {
    case FUNCTION_EXP:
        if (!sweep(&j, number_at(-1 - KEY_LAST), number_at(KEY_LAST), runs)) {
            sweep(&j, EXP_NOTHING - 1, -EXP_ALL_1, runs);
            sweep(&j, EXP_ALL_1, EXP_EXCESS + 1, runs);
        }
        break;
    case FUNCTION_EXP_SUM:
        /* As softmax calls it: x - max is never above 0. */
        if (!sweep(&j, -REAL_INFINITY, 0, runs)) sweep(&j, EXP_NOTHING - 1, -EXP_ALL_1, runs);
        break;
    case FUNCTION_LOG:
        if (!sweep(&j, LOG_FROM, REAL_MAX, runs)) {
            sweep(&j, (real)0.5, 2, runs);
            sweep(&j, 1 - (real)0x1p-20, 1 + (real)0x1p-20, runs);
        }
        break;
    case FUNCTION_TANH:
    case FUNCTION_LOGISTIC:
    case FUNCTION_SILU:
    case FUNCTION_SILU_DERIVATIVE:
        if (!sweep(&j, number_at(-1 - KEY_LAST), number_at(KEY_LAST), runs)) {
            sweep(&j, -SILU_LAST - 1, -20, runs);
            sweep(&j, -20, -EXP_ALL_1, runs);
            sweep(&j, EXP_ALL_1, 20, runs);
            sweep(&j, 20, SILU_LAST + 1, runs);
        }
        break;
    case FUNCTION_LOG1P_UNIT:
        if (!sweep(&j, 0, 1, runs)) sweep(&j, EXP_ALL_1, 1, runs);
        sweep(&j, REAL_NAN, REAL_NAN, runs);
        break;
    default:
        if (!sweep(&j, 0, REAL_INFINITY, runs)) sweep(&j, EXP_ALL_1, 4, runs);
        sweep(&j, REAL_NAN, REAL_NAN, runs);
    }
    printf("%-15s f%d  %10" PRIu64 " inputs, worst %.4Lf ULP at %a", name, NORMCORE_DTYPE, j.inputs, j.worst,
           (double)j.worst_at);
    if (which == FUNCTION_EXP_SUM) printf(" + %La", j.worst_lo);
    printf(", results %016" PRIx64 "%s\n", j.digest, j.failures ? ": FAILED" : "");
    fflush(stdout);
    return j.failures;
}

int main(int argc, char **argv) {
    static const char *const names[] = {"exp",  "exp_sum",  "log",  "log1p",          "log1p_unit",
                                        "tanh", "logistic", "silu", "silu_derivative"};
    uint64_t runs = RUNS;
    int first = 0, last = FUNCTION_COUNT, failures = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--all"))
            runs = NORMCORE_DTYPE == 32 ? (uint64_t)1 << 32 : (uint64_t)1 << 22;
        else if (!strcmp(argv[i], "--runs") && i + 1 < argc)
            runs = (uint64_t)strtoul(argv[++i], NULL, 10);
        else {
            for (first = 0; first < FUNCTION_COUNT && strcmp(argv[i], names[first]) != 0; first++);
            last = first + 1;
        }
    }
    if (!runs || first == FUNCTION_COUNT) {
        fprintf(stderr, "usage: %s [--runs N | --all] [FUNCTION]\n", argv[0]);
        return 2;
    }
    for (size_t i = 0; i < TARGETS; i++)
        if ((targets[i].needs & normcore_cpu_detect()) == targets[i].needs) printf("%s ", targets[i].name);
    printf("\n");
    for (int which = first; which < last; which++) failures += judge_function(which, names[which], runs);
    return failures != 0;
}
