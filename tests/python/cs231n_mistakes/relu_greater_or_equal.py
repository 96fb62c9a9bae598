"""relu_backward: right, but the gradient passes where x is 0: >= in place of >"""

import numpy as np


def relu_forward(x):
    return np.maximum(0, x), x


def relu_backward(dout, cache):
    return np.where(cache >= 0, dout, 0)
