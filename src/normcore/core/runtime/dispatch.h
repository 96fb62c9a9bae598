/*
 * The targets of this build, best first, and which of them calls use. A target is an instruction set for which every
 * kernel has been compiled; "row" is kept for matrices.
 */
#ifndef NORMCORE_DISPATCH_H
#define NORMCORE_DISPATCH_H

#include "normcore.h"

#define KERNEL_TABLE_(dtype, isa) normcore_kernels_f##dtype##_##isa
#define KERNEL_TABLE(dtype, isa)  KERNEL_TABLE_(dtype, isa)

struct kernel_table_f32;
struct kernel_table_f64;

typedef struct isa_target {
    const char *name;
    unsigned needs; /* features of cpu.h, all of them */
    const struct kernel_table_f32 *f32;
    const struct kernel_table_f64 *f64;
} isa_target;

/*
 * The target in use: the process-wide one, or no better than `cap` if that is not NULL. If NORMCORE_ISA names no
 * target: cap, or NULL if there is none.
 */
const isa_target *normcore_target_in_use(const isa_target *cap);
/* The named target if this machine can run it, else NULL. */
const isa_target *normcore_target_find(const char *name);
/* The best target this machine can run that is no better than the named one; NULL if there is none of that name. */
const isa_target *normcore_target_at_most(const char *name);

#endif
