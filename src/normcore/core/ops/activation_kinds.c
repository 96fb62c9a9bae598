#include "numeric/guards.h"

#include "ops/activation_kinds.h"

/* By the number of the activation. */
static const activation_kind kinds[] = {
#define ACTIVATION(name, takes, weights, slope)                                                                        \
    [NORMCORE_ACTIVATION_##name] = {NORMCORE_ACTIVATION_##name, takes, weights, slope},
#include "kernels/activations.def"
#undef ACTIVATION
};

const activation_kind *normcore_activation_find(normcore_activation activation) {
    return (size_t)activation < sizeof kinds / sizeof *kinds ? &kinds[activation] : NULL;
}

int normcore_activation_takes_input(normcore_activation activation) {
    const activation_kind *const kind = normcore_activation_find(activation);
    return kind ? kind->takes == INPUT : -1;
}
