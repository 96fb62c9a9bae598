"""Explicit loops over rows, columns and classes."""

import math

import numpy as np
from past.builtins import xrange


def affine_forward(x, w, b):
    N, M = x.shape[0], w.shape[1]
    rows = x.reshape(N, -1)
    out = np.empty((N, M), dtype=x.dtype)
    for i in xrange(N):
        for j in xrange(M):
            out[i, j] = sum(rows[i, k] * w[k, j] for k in xrange(w.shape[0])) + b[j]
    return out, (x, w, b)


def affine_backward(dout, cache):
    x, w, b = cache
    rows = x.reshape(x.shape[0], -1)
    dx, dw, db = np.zeros_like(rows), np.zeros_like(w), np.zeros_like(b)
    for i in range(dout.shape[0]):
        for j in range(dout.shape[1]):
            db[j] += dout[i, j]
            for k in range(w.shape[0]):
                dx[i, k] += dout[i, j] * w[k, j]
                dw[k, j] += dout[i, j] * rows[i, k]
    return dx.reshape(x.shape), dw, db


def relu_forward(x):
    out = x.copy()
    for index in np.ndindex(x.shape):
        if out[index] < 0:
            out[index] = 0
    return out, x


def relu_backward(dout, cache):
    dx = np.zeros_like(dout)
    for index in np.ndindex(dx.shape):
        dx[index] = dout[index] if cache[index] > 0 else 0
    return dx


def softmax_loss(x, y):
    N, C = x.shape
    loss, dx = 0.0, np.zeros_like(x)
    for i in range(N):
        top = max(x[i])
        total = sum(math.exp(x[i, c] - top) for c in range(C))
        loss += math.log(total) - (x[i, y[i]] - top)
        for c in range(C):
            dx[i, c] = (math.exp(x[i, c] - top) / total - (c == y[i])) / N
    return loss / N, dx


def svm_loss(x, y):
    N, C = x.shape
    loss, dx = 0.0, np.zeros(x.shape)
    for i in range(N):
        for j in range(C):
            if j == y[i]:
                continue
            margin = x[i, j] - x[i, y[i]] + 1
            if margin > 0:
                loss += margin
                dx[i, j] += 1
                dx[i, y[i]] -= 1
    return loss / N, dx / N


def batchnorm_forward(x, gamma, beta, bn_param):
    mode, eps, momentum = bn_param["mode"], bn_param.get("eps", 1e-5), bn_param.get("momentum", 0.9)
    N, D = x.shape
    running_mean = bn_param.get("running_mean", np.zeros(D)).copy()
    running_var = bn_param.get("running_var", np.zeros(D)).copy()
    out, xhat, std = np.zeros_like(x), np.zeros_like(x), np.zeros(D)
    for j in range(D):
        if mode == "train":
            mean = sum(x[:, j]) / N
            var = sum((x[i, j] - mean) ** 2 for i in range(N)) / N
            running_mean[j] = momentum * running_mean[j] + (1 - momentum) * mean
            running_var[j] = momentum * running_var[j] + (1 - momentum) * var
        else:
            mean, var = running_mean[j], running_var[j]
        std[j] = (var + eps) ** 0.5
        for i in range(N):
            xhat[i, j] = (x[i, j] - mean) / std[j]
            out[i, j] = gamma[j] * xhat[i, j] + beta[j]
    bn_param["running_mean"], bn_param["running_var"] = running_mean, running_var
    return out, (xhat, std, gamma)


def batchnorm_backward(dout, cache):
    xhat, std, gamma = cache
    N, D = dout.shape
    dx, dgamma, dbeta = np.zeros_like(dout), np.zeros(D), np.zeros(D)
    for j in range(D):
        for i in range(N):
            dbeta[j] += dout[i, j]
            dgamma[j] += dout[i, j] * xhat[i, j]
        for i in range(N):
            dx[i, j] = gamma[j] / std[j] * (dout[i, j] - dbeta[j] / N - xhat[i, j] * dgamma[j] / N)
    return dx, dgamma, dbeta


def dropout_forward(x, dropout_param):
    p = dropout_param["p"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    out, mask = x.copy(), np.ones_like(x)
    if dropout_param["mode"] == "train":
        for index in np.ndindex(x.shape):
            mask[index] = 1 / p if np.random.random() < p else 0
            out[index] *= mask[index]
    return out, mask


def dropout_backward(dout, cache):
    return dout * cache
