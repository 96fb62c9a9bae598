/*
 * The self-test notices each of its digests: core/selftest/selftest.c once more, over digests of which one at a
 * time is changed.
 */
#define normcore_selftest             selftest_of_changed
#define normcore_selftest_digests_f32 changed_f32
#define normcore_selftest_digests_f64 changed_f64
#include "selftest/selftest.c"
#undef normcore_selftest
#undef normcore_selftest_digests_f32
#undef normcore_selftest_digests_f64

#include <stdio.h>
#include <string.h>

normcore_status normcore_selftest_digests_f32(const isa_target *target, uint64_t digests[SELFTEST_COUNT]);
normcore_status normcore_selftest_digests_f64(const isa_target *target, uint64_t digests[SELFTEST_COUNT]);

static int changed = -1; /* which of the 2 SELFTEST_COUNT; none */

normcore_status changed_f32(const isa_target *target, uint64_t digests[SELFTEST_COUNT]) {
    const normcore_status status = normcore_selftest_digests_f32(target, digests);
    if (changed >= 0 && changed < SELFTEST_COUNT) digests[changed] ^= 1;
    return status;
}

normcore_status changed_f64(const isa_target *target, uint64_t digests[SELFTEST_COUNT]) {
    const normcore_status status = normcore_selftest_digests_f64(target, digests);
    if (changed >= SELFTEST_COUNT) digests[changed - SELFTEST_COUNT] ^= 1;
    return status;
}

int main(void) {
    const char *what = NULL;
    int failed = selftest_of_changed(&what) != NORMCORE_OK || what;
    for (changed = 0; changed < 2 * SELFTEST_COUNT; changed++) {
        const char *const name = changed < SELFTEST_COUNT ? names_f32[changed] : names_f64[changed - SELFTEST_COUNT];
        if (selftest_of_changed(&what) == NORMCORE_ERROR_SELFTEST && what && !strcmp(what, name)) continue;
        printf("%s: not noticed\n", name);
        failed = 1;
    }
    return failed;
}
