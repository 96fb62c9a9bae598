/*
 * Affine maps: three uses of one matrix product. Threads own tiles of the output; the summed index is never
 * split over them.
 */
#include "ops/ops.h"

#include <string.h>

NORMCORE_INLINE double gemm_ns(size_t n, size_t k, size_t m) {
    /* 2 n k m floating-point operations at 100 (float) or 50 (double) a nanosecond */
    return 2.0 * (double)n * (double)k * (double)m * (double)sizeof(real) / 400.0;
}

/* One product, its output cut into a grid of row_tasks x col_tasks tiles. */
typedef struct gemm_grid {
    NAME(gemm_problem) problem;
    size_t rows, cols, row_tasks, col_tasks;
    /* For sums over the batch: depth is cut into chunks whose sums are combined by the tree; level buffers for it. */
    int chunked;
    size_t levels;
    unsigned char *scratch;
    size_t scratch_each, tile_bytes; /* of each task; of one level buffer */
    const NAME(kernel_table) *kernels;
} gemm_grid;

/* Sum over the chunks [first, first + count) into `out` (tile of the output, or a level buffer of pitch out_stride). */
static void gemm_tree(const gemm_grid *g, size_t first, size_t count, row_range rows, row_range cols, real *out,
                      size_t out_stride, unsigned char *levels, void *scratch, int accumulate) {
    if (count == 1) {
        NAME(gemm_problem) leaf = g->problem;
        leaf.depth = chunk_rows(g->problem.depth, first);
        leaf.a += first * CONTRACT_CHUNK * leaf.a_col + rows.start * leaf.a_row;
        leaf.b += first * CONTRACT_CHUNK * leaf.b_row + cols.start * leaf.b_col;
        leaf.c = out;
        leaf.c_row = out_stride;
        leaf.accumulate = accumulate;
        g->kernels->gemm(&leaf, 0, rows.count, 0, cols.count, scratch);
        return;
    }
    const size_t left = tree_split(count);
    gemm_tree(g, first, left, rows, cols, out, out_stride, levels, scratch, 0);
    if (count - left == 1) { /* a single chunk is added where it is computed */
        gemm_tree(g, first + left, 1, rows, cols, out, out_stride, levels, scratch, 1);
        return;
    }
    real *const right = (real *)(void *)levels;
    gemm_tree(g, first + left, count - left, rows, cols, right, cols.count, levels + g->tile_bytes, scratch, 0);
    g->kernels->add_into(rows.count, cols.count, out, out_stride, right, cols.count);
}

static void gemm_task(void *arg, size_t index) {
    const gemm_grid *g = arg;
    const row_range rows = row_range_of(g->rows, g->row_tasks, index / g->col_tasks);
    const row_range cols = row_range_of(g->cols, g->col_tasks, index % g->col_tasks);
    unsigned char *scratch = g->scratch + index * g->scratch_each;
    if (!g->chunked) {
        g->kernels->gemm(&g->problem, rows.start, rows.start + rows.count, cols.start, cols.start + cols.count,
                         scratch);
        return;
    }
    real *const out = g->problem.c + rows.start * g->problem.c_row + cols.start;
    const size_t chunks = chunk_count(g->problem.depth);
    gemm_tree(g, 0, chunks, rows, cols, out, g->problem.c_row, scratch, scratch + g->levels * g->tile_bytes, 0);
}

/* Level buffers the tree over that many chunks needs at once: none while every right subtree is a single chunk. */
static size_t tree_levels(size_t chunks) {
    size_t levels = 0;
    while (chunks > 3) {
        levels++;
        chunks = tree_split(chunks);
    }
    return levels;
}

static size_t round_to(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

static normcore_status gemm_run(call *c, gemm_grid *g) {
    if (!g->rows || !g->cols) return NORMCORE_OK;
    g->kernels = kernels_of(c);
    if (!g->problem.depth) g->problem.a = g->problem.b = g->problem.c; /* not read, but must bear an offset */
    const size_t threads = normcore_call_threads(c, gemm_ns(g->rows, g->problem.depth, g->cols));
    g->row_tasks = g->rows >= g->cols ? (threads < g->rows ? threads : g->rows) : 1;
    g->col_tasks = g->rows >= g->cols ? 1 : (threads < g->cols ? threads : g->cols);
    size_t rows = row_range_of(g->rows, g->row_tasks, 0).count, cols = row_range_of(g->cols, g->col_tasks, 0).count;
    g->levels = 0;
    if (g->chunked) {
        g->levels = tree_levels(chunk_count(g->problem.depth));
        if (g->levels) {
            /* Tiles small enough that the level buffers stay in the cache. */
            const size_t tile_rows = 128, tile_cols = 512;
            if (rows > tile_rows) g->row_tasks = (g->rows + tile_rows - 1) / tile_rows;
            if (cols > tile_cols) g->col_tasks = (g->cols + tile_cols - 1) / tile_cols;
            rows = row_range_of(g->rows, g->row_tasks, 0).count;
            cols = row_range_of(g->cols, g->col_tasks, 0).count;
        }
    }
    size_t gemm_bytes;
    g->kernels->gemm_scratch_size(rows, g->problem.depth, cols, &gemm_bytes);
    g->tile_bytes = round_to(rows * cols * sizeof(real), 64);
    g->scratch_each = round_to(gemm_bytes + g->levels * g->tile_bytes, 64);
    const size_t tasks = g->row_tasks * g->col_tasks, mark = normcore_call_mark(c);
    g->scratch = normcore_call_scratch(c, tasks, g->scratch_each);
    if (!g->scratch) return NORMCORE_ERROR_MEMORY;
    normcore_call_parallel(c, threads, gemm_task, g, tasks);
    normcore_call_release(c, mark);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_affine_forward_body)(call *c, void *arguments) {
    const affine_forward_args *p = arguments;
    gemm_grid g = {.problem = {.depth = p->k,
                               .a = p->x,
                               .a_row = p->x_stride,
                               .a_col = 1,
                               .b = p->w,
                               .b_row = p->w_stride,
                               .b_col = 1,
                               .c = p->y,
                               .c_row = p->y_stride,
                               .bias = p->b,
                               .relu = p->relu},
                   .rows = p->n,
                   .cols = p->m};
    return gemm_run(c, &g);
}

normcore_status NAME(normcore_affine_forward)(normcore_context *ctx, size_t n, size_t k, size_t m, const real *x,
                                              size_t x_stride, const real *w, size_t w_stride, const real *b, int relu,
                                              real *y, size_t y_stride) {
    const operand operands[] = {IN_MATRIX(x, n, k, x_stride), IN_MATRIX(w, k, m, w_stride), IN_OPTIONAL_VECTOR(b, m),
                                OUT_MATRIX(y, n, m, y_stride, 0)};
    const normcore_status status = normcore_check_operands(operands, 4);
    if (status) return status;
    affine_forward_args args = {.n = n,
                                .k = k,
                                .m = m,
                                .x = x,
                                .x_stride = x_stride,
                                .w = w,
                                .w_stride = w_stride,
                                .b = b,
                                .relu = relu,
                                .y = y,
                                .y_stride = y_stride};
    return normcore_call_run(ctx, NAME(normcore_affine_forward_body), &args);
}

/* db: column sums of dy in double, by chunks. */
static normcore_status bias_gradient(call *c, const affine_backward_args *p) {
    const size_t mark = normcore_call_mark(c), chunks = chunk_count(p->n), width = p->m;
    double *partials = normcore_call_scratch(c, chunks ? chunks : 1, width * sizeof *partials);
    if (!partials) return NORMCORE_ERROR_MEMORY;
    if (!chunks) memset(partials, 0, width * sizeof *partials);
    for (size_t chunk = 0; chunk < chunks; chunk++)
        kernels_of(c)->column_sums(chunk_rows(p->n, chunk), p->m, p->dy + chunk * CONTRACT_CHUNK * p->dy_stride,
                                   p->dy_stride, partials + chunk * width);
    normcore_tree_sum(partials, chunks, width);
    store_sums(p->m, partials, p->db);
    normcore_call_release(c, mark);
    return NORMCORE_OK;
}

normcore_status NAME(normcore_affine_backward_body)(call *c, void *arguments) {
    const affine_backward_args *p = arguments;
    normcore_status status = NORMCORE_OK;
    if (p->dx) {
        gemm_grid g = {.problem = {.depth = p->m,
                                   .a = p->dy,
                                   .a_row = p->dy_stride,
                                   .a_col = 1,
                                   .b = p->w, /* transposed */
                                   .b_row = 1,
                                   .b_col = p->w_stride,
                                   .c = p->dx,
                                   .c_row = p->dx_stride},
                       .rows = p->n,
                       .cols = p->k};
        status = gemm_run(c, &g);
    }
    if (!status && p->dw) {
        gemm_grid g = {.problem = {.depth = p->n,
                                   .a = p->x, /* transposed */
                                   .a_row = 1,
                                   .a_col = p->x_stride,
                                   .b = p->dy,
                                   .b_row = p->dy_stride,
                                   .b_col = 1,
                                   .c = p->dw,
                                   .c_row = p->dw_stride},
                       .rows = p->k,
                       .cols = p->m,
                       .chunked = p->n > CONTRACT_CHUNK};
        status = gemm_run(c, &g);
    }
    if (!status && p->db && p->m) status = bias_gradient(c, p);
    return status;
}

normcore_status NAME(normcore_affine_backward)(normcore_context *ctx, size_t n, size_t k, size_t m, const real *dy,
                                               size_t dy_stride, const real *x, size_t x_stride, const real *w,
                                               size_t w_stride, real *dx, size_t dx_stride, real *dw, size_t dw_stride,
                                               real *db) {
    const operand operands[] = {IN_MATRIX(dy, n, m, dy_stride),
                                IN_MATRIX_UNLESS(!dw, x, n, k, x_stride),
                                IN_MATRIX_UNLESS(!dx, w, k, m, w_stride),
                                OUT_OPTIONAL_MATRIX(dx, n, k, dx_stride, 0),
                                OUT_OPTIONAL_MATRIX(dw, k, m, dw_stride, 0),
                                OUT_OPTIONAL_VECTOR(db, m)};
    const normcore_status status = normcore_check_operands(operands, 6);
    if (status) return status;
    affine_backward_args args = {.n = n,
                                 .k = k,
                                 .m = m,
                                 .dy = dy,
                                 .dy_stride = dy_stride,
                                 .x = x,
                                 .x_stride = x_stride,
                                 .w = w,
                                 .w_stride = w_stride,
                                 .dx = dx,
                                 .dx_stride = dx_stride,
                                 .dw = dw,
                                 .dw_stride = dw_stride,
                                 .db = db};
    return normcore_call_run(ctx, NAME(normcore_affine_backward_body), &args);
}
