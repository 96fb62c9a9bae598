/* What holds for every operation alike. */
#ifndef NORMCORE_TESTS_PROPERTIES_H
#define NORMCORE_TESTS_PROPERTIES_H

#include "operations.h"

/*
 * One operation at one shape: near the reference; the same bits on every instruction set, for another layout and
 * alignment, in place, and (BY_ROW) for other cuts of the rows; the same again with special values; a row of specials
 * leaves the other rows alone.
 */
void check_operation(const operation *operation, size_t n, size_t k, size_t m, uint64_t number);
/* The same for one kind of data. */
void check_flavour(const operation *operation, size_t n, size_t k, size_t m, flavour flavour, uint64_t number);

/* Square shapes (k == m) around the edges of vectors, tiles and chunks, for all operations of a list. */
void check_rows_and_columns(operation_list list);

/* A number for each case, so that each has data of its own. */
uint64_t next_number(void);

#endif
