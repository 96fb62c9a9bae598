"""Values to fill arrays with: special ones, and distributions that are hard on rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

__all__ = ["FILLS", "fill", "special_values", "sprinkle_special"]


def special_values(dtype: Any) -> Array:
    """NaN, infinities, zeros of both signs, subnormals, the least normal and the greatest numbers of a float type.

    Examples
    --------
    >>> from normcore.testing import special_values
    >>> special_values(np.float16)[:4].tolist()
    [nan, 0.0, 5.960464477539063e-08, 2.0325183868408203e-05]
    """
    kind = np.finfo(np.dtype(dtype))
    tiny, least = float(kind.tiny), float(kind.smallest_subnormal)
    positive = [0.0, least, tiny / 3, tiny, float(kind.max), np.inf]
    return np.array([np.nan, *positive, *(-value for value in positive)], dtype=dtype)


def sprinkle_special(x: Array, seed: int, share: float = 0.1) -> Array:
    """A copy of `x` with about `share` of its elements replaced by `special_values`, chosen by `seed`.

    Examples
    --------
    >>> from normcore.testing import sprinkle_special
    >>> sprinkle_special(np.ones(5), seed=3, share=0.5).tolist()
    [-0.0, -1.7976931348623157e+308, 5e-324, 2.2250738585072014e-308, 1.0]
    """
    random = np.random.default_rng([seed, 1])
    values = special_values(x.dtype.newbyteorder("="))
    return np.where(random.random(x.shape) < share, random.choice(values, x.shape), x).astype(x.dtype)


def _integers(random: np.random.Generator, shape: Any) -> Any:
    return random.integers(-8, 9, shape).astype(float)


def _normal(random: np.random.Generator, shape: Any) -> Any:
    return random.normal(size=shape)


def _wide_range(random: np.random.Generator, shape: Any) -> Any:
    return random.normal(size=shape) * 10.0 ** random.integers(-15, 16, shape)


def _scaled(random: np.random.Generator, shape: Any) -> Any:
    return random.normal(size=shape) * 10.0 ** random.uniform(-20, 20)


def _offset(random: np.random.Generator, shape: Any) -> Any:
    return random.normal(size=shape) + 10.0 ** random.uniform(0, 6) * random.choice([-1.0, 1.0])


def _constant(random: np.random.Generator, shape: Any) -> Any:
    return np.full(shape, random.normal() * 10.0 ** random.integers(-3, 4))


_FILLS: dict[str, Callable[[np.random.Generator, Any], Any]] = {
    "integers": _integers,
    "normal": _normal,
    "offset": _offset,
    "constant": _constant,
    "scaled": _scaled,
    "wide_range": _wide_range,
}

FILLS = tuple(_FILLS)
"""How arrays may be filled: small integers, normal deviates, the same with an offset, a constant, one or all scales."""


def fill(name: str, shape: int | tuple[int, ...], dtype: Any = np.float64, *, seed: int = 0) -> Array:
    """An array of `shape` filled in one of the ways of `FILLS`; the same for the same seed.

    Examples
    --------
    >>> from normcore.testing import FILLS, fill
    >>> FILLS
    ('integers', 'normal', 'offset', 'constant', 'scaled', 'wide_range')
    >>> fill("integers", (2, 3), np.float32).tolist()
    [[6.0, 2.0, 0.0], [-4.0, -3.0, -8.0]]
    """
    if name not in _FILLS:
        raise ValueError(f"fill: no fill {name!r}; there are {', '.join(FILLS)}")
    # float32 reaches less far than some of these: what overflows there is infinite.
    with np.errstate(over="ignore"):
        return np.asarray(_FILLS[name](np.random.default_rng(seed), shape)).astype(dtype)
