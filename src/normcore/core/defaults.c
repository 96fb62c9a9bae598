/* Default options. */
#include "guards.h"

#include "normcore.h"

normcore_batch_norm_options normcore_batch_norm_defaults(void) {
    const normcore_batch_norm_options o = {sizeof o, 1, 0.9, 1e-5, 0};
    return o;
}

normcore_optimizer_options normcore_optimizer_defaults(normcore_optimizer optimizer) {
    const normcore_optimizer_options o = {sizeof o, optimizer, 1e-3, 0.9, 0.99, 0.9, 0.999, 1e-8, 0.0, 0.0, 1.0, 1};
    return o;
}
