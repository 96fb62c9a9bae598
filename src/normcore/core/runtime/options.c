/* Default options, and options of callers that were compiled with another version's header. */
#include "numeric/guards.h"

#include "runtime/options.h"

#include <string.h>

/* Far more than a struct of options will ever have: a greater size has not been set. */
enum { LARGEST_SIZE = 4096 };

static normcore_status check_size(size_t size, size_t first_size) {
    return size >= first_size && size <= LARGEST_SIZE ? NORMCORE_OK : NORMCORE_ERROR_VALUE;
}

NORMCORE_INLINE normcore_status read_options(const void *options, size_t first_size, void *full, size_t full_size) {
    size_t size;
    memcpy(&size, options, sizeof size);
    const normcore_status status = check_size(size, first_size);
    if (status) return status;
    for (size_t i = full_size; i < size; i++)
        if (((const unsigned char *)options)[i]) return NORMCORE_ERROR_VALUE;
    if (size < full_size) {
        memset(full, 0, full_size);
        memcpy(full, options, size);
    } else
        memcpy(full, options, full_size); /* whose size the compiler knows */
    memcpy(full, &full_size, sizeof full_size);
    return NORMCORE_OK;
}

/* The other way round: as much of `full` as the caller's header has, and zero where it has more. */
static normcore_status write_options(const void *full, size_t full_size, size_t first_size, void *options,
                                     size_t size) {
    if (!options) return NORMCORE_ERROR_NULL;
    const normcore_status status = check_size(size, first_size);
    if (status) return status;
    memset(options, 0, size);
    memcpy(options, full, size < full_size ? size : full_size);
    memcpy(options, &size, sizeof size);
    return NORMCORE_OK;
}

/* `last` is the last field of version 0.1 and stays it: no caller has less. */
#define OPTIONS(name, last)                                                                                            \
    enum {                                                                                                             \
        FIRST_SIZE_##name = offsetof(normcore_##name##_options, last) + sizeof((normcore_##name##_options *)0)->last   \
    };                                                                                                                 \
    normcore_status normcore_options_read_##name(const normcore_##name##_options *options,                             \
                                                 normcore_##name##_options *full) {                                    \
        return read_options(options, FIRST_SIZE_##name, full, sizeof *full);                                           \
    }

OPTIONS(context, parallel_user)
OPTIONS(cross_entropy, reduction)
OPTIONS(loss, tau)
OPTIONS(batch_norm, unbiased_running_var)
OPTIONS(optimizer, step)
OPTIONS(mlp, unbiased_running_var)
OPTIONS(mlp_loss, numeric)

#define WRITE(name, full) write_options(&(full), sizeof(full), FIRST_SIZE_##name, options, struct_size)

normcore_status normcore_context_defaults(normcore_context_options *options, size_t struct_size) {
    const normcore_context_options o = {0};
    return WRITE(context, o);
}

normcore_status normcore_cross_entropy_defaults(normcore_cross_entropy_options *options, size_t struct_size) {
    const normcore_cross_entropy_options o = {0};
    return WRITE(cross_entropy, o);
}

normcore_status normcore_loss_defaults(normcore_loss_options *options, size_t struct_size) {
    normcore_loss_options o = {0};
    o.delta = 1.0;
    o.tau = 0.5;
    return WRITE(loss, o);
}

normcore_status normcore_batch_norm_defaults(normcore_batch_norm_options *options, size_t struct_size) {
    normcore_batch_norm_options o = {0};
    o.training = 1;
    o.momentum = 0.9;
    o.eps = 1e-5;
    return WRITE(batch_norm, o);
}

normcore_status normcore_optimizer_defaults(normcore_optimizer optimizer, normcore_optimizer_options *options,
                                            size_t struct_size) {
    if ((unsigned)optimizer > NORMCORE_ADAM) return NORMCORE_ERROR_VALUE;
    normcore_optimizer_options o = {0};
    o.optimizer = optimizer;
    o.learning_rate = 1e-3;
    o.momentum = 0.9;
    o.decay_rate = 0.99;
    o.beta1 = 0.9;
    o.beta2 = 0.999;
    o.eps = 1e-8;
    o.gradient_scale = 1.0;
    o.step = 1;
    return WRITE(optimizer, o);
}

normcore_status normcore_mlp_defaults(normcore_mlp_options *options, size_t struct_size) {
    normcore_mlp_options o = {0};
    o.keep = 1.0;
    o.eps = 1e-5;
    o.momentum = 0.9;
    return WRITE(mlp, o);
}

normcore_status normcore_mlp_loss_defaults(normcore_mlp_loss_options *options, size_t struct_size) {
    const normcore_mlp_loss_options o = {0};
    return WRITE(mlp_loss, o);
}
