"""relu_backward: dout is multiplied by the output, not by 1 where the input is positive"""

import numpy as np


def relu_forward(x):
    return np.maximum(0, x), x


def relu_backward(dout, cache):
    return dout * np.maximum(cache, 0)
