/* Running a row-wise kernel on blocks of rows, and the contract's tree over chunks of rows. */

/* Rows [start, start + count) of task `index` of `tasks`, cut as evenly as possible. */
typedef struct row_range {
    size_t start, count;
} row_range;

NORMCORE_INLINE row_range row_range_of(size_t rows, size_t tasks, size_t index) {
    const size_t each = rows / tasks, more = rows % tasks;
    const row_range r = {index * each + (index < more ? index : more), each + (index < more)};
    return r;
}

NORMCORE_INLINE size_t chunk_count(size_t n) { return n / CONTRACT_CHUNK + (n % CONTRACT_CHUNK != 0); }
NORMCORE_INLINE size_t chunk_rows(size_t n, size_t chunk) {
    const size_t left = n - chunk * CONTRACT_CHUNK;
    return left < CONTRACT_CHUNK ? left : CONTRACT_CHUNK;
}

/* Chunks in the left subtree of a range: the largest power of two below its length. */
NORMCORE_INLINE size_t tree_split(size_t chunks) {
    size_t left = 1;
    while (left * 2 < chunks) left *= 2;
    return left;
}

/* Sums `chunks` partial vectors of `width` doubles, `width` apart, into the first, by the contract's tree. */
static void tree_sum(double *partials, size_t chunks, size_t width) {
    if (chunks < 2) return;
    const size_t left = tree_split(chunks);
    double *const right = partials + left * width;
    tree_sum(partials, left, width);
    tree_sum(right, chunks - left, width);
    for (size_t j = 0; j < width; j++) partials[j] += right[j];
}

static double canonical_double(double a) { return a == a ? a : (double)NAN; }

/*
 * A sum in two doubles, hi + lo: lo is what rounding hi lost at each step. Its value is within one ULP of the exact sum
 * of terms of one sign, and of the order of 2^-100 of the sum of the magnitudes for others.
 */
typedef struct pair {
    double hi, lo;
} pair;

/* Knuth's TwoSum: hi + what is added to lo is a.hi + b exactly. */
static pair pair_add(pair a, double b) {
    const double hi = a.hi + b, t = hi - a.hi;
    const pair sum = {hi, a.lo + ((a.hi - (hi - t)) + (b - t))};
    return sum;
}

/* Values are added to +0 in order within a chunk; chunks are joined by the contract's tree. */
static pair pair_sum(size_t n, const double *values) {
    pair sum = {0.0, 0.0};
    const size_t chunks = chunk_count(n);
    if (chunks < 2) {
        for (size_t i = 0; i < n; i++) sum = pair_add(sum, values[i]);
        return sum;
    }
    const size_t left = tree_split(chunks) * CONTRACT_CHUNK;
    const pair right = pair_sum(n - left, values + left);
    sum = pair_add(pair_sum(left, values), right.hi);
    sum.lo += right.lo;
    return sum;
}

/* lo is not finite where hi overflowed or is NaN. */
static double pair_value(pair a) { return canonical_double(a.lo - a.lo == 0.0 ? a.hi + a.lo : a.hi); }

/* Rounds d sums to the dtype, NaN canonical. `out` may be NULL. */
static void store_sums(size_t d, const double *sums, real *out) {
    if (!out) return;
    for (size_t j = 0; j < d; j++) out[j] = sums[j] == sums[j] ? (real)sums[j] : REAL_NAN;
}

NORMCORE_INLINE const NAME(kernel_table) * kernels_of(const call *c) {
#if NORMCORE_DTYPE == 32
    return normcore_call_isa(c)->f32;
#else
    return normcore_call_isa(c)->f64;
#endif
}

/* Rough time of a pass that moves that many elements through a core, at 20 GB/s. */
NORMCORE_INLINE double pass_ns(size_t n, size_t d, double passes) {
    return (double)n * (double)d * passes * (double)sizeof(real) / 20.0;
}
