"""Gradients by finite differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

__all__ = ["check_gradients", "numerical_gradient"]

# The truncation error of a central difference grows as h**2, its rounding error as u / h: balanced at u**(1/3).
_STEP = 2.0**-17


def numerical_gradient(
    function: Callable[[Array], Any],
    x: ArrayLike,
    upstream: ArrayLike | None = None,
    *,
    step: float = _STEP,
) -> NDArray[np.float64]:
    """Gradient of ``sum(upstream * function(x))`` with respect to `x`, by central differences in float64.

    Parameters
    ----------
    function : callable
        Takes a float64 array of the shape of `x` and returns a number or an array.
    x : array_like of float64
        Where to differentiate; not changed.
    upstream : array_like, optional
        Weights of the elements of the result (the gradient that arrives from above); all 1 by default.
    step : float
        Step for elements of magnitude up to 1; it grows in proportion beyond.

    Returns
    -------
    ndarray of float64
        Exact to about 1e-10 of the scale of the function where that is smooth and scaled near 1; meaningless within a
        step of a kink (ReLU at 0).

    Examples
    --------
    >>> from normcore.testing import numerical_gradient
    >>> np.round(numerical_gradient(lambda x: x**2, np.array([1.0, -2.0, 3.0])), 6)
    array([ 2., -4.,  6.])
    """
    point = np.array(x, dtype=np.float64, order="C")
    gradient = np.empty_like(point)
    flat, out = point.reshape(-1), gradient.reshape(-1)
    for i, value in enumerate(flat.tolist()):
        h = step * max(1.0, abs(value))
        flat[i] = value + h
        above, right = np.array(function(point), dtype=np.longdouble), float(flat[i])
        flat[i] = value - h
        below, left = np.array(function(point), dtype=np.longdouble), float(flat[i])
        flat[i] = value
        difference = above - below
        if upstream is not None and np.shape(upstream) != difference.shape:
            raise ValueError(
                f"numerical_gradient: upstream is {np.shape(upstream)}, but the function gives {difference.shape}"
            )
        if upstream is not None:
            difference = difference * np.asarray(upstream)
        # right - left, not 2 h: the points are rounded, and their distance is exact.
        out[i] = difference.sum() / (right - left)
    return gradient


def check_gradients(
    function: Callable[..., Any],
    inputs: Mapping[str, ArrayLike],
    gradients: Mapping[str, ArrayLike],
    upstream: ArrayLike | None = None,
    *,
    step: float = _STEP,
    rtol: float = 1e-7,
    atol: float = 1e-8,
) -> None:
    """Compare analytic gradients with central differences.

    `function` takes `inputs` as keyword arguments and returns a number or an array; `gradients` holds, by the same
    names, the gradients of ``sum(upstream * function(**inputs))`` to be checked. Names that are only in `inputs`
    are held constant.

    Raises
    ------
    AssertionError
        An element is further from its finite difference than `atol` plus `rtol` times the greatest magnitude in that
        gradient; the message names the input, the element and both values.

    Examples
    --------
    >>> from normcore.testing import check_gradients
    >>> x = np.array([0.5, -1.0])
    >>> check_gradients(nc.tanh_forward, {"x": x}, {"x": nc.tanh_backward(np.ones(2), nc.tanh_forward(x))})
    >>> check_gradients(nc.tanh_forward, {"x": x}, {"x": np.ones(2)})
    Traceback (most recent call last):
        ...
    AssertionError: gradient of x at (1,): 1.0, finite differences give 0.4199743...
    """
    for name, analytic in gradients.items():
        if name not in inputs:
            raise KeyError(f"a gradient is given for {name!r}, which is not among the inputs {sorted(inputs)}")

        def varied(value: Array, name: str = name) -> Any:
            return function(**{**inputs, name: value})

        actual = np.asarray(analytic, dtype=np.float64)
        expected = numerical_gradient(varied, inputs[name], upstream, step=step)
        if actual.shape != expected.shape:
            raise AssertionError(f"gradient of {name}: shape {actual.shape}, but {name} is {expected.shape}")
        if not actual.size:
            continue
        error = np.abs(actual - expected)
        limit = atol + rtol * float(np.max(np.abs(expected)))
        if not bool((error <= limit).all()):
            at = np.unravel_index(int(np.argmax(np.where(np.isnan(error), np.inf, error))), error.shape)
            raise AssertionError(
                f"gradient of {name} at {tuple(int(i) for i in at)}: {float(actual[at])!r}, finite differences give "
                f"{float(expected[at])!r} (difference {float(error[at]):.3g}, allowed {limit:.3g})"
            )
