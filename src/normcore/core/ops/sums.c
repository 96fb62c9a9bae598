/* The contract's tree over chunks of rows. */
#include "ops/sums.h"

void normcore_tree_sum(double *partials, size_t chunks, size_t width) {
    if (chunks < 2) return;
    const size_t left = tree_split(chunks);
    double *const right = partials + left * width;
    normcore_tree_sum(partials, left, width);
    normcore_tree_sum(right, chunks - left, width);
    for (size_t j = 0; j < width; j++) partials[j] += right[j];
}

/* Knuth's TwoSum: hi + what is added to lo is a.hi + b exactly. */
static pair pair_add(pair a, double b) {
    const double hi = a.hi + b, t = hi - a.hi;
    const pair sum = {hi, a.lo + ((a.hi - (hi - t)) + (b - t))};
    return sum;
}

pair normcore_pair_sum(size_t n, const double *values) {
    pair sum = {0.0, 0.0};
    const size_t chunks = chunk_count(n);
    if (chunks < 2) {
        for (size_t i = 0; i < n; i++) sum = pair_add(sum, values[i]);
        return sum;
    }
    const size_t left = tree_split(chunks) * CONTRACT_CHUNK;
    const pair right = normcore_pair_sum(n - left, values + left);
    sum = pair_add(normcore_pair_sum(left, values), right.hi);
    sum.lo += right.lo;
    return sum;
}
