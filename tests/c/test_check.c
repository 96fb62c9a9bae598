/* The checks of operands against what they mean, byte by byte. */
#include "harness.h"

#include <string.h>

#include "check.h"

enum { BYTES = 96 };

/* Whether each byte of BYTES belongs to the operand. */
static void mark(const operand *o, const unsigned char *base, unsigned char bytes[BYTES]) {
    memset(bytes, 0, BYTES);
    for (size_t row = 0; row < o->rows; row++)
        for (size_t i = 0; i < o->cols * o->element; i++)
            bytes[(size_t)((const unsigned char *)o->data - base) + row * o->stride * o->element + i] = 1;
}

static operand random_operand(rng *r, const unsigned char *base) {
    for (;;) {
        operand o = {NULL, rng_below(r, 4), rng_below(r, 4), 0, rng_below(r, 2) ? 4 : 8, 0, 0, 0};
        o.stride = o.cols + rng_below(r, 3);
        const size_t first = 4 * rng_below(r, 12);
        if (first + ((o.rows ? o.rows - 1 : 0) * o.stride + o.cols) * o.element > BYTES) continue;
        o.data = base + first;
        return o;
    }
}

/* Exactly one and the same array: every element of one is an element of the other, of the same size. */
static int is_same(const operand *a, const operand *b) {
    return a->data == b->data && a->rows == b->rows && a->cols == b->cols && a->element == b->element &&
           (a->rows == 1 || a->stride == b->stride);
}

static void test_aliases(void) {
    enum { ALLOWED, REFUSED, CASES };
    size_t seen[CASES][2] = {{0, 0}, {0, 0}}; /* by whether the two are the same array */
    rng r = rng_new(harness_seed());
    unsigned char base[BYTES], of_a[BYTES], of_b[BYTES];
    for (int i = 0; i < 200000; i++) {
        operand o[2] = {random_operand(&r, base), random_operand(&r, base)};
        if (rng_below(&r, 4) == 0) {
            o[1] = o[0];
            if (rng_below(&r, 2)) o[1].element = 12 - o[0].element;
            if (o[1].rows && o[1].cols &&
                (size_t)((const unsigned char *)o[1].data - base) +
                        ((o[1].rows - 1) * o[1].stride + o[1].cols) * o[1].element >
                    BYTES)
                continue;
        }
        const size_t output = rng_below(&r, 2), may_be = rng_below(&r, 2);
        o[output].output = 1;
        o[output].may_be = may_be ? 1u << (1 - output) : 0;
        const normcore_status status = normcore_check_operands(o, 2);
        int overlap = 0;
        mark(&o[0], base, of_a);
        mark(&o[1], base, of_b);
        for (size_t byte = 0; byte < BYTES; byte++) overlap |= of_a[byte] & of_b[byte];
        const int same = is_same(&o[0], &o[1]), refused = overlap && !(may_be && same);
        if (refused) {
            if (!CHECK_STATUS(NORMCORE_ERROR_ALIAS, status)) return;
        } else if (!overlap && status == NORMCORE_ERROR_ALIAS)
            /* Interleaved arrays of other strides or types are refused too: nobody passes them on purpose. */
            CHECK(o[0].stride != o[1].stride || o[0].element != o[1].element);
        else if (!CHECK_STATUS(NORMCORE_OK, status))
            return;
        seen[status == NORMCORE_ERROR_ALIAS][same]++;
    }
    CHECK(seen[ALLOWED][0] && seen[ALLOWED][1] && seen[REFUSED][0] && seen[REFUSED][1]);
}

int main(int argc, char **argv) {
    static const test tests[] = {
        {"aliases", test_aliases},
    };
    return harness_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
