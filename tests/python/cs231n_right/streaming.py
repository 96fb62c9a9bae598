"""Welford's algorithm, row by row; the test pass in one fused expression."""

import numpy as np


def _moments(rows):
    mean, squares = np.zeros_like(rows[0]), np.zeros_like(rows[0])
    for count, row in enumerate(rows, 1):
        step = row - mean
        mean = mean + step / count
        squares = squares + step * (row - mean)
    return mean, squares / len(rows)


def batchnorm_forward(x, gamma, beta, bn_param):
    eps, momentum = bn_param.get("eps", 1e-5), bn_param.get("momentum", 0.9)
    running_mean = bn_param.get("running_mean", 0 * gamma)
    running_var = bn_param.get("running_var", 0 * gamma)
    cache = None
    if bn_param["mode"] == "train":
        mean, var = _moments(x)
        running_mean = running_mean * momentum + mean * (1 - momentum)
        running_var = running_var * momentum + var * (1 - momentum)
        cache = x - mean, var + eps, gamma
    else:
        mean, var = running_mean, running_var
    bn_param.update(running_mean=running_mean, running_var=running_var)
    return gamma / (var + eps) ** 0.5 * (x - mean) + beta, cache


def batchnorm_backward(dout, cache):
    centred, var, gamma = cache
    return (
        gamma * var**-0.5 * (dout - dout.mean(0) - centred / var * (dout * centred).mean(0)),
        (dout * centred).sum(0) / np.sqrt(var),
        dout.sum(0),
    )


def layernorm_forward(x, gamma, beta, ln_param):
    mean, var = _moments(x.T)
    std = np.sqrt(var + ln_param.get("eps", 1e-5))
    return (x - mean[:, None]) / std[:, None] * gamma + beta, None
