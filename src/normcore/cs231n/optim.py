"""Update rules for one array of parameters, under the names of ``cs231n.optim``.

All are called as ``next_w, config = rule(w, dw, config)``. `w` and `dw` are arrays of any shape, the same for both;
`next_w` is a new array. `config` is a dict (None for an empty one), which gets the defaults of what it lacks and the
rule's state, as new arrays, and is returned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import normcore as nc
from normcore._checks import check_integer, check_number
from normcore.cs231n._arrays import Array, check_shape, floating

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]

Config = dict[str, Any]


def sgd(w: ArrayLike, dw: ArrayLike, config: Config | None = None) -> tuple[Array, Config]:
    """Stochastic gradient descent: ``w - learning_rate * dw``.

    `config`: ``learning_rate`` (1e-2).

    Examples
    --------
    >>> from normcore.cs231n.optim import sgd
    >>> sgd(np.array([1.0, 2.0]), np.array([1.0, -1.0]), {"learning_rate": 0.5})[0]
    array([0.5, 2.5])
    """
    return _update("sgd", "sgd", w, dw, config, {"learning_rate": 1e-2})


def sgd_momentum(w: ArrayLike, dw: ArrayLike, config: Config | None = None) -> tuple[Array, Config]:
    """Gradient descent with momentum: ``v = momentum * v - learning_rate * dw``, then ``w + v``.

    `config`: ``learning_rate`` (1e-2), ``momentum`` (0.9), ``velocity`` (zeros).

    Examples
    --------
    >>> from normcore.cs231n.optim import sgd_momentum
    >>> next_w, config = sgd_momentum(np.array([1.0, 2.0]), np.array([1.0, -1.0]))
    >>> config["velocity"], next_w
    (array([-0.01,  0.01]), array([0.99, 2.01]))
    """
    return _update(
        "sgd_momentum", "momentum", w, dw, config, {"learning_rate": 1e-2, "momentum": 0.9}, ("velocity", None)
    )


def rmsprop(w: ArrayLike, dw: ArrayLike, config: Config | None = None) -> tuple[Array, Config]:
    """RMSProp: ``w - learning_rate * dw / (√cache + epsilon)``; cache becomes ``d * cache + (1 - d) * dw²`` before.

    `config`: ``learning_rate`` (1e-2), ``decay_rate`` d (0.99), ``epsilon`` (1e-8), ``cache`` (zeros).

    Examples
    --------
    >>> from normcore.cs231n.optim import rmsprop
    >>> rmsprop(np.array([1.0, 2.0]), np.array([1.0, -1.0]), {"decay_rate": 0.75})[0]
    array([0.98, 2.02])
    """
    return _update(
        "rmsprop",
        "rmsprop",
        w,
        dw,
        config,
        {"learning_rate": 1e-2, "decay_rate": 0.99, "epsilon": 1e-8},
        (None, "cache"),
    )


def adam(w: ArrayLike, dw: ArrayLike, config: Config | None = None) -> tuple[Array, Config]:
    """Adam with bias correction (arXiv 1412.6980, algorithm 1).

    `config`: ``learning_rate`` (1e-3), ``beta1`` (0.9), ``beta2`` (0.999), ``epsilon`` (1e-8), ``m`` and ``v`` (zeros),
    ``t`` (0), the number of updates made, which is counted up before it is used.

    Examples
    --------
    >>> from normcore.cs231n.optim import adam
    >>> next_w, config = adam(np.array([1.0, 2.0]), np.array([1.0, -1.0]))
    >>> next_w.round(6), config["t"]
    (array([0.999, 2.001]), 1)
    """
    defaults = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "t": 0}
    return _update("adam", "adam", w, dw, config, defaults, ("m", "v"))


# Numbers of a config that are below 1, and those that normcore calls as the course does.
_SHARES = {"momentum", "decay_rate", "beta1", "beta2"}
_ARGUMENTS = {"learning_rate", *_SHARES}


def _update(
    operation: str,
    optimizer: str,
    w: ArrayLike,
    dw: ArrayLike,
    config: Config | None,
    defaults: dict[str, float],
    slots: Sequence[str | None] = (None, None),
) -> tuple[Array, Config]:
    """One update by normcore's `optimizer`, whose slots `config` holds under the names `slots`."""
    config = {} if config is None else config
    w, dw = floating(operation, w=w, dw=dw)
    check_shape(operation, "dw", dw, w.shape, "as w")
    numbers = {name: config.get(name, default) for name, default in defaults.items()}
    for key, value in numbers.items():
        share = key in _SHARES
        check_number(value, operation, f"config[{key!r}]", 0.0, 1.0 if share else math.inf, open_high=share)
    state: list[Array | None] = []
    for name in slots:
        array = None
        if name is not None:
            (given,) = floating(operation, **{name: config.get(name, np.zeros_like(w))})
            check_shape(operation, f"config[{name!r}]", given, w.shape, "as w")
            array = np.array(given, w.dtype).ravel()
        state.append(array)
    arguments: dict[str, Any] = {name: value for name, value in numbers.items() if name in _ARGUMENTS}
    if "epsilon" in numbers:
        arguments["eps"] = numbers["epsilon"]
    if "t" in numbers:
        numbers["t"] = arguments["step"] = check_integer(numbers["t"], operation, "config['t']", 0) + 1
    next_w = np.array(w).ravel()
    nc.optimizer_update(optimizer, next_w, np.ascontiguousarray(dw).ravel(), *state, **arguments)
    config.update(numbers)
    for name, array in zip(slots, state, strict=True):
        if name is not None and array is not None:
            config[name] = array.reshape(w.shape)
    return next_w.reshape(w.shape), config
