"""dropout_forward: what is kept is not divided by p in train mode
dropout_forward: out is multiplied by 1 - p in test mode, where it is to be x
"""

import numpy as np


def dropout_forward(x, dropout_param):
    p, mode = dropout_param["p"], dropout_param["mode"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = None
    if mode == "train":
        mask = np.random.rand(*x.shape) < p
        out = x * mask
    else:
        out = x * (1 - p)
    return out, (dropout_param, mask)
