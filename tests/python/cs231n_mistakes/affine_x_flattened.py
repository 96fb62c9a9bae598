"""affine_forward: out has shape (1, 5) instead of (4, 5)*"""


def affine_forward(x, w, b):
    out = x.reshape(1, -1)[:, : w.shape[0]].dot(w) + b
    return out, (x, w, b)
