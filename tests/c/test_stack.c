#define _GNU_SOURCE /* MAP_ANONYMOUS */
/* How much stack a call takes, from the caller's frame to the deepest: measured on a stack that was painted before. */
#include "operations.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

/*
 * MOST_BYTES, of the build, is for a call with its kernels and the C library's allocator, CALLERS for the two functions of
 * this program above it. The trees over chunks of the batch are recursive: each doubling of the rows beyond those here
 * adds a frame of theirs, less than 300 bytes.
 */
enum { CALLERS = 256 };
enum { STACK = 1 << 18, PAINT = 0x5a };

typedef struct visit {
    const call *c;
    normcore_context *ctx;
    normcore_status status;
    const unsigned char *top; /* an address in the caller's frame */
} visit;

static void *visit_run(void *argument) {
    visit *v = argument;
    unsigned char here = 0;
    v->top = &here;
    v->status = v->c->operation->run(v->c, v->ctx);
    return v->top == &here ? NULL : argument;
}

static size_t stack_of(call *c, normcore_context *ctx, unsigned char *stack) {
    visit v = {c, ctx, NORMCORE_ERROR_MEMORY, NULL};
    pthread_attr_t attributes;
    pthread_t thread;
    memset(stack, PAINT, STACK);
    call_restore(c);
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstack(&attributes, stack, STACK) == 0);
    CHECK(pthread_create(&thread, &attributes, visit_run, &v) == 0 && pthread_join(thread, NULL) == 0);
    pthread_attr_destroy(&attributes);
    CHECK_STATUS(NORMCORE_OK, v.status);
    size_t untouched = 0;
    while (stack[untouched] == PAINT) untouched++;
    return (size_t)(v.top - stack) - untouched;
}

static void test_every_operation(void) {
    unsigned char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    normcore_context_options options;
    normcore_context *ctx = NULL;
    const operation *o;
    size_t most = 0;
    CHECK(stack != MAP_FAILED);
    CHECK_STATUS(NORMCORE_OK, normcore_context_defaults(&options, sizeof options));
    options.num_threads = 1;
    CHECK_STATUS(NORMCORE_OK, normcore_context_create(&options, &ctx));
    for (size_t index = 0; (o = operation_get(index)) != NULL; index++) {
        call c;
        call_prepare(&c, o, o->flags & ONE_ROW ? 3001 : 601, /* several chunks, and a part of one */
                     61, 41, PLAIN, index, 1, GUARD_AFTER);
        for (size_t isa = 0; isa < isa_count(); isa++) {
            isa_use(isa);
            harness_note("%s on %s", o->name, isa_get(isa));
            CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL)); /* the dynamic linker has its turn */
            const size_t alone = stack_of(&c, NULL, stack), with = stack_of(&c, ctx, stack);
            const size_t bytes = alone > with ? alone : with;
            harness_count(1);
            if (bytes > MOST_BYTES + CALLERS)
                harness_fail(__FILE__, __LINE__, "%lu bytes of stack, more than %d", (unsigned long)bytes,
                             MOST_BYTES + CALLERS);
            most = bytes > most ? bytes : most;
        }
        isa_reset();
        guard_reset();
    }
    CHECK(most > 1000); /* otherwise nothing has been measured */
    normcore_context_destroy(ctx);
    munmap(stack, STACK);
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"every_operation", test_every_operation},
    };
    return harness_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
