#include "guards.h"

#include "context.h"

#include "fp_environment.h"
#include "threads.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Scratch blocks a call may hold at once; block i of a context is reused by the i-th request of every call. */
enum { MAX_BLOCKS = 16 };
enum { ALIGNMENT = 64 };

typedef struct block {
    void *memory; /* as allocated */
    size_t size;  /* usable, after alignment */
} block;

struct normcore_context {
    void *(*allocate)(void *user, size_t size);
    void (*release)(void *user, void *memory);
    void *allocator_user;
    normcore_parallel_for parallel_for;
    void *parallel_user;
    const isa_row *isa_cap;
    size_t num_threads;
    thread_pool *pool; /* NULL until the first call that uses several threads, and after a change of their number */
    long busy;         /* normcore_threads_process() of the call that is using the context, or 0 */
    block blocks[MAX_BLOCKS];
};

struct call {
    normcore_context *settings; /* allocator; NULL: malloc */
    normcore_context *ctx;      /* pool and cached blocks; NULL: no threads, nothing kept */
    const isa_row *isa;
    size_t used;
    block blocks[MAX_BLOCKS]; /* if ctx is NULL */
};

static void *allocate(normcore_context *settings, size_t size) {
    if (settings && settings->allocate) return settings->allocate(settings->allocator_user, size);
    const int saved = errno;
    void *memory = malloc(size);
    errno = saved;
    return memory;
}

static void release(normcore_context *settings, void *memory) {
    if (!memory) return;
    if (settings && settings->release)
        settings->release(settings->allocator_user, memory);
    else
        free(memory);
}

/* ------------------------------------------------------------------------------------------------ contexts */

normcore_status normcore_context_create(const normcore_context_options *options, normcore_context **ctx) {
    if (!ctx) return NORMCORE_ERROR_NULL;
    *ctx = NULL;
    normcore_context template = {0};
    if (options) {
        if (options->struct_size < sizeof *options) return NORMCORE_ERROR_VALUE;
        if (!options->allocate != !options->release) return NORMCORE_ERROR_NULL;
        if (options->num_threads > NORMCORE_MAX_THREADS) return NORMCORE_ERROR_VALUE;
        if (options->isa && !(template.isa_cap = normcore_isa_at_most(options->isa))) return NORMCORE_ERROR_ISA;
        template.allocate = options->allocate;
        template.release = options->release;
        template.allocator_user = options->allocator_user;
        template.parallel_for = options->parallel_for;
        template.parallel_user = options->parallel_user;
        template.num_threads = options->num_threads;
    }
    if (!template.num_threads) template.num_threads = normcore_threads_available();
    normcore_threads_watch_forks();
    normcore_context *made = allocate(&template, sizeof *made);
    if (!made) return NORMCORE_ERROR_MEMORY;
    *made = template;
    *ctx = made;
    return NORMCORE_OK;
}

static void drop_pool(normcore_context *ctx) {
    if (!ctx->pool) return;
    normcore_threads_destroy(ctx->pool);
    release(ctx, ctx->pool);
    ctx->pool = NULL;
}

void normcore_context_destroy(normcore_context *ctx) {
    if (!ctx) return;
    drop_pool(ctx);
    for (int i = 0; i < MAX_BLOCKS; i++) release(ctx, ctx->blocks[i].memory);
    release(ctx, ctx);
}

/* A flag that a forked child inherits from another thread of its parent is stale, and is taken over. */
static int try_enter(normcore_context *ctx) {
    long holder = 0;
    const long process = normcore_threads_process();
    while (!__atomic_compare_exchange_n(&ctx->busy, &holder, process, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        if (holder == process) return 0;
    return 1;
}

static void leave(normcore_context *ctx) { __atomic_store_n(&ctx->busy, 0, __ATOMIC_RELEASE); }

normcore_status normcore_context_set_num_threads(normcore_context *ctx, size_t num_threads) {
    if (!ctx) return NORMCORE_ERROR_NULL;
    if (num_threads > NORMCORE_MAX_THREADS) return NORMCORE_ERROR_VALUE;
    if (!num_threads) num_threads = normcore_threads_available();
    if (num_threads == ctx->num_threads) return NORMCORE_OK;
    /* A call in progress keeps its pool; the number counts from the next one on. */
    const int entered = try_enter(ctx);
    if (!entered) return NORMCORE_ERROR_THREAD;
    drop_pool(ctx);
    ctx->num_threads = num_threads;
    leave(ctx);
    return NORMCORE_OK;
}

size_t normcore_context_get_num_threads(const normcore_context *ctx) { return ctx ? ctx->num_threads : 1; }

/* ------------------------------------------------------------------------------------------------ calls */

normcore_status normcore_call_run(normcore_context *ctx, call_body body, void *arguments) {
    const isa_row *isa = normcore_isa_in_use(ctx ? ctx->isa_cap : NULL);
    return isa ? normcore_call_run_on(isa, ctx, body, arguments) : NORMCORE_ERROR_ISA;
}

normcore_status normcore_call_run_on(const isa_row *isa, normcore_context *ctx, call_body body, void *arguments) {
    call c;
    c.settings = ctx;
    c.isa = isa;
    c.ctx = ctx && try_enter(ctx) ? ctx : NULL;
    c.used = 0;
    const fp_environment saved = fp_environment_enter();
    const normcore_status status = body(&c, arguments);
    fp_environment_leave(saved);
    normcore_call_release(&c, 0);
    if (c.ctx) leave(c.ctx);
    return status;
}

const isa_row *normcore_call_isa(const call *call) { return call->isa; }

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
    if (!call->ctx) {
        b->memory = NULL;
        b->size = 0;
    }
    if (b->size < bytes) {
        release(call->settings, b->memory);
        b->size = 0;
        b->memory = allocate(call->settings, bytes + ALIGNMENT);
        if (!b->memory) return NULL;
        b->size = bytes;
    }
    call->used++;
    return (void *)(((uintptr_t)b->memory + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

/*
 * Waking and joining a thread costs 57 to 85 us on a virtual machine, so that each must have several times that to
 * do.
 */
enum { WORTH_A_THREAD_NS = 250000 };

size_t normcore_call_threads(const call *call, double nanoseconds) {
    if (!call->ctx || call->ctx->num_threads == 1 || nanoseconds < 2.0 * WORTH_A_THREAD_NS) return 1;
    const double worth = nanoseconds / WORTH_A_THREAD_NS;
    return worth < (double)call->ctx->num_threads ? (size_t)worth : call->ctx->num_threads;
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
            ctx->parallel_for(ctx->parallel_user, run_guarded, &g, count);
            return;
        }
        if (!ctx->pool) {
            /* Without memory for a pool the caller does all the work itself: the same bits, later. */
            thread_pool *pool = allocate(ctx, normcore_threads_size(ctx->num_threads));
            if (pool && !normcore_threads_create(pool, ctx->num_threads)) {
                release(ctx, pool);
                pool = NULL;
            }
            ctx->pool = pool;
        }
        if (ctx->pool) {
            normcore_threads_run(ctx->pool, body, arg, count);
            return;
        }
    }
    for (size_t i = 0; i < count; i++) body(arg, i);
}
