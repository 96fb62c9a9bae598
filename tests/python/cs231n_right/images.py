"""Images by means over three axes, without a reshape to rows."""

import numpy as np

_AXES = (0, 2, 3)


def _column(values):
    return np.reshape(values, (1, -1, 1, 1))


def spatial_batchnorm_forward(x, gamma, beta, bn_param):
    eps, momentum = bn_param.get("eps", 1e-5), bn_param.get("momentum", 0.9)
    mean = bn_param.get("running_mean", np.zeros(x.shape[1]))
    var = bn_param.get("running_var", np.zeros(x.shape[1]))
    if bn_param["mode"] == "train":
        batch_mean, batch_var = x.mean(axis=_AXES), x.var(axis=_AXES)
        bn_param["running_mean"] = momentum * mean + (1 - momentum) * batch_mean
        bn_param["running_var"] = momentum * var + (1 - momentum) * batch_var
        mean, var = batch_mean, batch_var
    std = np.sqrt(_column(var) + eps)
    xhat = (x - _column(mean)) / std
    return _column(gamma) * xhat + _column(beta), (xhat, std, gamma)


def spatial_batchnorm_backward(dout, cache):
    xhat, std, gamma = cache
    dgamma, dbeta = (dout * xhat).sum(axis=_AXES), dout.sum(axis=_AXES)
    n = dout.size // dout.shape[1]
    dx = _column(gamma) / std * (dout - _column(dbeta) / n - xhat * _column(dgamma) / n)
    return dx, dgamma, dbeta


def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    N, C, H, W = x.shape
    xhat, std = np.empty_like(x), np.empty_like(x)
    size = C // G
    for n in range(N):
        for g in range(G):
            part = slice(g * size, (g + 1) * size)
            std[n, part] = np.sqrt(x[n, part].var() + gn_param.get("eps", 1e-5))
            xhat[n, part] = (x[n, part] - x[n, part].mean()) / std[n, part]
    return gamma * xhat + beta, (xhat, std, gamma, size)


def spatial_groupnorm_backward(dout, cache):
    xhat, std, gamma, size = cache
    d, dx = dout * gamma, np.empty_like(dout)
    for n in range(dout.shape[0]):
        for start in range(0, dout.shape[1], size):
            part = slice(start, start + size)
            h = xhat[n, part]
            dx[n, part] = (d[n, part] - d[n, part].mean() - h * (d[n, part] * h).mean()) / std[n, part]
    return dx, (dout * xhat).sum(_AXES).reshape(1, -1, 1, 1), dout.sum(_AXES, keepdims=True)
