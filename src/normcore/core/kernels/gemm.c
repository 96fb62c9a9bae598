/*
 * Matrix product after BLIS: both operands are packed into panels, which absorbs strides and transposes, and one
 * micro-kernel multiplies a panel of A (up to GEMM_MR rows) by a panel of B (GEMM_NV vectors of columns) in registers.
 *
 * The sum over k is cut into the contract's blocks of 256, which are also the cache blocks: a panel of A (14 x 256
 * floats = 14 KiB) stays in L1 while panels of B (32 KiB each) stream from L2. A block's sum is one fma chain from +0;
 * sums of blocks are added in order, in C itself.
 */

enum { GEMM_NR = GEMM_NV * VL };
/* Columns of B packed at a time: 256 x 512 floats are 512 KiB, half of a usual L2. */
enum { GEMM_COLS = 512 };
/* Up to this many rows a panel of B is read too seldom to pay for packing it, if its rows are contiguous already. */
enum { GEMM_DIRECT_ROWS = 3 * GEMM_MR };

typedef struct gemm_tile {
    size_t depth;
    const real *a; /* packed: depth x rows */
    const real *b; /* depth rows of GEMM_NV (or 1) vectors, b_step apart */
    size_t b_step;
    real *c;
    size_t c_row, cols;
    int accumulate, relu;
    const real *bias;
} gemm_tile;

/* rows and vectors are constants where this is inlined, so that acc is registers. */
NORMCORE_INLINE void gemm_tile_run(const int rows, const int vectors, const gemm_tile *t) {
    vreal acc[GEMM_MR][GEMM_NV];
    NORMCORE_UNROLL
    for (int i = 0; i < rows; i++) {
        NORMCORE_UNROLL
        for (int v = 0; v < vectors; v++) acc[i][v] = v_zero();
    }
    const real *a = t->a, *b = t->b;
    const size_t b_step = t->b_step;
    for (size_t k = t->depth; k; k--) {
        vreal bk[GEMM_NV];
        NORMCORE_UNROLL
        for (int v = 0; v < vectors; v++) bk[v] = v_load(b + v * VL);
        NORMCORE_UNROLL
        for (int i = 0; i < rows; i++) {
            const vreal ai = v_set1(a[i]);
            NORMCORE_UNROLL
            for (int v = 0; v < vectors; v++) acc[i][v] = v_fma(ai, bk[v], acc[i][v]);
        }
        a += rows;
        b += b_step;
    }
    NORMCORE_UNROLL
    for (int v = 0; v < vectors; v++) {
        const size_t n = lanes_at((size_t)(v * VL), t->cols);
        if (!n) break;
        const vreal bias = t->bias ? v_get(t->bias + v * VL, n) : v_zero();
        NORMCORE_UNROLL
        for (int i = 0; i < rows; i++) {
            real *c = t->c + (size_t)i * t->c_row + v * VL;
            vreal sum = acc[i][v];
            if (t->accumulate) sum = v_add(v_get(c, n), sum);
            if (t->bias) sum = v_add(sum, bias);
            if (t->relu) sum = v_relu(sum);
            v_put_n(c, sum, n);
        }
    }
}

#define GEMM_CASE(rows_, vectors)                                                                                      \
    case rows_:                                                                                                        \
        if (rows_ <= GEMM_MR) gemm_tile_run(rows_, vectors, t);                                                        \
        break;
#define GEMM_CASES(vectors)                                                                                            \
    switch (rows) {                                                                                                    \
        GEMM_CASE(1, vectors)                                                                                          \
        GEMM_CASE(2, vectors)                                                                                          \
        GEMM_CASE(3, vectors)                                                                                          \
        GEMM_CASE(4, vectors)                                                                                          \
        GEMM_CASE(5, vectors)                                                                                          \
        GEMM_CASE(6, vectors)                                                                                          \
        GEMM_CASE(7, vectors)                                                                                          \
        GEMM_CASE(8, vectors)                                                                                          \
        GEMM_CASE(9, vectors)                                                                                          \
        GEMM_CASE(10, vectors)                                                                                         \
        GEMM_CASE(11, vectors)                                                                                         \
        GEMM_CASE(12, vectors)                                                                                         \
        GEMM_CASE(13, vectors)                                                                                         \
        GEMM_CASE(14, vectors)                                                                                         \
    }
static void gemm_tile_wide(size_t rows, const gemm_tile *t) { GEMM_CASES(GEMM_NV) }
static void gemm_tile_narrow(size_t rows, const gemm_tile *t) { GEMM_CASES(1) }
#undef GEMM_CASES
#undef GEMM_CASE

/*
 * Transposes `rows` (at least 1) rows of `depth` elements, `stride` apart, into packed[k * width + row]. Whole vectors
 * are stored: past the last row they write what the next k overwrites, so that `packed` needs VL elements of slack
 * behind it.
 */
static void gemm_pack_transposed(size_t rows, size_t depth, const real *a, size_t stride, size_t width, real *packed) {
    for (size_t k = 0; k < depth; k += VL) {
        const size_t n = lanes_at(k, depth);
        /*
         * The last vector of rows first: what it writes past its end lies where the first of the next k comes after
         * it.
         */
        for (size_t i = (rows - 1) / VL * VL + VL; i;) {
            i -= VL;
            const size_t count = lanes_at(i, rows);
            vreal r[VL];
            for (size_t row = 0; row < (size_t)VL; row++)
                r[row] = row < count ? v_get(a + (i + row) * stride + k, n) : v_zero();
            v_transpose(r);
            for (size_t c = 0; c < n; c++) v_store(packed + (k + c) * width + i, r[c]);
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

/* Panel of B: depth x width, width VL or GEMM_NR, whichever `cols` needs; what is past cols is 0 and never stored. */
static void gemm_pack_b(size_t depth, size_t cols, size_t width, const real *b, size_t b_row, size_t b_col,
                        real *packed) {
    if (b_col == 1)
        gemm_pack_rows(depth, cols, b, b_row, width, packed);
    else
        gemm_pack_transposed(cols, depth, b, b_col, width, packed);
}

NORMCORE_INLINE size_t size_min(size_t a, size_t b) { return a < b ? a : b; }
NORMCORE_INLINE size_t round_up(size_t a, size_t unit) { return (a + unit - 1) / unit * unit; }

/* Elements of the packed block of B; a multiple of a vector, so that A stays aligned behind it. */
NORMCORE_INLINE size_t gemm_packed_b_size(size_t depth, size_t cols) {
    return size_min(depth, CONTRACT_BLOCK) * round_up(size_min(cols, GEMM_COLS), GEMM_NR);
}

static void gemm_scratch_size(size_t rows, size_t depth, size_t cols, size_t *size) {
    const size_t packed_a = size_min(depth, CONTRACT_BLOCK) * size_min(rows, GEMM_MR) + VL;
    *size = (gemm_packed_b_size(depth, cols) + packed_a) * sizeof(real);
}

static void gemm(const NAME(gemm_problem) * p, size_t i0, size_t i1, size_t j0, size_t j1, void *scratch) {
    real *const packed_b = scratch, *const packed_a = packed_b + gemm_packed_b_size(p->depth, j1 - j0);
    const int direct = p->b_col == 1 && i1 - i0 <= GEMM_DIRECT_ROWS;

    for (size_t jc = j0; jc < j1; jc += GEMM_COLS) {
        const size_t cols = size_min(j1 - jc, GEMM_COLS);
        size_t kc = 0;
        do { /* at least once: depth 0 gives the empty sum */
            const size_t depth = size_min(p->depth - kc, CONTRACT_BLOCK);
            const int last = kc + depth == p->depth;
            for (size_t j = 0; j < cols; j += GEMM_NR) {
                const size_t n = size_min(cols - j, GEMM_NR), width = n > (size_t)VL ? GEMM_NR : VL;
                if (!(direct && n == width))
                    gemm_pack_b(depth, n, width, p->b + kc * p->b_row + (jc + j) * p->b_col, p->b_row, p->b_col,
                                packed_b + j * depth);
            }
            const size_t rows_total = i1 - i0, panels = (rows_total + GEMM_MR - 1) / GEMM_MR;
            for (size_t panel = 0, i = i0; panel < panels; panel++) {
                /* Panels of nearly the same height: a last one of a row or two would wait for its own fmas. */
                const size_t rows = rows_total / panels + (panel < rows_total % panels);
                gemm_pack_a(rows, depth, p->a + i * p->a_row + kc * p->a_col, p->a_row, p->a_col, packed_a);
                gemm_tile tile = {depth,           packed_a, NULL, 0, NULL, p->c_row, 0, p->accumulate || kc,
                                  last && p->relu, NULL};
                for (size_t j = 0; j < cols; j += GEMM_NR) {
                    const size_t n = size_min(cols - j, GEMM_NR), width = n > (size_t)VL ? GEMM_NR : VL;
                    const int in_place = direct && n == width;
                    tile.b = in_place ? p->b + kc * p->b_row + jc + j : packed_b + j * depth;
                    tile.b_step = in_place ? p->b_row : width;
                    tile.c = p->c + i * p->c_row + jc + j;
                    tile.cols = n;
                    tile.bias = last && p->bias ? p->bias + jc + j : NULL;
                    if (width == (size_t)VL)
                        gemm_tile_narrow(rows, &tile);
                    else
                        gemm_tile_wide(rows, &tile);
                }
                i += rows;
            }
            kc += depth;
        } while (kc < p->depth);
    }
}
