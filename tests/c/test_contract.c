/* What holds for every operation: refusals before anything is written, the caller's environment, memory, statuses. */
#include "operations.h"
#include "properties.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EACH(list)            (sizeof(list) / sizeof *(list))
#define FOR_EACH_OPERATION(o) for (size_t index_ = 0; (o = operation_get(index_)) != NULL; index_++)

/* A shape with everything in it, not too large. */
static void prepare(call *c, const operation *operation, int strided) {
    const int vector = (operation->flags & ONE_ROW) && !(operation->flags & NEEDS_COLS);
    const uint64_t number = next_number();
    call_prepare(c, operation, vector ? 203 : 37, 19, 11, PLAIN, number | 1, strided, GUARD_AFTER);
}

/* ---------------------------------------------------------------- refusals */

static int is_weight_vector(call *c, size_t i) {
    const double **pointer;
    for (size_t index = 0; (pointer = call_pointer(c, index)) != NULL; index++)
        if (c->a[i].data && *pointer == c->a[i].data) return 1;
    return 0;
}

/* Every pointer that the operation uses is needed. Those that may be NULL have operations of their own. */
static void test_null_pointers(void) {
    const operation *o;
    FOR_EACH_OPERATION(o) {
        call c;
        prepare(&c, o, 1);
        for (size_t i = 0; i < c.count; i++) {
            call without = c;
            if (!c.a[i].data || is_weight_vector(&c, i)) continue;
            /* Gradients, saved statistics and weight sums are optional outputs. */
            without.a[i].data = NULL;
            const int optional =
                c.a[i].role == OUTPUT &&
                (strstr(o->name, "backward") || (strstr(o->name, "cross_entropy") && i > 3) ||
                 (strstr(o->name, "loss: ") && i > 2) || (strstr(o->name, "layer_norm_forward") && i > 3) ||
                 (strstr(o->name, "loss_and_grads") && c.a[i].type == TYPE_DOUBLE));
            if (strstr(o->name, "affine_forward") && i == 2) continue;     /* no bias */
            if (strstr(o->name, "mlp_") && c.a[i].role == INOUT) continue; /* the running statistics stay as they are */
            if (optional && !strstr(o->name, "activation_backward") && !strstr(o->name, "softmax_backward")) continue;
            harness_note("%s without argument %lu", o->name, (unsigned long)i);
            CHECK_STATUS(NORMCORE_ERROR_NULL, o->run(&without, NULL));
            CHECK(call_is_untouched(&c));
        }
        guard_reset();
    }
}

static void test_strides(void) {
    const operation *o;
    size_t matrices = 0;
    FOR_EACH_OPERATION(o) {
        call c;
        prepare(&c, o, 1);
        for (size_t i = 0; i < c.count; i++) {
            call narrow = c;
            if (!c.a[i].data || !c.a[i].is_matrix) continue;
            matrices++;
            harness_note("%s, argument %lu", o->name, (unsigned long)i);
            narrow.a[i].stride = c.a[i].cols - 1;
            CHECK_STATUS(NORMCORE_ERROR_STRIDE, o->run(&narrow, NULL));
            narrow.a[i].stride = 0;
            CHECK_STATUS(NORMCORE_ERROR_STRIDE, o->run(&narrow, NULL));
            CHECK(call_is_untouched(&c));
        }
        guard_reset();
    }
    CHECK(matrices > 50);
}

/* Sizes whose product overflows are refused before the pointers, which cannot be touched, are used. */
static void test_sizes_that_overflow(void) {
    static const struct {
        size_t n, k, m, stride;
    } sizes[] = {
        {SIZE_MAX, 19, 11, 32},
        {SIZE_MAX / 8, 19, 11, 32},
        {SIZE_MAX / 64, 19, 11, SIZE_MAX / 2},
        {4, SIZE_MAX / 2, 11, SIZE_MAX / 2},
        {4, 19, SIZE_MAX / 2, SIZE_MAX / 2},
        {SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX},
        {SIZE_MAX / 8 + 2, SIZE_MAX / 8 + 2, SIZE_MAX / 8 + 2, SIZE_MAX / 8 + 2},
        {3, 19, 11, SIZE_MAX / 2},
        {9, 19, 11, SIZE_MAX / 8 + 1},
    };
    const operation *o;
    FOR_EACH_OPERATION(o) {
        call c;
        prepare(&c, o, 0);
        for (size_t i = 0; i < EACH(sizes); i++) {
            call huge = c;
            size_t overflows = 0;
            if (strstr(o->name, "initialize")) continue; /* its sizes are the object's, which test_mlp tries */
            huge.n = sizes[i].n;
            huge.k = sizes[i].k;
            huge.m = sizes[i].m;
            for (size_t j = 0; j < c.count; j++) {
                array *a = &huge.a[j];
                if (!a->data) continue;
                a->data = guard_fake(j);
                a->stride = a->is_matrix ? sizes[i].stride : a->stride;
                a->rows = a->by_row ? huge.n : a->rows;
                overflows += a->is_matrix && a->by_row && sizes[i].n > 2;
            }
            for (size_t j = 0; call_pointer(&huge, j); j++) *call_pointer(&huge, j) = NULL;
            /* Vectors know only n; an MLP's widths belong to its object. */
            const int one_row = (o->flags & ONE_ROW) != 0, mlp = strstr(o->name, "mlp") != NULL;
            if (one_row && sizes[i].n < SIZE_MAX / 2) continue;
            if (!one_row && overflows == 0) continue;
            if (mlp && (sizes[i].k > 1000 || sizes[i].m > 1000)) continue;
            harness_note("%s, n=%zu k=%zu m=%zu stride=%zu", o->name, sizes[i].n, sizes[i].k, sizes[i].m,
                         sizes[i].stride);
            CHECK_STATUS(NORMCORE_ERROR_SIZE, o->run(&huge, NULL));
        }
        guard_reset();
    }
}

static int may_alias(const operation *o, size_t output, size_t input) {
    for (int i = 0; i < 2; i++)
        if (o->in_place[i].output == (int)output && o->in_place[i].output && o->in_place[i].input == (int)input)
            return 1;
    return 0;
}

/* A matrix output over another matrix: the same place (unless allowed), one element on, one row on, the last one. */
static void test_overlaps(void) {
    const operation *o;
    size_t tried = 0;
    FOR_EACH_OPERATION(o) {
        call c;
        prepare(&c, o, 1);
        for (size_t i = 0; i < c.count; i++)
            for (size_t j = 0; j < c.count; j++) {
                const array *output = &c.a[i], *other = &c.a[j];
                if (i == j || !output->data || !other->data || output->role == INPUT || !output->is_matrix ||
                    !other->is_matrix)
                    continue;
                const size_t shifts[] = {0, 1, other->stride, array_span(other) / sizeof(real) - 1};
                for (size_t s = 0; s < EACH(shifts); s++) {
                    call joined = c;
                    unsigned char *memory = guard_alloc(array_span(other) + array_span(output));
                    unsigned char *before = scratch_alloc(array_span(other) + array_span(output));
                    memcpy(memory, other->data, array_span(other));
                    memcpy(before, memory, array_span(other) + array_span(output));
                    joined.a[j].data = memory;
                    joined.a[i].data = memory + shifts[s] * sizeof(real);
                    if (s == 0 && may_alias(o, i, j))
                        joined.a[i].stride = other->stride + 1; /* the same place, but not the same stride */
                    harness_note("%s: argument %lu over %lu, shift %lu", o->name, (unsigned long)i, (unsigned long)j,
                                 (unsigned long)shifts[s]);
                    CHECK_STATUS(NORMCORE_ERROR_ALIAS, o->run(&joined, NULL));
                    CHECK(memcmp(memory, before, array_span(other) + array_span(output)) == 0);
                    tried++;
                }
            }
        guard_reset();
    }
    CHECK(tried > 100);
}

/* With no rows, pointers to rows are not needed; results that are not rows are written. */
static void test_empty_batches(void) {
    const operation *o;
    FOR_EACH_OPERATION(o) {
        call c;
        if (o->flags & NEEDS_ROWS || strstr(o->name, "initialize")) continue;
        harness_note("%s", o->name);
        call_prepare(&c, o, 0, 19, 11, PLAIN, next_number(), 1, GUARD_AFTER);
        for (size_t i = 0; i < c.count; i++)
            if (c.a[i].by_row || o->flags & ONE_ROW)
                c.a[i].data = c.a[i].type == TYPE_DOUBLE && !c.a[i].by_row ? c.a[i].data : NULL;
        for (size_t isa = 0; isa < isa_count(); isa++) {
            isa_use(isa);
            CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
            call_check(&c);
        }
        guard_reset();
    }
}

/* An MLP that gets no rows to learn from is an error that leaves everything. */
static void test_batches_that_must_have_rows(void) {
    const operation *o;
    FOR_EACH_OPERATION(o) {
        call c;
        if (!(o->flags & NEEDS_ROWS)) continue;
        harness_note("%s", o->name);
        call_prepare(&c, o, 0, 19, 11, PLAIN, next_number(), 1, GUARD_AFTER);
        CHECK_STATUS(NORMCORE_ERROR_SIZE, call_run(&c, NULL));
        CHECK(call_is_untouched(&c));
        guard_reset();
    }
}

/* ---------------------------------------------------------------- the caller's environment */

static void test_floating_point_environment(void) {
    const operation *o;
    normcore_context_options options;
    normcore_context *threads = NULL;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.num_threads = 3;
    CHECK_STATUS(NORMCORE_OK, normcore_context_create(&options, &threads));
    FOR_EACH_OPERATION(o) {
        call c;
        /* Subnormals and huge values are where flushing and rounding show. */
        call_prepare(&c, o, o->flags & ONE_ROW ? 511 : 23, 19, 11, SPECIAL, next_number(), 1, GUARD_AFTER);
        for (size_t isa = 0; isa < isa_count(); isa++) {
            isa_use(isa);
            CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
            const snapshot base = call_snapshot(&c);
            for (size_t i = 0; i < environment_count; i++)
                for (int threaded = 0; threaded < 2; threaded++) {
                    harness_note("%s on %s, %s, %s", o->name, isa_get(isa), environments[i].name,
                                 threaded ? "threads" : "no context");
                    call_restore(&c);
                    environment_enter(&environments[i]);
                    const unsigned before = environment_control();
                    const normcore_status status = o->run(&c, threaded ? threads : NULL);
                    const unsigned after = environment_control();
                    environment_leave();
                    CHECK_STATUS(NORMCORE_OK, status);
                    CHECK(before == after);
                    CHECK_SAME(&c, base, "in the default environment");
                }
        }
        guard_reset();
    }
    normcore_context_destroy(threads);
}

static void test_errno_is_left_alone(void) {
    const operation *o;
    FOR_EACH_OPERATION(o) {
        call c;
        prepare(&c, o, 1);
        harness_note("%s", o->name);
        errno = 4711;
        const normcore_status status = call_run(&c, NULL);
        const int after = errno;
        CHECK_STATUS(NORMCORE_OK, status);
        CHECK(after == 4711);
        guard_reset();
    }
    errno = 4711;
    CHECK_STATUS(NORMCORE_OK, normcore_selftest(NULL));
    CHECK(errno == 4711);
    CHECK_STATUS(NORMCORE_ERROR_ISA, normcore_set_isa("no such"));
    CHECK(errno == 4711);
}

/* ---------------------------------------------------------------- memory */

typedef struct allocator {
    pthread_mutex_t lock;
    size_t until_failure; /* calls that succeed before one fails; SIZE_MAX: none fails */
    size_t calls, live, failed, foreign;
} allocator;

static void *counting_allocate(void *user, size_t size) {
    allocator *a = user;
    void *memory = NULL;
    pthread_mutex_lock(&a->lock);
    if (a->calls++ == a->until_failure)
        a->failed++;
    else if ((memory = malloc(size + 16)) != NULL) {
        memset(memory, 0xff, size + 16); /* scratch memory must not be taken to be zero */
        memcpy(memory, "normcore", 8);
        memory = (unsigned char *)memory + 16;
        a->live++;
    }
    pthread_mutex_unlock(&a->lock);
    return memory;
}

static void counting_release(void *user, void *memory) {
    allocator *a = user;
    if (!memory) return;
    pthread_mutex_lock(&a->lock);
    if (memcmp((unsigned char *)memory - 16, "normcore", 8) != 0) a->foreign++;
    a->live--;
    pthread_mutex_unlock(&a->lock);
    free((unsigned char *)memory - 16);
}

#define MOST_ALLOCATIONS 200

/* Fails each allocation in turn, until none is left to fail. */
static void test_failing_allocations(void) {
    const operation *o;
    size_t failures = 0;
    FOR_EACH_OPERATION(o) {
        call c;
        /* Several chunks and blocks, so that there are partial results to be kept. */
        call_prepare(&c, o, o->flags & ONE_ROW ? 3000 : 600, 21, 13, PLAIN, next_number(), 1, GUARD_AFTER);
        CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
        const snapshot base = call_snapshot(&c);
        for (size_t threads = 1; threads <= 3; threads += 2) {
            size_t n = 0;
            for (; n < MOST_ALLOCATIONS; n++) {
                allocator a = {PTHREAD_MUTEX_INITIALIZER, n, 0, 0, 0, 0};
                normcore_context_options options;
                normcore_context *ctx = NULL;
                harness_note("%s, %lu threads, allocation %lu fails", o->name, (unsigned long)threads,
                             (unsigned long)n);
                memset(&options, 0, sizeof options);
                options.struct_size = sizeof options;
                options.num_threads = threads;
                options.allocate = counting_allocate;
                options.release = counting_release;
                options.allocator_user = &a;
                normcore_status status = normcore_context_create(&options, &ctx);
                if (status == NORMCORE_OK) {
                    status = call_run(&c, ctx);
                    if (status == NORMCORE_OK) CHECK_SAME(&c, base, "with memory to spare");
                } else
                    CHECK(ctx == NULL);
                normcore_context_destroy(ctx);
                CHECK(a.live == 0 && a.foreign == 0);
                CHECK_STATUS(a.failed ? NORMCORE_ERROR_MEMORY : NORMCORE_OK, status);
                failures += a.failed;
                if (!a.failed) break;
            }
            CHECK(n < MOST_ALLOCATIONS);
        }
        guard_reset();
    }
    CHECK(failures > 10);
}

/* A context that has had no memory works once there is some again. */
static void test_recovery(void) {
    allocator a = {PTHREAD_MUTEX_INITIALIZER, SIZE_MAX, 0, 0, 0, 0};
    normcore_context_options options;
    normcore_context *ctx = NULL;
    const operation *o;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.num_threads = 2;
    options.allocate = counting_allocate;
    options.release = counting_release;
    options.allocator_user = &a;
    CHECK_STATUS(NORMCORE_OK, normcore_context_create(&options, &ctx));
    FOR_EACH_OPERATION(o) {
        call c;
        call_prepare(&c, o, o->flags & ONE_ROW ? 3000 : 600, 21, 13, PLAIN, next_number(), 1, GUARD_AFTER);
        harness_note("%s", o->name);
        CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
        const snapshot base = call_snapshot(&c);
        a.until_failure = a.calls;
        const normcore_status status = call_run(&c, ctx);
        CHECK(status == NORMCORE_OK || status == NORMCORE_ERROR_MEMORY);
        a.until_failure = SIZE_MAX;
        CHECK_STATUS(NORMCORE_OK, call_run(&c, ctx));
        CHECK_SAME(&c, base, "without a context");
        guard_reset();
    }
    normcore_context_destroy(ctx);
    CHECK(a.live == 0 && a.foreign == 0);
}

/* ---------------------------------------------------------------- status codes, versions, contexts */

static void test_strerror(void) {
    for (int i = NORMCORE_OK; i <= NORMCORE_ERROR_SELFTEST; i++) {
        const char *text = normcore_strerror((normcore_status)i);
        CHECK(text && *text && !strchr(text, '\n'));
        for (int j = 0; text && j < i; j++) CHECK(strcmp(text, normcore_strerror((normcore_status)j)) != 0);
    }
    CHECK(normcore_strerror((normcore_status)99) != NULL);
    CHECK(normcore_strerror((normcore_status)(NORMCORE_ERROR_SELFTEST + 1)) != NULL);
}

static void test_versions(void) {
    char version[64];
    snprintf(version, sizeof version, "%d.%d.%d", NORMCORE_VERSION_MAJOR, NORMCORE_VERSION_MINOR,
             NORMCORE_VERSION_PATCH);
    CHECK(strcmp(version, NORMCORE_VERSION_STRING) == 0);
    CHECK(strcmp(version, normcore_version()) == 0);
    CHECK(strcmp(NORMCORE_CONTRACT, normcore_contract()) == 0);
}

static void test_selftest(void) {
    const char *what = NULL;
    CHECK_STATUS(NORMCORE_OK, normcore_selftest(&what));
    CHECK_STATUS(NORMCORE_OK, normcore_selftest(NULL));
    for (size_t i = 0; i < environment_count; i++) {
        environment_enter(&environments[i]);
        const normcore_status status = normcore_selftest(NULL);
        environment_leave();
        CHECK_STATUS(NORMCORE_OK, status);
    }
}

static void test_contexts(void) {
    normcore_context_options options;
    normcore_context *ctx = NULL;
    allocator a = {PTHREAD_MUTEX_INITIALIZER, SIZE_MAX, 0, 0, 0, 0};
    CHECK_STATUS(NORMCORE_OK, normcore_context_create(NULL, &ctx));
    CHECK(normcore_context_get_num_threads(ctx) >= 1);
    CHECK_STATUS(NORMCORE_OK, normcore_context_set_num_threads(ctx, 5));
    CHECK(normcore_context_get_num_threads(ctx) == 5);
    CHECK_STATUS(NORMCORE_OK, normcore_context_set_num_threads(ctx, NORMCORE_MAX_THREADS));
    CHECK(normcore_context_get_num_threads(ctx) == NORMCORE_MAX_THREADS);
    CHECK_STATUS(NORMCORE_ERROR_VALUE, normcore_context_set_num_threads(ctx, NORMCORE_MAX_THREADS + 1));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, normcore_context_set_num_threads(ctx, SIZE_MAX));
    CHECK(normcore_context_get_num_threads(ctx) == NORMCORE_MAX_THREADS);
    CHECK_STATUS(NORMCORE_OK, normcore_context_set_num_threads(ctx, 0));
    CHECK(normcore_context_get_num_threads(ctx) >= 1 && normcore_context_get_num_threads(ctx) <= NORMCORE_MAX_THREADS);
    CHECK_STATUS(NORMCORE_ERROR_NULL, normcore_context_set_num_threads(NULL, 1));
    normcore_context_destroy(ctx);
    normcore_context_destroy(NULL);
    CHECK_STATUS(NORMCORE_ERROR_NULL, normcore_context_create(NULL, NULL));
    CHECK(normcore_context_get_num_threads(NULL) == 1);

    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.num_threads = NORMCORE_MAX_THREADS + 1;
    ctx = (normcore_context *)&options;
    CHECK_STATUS(NORMCORE_ERROR_VALUE, normcore_context_create(&options, &ctx));
    CHECK(ctx == NULL);
    options.num_threads = 1;
    options.isa = "no such instruction set";
    ctx = (normcore_context *)&options;
    CHECK_STATUS(NORMCORE_ERROR_ISA, normcore_context_create(&options, &ctx));
    CHECK(ctx == NULL);
    options.isa = NULL;
    options.allocate = counting_allocate; /* without release */
    options.allocator_user = &a;
    ctx = (normcore_context *)&options;
    CHECK(normcore_context_create(&options, &ctx) != NORMCORE_OK);
    CHECK(ctx == NULL && a.live == 0);
}

/* ---------------------------------------------------------------- instruction sets */

static void test_instruction_sets(void) {
    size_t count = 0;
    CHECK_STATUS(NORMCORE_OK, normcore_set_isa(NULL));
    for (const char *name; (name = normcore_isa_name(count)) != NULL; count++) {
        for (size_t j = 0; j < count; j++) CHECK(strcmp(name, normcore_isa_name(j)) != 0);
        if (!CHECK(count < 16)) break;
    }
    CHECK(count >= 1 && strcmp(normcore_isa_name(count - 1), "scalar") == 0);
    CHECK(normcore_isa_name(count + 1) == NULL && normcore_isa_name(SIZE_MAX) == NULL);
    for (size_t i = 0; i < count; i++) {
        CHECK_STATUS(NORMCORE_OK, normcore_set_isa(normcore_isa_name(i)));
        CHECK(strcmp(normcore_get_isa(), normcore_isa_name(i)) == 0);
        CHECK_STATUS(NORMCORE_ERROR_ISA, normcore_set_isa("avx3"));
        CHECK_STATUS(NORMCORE_ERROR_ISA, normcore_set_isa(""));
        CHECK_STATUS(NORMCORE_ERROR_ISA, normcore_set_isa("SCALAR"));
        CHECK(strcmp(normcore_get_isa(), normcore_isa_name(i)) == 0);
    }
}

static int has_word(const char *words, const char *word) {
    const size_t length = strlen(word);
    for (const char *p = words; (p = strstr(p, word)) != NULL; p += length)
        if ((p == words || p[-1] == ' ' || p[-1] == '\t' || p[-1] == ':') &&
            (p[length] == ' ' || p[length] == 0 || p[length] == '\n'))
            return 1;
    return 0;
}

/* What the operating system says of the first CPU; "" where it does not say. */
static const char *system_flags(void) {
    static char line[16384];
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "flags", 5) == 0) {
            fclose(file);
            return line;
        }
    if (file) fclose(file);
    return "";
}

/* Runs this program again with this in its environment; its exit status is what child() returned. */
static int run_child(const char *mode, const char *variable, const char *value) {
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        if (value)
            setenv(variable, value, 1);
        else
            unsetenv(variable);
        execl("/proc/self/exe", "test_contract", mode, value ? value : "", (char *)NULL);
        _exit(127);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
    return WEXITSTATUS(status);
}

enum { CHILD_OK = 10, CHILD_WRONG_ISA = 11, CHILD_WRONG_STATUS = 12, CHILD_WRONG_THREADS = 13 };

/* Whether a call with this context does (not) find an instruction set. */
static int call_gives(normcore_context *ctx, normcore_status expected) {
    const real x[3] = {1, -2, 3};
    real y[3] = {7, 7, 7};
    const normcore_status status = T(normcore_activation_forward)(ctx, NORMCORE_ACTIVATION_RELU, 0, 1, 3, x, 3, y, 3);
    return status == expected && y[2] == (status ? 7 : 3);
}

/* NORMCORE_ISA is not understood: no call works but where another choice has been made, for a context or for all. */
static int child_without_isa(void) {
    normcore_context *plain = NULL, *own = NULL;
    normcore_context_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.isa = "scalar";
    int good = normcore_context_create(NULL, &plain) == NORMCORE_OK;
    good &= normcore_context_create(&options, &own) == NORMCORE_OK;
    good &= call_gives(NULL, NORMCORE_ERROR_ENVIRONMENT_ISA) && call_gives(plain, NORMCORE_ERROR_ENVIRONMENT_ISA);
    good &= call_gives(own, NORMCORE_OK);
    good &= strstr(normcore_strerror(NORMCORE_ERROR_ENVIRONMENT_ISA), "NORMCORE_ISA") != NULL;
    if (normcore_get_isa() != NULL) return CHILD_WRONG_ISA;
    good &= normcore_set_isa("scalar") == NORMCORE_OK;
    good &= call_gives(NULL, NORMCORE_OK) && call_gives(plain, NORMCORE_OK) && call_gives(own, NORMCORE_OK);
    normcore_context_destroy(plain);
    normcore_context_destroy(own);
    return good ? CHILD_OK : CHILD_WRONG_STATUS;
}

/* Where NORMCORE_NUM_THREADS is not set. */
static size_t default_threads(void) {
    normcore_context *ctx = NULL;
    const char *const set = getenv("NORMCORE_NUM_THREADS");
    char value[32];
    snprintf(value, sizeof value, "%s", set ? set : "");
    unsetenv("NORMCORE_NUM_THREADS");
    if (normcore_context_create(NULL, &ctx)) return 0;
    const size_t number = normcore_context_get_num_threads(ctx);
    normcore_context_destroy(ctx);
    setenv("NORMCORE_NUM_THREADS", value, 1);
    return number;
}

/* NORMCORE_NUM_THREADS is (not) a number, which counts where none is given. */
static int child_threads(size_t expected) {
    normcore_context *ctx = NULL;
    normcore_context_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    for (int i = 0; i < 2; i++) {
        const normcore_status status = normcore_context_create(i ? &options : NULL, &ctx);
        if (status != (expected ? NORMCORE_OK : NORMCORE_ERROR_ENVIRONMENT_THREADS)) return CHILD_WRONG_STATUS;
        if (expected && normcore_context_get_num_threads(ctx) != expected) return CHILD_WRONG_THREADS;
        if (!expected && ctx) return CHILD_WRONG_STATUS;
        normcore_context_destroy(ctx);
    }
    options.num_threads = 3;
    if (normcore_context_create(&options, &ctx) != NORMCORE_OK) return CHILD_WRONG_STATUS;
    if (normcore_context_get_num_threads(ctx) != 3) return CHILD_WRONG_THREADS;
    const normcore_status status = normcore_context_set_num_threads(ctx, 0);
    if (status != (expected ? NORMCORE_OK : NORMCORE_ERROR_ENVIRONMENT_THREADS)) return CHILD_WRONG_STATUS;
    if (normcore_context_get_num_threads(ctx) != (expected ? expected : 3)) return CHILD_WRONG_THREADS;
    normcore_context_destroy(ctx);
    return CHILD_OK;
}

static int child(const char *mode, const char *value) {
    if (strcmp(mode, "--expect-isa") == 0) {
        const char *used = normcore_get_isa();
        if (!used || strcmp(used, *value ? value : normcore_isa_name(0)) != 0) return CHILD_WRONG_ISA;
        return call_gives(NULL, NORMCORE_OK) ? CHILD_OK : CHILD_WRONG_STATUS;
    }
    if (strcmp(mode, "--expect-threads") == 0) return child_threads(*value ? (size_t)atoi(value) : default_threads());
    return strcmp(mode, "--expect-no-threads") == 0 ? child_threads(0) : child_without_isa();
}

/* The best instruction set is the default, and it is the best that the CPU has. */
static void test_default_instruction_set(void) {
    static const char *const avx512[] = {"avx512f", "avx512dq", "avx512bw", "avx512vl"};
    const char *features = normcore_cpu_features(), *flags = system_flags();
    const char *best = has_word(features, "neon") ? "neon" : "scalar";
    CHECK(features != NULL);
    if (has_word(features, "avx2") && has_word(features, "fma")) {
        int all = 1;
        best = "avx2";
        for (size_t i = 0; i < EACH(avx512); i++) all &= has_word(features, avx512[i]);
        best = all ? "avx512" : best;
    }
    CHECK(strcmp(normcore_isa_name(0), best) == 0);
    CHECK(run_child("--expect-isa", "NORMCORE_ISA", NULL) == CHILD_OK);
#if defined(__x86_64__)
    /* The features are what the operating system says, too. */
    if (*flags) {
        static const char *const names[] = {"avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl"};
        for (size_t i = 0; i < EACH(names); i++) {
            harness_note("%s", names[i]);
            CHECK(has_word(flags, names[i]) == has_word(features, names[i]));
        }
    }
#else
    (void)flags;
#endif
}

static void test_environment_variables(void) {
    static const char *const good[] = {"1", "7", "9", "190", "1024", "007", ""};
    static const char *const bad[] = {
        "0",
        "-1",
        "+2",
        "two",
        "1.0",
        "1025",
        " 2",
        "2 ",
        "0x2",
        "99999999999999999999999999999",
        "18446744073709551619",
    };
    for (size_t i = 0; normcore_isa_name(i); i++) {
        harness_note("NORMCORE_ISA=%s", normcore_isa_name(i));
        CHECK(run_child("--expect-isa", "NORMCORE_ISA", normcore_isa_name(i)) == CHILD_OK);
    }
    CHECK(run_child("--expect-isa", "NORMCORE_ISA", "") == CHILD_OK); /* empty is unset */
    CHECK(run_child("--expect-no-isa", "NORMCORE_ISA", "nonsense") == CHILD_OK);
    CHECK(run_child("--expect-no-isa", "NORMCORE_ISA", "AVX2") == CHILD_OK);
    for (size_t i = 0; i < EACH(good); i++) {
        harness_note("NORMCORE_NUM_THREADS=%s", good[i]);
        CHECK(run_child("--expect-threads", "NORMCORE_NUM_THREADS", good[i]) == CHILD_OK);
    }
    for (size_t i = 0; i < EACH(bad); i++) {
        harness_note("NORMCORE_NUM_THREADS='%s'", bad[i]);
        CHECK(run_child("--expect-no-threads", "NORMCORE_NUM_THREADS", bad[i]) == CHILD_OK);
    }
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"null_pointers", test_null_pointers},
        {"strides", test_strides},
        {"sizes_that_overflow", test_sizes_that_overflow},
        {"overlaps", test_overlaps},
        {"empty_batches", test_empty_batches},
        {"batches_that_must_have_rows", test_batches_that_must_have_rows},
        {"floating_point_environment", test_floating_point_environment},
        {"errno_is_left_alone", test_errno_is_left_alone},
        {"failing_allocations", test_failing_allocations},
        {"recovery", test_recovery},
        {"strerror", test_strerror},
        {"versions", test_versions},
        {"selftest", test_selftest},
        {"contexts", test_contexts},
        {"instruction_sets", test_instruction_sets},
        {"default_instruction_set", test_default_instruction_set},
        {"environment_variables", test_environment_variables},
    };
    if (argc == 3 && strncmp(argv[1], "--expect-", 9) == 0) return child(argv[1], argv[2]);
    return harness_main(argc, argv, tests, EACH(tests));
}
