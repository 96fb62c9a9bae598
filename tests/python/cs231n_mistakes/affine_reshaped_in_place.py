"""affine_forward: x was modified: work on a copy of it"""


def affine_forward(x, w, b):
    shape = x.shape
    x -= 0.1 * x  # meant for a copy
    out = (x / 0.9).reshape(shape[0], -1).dot(w) + b
    return out, (x, w, b)
