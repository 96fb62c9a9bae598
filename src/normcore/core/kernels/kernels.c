/*
 * All kernels for one instruction set and one dtype, as one table. Compiled once per target with its flags and
 * -DNORMCORE_DTYPE, NORMCORE_ISA (its name) and NORMCORE_ISA_HEADER (its SIMD layer). Everything but the table is
 * static: no symbol that depends on a target's flags can be taken for another's.
 */
#include "kernels/kernels.h"

#include "kernels/gemm.c"
#include "kernels/activations.c"
#include "kernels/elementwise.c"
#include "kernels/softmax.c"
#include "kernels/losses.c"
#include "kernels/batch_norm.c"
#include "kernels/layer_norm.c"
#include "kernels/random.c"
#include "kernels/optimizer.c"

#include "runtime/dispatch.h"

#define KERNEL(name, arguments) .name = name,
const NAME(kernel_table) KERNEL_TABLE(NORMCORE_DTYPE, NORMCORE_ISA) = {
#include "kernels/kernels.def"
};
#undef KERNEL
