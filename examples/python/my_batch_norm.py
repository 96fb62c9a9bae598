"""A batch norm as one writes it: nothing of normcore in it. test_my_batch_norm.py tests it."""

import numpy as np


def batch_norm(x, gamma, beta, eps):
    """Normalise the columns of x (n, d); returns y and what the backward pass needs."""
    mean = x.mean(axis=0)
    var = x.var(axis=0)
    rstd = 1 / np.sqrt(var + eps)
    xhat = (x - mean) * rstd
    return gamma * xhat + beta, (xhat, gamma, rstd)


def batch_norm_backward(dy, cache):
    """The gradients of x, gamma and beta from dy (n, d), that of y."""
    xhat, gamma, rstd = cache
    dgamma = (dy * xhat).sum(axis=0)
    dbeta = dy.sum(axis=0)
    dx = gamma * rstd * (dy - dy.mean(axis=0) - xhat * (dy * xhat).mean(axis=0))
    return dx, dgamma, dbeta
