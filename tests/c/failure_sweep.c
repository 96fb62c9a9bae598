#define _GNU_SOURCE /* affinity */
/*
 * Every n-th thing that the library asks of the system fails, once or from then on: memory, threads, mutexes, condition
 * variables, the number of CPUs and which of them it may use. An operation then gives the bits it always gives, or says
 * that there is no memory; whatever it was, the same context works afterwards, nothing leaks, and errno is as it was.
 * The linker puts the functions below in place of the system's (--wrap), in the library's calls as well.
 */
#include "operations.h"
#include "properties.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EACH(list) (sizeof(list) / sizeof *(list))

/* ---------------------------------------------------------------- failures */

static int armed_, for_ever_, watching_;
static long asked_, fails_at_, failed_, live_;

static int fails(void) {
    if (!__atomic_load_n(&armed_, __ATOMIC_RELAXED)) return 0;
    const long request = __atomic_fetch_add(&asked_, 1, __ATOMIC_RELAXED);
    const int failing = for_ever_ ? request >= fails_at_ : request == fails_at_;
    if (failing) __atomic_fetch_add(&failed_, 1, __ATOMIC_RELAXED);
    return failing;
}

static void arm(long at, int for_ever) {
    fails_at_ = at;
    for_ever_ = for_ever;
    asked_ = failed_ = 0;
    armed_ = 1;
}

/* While it watches, blocks are counted: only around calls of the library. */
static void watch(int on) {
    armed_ &= on;
    watching_ = on;
}

static int with_errno(int error) {
    errno = error;
    return -1;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void __real_free(void *memory);
void __wrap_free(void *memory);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __real_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes);
int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes);
int __real_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes);
int __wrap_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes);
int __real_sched_getaffinity(pid_t thread, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t thread, size_t size, cpu_set_t *set);
int __real_pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *set);
int __wrap_pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *set);
int __real_sched_getcpu(void);
int __wrap_sched_getcpu(void);
int __real_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
long __real_sysconf(int name);
long __wrap_sysconf(int name);

void *__wrap_malloc(size_t size) {
    if (fails()) {
        errno = ENOMEM;
        return NULL;
    }
    void *const memory = __real_malloc(size);
    if (watching_ && memory) __atomic_fetch_add(&live_, 1, __ATOMIC_RELAXED);
    return memory;
}

void __wrap_free(void *memory) {
    if (watching_ && memory) __atomic_fetch_sub(&live_, 1, __ATOMIC_RELAXED);
    __real_free(memory);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    return fails() ? EAGAIN : __real_pthread_create(thread, attributes, run, argument);
}

int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes) {
    return fails() ? ENOMEM : __real_pthread_mutex_init(mutex, attributes);
}

int __wrap_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes) {
    return fails() ? ENOMEM : __real_pthread_cond_init(condition, attributes);
}

int __wrap_sched_getaffinity(pid_t thread, size_t size, cpu_set_t *set) {
    return fails() ? with_errno(EINVAL) : __real_sched_getaffinity(thread, size, set);
}

int __wrap_pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *set) {
    return fails() ? ESRCH : __real_pthread_getaffinity_np(thread, size, set);
}

int __wrap_sched_getcpu(void) { return fails() ? with_errno(ENOSYS) : __real_sched_getcpu(); }
int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    return fails() ? ENOMEM : __real_pthread_atfork(prepare, parent, child);
}

static long cpus_; /* as many as the machine has, if not 0 */

long __wrap_sysconf(int name) {
    return fails() ? with_errno(EINVAL) : cpus_ && name == _SC_NPROCESSORS_ONLN ? cpus_ : __real_sysconf(name);
}

/* ---------------------------------------------------------------- sweeps */

enum { MOST_REQUESTS = 400, UNTOUCHED_ERRNO = 77 };

static size_t refusals_, survivals_; /* trials in which something failed, by what became of them */

static normcore_status create(size_t threads, normcore_context **ctx) {
    normcore_context_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.num_threads = threads;
    return normcore_context_create(&options, ctx);
}

/* One call under failures from request `at` on; whether any failed. */
static int trial(call *c, snapshot base, int with_context, size_t threads, long at, int for_ever) {
    normcore_context *ctx = NULL;
    call_restore(c);
    live_ = 0;
    watch(1);
    arm(at, for_ever);
    errno = UNTOUCHED_ERRNO;
    normcore_status status = with_context ? create(threads, &ctx) : NORMCORE_OK;
    const int created = status == NORMCORE_OK;
    if (created) status = c->operation->run(c, ctx);
    const int error = errno;
    watch(0);
    CHECK(error == UNTOUCHED_ERRNO);
    if (status == NORMCORE_OK) {
        survivals_ += failed_ > 0;
        CHECK_SAME(c, base, "without failures");
    } else {
        refusals_++;
        CHECK_STATUS(NORMCORE_ERROR_MEMORY, status);
        CHECK(failed_ > 0);
        CHECK(created || !ctx);
    }
    if (created) {
        call_restore(c);
        watch(1);
        status = c->operation->run(c, ctx);
        watch(0);
        CHECK_STATUS(NORMCORE_OK, status);
        CHECK_SAME(c, base, "on a context that had failures");
    }
    watch(1);
    normcore_context_destroy(ctx);
    watch(0);
    CHECK(live_ == 0);
    return failed_ > 0;
}

static void sweep(const operation *o, size_t n, size_t k, size_t m, int with_context, size_t threads) {
    call c;
    call_prepare(&c, o, n, k, m, PLAIN, next_number(), 1, GUARD_AFTER);
    CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
    const snapshot base = call_snapshot(&c);
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        long at = 0;
        do {
            harness_note("%s, n=%lu k=%lu m=%lu, %lu threads, %s request %ld", o->name, (unsigned long)n,
                         (unsigned long)k, (unsigned long)m, (unsigned long)threads, for_ever ? "from" : "at", at);
        } while (trial(&c, base, with_context, threads, at, for_ever) && ++at < MOST_REQUESTS);
        CHECK(at < MOST_REQUESTS);
    }
    guard_reset();
}

static void sweep_all(int large, int with_context, size_t threads) {
    const operation *o;
    refusals_ = survivals_ = 0;
    for (size_t i = 0; (o = operation_get(i)) != NULL; i++) {
        const int mlp = strstr(o->name, "mlp") != NULL;
        const size_t n = o->flags & ONE_ROW ? (large ? 500000 : 3000) : large ? (mlp ? 1111 : 2600) : 600;
        sweep(o, n, large ? 173 : 21, large ? 41 : 13, with_context, threads);
    }
}

/* Without notice of forks a context would not be safe in a child. Only the first context of a process asks for it. */
static void test_the_first_context(void) {
    const pid_t process = fork();
    if (process == 0) {
        normcore_context *ctx = NULL;
        watch(1);
        arm(0, 0);
        errno = UNTOUCHED_ERRNO;
        normcore_status status = create(1, &ctx);
        const int good = status == NORMCORE_ERROR_MEMORY && !ctx && errno == UNTOUCHED_ERRNO && failed_ == 1 && !live_;
        /* Nobody asks twice. */
        status = create(1, &ctx);
        _exit(good && status == NORMCORE_ERROR_MEMORY && !ctx ? 10 : 11);
    }
    int status = -1;
    CHECK(process > 0 && waitpid(process, &status, 0) == process);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 10);
}

/* More CPUs than a context may have threads, more than a set of CPUs has room for. */
static void test_many_cpus(void) {
    normcore_context *ctx = NULL;
    cpus_ = 5000;
    arm(0, 0); /* which CPUs they are is not told */
    CHECK_STATUS(NORMCORE_OK, create(0, &ctx));
    armed_ = 0;
    cpus_ = 0;
    CHECK(normcore_context_get_num_threads(ctx) == NORMCORE_MAX_THREADS);
    normcore_context_destroy(ctx);
}

static void test_without_a_context(void) {
    sweep_all(0, 0, 0);
    CHECK(refusals_ > 100);
}

static void test_one_thread(void) {
    sweep_all(0, 1, 1);
    CHECK(refusals_ > 100);
}

/* As many threads as there are CPUs: a number that the system may not tell. */
static void test_all_cpus(void) {
    sweep_all(0, 1, 0);
    CHECK(refusals_ > 100 && survivals_ > 50);
}

/* Work that is worth waking threads for: none of what a pool needs is missed by a result. */
static void test_a_pool(void) {
    sweep_all(1, 1, 3);
    /* A product just worth two threads: on two CPUs already, one worker is kept off the caller's. */
    sweep(&affine_operations().items[0], 410, 519, 123, 1, 2);
    CHECK(refusals_ > 100 && survivals_ > 100);
}

/* A forked child makes anew what a pool needs, and that can fail too. */
static void test_a_pool_after_a_fork(void) {
    call c;
    call_prepare(&c, &cross_entropy_operations().items[0], 2600, 500, 1, PLAIN, next_number(), 1, GUARD_AFTER);
    CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
    const snapshot base = call_snapshot(&c);
    for (int for_ever = 0; for_ever < 2; for_ever++)
        for (long at = 0, more = 1; more && CHECK(at < MOST_REQUESTS); at++) {
            normcore_context *ctx = NULL;
            CHECK_STATUS(NORMCORE_OK, create(3, &ctx));
            CHECK_STATUS(NORMCORE_OK, call_run(&c, ctx)); /* the threads run from here on */
            call_restore(&c);
            const pid_t process = fork();
            if (process == 0) {
                alarm(60);
                arm(at, for_ever);
                normcore_status status = c.operation->run(&c, ctx);
                armed_ = 0;
                more = failed_ > 0;
                int good = status == NORMCORE_OK ? call_same(&c, base, __FILE__, __LINE__, "before the fork")
                                                 : status == NORMCORE_ERROR_MEMORY;
                good &= call_run(&c, ctx) == NORMCORE_OK && call_same(&c, base, __FILE__, __LINE__, "before the fork");
                normcore_context_destroy(ctx);
                _exit(good ? (more ? 10 : 11) : 1);
            }
            int status = -1;
            CHECK(process > 0 && waitpid(process, &status, 0) == process);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) >= 10);
            more = WIFEXITED(status) && WEXITSTATUS(status) == 10;
            CHECK_STATUS(NORMCORE_OK, call_run(&c, ctx));
            CHECK_SAME(&c, base, "before the fork");
            normcore_context_destroy(ctx);
        }
}

static void test_selftest(void) {
    long at = 0;
    for (int failing = 1; failing && CHECK(at < MOST_REQUESTS); at++) {
        const char *what = "";
        watch(1);
        arm(at, 1);
        errno = UNTOUCHED_ERRNO;
        const normcore_status status = normcore_selftest(&what);
        const int error = errno;
        watch(0);
        CHECK(error == UNTOUCHED_ERRNO);
        failing = failed_ > 0;
        CHECK_STATUS(failing ? NORMCORE_ERROR_MEMORY : NORMCORE_OK, status);
        CHECK(what == NULL);
        CHECK(live_ == 0);
    }
    CHECK(at > 2);
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"the_first_context", test_the_first_context}, /* so it stands first */
        {"many_cpus", test_many_cpus},
        {"without_a_context", test_without_a_context},
        {"one_thread", test_one_thread},
        {"all_cpus", test_all_cpus},
        {"a_pool", test_a_pool},
        {"a_pool_after_a_fork", test_a_pool_after_a_fork},
        {"selftest", test_selftest},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
