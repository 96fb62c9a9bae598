/* What an operation runs in: kernels, scratch memory, threads, and the floating-point environment around all of it. */
#ifndef NORMCORE_CONTEXT_H
#define NORMCORE_CONTEXT_H

#include "normcore.h"

#include "runtime/dispatch.h"

/* One public call in progress. */
typedef struct call call;

/* The numeric part of an operation, after its arguments have been found good. */
typedef normcore_status (*call_body)(call *call, void *arguments);

/*
 * Runs body with the context's (or, for NULL, the process's) settings, inside the floating-point environment of the
 * contract. The body is reached through a pointer so that no compiler moves arithmetic out of that environment.
 */
normcore_status normcore_call_run(normcore_context *ctx, call_body body, void *arguments);
/* The same on a given target. */
normcore_status normcore_call_run_on(const isa_target *target, normcore_context *ctx, call_body body, void *arguments);

/* Kernel tables of this call. */
const isa_target *normcore_call_target(const call *call);

/*
 * count * size bytes, aligned to 64, until the mark taken before is released (or the call ends). NULL: out of memory.
 */
void *normcore_call_scratch(call *call, size_t count, size_t size);
size_t normcore_call_mark(const call *call);
void normcore_call_release(call *call, size_t mark);

/* How many threads are worth their waking for that much work, in rough nanoseconds of one thread. */
size_t normcore_call_threads(const call *call, double nanoseconds);
/* body(arg, i) for i in [0, count), on the context's threads; serially if `threads` or count is 1. */
void normcore_call_parallel(call *call, size_t threads, void (*body)(void *arg, size_t index), void *arg, size_t count);

#endif
