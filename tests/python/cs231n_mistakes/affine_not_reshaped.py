"""affine_forward: fails for x of more than two axes: raises ValueError in line 7 of affine_not_reshaped.py: *"""

import numpy as np


def affine_forward(x, w, b):
    out = np.dot(x, w) + b
    return out, (x, w, b)
