/*
 * What may be called beside anything else is: settings of a context and of the process are changed and read by some
 * threads while others compute. Results stay the same bits; the thread sanitiser sees whatever is not synchronised.
 */
#include "operations.h"
#include "properties.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define EACH(list) (sizeof(list) / sizeof *(list))

enum { WORKERS = 2, ROUNDS = 20 };

typedef struct worker {
    normcore_context *ctx;
    call c;
    snapshot base;
    int good;
} worker;

static int running_;

static void *compute(void *argument) {
    worker *w = argument;
    w->good = 1;
    for (int i = 0; i < ROUNDS; i++) {
        w->good &= call_run(&w->c, w->ctx) == NORMCORE_OK;
        const unsigned char *p = w->base.bytes;
        for (size_t j = 0; j < w->c.count; j++) {
            const array *a = &w->c.a[j];
            const size_t size = a->cols * array_element_size(a);
            if (!a->data || (a->role != OUTPUT && a->role != INOUT)) continue;
            for (size_t row = 0; row < a->rows; row++, p += size)
                w->good &= !memcmp(p, (unsigned char *)a->data + row * a->stride * array_element_size(a), size);
        }
    }
    __atomic_fetch_sub(&running_, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* The others give way, or on few CPUs they would be all that runs. */
static int running(void) {
    sched_yield();
    return __atomic_load_n(&running_, __ATOMIC_ACQUIRE);
}

static void *set_threads(void *argument) {
    for (size_t i = 0; running(); i++) (void)normcore_context_set_num_threads(argument, 1 + i % 3);
    return NULL;
}

static void *get_threads(void *argument) {
    size_t good = 1;
    while (running()) {
        const size_t threads = normcore_context_get_num_threads(argument);
        good &= threads >= 1 && threads <= 3;
    }
    return good ? argument : NULL;
}

/* The caps of threads' instruction sets change between calls, never within one. */
static void *set_isa(void *argument) {
    for (size_t i = 0; running(); i++) (void)normcore_set_isa(normcore_isa_name(i % isa_count()));
    return argument;
}

static void *read_process(void *argument) {
    size_t good = 1;
    while (running()) {
        good &= normcore_get_isa() != NULL && strlen(normcore_cpu_features()) < 1000;
        normcore_context *ctx = NULL;
        good &= normcore_context_create(NULL, &ctx) == NORMCORE_OK;
        normcore_context_destroy(ctx);
    }
    return good ? argument : NULL;
}

static void test_setters_beside_calls(void) {
    static void *(*const others[])(void *) = {set_threads, set_threads,  get_threads,
                                              set_isa,     read_process, read_process};
    static worker workers[WORKERS];
    pthread_t computing[WORKERS], beside[EACH(others)];
    normcore_context_options options;
    normcore_context *ctx = NULL;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.num_threads = 2;
    CHECK_STATUS(NORMCORE_OK, normcore_context_create(&options, &ctx));
    (void)isa_count(); /* the harness finds them in one thread */
    const operation *const operations[WORKERS] = {&affine_operations().items[0], &batch_norm_operations().items[0]};
    for (size_t i = 0; i < WORKERS; i++) {
        call_prepare(&workers[i].c, operations[i], 1300, 173, 41, PLAIN, next_number(), 1, GUARD_AFTER);
        CHECK_STATUS(NORMCORE_OK, call_run(&workers[i].c, NULL));
        workers[i].base = call_snapshot(&workers[i].c);
        workers[i].ctx = ctx;
    }
    running_ = WORKERS;
    for (size_t i = 0; i < WORKERS; i++)
        if (pthread_create(&computing[i], NULL, compute, &workers[i])) abort();
    for (size_t i = 0; i < EACH(others); i++)
        if (pthread_create(&beside[i], NULL, others[i], ctx)) abort();
    for (size_t i = 0; i < WORKERS; i++) {
        pthread_join(computing[i], NULL);
        CHECK(workers[i].good);
    }
    for (size_t i = 0; i < EACH(others); i++) {
        void *result = NULL;
        pthread_join(beside[i], &result);
        CHECK(others[i] == set_threads || result == ctx);
    }
    normcore_context_destroy(ctx);
}

int main(int argc, char **argv) {
    static const test tests[] = {{"setters_beside_calls", test_setters_beside_calls}};
    return harness_main(argc, argv, tests, EACH(tests));
}
