#include "numeric/guards.h"

#include "network/mlp_shape.h"

#include "runtime/check.h"
#include "runtime/options.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

static normcore_status check_options(const normcore_mlp_options *o) {
    if (!o->sizes) return NORMCORE_ERROR_NULL;
    if (o->num_sizes < 2) return NORMCORE_ERROR_SIZE;
    if ((unsigned)o->norm > NORMCORE_NORM_LAYER || !normcore_activation_find(o->activation))
        return NORMCORE_ERROR_VALUE;
    if (!normcore_check_keep(o->keep) || !normcore_check_between(o->momentum, 0.0, 1.0)) return NORMCORE_ERROR_VALUE;
    return normcore_check_at_least(o->eps, 0.0) ? NORMCORE_OK : NORMCORE_ERROR_VALUE;
}

/* *end += count, remembering where it was. */
static size_t place(size_t *end, size_t count, int *ok) {
    const size_t at = *end;
    if (count > SIZE_MAX - at)
        *ok = 0;
    else
        *end = at + count;
    return at;
}

normcore_status normcore_mlp_create(const normcore_mlp_options *options, normcore_mlp **mlp) {
    if (!mlp) return NORMCORE_ERROR_NULL;
    *mlp = NULL;
    if (!options) return NORMCORE_ERROR_NULL;
    /* What is checked is what is used, whoever changes the caller's memory meanwhile: each value of it is read once. */
    normcore_mlp_options o;
    normcore_status status = normcore_options_read_mlp(options, &o);
    if (!status) status = check_options(&o);
    if (status) return status;

    int ok = 1;
    const size_t layers = o.num_sizes - 1;
    const volatile size_t *const sizes = o.sizes;
    const size_t bytes = normcore_check_product(layers, sizeof(mlp_layer), &ok);
    if (!ok || bytes > SIZE_MAX - sizeof(normcore_mlp)) return NORMCORE_ERROR_SIZE;
    const int saved = errno;
    normcore_mlp *made = malloc(sizeof *made + bytes);
    errno = saved;
    if (!made) return NORMCORE_ERROR_MEMORY;

    made->num_layers = layers;
    made->norm = o.norm;
    made->activation = normcore_activation_find(o.activation);
    made->keeps_saved = made->activation->takes == INPUT || (made->activation->takes == OUTPUT && o.keep < 1.0);
    made->keep = o.keep;
    made->eps = o.eps;
    made->momentum = o.momentum;
    made->unbiased_running_var = o.unbiased_running_var;
    made->parameter_count = made->buffer_count = made->widest_hidden = made->hidden_total = 0;
    for (size_t l = 0; l < layers; l++) {
        mlp_layer *layer = &made->layers[l];
        layer->in = l ? made->layers[l - 1].out : sizes[0];
        layer->out = sizes[l + 1];
        if (!layer->in || !layer->out) ok = 0;
        layer->hidden = l + 1 < layers;
        const int has_norm = layer->hidden && made->norm != NORMCORE_NORM_NONE;
        const int has_buffers = layer->hidden && made->norm == NORMCORE_NORM_BATCH;
        layer->weight = place(&made->parameter_count, normcore_check_product(layer->in, layer->out, &ok), &ok);
        layer->bias = place(&made->parameter_count, layer->out, &ok);
        layer->gamma = place(&made->parameter_count, has_norm ? layer->out : 0, &ok);
        layer->beta = place(&made->parameter_count, has_norm ? layer->out : 0, &ok);
        layer->running_mean = place(&made->buffer_count, has_buffers ? layer->out : 0, &ok);
        layer->running_var = place(&made->buffer_count, has_buffers ? layer->out : 0, &ok);
        layer->hidden_before = place(&made->hidden_total, layer->hidden ? layer->out : 0, &ok);
        if (layer->hidden && layer->out > made->widest_hidden) made->widest_hidden = layer->out;
    }
    if (!ok || made->parameter_count > PTRDIFF_MAX / sizeof(double)) {
        free(made);
        return NORMCORE_ERROR_SIZE;
    }
    *mlp = made;
    return NORMCORE_OK;
}

void normcore_mlp_destroy(normcore_mlp *mlp) { free(mlp); }

void normcore_mlp_pass_destroy(normcore_mlp_pass *pass) {
    if (pass) free(pass->owned);
}

size_t normcore_mlp_parameter_count(const normcore_mlp *mlp) { return mlp ? mlp->parameter_count : 0; }
size_t normcore_mlp_buffer_count(const normcore_mlp *mlp) { return mlp ? mlp->buffer_count : 0; }

normcore_status normcore_mlp_get_segment(const normcore_mlp *mlp, size_t index, normcore_mlp_segment *segment) {
    if (!mlp || !segment) return NORMCORE_ERROR_NULL;
    for (int buffers = 0; buffers < 2; buffers++)
        for (size_t l = 0; l < mlp->num_layers; l++) {
            const mlp_layer *y = &mlp->layers[l];
            const int has_norm = y->hidden && mlp->norm != NORMCORE_NORM_NONE;
            const int has_buffers = y->hidden && mlp->norm == NORMCORE_NORM_BATCH;
            const normcore_mlp_segment parameters[] = {{NORMCORE_MLP_WEIGHT, l, y->weight, y->in, y->out},
                                                       {NORMCORE_MLP_BIAS, l, y->bias, 1, y->out},
                                                       {NORMCORE_MLP_GAMMA, l, y->gamma, 1, y->out},
                                                       {NORMCORE_MLP_BETA, l, y->beta, 1, y->out}};
            const normcore_mlp_segment statistics[] = {{NORMCORE_MLP_RUNNING_MEAN, l, y->running_mean, 1, y->out},
                                                       {NORMCORE_MLP_RUNNING_VAR, l, y->running_var, 1, y->out}};
            const size_t count = buffers ? (has_buffers ? 2 : 0) : (has_norm ? 4 : 2);
            if (index < count) {
                *segment = buffers ? statistics[index] : parameters[index];
                return NORMCORE_OK;
            }
            index -= count;
        }
    return NORMCORE_ERROR_SIZE;
}
