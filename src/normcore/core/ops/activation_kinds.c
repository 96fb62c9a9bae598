/* What is known of activations without a dtype. */
#include "numeric/guards.h"

#include "normcore.h"

enum { OUTPUT, INPUT };

int normcore_activation_takes_input(normcore_activation activation) {
    switch ((int)activation) {
#define ACTIVATION(name, takes, weights)                                                                               \
    case NORMCORE_ACTIVATION_##name:                                                                                   \
        return takes;
#include "kernels/activations.def"
#undef ACTIVATION
    default:
        return -1;
    }
}
