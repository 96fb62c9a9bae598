#include "guards.h"

#include "normcore.h"

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
        return "a parameter is out of its range or NaN";
    case NORMCORE_ERROR_LABEL:
        return "a label is out of range";
    case NORMCORE_ERROR_WEIGHT:
        return "a weight is negative, infinite or NaN";
    case NORMCORE_ERROR_MEMORY:
        return "out of memory";
    case NORMCORE_ERROR_ISA:
        return "no such instruction set in this build or on this machine";
    case NORMCORE_ERROR_THREAD:
        return "the operating system has no resources for threads";
    case NORMCORE_ERROR_SELFTEST:
        return "the self-test found arithmetic that breaks the numeric contract";
    }
    return "unknown status";
}

const char *normcore_version(void) { return NORMCORE_VERSION_STRING; }
const char *normcore_contract(void) { return NORMCORE_CONTRACT; }
