"""dropout_forward: p is taken for the probability to drop, and what is kept is scaled in test mode, in place of train mode; it is that to keep: before 2018 it was that to drop (--edition)"""

import numpy as np


def dropout_forward(x, dropout_param):
    p, mode = dropout_param["p"], dropout_param["mode"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = None
    if mode == "train":
        mask = np.random.binomial(1, 1 - p, size=x.shape)
        out = x * mask
    else:
        out = x * (1 - p)
    return out, (dropout_param, mask)
