/* A fuzzer is one function, called by libFuzzer, or by main.c with a corpus and random bytes. */
#ifndef NORMCORE_TESTS_FUZZ_H
#define NORMCORE_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Aborts if the library did something with this input that it must not do. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
