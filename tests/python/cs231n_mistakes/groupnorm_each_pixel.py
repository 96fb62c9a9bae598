"""spatial_groupnorm_forward: takes mean and variance of each pixel by itself over the channels of its group, not over the pixels too"""

import numpy as np


def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    eps = gn_param.get("eps", 1e-5)
    N, C, H, W = x.shape
    groups = x.reshape(N, G, C // G, H, W)
    mean = groups.mean(axis=2, keepdims=True)
    var = groups.var(axis=2, keepdims=True)
    x_norm = ((groups - mean) / np.sqrt(var + eps)).reshape(N, C, H, W)
    return gamma * x_norm + beta, (x_norm, gamma, var + eps, G)
