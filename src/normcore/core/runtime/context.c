/*
 * Forks. A child may be forked by one thread while another is anywhere in a call on the same context, and then has that
 * context as the other thread had left it at some instruction. So whoever owns memory is said in one word, `memory` of a
 * block or `pool`: it is forgotten before it is released, and known only when it is whole. The worst that a child finds is
 * a word less, whose memory it leaks.
 */
#include "numeric/guards.h"

#include "runtime/context.h"

#include "numeric/fp_environment.h"
#include "runtime/options.h"
#include "runtime/threads.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Scratch blocks a call may hold at once; block i of a context is reused by the i-th request of every call. */
enum { MAX_BLOCKS = 16 };
enum { ALIGNMENT = 64 };

typedef struct block {
    void *memory; /* as allocated; NULL: none, and `size` says nothing */
    size_t size;  /* usable, after alignment */
} block;

struct normcore_context {
    void *(*allocate)(void *user, size_t size);
    void (*release)(void *user, void *memory);
    void *allocator_user;
    normcore_parallel_for parallel_for;
    void *parallel_user;
    const isa_target *cap; /* NULL: none */
    size_t num_threads;    /* of calls to come: may change at any time */
    thread_pool *pool;     /* NULL until the first call that uses several threads, and after a change of their number */
    long busy;             /* normcore_threads_process() of the call that is using the context, or 0 */
    uintptr_t caller;      /* normcore_threads_self() of that call, or 0 */
    block blocks[MAX_BLOCKS];
};

struct call {
    normcore_context *settings; /* allocator; NULL: malloc */
    normcore_context *ctx;      /* pool and cached blocks; NULL: no threads, nothing kept */
    const isa_target *target;
    size_t threads; /* that this call may use; 1 without ctx */
    size_t used;
    block blocks[MAX_BLOCKS]; /* if ctx is NULL */
};

static void *allocate(normcore_context *settings, size_t size) {
    if (settings && settings->allocate) {
        const int cancel = normcore_threads_disable_cancel();
        void *const given = settings->allocate(settings->allocator_user, size);
        normcore_threads_restore_cancel(cancel);
        return given;
    }
    const int saved = errno;
    void *memory = malloc(size);
    errno = saved;
    return memory;
}

static void release(normcore_context *settings, void *memory) {
    if (!memory) return;
    if (settings && settings->release) {
        const int cancel = normcore_threads_disable_cancel();
        settings->release(settings->allocator_user, memory);
        normcore_threads_restore_cancel(cancel);
    } else
        free(memory);
}

/* ------------------------------------------------------------------------------------------------ contexts */

/* NORMCORE_NUM_THREADS: 1 to NORMCORE_MAX_THREADS, in decimal digits; 0 if it is unset or empty, SIZE_MAX if it is bad. */
static size_t environment_threads(void) {
    const char *text = getenv("NORMCORE_NUM_THREADS");
    size_t number = 0;
    if (!text || !*text) return 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || number > NORMCORE_MAX_THREADS) return SIZE_MAX;
        number = 10 * number + (size_t)(*text - '0');
    }
    return number && number <= NORMCORE_MAX_THREADS ? number : SIZE_MAX;
}

/* Replaces 0 by the default. */
static normcore_status resolve_threads(size_t *num_threads) {
    if (*num_threads > NORMCORE_MAX_THREADS) return NORMCORE_ERROR_VALUE;
    if (!*num_threads) *num_threads = environment_threads();
    if (*num_threads == SIZE_MAX) return NORMCORE_ERROR_ENVIRONMENT_THREADS;
    if (!*num_threads) *num_threads = normcore_threads_available();
    if (*num_threads > NORMCORE_MAX_THREADS) *num_threads = NORMCORE_MAX_THREADS;
    return NORMCORE_OK;
}

normcore_status normcore_context_create(const normcore_context_options *options, normcore_context **ctx) {
    if (!ctx) return NORMCORE_ERROR_NULL;
    *ctx = NULL;
    normcore_context template = {0};
    normcore_context_options o = {0};
    normcore_status status = options ? normcore_options_read_context(options, &o) : NORMCORE_OK;
    if (status) return status;
    if (!o.allocate != !o.release) return NORMCORE_ERROR_NULL;
    if (o.isa && !(template.cap = normcore_target_at_most(o.isa))) return NORMCORE_ERROR_ISA;
    template.allocate = o.allocate;
    template.release = o.release;
    template.allocator_user = o.allocator_user;
    template.parallel_for = o.parallel_for;
    template.parallel_user = o.parallel_user;
    template.num_threads = o.num_threads;
    status = resolve_threads(&template.num_threads);
    if (status) return status;
    if (!normcore_threads_watch_forks()) return NORMCORE_ERROR_MEMORY;
    normcore_context *made = allocate(&template, sizeof *made);
    if (!made) return NORMCORE_ERROR_MEMORY;
    *made = template;
    *ctx = made;
    return NORMCORE_OK;
}

static void drop_pool(normcore_context *ctx) {
    thread_pool *const pool = __atomic_exchange_n(&ctx->pool, NULL, __ATOMIC_ACQ_REL);
    if (!pool) return;
    const int cancel = normcore_threads_disable_cancel();
    normcore_threads_destroy(pool);
    normcore_threads_restore_cancel(cancel);
    release(ctx, pool);
}

static void drop_block(normcore_context *settings, block *b) {
    release(settings, __atomic_exchange_n(&b->memory, NULL, __ATOMIC_ACQ_REL));
}

void normcore_context_destroy(normcore_context *ctx) {
    if (!ctx) return;
    drop_pool(ctx);
    for (int i = 0; i < MAX_BLOCKS; i++) drop_block(ctx, &ctx->blocks[i]);
    release(ctx, ctx);
}

/*
 * A flag that a forked child inherits is stale, and is taken over, if it is of a thread that stayed in the parent; it is
 * not if fork() was called in the middle of the call, from a function of the caller's such as `allocate`.
 */
static int try_enter(normcore_context *ctx) {
    const long process = normcore_threads_process();
    long holder = 0;
    while (!__atomic_compare_exchange_n(&ctx->busy, &holder, process, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        if (holder == process || __atomic_load_n(&ctx->caller, __ATOMIC_RELAXED) == normcore_threads_forker()) return 0;
    __atomic_store_n(&ctx->caller, normcore_threads_self(), __ATOMIC_RELAXED);
    return 1;
}

/* While the flag is set and no caller is known, the flag of another process is stale. */
static void leave(normcore_context *ctx) {
    __atomic_store_n(&ctx->caller, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&ctx->busy, 0, __ATOMIC_RELEASE);
}

normcore_status normcore_context_set_num_threads(normcore_context *ctx, size_t num_threads) {
    if (!ctx) return NORMCORE_ERROR_NULL;
    const normcore_status status = resolve_threads(&num_threads);
    if (!status) __atomic_store_n(&ctx->num_threads, num_threads, __ATOMIC_RELAXED);
    return status;
}

size_t normcore_context_get_num_threads(const normcore_context *ctx) {
    return ctx ? __atomic_load_n(&ctx->num_threads, __ATOMIC_RELAXED) : 1;
}

/* ------------------------------------------------------------------------------------------------ calls */

normcore_status normcore_call_run(normcore_context *ctx, call_body body, void *arguments) {
    const isa_target *target = normcore_target_in_use(ctx ? ctx->cap : NULL);
    return target ? normcore_call_run_on(target, ctx, body, arguments) : NORMCORE_ERROR_ENVIRONMENT_ISA;
}

/* The pool of the call's number of threads and of this process, if there is one; others are dropped. */
static thread_pool *fitting_pool(const call *call) {
    normcore_context *ctx = call->ctx;
    if (ctx->pool && !normcore_threads_fit(ctx->pool, call->threads)) drop_pool(ctx);
    return ctx->pool;
}

normcore_status normcore_call_run_on(const isa_target *target, normcore_context *ctx, call_body body, void *arguments) {
    call c;
    c.settings = ctx;
    c.target = target;
    c.ctx = ctx && try_enter(ctx) ? ctx : NULL;
    c.threads = normcore_context_get_num_threads(c.ctx);
    c.used = 0;
    if (c.ctx) (void)fitting_pool(&c); /* threads that are no longer wanted do not wait for work that needs some */
    const fp_environment saved = fp_environment_enter();
    const normcore_status status = body(&c, arguments);
    fp_environment_leave(saved);
    normcore_call_release(&c, 0);
    if (c.ctx) leave(c.ctx);
    return status;
}

const isa_target *normcore_call_target(const call *call) { return call->target; }

size_t normcore_call_mark(const call *call) { return call->used; }

void normcore_call_release(call *call, size_t mark) {
    if (!call->ctx)
        for (size_t i = mark; i < call->used; i++) release(call->settings, call->blocks[i].memory);
    call->used = mark;
}

void *normcore_call_scratch(call *call, size_t count, size_t size) {
    if (call->used == MAX_BLOCKS) return NULL;
    if (size && count > (SIZE_MAX - ALIGNMENT) / size) return NULL;
    const size_t wanted = count * size, bytes = wanted ? wanted : 1;
    block *b = &(call->ctx ? call->ctx->blocks : call->blocks)[call->used];
    if (!call->ctx) b->memory = NULL;
    if (!b->memory || b->size < bytes) {
        drop_block(call->settings, b);
        void *const memory = allocate(call->settings, bytes + ALIGNMENT);
        if (!memory) return NULL;
        b->size = bytes;
        __atomic_store_n(&b->memory, memory, __ATOMIC_RELEASE);
    }
    call->used++;
    return (void *)(((uintptr_t)b->memory + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

/*
 * Waking and joining a thread costs 57 to 85 us on a virtual machine, so that each must have several times that to do.
 */
enum { WORTH_A_THREAD_NS = 250000 };

size_t normcore_call_threads(const call *call, double nanoseconds) {
    if (call->threads == 1 || nanoseconds < 2.0 * WORTH_A_THREAD_NS) return 1;
    const double worth = nanoseconds / WORTH_A_THREAD_NS;
    return worth < (double)call->threads ? (size_t)worth : call->threads;
}

typedef struct guarded_body {
    void (*body)(void *, size_t);
    void *arg;
} guarded_body;

/* Threads that are not ours may have any floating-point environment. */
static void run_guarded(void *arg, size_t index) {
    const guarded_body *g = arg;
    const fp_environment saved = fp_environment_enter();
    g->body(g->arg, index);
    fp_environment_leave(saved);
}

void normcore_call_parallel(call *call, size_t threads, void (*body)(void *, size_t), void *arg, size_t count) {
    normcore_context *ctx = call->ctx;
    if (ctx && count > 1 && threads > 1) {
        if (ctx->parallel_for) {
            guarded_body g = {body, arg};
            const int cancel = normcore_threads_disable_cancel();
            ctx->parallel_for(ctx->parallel_user, run_guarded, &g, count);
            normcore_threads_restore_cancel(cancel);
            return;
        }
        thread_pool *pool = fitting_pool(call);
        if (!pool) {
            /* Without memory for a pool the caller does all the work itself: the same bits, later. */
            pool = allocate(ctx, normcore_threads_size(call->threads));
            if (pool && !normcore_threads_create(pool, call->threads)) {
                release(ctx, pool);
                pool = NULL;
            }
            __atomic_store_n(&ctx->pool, pool, __ATOMIC_RELEASE);
        }
        if (pool) {
            const int cancel = normcore_threads_disable_cancel();
            normcore_threads_run(pool, body, arg, count);
            normcore_threads_restore_cancel(cancel);
            return;
        }
    }
    for (size_t i = 0; i < count; i++) body(arg, i);
}
