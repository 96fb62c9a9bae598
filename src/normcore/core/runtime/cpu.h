/* What the processor and the operating system let us use. */
#ifndef NORMCORE_CPU_H
#define NORMCORE_CPU_H

enum {
    CPU_POPCNT = 1 << 0,
    CPU_AVX2 = 1 << 1,
    CPU_FMA = 1 << 2,
    CPU_AVX512F = 1 << 3,
    CPU_AVX512DQ = 1 << 4,
    CPU_AVX512BW = 1 << 5,
    CPU_AVX512VL = 1 << 6,
    CPU_NEON = 1 << 7
};

/* Bits of the enumeration above; 0 on architectures it has nothing for. */
unsigned normcore_cpu_detect(void);

#endif
