#define _GNU_SOURCE /* sched_getaffinity of a thread */
/* Results do not depend on threads, whoever runs them; contexts survive being busy, being capped and a fork. */
#include "operations.h"
#include "properties.h"

#include <pthread.h>
#if defined(__linux__)
#include <dirent.h>
#include <sched.h>
#endif
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EACH(list)            (sizeof(list) / sizeof *(list))
#define FOR_EACH_OPERATION(o) for (size_t index_ = 0; (o = operation_get(index_)) != NULL; index_++)

/* Large enough to be worth threads, with a part of a chunk at the end. */
static void prepare(call *c, const operation *operation) {
    const int mlp = strstr(operation->name, "mlp") != NULL;
    const size_t n = operation->flags & ONE_ROW ? 150001 : mlp ? 1111 : 1300;
    call_prepare(c, operation, n, 173, 41, PLAIN, next_number(), 1, GUARD_AFTER);
}

/* One operation that takes milliseconds, so that a context will certainly use its threads. */
static void prepare_large(call *c) {
    call_prepare(c, &affine_operations().items[0], 1300, 500, 200, PLAIN, next_number(), 1, GUARD_AFTER);
}

static normcore_context *context_of(size_t threads, const char *isa, normcore_parallel_for parallel_for, void *user) {
    normcore_context_options options;
    normcore_context *ctx = NULL;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.num_threads = threads;
    options.isa = isa;
    options.parallel_for = parallel_for;
    options.parallel_user = user;
    CHECK_STATUS(NORMCORE_OK, normcore_context_create(&options, &ctx));
    return ctx;
}

/* ---------------------------------------------------------------- the caller's threads */

/* Backwards, in this thread. */
static void reverse_for(void *user, void (*body)(void *arg, size_t index), void *arg, size_t count) {
    size_t *most = user;
    *most = count > *most ? count : *most;
    while (count-- > 0) body(arg, count);
}

typedef struct job {
    void (*body)(void *arg, size_t index);
    void *arg;
    size_t index;
} job;

static void *job_run(void *argument) {
    const job *j = argument;
    j->body(j->arg, j->index);
    return NULL;
}

/* A new thread for each index. */
static void thread_for(void *user, void (*body)(void *arg, size_t index), void *arg, size_t count) {
    enum { MOST = 8 };
    size_t *most = user;
    *most = count > *most ? count : *most;
    for (size_t first = 0; first < count; first += MOST) {
        pthread_t threads[MOST];
        job jobs[MOST];
        size_t started = 0;
        for (; started < MOST && first + started < count; started++) {
            jobs[started].body = body;
            jobs[started].arg = arg;
            jobs[started].index = first + started;
            if (pthread_create(&threads[started], NULL, job_run, &jobs[started]) != 0) abort();
        }
        while (started-- > 0) pthread_join(threads[started], NULL);
    }
}

/* ---------------------------------------------------------------- tests */

static void test_thread_counts(void) {
    static const size_t counts[] = {1, 2, 3, 5, 16};
    const operation *o;
    normcore_context *contexts[EACH(counts)], *reverse, *spawning;
    size_t most_reverse = 0, most_spawning = 0;
    for (size_t i = 0; i < EACH(counts); i++) {
        contexts[i] = context_of(counts[i], NULL, NULL, NULL);
        CHECK(normcore_context_get_num_threads(contexts[i]) == counts[i]);
    }
    reverse = context_of(7, NULL, reverse_for, &most_reverse);
    spawning = context_of(4, NULL, thread_for, &most_spawning);
    FOR_EACH_OPERATION(o) {
        call c;
        prepare(&c, o);
        harness_note("%s", o->name);
        CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
        call_check(&c);
        const snapshot base = call_snapshot(&c);
        for (size_t i = 0; i < EACH(counts); i++) {
            harness_note("%s with %lu threads", o->name, (unsigned long)counts[i]);
            CHECK_STATUS(NORMCORE_OK, call_run(&c, contexts[i]));
            call_check(&c);
            CHECK_SAME(&c, base, "without a context");
        }
        harness_note("%s backwards", o->name);
        CHECK_STATUS(NORMCORE_OK, call_run(&c, reverse));
        CHECK_SAME(&c, base, "without a context");
        harness_note("%s on new threads", o->name);
        CHECK_STATUS(NORMCORE_OK, call_run(&c, spawning));
        CHECK_SAME(&c, base, "without a context");
        guard_reset();
    }
    CHECK(most_reverse > 1 && most_spawning > 1); /* otherwise nothing of the above ran in parallel */
    for (size_t i = 0; i < EACH(counts); i++) normcore_context_destroy(contexts[i]);
    normcore_context_destroy(reverse);
    normcore_context_destroy(spawning);
}

/* The number of threads can change between calls. */
static void test_changing_the_number(void) {
    static const size_t counts[] = {1, 4, 2, 16, 0, 3};
    normcore_context *ctx = context_of(2, NULL, NULL, NULL);
    call c;
    prepare_large(&c);
    CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
    const snapshot base = call_snapshot(&c);
    for (size_t i = 0; i < EACH(counts); i++) {
        CHECK_STATUS(NORMCORE_OK, normcore_context_set_num_threads(ctx, counts[i]));
        CHECK_STATUS(NORMCORE_OK, call_run(&c, ctx));
        CHECK_SAME(&c, base, "without a context");
    }
    normcore_context_destroy(ctx);
}

/* Threads compute in the contract's environment too, those that start inside a call from another one among them. */
static void test_floating_point_environment(void) {
    for (size_t o = 0; o < 4; o++) {
        call c;
        call_prepare(&c, o < 3 ? &rowwise_operations().items[2 + o] : &layer_norm_operations().items[0], 2000, 333, 333,
                     SPECIAL, next_number(), 1, GUARD_AFTER);
        CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
        const snapshot base = call_snapshot(&c);
        for (size_t i = 0; i < environment_count; i++) {
            normcore_context *ctx = context_of(3, NULL, NULL, NULL);
            harness_note("%s on threads, %s", c.operation->name, environments[i].name);
            call_restore(&c);
            environment_enter(&environments[i]);
            const unsigned before = environment_control();
            const normcore_status status = c.operation->run(&c, ctx);
            const unsigned after = environment_control();
            environment_leave();
            CHECK_STATUS(NORMCORE_OK, status);
            CHECK(before == after);
            CHECK_SAME(&c, base, "in the default environment");
            normcore_context_destroy(ctx);
        }
        guard_reset();
    }
}

/* Runs indices in this thread, which is in another environment than the call that hands them out; wants it back. */
typedef struct elsewhere {
    const environment *environment;
    int good;
} elsewhere;

static void elsewhere_for(void *user, void (*body)(void *arg, size_t index), void *arg, size_t count) {
    elsewhere *e = user;
    for (size_t i = 0; i < count; i++) {
        environment_enter(e->environment);
        const unsigned before = environment_control();
        body(arg, i);
        e->good &= environment_control() == before;
        environment_leave();
    }
}

/* The caller's threads have environments of their own, which the work neither sees nor changes. */
static void test_environments_of_foreign_threads(void) {
    for (size_t i = 0; i < environment_count; i++) {
        elsewhere e = {&environments[i], 1};
        normcore_context *ctx = context_of(3, NULL, elsewhere_for, &e);
        call c;
        call_prepare(&c, &rowwise_operations().items[2], 2000, 333, 333, SPECIAL, next_number(), 1, GUARD_AFTER);
        harness_note("%s on threads of the caller's, %s", c.operation->name, e.environment->name);
        CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
        const snapshot base = call_snapshot(&c);
        CHECK_STATUS(NORMCORE_OK, call_run(&c, ctx));
        CHECK_SAME(&c, base, "in the default environment");
        CHECK(e.good);
        normcore_context_destroy(ctx);
        guard_reset();
    }
}

static void test_caps(void) {
    const operation *o;
    normcore_context *contexts[16];
    size_t count = 0;
    for (; count < 16 && normcore_isa_name(count); count++)
        contexts[count] = context_of(1, normcore_isa_name(count), NULL, NULL);
    FOR_EACH_OPERATION(o) {
        call c;
        call_prepare(&c, o, 33, 19, 11, SPECIAL, next_number(), 1, GUARD_AFTER);
        CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
        const snapshot base = call_snapshot(&c);
        for (size_t i = 0; i < count; i++) {
            harness_note("%s capped to %s", o->name, normcore_isa_name(i));
            CHECK_STATUS(NORMCORE_OK, call_run(&c, contexts[i]));
            CHECK_SAME(&c, base, "without a cap");
        }
        guard_reset();
    }
    while (count-- > 0) normcore_context_destroy(contexts[count]);
}

typedef struct user {
    normcore_context *ctx;
    call c;
    snapshot base;
    int good;
} user;

static int outputs_equal(const call *c, snapshot base) {
    const unsigned char *p = base.bytes;
    for (size_t i = 0; i < c->count; i++) {
        const array *a = &c->a[i];
        const size_t size = a->cols * array_element_size(a);
        if (!a->data || (a->role != OUTPUT && a->role != INOUT)) continue;
        for (size_t row = 0; row < a->rows; row++, p += size)
            if (memcmp(p, (unsigned char *)a->data + row * a->stride * array_element_size(a), size) != 0) return 0;
    }
    return 1;
}

/* The harness counts in one thread only, so this says in `good` what it found. */
static void *user_run(void *argument) {
    user *u = argument;
    u->good = 1;
    for (int i = 0; i < 10; i++) u->good &= call_run(&u->c, u->ctx) == NORMCORE_OK && outputs_equal(&u->c, u->base);
    return NULL;
}

/* Several threads share one context: it serves one of them with its threads and the others without. */
static void test_a_busy_context(void) {
    enum { USERS = 4 };
    static user users[USERS];
    normcore_context *ctx = context_of(3, NULL, NULL, NULL);
    for (size_t repeat = 0; repeat < 4; repeat++) {
        pthread_t threads[USERS];
        for (size_t i = 0; i < USERS; i++) {
            size_t index = 0;
            while (operation_get(index)) index++;
            const operation *o = operation_get((7 * (USERS * repeat + i)) % index);
            call_prepare(&users[i].c, o, o->flags & ONE_ROW ? 60000 : 700, 90, 41, PLAIN, next_number(), 1,
                         GUARD_AFTER);
            users[i].ctx = ctx;
            CHECK_STATUS(NORMCORE_OK, call_run(&users[i].c, NULL));
            users[i].base = call_snapshot(&users[i].c);
        }
        for (size_t i = 0; i < USERS; i++)
            if (pthread_create(&threads[i], NULL, user_run, &users[i]) != 0) abort();
        for (size_t i = 0; i < USERS; i++) pthread_join(threads[i], NULL);
        for (size_t i = 0; i < USERS; i++) {
            harness_note("%s beside others", users[i].c.operation->name);
            CHECK(users[i].good);
        }
        guard_reset();
    }
    normcore_context_destroy(ctx);
}

/* A call from within a call on the same context. */
typedef struct nest {
    normcore_context *ctx;
    size_t depth;
    normcore_status status;
    int good;
} nest;

static void nesting_for(void *argument, void (*body)(void *arg, size_t index), void *arg, size_t count) {
    nest *n = argument;
    if (n->depth++ == 0) {
        static real x[1000 * 64], y[1000 * 64];
        for (size_t i = 0; i < 1000 * 64; i++) x[i] = i % 3 ? 1 : -1;
        n->status = T(normcore_relu_forward)(n->ctx, 1000, 64, x, 64, y, 64);
        n->good = 1;
        for (size_t i = 0; i < 1000 * 64; i++) n->good &= y[i] == (i % 3 ? 1 : 0);
    }
    for (size_t i = 0; i < count; i++) body(arg, i);
}

static void test_nested_calls(void) {
    nest n = {NULL, 0, NORMCORE_ERROR_THREAD, 0};
    call c;
    n.ctx = context_of(4, NULL, nesting_for, &n);
    prepare_large(&c);
    CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
    const snapshot base = call_snapshot(&c);
    CHECK_STATUS(NORMCORE_OK, call_run(&c, n.ctx));
    CHECK_SAME(&c, base, "without a context");
    CHECK(n.depth > 0);
    CHECK_STATUS(NORMCORE_OK, n.status);
    CHECK(n.good);
    normcore_context_destroy(n.ctx);
}

/* A child uses the parent's context, whose threads it does not have, and another of its own; the parent goes on. */
static void test_fork(void) {
    normcore_context *ctx = context_of(4, NULL, NULL, NULL);
    call c;
    prepare_large(&c);
    CHECK_STATUS(NORMCORE_OK, call_run(&c, ctx)); /* the threads run from here on */
    const snapshot base = call_snapshot(&c);
    for (int repeat = 0; repeat < 3; repeat++) {
        const pid_t process = fork();
        if (process == 0) {
            alarm(60); /* a hang must fail, and only a hang takes as long */
            int good = call_run(&c, ctx) == NORMCORE_OK && outputs_equal(&c, base);
            good &= call_run(&c, ctx) == NORMCORE_OK && outputs_equal(&c, base);
            normcore_context_destroy(ctx);
            normcore_context *own = NULL;
            good &= normcore_context_create(NULL, &own) == NORMCORE_OK;
            good &= normcore_context_set_num_threads(own, 3) == NORMCORE_OK;
            good &= call_run(&c, own) == NORMCORE_OK && outputs_equal(&c, base);
            normcore_context_destroy(own);
            _exit(good ? 0 : 1);
        }
        int status = -1;
        CHECK(process > 0 && waitpid(process, &status, 0) == process);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK_STATUS(NORMCORE_OK, call_run(&c, ctx));
        CHECK_SAME(&c, base, "before the fork");
    }
    normcore_context_destroy(ctx);
}

#if defined(__linux__)
enum { MOST_THREADS = 64 };

static size_t threads_running(pid_t found[MOST_THREADS]) {
    size_t count = 0;
    DIR *const tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (const struct dirent *entry; (entry = readdir(tasks)) != NULL && count < MOST_THREADS;)
        if (entry->d_name[0] != '.') found[count++] = (pid_t)atoi(entry->d_name);
    closedir(tasks);
    return count;
}

static cpu_set_t cpus_between(const cpu_set_t *all, int first, int last) { /* the first-th to the last-th of them */
    cpu_set_t some;
    CPU_ZERO(&some);
    for (int cpu = 0, place = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, all) && place++ >= first && place - 1 <= last) CPU_SET((size_t)cpu, &some);
    return some;
}

/* One context with a pool of its own, and the threads that were there before it. */
typedef struct pool_watch {
    normcore_context *ctx;
    call c;
    pid_t before[MOST_THREADS];
    size_t befores, workers;
} pool_watch;

static void watch_start(pool_watch *w, size_t threads) {
    w->befores = threads_running(w->before);
    w->workers = threads - 1;
    w->ctx = context_of(threads, NULL, NULL, NULL);
    prepare_large(&w->c);
    CHECK_STATUS(NORMCORE_OK, call_run(&w->c, w->ctx)); /* the threads run from here on */
}

/* Whether every worker may use just the CPUs of `expected`; with `set`, gives them that mask instead. */
static int workers_have(const pool_watch *w, const cpu_set_t *expected, int set) {
    pid_t now[MOST_THREADS];
    const size_t nows = threads_running(now);
    size_t found = 0, good = 0;
    for (size_t i = 0; i < nows; i++) {
        int old = 0;
        for (size_t j = 0; j < w->befores; j++) old |= w->before[j] == now[i];
        if (old) continue;
        cpu_set_t mask;
        found++;
        if (set)
            good += sched_setaffinity(now[i], sizeof *expected, expected) == 0;
        else
            good += sched_getaffinity(now[i], sizeof mask, &mask) == 0 && CPU_EQUAL(&mask, expected);
    }
    return found == w->workers && good == w->workers;
}

/* Runs the operation from CPUs of this mask. */
static void call_from(pool_watch *w, const cpu_set_t *mask) {
    CHECK(sched_setaffinity(0, sizeof *mask, mask) == 0);
    CHECK_STATUS(NORMCORE_OK, call_run(&w->c, w->ctx));
}

/* The pinned calls below are certain of the caller's CPU; where it is free, one CPU is missing, whichever. */
static void test_workers_keep_off_the_callers_cpu(void) {
    cpu_set_t all;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    const int cpus = CPU_COUNT(&all);
    if (cpus < 2) return;
    const cpu_set_t first = cpus_between(&all, 0, 0), second = cpus_between(&all, 1, 1),
                    pair = cpus_between(&all, 0, 1), but_first = cpus_between(&all, 1, cpus);
    cpu_set_t but_second;
    CPU_XOR(&but_second, &all, &second);
    pool_watch w;
    watch_start(&w, 2);
    call_from(&w, &first); /* pinned: the others of the mask at the start */
    CHECK(workers_have(&w, &but_first, 0));
    call_from(&w, &second);
    CHECK(workers_have(&w, &but_second, 0));
    call_from(&w, &pair); /* free on two: the one or the other */
    CHECK(workers_have(&w, &first, 0) || workers_have(&w, &second, 0));
    CHECK(workers_have(&w, &all, 1)); /* somebody else's doing */
    call_from(&w, &first);
    call_from(&w, &second);
    CHECK(workers_have(&w, &all, 0));
    normcore_context_destroy(w.ctx);

    CHECK(sched_setaffinity(0, sizeof pair, &pair) == 0);
    watch_start(&w, 4); /* more workers than other CPUs */
    call_from(&w, &pair);
    CHECK(workers_have(&w, &pair, 0));
    normcore_context_destroy(w.ctx);

    CHECK(sched_setaffinity(0, sizeof first, &first) == 0);
    watch_start(&w, 2); /* started by a caller that is pinned, and later free */
    CHECK(workers_have(&w, &first, 0));
    call_from(&w, &pair);
    CHECK(workers_have(&w, &first, 0) || workers_have(&w, &second, 0));
    call_from(&w, &second);
    CHECK(workers_have(&w, &first, 0));
    normcore_context_destroy(w.ctx);
    CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
}
#endif

/* Contexts come and go without a call, with one, and many at once. */
static void test_many_contexts(void) {
    normcore_context *contexts[20];
    call c;
    prepare_large(&c);
    for (size_t i = 0; i < EACH(contexts); i++) {
        contexts[i] = context_of(1 + i % 4, NULL, NULL, NULL);
        if (i % 3) CHECK_STATUS(NORMCORE_OK, call_run(&c, contexts[i]));
    }
    for (size_t i = 0; i < EACH(contexts); i++) normcore_context_destroy(contexts[i]);
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"thread_counts", test_thread_counts},
        {"changing_the_number", test_changing_the_number},
        {"floating_point_environment", test_floating_point_environment},
        {"environments_of_foreign_threads", test_environments_of_foreign_threads},
        {"caps", test_caps},
        {"a_busy_context", test_a_busy_context},
        {"nested_calls", test_nested_calls},
        {"fork", test_fork},
        {"many_contexts", test_many_contexts},
#if defined(__linux__)
        {"workers_keep_off_the_callers_cpu", test_workers_keep_off_the_callers_cpu},
#endif
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
