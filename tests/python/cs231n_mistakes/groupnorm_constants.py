"""spatial_groupnorm_backward: dx takes mean and variance for constants: both terms through them are missing"""

import numpy as np


def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    eps = gn_param.get("eps", 1e-5)
    N, C, H, W = x.shape
    groups = x.reshape(N, G, C // G, H, W)
    mean = groups.mean(axis=(2, 3, 4), keepdims=True)
    var = groups.var(axis=(2, 3, 4), keepdims=True)
    x_norm = ((groups - mean) / np.sqrt(var + eps)).reshape(N, C, H, W)
    return gamma * x_norm + beta, (x_norm, gamma, var + eps, G)


def spatial_groupnorm_backward(dout, cache):
    x_norm, gamma, var, G = cache
    N, C, H, W = dout.shape
    dgamma = np.sum(dout * x_norm, axis=(0, 2, 3), keepdims=True)
    dbeta = np.sum(dout, axis=(0, 2, 3), keepdims=True)
    d = (dout * gamma).reshape(N, G, C // G, H, W)
    n = x_norm.reshape(N, G, C // G, H, W)
    axes = (2, 3, 4)
    dx = d + 0 * n.mean(axis=axes, keepdims=True)
    return (dx / np.sqrt(var)).reshape(N, C, H, W), dgamma, dbeta
