/* The lengths on which the bits of a result depend: docs/numerics.md. */
#ifndef NORMCORE_CONTRACT_H
#define NORMCORE_CONTRACT_H

/* The two lengths of the numeric contract: blocks of the summed index of a product, chunks of the rows of a batch. */
enum { CONTRACT_BLOCK = 256, CONTRACT_CHUNK = 256 };
/* Reductions along a row use this many double lanes. */
enum { CONTRACT_LANES = 16 };
/* The training backward pass of a norm over fewer elements than this is in double. */
enum { CONTRACT_SHORT = 16 };

#endif
