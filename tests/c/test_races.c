/*
 * The caller's memory may change while a call reads it: another thread writes there, or another process that shares it.
 * Then results may be anything, but nothing outside the arrays is touched. The allocator and the parallel_for of a context
 * are called in the midst of a call, between the checks and the work: changing the inputs there needs no luck.
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* REG_EFL */
#endif

#include "operations.h"
#include "properties.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__linux__) && defined(__x86_64__)
#include <ucontext.h>
#endif

#define EACH(list)            (sizeof(list) / sizeof *(list))
#define FOR_EACH_OPERATION(o) for (size_t index_ = 0; (o = operation_get(index_)) != NULL; index_++)

/* Labels that would be an index far outside, just outside, before the arrays, and good ones. */
static const int64_t labels[] = {INT64_MAX, -1, INT64_MIN, INT64_C(1) << 40, 0, 1, -(INT64_C(1) << 33), 11, 19, 521, 2};

typedef struct meddler {
    call *c;
    rng random;
    size_t times;
} meddler;

/* Random bits, or labels from the list above. */
enum { NOISE = 4096 };

static void change_array(meddler *m, const array *a) {
    static uint64_t noise[NOISE];
    unsigned char *const bytes = a->data;
    const size_t element = array_element_size(a), width = NOISE * sizeof *noise / element;
    for (size_t i = 0; i < NOISE; i++)
        noise[i] = a->type == TYPE_INT64 ? (uint64_t)labels[rng_below(&m->random, EACH(labels))] : rng_next(&m->random);
    for (size_t row = 0; row < a->rows; row++)
        for (size_t col = 0; col < a->cols; col += width) {
            const size_t count = a->cols - col < width ? a->cols - col : width;
            memcpy(bytes + (row * a->stride + col) * element, noise, count * element);
        }
}

static void change_inputs(meddler *m) {
    m->times++;
    for (size_t i = 0; i < m->c->count; i++) {
        const array *a = &m->c->a[i];
        if (a->data && (a->role == INPUT || a->role == INOUT)) change_array(m, a);
    }
}

static void *meddling_allocate(void *user, size_t size) {
    change_inputs(user);
    return malloc(size);
}

static void meddling_release(void *user, void *memory) {
    (void)user;
    free(memory);
}

static void meddling_parallel_for(void *user, void (*body)(void *arg, size_t index), void *arg, size_t count) {
    for (size_t i = 0; i < count; i++) {
        change_inputs(user);
        body(arg, i);
    }
}

static void meddle(const operation *o, size_t n, size_t k, size_t m, guard side, size_t *times) {
    call c;
    normcore_context *ctx = NULL;
    normcore_context_options options;
    call_prepare(&c, o, n, k, m, PLAIN, next_number(), 1, side);
    meddler by = {NULL, rng_new(next_number()), 0};
    call empty = c;
    empty.count = 0;
    by.c = &empty; /* while the context is made */
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.num_threads = 3;
    options.allocate = meddling_allocate;
    options.release = meddling_release;
    options.allocator_user = &by;
    options.parallel_for = meddling_parallel_for;
    options.parallel_user = &by;
    CHECK_STATUS(NORMCORE_OK, normcore_context_create(&options, &ctx));
    by.c = &c;
    by.times = 0;
    harness_note("%s, n=%lu", o->name, (unsigned long)n);
    CHECK_STATUS(NORMCORE_OK, o->run(&c, ctx));
    normcore_context_destroy(ctx);
    *times += by.times;
    guard_reset(); /* looks at the bytes around each array */
}

static void test_inputs_that_change(void) {
    const operation *o;
    size_t by_allocator = 0, by_parallel_for = 0;
    FOR_EACH_OPERATION(o) {
        const int vector = (o->flags & ONE_ROW) && !(o->flags & NEEDS_COLS);
        for (int side = 0; side < 2; side++) {
            for (size_t isa = 0; isa < isa_count(); isa++) {
                isa_use(isa);
                meddle(o, vector ? 203 : 37, 19, 11, side ? GUARD_BEFORE : GUARD_AFTER, &by_allocator);
            }
        }
        /* Enough work for threads. */
        meddle(o, vector ? 500000 : 2500, 521, 19, GUARD_AFTER, &by_parallel_for);
    }
    CHECK(by_allocator > 100 && by_parallel_for > 300);
}

/* ---------------------------------------------------------------- memory of which every reading differs */

#if defined(__linux__) && defined(__x86_64__)

/*
 * A page that cannot be touched: each instruction that reads it faults, finds it changed, and traps behind, where it is
 * closed again. So no two readings of the same value agree, which a thread would bring about once in a long time.
 */
static struct {
    unsigned char *page;
    size_t size, readings;
    void (*change)(void *memory, rng *random);
    rng random;
} watched;

enum { TRAP_FLAG = 0x100 };

static void on_fault(int number, siginfo_t *info, void *context) {
    ucontext_t *const c = context;
    if ((uintptr_t)info->si_addr - (uintptr_t)watched.page >= watched.size) {
        signal(number, SIG_DFL); /* a fault of another kind: it comes again */
        return;
    }
    watched.readings++;
    mprotect(watched.page, watched.size, PROT_READ | PROT_WRITE);
    watched.change(watched.page, &watched.random);
    c->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_trap(int number, siginfo_t *info, void *context) {
    ucontext_t *const c = context;
    (void)number;
    (void)info;
    mprotect(watched.page, watched.size, PROT_NONE);
    c->uc_mcontext.gregs[REG_EFL] &= ~(long long)TRAP_FLAG;
}

static void *watch(void (*change)(void *memory, rng *random)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = on_fault;
    sigaction(SIGSEGV, &action, NULL);
    action.sa_sigaction = on_trap;
    sigaction(SIGTRAP, &action, NULL);
    watched.size = (size_t)sysconf(_SC_PAGESIZE);
    watched.page = mmap(NULL, watched.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    watched.change = change;
    watched.readings = 0;
    watched.random = rng_new(next_number());
    return watched.page;
}

static void unwatch(void) {
    CHECK(watched.readings > 0);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGTRAP, SIG_DFL);
    munmap(watched.page, watched.size);
}

enum { TRIES = 500 };

static void change_sizes(void *memory, rng *random) {
    size_t *sizes = memory;
    for (size_t i = 0; i < 4; i++) sizes[i] = rng_below(random, 40);
}

/* Whatever widths a network gets, none is 0 and each layer takes what the one below it gives. */
static void test_sizes_that_change(void) {
    size_t made = 0;
    normcore_mlp_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.num_sizes = 4;
    options.sizes = watch(change_sizes);
    options.keep = 1;
    for (int i = 0; i < TRIES; i++) {
        normcore_mlp *mlp = NULL;
        normcore_mlp_segment w[3];
        size_t count = 0;
        const normcore_status status = normcore_mlp_create(&options, &mlp);
        if (status == NORMCORE_ERROR_SIZE) continue;
        CHECK_STATUS(NORMCORE_OK, status);
        for (size_t l = 0; l < 3; l++) {
            CHECK_STATUS(NORMCORE_OK, normcore_mlp_get_segment(mlp, 2 * l, &w[l]));
            CHECK(w[l].rows && w[l].cols && (!l || w[l].rows == w[l - 1].cols));
            count += (w[l].rows + 1) * w[l].cols;
        }
        CHECK(normcore_mlp_parameter_count(mlp) == count);
        normcore_mlp_destroy(mlp);
        made++;
    }
    CHECK(made > TRIES / 2);
    unwatch();
}

static void change_optimizer(void *memory, rng *random) {
    normcore_optimizer_options *o = memory;
    o->struct_size = sizeof *o;
    o->optimizer = (normcore_optimizer)rng_below(random, 5);
    o->learning_rate = 0.5;
    o->gradient_scale = 1;
    o->eps = 1e-8;
    o->step = 1;
}

/* An optimiser that turns into one with slots does not use slots that nobody has looked for. */
static void test_an_optimiser_that_changes(void) {
    real p[64] = {0}, g[64] = {0};
    size_t done = 0;
    const normcore_optimizer_options *options = watch(change_optimizer);
    for (int i = 0; i < TRIES; i++) {
        const normcore_status status = T(normcore_optimizer_update)(NULL, options, 64, p, g, NULL, NULL);
        CHECK(status == NORMCORE_OK || status == NORMCORE_ERROR_NULL);
        done += status == NORMCORE_OK;
    }
    CHECK(done > 0 && done < TRIES);
    unwatch();
}

static void change_labels(void *memory, rng *random) {
    int64_t *l = memory;
    for (size_t i = 0; i < 5; i++)
        l[i] = labels[rng_below(random, 4) ? 4 + rng_below(random, 2) : rng_below(random, EACH(labels))];
}

static void test_labels_that_change(void) {
    enum { N = 5, C = 3 };
    size_t done = 0;
    double loss, *class_weight = guard_alloc(C * sizeof *class_weight);
    real *z = guard_alloc(N * C * sizeof *z), *dz = guard_alloc(N * C * sizeof *dz);
    normcore_cross_entropy_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.class_weight = class_weight;
    options.has_ignore_index = 1;
    options.ignore_index = -1;
    for (size_t i = 0; i < C; i++) class_weight[i] = 1;
    for (size_t i = 0; i < N * C; i++) z[i] = 1;
    const int64_t *watched_labels = watch(change_labels);
    for (int i = 0; i < TRIES; i++) {
        const normcore_status status =
            T(normcore_cross_entropy)(NULL, N, C, z, C, watched_labels, NULL, 0, &options, &loss, dz, C, NULL, NULL);
        CHECK(status == NORMCORE_OK || status == NORMCORE_ERROR_LABEL);
        done += status == NORMCORE_OK;
    }
    CHECK(done > TRIES / 100);
    unwatch();
    guard_reset();
}

#endif

int main(int argc, char **argv) {
    static const test tests[] = {
        {"inputs_that_change", test_inputs_that_change},
#if defined(__linux__) && defined(__x86_64__)
        {"sizes_that_change", test_sizes_that_change},
        {"an_optimiser_that_changes", test_an_optimiser_that_changes},
        {"labels_that_change", test_labels_that_change},
#endif
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
