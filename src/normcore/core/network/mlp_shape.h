/* The shape of a multilayer perceptron and its tape: what normcore_mlp and normcore_mlp_pass point to. */
#ifndef NORMCORE_MLP_SHAPE_H
#define NORMCORE_MLP_SHAPE_H

#include "ops/activation_kinds.h"

typedef struct mlp_layer {
    size_t in, out;
    int hidden;                       /* norm, activation and dropout follow */
    size_t weight, bias, gamma, beta; /* offsets in the parameters; gamma and beta only with a norm */
    size_t running_mean, running_var; /* offsets in the buffers; only with batch norm */
    size_t hidden_before;             /* sum of the hidden widths before this layer */
} mlp_layer;

struct normcore_mlp {
    size_t num_layers;
    normcore_norm norm;
    const activation_kind *activation;
    int keeps_saved; /* whether what the activation's backward pass takes is an array of its own */
    double keep, eps, momentum;
    int unbiased_running_var;
    size_t parameter_count, buffer_count;
    size_t widest_hidden, hidden_total; /* greatest and sum of the hidden widths */
    mlp_layer layers[];
};

struct normcore_mlp_pass {
    const normcore_mlp *mlp;
    size_t element;        /* bytes of a value: the type of the data it is for */
    size_t capacity, rows; /* the most it can hold; those of the forward pass it holds */
    int filled;            /* whether it holds one */
    size_t bytes;          /* from this struct's first to the last of its arrays */
    uint64_t seed, stream; /* of the forward pass's dropout */
    void *values;          /* what the layers' backward passes need: see mlp_activations_of() */
    double *moments;
    void *owned; /* memory to be freed with it, or NULL */
};

#endif
