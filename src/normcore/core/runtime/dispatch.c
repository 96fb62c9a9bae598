#include "numeric/guards.h"

#include "runtime/dispatch.h"

#include "runtime/cpu.h"

#include <stdlib.h>
#include <string.h>

/* isa_targets.h is written by the build: one ISA_TARGET(name, needs) per target it could compile, best first. */
#define ISA_TARGET(name, needs)                                                                                        \
    extern const struct kernel_table_f32 KERNEL_TABLE(32, name);                                                       \
    extern const struct kernel_table_f64 KERNEL_TABLE(64, name);
#include "isa_targets.h"
#undef ISA_TARGET

#define ISA_TARGET(name, needs) {#name, needs, &KERNEL_TABLE(32, name), &KERNEL_TABLE(64, name)},
static const isa_target targets[] = {
#include "isa_targets.h"
};
#undef ISA_TARGET
enum { TARGET_COUNT = sizeof targets / sizeof targets[0] };

/* The target of calls without a cap. NULL until first needed; `unknown` for a bad NORMCORE_ISA. */
static const isa_target *current;
static const isa_target unknown = {NULL, 0, NULL, NULL};

static const isa_target *best_from(const isa_target *target) {
    const unsigned found = normcore_cpu_detect();
    while ((target->needs & found) != target->needs) target++; /* scalar, the last, needs nothing */
    return target;
}

static const isa_target *target_named(const char *name) {
    for (size_t i = 0; i < TARGET_COUNT; i++)
        if (!strcmp(targets[i].name, name)) return &targets[i];
    return NULL;
}

const isa_target *normcore_target_at_most(const char *name) {
    const isa_target *target = target_named(name);
    return target ? best_from(target) : NULL;
}

const isa_target *normcore_target_find(const char *name) {
    const isa_target *target = target_named(name);
    return target && best_from(target) == target ? target : NULL;
}

/* Every thread that comes first finds the same target, so that it does not matter which one's store stays. */
static const isa_target *process_target(void) {
    const isa_target *target = __atomic_load_n(&current, __ATOMIC_ACQUIRE);
    if (!target) {
        const char *cap = getenv("NORMCORE_ISA");
        target = cap && *cap ? normcore_target_at_most(cap) : best_from(targets);
        if (!target) target = &unknown;
        __atomic_store_n(&current, target, __ATOMIC_RELEASE);
    }
    return target;
}

const isa_target *normcore_target_in_use(const isa_target *cap) {
    const isa_target *target = process_target();
    if (target == &unknown) return cap;
    return cap && cap > target ? cap : target; /* later in the list is less */
}

const char *normcore_isa_name(size_t index) {
    const unsigned found = normcore_cpu_detect();
    for (size_t i = 0; i < TARGET_COUNT; i++)
        if ((targets[i].needs & found) == targets[i].needs && index-- == 0) return targets[i].name;
    return NULL;
}

const char *normcore_get_isa(void) { return process_target()->name; }

normcore_status normcore_set_isa(const char *name) {
    const isa_target *target = name ? normcore_target_find(name) : best_from(targets);
    if (!target) return NORMCORE_ERROR_ISA;
    __atomic_store_n(&current, target, __ATOMIC_RELEASE);
    return NORMCORE_OK;
}
