/* SHA-256 after FIPS 180-4. */
#ifndef NORMCORE_TESTS_SHA256_H
#define NORMCORE_TESTS_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    unsigned char block[64];
} sha256;

void sha256_begin(sha256 *s);
void sha256_add(sha256 *s, const void *data, size_t size);
/* 64 hexadecimal digits and a final 0. */
void sha256_end(sha256 *s, char digest[65]);
/* Whether the examples of the standard come out: what it says about anything else rests on that. */
int sha256_is_sound(void);

#endif
