/*
 * normcore - multilayer perceptrons with batch and layer normalisation on CPUs
 *
 * Conventions that hold for every function unless its comment says otherwise
 * --------------------------------------------------------------------------
 * Types      Each function exists for float (_f32) and double (_f64). The two differ only in the type of the data;
 *            statistics, losses and scalar parameters are double in both.
 * Matrices   Row-major, `n` rows of `d` elements. `x_stride` is the distance between the first elements of two rows,
 *            in elements, and is at least d. Weights are (in, out), as in y = x w.
 * Outputs    OVERWRITTEN: nothing of the old contents is read. ACCUMULATED: the result is added to, or moves, what is
 *            there. Bytes between the rows of a strided output are neither read nor written.
 * Aliasing   An output overlaps no other argument unless the comment says "may be x": then it may be exactly x (the
 *            same pointer and the same stride), with the same bits as out of place. Other overlaps are refused with
 *            NORMCORE_ERROR_ALIAS before anything is written. Matrices of one stride whose columns lie side by side
 *            in a wider matrix do not overlap.
 * Empty      n == 0 is allowed everywhere: results are empty, parameter gradients 0, running statistics untouched.
 *            Pointers of empty arrays are not read and may be NULL.
 * NaN        NaN in one row (for batch normalisation: one column) reaches only the results of that row (column). Every
 *            NaN that is stored is the canonical quiet one: 0x7fc00000, 0x7ff8000000000000.
 * Options    Structs of options begin with their size, so that they can grow: at the end, by fields whose zero is the
 *            default. Fill them with normcore_..._defaults(), which writes no more than the size it is given, or zero
 *            all of them and set struct_size. A library accepts the structs of all versions from 0.1 on: of an older
 *            one what is missing is zero, and of a newer one what it does not know must be (NORMCORE_ERROR_VALUE).
 * Errors     Functions return a status. When it is not NORMCORE_OK no output has been written, but for
 *            NORMCORE_ERROR_MEMORY, after which the contents of the outputs are unspecified. Nothing is printed, no
 *            signal is raised, errno is left as it was, no pointer is kept after the call.
 * Context    `ctx` may be NULL: one thread, malloc, the process-wide instruction set. See normcore_context_create().
 * Threads    Functions may be called from several threads at once if their outputs are distinct. A context that is
 *            busy in one thread serves a second one serially rather than waiting. On Linux a context
 *            keeps its own threads off the CPU that the caller is on, where the caller's affinity mask has others
 *            enough (or, if that is one CPU, the mask at the time they were started), and leaves alone those whose
 *            mask somebody else has set. A thread that is cancelled during a call (pthread_cancel, deferred) finishes
 *            it first: no function is a cancellation point, whatever the functions given to a context do. If another
 *            thread or process changes an input or an options struct during the call, the results are unspecified, but
 *            nothing outside the arrays is read or written.
 * Scalars    A parameter that is used in the data's type is judged after rounding to it: with _f32, a learning rate of
 *            1e39 is infinite, a momentum of 1 - 1e-9 is 1.
 * FP state   Results are defined for round-to-nearest with subnormals. Where the caller's environment differs, it is
 *            set for the duration of the call and put back; on x86 and Arm traps of exceptions are off meanwhile. Scalar
 *            arguments and running variances are checked before that: there a quiet NaN traps nothing, but a product,
 *            quotient or sum of scalars may, where it overflows, underflows or is rounded.
 *
 * The same inputs give the same bits on every instruction set, compiler, alignment, stride and number of threads, and,
 * for results that are computed row by row, for every way of cutting the rows into calls. The rules that make it so
 * are the numeric contract NORMCORE_CONTRACT.
 *
 * Not promised: which floating-point exception flags are raised; the same bits from a later contract; speed on
 * overlapping cache lines or subnormal data.
 */
#ifndef NORMCORE_H
#define NORMCORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NORMCORE_VERSION_MAJOR  0
#define NORMCORE_VERSION_MINOR  1
#define NORMCORE_VERSION_PATCH  0
#define NORMCORE_VERSION_STRING "0.1.0"

/* The numeric contract of this version. Results change bits only together with this name. */
#define NORMCORE_CONTRACT "NC1"

/* Marks what is exported. A build of a shared library defines it, as __attribute__((visibility("default"))), say. */
#ifndef NORMCORE_API
#define NORMCORE_API
#endif

/* ---------------------------------------------------------------- status, version, instruction sets */

typedef enum normcore_status {
    NORMCORE_OK = 0,
    NORMCORE_ERROR_NULL = 1,   /* a pointer that is needed is NULL */
    NORMCORE_ERROR_SIZE = 2,   /* a size, or a product of sizes, does not fit into size_t, or an impossible shape */
    NORMCORE_ERROR_STRIDE = 3, /* a row stride is smaller than the row */
    NORMCORE_ERROR_ALIAS = 4,  /* an output overlaps an argument it must not overlap */
    NORMCORE_ERROR_VALUE = 5,  /* a scalar parameter is out of its range or NaN, or a running variance negative */
    NORMCORE_ERROR_LABEL = 6,  /* a label or a target is out of range; *bad_row tells the first such row */
    NORMCORE_ERROR_WEIGHT = 7, /* a weight is negative, infinite, NaN, too large or small; *bad_row: its index */
    NORMCORE_ERROR_MEMORY = 8, /* the allocator gave NULL */
    NORMCORE_ERROR_ISA = 9,    /* no such instruction set in this build, or not on this machine */
    NORMCORE_ERROR_ENVIRONMENT_ISA = 10,     /* the environment variable NORMCORE_ISA names none of this build */
    NORMCORE_ERROR_ENVIRONMENT_THREADS = 11, /* NORMCORE_NUM_THREADS is not a number from 1 to NORMCORE_MAX_THREADS */
    NORMCORE_ERROR_SELFTEST = 12             /* the self-test found arithmetic that breaks the contract */
} normcore_status;

/* One line of English for a status; never NULL. The string is static. */
NORMCORE_API const char *normcore_strerror(normcore_status status);

/* NORMCORE_VERSION_STRING and NORMCORE_CONTRACT of the library that is linked, as against the header that was read. */
NORMCORE_API const char *normcore_version(void);
NORMCORE_API const char *normcore_contract(void);

/*
 * Every kernel is compiled once per instruction set; all give the same bits. The best one that the machine and its
 * operating system support is chosen at the first call, no better than the environment variable NORMCORE_ISA says
 * (empty: as if unset). If it holds a name this build does not know, every call that needs a kernel returns
 * NORMCORE_ERROR_ENVIRONMENT_ISA, except after normcore_set_isa() and with a context that names an instruction set.
 */

/* Name of the index-th instruction set that this machine can run, best first; NULL when there are no more. */
NORMCORE_API const char *normcore_isa_name(size_t index);
/* Name of the instruction set in use by calls without a cap of their own; NULL if NORMCORE_ISA is not understood. */
NORMCORE_API const char *normcore_get_isa(void);
/*
 * Makes the whole process use this instruction set from now on, or the best one if name is NULL. NORMCORE_ERROR_ISA,
 * and no change, if it cannot run here.
 */
NORMCORE_API normcore_status normcore_set_isa(const char *name);
/*
 * Features of this CPU that matter here, separated by blanks ("avx2 fma avx512f ..."); "" where there are none. The
 * string is static.
 */
NORMCORE_API const char *normcore_cpu_features(void);

/*
 * Checks that the arithmetic of this process is the one the contract needs: no contraction of a*b+c, exact fma (known
 * triples that several C libraries get wrong), subnormals, canonical NaN, and the digest of each kernel of each
 * instruction set the machine can run. Takes well under a millisecond per instruction set. NORMCORE_OK or
 * NORMCORE_ERROR_SELFTEST; then *what (if not NULL) is a static text that says which check failed.
 */
NORMCORE_API normcore_status normcore_selftest(const char **what);

/* ---------------------------------------------------------------- context */

/* Owns a thread pool, scratch memory and settings. Calls with the same context reuse both. */
typedef struct normcore_context normcore_context;

/* Runs body(arg, index) for each index in [0, count), in any order, on any threads, and returns when all are done. */
typedef void (*normcore_parallel_for)(void *user, void (*body)(void *arg, size_t index), void *arg, size_t count);

typedef struct normcore_context_options {
    size_t struct_size; /* sizeof(normcore_context_options) */
    /* Threads a call may use, the caller's among them: at most NORMCORE_MAX_THREADS. 0: as many as the environment
       variable NORMCORE_NUM_THREADS says or, if it is unset or empty, as the affinity mask has CPUs. */
    size_t num_threads;
    const char *isa;                            /* use no better instruction set than this one; NULL: no cap */
    void *(*allocate)(void *user, size_t size); /* both or neither; memory aligned as by malloc */
    void (*release)(void *user, void *memory);
    void *allocator_user;
    normcore_parallel_for parallel_for; /* the caller's own threads instead of the pool; num_threads says how many */
    void *parallel_user;
} normcore_context_options;

#define NORMCORE_MAX_THREADS 1024

/*
 * Every struct of options has such a function. It returns NORMCORE_ERROR_NULL, or NORMCORE_ERROR_VALUE for a
 * struct_size that no version has, and then writes nothing. The defaults of a context: as many threads as the
 * environment says, no cap, malloc, the pool.
 */
NORMCORE_API normcore_status normcore_context_defaults(normcore_context_options *options, size_t struct_size);

/*
 * `options` may be NULL (all defaults). On failure *ctx is NULL. Threads start at the first call that needs them.
 * A context may be used in a forked child, whatever other threads of the parent were doing with it.
 */
NORMCORE_API normcore_status normcore_context_create(const normcore_context_options *options, normcore_context **ctx);
/* Joins the threads and frees everything. NULL is allowed. No call with the context may be in progress. */
NORMCORE_API void normcore_context_destroy(normcore_context *ctx);
/*
 * Sets num_threads, as in the options, from the next call on. It waits for nothing and may be called while others use
 * the context. Results do not depend on it.
 */
NORMCORE_API normcore_status normcore_context_set_num_threads(normcore_context *ctx, size_t num_threads);
NORMCORE_API size_t normcore_context_get_num_threads(const normcore_context *ctx);

/* From here on prototypes are laid out by hand: a pointer and its stride share a line. */
/* clang-format off */

/* ---------------------------------------------------------------- affine */

/*
 * y = x w + b, then max(y, 0) if relu is not 0.
 * x (n, k); w (k, m); b (m) or NULL for no bias; y (n, m) OVERWRITTEN. k == 0 gives the bias.
 * Each y[i][j] is a sum of blocks of 256 values of k, in order, each of which is a chain of fmas from +0 in the data's
 * precision; b[j] is added last.
 */
NORMCORE_API normcore_status normcore_affine_forward_f32(normcore_context *ctx, size_t n, size_t k, size_t m,
                                                         const float *x, size_t x_stride,
                                                         const float *w, size_t w_stride, const float *b, int relu,
                                                         float *y, size_t y_stride);
NORMCORE_API normcore_status normcore_affine_forward_f64(normcore_context *ctx, size_t n, size_t k, size_t m,
                                                         const double *x, size_t x_stride,
                                                         const double *w, size_t w_stride, const double *b, int relu,
                                                         double *y, size_t y_stride);

/*
 * Gradients of the affine map without ReLU: dx = dy w^T, dw = x^T dy, db = sum of the rows of dy.
 * dy (n, m); dx (n, k), dw (k, m), db (m) OVERWRITTEN; each may be NULL: then it is not computed, and w (for dx) or
 * x (for dw) may be NULL too. After a fused ReLU, put dy through its backward pass with y first.
 */
NORMCORE_API normcore_status normcore_affine_backward_f32(normcore_context *ctx, size_t n, size_t k, size_t m,
                                                          const float *dy, size_t dy_stride,
                                                          const float *x, size_t x_stride,
                                                          const float *w, size_t w_stride,
                                                          float *dx, size_t dx_stride, float *dw, size_t dw_stride,
                                                          float *db);
NORMCORE_API normcore_status normcore_affine_backward_f64(normcore_context *ctx, size_t n, size_t k, size_t m,
                                                          const double *dy, size_t dy_stride,
                                                          const double *x, size_t x_stride,
                                                          const double *w, size_t w_stride,
                                                          double *dx, size_t dx_stride, double *dw, size_t dw_stride,
                                                          double *db);

/* ---------------------------------------------------------------- activations */

typedef enum normcore_activation {
    NORMCORE_ACTIVATION_RELU = 0,       /* x > 0 ? x : +0; -0 gives +0 */
    NORMCORE_ACTIVATION_LEAKY_RELU = 1, /* x > 0 ? x : slope x */
    NORMCORE_ACTIVATION_TANH = 2,       /* odd to the bit; -0 gives -0 */
    NORMCORE_ACTIVATION_LOGISTIC = 3,   /* 1 / (1 + exp(-x)), the sigmoid */
    NORMCORE_ACTIVATION_SILU = 4,       /* x / (1 + exp(-x)), also called swish; -inf gives -0, its limit */
    NORMCORE_ACTIVATION_RELU6 = 5       /* ReLU up to 6, and 6 beyond */
} normcore_activation;

/*
 * What the backward pass of an activation takes: 1 for the input of its forward pass, 0 for the output, -1 for a number
 * that is not an activation.
 */
NORMCORE_API int normcore_activation_takes_input(normcore_activation activation);

/*
 * y = activation(x), element by element. x (n, d); y (n, d) OVERWRITTEN, may be x. NaN gives NaN.
 * slope, in [0, 1], is used by leaky ReLU alone, for which 0.01 is usual; a slope that is 0 in the data's type gives
 * ReLU. tanh, logistic and silu are within 2 units in the last place for every x, subnormal results included.
 */
NORMCORE_API normcore_status normcore_activation_forward_f32(normcore_context *ctx, normcore_activation activation,
                                                             double slope, size_t n, size_t d,
                                                             const float *x, size_t x_stride,
                                                             float *y, size_t y_stride);
NORMCORE_API normcore_status normcore_activation_forward_f64(normcore_context *ctx, normcore_activation activation,
                                                             double slope, size_t n, size_t d,
                                                             const double *x, size_t x_stride,
                                                             double *y, size_t y_stride);

/*
 * dx = dy times the derivative. `saved` (n, d) is the output y of the forward pass, or its input x: as
 * normcore_activation_takes_input() says (of ReLU and leaky ReLU either). dy (n, d); dx (n, d) OVERWRITTEN, may be dy or
 * saved. The derivative is 1 - y^2 (tanh), y - y^2 (logistic), s (1 + x (1 - s)) with s the logistic function of x
 * (silu); of ReLU and leaky ReLU 0 and slope where y <= 0, of ReLU6 0 there and where y >= 6, else 1, where y is NaN
 * as well.
 */
NORMCORE_API normcore_status normcore_activation_backward_f32(normcore_context *ctx, normcore_activation activation,
                                                              double slope, size_t n, size_t d,
                                                              const float *dy, size_t dy_stride,
                                                              const float *saved, size_t saved_stride,
                                                              float *dx, size_t dx_stride);
NORMCORE_API normcore_status normcore_activation_backward_f64(normcore_context *ctx, normcore_activation activation,
                                                              double slope, size_t n, size_t d,
                                                              const double *dy, size_t dy_stride,
                                                              const double *saved, size_t saved_stride,
                                                              double *dx, size_t dx_stride);

/* ---------------------------------------------------------------- softmax and cross-entropy */

/*
 * Each row: exp(x - max) / sum(exp(x - max)). x (n, d); y (n, d) OVERWRITTEN, may be x.
 * A row with NaN or +inf, or with nothing but -inf, becomes NaN.
 */
NORMCORE_API normcore_status normcore_softmax_f32(normcore_context *ctx, size_t n, size_t d,
                                                  const float *x, size_t x_stride, float *y, size_t y_stride);
NORMCORE_API normcore_status normcore_softmax_f64(normcore_context *ctx, size_t n, size_t d,
                                                  const double *x, size_t x_stride, double *y, size_t y_stride);

/*
 * Logarithm of softmax, computed as (x - max) - log1p(sum of exp(x - max) less a greatest term). Arguments and
 * special rows as in softmax.
 */
NORMCORE_API normcore_status normcore_log_softmax_f32(normcore_context *ctx, size_t n, size_t d,
                                                      const float *x, size_t x_stride, float *y, size_t y_stride);
NORMCORE_API normcore_status normcore_log_softmax_f64(normcore_context *ctx, size_t n, size_t d,
                                                      const double *x, size_t x_stride, double *y, size_t y_stride);

/* Gradient of softmax: dx = y (dy - sum(dy y)), the sum along the row. dy, y (n, d); dx OVERWRITTEN, may be dy or y. */
NORMCORE_API normcore_status normcore_softmax_backward_f32(normcore_context *ctx, size_t n, size_t d,
                                                           const float *dy, size_t dy_stride,
                                                           const float *y, size_t y_stride,
                                                           float *dx, size_t dx_stride);
NORMCORE_API normcore_status normcore_softmax_backward_f64(normcore_context *ctx, size_t n, size_t d,
                                                           const double *dy, size_t dy_stride,
                                                           const double *y, size_t y_stride,
                                                           double *dx, size_t dx_stride);

/* Gradient of log-softmax: dx = dy - exp(y) sum(dy). y is the output of log_softmax; dx may be dy or y. */
NORMCORE_API normcore_status normcore_log_softmax_backward_f32(normcore_context *ctx, size_t n, size_t d,
                                                               const float *dy, size_t dy_stride,
                                                               const float *y, size_t y_stride,
                                                               float *dx, size_t dx_stride);
NORMCORE_API normcore_status normcore_log_softmax_backward_f64(normcore_context *ctx, size_t n, size_t d,
                                                               const double *dy, size_t dy_stride,
                                                               const double *y, size_t y_stride,
                                                               double *dx, size_t dx_stride);

typedef enum normcore_reduction {
    NORMCORE_REDUCTION_MEAN = 0, /* sum(l) / sum(w); 0 if sum(w) is 0 */
    NORMCORE_REDUCTION_SUM = 1,  /* sum(l) */
    NORMCORE_REDUCTION_NONE = 2  /* loss has n elements, l each; dlogits is the gradient of their sum */
} normcore_reduction;

typedef struct normcore_cross_entropy_options {
    size_t struct_size; /* sizeof(normcore_cross_entropy_options) */
    /* (c) of each class's share in the loss, or NULL: 1. Finite, not negative; the greatest times the greatest sample
       weight is finite in the data's type, and times n at most 2^960 (1e289), so that sums of losses are finite.
       For a mean the weights of the rows are 0 or sum to at least 2^-960, so that sums of losses are not rounded. */
    const double *class_weight;
    const double *sample_weight; /* (n) of each row; finite, not negative; or NULL: 1 */
    double label_smoothing;      /* e in [0, 1]: the target is (1 - e) target + e / c */
    int has_ignore_index; /* not 0: rows whose label is ignore_index weigh 0 and get a zero gradient, even of NaN */
    int64_t ignore_index;
    normcore_reduction reduction;
} normcore_cross_entropy_options;

/* No weights, no smoothing, no index to ignore, the mean. */
NORMCORE_API normcore_status normcore_cross_entropy_defaults(normcore_cross_entropy_options *options,
                                                             size_t struct_size);

/*
 * Softmax cross-entropy of logits (n, c) against integer labels (n) or soft targets (n, c), of which just one is given;
 * `options` may be NULL (the defaults). Targets need not sum to 1; ignore_index goes with labels only.
 * For each row l = -sample_weight sum(class_weight target log(softmax(z))), a label being a target of 1 for its class;
 * the logarithm is log1p of the sum of exp without its greatest term: accurate down to the smallest losses. l is linear
 * in the targets, which may have any sign, and class weights of 1 change nothing. The mean is sum(l) / sum(w), 0 if
 * sum(w) is: w is the row's sample weight, with labels times the class weight of its label; 0 for an ignored row.
 * loss: one double (n doubles for NORMCORE_REDUCTION_NONE), dlogits (n, c) (may be NULL, may be logits), weight_sum:
 * sum(w), one double or NULL; all OVERWRITTEN. bad_row may be NULL: see NORMCORE_ERROR_LABEL and _WEIGHT.
 * A row with NaN or +inf, or with nothing but -inf, has a NaN loss and gradient. n > 0 with c == 0 is
 * NORMCORE_ERROR_SIZE.
 */
NORMCORE_API normcore_status normcore_cross_entropy_f32(normcore_context *ctx, size_t n, size_t c,
                                                        const float *logits, size_t logits_stride,
                                                        const int64_t *labels,
                                                        const float *targets, size_t targets_stride,
                                                        const normcore_cross_entropy_options *options, double *loss,
                                                        float *dlogits, size_t dlogits_stride, double *weight_sum,
                                                        size_t *bad_row);
NORMCORE_API normcore_status normcore_cross_entropy_f64(normcore_context *ctx, size_t n, size_t c,
                                                        const double *logits, size_t logits_stride,
                                                        const int64_t *labels,
                                                        const double *targets, size_t targets_stride,
                                                        const normcore_cross_entropy_options *options, double *loss,
                                                        double *dlogits, size_t dlogits_stride, double *weight_sum,
                                                        size_t *bad_row);

/* ---------------------------------------------------------------- losses of numbers */

typedef struct normcore_loss_options {
    size_t struct_size;          /* sizeof(normcore_loss_options) */
    const double *sample_weight; /* (n) of each row, or NULL: 1; as in normcore_cross_entropy_options */
    normcore_reduction reduction;
    /* Each is looked at by its own loss alone, which refuses what is out of range in the data's type. */
    double delta; /* of the Huber loss: finite, greater than 0 */
    double tau;   /* of the quantile loss: in (0, 1) */
} normcore_loss_options;

/* No weights, the mean, delta 1, tau 0.5. */
NORMCORE_API normcore_status normcore_loss_defaults(normcore_loss_options *options, size_t struct_size);

/*
 * Losses of outputs y (n, d) against targets t (n, d), and their gradients; `options` may be NULL (the defaults).
 * A row's loss is the mean over its d outputs of what stands below; l is that times the row's weight w. Means over the
 * rows are as normcore_reduction says, with sum(w) the sum of the sample weights.
 * loss: one double (n doubles for NORMCORE_REDUCTION_NONE), dy (n, d) (may be NULL, may be y), weight_sum: sum(w), one
 * double or NULL; all OVERWRITTEN. bad_row may be NULL: see NORMCORE_ERROR_LABEL, of a target that is out of range, and
 * _WEIGHT.
 * A row of weight 0 has a loss and a gradient of 0. NaN among the outputs or targets of a row makes its loss NaN, even
 * with weight 0, and the gradient of that output. n > 0 with d == 0 is NORMCORE_ERROR_SIZE.
 */

/*
 * Logistic loss of independent answers of 0 or 1, t in [0, 1]: log(1 + exp(y)) - t y. Its gradient,
 * 1 / (1 + exp(-y)) - t, suffers no cancellation where t is 0 or 1. A target of 1 costs nothing where y is inf, nor does
 * one of 0 where it is -inf.
 */
NORMCORE_API normcore_status normcore_logistic_loss_f32(normcore_context *ctx, size_t n, size_t d,
                                                        const float *y, size_t y_stride,
                                                        const float *t, size_t t_stride,
                                                        const normcore_loss_options *options, double *loss,
                                                        float *dy, size_t dy_stride,
                                                        double *weight_sum, size_t *bad_row);
NORMCORE_API normcore_status normcore_logistic_loss_f64(normcore_context *ctx, size_t n, size_t d,
                                                        const double *y, size_t y_stride,
                                                        const double *t, size_t t_stride,
                                                        const normcore_loss_options *options, double *loss,
                                                        double *dy, size_t dy_stride,
                                                        double *weight_sum, size_t *bad_row);

/* Squared error (y - t)^2, without a factor of 1/2: its gradient is 2 (y - t). */
NORMCORE_API normcore_status normcore_squared_error_f32(normcore_context *ctx, size_t n, size_t d,
                                                        const float *y, size_t y_stride,
                                                        const float *t, size_t t_stride,
                                                        const normcore_loss_options *options, double *loss,
                                                        float *dy, size_t dy_stride,
                                                        double *weight_sum, size_t *bad_row);
NORMCORE_API normcore_status normcore_squared_error_f64(normcore_context *ctx, size_t n, size_t d,
                                                        const double *y, size_t y_stride,
                                                        const double *t, size_t t_stride,
                                                        const normcore_loss_options *options, double *loss,
                                                        double *dy, size_t dy_stride,
                                                        double *weight_sum, size_t *bad_row);

/*
 * Huber loss: r^2 / 2 for r = y - t within delta, delta (|r| - delta / 2) beyond (P. J. Huber, Robust estimation of a
 * location parameter, 1964). Its gradient is r cut off at -delta and delta.
 */
NORMCORE_API normcore_status normcore_huber_loss_f32(normcore_context *ctx, size_t n, size_t d,
                                                     const float *y, size_t y_stride,
                                                     const float *t, size_t t_stride,
                                                     const normcore_loss_options *options, double *loss,
                                                     float *dy, size_t dy_stride,
                                                     double *weight_sum, size_t *bad_row);
NORMCORE_API normcore_status normcore_huber_loss_f64(normcore_context *ctx, size_t n, size_t d,
                                                     const double *y, size_t y_stride,
                                                     const double *t, size_t t_stride,
                                                     const normcore_loss_options *options, double *loss,
                                                     double *dy, size_t dy_stride,
                                                     double *weight_sum, size_t *bad_row);

/*
 * Quantile or pinball loss: max(tau (t - y), (tau - 1) (t - y)), least where y is the tau-quantile of t (R. Koenker and
 * G. Bassett, Regression quantiles, 1978). Its gradient is 1 - tau where y > t, -tau where y < t, and 0
 * where they are equal.
 */
NORMCORE_API normcore_status normcore_quantile_loss_f32(normcore_context *ctx, size_t n, size_t d,
                                                        const float *y, size_t y_stride,
                                                        const float *t, size_t t_stride,
                                                        const normcore_loss_options *options, double *loss,
                                                        float *dy, size_t dy_stride,
                                                        double *weight_sum, size_t *bad_row);
NORMCORE_API normcore_status normcore_quantile_loss_f64(normcore_context *ctx, size_t n, size_t d,
                                                        const double *y, size_t y_stride,
                                                        const double *t, size_t t_stride,
                                                        const normcore_loss_options *options, double *loss,
                                                        double *dy, size_t dy_stride,
                                                        double *weight_sum, size_t *bad_row);

/*
 * Poisson loss of counts t >= 0, of whose mean y is the logarithm: exp(y) - t y, the negative log-likelihood but for
 * what depends on t alone. Its gradient is exp(y) - t. exp is the data's type's: infinite from 88.8 (709.8) on.
 */
NORMCORE_API normcore_status normcore_poisson_loss_f32(normcore_context *ctx, size_t n, size_t d,
                                                       const float *y, size_t y_stride,
                                                       const float *t, size_t t_stride,
                                                       const normcore_loss_options *options, double *loss,
                                                       float *dy, size_t dy_stride,
                                                       double *weight_sum, size_t *bad_row);
NORMCORE_API normcore_status normcore_poisson_loss_f64(normcore_context *ctx, size_t n, size_t d,
                                                       const double *y, size_t y_stride,
                                                       const double *t, size_t t_stride,
                                                       const normcore_loss_options *options, double *loss,
                                                       double *dy, size_t dy_stride,
                                                       double *weight_sum, size_t *bad_row);

/* Every loss of the library, where one is to be named. */
typedef enum normcore_loss {
    NORMCORE_LOSS_CROSS_ENTROPY = 0,
    NORMCORE_LOSS_LOGISTIC = 1,
    NORMCORE_LOSS_SQUARED_ERROR = 2,
    NORMCORE_LOSS_HUBER = 3,
    NORMCORE_LOSS_QUANTILE = 4,
    NORMCORE_LOSS_POISSON = 5
} normcore_loss;

/* ---------------------------------------------------------------- batch normalisation */

typedef struct normcore_batch_norm_options {
    size_t struct_size; /* sizeof(normcore_batch_norm_options) */
    int training;       /* 0: normalise with the running statistics and leave them alone */
    double momentum;    /* running = momentum * running + (1 - momentum) * batch; in [0, 1]. PyTorch's is 1 - this. */
    double eps;         /* added to the variance inside the root: finite, and 0 or at least FLT_MIN or DBL_MIN */
    /* not 0: the running variance moves to M2 / (n - 1) (PyTorch), not M2 / n; n == 1: M2 / n */
    int unbiased_running_var;
} normcore_batch_norm_options;

/* training 1, momentum 0.9, eps 1e-5, biased running variance */
NORMCORE_API normcore_status normcore_batch_norm_defaults(normcore_batch_norm_options *options, size_t struct_size);

/*
 * y = gamma (x - mean) / sqrt(var + eps) + beta, column by column (Ioffe and Szegedy, arXiv 1502.03167).
 * x (n, d); gamma, beta (d); y (n, d) OVERWRITTEN, may be x. mean, rstd (d) double OVERWRITTEN: the mean and
 * 1 / sqrt(var + eps) used, which the backward function needs. `options` may be NULL: the defaults.
 * Training: mean and biased variance are the batch's; running_mean, running_var (d), both or neither, ACCUMULATED.
 * Evaluation: they are the running statistics, which are then needed. n == 0 in training leaves mean 0, rstd 0.
 * A negative running variance is NORMCORE_ERROR_VALUE in both (NaN is not: it stays in its column).
 * Where var + eps == 0, rstd is +inf and y NaN.
 */
NORMCORE_API normcore_status normcore_batch_norm_forward_f32(normcore_context *ctx, size_t n, size_t d,
                                                             const float *x, size_t x_stride,
                                                             const float *gamma, const float *beta,
                                                             const normcore_batch_norm_options *options,
                                                             float *running_mean, float *running_var,
                                                             float *y, size_t y_stride, double *mean, double *rstd);
NORMCORE_API normcore_status normcore_batch_norm_forward_f64(normcore_context *ctx, size_t n, size_t d,
                                                             const double *x, size_t x_stride,
                                                             const double *gamma, const double *beta,
                                                             const normcore_batch_norm_options *options,
                                                             double *running_mean, double *running_var,
                                                             double *y, size_t y_stride, double *mean, double *rstd);

typedef enum normcore_batch_norm_algorithm {
    NORMCORE_BATCH_NORM_FUSED = 0, /* the simplified closed form, two passes */
    NORMCORE_BATCH_NORM_GRAPH = 1  /* step by step through the computational graph, intermediates in memory */
} normcore_batch_norm_algorithm;

/*
 * Gradients of batch normalisation from the x, gamma, mean and rstd of the forward call. The algorithms agree to
 * rounding. training == 0: of the evaluation form, dx = dy gamma rstd, for either algorithm.
 * dy, x (n, d); dx (n, d), may be dy; dgamma, dbeta (d); each OVERWRITTEN, each may be NULL.
 */
NORMCORE_API normcore_status normcore_batch_norm_backward_f32(normcore_context *ctx, size_t n, size_t d,
                                                              const float *dy, size_t dy_stride,
                                                              const float *x, size_t x_stride, const float *gamma,
                                                              const double *mean, const double *rstd, int training,
                                                              normcore_batch_norm_algorithm algorithm,
                                                              float *dx, size_t dx_stride,
                                                              float *dgamma, float *dbeta);
NORMCORE_API normcore_status normcore_batch_norm_backward_f64(normcore_context *ctx, size_t n, size_t d,
                                                              const double *dy, size_t dy_stride,
                                                              const double *x, size_t x_stride, const double *gamma,
                                                              const double *mean, const double *rstd, int training,
                                                              normcore_batch_norm_algorithm algorithm,
                                                              double *dx, size_t dx_stride,
                                                              double *dgamma, double *dbeta);

/* ---------------------------------------------------------------- layer normalisation */

/*
 * y = gamma (x - mean) / sqrt(var + eps) + beta, row by row (Ba, Kiros and Hinton, arXiv 1607.06450).
 * x (n, d); gamma, beta (d); y (n, d) OVERWRITTEN, may be x; mean, rstd (n) double OVERWRITTEN, both may be NULL;
 * d == 0 makes them 0. eps: finite, and 0 or at least FLT_MIN or DBL_MIN, by the dtype.
 * Where var + eps == 0, rstd is +inf and y NaN.
 */
NORMCORE_API normcore_status normcore_layer_norm_forward_f32(normcore_context *ctx, size_t n, size_t d,
                                                             const float *x, size_t x_stride,
                                                             const float *gamma, const float *beta, double eps,
                                                             float *y, size_t y_stride, double *mean, double *rstd);
NORMCORE_API normcore_status normcore_layer_norm_forward_f64(normcore_context *ctx, size_t n, size_t d,
                                                             const double *x, size_t x_stride,
                                                             const double *gamma, const double *beta, double eps,
                                                             double *y, size_t y_stride, double *mean, double *rstd);

/*
 * Gradients of layer normalisation. dy, x (n, d). dx (n, d), which may be dy, dgamma and dbeta (d) are OVERWRITTEN;
 * each may be NULL.
 */
NORMCORE_API normcore_status normcore_layer_norm_backward_f32(normcore_context *ctx, size_t n, size_t d,
                                                              const float *dy, size_t dy_stride,
                                                              const float *x, size_t x_stride, const float *gamma,
                                                              const double *mean, const double *rstd,
                                                              float *dx, size_t dx_stride,
                                                              float *dgamma, float *dbeta);
NORMCORE_API normcore_status normcore_layer_norm_backward_f64(normcore_context *ctx, size_t n, size_t d,
                                                              const double *dy, size_t dy_stride,
                                                              const double *x, size_t x_stride, const double *gamma,
                                                              const double *mean, const double *rstd,
                                                              double *dx, size_t dx_stride,
                                                              double *dgamma, double *dbeta);

/* ---------------------------------------------------------------- random numbers */

/*
 * Philox4x32-10 (Salmon et al., SC'11), keyed by `seed`; the counter is (block, stream). A stream is an array of 32-bit
 * words of which any stretch can be made without what comes before: value `offset + i` depends on nothing else.
 * Float values use one word each, double values and integers two, the low half first. Word numbers are modulo 2^64.
 */

/*
 * out[i] = low + (high - low) u, u a multiple of 2^-24 (f32) or 2^-53 (f64) in [0, 1). Rounding may give `high`
 * itself. low <= high; both and their difference are finite in the data's type.
 */
NORMCORE_API normcore_status normcore_random_uniform_f32(normcore_context *ctx,
                                                         uint64_t seed, uint64_t stream, uint64_t offset, size_t n,
                                                         double low, double high, float *out);
NORMCORE_API normcore_status normcore_random_uniform_f64(normcore_context *ctx,
                                                         uint64_t seed, uint64_t stream, uint64_t offset, size_t n,
                                                         double low, double high, double *out);
/*
 * mean + scale times normal deviates by inversion (Wichura, algorithm AS 241) of (w + 1/2) 2^-32, w the word (f32), or
 * of (w + 1/2) 2^-52, w the upper 52 bits of the two words (f64): |deviate| < 6.4 (f32), 8.3 (f64). scale is not
 * negative, and |mean| + 9 scale finite in the data's type.
 */
NORMCORE_API normcore_status normcore_random_normal_f32(normcore_context *ctx,
                                                        uint64_t seed, uint64_t stream, uint64_t offset, size_t n,
                                                        double mean, double scale, float *out);
NORMCORE_API normcore_status normcore_random_normal_f64(normcore_context *ctx,
                                                        uint64_t seed, uint64_t stream, uint64_t offset, size_t n,
                                                        double mean, double scale, double *out);
/* Integers in [0, bound), bound in [1, 2^63]: the high half of a 64-bit word times bound (bias below bound / 2^64). */
NORMCORE_API normcore_status normcore_random_integers(normcore_context *ctx,
                                                      uint64_t seed, uint64_t stream, uint64_t offset, size_t n,
                                                      uint64_t bound, int64_t *out);
/*
 * A permutation of 0 ... n-1: Fisher-Yates from the end. Element i, from n-1 down to 1, is placed by an integer below
 * i + 1 at offset + n - 1 - i.
 */
NORMCORE_API normcore_status normcore_random_permutation(normcore_context *ctx,
                                                         uint64_t seed, uint64_t stream, uint64_t offset, size_t n,
                                                         int64_t *out);

/*
 * Inverted dropout: y[i][j] = x[i][j] times 1 / keep, rounded to the dtype, where word number offset + i d + j of the
 * stream is below floor(keep 2^32), +0 elsewhere. keep in [2^-32, 1]; 1 copies. The mask is not stored: the backward
 * call is the same function on dy, with the same seed, stream, offset and shape. x (n, d); y OVERWRITTEN, may be x.
 */
NORMCORE_API normcore_status normcore_dropout_f32(normcore_context *ctx, size_t n, size_t d,
                                                  const float *x, size_t x_stride, double keep,
                                                  uint64_t seed, uint64_t stream, uint64_t offset,
                                                  float *y, size_t y_stride);
NORMCORE_API normcore_status normcore_dropout_f64(normcore_context *ctx, size_t n, size_t d,
                                                  const double *x, size_t x_stride, double keep,
                                                  uint64_t seed, uint64_t stream, uint64_t offset,
                                                  double *y, size_t y_stride);

/* ---------------------------------------------------------------- optimisers */

typedef enum normcore_optimizer {
    NORMCORE_SGD = 0,      /* p -= lr g */
    NORMCORE_MOMENTUM = 1, /* v = mu v - lr g; p += v */
    NORMCORE_NESTEROV = 2, /* v = mu v - lr g; p += mu v - lr g */
    NORMCORE_RMSPROP = 3,  /* s = rho s + (1 - rho) g^2; p -= lr g / (sqrt(s) + eps) */
    NORMCORE_ADAM = 4      /* m = b1 m + (1 - b1) g; s = b2 s + (1 - b2) g^2;
                              p -= lr m / (1 - b1^t) / (sqrt(s / (1 - b2^t)) + eps) (Kingma and Ba, arXiv 1412.6980).
                              With weight_decay this is AdamW (Loshchilov and Hutter, arXiv 1711.05101). */
} normcore_optimizer;

typedef struct normcore_optimizer_options {
    size_t struct_size; /* sizeof(normcore_optimizer_options) */
    normcore_optimizer optimizer;
    /* All are judged after rounding to the data's type, whether this optimiser uses them or not. */
    double learning_rate; /* lr: finite, not negative; for Adam lr / (1 - b1) as well. May round to 0: no move */
    double momentum;      /* mu in [0, 1) */
    double decay_rate;    /* rho in [0, 1) */
    double beta1, beta2;  /* in [0, 1) */
    double eps;           /* finite, not negative; 0 only if given as 0: a gradient of 0 is then 0 / 0, NaN */
    double l2;           /* g + l2 p is used for g, p as before the decay; finite, not negative, 0 only if given as 0 */
    double weight_decay; /* decoupled: p -= lr weight_decay p first; not negative, lr weight_decay finite */
    double gradient_scale; /* g is multiplied by it before anything else (clipping); finite, 0 only if given as 0 */
    uint64_t step;         /* t: 1 at the first update */
} normcore_optimizer_options;

/*
 * lr 1e-3 (momentum 0.9, decay_rate 0.99, betas 0.9 and 0.999, eps 1e-8), l2 0, weight_decay 0, gradient_scale 1,
 * step 1. NORMCORE_ERROR_VALUE if there is no such optimiser.
 */
NORMCORE_API normcore_status normcore_optimizer_defaults(normcore_optimizer optimizer,
                                                         normcore_optimizer_options *options, size_t struct_size);

/*
 * One update of n parameters p from their gradients g. p ACCUMULATED. slot1 (n): v of momentum and Nesterov, m of Adam;
 * slot2 (n): s of RMSProp and Adam; ACCUMULATED, zero before the first step, NULL where the optimiser has none.
 * Elementwise, in the data's precision, in the order of operations written in the numeric contract.
 */
NORMCORE_API normcore_status normcore_optimizer_update_f32(normcore_context *ctx,
                                                           const normcore_optimizer_options *options, size_t n,
                                                           float *p, const float *g, float *slot1, float *slot2);
NORMCORE_API normcore_status normcore_optimizer_update_f64(normcore_context *ctx,
                                                           const normcore_optimizer_options *options, size_t n,
                                                           double *p, const double *g, double *slot1, double *slot2);

/* Sum of the squares of n elements, in double (gradient norms, L2 penalties, a test for NaN and Inf). OVERWRITTEN. */
NORMCORE_API normcore_status normcore_sum_of_squares_f32(normcore_context *ctx, size_t n, const float *x,
                                                         double *result);
NORMCORE_API normcore_status normcore_sum_of_squares_f64(normcore_context *ctx, size_t n, const double *x,
                                                         double *result);

/* ---------------------------------------------------------------- multilayer perceptron */

/*
 * {affine - [norm] - activation - [dropout]} x (layers - 1) - affine, over parameters, gradients and buffers that the
 * caller owns as flat arrays. The object holds only the shape, so that threads may share it; work memory is the
 * context's, and is kept there from one step to the next (with a NULL context it is allocated and freed at each call).
 */
typedef struct normcore_mlp normcore_mlp;

typedef enum normcore_norm { NORMCORE_NORM_NONE = 0, NORMCORE_NORM_BATCH = 1, NORMCORE_NORM_LAYER = 2 } normcore_norm;

typedef struct normcore_mlp_options {
    size_t struct_size;             /* sizeof(normcore_mlp_options) */
    size_t num_sizes;               /* at least 2 */
    const size_t *sizes;            /* features, hidden widths ..., outputs; each at least 1; copied */
    normcore_norm norm;             /* after each hidden affine map */
    normcore_activation activation; /* of the hidden layers; the slope of leaky ReLU is 0.01 */
    double keep;     /* dropout after each hidden activation: probability to keep, in [2^-32, 1]; 1: none */
    double eps;      /* of the norms, as in normcore_batch_norm_options; _f32 calls refuse one below FLT_MIN */
    double momentum; /* of batch norm's running statistics, likewise */
    int unbiased_running_var;
} normcore_mlp_options;

/* No norm, ReLU, keep 1, eps 1e-5, momentum 0.9; the sizes are still to be set. */
NORMCORE_API normcore_status normcore_mlp_defaults(normcore_mlp_options *options, size_t struct_size);
NORMCORE_API normcore_status normcore_mlp_create(const normcore_mlp_options *options, normcore_mlp **mlp);
NORMCORE_API void normcore_mlp_destroy(normcore_mlp *mlp);

typedef enum normcore_mlp_kind {
    NORMCORE_MLP_WEIGHT = 0, /* (in, out) */
    NORMCORE_MLP_BIAS = 1,   /* (out), and so the following */
    NORMCORE_MLP_GAMMA = 2,
    NORMCORE_MLP_BETA = 3,
    NORMCORE_MLP_RUNNING_MEAN = 4, /* this and the next are buffers */
    NORMCORE_MLP_RUNNING_VAR = 5
} normcore_mlp_kind;

/*
 * Where one array lies: rows * cols elements from `offset` of the parameters (or of the buffers). A vector has one row.
 */
typedef struct normcore_mlp_segment {
    normcore_mlp_kind kind;
    size_t layer; /* 0 ... num_sizes - 2 */
    size_t offset, rows, cols;
} normcore_mlp_segment;

/* Elements of the parameter (and gradient) array and of the buffer array (running statistics; 0 without batch norm). */
NORMCORE_API size_t normcore_mlp_parameter_count(const normcore_mlp *mlp);
NORMCORE_API size_t normcore_mlp_buffer_count(const normcore_mlp *mlp);
/*
 * The index-th segment, parameters first and then buffers, layer by layer. NORMCORE_ERROR_SIZE when there are no more.
 */
NORMCORE_API normcore_status normcore_mlp_get_segment(const normcore_mlp *mlp, size_t index,
                                                      normcore_mlp_segment *segment);

/*
 * Weights = scale normal, with scale = weight_scale (9 times it is finite in the data's type) or, if that is negative,
 * by the activation: sqrt(2 / (in + out)) for tanh and logistic (Glorot and Bengio, AISTATS 2010, equation 12), and
 * sqrt(2 / in) for the others (He et al., arXiv 1502.01852, equation 10). Layer l uses stream `stream + l` of the seed.
 * Biases and beta 0, gamma 1; running mean 0, running variance 1. OVERWRITTEN.
 */
NORMCORE_API normcore_status normcore_mlp_initialize_f32(normcore_context *ctx, const normcore_mlp *mlp,
                                                         uint64_t seed, uint64_t stream, double weight_scale,
                                                         float *params, float *buffers);
NORMCORE_API normcore_status normcore_mlp_initialize_f64(normcore_context *ctx, const normcore_mlp *mlp,
                                                         uint64_t seed, uint64_t stream, double weight_scale,
                                                         double *params, double *buffers);

/*
 * Outputs y (n, outputs) of x (n, features) in evaluation mode: logits, or whatever the loss makes of them. OVERWRITTEN.
 * Rows are independent: any split of them gives the same bits. A negative running variance in the buffers is
 * NORMCORE_ERROR_VALUE, here and in training.
 */
NORMCORE_API normcore_status normcore_mlp_forward_f32(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                                      const float *x, size_t x_stride,
                                                      const float *params, const float *buffers,
                                                      float *y, size_t y_stride);
NORMCORE_API normcore_status normcore_mlp_forward_f64(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                                      const double *x, size_t x_stride,
                                                      const double *params, const double *buffers,
                                                      double *y, size_t y_stride);

/*
 * A training step is four calls:
 *
 *     normcore_mlp_forward_training   outputs y; what the backward pass needs is left in `pass`
 *     normcore_cross_entropy          or any other loss: from y to the loss and its gradients dy
 *     normcore_mlp_backward           from dy to the gradients of the parameters
 *     normcore_optimizer_update       parameters moved by their gradients
 *
 * A pass is memory for the activations of one batch, in one type of data, for one network, which must outlive it. It
 * is used for any number of steps of up to `rows` rows, by one thread at a time.
 */
typedef struct normcore_mlp_pass normcore_mlp_pass;

/* Bytes of a pass of up to `rows` rows; 0 if they do not fit into size_t or mlp is NULL. */
NORMCORE_API size_t normcore_mlp_pass_size_f32(const normcore_mlp *mlp, size_t rows);
NORMCORE_API size_t normcore_mlp_pass_size_f64(const normcore_mlp *mlp, size_t rows);
/*
 * Makes a pass in the caller's memory of `size` bytes, of any alignment, which stays the caller's.
 * NORMCORE_ERROR_SIZE, and *pass NULL, if that is too little.
 */
NORMCORE_API normcore_status normcore_mlp_pass_init_f32(const normcore_mlp *mlp, size_t rows, void *memory, size_t size,
                                                        normcore_mlp_pass **pass);
NORMCORE_API normcore_status normcore_mlp_pass_init_f64(const normcore_mlp *mlp, size_t rows, void *memory, size_t size,
                                                        normcore_mlp_pass **pass);
/* Makes a pass in memory of malloc. On failure *pass is NULL. */
NORMCORE_API normcore_status normcore_mlp_pass_create_f32(const normcore_mlp *mlp, size_t rows,
                                                          normcore_mlp_pass **pass);
NORMCORE_API normcore_status normcore_mlp_pass_create_f64(const normcore_mlp *mlp, size_t rows,
                                                          normcore_mlp_pass **pass);
/* Frees what normcore_mlp_pass_create took; of a pass in the caller's memory nothing. NULL is allowed. */
NORMCORE_API void normcore_mlp_pass_destroy(normcore_mlp_pass *pass);

/*
 * Outputs y (n, outputs) of x (n, features) in training mode: batch statistics, dropout. y and pass OVERWRITTEN;
 * buffers ACCUMULATED, or NULL: the running statistics stay as they are. Layer l draws its dropout from stream
 * `stream + l` of the seed at offset 0: each step wants new streams. NORMCORE_ERROR_VALUE if the pass is of another
 * network or type of data, NORMCORE_ERROR_SIZE if it is for fewer rows. Check labels before: the statistics move here.
 * Rows that a loss gives the weight 0 count in the batch statistics all the same. One row is its own mean there: it
 * teaches the layers below batch normalisation nothing.
 */
NORMCORE_API normcore_status normcore_mlp_forward_training_f32(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                                               const float *x, size_t x_stride,
                                                               const float *params, float *buffers,
                                                               uint64_t seed, uint64_t stream, normcore_mlp_pass *pass,
                                                               float *y, size_t y_stride);
NORMCORE_API normcore_status normcore_mlp_forward_training_f64(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                                               const double *x, size_t x_stride,
                                                               const double *params, double *buffers,
                                                               uint64_t seed, uint64_t stream, normcore_mlp_pass *pass,
                                                               double *y, size_t y_stride);

/*
 * Gradients of the parameters, grads OVERWRITTEN, and of the data, dx (n, features) OVERWRITTEN or NULL, from those of
 * the outputs, dy (n, outputs). x and params as they were given to the forward pass, n its number of rows (else
 * NORMCORE_ERROR_SIZE). The pass is left as it is, so that other dy may follow. NORMCORE_ERROR_VALUE if it holds no
 * forward pass, or is of another network or type of data.
 */
NORMCORE_API normcore_status normcore_mlp_backward_f32(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                                       const float *x, size_t x_stride, const float *params,
                                                       const normcore_mlp_pass *pass,
                                                       const float *dy, size_t dy_stride, float *grads,
                                                       float *dx, size_t dx_stride);
NORMCORE_API normcore_status normcore_mlp_backward_f64(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                                       const double *x, size_t x_stride, const double *params,
                                                       const normcore_mlp_pass *pass,
                                                       const double *dy, size_t dy_stride, double *grads,
                                                       double *dx, size_t dx_stride);

/* Which loss, and its options: of those not of this loss NORMCORE_ERROR_VALUE; NULL: its defaults. */
typedef struct normcore_mlp_loss_options {
    size_t struct_size; /* sizeof(normcore_mlp_loss_options) */
    normcore_loss loss;
    const normcore_cross_entropy_options *cross_entropy; /* of cross-entropy */
    const normcore_loss_options *numeric;                /* of every other loss */
} normcore_mlp_loss_options;

/* Cross-entropy, without options. */
NORMCORE_API normcore_status normcore_mlp_loss_defaults(normcore_mlp_loss_options *options, size_t struct_size);

/*
 * Forward pass in training mode, a loss, backward pass: the first three calls of a step in one, with the same bits,
 * over work memory of the context's. `options` says which loss; NULL is cross-entropy. Its reduction is mean or sum.
 * Cross-entropy takes labels (n) or soft targets (n, outputs), the other losses targets (n, outputs) and no labels
 * (NORMCORE_ERROR_VALUE); weight_sum and bad_row are as in the function of the loss. buffers ACCUMULATED (once labels
 * and targets have been found good) or NULL, grads and *loss OVERWRITTEN. Dropout as in normcore_mlp_forward_training.
 * NORMCORE_ERROR_SIZE if n == 0.
 */
NORMCORE_API normcore_status normcore_mlp_loss_and_grads_f32(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                                             const float *x, size_t x_stride, const int64_t *labels,
                                                             const float *targets, size_t targets_stride,
                                                             const normcore_mlp_loss_options *options,
                                                             uint64_t seed, uint64_t stream,
                                                             const float *params, float *buffers, float *grads,
                                                             double *loss, double *weight_sum, size_t *bad_row);
NORMCORE_API normcore_status normcore_mlp_loss_and_grads_f64(normcore_context *ctx, const normcore_mlp *mlp, size_t n,
                                                             const double *x, size_t x_stride, const int64_t *labels,
                                                             const double *targets, size_t targets_stride,
                                                             const normcore_mlp_loss_options *options,
                                                             uint64_t seed, uint64_t stream,
                                                             const double *params, double *buffers, double *grads,
                                                             double *loss, double *weight_sum, size_t *bad_row);

/* clang-format on */

#ifdef __cplusplus
}
#endif

#endif
