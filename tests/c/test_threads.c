#define _GNU_SOURCE /* sched_getaffinity of a thread */
/* Results do not depend on threads, whoever runs them; contexts survive being busy, being capped and a fork. */
#include "operations.h"
#include "properties.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#if defined(__linux__)
#include <dirent.h>
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

/*
 * One operation that takes milliseconds, so that a context will certainly use its threads, and not much more in scalar
 * code, as a product would.
 */
static void prepare_large(call *c) {
    call_prepare(c, &cross_entropy_operations().items[0], 2600, 500, 1, PLAIN, next_number(), 1, GUARD_AFTER);
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

/* ---------------------------------------------------------------- cancellation */

/* Functions of a user's that are cancellation points. */
static void *cancellable_allocate(void *argument, size_t size) {
    (void)argument;
    pthread_testcancel();
    return malloc(size);
}
static void cancellable_release(void *argument, void *memory) {
    (void)argument;
    pthread_testcancel();
    free(memory);
}
static void cancellable_for(void *argument, void (*body)(void *arg, size_t index), void *arg, size_t count) {
    (void)argument;
    pthread_testcancel();
    for (size_t i = 0; i < count; i++) body(arg, i);
}

/* Calls that wait for workers, the workers' end, and the functions above, with a request to cancel pending. */
static void *cancelled_run(void *argument) {
    enum { CALLS = 20 };
    user *u = argument;
    int right = 1;
    u->good = 0;
    pthread_cancel(pthread_self());
    for (size_t i = 0; i < CALLS; i++) {
        right &= normcore_context_set_num_threads(u->ctx, 2 + i % 2) == NORMCORE_OK;
        right &= call_run(&u->c, u->ctx) == NORMCORE_OK && outputs_equal(&u->c, u->base);
    }
    u->good = right;
    pthread_testcancel();
    return NULL;
}

/* A cancelled thread finishes its call: else its workers would go on with what is no more, the context stay locked. */
static void test_cancellation(void) {
    for (int which = 0; which < 3; which++) {
        static const char *const names[] = {"the pool", "an allocator", "a parallel_for"};
        static user u;
        pthread_t thread;
        void *result = NULL;
        normcore_context_options options;
        memset(&options, 0, sizeof options);
        options.struct_size = sizeof options;
        options.num_threads = 3;
        options.allocate = which == 1 ? cancellable_allocate : NULL;
        options.release = which == 1 ? cancellable_release : NULL;
        options.parallel_for = which == 2 ? cancellable_for : NULL;
        harness_note("cancelled in %s", names[which]);
        CHECK_STATUS(NORMCORE_OK, normcore_context_create(&options, &u.ctx));
        prepare_large(&u.c);
        CHECK_STATUS(NORMCORE_OK, call_run(&u.c, NULL));
        u.base = call_snapshot(&u.c);
        if (pthread_create(&thread, NULL, cancelled_run, &u) != 0) abort();
        CHECK(pthread_join(thread, &result) == 0);
        CHECK(u.good && result == PTHREAD_CANCELED);
        if (!u.good) abort(); /* workers may still write to what is about to be released */
        normcore_context_destroy(u.ctx);
        guard_reset();
    }
}

/* A call from within a call on the same context. */
typedef struct nest {
    normcore_context *ctx;
    size_t depth;
    normcore_status status;
    int good, set;
} nest;

static void nesting_for(void *argument, void (*body)(void *arg, size_t index), void *arg, size_t count) {
    nest *n = argument;
    if (n->depth++ == 0) {
        /* The number can change in the middle of a call, for those after it. */
        n->set =
            normcore_context_set_num_threads(n->ctx, 2) == NORMCORE_OK && normcore_context_get_num_threads(n->ctx) == 2;
        static real x[1000 * 64], y[1000 * 64];
        for (size_t i = 0; i < 1000 * 64; i++) x[i] = i % 3 ? 1 : -1;
        n->status = T(normcore_activation_forward)(n->ctx, NORMCORE_ACTIVATION_RELU, 0, 1000, 64, x, 64, y, 64);
        n->good = 1;
        for (size_t i = 0; i < 1000 * 64; i++) n->good &= y[i] == (i % 3 ? 1 : 0);
    }
    for (size_t i = 0; i < count; i++) body(arg, i);
}

static void test_nested_calls(void) {
    nest n = {NULL, 0, NORMCORE_ERROR_MEMORY, 0, 0};
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
    CHECK(n.set);
    normcore_context_destroy(n.ctx);
}

/* What is one number for a context or for the process changes while others call. */
typedef struct setter {
    normcore_context *ctx;
    size_t isas;
    int *stop, good;
} setter;

static void *setter_run(void *argument) {
    setter *s = argument;
    s->good = 1;
    for (size_t i = 0; !__atomic_load_n(s->stop, __ATOMIC_RELAXED); i++) {
        s->good &= normcore_context_set_num_threads(s->ctx, 1 + i % 4) == NORMCORE_OK;
        const size_t threads = normcore_context_get_num_threads(s->ctx);
        s->good &= threads >= 1 && threads <= 4;
        s->good &= normcore_set_isa(normcore_isa_name(i % s->isas)) == NORMCORE_OK && normcore_get_isa() != NULL;
        s->good &= strlen(normcore_cpu_features()) < 100;
        usleep(100);
    }
    return NULL;
}

static void test_setters_beside_calls(void) {
    enum { USERS = 2, SETTERS = 2 };
    static user users[USERS];
    setter setters[SETTERS];
    pthread_t threads[USERS + SETTERS];
    int stop = 0;
    normcore_context *ctx = context_of(3, NULL, NULL, NULL);
    for (size_t i = 0; i < USERS; i++) {
        call_prepare(&users[i].c, &affine_operations().items[0], 300, 300, 200, PLAIN, next_number(), 1, GUARD_AFTER);
        users[i].ctx = ctx;
        CHECK_STATUS(NORMCORE_OK, call_run(&users[i].c, NULL));
        users[i].base = call_snapshot(&users[i].c);
    }
    for (size_t i = 0; i < SETTERS; i++) {
        setters[i].ctx = ctx;
        setters[i].isas = isa_count();
        setters[i].stop = &stop;
        if (pthread_create(&threads[USERS + i], NULL, setter_run, &setters[i]) != 0) abort();
    }
    for (size_t i = 0; i < USERS; i++)
        if (pthread_create(&threads[i], NULL, user_run, &users[i]) != 0) abort();
    for (size_t i = 0; i < USERS; i++) pthread_join(threads[i], NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (size_t i = USERS; i < USERS + SETTERS; i++) pthread_join(threads[i], NULL);
    for (size_t i = 0; i < USERS; i++) CHECK(users[i].good);
    for (size_t i = 0; i < SETTERS; i++) CHECK(setters[i].good);
    isa_reset();
    normcore_context_destroy(ctx);
    guard_reset();
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
#endif

/* ---------------------------------------------------------------- forks in the middle of a call */

/*
 * An allocator that stops at every hand-over of memory, just before and just after it, and there has the process forked.
 * Nothing is taken back before the end, so that what is released twice is seen and not what became of it.
 */
enum { ALIVE = 0x600d, RELEASED = 0xdead, MOST_MEMORY = 256 };
typedef struct handover {
    size_t moment, fork_at; /* moments so far, and the one to fork at */
    int watching, by_caller;
    int to_fork[2], forked[2]; /* pipes to the forking thread and back */
    size_t count, alive, twice;
    void *memory[MOST_MEMORY];
    normcore_context *ctx;
    pid_t child;
    int nested; /* in a child forked in the middle of a call: whether a call from there worked */
} handover;

enum { FORK_CALLS = 4, FORK_SIZE = 300 * 340 };

/* The work of the parent, and of the child with arrays of its own: ever more memory, and the last two calls threads. */
typedef struct fork_work {
    real *x, *w, *y[FORK_CALLS], *expected[FORK_CALLS];
} fork_work;

static normcore_status fork_call(const fork_work *work, size_t which, normcore_context *ctx, real *y) {
    /* Random values cost little more in scalar code than in any other, products thirty times as much. */
    static const size_t shapes[FORK_CALLS][3] = {{32, 64, 48}, {48, 300, 64}, {0}, {260, 300, 340}};
    const size_t n = shapes[which][0], k = shapes[which][1], m = shapes[which][2];
    if (!n) return T(normcore_random_normal)(ctx, 1, 2, 3, FORK_SIZE, 0, 1, y);
    return T(normcore_affine_forward)(ctx, n, k, m, work->x, k, work->w, m, NULL, 0, y, m);
}

static fork_work fork_work_new(void) {
    fork_work work;
    rng r = rng_new(next_number());
    work.x = scratch_alloc(FORK_SIZE * sizeof(real));
    work.w = scratch_alloc(FORK_SIZE * sizeof(real));
    for (size_t i = 0; i < FORK_SIZE; i++) {
        work.x[i] = rng_real(&r, -2, 2);
        work.w[i] = rng_real(&r, -2, 2);
    }
    for (size_t i = 0; i < FORK_CALLS; i++) {
        work.y[i] = scratch_alloc(FORK_SIZE * sizeof(real));
        work.expected[i] = scratch_alloc(FORK_SIZE * sizeof(real));
        memset(work.expected[i], 0, FORK_SIZE * sizeof(real));
        memset(work.y[i], 0, FORK_SIZE * sizeof(real));
        CHECK_STATUS(NORMCORE_OK, fork_call(&work, i, NULL, work.expected[i]));
    }
    return work;
}

static int fork_call_is_right(const fork_work *work, size_t which, normcore_context *ctx) {
    return fork_call(work, which, ctx, work->y[which]) == NORMCORE_OK &&
           memcmp(work->y[which], work->expected[which], FORK_SIZE * sizeof(real)) == 0;
}

static fork_work parents_work, childs_work;

/* With the context as another thread of the parent left it. */
static int child_of_a_fork(handover *h) {
    alarm(60); /* a hang must fail, and only a hang takes as long */
    h->watching = 0;
    int good = 1;
    for (size_t i = 0; i < FORK_CALLS; i++) good &= fork_call_is_right(&childs_work, i, h->ctx);
#if defined(__linux__)
    pid_t running[MOST_THREADS];
    good &= threads_running(running) == normcore_context_get_num_threads(h->ctx); /* it has its threads again */
#endif
    good &= normcore_context_set_num_threads(h->ctx, 4) == NORMCORE_OK;
    for (size_t i = FORK_CALLS; i-- > 0;) good &= fork_call_is_right(&childs_work, i, h->ctx);
    normcore_context_destroy(h->ctx);
    return good && h->twice == 0 && h->alive <= 1; /* what was on its way belongs to nobody */
}

static void *fork_when_told(void *argument) {
    handover *h = argument;
    for (char byte; read(h->to_fork[0], &byte, 1) == 1 && byte == 'f';) {
        h->child = fork();
        if (h->child == 0) _exit(child_of_a_fork(h) ? 0 : 1);
        if (write(h->forked[1], &byte, 1) != 1) abort();
    }
    return NULL;
}

static void handover_moment(handover *h) {
    char byte = 'f';
    if (!h->watching || h->moment++ != h->fork_at) return;
    if (!h->by_caller) {
        if (write(h->to_fork[1], &byte, 1) != 1 || read(h->forked[0], &byte, 1) != 1) abort();
        return;
    }
    h->child = fork();
    if (h->child == 0) { /* goes on with the call, after another one from within it */
        alarm(60);
        h->watching = 0;
        h->nested = fork_call_is_right(&childs_work, 0, h->ctx) && fork_call_is_right(&childs_work, 2, h->ctx);
    }
}

static void *handover_allocate(void *user, size_t size) {
    handover *h = user;
    handover_moment(h);
    unsigned char *memory = malloc(size + 64);
    if (!memory || h->count == MOST_MEMORY) abort();
    memset(memory, 0xff, size + 64);
    h->memory[h->count++] = memory;
    *(int *)(void *)memory = ALIVE;
    h->alive++;
    handover_moment(h);
    return memory + 64;
}

static void handover_release(void *user, void *memory) {
    handover *h = user;
    int *const state = (int *)(void *)((unsigned char *)memory - 64);
    handover_moment(h);
    if (*state != ALIVE) h->twice++;
    *state = RELEASED;
    h->alive--;
    handover_moment(h);
}

/* Runs calls on a context, forking at one moment; 0 once there are no more moments. */
static int fork_at(handover *h, size_t moment, int by_caller) {
    normcore_context_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.num_threads = 3;
    options.allocate = handover_allocate;
    options.release = handover_release;
    options.allocator_user = h;
    h->moment = h->count = h->alive = h->twice = 0;
    h->fork_at = moment;
    h->by_caller = by_caller;
    h->watching = 0;
    h->child = -1;
    h->nested = 0;
    CHECK_STATUS(NORMCORE_OK, normcore_context_create(&options, &h->ctx));
    h->watching = 1;
    int good = 1;
    for (size_t i = 0; i < FORK_CALLS; i++)
        good &= fork_call_is_right(&parents_work, i, h->ctx); /* memory grows, threads start */
    good &= normcore_context_set_num_threads(h->ctx, 2) == NORMCORE_OK;
    good &= fork_call_is_right(&parents_work, 2, h->ctx); /* other threads */
    good &= normcore_context_set_num_threads(h->ctx, 1) == NORMCORE_OK;
    good &= fork_call_is_right(&parents_work, 0, h->ctx); /* none */
    h->watching = 0;
    normcore_context_destroy(h->ctx);
    good &= h->twice == 0 && h->alive == 0;
    for (size_t i = 0; i < h->count; i++) free(h->memory[i]);
    if (by_caller && h->child == 0) _exit(good && h->nested ? 0 : 1);
    CHECK(good);
    int status = -1;
    if (h->child < 0) return 0;
    CHECK(waitpid(h->child, &status, 0) == h->child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return 1;
}

static void test_fork_in_the_allocator(void) {
    static handover h;
    pthread_t forker;
    char byte = 'q';
    parents_work = fork_work_new();
    childs_work = fork_work_new();
    if (pipe(h.to_fork) != 0 || pipe(h.forked) != 0 || pthread_create(&forker, NULL, fork_when_told, &h) != 0) abort();
    for (int by_caller = 0; by_caller < 2; by_caller++) {
        size_t moment = 0;
        do harness_note("%s forks at moment %lu", by_caller ? "the caller" : "another thread", (unsigned long)moment);
        while (fork_at(&h, moment++, by_caller));
        CHECK(moment > 10); /* allocations and releases, twice each */
    }
    if (write(h.to_fork[1], &byte, 1) != 1) abort();
    pthread_join(forker, NULL);
    for (int i = 0; i < 2; i++) {
        close(h.to_fork[i]);
        close(h.forked[i]);
    }
    guard_reset();
}

#if defined(__linux__)
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

/* Whether so many run; one that has been joined may be on its way out for a moment. */
static int has_workers(const pool_watch *w, size_t expected) {
    pid_t now[MOST_THREADS];
    for (int tries = 0; tries < 10000; tries++) {
        if (threads_running(now) == w->befores + expected) return 1;
        usleep(1000);
    }
    return 0;
}

/* As many run as the last call was allowed, whatever it did. */
static void test_threads_come_and_go(void) {
    pool_watch w;
    call small;
    call_prepare(&small, &affine_operations().items[0], 3, 5, 7, PLAIN, next_number(), 1, GUARD_AFTER);
    watch_start(&w, 4);
    CHECK(has_workers(&w, 3));
    CHECK_STATUS(NORMCORE_OK, normcore_context_set_num_threads(w.ctx, 2));
    CHECK(has_workers(&w, 3));
    CHECK_STATUS(NORMCORE_OK, call_run(&w.c, w.ctx));
    CHECK(has_workers(&w, 1));
    CHECK_STATUS(NORMCORE_OK, normcore_context_set_num_threads(w.ctx, 1));
    CHECK_STATUS(NORMCORE_OK, call_run(&small, w.ctx));
    CHECK(has_workers(&w, 0));
    normcore_context_destroy(w.ctx);
    guard_reset();
}

/* Signals that a thread blocks; 0 if the system does not say. */
static unsigned long long blocked_by(pid_t thread) {
    char name[64], line[256];
    unsigned long long blocked = 0;
    snprintf(name, sizeof name, "/proc/self/task/%d/status", (int)thread);
    FILE *const file = fopen(name, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "SigBlk: %llx", &blocked) == 1) break;
    if (file) fclose(file);
    return blocked;
}

/* Of the signals only those that a thread brings upon itself reach a worker. */
static void test_signals_of_workers(void) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT},
                     others[] = {SIGINT, SIGTERM, SIGHUP, SIGALRM, SIGCHLD, SIGUSR1, SIGPIPE, SIGPROF};
    pool_watch w;
    pid_t now[MOST_THREADS];
    size_t found = 0;
    watch_start(&w, 3);
    const size_t nows = threads_running(now);
    for (size_t i = 0; i < nows; i++) {
        int old = 0;
        for (size_t j = 0; j < w.befores; j++) old |= w.before[j] == now[i];
        if (old) continue;
        found++;
        /* The C library blocks all of them until the thread has its first turn, which may be after the call's end. */
        unsigned long long blocked = blocked_by(now[i]);
        for (int tries = 0; tries < 10000 && blocked >> (SIGSEGV - 1) & 1; tries++) {
            usleep(1000);
            blocked = blocked_by(now[i]);
        }
        for (size_t j = 0; j < EACH(faults); j++) CHECK(!(blocked >> (faults[j] - 1) & 1));
        for (size_t j = 0; j < EACH(others); j++) CHECK(blocked >> (others[j] - 1) & 1);
    }
    CHECK(found == w.workers);
    normcore_context_destroy(w.ctx);
    guard_reset();
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

#if defined(__linux__)
/* Unless it is said: as many as may run at once. Nothing and the empty text say it nowhere. */
static void test_the_default_number(void) {
    const char *const set = getenv("NORMCORE_NUM_THREADS");
    char saved[16] = "";
    normcore_context *ctx = NULL;
    cpu_set_t all;
    if (set) strncpy(saved, set, sizeof saved - 1);
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    for (int empty = 0; empty < 2; empty++) {
        CHECK((empty ? setenv("NORMCORE_NUM_THREADS", "", 1) : unsetenv("NORMCORE_NUM_THREADS")) == 0);
        CHECK_STATUS(NORMCORE_OK, normcore_context_create(NULL, &ctx));
        CHECK(normcore_context_get_num_threads(ctx) == (size_t)CPU_COUNT(&all));
        CHECK_STATUS(NORMCORE_OK, normcore_context_set_num_threads(ctx, 3));
        CHECK_STATUS(NORMCORE_OK, normcore_context_set_num_threads(ctx, 0));
        CHECK(normcore_context_get_num_threads(ctx) == (size_t)CPU_COUNT(&all));
        normcore_context_destroy(ctx);
    }
    CHECK((set ? setenv("NORMCORE_NUM_THREADS", saved, 1) : unsetenv("NORMCORE_NUM_THREADS")) == 0);
}
#endif

int main(int argc, char **argv) {
    static const test tests[] = {
        {"thread_counts", test_thread_counts},
        {"changing_the_number", test_changing_the_number},
        {"floating_point_environment", test_floating_point_environment},
        {"environments_of_foreign_threads", test_environments_of_foreign_threads},
        {"caps", test_caps},
        {"a_busy_context", test_a_busy_context},
        {"cancellation", test_cancellation},
        {"nested_calls", test_nested_calls},
        {"setters_beside_calls", test_setters_beside_calls},
        {"fork", test_fork},
        {"fork_in_the_allocator", test_fork_in_the_allocator},
        {"many_contexts", test_many_contexts},
#if defined(__linux__)
        {"the_default_number", test_the_default_number},
        {"threads_come_and_go", test_threads_come_and_go},
        {"signals_of_workers", test_signals_of_workers},
        {"workers_keep_off_the_callers_cpu", test_workers_keep_off_the_callers_cpu},
#endif
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
