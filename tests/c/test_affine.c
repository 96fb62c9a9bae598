/* Affine maps: near the naive reference, equal to the contract's order of operations, exact on integers. */
#include "properties.h"
#include "reference.h"

#include <math.h>
#include <string.h>

#define EACH(list) (sizeof(list) / sizeof *(list))

/* The reference's order of operations rests on the C library's fma, of which there are wrong ones. */
static void test_fma_of_the_c_library(void) {
    CHECK(fmaf(0.9474001f, 4.639901e-7f, -0.24325085f) == -0x1.f22d46p-3f);
    CHECK(fmaf(-1.9369631e13f, 2.1513551e-7f, -1.7354427e-24f) == -4167095.75f);
    CHECK(fma(0x1.0000000000001p0, 0x1.0000000000001p0, -0x1.0000000000002p0) == 0x1p-104);
}

static void test_edges(void) {
    static const size_t edges[] = {0,  1,  2,  3,  4,  5,  6,  7,   8,   9,   10,  11,  12, 13,
                                   14, 15, 16, 17, 23, 24, 25, 31,  32,  33,  39,  40,  41, 47,
                                   48, 49, 63, 64, 65, 96, 97, 127, 128, 129, 255, 256, 257};
    const operation_list list = affine_operations();
    for (size_t i = 0; i < list.count; i++) {
        rng r = rng_new(i);
        for (size_t j = 0; j < EACH(edges); j++) {
            const size_t a = 1 + rng_below(&r, 20), b = 1 + rng_below(&r, 20);
            check_operation(&list.items[i], edges[j], a, b, next_number());
            check_operation(&list.items[i], a, edges[j], b, next_number());
            check_operation(&list.items[i], a, b, edges[j], next_number());
        }
    }
}

/* Around the blocks of 256 that the contract sums by, in each of the three sizes. */
static void test_blocks(void) {
    static const size_t edges[] = {511, 512, 513, 767, 769, 1024, 1025, 1281};
    const operation_list list = affine_operations();
    for (size_t i = 0; i < list.count; i++) {
        rng r = rng_new(100 + i);
        for (size_t j = 0; j < EACH(edges); j++) {
            const size_t a = 1 + rng_below(&r, 9), b = 1 + rng_below(&r, 33);
            check_operation(&list.items[i], edges[j], a, b, next_number());
            check_operation(&list.items[i], a, edges[j], b, next_number());
            check_operation(&list.items[i], a, b, edges[j], next_number());
        }
    }
}

/* All three sizes past a tile at once. */
static void test_tiles(void) {
    static const size_t shapes[][3] = {{65, 257, 65}, {129, 300, 33}, {33, 65, 129}, {40, 40, 520}, {300, 31, 100}};
    const operation_list list = affine_operations();
    for (size_t i = 0; i < list.count; i++)
        for (size_t j = 0; j < EACH(shapes); j++)
            check_operation(&list.items[i], shapes[j][0], shapes[j][1], shapes[j][2], next_number());
}

/* Sums of products of small integers are exact in any order, so nothing may be off at all. */
static void test_integers_are_exact(void) {
    static const size_t shapes[][3] = {{7, 9, 11}, {33, 513, 17}, {257, 40, 40}, {5, 1000, 3}};
    const operation_list list = affine_operations();
    for (size_t i = 0; i < list.count; i++)
        for (size_t j = 0; j < EACH(shapes); j++)
            check_flavour(&list.items[i], shapes[j][0], shapes[j][1], shapes[j][2], INTEGER, next_number());
}

static void test_no_inputs_give_the_bias(void) {
    const real b[] = {1, -2, (real)0.5, 0};
    real y[8], dx[1], dw[1], db[4];
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        memset(y, 0xff, sizeof y);
        CHECK_STATUS(NORMCORE_OK, T(normcore_affine_forward)(NULL, 2, 0, 4, NULL, 0, NULL, 4, b, 0, y, 4));
        for (size_t i = 0; i < 8; i++) CHECK(y[i] == b[i % 4]);
        CHECK_STATUS(NORMCORE_OK, T(normcore_affine_forward)(NULL, 2, 0, 4, NULL, 0, NULL, 4, b, 1, y, 4));
        for (size_t i = 0; i < 8; i++) CHECK(y[i] == (b[i % 4] > 0 ? b[i % 4] : 0));
        CHECK_STATUS(NORMCORE_OK, T(normcore_affine_forward)(NULL, 2, 0, 4, NULL, 0, NULL, 4, NULL, 0, y, 4));
        for (size_t i = 0; i < 8; i++) CHECK(y[i] == 0);
        CHECK_STATUS(NORMCORE_OK, T(normcore_affine_backward)(NULL, 2, 0, 4, y, 4, NULL, 0, NULL, 4, dx, 0, dw, 4, db));
        for (size_t i = 0; i < 4; i++) CHECK(db[i] == 0);
    }
}

/* The gradients of an empty batch are 0, and its inputs are not needed. */
static void test_no_rows(void) {
    const real w[6] = {1, 2, 3, 4, 5, 6}, b[3] = {1, 2, 3};
    real dw[6], db[3];
    for (size_t isa = 0; isa < isa_count(); isa++) {
        isa_use(isa);
        memset(dw, 0xff, sizeof dw);
        memset(db, 0xff, sizeof db);
        CHECK_STATUS(NORMCORE_OK, T(normcore_affine_forward)(NULL, 0, 2, 3, NULL, 2, w, 3, b, 0, NULL, 3));
        CHECK_STATUS(NORMCORE_OK,
                     T(normcore_affine_backward)(NULL, 0, 2, 3, NULL, 3, NULL, 2, w, 3, NULL, 2, dw, 3, db));
        for (size_t i = 0; i < 6; i++) CHECK(dw[i] == 0);
        for (size_t i = 0; i < 3; i++) CHECK(db[i] == 0);
    }
}

static void test_relu_is_fused_exactly(void) {
    const operation_list list = affine_operations();
    for (size_t isa = 0; isa < isa_count(); isa++) {
        call c;
        isa_use(isa);
        call_prepare(&c, &list.items[2], 19, 23, 21, SPECIAL, next_number(), 1, GUARD_AFTER);
        CHECK(strcmp(c.operation->name, "affine_forward with relu") == 0);
        CHECK_STATUS(NORMCORE_OK, call_run(&c, NULL));
        const snapshot fused = call_snapshot(&c);
        CHECK_STATUS(NORMCORE_OK, T(normcore_affine_forward)(NULL, 19, 23, 21, (real *)c.a[0].data, c.a[0].stride,
                                                             (real *)c.a[1].data, c.a[1].stride, (real *)c.a[2].data, 0,
                                                             (real *)c.a[3].data, c.a[3].stride));
        CHECK_STATUS(NORMCORE_OK,
                     T(normcore_activation_forward)(NULL, NORMCORE_ACTIVATION_RELU, 0, 19, 21, (real *)c.a[3].data,
                                                    c.a[3].stride, (real *)c.a[3].data, c.a[3].stride));
        CHECK_SAME(&c, fused, "with ReLU fused");
        guard_reset();
    }
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"fma_of_the_c_library", test_fma_of_the_c_library},
        {"edges", test_edges},
        {"blocks", test_blocks},
        {"tiles", test_tiles},
        {"integers_are_exact", test_integers_are_exact},
        {"no_inputs_give_the_bias", test_no_inputs_give_the_bias},
        {"no_rows", test_no_rows},
        {"relu_is_fused_exactly", test_relu_is_fused_exactly},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
