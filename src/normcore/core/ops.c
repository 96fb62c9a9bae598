/*
 * The public operations of one dtype (NORMCORE_DTYPE): arguments, chunks and threads around the kernels. No
 * instruction set.
 */
#include "kernels.h"

#include "check.h"
#include "context.h"
#include "mlp_shape.h"
#include "options.h"
#include "selftest.h"

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
#include "ops/mlp.c"
#include "ops/selftest.c"
