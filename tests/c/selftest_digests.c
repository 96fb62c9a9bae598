/* Prints core/selftest/digests.def from the scalar target; a tool for changes of the contract, not a test. */
#include "selftest/selftest.h"

#include <inttypes.h>
#include <stdio.h>

#define OPERATION(name) #name,
static const char *const names[] = {SELFTEST_OPERATIONS(OPERATION)};
#undef OPERATION

int main(void) {
    const isa_target *target = normcore_target_find("scalar");
    printf("/* Made by tests/c/selftest_digests.c; the contract is " NORMCORE_CONTRACT
           ". */\n/* clang-format off */\n");
    for (int dtype = 0; dtype < 2; dtype++) {
        uint64_t digests[SELFTEST_COUNT];
        if ((dtype ? normcore_selftest_digests_f64 : normcore_selftest_digests_f32)(target, digests)) return 1;
        printf("{\n");
        for (int op = 0; op < SELFTEST_COUNT; op++) printf("    0x%016" PRIx64 "u, /* %s */\n", digests[op], names[op]);
        printf("},\n");
    }
    return 0;
}
