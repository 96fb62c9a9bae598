/* Digests of small runs of every operation, for the self-test; see selftest.c. */
#ifndef NORMCORE_SELFTEST_H
#define NORMCORE_SELFTEST_H

#include "runtime/dispatch.h"

#include <stdint.h>

/* Operations in the order in which their digests are made. */
#define SELFTEST_OPERATIONS(OPERATION)                                                                                 \
    OPERATION(fma)                                                                                                     \
    OPERATION(affine_forward)                                                                                          \
    OPERATION(affine_backward)                                                                                         \
    OPERATION(relu)                                                                                                    \
    OPERATION(activation)                                                                                              \
    OPERATION(softmax)                                                                                                 \
    OPERATION(log_softmax)                                                                                             \
    OPERATION(cross_entropy)                                                                                           \
    OPERATION(losses)                                                                                                  \
    OPERATION(batch_norm_forward)                                                                                      \
    OPERATION(batch_norm_backward_fused)                                                                               \
    OPERATION(batch_norm_backward_graph)                                                                               \
    OPERATION(layer_norm_forward)                                                                                      \
    OPERATION(layer_norm_backward)                                                                                     \
    OPERATION(random)                                                                                                  \
    OPERATION(dropout)                                                                                                 \
    OPERATION(optimizer)

#define OPERATION(name) SELFTEST_##name,
enum { SELFTEST_OPERATIONS(OPERATION) SELFTEST_COUNT };
#undef OPERATION

/* Digests on the kernels of one target. NORMCORE_ERROR_MEMORY is the only failure. */
normcore_status normcore_selftest_digests_f32(const isa_target *target, uint64_t digests[SELFTEST_COUNT]);
normcore_status normcore_selftest_digests_f64(const isa_target *target, uint64_t digests[SELFTEST_COUNT]);

#endif
