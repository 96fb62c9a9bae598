#include "numeric/guards.h"

#include "runtime/dispatch.h"

#include "runtime/cpu.h"

#include <stdlib.h>
#include <string.h>

/*
 * isa_rows.h is written by the build: one ISA_ROW(name, needs) for each row it could compile, best first, scalar
 * last.
 */
#define ISA_ROW(name, needs)                                                                                           \
    extern const struct kernel_table_f32 KERNEL_TABLE(32, name);                                                       \
    extern const struct kernel_table_f64 KERNEL_TABLE(64, name);
#include "isa_rows.h"
#undef ISA_ROW

#define ISA_ROW(name, needs) {#name, needs, &KERNEL_TABLE(32, name), &KERNEL_TABLE(64, name)},
static const isa_row rows[] = {
#include "isa_rows.h"
};
#undef ISA_ROW
enum { ROW_COUNT = sizeof rows / sizeof rows[0] };

/*
 * The row of calls without a cap. NULL until first needed; `unknown` for a bad NORMCORE_ISA.
 */
static const isa_row *current;
static const isa_row unknown = {NULL, 0, NULL, NULL};

static const isa_row *best_from(const isa_row *row) {
    const unsigned found = normcore_cpu_detect();
    while ((row->needs & found) != row->needs) row++; /* scalar, the last, needs nothing */
    return row;
}

static const isa_row *row_named(const char *name) {
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (!strcmp(rows[i].name, name)) return &rows[i];
    return NULL;
}

const isa_row *normcore_isa_at_most(const char *name) {
    const isa_row *row = row_named(name);
    return row ? best_from(row) : NULL;
}

const isa_row *normcore_isa_find(const char *name) {
    const isa_row *row = row_named(name);
    return row && best_from(row) == row ? row : NULL;
}

/* Every thread that comes first finds the same row, so that it does not matter which one's store stays. */
static const isa_row *process_row(void) {
    const isa_row *row = __atomic_load_n(&current, __ATOMIC_ACQUIRE);
    if (!row) {
        const char *cap = getenv("NORMCORE_ISA");
        row = cap && *cap ? normcore_isa_at_most(cap) : best_from(rows);
        if (!row) row = &unknown;
        __atomic_store_n(&current, row, __ATOMIC_RELEASE);
    }
    return row;
}

const isa_row *normcore_isa_in_use(const isa_row *cap) {
    const isa_row *row = process_row();
    if (row == &unknown) return cap;
    return cap && cap > row ? cap : row; /* later in the list is less */
}

const char *normcore_isa_name(size_t index) {
    const unsigned found = normcore_cpu_detect();
    for (size_t i = 0; i < ROW_COUNT; i++)
        if ((rows[i].needs & found) == rows[i].needs && index-- == 0) return rows[i].name;
    return NULL;
}

const char *normcore_get_isa(void) { return process_row()->name; }

normcore_status normcore_set_isa(const char *name) {
    const isa_row *row = name ? normcore_isa_find(name) : best_from(rows);
    if (!row) return NORMCORE_ERROR_ISA;
    __atomic_store_n(&current, row, __ATOMIC_RELEASE);
    return NORMCORE_OK;
}
