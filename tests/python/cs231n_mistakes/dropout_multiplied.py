"""dropout_forward: what is kept is multiplied by p in train mode, not divided by it"""

import numpy as np


def dropout_forward(x, dropout_param):
    p, mode = dropout_param["p"], dropout_param["mode"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = None
    if mode == "train":
        mask = (np.random.rand(*x.shape) < p) * p
        out = x * mask
    else:
        out = x
    return out, (dropout_param, mask)
