"""relu_backward: dx is 1 where x is positive: dout is left out"""

import numpy as np


def relu_forward(x):
    return np.maximum(0, x), x


def relu_backward(dout, cache):
    return (cache > 0).astype(dout.dtype)
