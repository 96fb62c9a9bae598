/*
 * Matrix product after BLIS: operands are packed into panels, which absorbs strides and transposes, or read in place
 * where that is as good, and one micro-kernel multiplies a panel of A (up to GEMM_MR rows) by a panel of B (GEMM_NV
 * vectors of columns) in registers.
 *
 * The sum over k is cut into the contract's blocks of 256, which are also the cache blocks: a panel of A (14 x 256
 * floats = 14 KiB) stays in L1 while panels of B (32 KiB each) stream from L2. A block's sum is one fma chain from +0;
 * sums of blocks are added in order, in C itself.
 */
#include "kernels/kernels.h"
#include "simd/simd.h"

enum { GEMM_NR = GEMM_NV * VL };
/* Columns of B packed at a time: 256 x 512 floats are 512 KiB, half of a usual L2. */
enum { GEMM_COLS = 512 };
/* Rows of A packed at a time where there are more columns than that: each panel is packed once and read from L3. */
enum { GEMM_ROWS = 2048 };
/* Up to this many rows a panel of B is read too seldom to pay for packing it, if its rows are contiguous already. */
enum { GEMM_DIRECT_ROWS = 5 * GEMM_MR };
/* Panels of nearly the same height, of more rows than that, have this many or more. */
enum { GEMM_PACKING_ROWS = (GEMM_DIRECT_ROWS + 1) / (GEMM_DIRECT_ROWS / GEMM_MR + 1) };
/* Up to this many columns a panel of A is read too seldom, likewise. */
enum { GEMM_DIRECT_COLS = 4 * GEMM_NR };
/*
 * Vectors of columns of a single row of A at a time, whole panels: B is read once, and should be in long runs
 * (1x784x256, AVX2: 19 -> 10 us, in double 78 -> 25).
 */
enum { GEMM_ROW_NV = 4 * GEMM_NV };
/* Contiguous runs of an operand that start less than a page apart do not evict each other: they can be read in place. */
enum { GEMM_NEAR = 4096 / (int)sizeof(real) };
/* Elements of B that a usual L2 holds: reading panels of a larger one in place waits for the next cache at every row. */
enum { GEMM_CACHED = (1 << 20) / (int)sizeof(real) };

typedef struct gemm_tile {
    size_t depth;
    const real *a; /* depth times one element for each row, a_step apart */
    size_t a_step;
    const real *b; /* depth times the tile's vectors, b_step apart */
    size_t b_step;
    real *packed_b; /* where a tile that packs puts b, without gaps */
    real *tail;     /* (rows, VL) for the sums of less than a vector of columns: much for a stack */
    real *c;
    size_t c_row, cols;
    int accumulate, relu;
    const real *bias;
} gemm_tile;

/* What a block's sum becomes on its way to C. Without a bias and a ReLU, which are the same code, it stays as it is. */
typedef struct gemm_finish {
    vreal bias;  /* -0 where there is none */
    vreal floor; /* what is not above it becomes 0; NaN where there is no ReLU */
} gemm_finish;

NORMCORE_INLINE gemm_finish gemm_finish_of(const gemm_tile *t, int v, size_t n) {
    const gemm_finish f = {t->bias ? v_get(t->bias + v * VL, n) : v_set1((real)-0.0),
                           v_set1(t->relu ? (real)0 : REAL_NAN)};
    return f;
}
NORMCORE_INLINE vreal gemm_finished(const gemm_finish *f, vreal sum) {
    sum = v_add(sum, f->bias);
    return v_select(v_le(sum, f->floor), v_zero(), sum);
}

/* Stores the sums of vector v of the columns. */
NORMCORE_INLINE void gemm_store(const gemm_tile *t, const int rows, int v, vreal *sums) {
    const gemm_finish finish = gemm_finish_of(t, v, VL);
    const size_t c_row = t->c_row;
    real *const c = t->c + v * VL;
    if (t->accumulate) {
        NORMCORE_UNROLL
        for (int i = 0; i < rows; i++) sums[i] = v_add(v_load(c + (size_t)i * c_row), sums[i]);
    }
    NORMCORE_UNROLL
    for (int i = 0; i < rows; i++) v_put(c + (size_t)i * c_row, gemm_finished(&finish, sums[i]));
}

/* The same for the n < VL columns whose sums are in `tail`. Out of line: it is needed once in a row of tiles. */
NORMCORE_NOINLINE void gemm_store_tail(const gemm_tile *t, int rows, int v, size_t n) {
    const gemm_finish finish = gemm_finish_of(t, v, n);
    real *c = t->c + v * VL;
    for (int i = 0; i < rows; i++, c += t->c_row) {
        const vreal sum = v_load(t->tail + i * VL);
        v_put_tail(c, gemm_finished(&finish, t->accumulate ? v_add(v_load_tail(c, n), sum) : sum), n);
    }
}

/* rows, vectors and packs are constants where this is inlined, so that acc is registers. */
NORMCORE_INLINE void gemm_tile_run(const int rows, const int vectors, const int packs, const gemm_tile *t) {
    vreal acc[GEMM_MR][GEMM_ROW_NV];
    NORMCORE_UNROLL
    for (int i = 0; i < rows; i++) {
        NORMCORE_UNROLL
        for (int v = 0; v < vectors; v++) acc[i][v] = v_zero();
    }
    const real *a = t->a, *b = t->b;
    const size_t a_step = t->a_step, b_step = t->b_step;
    real *packed = t->packed_b;
    for (size_t k = t->depth; k; k--) {
        vreal bk[GEMM_ROW_NV];
        NORMCORE_UNROLL
        for (int v = 0; v < vectors; v++) bk[v] = v_load(b + v * VL);
        if (packs) {
            NORMCORE_UNROLL
            for (int v = 0; v < vectors; v++) v_store(packed + v * VL, bk[v]);
            packed += vectors * VL;
        }
        NORMCORE_UNROLL
        for (int i = 0; i < rows; i++) {
            const vreal ai = v_set1(a[i]);
            NORMCORE_UNROLL
            for (int v = 0; v < vectors; v++) acc[i][v] = v_fma(ai, bk[v], acc[i][v]);
        }
        a += a_step;
        b += b_step;
    }
    NORMCORE_UNROLL
    for (int v = 0; v < vectors; v++) {
        const size_t n = lanes_at((size_t)(v * VL), t->cols);
        if (!n) break;
        vreal sums[GEMM_MR];
        NORMCORE_UNROLL
        for (int i = 0; i < rows; i++) sums[i] = acc[i][v];
        if (n == (size_t)VL) {
            gemm_store(t, rows, v, sums);
        } else {
            NORMCORE_UNROLL
            for (int i = 0; i < rows; i++) v_store(t->tail + i * VL, sums[i]);
            gemm_store_tail(t, rows, v, n);
        }
    }
}

/* The same for half a vector of columns. */
NORMCORE_INLINE void gemm_half_tile_run(const int rows, const gemm_tile *t) {
    vhalf acc[GEMM_MR];
    NORMCORE_UNROLL
    for (int i = 0; i < rows; i++) acc[i] = h_set1((real)0);
    const real *a = t->a, *b = t->b;
    const size_t a_step = t->a_step, b_step = t->b_step;
    for (size_t k = t->depth; k; k--) {
        const vhalf bk = h_load(b);
        NORMCORE_UNROLL
        for (int i = 0; i < rows; i++) acc[i] = h_fma(h_set1(a[i]), bk, acc[i]);
        a += a_step;
        b += b_step;
    }
    NORMCORE_UNROLL
    for (int i = 0; i < rows; i++) v_store(t->tail + i * VL, v_of_half(acc[i]));
    gemm_store_tail(t, rows, 0, t->cols);
}

/* One tile for each number of rows, from `least` to GEMM_MR, which `run` takes as a constant. */
#define GEMM_CASE(rows_, least, run)                                                                                   \
    case rows_:                                                                                                        \
        if (rows_ >= least && rows_ <= GEMM_MR) run(rows_);                                                            \
        break;
#define GEMM_CASES(least, run)                                                                                         \
    switch (rows) {                                                                                                    \
        GEMM_CASE(1, least, run)                                                                                       \
        GEMM_CASE(2, least, run)                                                                                       \
        GEMM_CASE(3, least, run)                                                                                       \
        GEMM_CASE(4, least, run)                                                                                       \
        GEMM_CASE(5, least, run)                                                                                       \
        GEMM_CASE(6, least, run)                                                                                       \
        GEMM_CASE(7, least, run)                                                                                       \
        GEMM_CASE(8, least, run)                                                                                       \
        GEMM_CASE(9, least, run)                                                                                       \
        GEMM_CASE(10, least, run)                                                                                      \
        GEMM_CASE(11, least, run)                                                                                      \
        GEMM_CASE(12, least, run)                                                                                      \
        GEMM_CASE(13, least, run)                                                                                      \
        GEMM_CASE(14, least, run)                                                                                      \
    }
#define WIDE_TILE(rows_)    gemm_tile_run(rows_, GEMM_NV, 0, t)
#define PACKING_TILE(rows_) gemm_tile_run(rows_, GEMM_NV, 1, t)
#define NARROW_TILE(rows_)  gemm_tile_run(rows_, 1, 0, t)
#define HALF_TILE(rows_)    gemm_half_tile_run(rows_, t)
static void gemm_tile_wide(size_t rows, const gemm_tile *t) { GEMM_CASES(1, WIDE_TILE) }
static void gemm_tile_packing(size_t rows, const gemm_tile *t) { GEMM_CASES(GEMM_PACKING_ROWS, PACKING_TILE) }
static void gemm_tile_row(const gemm_tile *t) { gemm_tile_run(1, GEMM_ROW_NV, 0, t); }
static void gemm_tile_narrow(size_t rows, const gemm_tile *t) { GEMM_CASES(1, NARROW_TILE) }
#ifdef HAS_HALF
static void gemm_tile_half(size_t rows, const gemm_tile *t){GEMM_CASES(1, HALF_TILE)}
#else
#define gemm_tile_half gemm_tile_narrow
#endif
#undef WIDE_TILE
#undef PACKING_TILE
#undef NARROW_TILE
#undef HALF_TILE
#undef GEMM_CASES
#undef GEMM_CASE

/*
 * Transposes `rows` (at least 1) rows of `depth` elements, `stride` apart, into packed[k * width + row]. Whole vectors
 * are stored: past the last row they write what the next k overwrites, so that `packed` needs VL elements of slack
 * behind it. A vector's missing rows repeat the last one.
 */
static void gemm_pack_transposed(size_t rows, size_t depth, const real *a, size_t stride, size_t width, real *packed) {
    /* Rows a page apart share their cache sets: no line may be needed twice. */
    const size_t head = unaligned_head(a, depth);
    /* The last vector of rows first: what it writes past its end is where the first writes later. */
    for (size_t i = (rows - 1) / VL * VL + VL; i;) {
        i -= VL;
        const real *row[VL];
        for (size_t q = 0; q < (size_t)VL; q++) row[q] = a + (i + q < rows ? i + q : rows - 1) * stride;
        for (size_t k = 0, n; k < depth; k += n) {
            n = k < head ? head : lanes_at(k, depth);
            vreal r[VL];
            if (n == (size_t)VL) {
                NORMCORE_UNROLL
                for (int q = 0; q < VL; q++) r[q] = v_load(row[q] + k);
                v_transpose(r);
                NORMCORE_UNROLL
                for (int c = 0; c < VL; c++) v_store(packed + (k + (size_t)c) * width + i, r[c]);
            } else {
                for (int q = 0; q < VL; q++) r[q] = v_load_tail(row[q] + k, n);
                v_transpose(r);
                for (size_t c = 0; c < n; c++) v_store(packed + (k + c) * width + i, r[c]);
            }
        }
    }
}

/* Copies `depth` rows of `cols` elements, `stride` apart, into packed[k * width + col]; slack as above. */
static void gemm_pack_rows(size_t depth, size_t cols, const real *b, size_t stride, size_t width, real *packed) {
    for (size_t k = 0; k < depth; k++)
        for (size_t j = 0; j < cols; j += VL)
            v_store(packed + k * width + j, v_get(b + k * stride + j, lanes_at(j, cols)));
}

/* Panel of A: depth x rows. One of the strides of an operand is always 1. */
static void gemm_pack_a(size_t rows, size_t depth, const real *a, size_t a_row, size_t a_col, real *packed) {
    if (a_row == 1)
        gemm_pack_rows(depth, rows, a, a_col, rows, packed);
    else
        gemm_pack_transposed(rows, depth, a, a_row, rows, packed);
}

NORMCORE_INLINE size_t size_min(size_t a, size_t b) { return a < b ? a : b; }
NORMCORE_INLINE size_t round_up(size_t a, size_t unit) { return (a + unit - 1) / unit * unit; }

/* Width of the next panel of B where so many columns are left: with half vectors, less than one is computed for nothing. */
NORMCORE_INLINE size_t gemm_panel_width(size_t cols) {
    const size_t half = (int)VL_HALF < (int)VL ? VL_HALF : 0;
    return cols > VL + half ? GEMM_NR : cols > half ? VL : VL_HALF;
}

/* Columns before the first panel that is wider than what is left. */
NORMCORE_INLINE size_t gemm_whole_panels(size_t cols) {
    size_t j = 0;
    while (j < cols && gemm_panel_width(cols - j) <= cols - j) j += gemm_panel_width(cols - j);
    return j;
}

/*
 * Block of B: depth x cols, in panels one after the other; what is past cols is anything and never stored. Rows of B are read as
 * a whole: panel by panel, 128 bytes of each, a product of 256 x 1024 x 1024 took 3 % longer.
 */
static void gemm_pack_b(size_t depth, size_t cols, const real *b, size_t b_row, size_t b_col, real *packed) {
    if (b_col != 1) {
        for (size_t j = 0, width; j < cols; j += width) {
            width = gemm_panel_width(cols - j);
            gemm_pack_transposed(size_min(cols - j, width), depth, b + j * b_col, b_col, width, packed + j * depth);
        }
        return;
    }
    for (size_t k = 0; k < depth; k++, b += b_row)
        for (size_t j = 0, width; j < cols; j += width) {
            width = gemm_panel_width(cols - j);
            for (size_t v = 0; v < width; v += VL)
                v_store(packed + j * depth + k * width + v, v_get(b + j + v, lanes_at(j + v, cols)));
        }
}

/* Elements of the packed block of B; a multiple of a vector, so that A stays aligned behind it. */
NORMCORE_INLINE size_t gemm_packed_b_size(size_t depth, size_t cols) {
    return size_min(depth, CONTRACT_BLOCK) * round_up(size_min(cols, GEMM_COLS), GEMM_NR);
}

/* Elements for packed panels of A: all of a block of rows, if more than one block of columns reads them. */
NORMCORE_INLINE size_t gemm_packed_a_size(size_t rows, size_t depth, size_t cols) {
    return size_min(depth, CONTRACT_BLOCK) * size_min(rows, cols > GEMM_COLS ? GEMM_ROWS : GEMM_MR) + VL;
}

static void gemm_scratch_size(size_t rows, size_t depth, size_t cols, size_t *size) {
    *size = (GEMM_MR * VL + gemm_packed_b_size(depth, cols) + gemm_packed_a_size(rows, depth, cols)) * sizeof(real);
}

/* The block of the product that one packed block of B contributes to: rows x cols from `c` on. */
typedef struct gemm_block {
    size_t rows, cols, depth;
    const real *a, *b;
    real *c;
    int accumulate, relu;
    const real *bias;
    real *packed_a, *packed_b, *tail;
    int pack_a, keep_a; /* pack panels of A; each where the next block of columns finds it */
} gemm_block;

static void gemm_block_run(const NAME(gemm_problem) *p, const gemm_block *g) {
    /* Whole panels of B are read in place by few rows, else by the first panel of A, which packs them meanwhile. */
    const int few = g->rows <= GEMM_DIRECT_ROWS;
    const int first_packs = !few && p->b_row < GEMM_NEAR && p->depth * g->cols <= GEMM_CACHED;
    size_t whole = 0;
    if (p->b_col == 1) whole = few ? gemm_whole_panels(g->cols) : first_packs ? g->cols / GEMM_NR * GEMM_NR : 0;
    gemm_pack_b(g->depth, g->cols - whole, g->b + whole * p->b_col, p->b_row, p->b_col, g->packed_b + whole * g->depth);
    /* Elements of A for one k must be neighbours: those of near or seldom read columns are, and a single one. */
    const int a_in_place = p->a_row == 1 ? p->a_col < GEMM_NEAR || g->cols <= GEMM_DIRECT_COLS : g->rows == 1;
    const size_t panels = (g->rows + GEMM_MR - 1) / GEMM_MR;
    for (size_t panel = 0, i = 0; panel < panels; panel++) {
        /* Panels of nearly the same height: a last one of a row or two would wait for its own fmas. */
        const size_t rows = g->rows / panels + (panel < g->rows % panels);
        real *const packed_a = g->packed_a + (g->keep_a ? i * g->depth : 0);
        if (g->pack_a && !a_in_place) gemm_pack_a(rows, g->depth, g->a + i * p->a_row, p->a_row, p->a_col, packed_a);
        gemm_tile tile = {
            .depth = g->depth, .tail = g->tail, .c_row = p->c_row, .accumulate = g->accumulate, .relu = g->relu};
        tile.a = a_in_place ? g->a + i * p->a_row : packed_a;
        tile.a_step = a_in_place ? p->a_col : rows;
        const size_t in_place = few || panel == 0 ? whole : 0;
        for (size_t j = 0, width; j < g->cols; j += width) {
            const int long_row = g->rows == 1 && j + GEMM_ROW_NV * VL <= in_place;
            width = long_row ? GEMM_ROW_NV * VL : gemm_panel_width(g->cols - j);
            tile.packed_b = g->packed_b + j * g->depth;
            tile.b = j < in_place ? g->b + j : tile.packed_b;
            tile.b_step = j < in_place ? p->b_row : width;
            tile.c = g->c + i * p->c_row + j;
            tile.cols = size_min(g->cols - j, width);
            tile.bias = g->bias ? g->bias + j : NULL;
            if (first_packs && j < in_place)
                gemm_tile_packing(rows, &tile);
            else if (long_row)
                gemm_tile_row(&tile);
            else if (width == GEMM_NR)
                gemm_tile_wide(rows, &tile);
            else if (width == VL)
                gemm_tile_narrow(rows, &tile);
            else
                gemm_tile_half(rows, &tile);
        }
        i += rows;
    }
}

static void gemm(const NAME(gemm_problem) *p, size_t i0, size_t i1, size_t j0, size_t j1, void *scratch) {
    gemm_block g = {0};
    g.tail = scratch;
    g.packed_b = g.tail + GEMM_MR * VL;
    g.packed_a = g.packed_b + gemm_packed_b_size(p->depth, j1 - j0);
    g.keep_a = j1 - j0 > GEMM_COLS;
    for (size_t ic = i0; ic < i1; ic += g.rows) {
        g.rows = size_min(i1 - ic, GEMM_ROWS);
        size_t kc = 0;
        do { /* at least once: depth 0 gives the empty sum */
            g.depth = size_min(p->depth - kc, CONTRACT_BLOCK);
            const int last = kc + g.depth == p->depth;
            g.a = p->a + ic * p->a_row + kc * p->a_col;
            g.accumulate = p->accumulate || kc;
            g.relu = last && p->relu;
            for (size_t jc = j0; jc < j1; jc += g.cols) {
                g.cols = size_min(j1 - jc, GEMM_COLS);
                g.b = p->b + kc * p->b_row + jc * p->b_col;
                g.c = p->c + ic * p->c_row + jc;
                g.bias = last && p->bias ? p->bias + jc : NULL;
                g.pack_a = !g.keep_a || jc == j0;
                gemm_block_run(p, &g);
            }
            kc += g.depth;
        } while (kc < p->depth);
    }
}
