"""Keeps the type of what comes in, and says so at every step."""

import numpy as np


def affine_forward(x, w, b):
    out = np.empty((x.shape[0], w.shape[1]), dtype=np.result_type(x, w))
    np.matmul(x.reshape(x.shape[0], -1), w, out=out)
    out += b
    return out.astype(x.dtype), (x, w, b)


def affine_backward(dout, cache):
    x, w, b = cache
    dx = np.matmul(dout, w.T).reshape(x.shape).astype(x.dtype)
    return dx, x.reshape(len(x), -1).T.dot(dout).astype(w.dtype), np.add.reduce(dout, dtype=b.dtype)


def relu_forward(x):
    return np.maximum(x, np.zeros(1, x.dtype)), x


def relu_backward(dout, cache):
    return dout * (cache > 0).astype(dout.dtype)


def batchnorm_forward(x, gamma, beta, bn_param):
    eps = x.dtype.type(bn_param.get("eps", 1e-5))
    momentum = x.dtype.type(bn_param.get("momentum", 0.9))
    one = x.dtype.type(1)
    mean = bn_param.get("running_mean", np.zeros(x.shape[1], x.dtype))
    var = bn_param.get("running_var", np.zeros(x.shape[1], x.dtype))
    if bn_param["mode"] == "train":
        # Two passes, the second of which corrects the mean.
        batch_mean = x.mean(0)
        batch_mean = batch_mean + (x - batch_mean).mean(0)
        batch_var = np.square(x - batch_mean).mean(0)
        bn_param["running_mean"] = momentum * mean + (one - momentum) * batch_mean
        bn_param["running_var"] = momentum * var + (one - momentum) * batch_var
        mean, var = batch_mean, batch_var
    else:
        bn_param["running_mean"], bn_param["running_var"] = mean, var
    inverse = one / np.sqrt(var + eps)
    xhat = (x - mean) * inverse
    return gamma * xhat + beta, [xhat, inverse, gamma]


def batchnorm_backward(dout, cache):
    xhat, inverse, gamma = cache
    g = dout * gamma
    return (g - g.mean(0) - xhat * (g * xhat).mean(0)) * inverse, (dout * xhat).sum(0), dout.sum(0)


def softmax_loss(x, y):
    z = x - x.max(1)[:, None]
    log_sum = np.log(np.exp(z).sum(1))
    dx = np.exp(z - log_sum[:, None])
    dx[np.arange(len(y)), y] -= 1
    return (log_sum - z[np.arange(len(y)), y]).mean(), (dx / len(y)).astype(x.dtype)
