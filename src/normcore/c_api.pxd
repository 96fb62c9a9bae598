# Declarations of include/normcore.h for Cython: `from normcore.c_api cimport normcore_softmax_f32`.
# The contract of every function stands in the header. Link with `normcore-config --libs`.
from libc.stdint cimport int64_t, uint64_t


cdef extern from "normcore.h" nogil:
    const char *NORMCORE_VERSION_STRING
    const char *NORMCORE_CONTRACT
    enum:
        NORMCORE_VERSION_MAJOR
        NORMCORE_VERSION_MINOR
        NORMCORE_VERSION_PATCH
        NORMCORE_MAX_THREADS

    ctypedef enum normcore_status:
        NORMCORE_OK
        NORMCORE_ERROR_NULL
        NORMCORE_ERROR_SIZE
        NORMCORE_ERROR_STRIDE
        NORMCORE_ERROR_ALIAS
        NORMCORE_ERROR_VALUE
        NORMCORE_ERROR_LABEL
        NORMCORE_ERROR_WEIGHT
        NORMCORE_ERROR_MEMORY
        NORMCORE_ERROR_ISA
        NORMCORE_ERROR_ENVIRONMENT_ISA
        NORMCORE_ERROR_ENVIRONMENT_THREADS
        NORMCORE_ERROR_SELFTEST

    const char *normcore_strerror(normcore_status status)
    const char *normcore_version()
    const char *normcore_contract()

    # ---- instruction sets
    const char *normcore_isa_name(size_t index)
    const char *normcore_get_isa()
    normcore_status normcore_set_isa(const char *name)
    const char *normcore_cpu_features()
    normcore_status normcore_selftest(const char **what)

    # ---- context
    ctypedef struct normcore_context:
        pass
    ctypedef void (*normcore_parallel_for)(void *user, void (*body)(void *arg, size_t index) noexcept nogil, void *arg,
                                           size_t count) noexcept nogil
    ctypedef struct normcore_context_options:
        size_t struct_size
        size_t num_threads
        const char *isa
        void *(*allocate)(void *user, size_t size) noexcept nogil
        void (*release)(void *user, void *memory) noexcept nogil
        void *allocator_user
        normcore_parallel_for parallel_for
        void *parallel_user
    normcore_status normcore_context_defaults(normcore_context_options *options, size_t struct_size)
    normcore_status normcore_context_create(const normcore_context_options *options, normcore_context **ctx)
    void normcore_context_destroy(normcore_context *ctx)
    normcore_status normcore_context_set_num_threads(normcore_context *ctx, size_t num_threads)
    size_t normcore_context_get_num_threads(const normcore_context *ctx)

    # ---- affine
    normcore_status normcore_affine_forward_f32(normcore_context *ctx, size_t n, size_t k, size_t m, const float *x,
                                                size_t x_stride, const float *w, size_t w_stride, const float *b,
                                                int relu, float *y, size_t y_stride)
    normcore_status normcore_affine_forward_f64(normcore_context *ctx, size_t n, size_t k, size_t m, const double *x,
                                                size_t x_stride, const double *w, size_t w_stride, const double *b,
                                                int relu, double *y, size_t y_stride)
    normcore_status normcore_affine_backward_f32(normcore_context *ctx, size_t n, size_t k, size_t m, const float *dy,
                                                 size_t dy_stride, const float *x, size_t x_stride, const float *w,
                                                 size_t w_stride, float *dx, size_t dx_stride, float *dw,
                                                 size_t dw_stride, float *db)
    normcore_status normcore_affine_backward_f64(normcore_context *ctx, size_t n, size_t k, size_t m, const double *dy,
                                                 size_t dy_stride, const double *x, size_t x_stride, const double *w,
                                                 size_t w_stride, double *dx, size_t dx_stride, double *dw,
                                                 size_t dw_stride, double *db)

    # ---- activations
    ctypedef enum normcore_activation:
        NORMCORE_ACTIVATION_RELU
        NORMCORE_ACTIVATION_LEAKY_RELU
        NORMCORE_ACTIVATION_TANH
        NORMCORE_ACTIVATION_LOGISTIC
        NORMCORE_ACTIVATION_SILU
        NORMCORE_ACTIVATION_RELU6

    int normcore_activation_takes_input(normcore_activation activation)
    normcore_status normcore_activation_forward_f32(normcore_context *ctx, normcore_activation activation,
                                                    double slope, size_t n, size_t d, const float *x,
                                                    size_t x_stride, float *y, size_t y_stride)
    normcore_status normcore_activation_forward_f64(normcore_context *ctx, normcore_activation activation,
                                                    double slope, size_t n, size_t d, const double *x,
                                                    size_t x_stride, double *y, size_t y_stride)
    normcore_status normcore_activation_backward_f32(normcore_context *ctx, normcore_activation activation,
                                                     double slope, size_t n, size_t d, const float *dy,
                                                     size_t dy_stride, const float *saved, size_t saved_stride,
                                                     float *dx, size_t dx_stride)
    normcore_status normcore_activation_backward_f64(normcore_context *ctx, normcore_activation activation,
                                                     double slope, size_t n, size_t d, const double *dy,
                                                     size_t dy_stride, const double *saved, size_t saved_stride,
                                                     double *dx, size_t dx_stride)

    # ---- softmax and cross-entropy
    normcore_status normcore_softmax_f32(normcore_context *ctx, size_t n, size_t d, const float *x, size_t x_stride,
                                         float *y, size_t y_stride)
    normcore_status normcore_softmax_f64(normcore_context *ctx, size_t n, size_t d, const double *x, size_t x_stride,
                                         double *y, size_t y_stride)
    normcore_status normcore_log_softmax_f32(normcore_context *ctx, size_t n, size_t d, const float *x,
                                             size_t x_stride, float *y, size_t y_stride)
    normcore_status normcore_log_softmax_f64(normcore_context *ctx, size_t n, size_t d, const double *x,
                                             size_t x_stride, double *y, size_t y_stride)
    normcore_status normcore_softmax_backward_f32(normcore_context *ctx, size_t n, size_t d, const float *dy,
                                                  size_t dy_stride, const float *y, size_t y_stride, float *dx,
                                                  size_t dx_stride)
    normcore_status normcore_softmax_backward_f64(normcore_context *ctx, size_t n, size_t d, const double *dy,
                                                  size_t dy_stride, const double *y, size_t y_stride, double *dx,
                                                  size_t dx_stride)
    normcore_status normcore_log_softmax_backward_f32(normcore_context *ctx, size_t n, size_t d, const float *dy,
                                                      size_t dy_stride, const float *y, size_t y_stride, float *dx,
                                                      size_t dx_stride)
    normcore_status normcore_log_softmax_backward_f64(normcore_context *ctx, size_t n, size_t d, const double *dy,
                                                      size_t dy_stride, const double *y, size_t y_stride, double *dx,
                                                      size_t dx_stride)

    ctypedef enum normcore_reduction:
        NORMCORE_REDUCTION_MEAN
        NORMCORE_REDUCTION_SUM
        NORMCORE_REDUCTION_NONE
    ctypedef struct normcore_cross_entropy_options:
        size_t struct_size
        const double *class_weight
        const double *sample_weight
        double label_smoothing
        int has_ignore_index
        int64_t ignore_index
        normcore_reduction reduction
    normcore_status normcore_cross_entropy_defaults(normcore_cross_entropy_options *options, size_t struct_size)
    normcore_status normcore_cross_entropy_f32(normcore_context *ctx, size_t n, size_t c, const float *logits,
                                               size_t logits_stride, const int64_t *labels, const float *targets,
                                               size_t targets_stride, const normcore_cross_entropy_options *options,
                                               double *loss, float *dlogits, size_t dlogits_stride,
                                               double *weight_sum, size_t *bad_row)
    normcore_status normcore_cross_entropy_f64(normcore_context *ctx, size_t n, size_t c, const double *logits,
                                               size_t logits_stride, const int64_t *labels, const double *targets,
                                               size_t targets_stride, const normcore_cross_entropy_options *options,
                                               double *loss, double *dlogits, size_t dlogits_stride,
                                               double *weight_sum, size_t *bad_row)

    # ---- losses of numbers
    ctypedef struct normcore_loss_options:
        size_t struct_size
        const double *sample_weight
        normcore_reduction reduction
        double delta
        double tau
    normcore_status normcore_loss_defaults(normcore_loss_options *options, size_t struct_size)
    normcore_status normcore_logistic_loss_f32(normcore_context *ctx, size_t n, size_t d, const float *y,
                                               size_t y_stride, const float *t, size_t t_stride,
                                               const normcore_loss_options *options, double *loss, float *dy,
                                               size_t dy_stride, double *weight_sum, size_t *bad_row)
    normcore_status normcore_logistic_loss_f64(normcore_context *ctx, size_t n, size_t d, const double *y,
                                               size_t y_stride, const double *t, size_t t_stride,
                                               const normcore_loss_options *options, double *loss, double *dy,
                                               size_t dy_stride, double *weight_sum, size_t *bad_row)
    normcore_status normcore_squared_error_f32(normcore_context *ctx, size_t n, size_t d, const float *y,
                                               size_t y_stride, const float *t, size_t t_stride,
                                               const normcore_loss_options *options, double *loss, float *dy,
                                               size_t dy_stride, double *weight_sum, size_t *bad_row)
    normcore_status normcore_squared_error_f64(normcore_context *ctx, size_t n, size_t d, const double *y,
                                               size_t y_stride, const double *t, size_t t_stride,
                                               const normcore_loss_options *options, double *loss, double *dy,
                                               size_t dy_stride, double *weight_sum, size_t *bad_row)
    normcore_status normcore_huber_loss_f32(normcore_context *ctx, size_t n, size_t d, const float *y, size_t y_stride,
                                            const float *t, size_t t_stride, const normcore_loss_options *options,
                                            double *loss, float *dy, size_t dy_stride, double *weight_sum,
                                            size_t *bad_row)
    normcore_status normcore_huber_loss_f64(normcore_context *ctx, size_t n, size_t d, const double *y, size_t y_stride,
                                            const double *t, size_t t_stride, const normcore_loss_options *options,
                                            double *loss, double *dy, size_t dy_stride, double *weight_sum,
                                            size_t *bad_row)
    normcore_status normcore_quantile_loss_f32(normcore_context *ctx, size_t n, size_t d, const float *y,
                                               size_t y_stride, const float *t, size_t t_stride,
                                               const normcore_loss_options *options, double *loss, float *dy,
                                               size_t dy_stride, double *weight_sum, size_t *bad_row)
    normcore_status normcore_quantile_loss_f64(normcore_context *ctx, size_t n, size_t d, const double *y,
                                               size_t y_stride, const double *t, size_t t_stride,
                                               const normcore_loss_options *options, double *loss, double *dy,
                                               size_t dy_stride, double *weight_sum, size_t *bad_row)
    normcore_status normcore_poisson_loss_f32(normcore_context *ctx, size_t n, size_t d, const float *y,
                                              size_t y_stride, const float *t, size_t t_stride,
                                              const normcore_loss_options *options, double *loss, float *dy,
                                              size_t dy_stride, double *weight_sum, size_t *bad_row)
    normcore_status normcore_poisson_loss_f64(normcore_context *ctx, size_t n, size_t d, const double *y,
                                              size_t y_stride, const double *t, size_t t_stride,
                                              const normcore_loss_options *options, double *loss, double *dy,
                                              size_t dy_stride, double *weight_sum, size_t *bad_row)

    ctypedef enum normcore_loss:
        NORMCORE_LOSS_CROSS_ENTROPY
        NORMCORE_LOSS_LOGISTIC
        NORMCORE_LOSS_SQUARED_ERROR
        NORMCORE_LOSS_HUBER
        NORMCORE_LOSS_QUANTILE
        NORMCORE_LOSS_POISSON

    # ---- batch normalisation
    ctypedef struct normcore_batch_norm_options:
        size_t struct_size
        int training
        double momentum
        double eps
        int unbiased_running_var
    ctypedef enum normcore_batch_norm_algorithm:
        NORMCORE_BATCH_NORM_FUSED
        NORMCORE_BATCH_NORM_GRAPH
    normcore_status normcore_batch_norm_defaults(normcore_batch_norm_options *options, size_t struct_size)
    normcore_status normcore_batch_norm_forward_f32(normcore_context *ctx, size_t n, size_t d, const float *x,
                                                    size_t x_stride, const float *gamma, const float *beta,
                                                    const normcore_batch_norm_options *options, float *running_mean,
                                                    float *running_var, float *y, size_t y_stride, double *mean,
                                                    double *rstd)
    normcore_status normcore_batch_norm_forward_f64(normcore_context *ctx, size_t n, size_t d, const double *x,
                                                    size_t x_stride, const double *gamma, const double *beta,
                                                    const normcore_batch_norm_options *options, double *running_mean,
                                                    double *running_var, double *y, size_t y_stride, double *mean,
                                                    double *rstd)
    normcore_status normcore_batch_norm_backward_f32(normcore_context *ctx, size_t n, size_t d, const float *dy,
                                                     size_t dy_stride, const float *x, size_t x_stride,
                                                     const float *gamma, const double *mean, const double *rstd,
                                                     int training, normcore_batch_norm_algorithm algorithm, float *dx,
                                                     size_t dx_stride, float *dgamma, float *dbeta)
    normcore_status normcore_batch_norm_backward_f64(normcore_context *ctx, size_t n, size_t d, const double *dy,
                                                     size_t dy_stride, const double *x, size_t x_stride,
                                                     const double *gamma, const double *mean, const double *rstd,
                                                     int training, normcore_batch_norm_algorithm algorithm, double *dx,
                                                     size_t dx_stride, double *dgamma, double *dbeta)

    # ---- layer normalisation
    normcore_status normcore_layer_norm_forward_f32(normcore_context *ctx, size_t n, size_t d, const float *x,
                                                    size_t x_stride, const float *gamma, const float *beta, double eps,
                                                    float *y, size_t y_stride, double *mean, double *rstd)
    normcore_status normcore_layer_norm_forward_f64(normcore_context *ctx, size_t n, size_t d, const double *x,
                                                    size_t x_stride, const double *gamma, const double *beta,
                                                    double eps, double *y, size_t y_stride, double *mean, double *rstd)
    normcore_status normcore_layer_norm_backward_f32(normcore_context *ctx, size_t n, size_t d, const float *dy,
                                                     size_t dy_stride, const float *x, size_t x_stride,
                                                     const float *gamma, const double *mean, const double *rstd,
                                                     float *dx, size_t dx_stride, float *dgamma, float *dbeta)
    normcore_status normcore_layer_norm_backward_f64(normcore_context *ctx, size_t n, size_t d, const double *dy,
                                                     size_t dy_stride, const double *x, size_t x_stride,
                                                     const double *gamma, const double *mean, const double *rstd,
                                                     double *dx, size_t dx_stride, double *dgamma, double *dbeta)

    # ---- random numbers
    normcore_status normcore_random_uniform_f32(normcore_context *ctx, uint64_t seed, uint64_t stream, uint64_t offset,
                                                size_t n, double low, double high, float *out)
    normcore_status normcore_random_uniform_f64(normcore_context *ctx, uint64_t seed, uint64_t stream, uint64_t offset,
                                                size_t n, double low, double high, double *out)
    normcore_status normcore_random_normal_f32(normcore_context *ctx, uint64_t seed, uint64_t stream, uint64_t offset,
                                               size_t n, double mean, double scale, float *out)
    normcore_status normcore_random_normal_f64(normcore_context *ctx, uint64_t seed, uint64_t stream, uint64_t offset,
                                               size_t n, double mean, double scale, double *out)
    normcore_status normcore_random_integers(normcore_context *ctx, uint64_t seed, uint64_t stream, uint64_t offset,
                                             size_t n, uint64_t bound, int64_t *out)
    normcore_status normcore_random_permutation(normcore_context *ctx, uint64_t seed, uint64_t stream,
                                                uint64_t offset, size_t n, int64_t *out)
    normcore_status normcore_dropout_f32(normcore_context *ctx, size_t n, size_t d, const float *x, size_t x_stride,
                                         double keep, uint64_t seed, uint64_t stream, uint64_t offset, float *y,
                                         size_t y_stride)
    normcore_status normcore_dropout_f64(normcore_context *ctx, size_t n, size_t d, const double *x, size_t x_stride,
                                         double keep, uint64_t seed, uint64_t stream, uint64_t offset, double *y,
                                         size_t y_stride)

    # ---- optimisers
    ctypedef enum normcore_optimizer:
        NORMCORE_SGD
        NORMCORE_MOMENTUM
        NORMCORE_NESTEROV
        NORMCORE_RMSPROP
        NORMCORE_ADAM
    ctypedef struct normcore_optimizer_options:
        size_t struct_size
        normcore_optimizer optimizer
        double learning_rate
        double momentum
        double decay_rate
        double beta1
        double beta2
        double eps
        double l2
        double weight_decay
        double gradient_scale
        uint64_t step
    normcore_status normcore_optimizer_defaults(normcore_optimizer optimizer, normcore_optimizer_options *options,
                                                size_t struct_size)
    normcore_status normcore_optimizer_update_f32(normcore_context *ctx, const normcore_optimizer_options *options,
                                                  size_t n, float *p, const float *g, float *slot1, float *slot2)
    normcore_status normcore_optimizer_update_f64(normcore_context *ctx, const normcore_optimizer_options *options,
                                                  size_t n, double *p, const double *g, double *slot1, double *slot2)
    normcore_status normcore_sum_of_squares_f32(normcore_context *ctx, size_t n, const float *x, double *result)
    normcore_status normcore_sum_of_squares_f64(normcore_context *ctx, size_t n, const double *x, double *result)

    # ---- multilayer perceptron
    ctypedef struct normcore_mlp:
        pass
    ctypedef enum normcore_norm:
        NORMCORE_NORM_NONE
        NORMCORE_NORM_BATCH
        NORMCORE_NORM_LAYER
    ctypedef struct normcore_mlp_options:
        size_t struct_size
        size_t num_sizes
        const size_t *sizes
        normcore_norm norm
        normcore_activation activation
        double keep
        double eps
        double momentum
        int unbiased_running_var
    normcore_status normcore_mlp_defaults(normcore_mlp_options *options, size_t struct_size)
    normcore_status normcore_mlp_create(const normcore_mlp_options *options, normcore_mlp **mlp)
    void normcore_mlp_destroy(normcore_mlp *mlp)

    ctypedef enum normcore_mlp_kind:
        NORMCORE_MLP_WEIGHT
        NORMCORE_MLP_BIAS
        NORMCORE_MLP_GAMMA
        NORMCORE_MLP_BETA
        NORMCORE_MLP_RUNNING_MEAN
        NORMCORE_MLP_RUNNING_VAR
    ctypedef struct normcore_mlp_segment:
        normcore_mlp_kind kind
        size_t layer
        size_t offset
        size_t rows
        size_t cols
    size_t normcore_mlp_parameter_count(const normcore_mlp *mlp)
    size_t normcore_mlp_buffer_count(const normcore_mlp *mlp)
    normcore_status normcore_mlp_get_segment(const normcore_mlp *mlp, size_t index, normcore_mlp_segment *segment)
    normcore_status normcore_mlp_initialize_f32(normcore_context *ctx, const normcore_mlp *mlp, uint64_t seed,
                                                uint64_t stream, double weight_scale, float *params, float *buffers)
    normcore_status normcore_mlp_initialize_f64(normcore_context *ctx, const normcore_mlp *mlp, uint64_t seed,
                                                uint64_t stream, double weight_scale, double *params, double *buffers)
    normcore_status normcore_mlp_forward_f32(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                             const float *x, size_t x_stride, const float *params, const float *buffers,
                                             float *y, size_t y_stride)
    normcore_status normcore_mlp_forward_f64(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                             const double *x, size_t x_stride, const double *params,
                                             const double *buffers, double *y, size_t y_stride)

    ctypedef struct normcore_mlp_pass:
        pass
    size_t normcore_mlp_pass_size_f32(const normcore_mlp *mlp, size_t rows)
    size_t normcore_mlp_pass_size_f64(const normcore_mlp *mlp, size_t rows)
    normcore_status normcore_mlp_pass_init_f32(const normcore_mlp *mlp, size_t rows, void *memory, size_t size,
                                               normcore_mlp_pass **pass_)
    normcore_status normcore_mlp_pass_init_f64(const normcore_mlp *mlp, size_t rows, void *memory, size_t size,
                                               normcore_mlp_pass **pass_)
    normcore_status normcore_mlp_pass_create_f32(const normcore_mlp *mlp, size_t rows, normcore_mlp_pass **pass_)
    normcore_status normcore_mlp_pass_create_f64(const normcore_mlp *mlp, size_t rows, normcore_mlp_pass **pass_)
    void normcore_mlp_pass_destroy(normcore_mlp_pass *pass_)
    normcore_status normcore_mlp_forward_training_f32(
        normcore_context *ctx, const normcore_mlp *mlp, size_t n, const float *x, size_t x_stride,
        const float *params, float *buffers, uint64_t seed, uint64_t stream, normcore_mlp_pass *pass_, float *y,
        size_t y_stride)
    normcore_status normcore_mlp_forward_training_f64(
        normcore_context *ctx, const normcore_mlp *mlp, size_t n, const double *x, size_t x_stride,
        const double *params, double *buffers, uint64_t seed, uint64_t stream, normcore_mlp_pass *pass_, double *y,
        size_t y_stride)
    normcore_status normcore_mlp_backward_f32(
        normcore_context *ctx, const normcore_mlp *mlp, size_t n, const float *x, size_t x_stride,
        const float *params, const normcore_mlp_pass *pass_, const float *dy, size_t dy_stride, float *grads,
        float *dx, size_t dx_stride)
    normcore_status normcore_mlp_backward_f64(
        normcore_context *ctx, const normcore_mlp *mlp, size_t n, const double *x, size_t x_stride,
        const double *params, const normcore_mlp_pass *pass_, const double *dy, size_t dy_stride, double *grads,
        double *dx, size_t dx_stride)

    ctypedef struct normcore_mlp_loss_options:
        size_t struct_size
        normcore_loss loss
        const normcore_cross_entropy_options *cross_entropy
        const normcore_loss_options *numeric
    normcore_status normcore_mlp_loss_defaults(normcore_mlp_loss_options *options, size_t struct_size)
    normcore_status normcore_mlp_loss_and_grads_f32(
        normcore_context *ctx, const normcore_mlp *mlp, size_t n, const float *x, size_t x_stride,
        const int64_t *labels, const float *targets, size_t targets_stride,
        const normcore_mlp_loss_options *options, uint64_t seed, uint64_t stream,
        const float *params, float *buffers, float *grads, double *loss, double *weight_sum, size_t *bad_row)
    normcore_status normcore_mlp_loss_and_grads_f64(
        normcore_context *ctx, const normcore_mlp *mlp, size_t n, const double *x, size_t x_stride,
        const int64_t *labels, const double *targets, size_t targets_stride,
        const normcore_mlp_loss_options *options, uint64_t seed, uint64_t stream,
        const double *params, double *buffers, double *grads, double *loss, double *weight_sum, size_t *bad_row)
