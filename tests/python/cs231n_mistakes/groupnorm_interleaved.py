"""spatial_groupnorm_forward: a group holds channels that lie G apart, not C // G neighbouring ones"""

import numpy as np


def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    eps = gn_param.get("eps", 1e-5)
    N, C, H, W = x.shape
    groups = x.reshape(N, C // G, G, H, W)
    mean = groups.mean(axis=(1, 3, 4), keepdims=True)
    var = groups.var(axis=(1, 3, 4), keepdims=True)
    x_norm = ((groups - mean) / np.sqrt(var + eps)).reshape(N, C, H, W)
    return gamma * x_norm + beta, (x_norm, gamma, var + eps, G)
