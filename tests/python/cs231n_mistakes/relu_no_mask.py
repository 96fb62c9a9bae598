"""relu_backward: dx is dout: the gradient passes also where x is negative"""

import numpy as np


def relu_forward(x):
    return np.maximum(0, x), x


def relu_backward(dout, cache):
    return dout.copy()
