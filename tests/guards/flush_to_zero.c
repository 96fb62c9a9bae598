/*
 * What a library that was linked with -ffast-math does to the process that loads it: from here on subnormals are taken
 * for zero, and results that would be subnormal become zero. For `digests --flushed`.
 */
#include <stdint.h>

#if defined(__SSE__)
#include <xmmintrin.h>
__attribute__((constructor)) static void flush(void) { _mm_setcsr(_mm_getcsr() | 0x8040u); }
#elif defined(__aarch64__)
__attribute__((constructor)) static void flush(void) {
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | 1u << 24));
}
#elif defined(__arm__) && defined(__ARM_FP)
__attribute__((constructor)) static void flush(void) {
    uint32_t fpscr;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(fpscr));
    __asm__ volatile("vmsr fpscr, %0" : : "r"(fpscr | 1u << 24));
}
#endif
