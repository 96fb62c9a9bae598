"""p is the probability to drop, as it was before 2018; prints and warnings do no harm."""

import sys
import warnings

import numpy as np

print("loading", flush=True)


def dropout_forward(x, dropout_param):
    p, mode = dropout_param["p"], dropout_param["mode"]
    print("forward", x.shape)
    print("errors too", file=sys.stderr)
    warnings.warn("nothing to see here", stacklevel=1)
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = None
    out = x
    if mode == "train":
        mask = (np.random.rand(*x.shape) >= p) / (1 - p)
        out = x * mask
    return out.astype(x.dtype, copy=False), (dropout_param, mask)


def dropout_backward(dout, cache):
    dropout_param, mask = cache
    return dout * mask if dropout_param["mode"] == "train" else dout
