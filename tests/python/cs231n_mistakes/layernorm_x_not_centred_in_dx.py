"""layernorm_backward: the term of dx through the variance has x in place of x - mean"""

import numpy as np


def layernorm_forward(x, gamma, beta, ln_param):
    eps = ln_param.get("eps", 1e-5)
    mu = x.mean(axis=1, keepdims=True)
    var = ((x - mu) ** 2).mean(axis=1, keepdims=True)
    std = np.sqrt(var + eps)
    x_norm = (x - mu) / std
    out = gamma * x_norm + beta
    return out, (x_norm, gamma, std, x)


def layernorm_backward(dout, cache):
    x_norm, gamma, std, x = cache
    D = dout.shape[1]
    dgamma = (dout * x_norm).sum(axis=0)
    dbeta = dout.sum(axis=0)
    g = dout * gamma
    dx = (D * g - g.sum(axis=1, keepdims=True) - x / std**2 * (g * x).sum(axis=1, keepdims=True)) / (D * std)
    return dx, dgamma, dbeta
