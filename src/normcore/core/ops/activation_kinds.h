/* What is known of activations without a dtype: the table of kernels/activations.def. */
#ifndef NORMCORE_ACTIVATION_KINDS_H
#define NORMCORE_ACTIVATION_KINDS_H

#include "normcore.h"

typedef struct activation_kind {
    normcore_activation activation;
    enum { SIGN, OUTPUT, INPUT } takes;
    enum { HE, GLOROT } weights;
    double slope;
} activation_kind;

/* NULL if there is no such activation. */
const activation_kind *normcore_activation_find(normcore_activation activation);

#endif
