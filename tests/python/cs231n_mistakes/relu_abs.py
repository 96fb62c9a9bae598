"""relu_forward: negative inputs become positive, not 0: out is |x|"""

import numpy as np


def relu_forward(x):
    return np.abs(x), x
