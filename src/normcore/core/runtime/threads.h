/* A small pool of threads, started when first used. */
#ifndef NORMCORE_THREADS_H
#define NORMCORE_THREADS_H

#include <stddef.h>
#include <stdint.h>

typedef struct thread_pool thread_pool;

/* CPUs this process may run on; at least 1. */
size_t normcore_threads_available(void);
/* Counts forks from now on; once for all callers. 0 if the system has no memory to tell of them. */
int normcore_threads_watch_forks(void);
/* A positive number that is different in a forked child. A counter, because getpid() is a system call. */
long normcore_threads_process(void);
/* This thread, and the one that called fork() when this process began (0: none is known): never 0. */
uintptr_t normcore_threads_self(void);
uintptr_t normcore_threads_forker(void);

/*
 * No cancellation of the calling thread (pthread_cancel) takes effect between the two; the first gives what the second
 * takes. Around all that waits or that others wrote: the rest of the library has no cancellation points.
 */
int normcore_threads_disable_cancel(void);
void normcore_threads_restore_cancel(int state);

/* Room a pool for `count` threads, the caller's among them, needs; the caller allocates. create: 0 on failure. */
size_t normcore_threads_size(size_t count);
int normcore_threads_create(thread_pool *pool, size_t count);
/* Whether this is a pool for so many threads, made in this process. Others can only be destroyed. */
int normcore_threads_fit(const thread_pool *pool, size_t count);
/* Joins what was started in this process. */
void normcore_threads_destroy(thread_pool *pool);
/*
 * Runs body(arg, i) for i in [0, count) on the pool and the calling thread; returns when all are done. One caller at a
 * time. Threads that the system refuses to start are done without.
 */
void normcore_threads_run(thread_pool *pool, void (*body)(void *, size_t), void *arg, size_t count);

#endif
