/*
 * fma as several C libraries have shipped it, with the product rounded. Linked into a program these come before the C
 * library's; nothing in normcore may call them.
 */
#include <math.h>
#include <stdlib.h>

float fmaf(float a, float b, float c) {
    volatile float product = a * b;
    return product + c;
}

double fma(double a, double b, double c) {
    volatile double product = a * b;
    return product + c;
}

/* The triple of openlibm's bug, at the mercy of neither the compiler nor the linker. */
__attribute__((constructor)) static void be_wrong(void) {
    float (*volatile call)(float, float, float) = fmaf;
    if (call(0.9474001f, 4.639901e-7f, -0.24325085f) == -0x1.f22d46p-3f) abort();
}
