/* Cases at the edges: options of a size there never was, outputs left out, few long rows, a network that is not there. */
#include "operations.h"
#include "properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EACH(list)            (sizeof(list) / sizeof *(list))
#define FOR_EACH_OPERATION(o) for (size_t index_ = 0; (o = operation_get(index_)) != NULL; index_++)

static normcore_context *context_of(size_t threads, normcore_parallel_for parallel_for, void *user) {
    normcore_context_options options;
    normcore_context *ctx = NULL;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.num_threads = threads;
    options.parallel_for = parallel_for;
    options.parallel_user = user;
    CHECK_STATUS(NORMCORE_OK, normcore_context_create(&options, &ctx));
    return ctx;
}

/* A structure that nobody gave a size: its fields are not looked at. */
static void test_options_without_a_size(void) {
    const operation *o;
    size_t tried = 0;
    FOR_EACH_OPERATION(o) {
        call c;
        call_prepare(&c, o, 37, 19, 11, PLAIN, next_number(), 1, GUARD_AFTER);
        harness_note("%s", o->name);
        size_t *const sizes[] = {&c.cross_entropy.struct_size, &c.loss.struct_size, &c.batch_norm.struct_size,
                                 &c.optimizer.struct_size};
        for (size_t i = 0; i < EACH(sizes); i++) {
            if (!*sizes[i]) continue; /* not an argument of this operation */
            *sizes[i] = 0;
            const normcore_status status = o->run(&c, NULL);
            if (status == NORMCORE_OK) continue; /* this variant passes NULL for its options */
            CHECK_STATUS(NORMCORE_ERROR_VALUE, status);
            CHECK(call_is_untouched(&c));
            tried++;
        }
        guard_reset();
    }
    CHECK(tried > 20);
    normcore_context_options context_options;
    normcore_mlp_options mlp_options;
    normcore_context *ctx = (normcore_context *)&context_options;
    normcore_mlp *mlp = (normcore_mlp *)&mlp_options;
    memset(&context_options, 0, sizeof context_options);
    memset(&mlp_options, 0, sizeof mlp_options);
    CHECK_STATUS(NORMCORE_ERROR_VALUE, normcore_context_create(&context_options, &ctx));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, normcore_mlp_create(&mlp_options, &mlp));
    CHECK(!ctx && !mlp);
}

static void test_a_network_that_is_not_there(void) {
    const real x[2] = {1, 2};
    const int64_t label = 0;
    real out[2] = {7, 7};
    double loss = 7;
    size_t bad_row = 7;
    normcore_mlp_segment segment;
    CHECK(normcore_mlp_parameter_count(NULL) == 0 && normcore_mlp_buffer_count(NULL) == 0);
    CHECK_STATUS(NORMCORE_ERROR_NULL, normcore_mlp_get_segment(NULL, 0, &segment));
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_mlp_initialize)(NULL, NULL, 1, 2, -1, out, out));
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_mlp_forward)(NULL, NULL, 1, x, 2, x, x, out, 2));
    CHECK_STATUS(NORMCORE_ERROR_NULL, T(normcore_mlp_loss_and_grads)(NULL, NULL, 1, x, 2, &label, NULL, 0, NULL, 1, 2,
                                                                     x, out, out, &loss, NULL, &bad_row));
    CHECK(out[0] == 7 && out[1] == 7 && loss == 7);
    normcore_mlp_destroy(NULL);
}

/* More parameters than an array can have: refused before anybody allocates one. */
static void test_networks_too_large(void) {
    static const size_t sizes[][3] = {{(size_t)1 << 31, (size_t)1 << 30, 1}, /* the product fits, its bytes do not */
                                      {SIZE_MAX, 2, 1},
                                      {SIZE_MAX / 2, 2, 3},
                                      {1, SIZE_MAX, 1}};
    for (size_t i = 0; i < EACH(sizes); i++) {
        normcore_mlp_options options;
        normcore_mlp *mlp = (normcore_mlp *)&options;
        memset(&options, 0, sizeof options);
        options.struct_size = sizeof options;
        options.num_sizes = 3;
        options.sizes = sizes[i];
        options.keep = 1;
        options.eps = 1e-5;
        options.momentum = 0.1;
        CHECK_STATUS(NORMCORE_ERROR_SIZE, normcore_mlp_create(&options, &mlp));
        CHECK(!mlp);
    }
}

static void test_ignored_labels_of_soft_targets(void) {
    const operation_list list = cross_entropy_operations();
    size_t tried = 0;
    for (size_t i = 0; i < list.count; i++) {
        call c;
        call_prepare(&c, &list.items[i], 37, 19, 11, PLAIN, next_number(), 1, GUARD_AFTER);
        if (!c.a[1].data) { /* no labels: targets */
            harness_note("%s", list.items[i].name);
            c.cross_entropy.has_ignore_index = 1;
            CHECK_STATUS(NORMCORE_ERROR_VALUE, list.items[i].run(&c, NULL));
            CHECK(call_is_untouched(&c));
            tried++;
        }
        guard_reset();
    }
    CHECK(tried > 1);
}

static void test_limits_of_random_values(void) {
    static const double limits[][2] = {{-(double)REAL_MAX, (double)REAL_MAX}, {1, 0}, {0, HUGE_VAL}, {-HUGE_VAL, 0}};
    real out[2] = {7, 7};
    for (size_t i = 0; i < EACH(limits); i++)
        CHECK_STATUS(NORMCORE_ERROR_VALUE,
                     T(normcore_random_uniform)(NULL, 1, 2, 3, 2, limits[i][0], limits[i][1], out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_random_uniform)(NULL, 1, 2, 3, 2, (double)NAN, 1, out));
    CHECK_STATUS(NORMCORE_ERROR_VALUE, T(normcore_random_uniform)(NULL, 1, 2, 3, 2, 0, (double)NAN, out));
    CHECK(out[0] == 7 && out[1] == 7);
    CHECK_STATUS(NORMCORE_OK, T(normcore_random_uniform)(NULL, 1, 2, 3, 2, 5, 5, out));
    CHECK(out[0] == 5 && out[1] == 5);
}

/* An output that nobody wants changes none of the others, of few rows or of many. */
static void test_outputs_left_out(void) {
    static const size_t rows[] = {1, 37, 700};
    const operation *o;
    size_t tried = 0;
    FOR_EACH_OPERATION(o) {
        if (!strstr(o->name, "_norm_backward") && !strstr(o->name, "affine_backward")) continue;
        for (size_t i = 0; i < EACH(rows); i++) {
            call c;
            call_prepare(&c, o, rows[i], 19, 11, PLAIN, next_number(), 1, GUARD_AFTER);
            CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
            for (size_t j = 0; j < c.count; j++) {
                call without = c;
                if (!c.a[j].data || c.a[j].role != OUTPUT) continue;
                harness_note("%s of %lu rows without argument %lu", o->name, (unsigned long)rows[i], (unsigned long)j);
                without.a[j].data = NULL;
                CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
                const snapshot base = call_snapshot(&without); /* the others of the whole call */
                CHECK_STATUS(NORMCORE_OK, call_run(&without, NULL));
                CHECK_SAME(&without, base, "with all outputs");
                tried++;
            }
            guard_reset();
        }
    }
    CHECK(tried > 20);
}

/* Enough work for more threads than there are rows (or columns) to share out. */
static void test_few_long_rows(void) {
    static const struct {
        size_t n, k, m;
    } shapes[] = {{3, 400003, 3}, {1, 900001, 2}, {1100, 2, 1400}, {1100, 1400, 2}};
    const operation *o;
    normcore_context *ctx = context_of(16, NULL, NULL);
    FOR_EACH_OPERATION(o) {
        if ((o->flags & ONE_ROW) || strstr(o->name, "mlp")) continue;
        for (size_t i = 0; i < EACH(shapes); i++) {
            if (i > 1 && !strstr(o->name, "affine")) continue;
            call c;
            call_prepare(&c, o, shapes[i].n, shapes[i].k, shapes[i].m, PLAIN, next_number(), 0, GUARD_AFTER);
            harness_note("%s n=%lu k=%lu m=%lu", o->name, (unsigned long)c.n, (unsigned long)c.k, (unsigned long)c.m);
            CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
            call_check(&c);
            const snapshot base = call_snapshot(&c);
            CHECK_STATUS(NORMCORE_OK, call_run(&c, ctx));
            CHECK_SAME(&c, base, "without a context");
            guard_reset();
        }
    }
    normcore_context_destroy(ctx);
}

/* A child that has no use for its parent's context, whose threads it does not have. */
static void test_destroying_a_context_after_a_fork(void) {
    normcore_context *ctx = context_of(3, NULL, NULL);
    call c;
    call_prepare(&c, &affine_operations().items[0], 1300, 500, 200, PLAIN, next_number(), 1, GUARD_AFTER);
    CHECK_STATUS(NORMCORE_OK, call_run(&c, ctx));
    const pid_t process = fork();
    if (process == 0) {
        alarm(60);
        normcore_context_destroy(ctx);
        _exit(0);
    }
    int status = -1;
    CHECK(process > 0 && waitpid(process, &status, 0) == process && status == 0);
    normcore_context_destroy(ctx);
}

/* Setting the number that there is already disturbs nobody: the threads stay. */
static void test_the_same_number_of_threads(void) {
    normcore_context *ctx = context_of(3, NULL, NULL);
    CHECK_STATUS(NORMCORE_OK, normcore_context_set_num_threads(ctx, 3));
    CHECK(normcore_context_get_num_threads(ctx) == 3);
    normcore_context_destroy(ctx);
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"options_without_a_size", test_options_without_a_size},
        {"a_network_that_is_not_there", test_a_network_that_is_not_there},
        {"networks_too_large", test_networks_too_large},
        {"ignored_labels_of_soft_targets", test_ignored_labels_of_soft_targets},
        {"limits_of_random_values", test_limits_of_random_values},
        {"outputs_left_out", test_outputs_left_out},
        {"few_long_rows", test_few_long_rows},
        {"destroying_a_context_after_a_fork", test_destroying_a_context_after_a_fork},
        {"the_same_number_of_threads", test_the_same_number_of_threads},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
