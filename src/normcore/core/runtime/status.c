#include "numeric/guards.h"

#include "normcore.h"

#define TEXT_OF(value)  #value
#define NUMBER_OF(name) TEXT_OF(name)

const char *normcore_strerror(normcore_status status) {
    switch (status) {
    case NORMCORE_OK:
        return "no error";
    case NORMCORE_ERROR_NULL:
        return "a pointer that is needed is NULL";
    case NORMCORE_ERROR_SIZE:
        return "a size is impossible, or a product of sizes overflows";
    case NORMCORE_ERROR_STRIDE:
        return "a row stride is smaller than the row";
    case NORMCORE_ERROR_ALIAS:
        return "an output overlaps another argument";
    case NORMCORE_ERROR_VALUE:
        return "a parameter is out of its range or NaN, or a running variance is negative";
    case NORMCORE_ERROR_LABEL:
        return "a label is out of range";
    case NORMCORE_ERROR_WEIGHT:
        return "a weight is negative, infinite, NaN or too large";
    case NORMCORE_ERROR_MEMORY:
        return "out of memory";
    case NORMCORE_ERROR_ISA:
        return "no such instruction set in this build or on this machine";
    case NORMCORE_ERROR_ENVIRONMENT_ISA:
        return "the environment variable NORMCORE_ISA names no instruction set of this build";
    case NORMCORE_ERROR_ENVIRONMENT_THREADS:
        return "the environment variable NORMCORE_NUM_THREADS is not a number from 1 to " NUMBER_OF(
            NORMCORE_MAX_THREADS);
    case NORMCORE_ERROR_SELFTEST:
        return "the self-test found arithmetic that breaks the numeric contract";
    }
    return "unknown status";
}

const char *normcore_version(void) { return NORMCORE_VERSION_STRING; }
const char *normcore_contract(void) { return NORMCORE_CONTRACT; }
