/*
 * The public operations of one dtype (NORMCORE_DTYPE): arguments, chunks and threads around the kernels. No
 * instruction set.
 */
#include "kernels/kernels.h"

#include "runtime/check.h"
#include "runtime/context.h"
#include "network/mlp_shape.h"
#include "runtime/options.h"
#include "selftest/selftest.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/scalars.c"

#include "ops/rows.c"
#include "ops/rowwise.c"
#include "ops/affine.c"
#include "ops/cross_entropy.c"
#include "ops/batch_norm.c"
#include "ops/layer_norm.c"
#include "ops/random.c"
#include "ops/optimizer.c"
#include "network/mlp.c"
#include "selftest/cases.c"
