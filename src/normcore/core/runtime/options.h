/*
 * Structs of options across versions. A struct begins with its size and grows at its end, by fields whose zero is the
 * default, each from where sizeof ended before (into padding would be into an older caller's garbage). A caller compiled
 * with an older header hands over a shorter one, whose missing fields are zero; one compiled with a newer header a longer
 * one, which may say nothing but zero where this library knows no fields.
 */
#ifndef NORMCORE_OPTIONS_H
#define NORMCORE_OPTIONS_H

#include "normcore.h"

/*
 * The caller's options as the struct of this version. NORMCORE_ERROR_VALUE if struct_size is less than version 0.1's or
 * more than any version's could be, or if what is not known here is not zero.
 */
normcore_status normcore_options_read_context(const normcore_context_options *options, normcore_context_options *full);
normcore_status normcore_options_read_cross_entropy(const normcore_cross_entropy_options *options,
                                                    normcore_cross_entropy_options *full);
normcore_status normcore_options_read_loss(const normcore_loss_options *options, normcore_loss_options *full);
normcore_status normcore_options_read_batch_norm(const normcore_batch_norm_options *options,
                                                 normcore_batch_norm_options *full);
normcore_status normcore_options_read_optimizer(const normcore_optimizer_options *options,
                                                normcore_optimizer_options *full);
normcore_status normcore_options_read_mlp(const normcore_mlp_options *options, normcore_mlp_options *full);
normcore_status normcore_options_read_mlp_loss(const normcore_mlp_loss_options *options,
                                               normcore_mlp_loss_options *full);

#endif
