"""Everything, in vectorised NumPy, with the imports of the course."""

import numpy as np
from builtins import range
from .im2col import *  # noqa: F403


def affine_forward(x, w, b):
    return x.reshape(x.shape[0], -1) @ w + b, (x, w, b)


def affine_backward(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(0)


def relu_forward(x):
    return np.maximum(0, x), x


def relu_backward(dout, x):
    return dout * (x > 0)


def softmax_loss(x, y):
    n = len(x)
    s = x - x.max(1, keepdims=True)
    e = np.exp(s)
    p = e / e.sum(1, keepdims=True)
    loss = -np.log(p[range(n), y]).sum() / n
    d = p.copy()
    d[range(n), y] -= 1
    return loss, d / n


def svm_loss(x, y):
    n = len(x)
    r = np.arange(n)
    m = np.maximum(0, x - x[r, y][:, None] + 1)
    m[r, y] = 0
    d = (m > 0) * 1.0
    d[r, y] -= d.sum(1)
    return m.sum() / n, d / n


def batchnorm_forward(x, gamma, beta, bn_param):
    mode = bn_param["mode"]
    eps = bn_param.get("eps", 1e-5)
    mom = bn_param.get("momentum", 0.9)
    N, D = x.shape
    rm = bn_param.get("running_mean", np.zeros(D, dtype=x.dtype))
    rv = bn_param.get("running_var", np.zeros(D, dtype=x.dtype))
    cache = None
    if mode == "train":
        mu = x.mean(0)
        v = x.var(0)
        xh = (x - mu) / np.sqrt(v + eps)
        out = gamma * xh + beta
        cache = (xh, gamma, v, eps)
        rm = mom * rm + (1 - mom) * mu
        rv = mom * rv + (1 - mom) * v
    else:
        out = gamma * (x - rm) / np.sqrt(rv + eps) + beta
    bn_param["running_mean"] = rm
    bn_param["running_var"] = rv
    return out, cache


def batchnorm_backward(dout, cache):
    xh, gamma, v, eps = cache
    N = len(dout)
    dxh = dout * gamma
    return (dxh - dxh.mean(0) - xh * (dxh * xh).mean(0)) / np.sqrt(v + eps), (dout * xh).sum(0), dout.sum(0)


batchnorm_backward_alt = batchnorm_backward


def layernorm_forward(x, gamma, beta, ln_param):
    eps = ln_param.get("eps", 1e-5)
    mu = x.mean(1, keepdims=True)
    v = x.var(1, keepdims=True)
    xh = (x - mu) / np.sqrt(v + eps)
    return gamma * xh + beta, (xh, gamma, v, eps)


def layernorm_backward(dout, cache):
    xh, gamma, v, eps = cache
    dxh = dout * gamma
    return (
        (dxh - dxh.mean(1, keepdims=True) - xh * (dxh * xh).mean(1, keepdims=True)) / np.sqrt(v + eps),
        (dout * xh).sum(0),
        dout.sum(0),
    )


def dropout_forward(x, dropout_param):
    p, mode = dropout_param["p"], dropout_param["mode"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = None
    out = x
    if mode == "train":
        mask = (np.random.rand(*x.shape) < p) / p
        out = x * mask
    return out, (dropout_param, mask)


def dropout_backward(dout, cache):
    p, mask = cache
    return dout * mask if p["mode"] == "train" else dout


def spatial_batchnorm_forward(x, gamma, beta, bn_param):
    N, C, H, W = x.shape
    o, c = batchnorm_forward(x.transpose(0, 2, 3, 1).reshape(-1, C), gamma, beta, bn_param)
    return o.reshape(N, H, W, C).transpose(0, 3, 1, 2), c


def spatial_batchnorm_backward(dout, cache):
    N, C, H, W = dout.shape
    dx, dg, db = batchnorm_backward(dout.transpose(0, 2, 3, 1).reshape(-1, C), cache)
    return dx.reshape(N, H, W, C).transpose(0, 3, 1, 2), dg, db


def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    eps = gn_param.get("eps", 1e-5)
    N, C, H, W = x.shape
    g = x.reshape(N * G, -1)
    v = g.var(1, keepdims=True)
    xh = (g - g.mean(1, keepdims=True)) / np.sqrt(v + eps)
    xi = xh.reshape(x.shape)
    return gamma * xi + beta, (xh, xi, v, eps, gamma, G)


def spatial_groupnorm_backward(dout, cache):
    xh, xi, v, eps, gamma, G = cache
    d = (dout * gamma).reshape(xh.shape)
    dx = (d - d.mean(1, keepdims=True) - xh * (d * xh).mean(1, keepdims=True)) / np.sqrt(v + eps)
    return dx.reshape(dout.shape), (dout * xi).sum((0, 2, 3), keepdims=True), dout.sum((0, 2, 3), keepdims=True)


def sgd(w, dw, config=None):
    if config is None:
        config = {}
    config.setdefault("learning_rate", 1e-2)
    w -= config["learning_rate"] * dw
    return w, config


def sgd_momentum(w, dw, config=None):
    if config is None:
        config = {}
    config.setdefault("learning_rate", 1e-2)
    config.setdefault("momentum", 0.9)
    v = config.get("velocity", np.zeros_like(w))
    v = config["momentum"] * v - config["learning_rate"] * dw
    config["velocity"] = v
    return w + v, config


def rmsprop(w, dw, config=None):
    if config is None:
        config = {}
    config.setdefault("learning_rate", 1e-2)
    config.setdefault("decay_rate", 0.99)
    config.setdefault("epsilon", 1e-8)
    config.setdefault("cache", np.zeros_like(w))
    config["cache"] = config["decay_rate"] * config["cache"] + (1 - config["decay_rate"]) * dw**2
    return w - config["learning_rate"] * dw / (np.sqrt(config["cache"]) + config["epsilon"]), config


def adam(w, dw, config=None):
    if config is None:
        config = {}
    config.setdefault("learning_rate", 1e-3)
    config.setdefault("beta1", 0.9)
    config.setdefault("beta2", 0.999)
    config.setdefault("epsilon", 1e-8)
    config.setdefault("m", np.zeros_like(w))
    config.setdefault("v", np.zeros_like(w))
    config.setdefault("t", 0)
    config["t"] += 1
    b1, b2 = config["beta1"], config["beta2"]
    config["m"] = b1 * config["m"] + (1 - b1) * dw
    config["v"] = b2 * config["v"] + (1 - b2) * dw**2
    m = config["m"] / (1 - b1 ** config["t"])
    v = config["v"] / (1 - b2 ** config["t"])
    return w - config["learning_rate"] * m / (np.sqrt(v) + config["epsilon"]), config
