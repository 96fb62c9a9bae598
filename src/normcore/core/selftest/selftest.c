/*
 * Whether the arithmetic of this build, machine and process is the one the contract is written for: probes of the
 * compiler and the scalar arithmetic, then a digest of every operation on every target the machine can run.
 */
#include "selftest/selftest.h"

#include "numeric/exact_fma.h"
#include "numeric/fp_environment.h"

#include <stddef.h>

/* Expected digests, [f32, f64][operation]. `selftest_digests` in tests/c prints them after a change of the contract. */
static const uint64_t expected[2][SELFTEST_COUNT] = {
#include "selftest/digests.def"
};

#define OPERATION(name) "digest of " #name ", float",
static const char *const names_f32[] = {SELFTEST_OPERATIONS(OPERATION)};
#undef OPERATION
#define OPERATION(name) "digest of " #name ", double",
static const char *const names_f64[] = {SELFTEST_OPERATIONS(OPERATION)};
#undef OPERATION

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Values the compiler cannot know: what it folds at compile time says nothing about this machine. */
static const char *probe_scalars(void) {
    volatile float one_and_bit = 1.0f + 0x1p-12f, square = 1.0f + 0x1p-11f;
    const float product = one_and_bit * one_and_bit;
    if (bits_of(product - square) != 0) return "a * b + c was contracted or kept in excess precision";

    volatile float a = 0.9474001f, b = 4.639901e-7f, c = -0.24325085f;
    if (exact_fma_f32(a, b, c) != -0x1.f22d46p-3f) return "fma of floats rounds twice (first triple)";
    if (emulated_fma_f32(a, b, c) != -0x1.f22d46p-3f) return "emulated fma of floats rounds twice (first triple)";
    a = -1.9369631e13f;
    b = 2.1513551e-7f;
    c = -1.7354427e-24f;
    if (exact_fma_f32(a, b, c) != -4167095.75f) return "fma of floats rounds twice (second triple)";
    if (emulated_fma_f32(a, b, c) != -4167095.75f) return "emulated fma of floats rounds twice (second triple)";
    /* (1 + u)(1 - u) - 1 = -u^2, lost by any rounding of the product. */
    volatile double up = 1.0 + 0x1p-52, down = 1.0 - 0x1p-52, minus_one = -1.0;
    if (exact_fma_f64(up, down, minus_one) != -0x1p-104) return "fma of doubles rounds twice";
    if (emulated_fma_f64(up, down, minus_one) != -0x1p-104) return "emulated fma of doubles rounds twice";

    volatile float smallest_normal = 0x1p-126f, half = 0.5f;
    if (bits_of(smallest_normal * half) != 0x00400000u) return "subnormal results are flushed to zero";
    volatile float subnormal = 0x1p-149f, large = 0x1p126f;
    if (subnormal * large != 0x1p-23f) return "subnormal operands are taken for zero";
    volatile float third = 1.0f, three = 3.0f;
    if (bits_of(third / three) != 0x3eaaaaabu) return "division is not rounded to nearest";
    if (bits_of((float)NAN) != 0x7fc00000u) return "the compiler's NaN is not the canonical one";
    return NULL;
}

normcore_status normcore_selftest(const char **what) {
    const char *failure = NULL;
    normcore_status status = NORMCORE_OK;
    const fp_environment saved = fp_environment_enter();
    failure = probe_scalars();
    fp_environment_leave(saved);
    const char *name;
    for (size_t i = 0; !failure && !status && (name = normcore_isa_name(i)); i++) {
        const isa_target *target = normcore_target_find(name);
        uint64_t digests[SELFTEST_COUNT];
        status = normcore_selftest_digests_f32(target, digests);
        for (int op = 0; !status && !failure && op < SELFTEST_COUNT; op++)
            if (digests[op] != expected[0][op]) failure = names_f32[op];
        if (!status) status = normcore_selftest_digests_f64(target, digests);
        for (int op = 0; !status && !failure && op < SELFTEST_COUNT; op++)
            if (digests[op] != expected[1][op]) failure = names_f64[op];
    }
    if (what) *what = failure;
    return failure ? NORMCORE_ERROR_SELFTEST : status;
}
