/* What runtime/context.h gives to operations: scratch memory and threads. Of the core's inside, seen from there. */
#include "harness.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/context.h"

enum { BLOCKS = 16, ALIGNMENT = 64 }; /* as context.c has them: operations rely on both */

#define EACH(list) (sizeof(list) / sizeof *(list))

typedef struct counted {
    size_t asked, last; /* calls of the allocator, and the size of the last */
    size_t loops;       /* calls of parallel_for */
} counted;

static void *counting_allocate(void *user, size_t size) {
    counted *const seen = user;
    seen->asked++;
    seen->last = size;
    return size < SIZE_MAX / 2 ? malloc(size) : NULL;
}

static void counting_release(void *user, void *memory) {
    (void)user;
    free(memory);
}

static void counting_parallel_for(void *user, void (*body)(void *, size_t), void *arg, size_t count) {
    counted *const seen = user;
    seen->loops++;
    for (size_t i = 0; i < count; i++) body(arg, i);
}

static normcore_context *context_that_counts(counted *seen) {
    normcore_context_options options;
    normcore_context *ctx = NULL;
    CHECK_STATUS(NORMCORE_OK, normcore_context_defaults(&options, sizeof options));
    options.num_threads = 4;
    options.allocate = counting_allocate;
    options.release = counting_release;
    options.allocator_user = seen;
    options.parallel_for = counting_parallel_for;
    options.parallel_user = seen;
    CHECK_STATUS(NORMCORE_OK, normcore_context_create(&options, &ctx));
    return ctx;
}

static normcore_status take_scratch(call *c, void *arguments) {
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096};
    const size_t mark = normcore_call_mark(c);
    (void)arguments;
    for (size_t i = 0; i < BLOCKS; i++) {
        const size_t size = sizes[i % EACH(sizes)];
        unsigned char *const memory = normcore_call_scratch(c, 1, size);
        if (!memory) return NORMCORE_ERROR_MEMORY;
        CHECK((uintptr_t)memory % ALIGNMENT == 0);
        memset(memory, 0xa5, size);
    }
    CHECK(normcore_call_scratch(c, 1, 1) == NULL); /* no call has more blocks */
    normcore_call_release(c, mark);
    return NORMCORE_OK;
}

static void test_scratch(void) {
    counted seen = {0, 0, 0};
    normcore_context *ctx = context_that_counts(&seen);
    for (int with = 0; with < 2; with++)
        CHECK_STATUS(NORMCORE_OK, normcore_call_run(with ? ctx : NULL, take_scratch, NULL));
    const size_t asked = seen.asked;
    CHECK_STATUS(NORMCORE_OK, normcore_call_run(ctx, take_scratch, NULL));
    CHECK(seen.asked == asked); /* blocks are kept, and one that fits exactly is not made anew */
    normcore_context_destroy(ctx);
}

static normcore_status take_too_much(call *c, void *arguments) {
    counted *const seen = arguments;
    size_t asked = seen->asked;
    CHECK(normcore_call_scratch(c, SIZE_MAX - ALIGNMENT, 1) == NULL);
    CHECK(seen->asked == asked + 1 && seen->last == SIZE_MAX); /* the most that has a size: the allocator decides */
    asked = seen->asked;
    CHECK(normcore_call_scratch(c, SIZE_MAX - ALIGNMENT + 1, 1) == NULL);
    CHECK(normcore_call_scratch(c, SIZE_MAX / 8, 16) == NULL);
    CHECK(seen->asked == asked);
    return NORMCORE_OK;
}

static void test_scratch_of_no_size(void) {
    counted seen = {0, 0, 0};
    normcore_context *ctx = context_that_counts(&seen);
    CHECK_STATUS(NORMCORE_OK, normcore_call_run(ctx, take_too_much, &seen));
    normcore_context_destroy(ctx);
}

static void count_task(void *arg, size_t index) { ((size_t *)arg)[index]++; }

static normcore_status share_work(call *c, void *arguments) {
    counted *const seen = arguments;
    size_t done[3] = {0, 0, 0};
    normcore_call_parallel(c, 4, count_task, done, 0);
    normcore_call_parallel(c, 4, count_task, done, 1);
    normcore_call_parallel(c, 1, count_task, done, 3);
    CHECK(seen->loops == 0); /* nothing to share, or nobody to share it with */
    normcore_call_parallel(c, 2, count_task, done, 2);
    CHECK(seen->loops == 1);
    CHECK(done[0] == 3 && done[1] == 2 && done[2] == 1);
    CHECK(normcore_call_threads(c, 0) == 1 && normcore_call_threads(c, 1e12) == 4);
    return NORMCORE_OK;
}

static void test_threads_of_a_call(void) {
    counted seen = {0, 0, 0};
    normcore_context *ctx = context_that_counts(&seen);
    CHECK_STATUS(NORMCORE_OK, normcore_call_run(ctx, share_work, &seen));
    normcore_context_destroy(ctx);
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"scratch", test_scratch},
        {"scratch_of_no_size", test_scratch_of_no_size},
        {"threads_of_a_call", test_threads_of_a_call},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
