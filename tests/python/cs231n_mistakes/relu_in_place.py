"""relu_forward: x was modified: work on a copy of it"""


def relu_forward(x):
    out = x
    out[out < 0] = 0
    return out, x
