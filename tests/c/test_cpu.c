/*
 * Machines that this one is not: core/runtime/cpu.c once more, over CPUID and XCR0 as a table says they are. Its definitions take
 * the place of the library's, so that the choice among instruction sets goes by them too.
 */
#include <cpuid.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "numeric/guards.h"
#include "normcore.h"

typedef struct machine {
    const char *name;
    int has_leaf_1, has_leaf_7;
    unsigned leaf_1_c, leaf_7_b, states;
    const char *features, *best;
} machine;

static const machine *machine_;

static int machine_cpuid(unsigned leaf, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    *a = *b = *d = 0;
    *c = machine_->leaf_1_c;
    return leaf == 1 && machine_->has_leaf_1;
}

static int machine_cpuid_count(unsigned leaf, unsigned sub, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    *a = *c = *d = 0;
    *b = machine_->leaf_7_b;
    return leaf == 7 && sub == 0 && machine_->has_leaf_7;
}

/* The one instruction of cpu.c that a table cannot answer: xgetbv, which gives XCR0 in `low` and `high`. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wkeyword-macro"
#endif
#define __asm__
#define volatile(...)     low = machine_->states, high = 0
#define __get_cpuid       machine_cpuid
#define __get_cpuid_count machine_cpuid_count
#include "runtime/cpu.c"
#undef __asm__
#undef volatile
#undef __get_cpuid
#undef __get_cpuid_count

enum {
    FMA = 1 << 12,
    POPCNT = 1 << 23,
    XSAVE = 1 << 27, /* OSXSAVE: xgetbv may be used */
    AVX = 1 << 28,
    AVX2 = 1 << 5,
    AVX512 = 1 << 16 | 1 << 17 | 1 << 30,
    YMM = 0x06,
    ZMM = 0xe6
};
#define AVX512VL (1u << 31)
#define ALL_1    (FMA | POPCNT | XSAVE | AVX)

static const machine machines[] = {
    {"without CPUID", 0, 0, ALL_1, AVX2, ZMM, "", "scalar"},
    {"of 2006", 1, 0, 0, 0, 0, "", "scalar"},
    {"without AVX", 1, 1, POPCNT | XSAVE | FMA, AVX2, ZMM, "popcnt", "scalar"},
    {"whose system does not know AVX", 1, 1, POPCNT | AVX | FMA, AVX2, ZMM, "popcnt", "scalar"},
    {"whose system does not save YMM", 1, 1, ALL_1, AVX2, 0x02, "popcnt", "scalar"},
    {"whose system does not save XMM", 1, 1, ALL_1, AVX2, 0x04, "popcnt", "scalar"},
    {"with AVX alone", 1, 0, ALL_1, AVX2, YMM, "popcnt fma", "scalar"},
    {"with AVX2 but no FMA", 1, 1, ALL_1 & ~FMA, AVX2, YMM, "popcnt avx2", "scalar"},
    {"with AVX2 but no POPCNT", 1, 1, ALL_1 & ~POPCNT, AVX2, YMM, "avx2 fma", "scalar"},
    {"with FMA but no AVX2", 1, 1, ALL_1, AVX512 | AVX512VL, ZMM, "popcnt fma avx512f avx512dq avx512bw avx512vl",
     "scalar"},
    {"with AVX2", 1, 1, ALL_1, AVX2, YMM, "popcnt avx2 fma", "avx2"},
    {"whose system does not save ZMM", 1, 1, ALL_1, AVX2 | AVX512 | AVX512VL, YMM, "popcnt avx2 fma", "avx2"},
    {"whose system saves half of ZMM", 1, 1, ALL_1, AVX2 | AVX512 | AVX512VL, 0x66, "popcnt avx2 fma", "avx2"},
    {"with AVX512F alone", 1, 1, ALL_1, AVX2 | 1 << 16, ZMM, "popcnt avx2 fma avx512f", "avx2"},
    {"without AVX512VL", 1, 1, ALL_1, AVX2 | AVX512, ZMM, "popcnt avx2 fma avx512f avx512dq avx512bw", "avx2"},
    {"without AVX512F", 1, 1, ALL_1, AVX2 | 1 << 17 | 1 << 30 | AVX512VL, ZMM,
     "popcnt avx2 fma avx512dq avx512bw avx512vl", "avx2"},
    {"with everything", 1, 1, ALL_1, AVX2 | AVX512 | AVX512VL, ZMM,
     "popcnt avx2 fma avx512f avx512dq avx512bw avx512vl", "avx512"},
};

static int same(const char *what, const char *expected, const char *got) {
    if (got && !strcmp(expected, got)) return 1;
    printf("a machine %s: %s is \"%s\", not \"%s\"\n", machine_->name, what, got ? got : "(null)", expected);
    return 0;
}

/* An instruction set below the best may be asked for by name; one above it may not, and as a cap it means the best. */
static int machine_is_right(int with_empty_variable) {
    static const char *const names[] = {"avx512", "avx2", "scalar"};
    int good, above = 1;
    size_t place = 0;
    if (with_empty_variable)
        setenv("NORMCORE_ISA", "", 1);
    else
        unsetenv("NORMCORE_ISA");
    good = same("the list of features", machine_->features, normcore_cpu_features());
    good &= same("the instruction set in use", machine_->best, normcore_get_isa());
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        above &= strcmp(names[i], machine_->best) != 0;
        if (!above) good &= same("one of the instruction sets", names[i], normcore_isa_name(place++));
        const normcore_status status = normcore_set_isa(names[i]);
        if (status != (above ? NORMCORE_ERROR_ISA : NORMCORE_OK)) {
            printf("a machine %s: set_isa(\"%s\") gave %d\n", machine_->name, names[i], (int)status);
            good = 0;
        }
        normcore_context_options options;
        normcore_context *ctx = NULL;
        memset(&options, 0, sizeof options);
        options.struct_size = sizeof options;
        options.num_threads = 1;
        options.isa = names[i];
        if (normcore_context_create(&options, &ctx)) good = 0;
        normcore_context_destroy(ctx);
    }
    if (normcore_isa_name(place)) good = 0;
    if (normcore_set_isa(NULL)) good = 0;
    return good & same("the default instruction set", machine_->best, normcore_get_isa());
}

int main(void) {
    int failed = 0;
    /* The instruction set of a process is found once. */
    for (size_t i = 0; i < 2 * (sizeof machines / sizeof *machines); i++) {
        machine_ = &machines[i / 2];
        fflush(NULL);
        const pid_t child = fork();
        if (child == 0) {
            const int good = machine_is_right(i % 2);
            fflush(NULL);
            _exit(good ? 0 : 1);
        }
        int status = -1;
        if (child < 0 || waitpid(child, &status, 0) != child || status) failed = 1;
    }
    return failed;
}
