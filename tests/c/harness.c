#include "harness.h"

#include <fenv.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

/* ---------------------------------------------------------------- checks */

#define MAX_REPORTS  20
#define DEFAULT_SEED UINT64_C(20240229)

static size_t checks_, failures_; /* several threads may check */
static char note_[512];
static uint64_t seed_ = DEFAULT_SEED;

static void count(size_t checks) { __atomic_fetch_add(&checks_, checks, __ATOMIC_RELAXED); }

static void report_begin(const char *file, int line) {
    __atomic_fetch_add(&failures_, 1, __ATOMIC_RELAXED);
    if (failures_ <= MAX_REPORTS)
        fprintf(stderr, "%s:%d: [%s seed %llu%s%s] ", file, line, DTYPE_NAME, (unsigned long long)seed_,
                note_[0] ? ": " : "", note_);
    if (failures_ == MAX_REPORTS + 1) fprintf(stderr, "... further failures are counted, not printed\n");
}

int harness_check(int condition, const char *file, int line, const char *text) {
    count(1);
    if (!condition) {
        report_begin(file, line);
        if (failures_ <= MAX_REPORTS) fprintf(stderr, "%s\n", text);
    }
    return condition;
}

int harness_check_status(normcore_status expected, normcore_status got, const char *file, int line, const char *text) {
    count(1);
    if (expected != got) {
        report_begin(file, line);
        if (failures_ <= MAX_REPORTS)
            fprintf(stderr, "%s gave %d (%s), not %d (%s)\n", text, (int)got, normcore_strerror(got), (int)expected,
                    normcore_strerror(expected));
    }
    return expected == got;
}

void harness_fail(const char *file, int line, const char *format, ...) {
    count(1);
    report_begin(file, line);
    if (failures_ <= MAX_REPORTS) {
        va_list arguments;
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        va_end(arguments);
        fputc('\n', stderr);
    }
}

void harness_note(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(note_, sizeof note_, format, arguments);
    va_end(arguments);
}

void harness_count(size_t checks) { count(checks); }
size_t harness_failures(void) { return failures_; }

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int harness_main(int argc, char **argv, const test *tests, size_t count) {
    const char *seed = getenv("TEST_SEED");
    size_t ran = 0;
    if (seed && *seed) seed_ = strtoull(seed, NULL, 0);
    for (size_t i = 0; i < count; i++) {
        int chosen = argc < 2;
        for (int j = 1; j < argc; j++) chosen |= strcmp(argv[j], tests[i].name) == 0;
        if (!chosen) continue;
        const size_t checks = checks_, failures = failures_;
        const double start = seconds();
        note_[0] = 0;
        tests[i].run();
        note_[0] = 0;
        guard_reset();
        isa_reset();
        if (checks_ == checks) harness_fail(__FILE__, __LINE__, "%s checked nothing", tests[i].name);
        printf("%-32s %-4s %10lu checks %6.2f s %s\n", tests[i].name, DTYPE_NAME, (unsigned long)(checks_ - checks),
               seconds() - start, failures_ == failures ? "ok" : "FAILED");
        fflush(stdout);
        ran++;
        if (failures_ && getenv("TEST_STOP")) break;
    }
    if (ran == 0) harness_fail(__FILE__, __LINE__, "no test was run");
    if (failures_) fprintf(stderr, "%lu of %lu checks failed\n", (unsigned long)failures_, (unsigned long)checks_);
    return failures_ ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---------------------------------------------------------------- random data */

uint64_t harness_seed(void) { return seed_; }

rng rng_new(uint64_t seed) {
    rng r = {seed * UINT64_C(0x9e3779b97f4a7c15) + seed_};
    rng_next(&r);
    return r;
}

/* splitmix64: nothing of the library's own generator is used to test the library. */
uint64_t rng_next(rng *r) {
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

size_t rng_below(rng *r, size_t bound) { return (size_t)(rng_next(r) % bound); }
double rng_unit(rng *r) { return (double)(rng_next(r) >> 11) * 0x1p-53; }
real rng_real(rng *r, double low, double high) { return (real)(low + (high - low) * rng_unit(r)); }

static real real_from_bits(uint64_t bits) {
#if TEST_DTYPE == 32
    const uint32_t word = (uint32_t)bits;
#else
    const uint64_t word = bits;
#endif
    real value;
    memcpy(&value, &word, sizeof value);
    return value;
}

static uint64_t real_to_bits(real value) {
#if TEST_DTYPE == 32
    uint32_t word;
#else
    uint64_t word;
#endif
    memcpy(&word, &value, sizeof value);
    return word;
}

#if TEST_DTYPE == 32
#define BITS(f32, f64) UINT64_C(f32)
#else
#define BITS(f32, f64) UINT64_C(f64)
#endif

real rng_special(rng *r, unsigned menu) {
    static const uint64_t nothing[] = {
        BITS(0x00000000, 0x0000000000000000), BITS(0x80000000, 0x8000000000000000), /* +-0 */
        BITS(0x00000001, 0x0000000000000001), BITS(0x80000001, 0x8000000000000001), /* the smallest */
        BITS(0x007fffff, 0x000fffffffffffff), BITS(0x00800000, 0x0010000000000000), /* around the smallest normal */
        BITS(0x80345678, 0x8003456789abcdef), BITS(0x00400000, 0x0008000000000000),
    };
    static const uint64_t huge[] = {
        BITS(0x7f7fffff, 0x7fefffffffffffff), BITS(0xff7fffff, 0xffefffffffffffff), /* +-greatest */
        BITS(0x7e800000, 0x7fd0000000000000), BITS(0xf149f2ca, 0xc6293e5939a08cea),
        BITS(0x5f000001, 0x5fe0000000000001), BITS(0x1f000001, 0x1fe0000000000001), /* squares near the ends */
        BITS(0x9e3ce508, 0x9e3ce50812345678), BITS(0x461c4000, 0x40c3880000000000),
    };
    static const uint64_t infinities[] = {BITS(0x7f800000, 0x7ff0000000000000), BITS(0xff800000, 0xfff0000000000000)};
    static const uint64_t nans[] = {
        BITS(0x7fc00000, 0x7ff8000000000000), BITS(0xffc00000, 0xfff8000000000000),
        BITS(0x7fc12345, 0x7ff8123456789abc), BITS(0xffffffff, 0xffffffffffffffff),
        BITS(0x7f800001, 0x7ff0000000000001), BITS(0xff812345, 0xfff0123456789abc), /* signalling */
    };
    if (rng_below(r, 10) != 0 || menu == 0) return rng_real(r, -2, 2);
    if (menu == 4) menu = 1 + (unsigned)rng_below(r, 4);
    switch (menu) {
    case 1:
        return real_from_bits(nothing[rng_below(r, sizeof nothing / sizeof *nothing)]);
    case 2:
        return real_from_bits(huge[rng_below(r, sizeof huge / sizeof *huge)]);
    case 3:
        return real_from_bits(infinities[rng_below(r, sizeof infinities / sizeof *infinities)]);
    default:
        return real_from_bits(nans[rng_below(r, sizeof nans / sizeof *nans)]);
    }
}

/* ---------------------------------------------------------------- guarded memory */

#define MAX_SLOTS 1024
#define SLACK     256 /* bytes beside an allocation, on its open side, that are watched */

typedef struct slot {
    unsigned char *pages; /* the usable ones; one that cannot be touched lies before and one after */
    size_t size;          /* of all usable pages */
    unsigned char *data;
    size_t data_size;
    int used;
} slot;

static slot slots[MAX_SLOTS];
static size_t slot_count;
static guard side_ = GUARD_AFTER;

static void die(const char *what) {
    perror(what);
    exit(EXIT_FAILURE);
}

void guard_set_side(guard side) { side_ = side; }

void *guard_alloc(size_t size) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t usable = page;
    slot *s = NULL;
    while (usable < size) usable *= 2;
    for (size_t i = 0; i < slot_count && !s; i++)
        if (!slots[i].used && slots[i].size == usable) s = &slots[i];
    if (!s) {
        if (slot_count == MAX_SLOTS) {
            fprintf(stderr, "guard_alloc: out of slots\n");
            exit(EXIT_FAILURE);
        }
        s = &slots[slot_count++];
        unsigned char *map = mmap(NULL, usable + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED) die("mmap");
        s->pages = map + page;
        s->size = usable;
        if (mprotect(s->pages, usable, PROT_READ | PROT_WRITE) != 0) die("mprotect");
    }
    s->used = 1;
    s->data = side_ == GUARD_AFTER ? s->pages + (usable - size) : s->pages;
    s->data_size = size;
    /* The slack lies before the data at the end of the pages, and after the data at their beginning. */
    const size_t slack = usable - size < SLACK ? usable - size : SLACK;
    memset(side_ == GUARD_AFTER ? s->data - slack : s->data, 0xff, size + slack);
    return s->data;
}

static void slot_check(const slot *s) {
    const size_t open = s->size - s->data_size, slack = open < SLACK ? open : SLACK;
    const unsigned char *beside = s->data == s->pages ? s->data + s->data_size : s->data - slack;
    for (size_t i = 0; i < slack; i++)
        if (beside[i] != 0xff) {
            harness_fail(__FILE__, __LINE__, "a byte beside an array of %lu bytes was written",
                         (unsigned long)s->data_size);
            return;
        }
}

#define MAX_SCRATCH 8192

static void *scratch[MAX_SCRATCH];
static size_t scratch_count;

void guard_reset(void) {
    for (size_t i = 0; i < slot_count; i++) {
        if (slots[i].used) slot_check(&slots[i]);
        slots[i].used = 0;
    }
    while (scratch_count) free(scratch[--scratch_count]);
}

void *guard_fake(size_t index) {
    static unsigned char *map;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!map) {
        void *got = mmap(NULL, 64 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (got == MAP_FAILED) die("mmap");
        map = got;
    }
    return map + (index % 64) * page;
}

void *scratch_alloc(size_t size) {
    void *memory = malloc(size ? size : 1);
    if (!memory) die("malloc");
    if (scratch_count == MAX_SCRATCH) {
        fprintf(stderr, "scratch_alloc: too many\n");
        exit(EXIT_FAILURE);
    }
    scratch[scratch_count++] = memory;
    return memory;
}

wide *scratch_wide(size_t count) {
    wide *memory = scratch_alloc(count * sizeof(wide));
    for (size_t i = 0; i < count; i++) memory[i] = 0;
    return memory;
}

/* ---------------------------------------------------------------- instruction sets */

static const char *isas[16];
static size_t isas_count;

size_t isa_count(void) {
    if (isas_count == 0) {
        size_t known = 0;
        const char *name;
        isas[isas_count++] = "scalar";
        while (known < 15 && normcore_isa_name(known)) known++;
        while (known-- > 0)
            if (strcmp(name = normcore_isa_name(known), "scalar") != 0) isas[isas_count++] = name;
    }
    return isas_count;
}

const char *isa_get(size_t index) { return isa_count() > index ? isas[index] : NULL; }
void isa_use(size_t index) { CHECK_STATUS(NORMCORE_OK, normcore_set_isa(isa_get(index))); }

void isa_reset(void) {
    const char *wanted = getenv("NORMCORE_ISA");
    CHECK_STATUS(NORMCORE_OK, normcore_set_isa(wanted && *wanted ? wanted : NULL));
}

/* ---------------------------------------------------------------- floating-point environments */

#define FLUSH_TO_ZERO      0x8000u
#define DENORMALS_ARE_ZERO 0x0040u
#define STATUS_FLAGS       0x003fu

const environment environments[] = {
    {"round to nearest", FE_TONEAREST, 0},
    {"round up", FE_UPWARD, 0},
    {"round down", FE_DOWNWARD, 0},
    {"round to zero", FE_TOWARDZERO, 0},
#if defined(__SSE2__)
    {"flush to zero", FE_TONEAREST, FLUSH_TO_ZERO},
    {"denormals are zero", FE_TONEAREST, DENORMALS_ARE_ZERO},
    {"everything", FE_DOWNWARD, FLUSH_TO_ZERO | DENORMALS_ARE_ZERO},
#endif
};
const size_t environment_count = sizeof environments / sizeof *environments;

/* fesetround() sets the x87 control word too, which x86-64 code for long double goes by. */
void environment_enter(const environment *e) {
    fesetround(e->rounding);
#if defined(__SSE2__)
    _mm_setcsr(_mm_getcsr() | e->control);
#endif
}

void environment_leave(void) {
#if defined(__SSE2__)
    _mm_setcsr(_mm_getcsr() & ~(FLUSH_TO_ZERO | DENORMALS_ARE_ZERO));
#endif
    fesetround(FE_TONEAREST);
}

unsigned environment_control(void) {
#if defined(__SSE2__)
    return (_mm_getcsr() & ~STATUS_FLAGS) | (unsigned)fegetround() << 16;
#else
    return (unsigned)fegetround();
#endif
}

/* ---------------------------------------------------------------- bits */

int real_is_canonical(real value) {
    return value == value || real_to_bits(value) == BITS(0x7fc00000, 0x7ff8000000000000);
}

int double_is_canonical(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return value == value || bits == UINT64_C(0x7ff8000000000000);
}

wide ulp(wide value) {
    int exponent;
    if (fabsl(value) < (wide)REAL_MIN) value = (wide)REAL_MIN;
    frexpl(value, &exponent);
    return ldexpl(1, exponent - REAL_MANTISSA);
}
