#define _GNU_SOURCE /* sched_getaffinity and the like */
#include "numeric/guards.h"

#include "runtime/threads.h"

#include "numeric/fp_environment.h"

#if defined(__unix__) || defined(__APPLE__)
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__linux__) && !defined(__ANDROID__)
#define HAS_THREAD_AFFINITY
#endif

struct thread_pool {
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    size_t wanted;  /* workers beside the caller */
    size_t started; /* of them running; 0 until first used */
    long process;   /* in which the pool was made: in a forked child nothing here but the memory is of use */
    /* The current job; all under the mutex but `next`. */
    unsigned long generation;
    int open;      /* a worker that wakes up may still join the job */
    size_t active; /* workers that have joined it and not finished */
    int stop;
    void (*body)(void *, size_t);
    void *arg;
    size_t count, next;
#ifdef HAS_THREAD_AFFINITY
    cpu_set_t started_with, confined; /* CPUs that the workers were allowed at first, and are now */
#endif
    pthread_t threads[];
};

size_t normcore_threads_available(void) {
    const int saved = errno;
    long count = 0;
#if defined(__linux__)
    cpu_set_t set;
    if (!sched_getaffinity(0, sizeof set, &set)) count = CPU_COUNT(&set);
#endif
    if (count < 1) count = sysconf(_SC_NPROCESSORS_ONLN);
    errno = saved;
    return count > 0 ? (size_t)count : 1;
}

/* 0 until forks are watched; then written only in a child that has just been forked and has one thread. */
static long process_number;
static uintptr_t forking_thread;
static pthread_once_t fork_watch = PTHREAD_ONCE_INIT;

uintptr_t normcore_threads_self(void) { return (uintptr_t)pthread_self(); }
uintptr_t normcore_threads_forker(void) { return forking_thread; }

static void count_fork(void) {
    process_number++;
    forking_thread = normcore_threads_self(); /* keeps its name in the child, of which it is the one thread */
}
static void watch_forks(void) {
    if (!pthread_atfork(NULL, NULL, count_fork)) process_number = 1;
}

int normcore_threads_watch_forks(void) {
    const int saved = errno;
    (void)pthread_once(&fork_watch, watch_forks);
    errno = saved;
    return process_number != 0;
}
long normcore_threads_process(void) { return process_number; }

int normcore_threads_disable_cancel(void) {
    int state = 0;
#ifdef PTHREAD_CANCEL_DISABLE /* Android has no cancellation */
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
#endif
    return state;
}
void normcore_threads_restore_cancel(int state) {
#ifdef PTHREAD_CANCEL_DISABLE
    (void)pthread_setcancelstate(state, &state);
#else
    (void)state;
#endif
}

size_t normcore_threads_size(size_t count) { return sizeof(thread_pool) + count * sizeof(pthread_t); }

static int init_synchronisation(thread_pool *pool) {
    if (pthread_mutex_init(&pool->mutex, NULL)) return 0;
    if (!pthread_cond_init(&pool->work, NULL)) {
        if (!pthread_cond_init(&pool->done, NULL)) return 1;
        pthread_cond_destroy(&pool->work);
    }
    pthread_mutex_destroy(&pool->mutex);
    return 0;
}

int normcore_threads_fit(const thread_pool *pool, size_t count) {
    return pool->wanted == count - 1 && pool->process == normcore_threads_process();
}

int normcore_threads_create(thread_pool *pool, size_t count) {
    pool->wanted = count - 1;
    pool->started = 0;
    pool->process = normcore_threads_process();
    pool->generation = 0;
    pool->open = 0;
    pool->active = 0;
    pool->stop = 0;
    return init_synchronisation(pool);
}

/*
 * The scheduler likes to wake a thread on the CPU of the one that wakes it, and there the two would take turns: rows of
 * 4096 x 1024 took as long on two threads as on one. So the workers are confined to the CPUs of the caller's affinity
 * mask but the one that it is on; if it is pinned to that, of the mask that they were started with. Where there are
 * fewer such CPUs than workers they may use all of the mask. A worker whose mask somebody else has changed is left alone.
 */
static void keep_off_callers_cpu(thread_pool *pool) {
#ifdef HAS_THREAD_AFFINITY
    const int cpu = sched_getcpu();
    cpu_set_t allowed;
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed)) return;
    if (CPU_COUNT(&allowed) == 1) allowed = pool->started_with;
    cpu_set_t set = allowed;
    CPU_CLR((size_t)cpu, &set);
    if ((size_t)CPU_COUNT(&set) < pool->started) set = allowed;
    if (CPU_EQUAL(&set, &pool->confined)) return;
    for (size_t i = 0; i < pool->started; i++) {
        cpu_set_t now;
        if (pthread_getaffinity_np(pool->threads[i], sizeof now, &now) || !CPU_EQUAL(&now, &pool->confined)) continue;
        (void)pthread_setaffinity_np(pool->threads[i], sizeof set, &set);
    }
    pool->confined = set;
#else
    (void)pool;
#endif
}

static void take_indices(thread_pool *pool, void (*body)(void *, size_t), void *arg, size_t count) {
    for (;;) {
        const size_t index = __atomic_fetch_add(&pool->next, 1, __ATOMIC_RELAXED);
        if (index >= count) return;
        body(arg, index);
    }
}

static void *worker(void *argument) {
    thread_pool *pool = argument;
    unsigned long seen = 0;
    (void)fp_environment_enter(); /* inherited from whoever started the pool */
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (!(pool->open && pool->generation != seen) && !pool->stop) pthread_cond_wait(&pool->work, &pool->mutex);
        if (pool->stop) break;
        seen = pool->generation;
        pool->active++;
        void (*const body)(void *, size_t) = pool->body;
        void *const arg = pool->arg;
        const size_t count = pool->count;
        pthread_mutex_unlock(&pool->mutex);
        take_indices(pool, body, arg, count);
        pthread_mutex_lock(&pool->mutex);
        if (--pool->active == 0) pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/* Faults of a thread itself. Where they are blocked the system kills the process without running its handler. */
static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};

/* Signals stay with the program's own threads, but for those that a worker brings upon itself. */
static void start_workers(thread_pool *pool) {
#ifdef HAS_THREAD_AFFINITY
    if (sched_getaffinity(0, sizeof pool->started_with, &pool->started_with)) CPU_ZERO(&pool->started_with);
    pool->confined = pool->started_with;
#endif
    sigset_t blocked, saved;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof fault_signals / sizeof *fault_signals; i++) sigdelset(&blocked, fault_signals[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &saved);
    while (pool->started < pool->wanted) {
        if (pthread_create(&pool->threads[pool->started], NULL, worker, pool)) break;
        pool->started++;
    }
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

void normcore_threads_run(thread_pool *pool, void (*body)(void *, size_t), void *arg, size_t count) {
    const int saved = errno; /* the library leaves it alone; the system's calls here do not */
    if (!pool->started) start_workers(pool);
    if (pool->started) keep_off_callers_cpu(pool);
    errno = saved;
    if (!pool->started) {
        for (size_t i = 0; i < count; i++) body(arg, i);
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->body = body;
    pool->arg = arg;
    pool->count = count;
    pool->next = 0;
    pool->open = 1;
    pool->generation++;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    take_indices(pool, body, arg, count);
    /* Nothing is left to take: a worker that the system has not let run yet is not waited for. */
    pthread_mutex_lock(&pool->mutex);
    pool->open = 0;
    while (pool->active) pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

void normcore_threads_destroy(thread_pool *pool) {
    if (pool->process != normcore_threads_process()) return; /* the threads stayed in the parent */
    pthread_mutex_lock(&pool->mutex);
    pool->stop = 1;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 0; i < pool->started; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
}

#else /* no threads known here: the caller does everything */

struct thread_pool {
    size_t count;
};
size_t normcore_threads_available(void) { return 1; }
int normcore_threads_watch_forks(void) { return 1; }
long normcore_threads_process(void) { return 1; }
uintptr_t normcore_threads_self(void) { return 1; }
uintptr_t normcore_threads_forker(void) { return 0; }
int normcore_threads_disable_cancel(void) { return 0; }
void normcore_threads_restore_cancel(int state) { (void)state; }
size_t normcore_threads_size(size_t count) {
    (void)count;
    return sizeof(thread_pool);
}
int normcore_threads_create(thread_pool *pool, size_t count) {
    pool->count = count;
    return 1;
}
int normcore_threads_fit(const thread_pool *pool, size_t count) { return pool->count == count; }
void normcore_threads_destroy(thread_pool *pool) { (void)pool; }
void normcore_threads_run(thread_pool *pool, void (*body)(void *, size_t), void *arg, size_t count) {
    (void)pool;
    for (size_t i = 0; i < count; i++) body(arg, i);
}

#endif
