/* The header alone, with nothing before it, twice. */
#include "normcore.h"
#include "normcore.h"

int main(void) {
    normcore_context_options options;
    if (normcore_context_defaults(&options, sizeof options)) return 1;
    return options.struct_size == sizeof(normcore_context_options) && normcore_version()[0] ? 0 : 1;
}
