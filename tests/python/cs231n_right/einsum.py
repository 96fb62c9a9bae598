"""Everything that sums, by einsum."""

import numpy as np


def affine_forward(x, w, b):
    rows = x.reshape(len(x), -1)
    return np.einsum("nk,km->nm", rows, w) + b, (x, rows, w)


def affine_backward(dout, cache):
    x, rows, w = cache
    dx = np.einsum("nm,km->nk", dout, w).reshape(x.shape)
    return dx, np.einsum("nk,nm->km", rows, dout), np.einsum("nm->m", dout)


def batchnorm_forward(x, gamma, beta, bn_param):
    n = len(x)
    eps = bn_param.get("eps", 1e-5)
    old_mean = bn_param.setdefault("running_mean", np.zeros(x.shape[1], x.dtype))
    old_var = bn_param.setdefault("running_var", np.zeros(x.shape[1], x.dtype))
    if bn_param["mode"] == "test":
        return np.einsum("nd,d->nd", x - old_mean, gamma / np.sqrt(old_var + eps)) + beta, None
    mean = np.einsum("nd->d", x) / n
    centred = x - mean
    var = np.einsum("nd,nd->d", centred, centred) / n
    rate = 1 - bn_param.get("momentum", 0.9)
    bn_param["running_mean"] = old_mean + rate * (mean - old_mean)
    bn_param["running_var"] = old_var + rate * (var - old_var)
    scale = 1 / np.sqrt(var + eps)
    return gamma * (centred * scale) + beta, (centred, scale, gamma)


def batchnorm_backward(dout, cache):
    centred, scale, gamma = cache
    n = len(dout)
    dbeta = np.einsum("nd->d", dout)
    dgamma = np.einsum("nd,nd,d->d", dout, centred, scale)
    dx = gamma * scale / n * (n * dout - dbeta - centred * scale * dgamma)
    return dx, dgamma, dbeta


def batchnorm_backward_alt(dout, cache):
    centred, scale, gamma = cache
    n = len(dout)
    xhat = centred * scale
    projector = np.eye(n)[:, :, None] - 1 / n - np.einsum("id,jd->ijd", xhat, xhat) / n
    return np.einsum("ijd,jd,d->id", projector, dout, gamma * scale), (dout * xhat).sum(0), dout.sum(0)


def layernorm_forward(x, gamma, beta, ln_param):
    d = x.shape[1]
    centred = x - np.einsum("nd->n", x)[:, None] / d
    scale = (np.einsum("nd,nd->n", centred, centred) / d + ln_param.get("eps", 1e-5)) ** -0.5
    xhat = np.einsum("nd,n->nd", centred, scale)
    return np.einsum("nd,d->nd", xhat, gamma) + beta, (xhat, scale, gamma)


def layernorm_backward(dout, cache):
    xhat, scale, gamma = cache
    d = dout.shape[1]
    g = dout * gamma
    inner = g - np.einsum("nd->n", g)[:, None] / d - xhat * np.einsum("nd,nd->n", g, xhat)[:, None] / d
    return np.einsum("nd,n->nd", inner, scale), np.einsum("nd,nd->d", dout, xhat), np.einsum("nd->d", dout)
