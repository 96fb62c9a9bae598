"""Update rules that change the weights and their state in place."""

import numpy as np


def _settings(config, **defaults):
    config = {} if config is None else config
    for name, value in defaults.items():
        config.setdefault(name, value)
    return config


def sgd(w, dw, config=None):
    config = _settings(config, learning_rate=1e-2)
    w -= config["learning_rate"] * dw
    return w, config


def sgd_momentum(w, dw, config=None):
    config = _settings(config, learning_rate=1e-2, momentum=0.9, velocity=np.zeros_like(w))
    velocity = config["velocity"]
    velocity *= config["momentum"]
    velocity -= config["learning_rate"] * dw
    w += velocity
    return w, config


def rmsprop(w, dw, config=None):
    config = _settings(config, learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8, cache=np.zeros_like(w))
    config["cache"] += (1 - config["decay_rate"]) * (dw * dw - config["cache"])
    w -= config["learning_rate"] * dw / (config["cache"] ** 0.5 + config["epsilon"])
    return w, config


def adam(w, dw, config=None):
    config = _settings(config, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, t=0)
    config = _settings(config, m=np.zeros_like(w), v=np.zeros_like(w))
    config["t"] += 1
    config["m"] *= config["beta1"]
    config["m"] += (1 - config["beta1"]) * dw
    config["v"] *= config["beta2"]
    config["v"] += (1 - config["beta2"]) * np.square(dw)
    first = 1 - np.power(config["beta1"], config["t"])
    second = 1 - np.power(config["beta2"], config["t"])
    w -= config["learning_rate"] / first * config["m"] / (np.sqrt(config["v"] / second) + config["epsilon"])
    return w, config
