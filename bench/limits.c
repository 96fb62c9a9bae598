/*
 * The machine's limits: as many fused multiply-adds as the registers let it do at once, and a copy through ReLU. Compiled by
 * limits.py when it measures, with VECTOR bytes and the flags of the instruction set that normcore uses.
 */
#include <stddef.h>

/* More than latency times throughput of any FMA unit; with two operands they fit into 16 registers. */
enum { CHAINS = 12 };

#define LIMITS(real)                                                                                                   \
    typedef real real##_vector __attribute__((vector_size(VECTOR)));                                                   \
    /* Returns operations; `sink` keeps the compiler from leaving them out. */                                         \
    double fma_##real(size_t rounds, real *sink) {                                                                     \
        real##_vector sum[CHAINS], a, b;                                                                               \
        for (size_t lane = 0; lane < VECTOR / sizeof(real); lane++) {                                                  \
            a[lane] = sink[0];                                                                                         \
            b[lane] = sink[1];                                                                                         \
        }                                                                                                              \
        for (int i = 0; i < CHAINS; i++) sum[i] = a + (real)i;                                                         \
        for (size_t k = 0; k < rounds; k++) {                                                                          \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * a + b;                         \
        }                                                                                                              \
        for (int i = 1; i < CHAINS; i++) sum[0] += sum[i];                                                             \
        sink[2] = sum[0][0];                                                                                           \
        return 2.0 * CHAINS * (double)(VECTOR / sizeof(real)) * (double)rounds;                                        \
    }                                                                                                                  \
    void relu_copy_##real(size_t rounds, size_t n, const real *restrict x, real *restrict y) {                         \
        for (size_t k = 0; k < rounds; k++) {                                                                          \
            for (size_t i = 0; i < n; i++) y[i] = x[i] > (real)0 ? x[i] : (real)0;                                     \
            __asm__ volatile("" : : : "memory"); /* each round anew */                                                 \
        }                                                                                                              \
    }

LIMITS(float)
LIMITS(double)
