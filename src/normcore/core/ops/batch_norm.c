/* Batch normalisation: chunk statistics and gradients by tree, then passes over the rows. */
#include "ops/ops.h"

#include <math.h>
#include <string.h>

static NAME(norm_columns) columns_at(const NAME(norm_columns) *columns, size_t j) {
    NAME(norm_columns) c = *columns;
#define ADVANCE(name) c.name += j;
    NORM_CONSTANTS(ADVANCE)
#undef ADVANCE
    return c;
}

/* Chunk and columns of a task. */
typedef struct chunk_tile {
    size_t chunk, first_row, rows;
    row_range cols;
} chunk_tile;

static chunk_tile chunk_tile_of(const batch_norm_args *p, size_t index) {
    const size_t chunk = index / p->col_tasks;
    const chunk_tile t = {chunk, chunk * CONTRACT_CHUNK, chunk_rows(p->n, chunk),
                          row_range_of(p->d, p->col_tasks, index % p->col_tasks)};
    return t;
}

static void cut_work(call *c, batch_norm_args *p, double passes) {
    const size_t threads = normcore_call_threads(c, pass_ns(p->n, p->d, passes));
    p->threads = threads;
    p->chunks = chunk_count(p->n);
    p->col_tasks = p->chunks && threads > p->chunks ? (threads + p->chunks - 1) / p->chunks : 1;
    if (p->col_tasks > p->d) p->col_tasks = p->d;
    p->row_tasks = threads < p->n ? threads : p->n;
}

static int allocate_columns(call *c, batch_norm_args *p) {
#define COLUMN(name)    &p->columns.name,
#define DX_COLUMN(name) &p->dx_columns.name,
    real **const vectors[] = {NORM_CONSTANTS(COLUMN) NORM_DX_CONSTANTS(DX_COLUMN)};
#undef COLUMN
#undef DX_COLUMN
    const size_t count = sizeof vectors / sizeof vectors[0];
    /* Some cache lines apart, lest widths of a power of two put all of a column's constants into one cache set. */
    const size_t apart = 320 / sizeof(real);
    real *memory = normcore_call_scratch(c, p->d + apart, count * sizeof(real));
    if (!memory) return 0;
    for (size_t i = 0; i < count; i++) *vectors[i] = memory + i * (p->d + apart);
    return 1;
}

static int allocate_partials(call *c, batch_norm_args *p) {
    const size_t chunks = p->chunks ? p->chunks : 1;
    p->first = normcore_call_scratch(c, chunks, p->d * sizeof *p->first);
    p->second = normcore_call_scratch(c, chunks, p->d * sizeof *p->second);
    return p->first && p->second;
}

/* ------------------------------------------------------------------------------------------------ forward */

static void statistics_task(void *arg, size_t index) {
    const batch_norm_args *p = arg;
    const chunk_tile t = chunk_tile_of(p, index);
    const size_t at = t.chunk * p->d + t.cols.start;
    p->kernels->batch_norm_chunk_statistics(t.rows, t.cols.count, p->x + t.first_row * p->x_stride + t.cols.start,
                                            p->x_stride, p->first + at, p->second + at);
}

static void apply_task(void *arg, size_t index) {
    const batch_norm_args *p = arg;
    const row_range r = row_range_of(p->n, p->row_tasks, index);
    p->kernels->batch_norm_apply(r.count, p->d, p->x + r.start * p->x_stride, p->x_stride, &p->columns, p->gamma,
                                 p->beta, p->out + r.start * p->out_stride, p->out_stride);
}

/*
 * Joins (rows, mean, M2) of the chunks [0, chunks) into the first (Chan, Golub and LeVeque, The American Statistician
 * 37 (1983) 242). `rows` counts them all; every chunk but the last of the batch has CONTRACT_CHUNK.
 */
static void merge_statistics(size_t rows, size_t chunks, size_t d, double *mean, double *m2) {
    if (chunks < 2) return;
    const size_t left = tree_split(chunks), left_rows = left * CONTRACT_CHUNK, right_rows = rows - left_rows;
    double *const right_mean = mean + left * d, *const right_m2 = m2 + left * d;
    merge_statistics(left_rows, left, d, mean, m2);
    merge_statistics(right_rows, chunks - left, d, right_mean, right_m2);
    const double share = (double)right_rows / (double)rows, weight = (double)left_rows * share;
    for (size_t j = 0; j < d; j++) {
        const double delta = right_mean[j] - mean[j];
        mean[j] = mean[j] + delta * share;
        m2[j] = (m2[j] + right_m2[j]) + (delta * delta) * weight;
    }
}

static void update_running(size_t d, double momentum, const double *batch, double scale, real *running) {
    for (size_t j = 0; j < d; j++) {
        const double moved = momentum * (double)running[j] + (1.0 - momentum) * (batch[j] * scale);
        running[j] = moved == moved ? (real)moved : REAL_NAN;
    }
}

normcore_status NAME(normcore_batch_norm_forward_body)(call *c, void *arguments) {
    batch_norm_args *p = arguments;
    if (!p->d) return NORMCORE_OK;
    const int training = p->options.training;
    if (!p->n && training) {
        for (size_t j = 0; j < p->d; j++) p->mean_out[j] = p->rstd_out[j] = 0.0;
        return NORMCORE_OK;
    }
    const size_t mark = normcore_call_mark(c);
    p->kernels = kernels_of(c);
    cut_work(c, p, 4.0);
    if (!allocate_columns(c, p) || !allocate_partials(c, p)) return NORMCORE_ERROR_MEMORY;
    if (training) {
        normcore_call_parallel(c, p->threads, statistics_task, p, p->chunks * p->col_tasks);
        merge_statistics(p->n, p->chunks, p->d, p->first, p->second);
        const double rows = (double)p->n;
        for (size_t j = 0; j < p->d; j++) {
            p->mean_out[j] = canonical_double(p->first[j]);
            p->second[j] = p->second[j] / rows;
        }
        if (p->running_mean) {
            const int unbiased = p->options.unbiased_running_var && p->n > 1;
            update_running(p->d, p->options.momentum, p->first, 1.0, p->running_mean);
            update_running(p->d, p->options.momentum, p->second, unbiased ? rows / (rows - 1.0) : 1.0, p->running_var);
        }
    } else {
        for (size_t j = 0; j < p->d; j++) {
            p->mean_out[j] = canonical_double((double)p->running_mean[j]);
            p->second[j] = (double)p->running_var[j];
        }
    }
    p->kernels->batch_norm_rstd(p->d, p->second, p->options.eps, p->rstd_out);
    p->kernels->batch_norm_prepare(p->d, p->mean_out, p->rstd_out, &p->columns);
    if (p->n) normcore_call_parallel(c, p->threads, apply_task, p, p->row_tasks);
    normcore_call_release(c, mark);
    return NORMCORE_OK;
}

static normcore_status check_batch_norm_options(const normcore_batch_norm_options *o) {
    if (!normcore_check_between(o->momentum, 0.0, 1.0)) return NORMCORE_ERROR_VALUE;
    return is_eps(o->eps) ? NORMCORE_OK : NORMCORE_ERROR_VALUE;
}

/*
 * No variance is negative. NaN passes: it reaches the results of its column alone. Where no sign bit is set, which takes
 * the first loop a fraction of the other's time to see, there is nothing more to look at.
 */
int NAME(normcore_are_variances)(size_t d, const real *var) {
    real_bits signs = 0;
    for (size_t j = 0; j < d; j++) {
        real_bits bits;
        memcpy(&bits, var + j, sizeof bits);
        signs |= bits;
    }
    if (!(signs >> (8 * sizeof signs - 1))) return 1;
    for (size_t j = 0; j < d; j++)
        if (isless(var[j], (real)0)) return 0;
    return 1;
}

normcore_status NAME(normcore_batch_norm_forward)(normcore_context *ctx, size_t n, size_t d, const real *x,
                                                  size_t x_stride, const real *gamma, const real *beta,
                                                  const normcore_batch_norm_options *options, real *running_mean,
                                                  real *running_var, real *y, size_t y_stride, double *mean,
                                                  double *rstd) {
    normcore_batch_norm_options o;
    normcore_status status =
        options ? normcore_options_read_batch_norm(options, &o) : normcore_batch_norm_defaults(&o, sizeof o);
    if (!status) status = check_batch_norm_options(&o);
    if (status) return status;
    if (d && (!running_mean != !running_var || (!o.training && !running_mean))) return NORMCORE_ERROR_NULL;
    const operand operands[] = {IN_MATRIX(x, n, d, x_stride),
                                IN_VECTOR(gamma, d),
                                IN_VECTOR(beta, d),
                                OUT_OPTIONAL_VECTOR(running_mean, d),
                                OUT_OPTIONAL_VECTOR(running_var, d),
                                OUT_MATRIX(y, n, d, y_stride, 1u << 0),
                                OUT_VECTOR(mean, d),
                                OUT_VECTOR(rstd, d)};
    status = normcore_check_operands(operands, 8);
    if (!status && running_var && !NAME(normcore_are_variances)(d, running_var)) status = NORMCORE_ERROR_VALUE;
    if (status) return status;
    batch_norm_args args = {.n = n,
                            .d = d,
                            .x = x,
                            .x_stride = x_stride,
                            .gamma = gamma,
                            .beta = beta,
                            .options = o,
                            .running_mean = running_mean,
                            .running_var = running_var,
                            .out = y,
                            .out_stride = y_stride,
                            .mean_out = mean,
                            .rstd_out = rstd};
    return normcore_call_run(ctx, NAME(normcore_batch_norm_forward_body), &args);
}

/* ------------------------------------------------------------------------------------------------ backward */

static void gradients_task(void *arg, size_t index) {
    const batch_norm_args *p = arg;
    const chunk_tile t = chunk_tile_of(p, index);
    const size_t at = t.chunk * p->d + t.cols.start;
    const NAME(norm_columns) columns = columns_at(&p->columns, t.cols.start);
    p->kernels->batch_norm_chunk_gradients(t.rows, t.cols.count, p->dy + t.first_row * p->dy_stride + t.cols.start,
                                           p->dy_stride, p->x + t.first_row * p->x_stride + t.cols.start, p->x_stride,
                                           &columns, p->first + at, p->second + at);
}

static void fused_dx_task(void *arg, size_t index) {
    const batch_norm_args *p = arg;
    const row_range r = row_range_of(p->n, p->row_tasks, index);
    p->kernels->batch_norm_fused_dx(r.count, p->d, p->dy + r.start * p->dy_stride, p->dy_stride,
                                    p->x + r.start * p->x_stride, p->x_stride, &p->columns, &p->dx_columns,
                                    p->out + r.start * p->out_stride, p->out_stride);
}

static void short_backward_task(void *arg, size_t index) {
    const batch_norm_args *p = arg;
    const size_t j = chunk_tile_of(p, index).cols.start;
    p->kernels->batch_norm_short_backward(p->n, chunk_tile_of(p, index).cols.count, p->dy + j, p->dy_stride, p->x + j,
                                          p->x_stride, p->gamma + j, p->mean + j, p->rstd + j,
                                          p->out ? p->out + j : NULL, p->out_stride, p->first + j, p->second + j);
}

static void evaluation_dx_task(void *arg, size_t index) {
    const batch_norm_args *p = arg;
    const row_range r = row_range_of(p->n, p->row_tasks, index);
    p->kernels->batch_norm_evaluation_dx(r.count, p->d, p->dy + r.start * p->dy_stride, p->dy_stride,
                                         p->dx_columns.g_scale, &p->columns, p->out + r.start * p->out_stride,
                                         p->out_stride);
}

/* The graph's tasks own whole chunks: its arrays are dense, so that a task's columns would not be one block of them. */
static void graph_inner_task(void *arg, size_t chunk) {
    const batch_norm_args *p = arg;
    const size_t row = chunk * CONTRACT_CHUNK;
    p->kernels->batch_norm_graph_inner(chunk_rows(p->n, chunk), p->d, p->dy + row * p->dy_stride, p->dy_stride,
                                       p->x + row * p->x_stride, p->x_stride, p->gamma, p->mean, p->xmu + row * p->d,
                                       p->dxhat + row * p->d, p->first + chunk * p->d);
}
static void graph_middle_task(void *arg, size_t chunk) {
    const batch_norm_args *p = arg;
    const size_t row = chunk * CONTRACT_CHUNK;
    p->kernels->batch_norm_graph_middle(chunk_rows(p->n, chunk), p->d, p->rstd, p->dsq, p->xmu + row * p->d,
                                        p->dxhat + row * p->d, p->second + chunk * p->d);
}
static void graph_outer_task(void *arg, size_t chunk) {
    const batch_norm_args *p = arg;
    const size_t row = chunk * CONTRACT_CHUNK;
    p->kernels->batch_norm_graph_outer(chunk_rows(p->n, chunk), p->d, p->xmu + row * p->d, p->second,
                                       p->out + row * p->out_stride, p->out_stride);
}

/*
 * y = gamma xhat + beta, xhat = xmu ivar, ivar = 1 / sqrtvar, sqrtvar = sqrt(var + eps), var = mean(sq), sq = xmu^2,
 * xmu = x - mu: one backward step for each node, as the course exercise walks it.
 */
static normcore_status graph_dx(call *c, batch_norm_args *p) {
    int ok = 1;
    const size_t elements = normcore_check_product(p->n, p->d, &ok);
    if (!ok) return NORMCORE_ERROR_SIZE;
    p->xmu = normcore_call_scratch(c, elements, sizeof *p->xmu);
    p->dxhat = normcore_call_scratch(c, elements, sizeof *p->dxhat);
    p->dsq = normcore_call_scratch(c, p->d, sizeof *p->dsq);
    if (!p->xmu || !p->dxhat || !p->dsq) return NORMCORE_ERROR_MEMORY;
    const double rows = (double)p->n;
    normcore_call_parallel(c, p->threads, graph_inner_task, p, p->chunks);
    normcore_tree_sum(p->first, p->chunks, p->d); /* divar */
    for (size_t j = 0; j < p->d; j++) {
        const double ivar = p->rstd[j], dsqrtvar = -(ivar * ivar) * p->first[j], dvar = 0.5 * ivar * dsqrtvar;
        p->dsq[j] = dvar / rows;
    }
    normcore_call_parallel(c, p->threads, graph_middle_task, p, p->chunks);
    normcore_tree_sum(p->second, p->chunks, p->d); /* -dmu */
    for (size_t j = 0; j < p->d; j++) p->second[j] = -p->second[j] / rows;
    normcore_call_parallel(c, p->threads, graph_outer_task, p, p->chunks);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_batch_norm_backward_body)(call *c, void *arguments) {
    batch_norm_args *p = arguments;
    if (!p->d) return NORMCORE_OK;
    const size_t mark = normcore_call_mark(c);
    p->kernels = kernels_of(c);
    cut_work(c, p, 6.0);
    if (!allocate_columns(c, p) || !allocate_partials(c, p)) return NORMCORE_ERROR_MEMORY;
    const int is_short = p->n < CONTRACT_SHORT && p->options.training && p->algorithm == NORMCORE_BATCH_NORM_FUSED;
    if (!p->n) {
        memset(p->first, 0, p->d * sizeof *p->first);
        memset(p->second, 0, p->d * sizeof *p->second);
    } else if (is_short) {
        normcore_call_parallel(c, p->threads, short_backward_task, p, p->col_tasks);
    } else {
        p->kernels->batch_norm_prepare(p->d, p->mean, p->rstd, &p->columns);
        normcore_call_parallel(c, p->threads, gradients_task, p, p->chunks * p->col_tasks);
        normcore_tree_sum(p->first, p->chunks, p->d);
        normcore_tree_sum(p->second, p->chunks, p->d);
    }
    normcore_status status = NORMCORE_OK;
    const double *const dgamma = p->first, *const dbeta = p->second;
    const int has_dx_left = p->n && p->out && !is_short;
    if (has_dx_left)
        p->kernels->batch_norm_dx_constants(p->d, (double)p->n, p->gamma, p->rstd, dgamma, dbeta, &p->columns,
                                            &p->dx_columns);
    store_sums(p->d, dgamma, p->dgamma);
    store_sums(p->d, dbeta, p->dbeta);
    if (has_dx_left) {
        if (!p->options.training)
            normcore_call_parallel(c, p->threads, evaluation_dx_task, p, p->row_tasks);
        else if (p->algorithm == NORMCORE_BATCH_NORM_FUSED)
            normcore_call_parallel(c, p->threads, fused_dx_task, p, p->row_tasks);
        else
            status = graph_dx(c, p);
    }
    normcore_call_release(c, mark);
    return status;
}

normcore_status NAME(normcore_batch_norm_backward)(normcore_context *ctx, size_t n, size_t d, const real *dy,
                                                   size_t dy_stride, const real *x, size_t x_stride, const real *gamma,
                                                   const double *mean, const double *rstd, int training,
                                                   normcore_batch_norm_algorithm algorithm, real *dx, size_t dx_stride,
                                                   real *dgamma, real *dbeta) {
    if (algorithm != NORMCORE_BATCH_NORM_FUSED && algorithm != NORMCORE_BATCH_NORM_GRAPH) return NORMCORE_ERROR_VALUE;
    const operand operands[] = {IN_MATRIX(dy, n, d, dy_stride),
                                IN_MATRIX(x, n, d, x_stride),
                                IN_VECTOR(gamma, d),
                                IN_VECTOR(mean, d),
                                IN_VECTOR(rstd, d),
                                OUT_OPTIONAL_MATRIX(dx, n, d, dx_stride, 1u << 0),
                                OUT_OPTIONAL_VECTOR(dgamma, d),
                                OUT_OPTIONAL_VECTOR(dbeta, d)};
    const normcore_status status = normcore_check_operands(operands, 8);
    if (status) return status;
    batch_norm_args args = {.n = n,
                            .d = d,
                            .dy = dy,
                            .dy_stride = dy_stride,
                            .x = x,
                            .x_stride = x_stride,
                            .gamma = gamma,
                            .mean = mean,
                            .rstd = rstd,
                            .options = {.training = training},
                            .algorithm = algorithm,
                            .out = dx,
                            .out_stride = dx_stride,
                            .dgamma = dgamma,
                            .dbeta = dbeta};
    return normcore_call_run(ctx, NAME(normcore_batch_norm_backward_body), &args);
}
