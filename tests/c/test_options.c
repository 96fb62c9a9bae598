/* Structs of options of callers that were compiled with the header of another version. */
#include "harness.h"

#include <string.h>

#include "runtime/options.c" /* for its way of reading and writing a struct that has grown, of which there is none yet */

#define EACH(list) (sizeof(list) / sizeof *(list))

enum { ROOM = 2 * LARGEST_SIZE, FILLING = 0xa5 };

/* ---------------------------------------------------------------- the structs */

static normcore_status defaults_context(void *o, size_t size) { return normcore_context_defaults(o, size); }
static normcore_status defaults_cross_entropy(void *o, size_t size) { return normcore_cross_entropy_defaults(o, size); }
static normcore_status defaults_loss(void *o, size_t size) { return normcore_loss_defaults(o, size); }
static normcore_status defaults_batch_norm(void *o, size_t size) { return normcore_batch_norm_defaults(o, size); }
static normcore_status defaults_optimizer(void *o, size_t size) {
    return normcore_optimizer_defaults(NORMCORE_ADAM, o, size);
}
static normcore_status defaults_mlp(void *o, size_t size) { return normcore_mlp_defaults(o, size); }
static normcore_status defaults_mlp_loss(void *o, size_t size) { return normcore_mlp_loss_defaults(o, size); }

/* An operation with these options, whatever their size. */
static normcore_status use_context(const void *o) {
    normcore_context *ctx = NULL;
    const normcore_status status = normcore_context_create(o, &ctx);
    CHECK((status == NORMCORE_OK) == (ctx != NULL));
    normcore_context_destroy(ctx);
    return status;
}

static normcore_status use_cross_entropy(const void *o) {
    const real logits[2] = {1, 2};
    const int64_t label = 1;
    double loss = 7;
    const normcore_status status =
        T(normcore_cross_entropy)(NULL, 1, 2, logits, 2, &label, NULL, 0, o, &loss, NULL, 0, NULL, NULL);
    CHECK((status == NORMCORE_OK) == (loss != 7));
    return status;
}

static normcore_status use_loss(const void *o) {
    const real y = 3, t = 1;
    double loss = 7;
    const normcore_status status = T(normcore_squared_error)(NULL, 1, 1, &y, 1, &t, 1, o, &loss, NULL, 0, NULL, NULL);
    CHECK((status == NORMCORE_OK) == (loss != 7));
    return status;
}

static normcore_status use_batch_norm(const void *o) {
    const real x[2] = {1, 3}, gamma = 1, beta = 0;
    real y[2] = {7, 7};
    double mean, rstd;
    const normcore_status status =
        T(normcore_batch_norm_forward)(NULL, 2, 1, x, 1, &gamma, &beta, o, NULL, NULL, y, 1, &mean, &rstd);
    CHECK((status == NORMCORE_OK) == (y[0] != 7));
    return status;
}

static normcore_status use_optimizer(const void *o) {
    real p = 7, g = 1, m = 0, s = 0;
    const normcore_status status = T(normcore_optimizer_update)(NULL, o, 1, &p, &g, &m, &s);
    CHECK((status == NORMCORE_OK) == (p != 7));
    return status;
}

static normcore_status use_mlp(const void *o) {
    normcore_mlp *mlp = NULL;
    const normcore_status status = normcore_mlp_create(o, &mlp);
    CHECK((status == NORMCORE_OK) == (mlp != NULL));
    normcore_mlp_destroy(mlp);
    return status;
}

static normcore_status use_mlp_loss(const void *o) {
    static const size_t sizes[2] = {1, 2};
    const real x = 1, params[4] = {1, 2, 3, 4};
    const int64_t label = 1;
    real grads[4];
    double loss = 7;
    normcore_mlp_options shape;
    normcore_mlp *mlp;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_defaults(&shape, sizeof shape));
    shape.sizes = sizes;
    shape.num_sizes = 2;
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_create(&shape, &mlp));
    const normcore_status status = T(normcore_mlp_loss_and_grads)(NULL, mlp, 1, &x, 1, &label, NULL, 0, o, 0, 0, params,
                                                                  NULL, grads, &loss, NULL, NULL);
    CHECK((status == NORMCORE_OK) == (loss != 7));
    normcore_mlp_destroy(mlp);
    return status;
}

static const struct options_kind {
    const char *name;
    size_t first_size, size;
    normcore_status (*defaults)(void *options, size_t size);
    normcore_status (*use)(const void *options);
} kinds[] = {
#define KIND(name) {#name, FIRST_SIZE_##name, sizeof(normcore_##name##_options), defaults_##name, use_##name}
    KIND(context), KIND(cross_entropy), KIND(loss), KIND(batch_norm), KIND(optimizer), KIND(mlp), KIND(mlp_loss),
};

/* What has no default. */
static void complete(const struct options_kind *kind, void *options) {
    static const size_t sizes[2] = {3, 2};
    if (strcmp(kind->name, "mlp") != 0) return;
    normcore_mlp_options *const o = options;
    o->sizes = sizes;
    o->num_sizes = 2;
}

static int is_filled(const unsigned char *bytes, size_t first, size_t last, unsigned char value) {
    for (size_t i = first; i < last; i++)
        if (bytes[i] != value) return 0;
    return 1;
}

/* ---------------------------------------------------------------- tests */

static void test_defaults_of_every_size(void) {
    unsigned char *const bytes = scratch_alloc(ROOM), *const full = scratch_alloc(ROOM);
    for (size_t k = 0; k < EACH(kinds); k++) {
        const struct options_kind *kind = &kinds[k];
        CHECK_STATUS(NORMCORE_OK, kind->defaults(full, kind->size));
        CHECK_STATUS(NORMCORE_ERROR_NULL, kind->defaults(NULL, kind->size));
        for (size_t size = 0; size <= LARGEST_SIZE + 1; size++) {
            size_t said;
            harness_note("%s, %lu bytes", kind->name, (unsigned long)size);
            memset(bytes, FILLING, ROOM);
            const int allowed = size >= kind->first_size && size <= LARGEST_SIZE;
            CHECK_STATUS(allowed ? NORMCORE_OK : NORMCORE_ERROR_VALUE, kind->defaults(bytes, size));
            CHECK(is_filled(bytes, allowed ? size : 0, ROOM, FILLING));
            if (!allowed) continue;
            memcpy(&said, bytes, sizeof said);
            CHECK(said == size);
            CHECK(memcmp(bytes + sizeof said, full + sizeof said, kind->first_size - sizeof said) == 0);
            CHECK(size <= kind->size || is_filled(bytes, kind->size, size, 0));
        }
        memset(bytes, FILLING, ROOM);
        CHECK_STATUS(NORMCORE_ERROR_VALUE, kind->defaults(bytes, SIZE_MAX));
        CHECK(is_filled(bytes, 0, ROOM, FILLING));
    }
    CHECK_STATUS(NORMCORE_ERROR_VALUE,
                 normcore_optimizer_defaults((normcore_optimizer)(NORMCORE_ADAM + 1), (void *)bytes, ROOM / 2));
    CHECK(is_filled(bytes, 0, ROOM, FILLING));
    guard_reset();
}

/* Each at the end of what may be read. */
static void test_use_of_every_size(void) {
    for (size_t k = 0; k < EACH(kinds); k++) {
        const struct options_kind *kind = &kinds[k];
        unsigned char full[LARGEST_SIZE + 1];
        memset(full, 0, sizeof full);
        CHECK_STATUS(NORMCORE_OK, kind->defaults(full, kind->size));
        complete(kind, full);
        for (size_t size = sizeof(size_t); size <= LARGEST_SIZE + 1; size += size < 2 * kind->size ? 1 : 509) {
            const size_t padded = (size + 15) / 16 * 16; /* for the alignment of its fields */
            unsigned char *const bytes = guard_alloc(padded);
            harness_note("%s, %lu bytes", kind->name, (unsigned long)size);
            memcpy(bytes, full, size < sizeof full ? size : sizeof full);
            memcpy(bytes, &size, sizeof size);
            const int allowed = size >= kind->first_size && size <= LARGEST_SIZE;
            CHECK_STATUS(allowed ? NORMCORE_OK : NORMCORE_ERROR_VALUE, kind->use(bytes));
            for (size_t i = kind->size; allowed && i < size; i += i + 1 == size ? 1 : (size - i) / 2 + (size - i) % 2) {
                bytes[i] = 1; /* the field of a version to come: not to be passed over */
                CHECK_STATUS(NORMCORE_ERROR_VALUE, kind->use(bytes));
                bytes[i] = 0;
            }
            guard_reset();
        }
        /* A size that has not been set: nothing is read up to it. */
        unsigned char *const bytes = guard_alloc((kind->size + 15) / 16 * 16);
        for (size_t bit = 13; bit < 8 * sizeof(size_t); bit++) {
            const size_t size = (size_t)1 << bit;
            memcpy(bytes, full, kind->size);
            memcpy(bytes, &size, sizeof size);
            CHECK_STATUS(NORMCORE_ERROR_VALUE, kind->use(bytes));
        }
        guard_reset();
    }
}

/* Two versions of a struct, and both ways from one to the other. */
typedef struct version1 {
    size_t struct_size;
    double a;
    int b;
} version1;
typedef struct version2 {
    version1 old;
    double c;
    const void *d;
} version2;

static void test_a_struct_that_has_grown(void) {
    /* As from another file: inlined, gcc warns of the copy of a size that the struct says it has not. */
    normcore_status (*volatile read)(const void *, size_t, void *, size_t) = read_options;
    const size_t first = offsetof(version1, b) + sizeof(int);
    version1 caller = {sizeof caller, 1.5, 7};
    version2 full, back;
    memset(&full, FILLING, sizeof full);
    CHECK_STATUS(NORMCORE_OK, read(&caller, first, &full, sizeof full));
    CHECK(full.old.struct_size == sizeof full && full.old.a == 1.5 && full.old.b == 7);
    CHECK(full.c == 0 && full.d == NULL);

    /* The library is the older one. */
    memset(&back, 0, sizeof back);
    back.old.struct_size = sizeof back;
    back.old.a = 2.5;
    back.old.b = 8;
    CHECK_STATUS(NORMCORE_OK, read(&back, first, &caller, sizeof caller));
    CHECK(caller.struct_size == sizeof caller && caller.a == 2.5 && caller.b == 8);
    back.c = 1;
    CHECK_STATUS(NORMCORE_ERROR_VALUE, read(&back, first, &caller, sizeof caller));

    /* Defaults of a newer library for an older caller, and the other way round. */
    struct {
        version1 options;
        unsigned char behind[64];
    } old;
    full.old.a = 3.5;
    full.c = 9;
    memset(&old, FILLING, sizeof old);
    CHECK_STATUS(NORMCORE_OK, write_options(&full, sizeof full, first, &old.options, sizeof old.options));
    CHECK(old.options.struct_size == sizeof old.options && old.options.a == 3.5 && old.options.b == 7);
    CHECK(is_filled(old.behind, 0, sizeof old.behind, FILLING));
    memset(&back, FILLING, sizeof back);
    CHECK_STATUS(NORMCORE_OK, write_options(&caller, sizeof caller, first, &back, sizeof back));
    CHECK(back.old.struct_size == sizeof back && back.old.a == 2.5 && back.old.b == 8);
    CHECK(back.c == 0 && back.d == NULL);
}

/* As the header has them; what it does not name is 0. */
static void test_documented_defaults(void) {
    normcore_context_options context;
    normcore_cross_entropy_options loss;
    normcore_batch_norm_options norm;
    normcore_optimizer_options update;
    normcore_mlp_options mlp;
    normcore_mlp_loss_options which;
    CHECK_STATUS(NORMCORE_OK, normcore_context_defaults(&context, sizeof context));
    CHECK(context.num_threads == 0 && !context.allocate && !context.release && !context.parallel_for && !context.isa);
    CHECK_STATUS(NORMCORE_OK, normcore_cross_entropy_defaults(&loss, sizeof loss));
    CHECK(!loss.class_weight && !loss.sample_weight && loss.label_smoothing == 0 && loss.reduction == 0);
    CHECK_STATUS(NORMCORE_OK, normcore_batch_norm_defaults(&norm, sizeof norm));
    CHECK(norm.training == 1 && norm.momentum == 0.9 && norm.eps == 1e-5 && norm.unbiased_running_var == 0);
    for (int i = 0; i <= NORMCORE_ADAM; i++) {
        CHECK_STATUS(NORMCORE_OK, normcore_optimizer_defaults((normcore_optimizer)i, &update, sizeof update));
        CHECK((int)update.optimizer == i && update.learning_rate == 1e-3 && update.momentum == 0.9);
        CHECK(update.decay_rate == 0.99 && update.beta1 == 0.9 && update.beta2 == 0.999 && update.eps == 1e-8);
        CHECK(update.gradient_scale == 1 && update.l2 == 0 && update.weight_decay == 0 && update.step == 1);
    }
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_defaults(&mlp, sizeof mlp));
    CHECK(mlp.keep == 1 && mlp.momentum == 0.9 && mlp.eps == 1e-5 && mlp.unbiased_running_var == 0);
    CHECK(!mlp.sizes && mlp.num_sizes == 0);
    CHECK_STATUS(NORMCORE_OK, normcore_mlp_loss_defaults(&which, sizeof which));
    CHECK(which.loss == NORMCORE_LOSS_CROSS_ENTROPY && !which.cross_entropy && !which.numeric);
}

#if UINTPTR_MAX == 0xffffffffffffffffu
/* From the first byte to the end of the last field that version 0.1 has: less no caller has, whatever has been added. */
static void test_first_sizes(void) {
    static const size_t sizes[] = {64, 52, 40, 36, 96, 60, 32};
    CHECK(LARGEST_SIZE == 4096);
    for (size_t k = 0; k < EACH(kinds); k++) {
        harness_note("%s", kinds[k].name);
        CHECK(kinds[k].first_size == sizes[k]);
    }
}
#endif

int main(int argc, char **argv) {
    static const test tests[] = {
        {"defaults_of_every_size", test_defaults_of_every_size},
        {"use_of_every_size", test_use_of_every_size},
        {"documented_defaults", test_documented_defaults},
#if UINTPTR_MAX == 0xffffffffffffffffu
        {"first_sizes", test_first_sizes},
#endif
        {"a_struct_that_has_grown", test_a_struct_that_has_grown},
    };
    return harness_main(argc, argv, tests, EACH(tests));
}
