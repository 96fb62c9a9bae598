/*
 * Every operation of tests/c/operations.c on arrays of any shape and stride that hold any bits at all. Whatever they are,
 * every instruction set, a context and threads give the bits of the scalar code, inputs and paddings stay as they were,
 * and nothing is touched beyond an array or a block of scratch memory: both lie at pages that cannot be touched.
 */
#include "fuzz.h"
#include "operations.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What the first bytes of an input mean; the others are bits for the arrays. */
typedef struct plan {
    uint8_t operation, rows[2], columns[2], outputs[2], number[4], flags;
} plan;

enum {
    SPECIALS = 1, /* where the bits do not go: NaN, infinities, subnormals among the values */
    STRIDED = 2,
    GUARDED_AFTER = 4,
    THREADED = 8,
    SPACING = 4, /* flags >> SPACING: how many elements are left alone between two that get bits */
    MOST_ELEMENTS = 40000
};

/* ---------------------------------------------------------------- scratch memory */

static void *allocate_at_a_guard(void *user, size_t size) {
    (void)user;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), head = 2 * sizeof(size_t);
    const size_t used = (size + 15) / 16 * 16, usable = (used + head + page - 1) / page * page;
    void *const pages = mmap(NULL, usable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return NULL;
    unsigned char *const memory = (unsigned char *)pages + usable - used;
    if (mprotect((unsigned char *)pages + usable, page, PROT_NONE)) abort();
    memset(memory, 0xff, used);
    const size_t where[2] = {(size_t)(memory - (unsigned char *)pages), usable + page};
    memcpy(memory - head, where, sizeof where);
    return memory;
}

static void release_at_a_guard(void *user, void *memory) {
    (void)user;
    if (!memory) return;
    size_t where[2];
    memcpy(where, (unsigned char *)memory - sizeof where, sizeof where);
    munmap((unsigned char *)memory - where[0], where[1]);
}

static normcore_context *context_of(size_t threads) {
    normcore_context_options options;
    normcore_context *ctx = NULL;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.num_threads = threads;
    options.allocate = allocate_at_a_guard;
    options.release = release_at_a_guard;
    if (normcore_context_create(&options, &ctx)) abort();
    return ctx;
}

/* ---------------------------------------------------------------- inputs */

/* Mostly small; sometimes around the blocks of vectors and the chunks of the contract. */
static size_t size_of(const uint8_t bytes[2]) {
    static const size_t edges[] = {127, 128, 129, 255, 256, 257, 300, 511, 512, 513, 600, 769, 1024, 1025};
    return bytes[0] < 200 ? bytes[0] % 67 : edges[bytes[1] % (sizeof edges / sizeof *edges)];
}

static size_t at_most(size_t size, size_t other) { return size * other > MOST_ELEMENTS ? MOST_ELEMENTS / other : size; }

static void prepare(call *c, const plan *p) {
    size_t operations = 0;
    while (operation_get(operations)) operations++;
    const operation *const o = operation_get(p->operation % operations);
    const int mlp = strstr(o->name, "mlp") != NULL;
    size_t n = size_of(p->rows), k = size_of(p->columns), m = size_of(p->outputs);
    if (mlp) { /* so that a run takes a millisecond or so */
        n %= 300;
        k = 1 + k % 70;
        m = 1 + m % 40;
    }
    if (!n && (o->flags & NEEDS_ROWS || mlp)) n = 1;
    if (!k && o->flags & NEEDS_COLS) k = 1;
    n = at_most(n, k);
    m = at_most(at_most(m, k), n);
    uint32_t number;
    memcpy(&number, p->number, sizeof number);
    harness_note("%s n=%lu k=%lu m=%lu number=%lu flags=%u", o->name, (unsigned long)n, (unsigned long)k,
                 (unsigned long)m, (unsigned long)number, (unsigned)p->flags);
    call_prepare(c, o, n, k, m, p->flags & SPECIALS ? SPECIAL : PLAIN, number, (p->flags & STRIDED) != 0,
                 p->flags & GUARDED_AFTER ? GUARD_AFTER : GUARD_BEFORE);
}

/* Raw bits into what the operation reads, the same bytes over and over. */
static void fill(call *c, const plan *p, const uint8_t *bits, size_t size) {
    if (size < sizeof(real)) return;
    const size_t windows = size - sizeof(real) + 1, spacing = 1u + (p->flags >> SPACING);
    size_t place = 0;
    for (size_t i = 0; i < c->count; i++) {
        const array *a = &c->a[i];
        if (!a->data || a->type != TYPE_REAL || (a->role != INPUT && a->role != INOUT)) continue;
        for (size_t row = 0; row < a->rows; row++)
            for (size_t col = 0; col < a->cols; col++, place += sizeof(real))
                if ((row * 31 + col) % spacing == 0)
                    memcpy((unsigned char *)a->data + (row * a->stride + col) * sizeof(real), bits + place % windows,
                           sizeof(real));
    }
    call_commit(c);
}

/* An empty batch leaves running statistics as they are, whatever NaN is in them. */
static void check(const call *c) {
    if (c->n) call_check(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static normcore_context *one, *three;
    plan p;
    call c;
    if (size < sizeof p) return 0;
    if (!one) one = context_of(1);
    if (!three) three = context_of(3);
    memcpy(&p, data, sizeof p);
    prepare(&c, &p);
    fill(&c, &p, data + sizeof p, size - sizeof p);

    isa_use(0);
    if (call_run(&c, NULL) == NORMCORE_OK) {
        check(&c);
        const snapshot base = call_snapshot(&c);
        for (size_t isa = 1; isa < isa_count(); isa++) {
            isa_use(isa);
            CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
            check(&c);
            CHECK_SAME(&c, base, "on scalar");
        }
        CHECK_STATUS(NORMCORE_OK, call_run(&c, one));
        CHECK_SAME(&c, base, "without a context");
        if (p.flags & THREADED) {
            CHECK_STATUS(NORMCORE_OK, call_run(&c, three));
            CHECK_SAME(&c, base, "on one thread");
        }
    } else {
        CHECK(call_is_untouched(&c));
    }
    guard_reset();
    if (harness_failures()) abort();
    return 0;
}
