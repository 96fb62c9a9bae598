"""Caches are dicts; the backward passes pop nothing and are pure."""

import numpy as np


def affine_forward(x, w, b):
    return x.reshape(x.shape[0], np.prod(x.shape[1:])) @ w + b[np.newaxis, :], {"x": x, "w": w}


def affine_backward(dout, cache):
    flat = cache["x"].reshape(dout.shape[0], -1)
    return np.reshape(dout @ cache["w"].T, cache["x"].shape), flat.T @ dout, np.ones(dout.shape[0]) @ dout


def relu_forward(x):
    return np.where(x > 0, x, 0), {"positive": x > 0}


def relu_backward(dout, cache):
    return np.where(cache["positive"], dout, 0.0)


def layernorm_forward(x, gamma, beta, ln_param):
    mean, std = np.mean(x, 1), np.sqrt(np.var(x, 1) + ln_param.get("eps", 1e-5))
    xhat = ((x.T - mean) / std).T
    return gamma * xhat + beta, {"xhat": xhat, "std": std[:, None], "gamma": gamma}


def layernorm_backward(dout, cache):
    xhat, g = cache["xhat"], dout * cache["gamma"]
    dx = g - np.mean(g, 1, keepdims=True) - xhat * np.mean(g * xhat, 1, keepdims=True)
    return dx / cache["std"], np.sum(dout * xhat, 0), np.sum(dout, 0)


def dropout_forward(x, dropout_param):
    cache = {"mode": dropout_param["mode"], "keep": dropout_param["p"]}
    if cache["mode"] == "test":
        return x, cache
    rng = np.random.RandomState(dropout_param.get("seed"))
    cache["mask"] = rng.binomial(1, cache["keep"], size=x.shape)
    return x * cache["mask"] / cache["keep"], cache


def dropout_backward(dout, cache):
    return dout if cache["mode"] == "test" else dout * cache["mask"] / cache["keep"]
