#include "operations.h"
#include "reference.h"

#include <math.h>
#include <string.h>

enum { KIND = 7, L2 = 8, DECAY = 16, SCALED = 32, LATE = 64 };

/* 0 p, 1 g, 2 slot1, 3 slot2 */
static void setup(call *c) {
    const int variant = c->operation->variant;
    const normcore_optimizer kind = (normcore_optimizer)(variant & KIND);
    CHECK_STATUS(NORMCORE_OK, normcore_optimizer_defaults(kind, &c->optimizer, sizeof c->optimizer));
    c->optimizer.learning_rate = 0.013;
    c->optimizer.l2 = variant & L2 ? 0.02 : 0;
    c->optimizer.weight_decay = variant & DECAY ? 0.3 : 0;
    c->optimizer.gradient_scale = variant & SCALED ? 0.37 : 1;
    c->optimizer.step = variant & LATE ? 1000 : 1 + c->number % 5;
    add_vector(c, INOUT, c->n);
    add_vector(c, INPUT, c->n);
    if (kind == NORMCORE_MOMENTUM || kind == NORMCORE_NESTEROV || kind == NORMCORE_ADAM)
        add_vector(c, INOUT, c->n);
    else
        add_absent(c);
    if (kind == NORMCORE_RMSPROP || kind == NORMCORE_ADAM)
        add_vector(c, INOUT, c->n);
    else
        add_absent(c);
    for (size_t i = 0; c->flavour == PLAIN && c->a[3].data && i < c->n; i++)
        POINTER(3)[i] = c->number % 2 ? (real)fabsl((wide)POINTER(3)[i]) : 0;
    /* No gradient at all: adaptive steps divide 0 by eps. Never with l2, which would make it one of rounding. */
    for (size_t i = 0; c->flavour == PLAIN && !(variant & L2) && i < c->n; i += 7) POINTER(1)[i] = 0;
}

static normcore_status run(const call *c, normcore_context *ctx) {
    return T(normcore_optimizer_update)(ctx, &c->optimizer, c->n, POINTER(0), POINTER(1), POINTER(2), POINTER(3));
}

static void verify(const call *c) {
    wide *p = scratch_wide(c->n), *slot1 = scratch_wide(c->n), *slot2 = scratch_wide(c->n);
    wide *p_error = scratch_wide(c->n), *slot1_error = scratch_wide(c->n), *slot2_error = scratch_wide(c->n);
    for (size_t i = 0; i < c->n; i++) {
        const reference_element e = reference_optimizer(
            &c->optimizer, array_initial_at(&c->a[0], 0, i), array_at(&c->a[1], 0, i),
            c->a[2].data ? array_initial_at(&c->a[2], 0, i) : 0, c->a[3].data ? array_initial_at(&c->a[3], 0, i) : 0);
        p[i] = e.p;
        slot1[i] = e.slot1;
        slot2[i] = e.slot2;
        p_error[i] = e.p_error;
        slot1_error[i] = e.slot1_error;
        slot2_error[i] = e.slot2_error;
    }
    check_near(c, 0, p, p_error);
    if (c->a[2].data) check_near(c, 2, slot1, slot1_error);
    if (c->a[3].data) check_near(c, 3, slot2, slot2_error);
}

/* 0 x, 1 result */
static void setup_squares(call *c) {
    add_vector(c, INPUT, c->n);
    add_doubles(c, OUTPUT, 1, 0, 0, 0);
}

static normcore_status run_squares(const call *c, normcore_context *ctx) {
    return T(normcore_sum_of_squares)(ctx, c->n, POINTER(0), DOUBLES(1));
}

static void verify_squares(const call *c) {
    wide sum = 0;
    for (size_t i = 0; i < c->n; i++) sum += array_at(&c->a[0], 0, i) * array_at(&c->a[0], 0, i);
    /* Any order of adding terms that are not negative. */
    const wide tolerance = ((wide)c->n + 1) * UD * sum;
    check_near(c, 1, &sum, &tolerance);
}

#define OPERATION(name, variant)                                                                                       \
    {                                                                                                                  \
        name, variant, ONE_ROW, setup, run, verify, {{0, 0}}                                                           \
    }

static const operation operations[] = {
    OPERATION("sgd", NORMCORE_SGD),
    OPERATION("sgd, l2, scaled", NORMCORE_SGD | L2 | SCALED),
    OPERATION("sgd, weight decay", NORMCORE_SGD | DECAY),
    OPERATION("momentum", NORMCORE_MOMENTUM),
    OPERATION("momentum, l2", NORMCORE_MOMENTUM | L2),
    OPERATION("nesterov", NORMCORE_NESTEROV),
    OPERATION("nesterov, weight decay, scaled", NORMCORE_NESTEROV | DECAY | SCALED),
    OPERATION("rmsprop", NORMCORE_RMSPROP),
    OPERATION("rmsprop, l2, scaled", NORMCORE_RMSPROP | L2 | SCALED),
    OPERATION("adam", NORMCORE_ADAM),
    OPERATION("adam, l2, step 1000", NORMCORE_ADAM | L2 | LATE),
    OPERATION("adamw", NORMCORE_ADAM | DECAY | SCALED),
    {"sum_of_squares", 0, ONE_ROW, setup_squares, run_squares, verify_squares, {{0, 0}}},
};

operation_list optimizer_operations(void) {
    const operation_list list = {operations, sizeof operations / sizeof *operations};
    return list;
}
