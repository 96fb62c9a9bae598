/*
 * SHA-256 of the outputs of every operation of the numeric contract, and of a few training runs: prints them, or
 * compares them with a file of such lines. (Lines that begin with "digits/" are left to those who have that data:
 * python -m normcore.verification.)
 *
 *   normcore-digests [options] [FILE]
 *     --isas          print the instruction sets of this machine, best first, and do nothing else
 *     --selftest      run normcore_selftest() and do nothing else
 *     --isa NAME      use this instruction set
 *     --threads N     use up to N threads (1)
 *     --offset BYTES  start arrays that far behind an aligned address (0)
 *     --strides SEED  random row strides
 *     --splits SEED   row-wise operations get their rows in random pieces
 *     --filter TEXT   only cases whose name has TEXT in it
 *     --quick         leave out the large shapes
 *     --flushed       insist that the process flushes subnormals to zero, as a library built with -ffast-math leaves it
 *
 * The options from --isa to --splits change how things are computed; no digest may depend on them. Every case is also
 * checked to leave the floating-point environment as it was. Exit status: 0 equal (or printed), 1 not equal, 2 could
 * not tell.
 */
#include "digests.h"
#include "sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE__)
#include <xmmintrin.h>
static unsigned long control(void) { return _mm_getcsr() & 0xffc0u; }
#elif defined(__aarch64__)
static unsigned long control(void) {
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return (unsigned long)fpcr;
}
#elif defined(__arm__) && defined(__ARM_FP)
static unsigned long control(void) {
    uint32_t fpscr;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(fpscr));
    return fpscr & 0x07ff9f00u;
}
#else
#include <fenv.h>
static unsigned long control(void) { return (unsigned long)fegetround(); }
#endif

/* The Python package has the same program inside its extension, where a second copy of the core would be a third of it. */
#ifndef DIGESTS_MAIN
#define DIGESTS_MAIN main
#endif
int DIGESTS_MAIN(int argc, char **argv);

settings run;

/* ---------------------------------------------------------------- random numbers and memory */

uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
size_t random_below(uint64_t *state, size_t bound) { return (size_t)((random_next(state) >> 32) % bound); }

enum { MAX_BLOCKS = 64, ALIGNMENT = 64 };
static void *blocks[MAX_BLOCKS];
static size_t block_count;

void *take(size_t count, size_t size) {
    void *block = block_count < MAX_BLOCKS ? calloc(count * size + 2 * ALIGNMENT, 1) : NULL;
    if (!block) {
        fputs("normcore-digests: out of memory\n", stderr);
        exit(2);
    }
    blocks[block_count++] = block;
    const uintptr_t aligned = ((uintptr_t)block + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return (char *)block + (aligned - (uintptr_t)block) + run.offset % ALIGNMENT / size * size;
}

size_t take_stride(size_t cols) { return cols + (run.strides ? random_below(&run.strides, 20) : 0); }
size_t piece(size_t left) { return run.splits ? 1 + random_below(&run.splits, left) : left; }

void must(normcore_status status, const char *call) {
    if (!status) return;
    fprintf(stderr, "digests: %s\n  in %s\n", normcore_strerror(status), call);
    exit(2);
}

/* ---------------------------------------------------------------- the record */

enum { MAX_LINES = 2000, NAME_SIZE = 96, SHOWN = 10 };
static struct line {
    char name[NAME_SIZE], digest[65];
    int seen;
} expected[MAX_LINES];
static size_t expected_count, case_count, differences;
static int comparing;

static char case_name[NAME_SIZE];
static sha256 case_hash;
static unsigned long case_control;

int case_begin(const char *op, const char *dtype, const char *shape, const char *values, uint64_t *state) {
    snprintf(case_name, sizeof case_name, "%s/%s%s%s%s%s", op, dtype, shape ? "/" : "", shape ? shape : "",
             values ? "/" : "", values ? values : "");
    if (run.filter && !strstr(case_name, run.filter)) return 0;
    *state = 0xcbf29ce484222325u; /* FNV-1a */
    for (const char *c = case_name; *c; c++) *state = (*state ^ (unsigned char)*c) * 0x100000001b3u;
    sha256_begin(&case_hash);
    case_control = control();
    return 1;
}

enum { WORDS_AT_ONCE = 256 };

void case_add_32(const void *words, size_t count) {
    unsigned char bytes[4 * WORDS_AT_ONCE];
    for (size_t start = 0; start < count; start += WORDS_AT_ONCE) {
        const size_t some = count - start < WORDS_AT_ONCE ? count - start : WORDS_AT_ONCE;
        for (size_t i = 0; i < some; i++) {
            uint32_t word;
            memcpy(&word, (const char *)words + (start + i) * sizeof word, sizeof word);
            for (int b = 0; b < 4; b++) bytes[4 * i + (size_t)b] = (unsigned char)(word >> (8 * b));
        }
        sha256_add(&case_hash, bytes, 4 * some);
    }
}

void case_add_64(const void *words, size_t count) {
    unsigned char bytes[8 * WORDS_AT_ONCE];
    for (size_t start = 0; start < count; start += WORDS_AT_ONCE) {
        const size_t some = count - start < WORDS_AT_ONCE ? count - start : WORDS_AT_ONCE;
        for (size_t i = 0; i < some; i++) {
            uint64_t word;
            memcpy(&word, (const char *)words + (start + i) * sizeof word, sizeof word);
            for (int b = 0; b < 8; b++) bytes[8 * i + (size_t)b] = (unsigned char)(word >> (8 * b));
        }
        sha256_add(&case_hash, bytes, 8 * some);
    }
}

static void difference(const char *name, const char *what) {
    if (differences++ < SHOWN) printf("%s: %s\n", name, what);
}

void case_end(void) {
    char digest[65];
    sha256_end(&case_hash, digest);
    while (block_count) free(blocks[--block_count]);
    case_count++;
    if (control() != case_control) difference(case_name, "the floating-point environment was not put back");
    if (!comparing) {
        printf("%s %s\n", case_name, digest);
        return;
    }
    for (size_t i = 0; i < expected_count; i++)
        if (!strcmp(expected[i].name, case_name)) {
            expected[i].seen = 1;
            if (strcmp(expected[i].digest, digest) != 0) difference(case_name, "another digest");
            return;
        }
    difference(case_name, "not in the file");
}

static void read_expected(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "normcore-digests: cannot read \"%s\"\n", path);
        exit(2);
    }
    while (expected_count < MAX_LINES &&
           fscanf(file, "%95s %64s", expected[expected_count].name, expected[expected_count].digest) == 2)
        if (strncmp(expected[expected_count].name, "digits/", 7) != 0) expected_count++;
    fclose(file);
    if (!expected_count || expected_count == MAX_LINES) {
        fprintf(stderr, "%s: no digests, or too many\n", path);
        exit(2);
    }
    comparing = 1;
}

/* ---------------------------------------------------------------- main */

static int subnormals_are_flushed(void) {
    volatile double least = 2.2250738585072014e-308, half = 0.5; /* DBL_MIN */
    return least * half == 0.0;
}

static int print_isas(void) {
    for (size_t row = 0; normcore_isa_name(row); row++) puts(normcore_isa_name(row));
    return 0;
}

static int selftest(void) {
    const char *what = NULL;
    const normcore_status status = normcore_selftest(&what);
    puts(what ? what : normcore_strerror(status));
    return status ? 1 : 0;
}

static void usage(void) {
    fputs("usage: normcore-digests [--isas] [--selftest] [--isa NAME] [--threads N] [--offset BYTES]\n"
          "                        [--strides SEED] [--splits SEED] [--filter TEXT] [--quick] [--flushed] [FILE]\n",
          stderr);
    exit(2);
}

/* A whole number from 0 to 2^31 - 1; anything else ends the program. */
static unsigned long number(const char *option, const char *text) {
    char *end;
    const unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || value > 0x7fffffffu) {
        fprintf(stderr, "normcore-digests: %s is \"%s\"; it must be a whole number from 0 to 2147483647\n", option,
                text);
        exit(2);
    }
    return value;
}

/* What could not be printed was not said. */
static int flushed_out(int status) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    fputs("normcore-digests: writing the output failed\n", stderr);
    return 2;
}

int DIGESTS_MAIN(int argc, char **argv) {
    const char *path = NULL, *isa = NULL;
    normcore_context_options options;
    MUST(normcore_context_defaults(&options, sizeof options));
    options.num_threads = 1;
    int flushed = 0, (*instead)(void) = NULL;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (!strcmp(name, "--quick")) {
            run.quick = 1;
        } else if (!strcmp(name, "--flushed")) {
            flushed = 1;
        } else if (!strcmp(name, "--isas")) {
            instead = print_isas;
        } else if (!strcmp(name, "--selftest")) {
            instead = selftest;
        } else if (name[0] != '-') {
            if (path) usage();
            path = name;
        } else {
            if (++i == argc) usage();
            if (!strcmp(name, "--isa"))
                isa = argv[i];
            else if (!strcmp(name, "--filter"))
                run.filter = argv[i];
            else if (!strcmp(name, "--threads"))
                options.num_threads = (size_t)number(name, argv[i]);
            else if (!strcmp(name, "--offset"))
                run.offset = (size_t)number(name, argv[i]);
            else if (!strcmp(name, "--strides"))
                run.strides = number(name, argv[i]);
            else if (!strcmp(name, "--splits"))
                run.splits = number(name, argv[i]);
            else
                usage();
        }
    }
    if (!sha256_is_sound()) {
        fputs("normcore-digests: SHA-256 itself is wrong here\n", stderr);
        return 2;
    }
    if (flushed && !subnormals_are_flushed()) {
        fputs("normcore-digests: subnormals are not flushed to zero: there is nothing to show\n", stderr);
        return 2;
    }
    if (instead) return flushed_out(instead());
    if (path) read_expected(path);
    if (isa) MUST(normcore_set_isa(isa));
    MUST(normcore_context_create(&options, &run.ctx));
    cases_f32();
    cases_f64();
    normcore_context_destroy(run.ctx);

    for (size_t i = 0; i < expected_count && !run.filter && !run.quick; i++)
        if (!expected[i].seen) difference(expected[i].name, "not made by this program");
    if (!case_count) {
        fputs("normcore-digests: no such case\n", stderr);
        return 2;
    }
    if (comparing || differences)
        printf("%s, %s: %lu digests, %lu differences\n", normcore_contract(), normcore_get_isa(),
               (unsigned long)case_count, (unsigned long)differences);
    return flushed_out(differences ? 1 : 0);
}
