"""Gradients by finite differences, under the names of ``cs231n.gradient_check``.

`x` is changed in place, one number at a time, and set back: `f` may use it otherwise than as its argument.
`normcore.testing.numerical_gradient` leaves its `x` alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from normcore.cs231n._arrays import Array

__all__ = ["eval_numerical_gradient", "eval_numerical_gradient_array", "grad_check_sparse"]


def eval_numerical_gradient(f: Callable[[Array], Any], x: Array, verbose: bool = True, h: float = 1e-5) -> Array:
    """Gradient of a function with one number as its value, by central differences of width `h`.

    Parameters
    ----------
    f : function of an array
    x : array of floats
        Where; changed meanwhile, and set back.
    verbose : bool
        Print each index and its derivative.

    Examples
    --------
    >>> from normcore.cs231n.gradient_check import eval_numerical_gradient
    >>> eval_numerical_gradient(lambda x: (x**2).sum(), np.array([1.0, 3.0]), verbose=False).round(6)
    array([2., 6.])
    """
    _check_changeable("eval_numerical_gradient", x)
    grad = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        above, below = _beside(f, x, index, h)
        grad[index] = (above - below) / (2 * h)
        if verbose:
            print(index, grad[index])
    return grad


def eval_numerical_gradient_array(f: Callable[[Array], Any], x: Array, df: ArrayLike, h: float = 1e-5) -> Array:
    """Gradient of ``(f(x) * df).sum()`` for a function with an array as its value, by central differences of width `h`.

    That is what a backward pass gives for the upstream gradient `df`.

    Examples
    --------
    >>> from normcore.cs231n.gradient_check import eval_numerical_gradient_array
    >>> eval_numerical_gradient_array(lambda x: x**2, np.array([1.0, 3.0]), np.array([1.0, 10.0])).round(6)
    array([ 2., 60.])
    """
    _check_changeable("eval_numerical_gradient_array", x)
    grad = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        above, below = _beside(f, x, index, h)
        grad[index] = np.sum((above - below) * df) / (2 * h)
    return grad


def grad_check_sparse(
    f: Callable[[Array], Any], x: Array, analytic_grad: Array, num_checks: int = 10, h: float = 1e-5
) -> None:
    """Compare a gradient with central differences at some places, which Python's `random` chooses, and print both.

    Examples
    --------
    >>> from normcore.cs231n.gradient_check import grad_check_sparse
    >>> x = np.array([1.0, 3.0])
    >>> grad_check_sparse(lambda x: (x**2).sum(), x, 2 * x, num_checks=1)
    numerical: ... analytic: ..., relative error: ...
    """
    _check_changeable("grad_check_sparse", x)
    for _ in range(num_checks):
        index = tuple(random.randrange(size) for size in x.shape)
        above, below = _beside(f, x, index, h)
        numerical, analytic = (above - below) / (2 * h), analytic_grad[index]
        difference, size = abs(numerical - analytic), abs(numerical) + abs(analytic)
        relative = difference / size if size else 0.0
        print(f"numerical: {numerical:f} analytic: {analytic:f}, relative error: {relative:e}")


def _check_changeable(operation: str, x: Any) -> None:
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        found = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
        raise TypeError(
            f"{operation}: x is {found}; it must be a NumPy array of floats, whose numbers are changed a little"
        )


def _beside(f: Callable[[Array], Any], x: Array, index: tuple[int, ...], h: float) -> Iterator[Any]:
    """The values of `f` with the number at `index` greater by `h`, and less by it."""
    old = x[index]
    values = []
    try:
        for step in (h, -h):
            x[index] = old + step
            # f may give the same array each time, or x itself.
            values.append(np.array(f(x)))
    finally:
        x[index] = old
    return iter(values)
