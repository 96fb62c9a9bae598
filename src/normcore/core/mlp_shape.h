/* The shape of a multilayer perceptron: what normcore_mlp points to. */
#ifndef NORMCORE_MLP_SHAPE_H
#define NORMCORE_MLP_SHAPE_H

#include "normcore.h"

typedef struct mlp_layer {
    size_t in, out;
    int hidden;                       /* norm, ReLU and dropout follow */
    size_t weight, bias, gamma, beta; /* offsets in the parameters; gamma and beta only with a norm */
    size_t running_mean, running_var; /* offsets in the buffers; only with batch norm */
} mlp_layer;

struct normcore_mlp {
    size_t num_layers;
    normcore_norm norm;
    double keep, eps, momentum;
    int unbiased_running_var;
    size_t parameter_count, buffer_count;
    size_t widest, hidden_total; /* greatest output width; sum of the hidden widths */
    mlp_layer layers[];
};

#endif
