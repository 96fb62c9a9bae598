/*
 * What the cases of cases.c are made of: the settings of the run, on which no digest may depend, input data that need
 * no library, and the record of what came out.
 */
#ifndef NORMCORE_TESTS_DIGESTS_H
#define NORMCORE_TESTS_DIGESTS_H

#include <stddef.h>
#include <stdint.h>

#include "normcore.h"

typedef struct settings {
    normcore_context *ctx;
    size_t offset;      /* bytes by which arrays start behind an aligned address, rounded down to an element */
    uint64_t strides;   /* not 0: random row strides from this seed; 0: dense */
    uint64_t splits;    /* not 0: row-wise operations get their rows in random pieces from this seed; 0: whole */
    const char *filter; /* only cases whose name has this in it; NULL: all */
    int quick;          /* not 0: without the shapes that are there to occupy several threads */
} settings;
extern settings run;

/* splitmix64 (Steele, Lea and Flood, OOPSLA'14). */
uint64_t random_next(uint64_t *state);
size_t random_below(uint64_t *state, size_t bound);

/* Zeroed memory at the run's offset until the end of the case. */
void *take(size_t count, size_t size);
/* Distance between rows of `cols` elements. */
size_t take_stride(size_t cols);
/* Rows of the next call of a row-wise operation that has `left` rows to go. */
size_t piece(size_t left);

/*
 * Begins the case op/dtype[/shape][/values] and seeds its data from that name; returns 0 if it is not wanted. What is
 * added is hashed as little-endian bytes, element by element.
 */
int case_begin(const char *op, const char *dtype, const char *shape, const char *values, uint64_t *state);
void case_add_32(const void *words, size_t count);
void case_add_64(const void *words, size_t count);
void case_end(void);

/* Leaves the program if a call failed. */
void must(normcore_status status, const char *call);
#define MUST(call) must(call, #call)

void cases_f32(void);
void cases_f64(void);

#endif
