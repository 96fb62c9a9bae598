#include "guards.h"

#include "cpu.h"

#include "normcore.h"

#include <stdint.h>
#include <string.h>

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

const char *normcore_cpu_features(void) {
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{CPU_POPCNT, "popcnt"},     {CPU_AVX2, "avx2"},         {CPU_FMA, "fma"},
                 {CPU_AVX512F, "avx512f"},   {CPU_AVX512DQ, "avx512dq"}, {CPU_AVX512BW, "avx512bw"},
                 {CPU_AVX512VL, "avx512vl"}, {CPU_NEON, "neon"}};
    /* Written with the same bytes by every thread that gets here first. */
    static char text[96];
    const unsigned found = normcore_cpu_detect();
    size_t length = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (found & names[i].bit) {
            if (length) text[length++] = ' ';
            memcpy(text + length, names[i].name, strlen(names[i].name));
            length += strlen(names[i].name);
        }
    return text;
}
