"""Caches are objects and closures."""

import numpy as np


class Cache:
    def __init__(self, **values):
        self.__dict__.update(values)


def affine_forward(x, w, b):
    rows = np.array([image.ravel() for image in x])

    def backward(dout):
        return dout.dot(w.T).reshape(x.shape), rows.T.dot(dout), dout.sum(0)

    return rows.dot(w) + b, backward


def affine_backward(dout, cache):
    return cache(dout)


def relu_forward(x):
    return (x + abs(x)) / 2, Cache(x=x)


def relu_backward(dout, cache):
    return dout * (cache.x > 0)


def batchnorm_forward(x, gamma, beta, bn_param):
    train = bn_param["mode"] == "train"
    for name in ("running_mean", "running_var"):
        bn_param.setdefault(name, np.zeros(x.shape[1]))
    mean, var = (x.mean(0), x.var(0)) if train else (bn_param["running_mean"], bn_param["running_var"])
    cache = Cache(xhat=(x - mean) / np.sqrt(var + bn_param.get("eps", 1e-5)), gamma=gamma)
    cache.std = np.sqrt(var + bn_param.get("eps", 1e-5))
    if train:
        keep = bn_param.get("momentum", 0.9)
        bn_param["running_mean"] = keep * bn_param["running_mean"] + (1 - keep) * mean
        bn_param["running_var"] = keep * bn_param["running_var"] + (1 - keep) * var
    return gamma * cache.xhat + beta, cache


def batchnorm_backward(dout, cache):
    dgamma, dbeta = (dout * cache.xhat).sum(0), dout.sum(0)
    n = len(dout)
    return cache.gamma / cache.std / n * (n * dout - dbeta - cache.xhat * dgamma), dgamma, dbeta


def batchnorm_backward_alt(dout, cache):
    return batchnorm_backward(dout, cache)
