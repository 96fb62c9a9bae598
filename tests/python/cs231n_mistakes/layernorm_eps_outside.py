"""layernorm_forward: eps is added after the square root: sqrt(var) + eps in place of sqrt(var + eps)"""

import numpy as np


def layernorm_forward(x, gamma, beta, ln_param):
    eps = ln_param.get("eps", 1e-5)
    mu = x.mean(axis=1, keepdims=True)
    var = ((x - mu) ** 2).mean(axis=1, keepdims=True)
    std = np.sqrt(var) + eps
    x_norm = (x - mu) / std
    out = gamma * x_norm + beta
    return out, (x_norm, gamma, std)
