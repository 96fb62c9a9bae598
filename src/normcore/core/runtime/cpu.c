#include "numeric/guards.h"

#include "runtime/cpu.h"

#include "normcore.h"

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* Which register states the operating system saves: XCR0. */
static uint64_t enabled_states(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

unsigned normcore_cpu_detect(void) {
    unsigned a, b, c, d, found = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (c & 1u << 23) found |= CPU_POPCNT;
    const int has_xgetbv = (c & 1u << 27) != 0, has_fma = (c & 1u << 12) != 0, has_avx = (c & 1u << 28) != 0;
    if (!has_xgetbv || !has_avx) return found;
    const uint64_t states = enabled_states(), ymm = 0x6, zmm = 0xe6;
    if ((states & ymm) != ymm) return found;
    if (has_fma) found |= CPU_FMA;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    if (b & 1u << 5) found |= CPU_AVX2;
    if ((states & zmm) != zmm) return found;
    if (b & 1u << 16) found |= CPU_AVX512F;
    if (b & 1u << 17) found |= CPU_AVX512DQ;
    if (b & 1u << 30) found |= CPU_AVX512BW;
    if (b & 1u << 31) found |= CPU_AVX512VL;
    return found;
}
#elif defined(__aarch64__)
unsigned normcore_cpu_detect(void) { return CPU_NEON; } /* part of the architecture */
#else
unsigned normcore_cpu_detect(void) { return 0; }
#endif

#if defined(__x86_64__) || defined(__i386__)
/*
 * Every text there can be, because one that is put together at run time would have to live somewhere. Its place is the
 * number with the last feature in the lowest bit, and each begins with a blank.
 */
#define FEATURES0(text) text,
#define FEATURES1(text) FEATURES0(text) FEATURES0(text " avx512vl")
#define FEATURES2(text) FEATURES1(text) FEATURES1(text " avx512bw")
#define FEATURES3(text) FEATURES2(text) FEATURES2(text " avx512dq")
#define FEATURES4(text) FEATURES3(text) FEATURES3(text " avx512f")
#define FEATURES5(text) FEATURES4(text) FEATURES4(text " fma")
#define FEATURES6(text) FEATURES5(text) FEATURES5(text " avx2")
#define FEATURES7(text) FEATURES6(text) FEATURES6(text " popcnt")

const char *normcore_cpu_features(void) {
    static const char *const texts[] = {FEATURES7("")};
    static const unsigned bits[] = {CPU_POPCNT,   CPU_AVX2,     CPU_FMA,     CPU_AVX512F,
                                    CPU_AVX512DQ, CPU_AVX512BW, CPU_AVX512VL};
    const unsigned found = normcore_cpu_detect();
    size_t index = 0;
    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++) index = 2 * index + ((found & bits[i]) != 0);
    return index ? texts[index] + 1 : "";
}
#else
const char *normcore_cpu_features(void) { return normcore_cpu_detect() & CPU_NEON ? "neon" : ""; }
#endif
