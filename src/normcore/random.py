"""Reproducible random numbers: Philox4x32-10 streams which give the same bits on every machine."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from normcore import _core

__all__ = ["Generator"]

_ALGORITHM = "philox4x32-10"
_UINT64_END = 1 << 64


def check_uint64(value: SupportsIndex, operation: str, name: str) -> int:
    """Return `value` as an int in [0, 2**64), or raise a TypeError or ValueError which names the argument."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{operation}: {name} must be an integer, not {type(value).__name__}") from None
    if not 0 <= number < _UINT64_END:
        raise ValueError(f"{operation}: {name} is {number}; it must be in [0, 2**64)")
    return number


def check_real(value: Any, operation: str, name: str) -> float:
    """Return `value` as a float, or raise a TypeError which names the argument. Text is no number."""
    try:
        if not isinstance(value, (str, bytes, bytearray)):
            return float(value)
    except OverflowError:  # an integer beyond all doubles, which no range admits
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{operation}: {name} must be a number, not {type(value).__name__}")


def check_dtype(dtype: Any, operation: str) -> np.dtype[Any]:
    """Return float32 or float64 in native byte order; TypeError for all else, None (NumPy's float64) included."""
    checked: np.dtype[Any] | None = None
    try:
        if dtype is not None:
            checked = np.dtype(dtype).newbyteorder("=")
    except (TypeError, ValueError, SyntaxError):
        pass
    if checked is None or checked not in (np.dtype(np.float32), np.dtype(np.float64)):
        found = repr(dtype) if checked is None else checked.name
        raise TypeError(f"{operation}: dtype is {found}; accepted are float32 and float64")
    return checked


def _shape(size: SupportsIndex | Sequence[SupportsIndex], operation: str) -> tuple[int, ...]:
    try:
        entries = tuple(size) if isinstance(size, Sequence) else (size,)
        shape = tuple(operator.index(entry) for entry in entries)
    except TypeError:
        raise TypeError(f"{operation}: size must be an integer or a tuple of integers, not {size!r}") from None
    if any(entry < 0 for entry in shape):
        raise ValueError(f"{operation}: size is {size!r}; it must not be negative")
    if math.prod(max(entry, 1) for entry in shape) > sys.maxsize // 8:
        raise ValueError(f"{operation}: size is {size!r}; no array can be that large")
    return shape


class Generator:
    """One stream of random numbers, keyed by (`seed`, `stream`), with the position reached in it.

    Parameters
    ----------
    seed, stream : int in [0, 2**64)
        Streams of one seed are independent of each other. The same pair gives the same numbers on every machine.

    Notes
    -----
    Philox4x32-10 (Salmon et al., SC'11) makes an endless array of 32-bit words. The generator moves along it: a float32
    value uses one word; a float64 value or an integer uses two, from an even position on. Not for cryptography.
    """

    __slots__ = ("_position", "_seed", "_stream")

    def __init__(self, seed: SupportsIndex, stream: SupportsIndex = 0) -> None:
        self._seed = check_uint64(seed, "Generator", "seed")
        self._stream = check_uint64(stream, "Generator", "stream")
        self._position = 0

    @property
    def seed(self) -> int:
        """The seed, the first half of the key."""
        return self._seed

    @property
    def stream(self) -> int:
        """The stream, the second half of the key."""
        return self._stream

    @property
    def position(self) -> int:
        """Number of 32-bit words behind the generator."""
        return self._position

    def __repr__(self) -> str:
        return f"Generator(seed={self._seed}, stream={self._stream}, position={self._position})"

    def _reserve(self, count: int, words: int, operation: str) -> tuple[int, int]:
        """Index of the next value, counted in values of `words` words, and the position behind `count` of them."""
        first = -(-self._position // words)
        end = (first + count) * words
        if end > _UINT64_END:
            raise OverflowError(f"{operation}: the stream of {self!r} has no {count} values left")
        return first, end

    def uniform(
        self,
        size: SupportsIndex | Sequence[SupportsIndex],
        low: float = 0.0,
        high: float = 1.0,
        dtype: npt.DTypeLike = "float64",
    ) -> npt.NDArray[Any]:
        """Uniform deviates in [low, high), of shape `size`, float32 or float64. Rounding may give `high` itself."""
        shape, name, words = self._floats(size, dtype, "Generator.uniform")
        count = math.prod(shape)
        offset, end = self._reserve(count, words, "Generator.uniform")
        values = _core.random_uniform(
            count, seed=self._seed, stream=self._stream, offset=offset, low=low, high=high, dtype=name
        )
        self._position = end
        return values.reshape(shape)

    def normal(
        self,
        size: SupportsIndex | Sequence[SupportsIndex],
        mean: float = 0.0,
        scale: float = 1.0,
        dtype: npt.DTypeLike = "float64",
    ) -> npt.NDArray[Any]:
        """Normal deviates with the given mean and standard deviation, of shape `size`, float32 or float64."""
        shape, name, words = self._floats(size, dtype, "Generator.normal")
        count = math.prod(shape)
        offset, end = self._reserve(count, words, "Generator.normal")
        values = _core.random_normal(
            count, seed=self._seed, stream=self._stream, offset=offset, mean=mean, scale=scale, dtype=name
        )
        self._position = end
        return values.reshape(shape)

    def integers(self, bound: SupportsIndex, size: SupportsIndex | Sequence[SupportsIndex]) -> npt.NDArray[np.int64]:
        """int64 integers in [0, bound), of shape `size`; 1 <= bound <= 2**63. Also the draw with replacement."""
        limit = check_uint64(bound, "Generator.integers", "bound")
        if not 1 <= limit <= 1 << 63:
            raise ValueError(f"Generator.integers: bound is {limit}; it must be in [1, 2**63]")
        shape = _shape(size, "Generator.integers")
        count = math.prod(shape)
        offset, end = self._reserve(count, 2, "Generator.integers")
        values: npt.NDArray[np.int64] = _core.random_integers(
            count, limit, seed=self._seed, stream=self._stream, offset=offset
        )
        self._position = end
        return values.reshape(shape)

    def permutation(self, n: SupportsIndex) -> npt.NDArray[np.int64]:
        """Return a random permutation of 0 ... n-1 as int64 (Fisher-Yates; uses n - 1 integers of the stream)."""
        (count,) = _shape((n,), "Generator.permutation")
        offset, end = self._reserve(max(count - 1, 0), 2, "Generator.permutation")
        values: npt.NDArray[np.int64] = _core.random_permutation(
            count, seed=self._seed, stream=self._stream, offset=offset
        )
        self._position = end
        return values

    def spawn(self, stream: SupportsIndex) -> Generator:
        """Return a generator at the start of another stream of the same seed."""
        return Generator(self._seed, stream)

    def state(self) -> dict[str, int | str]:
        """Return all that is needed to go on from here, as a dict fit for JSON; see `from_state`."""
        return {
            "algorithm": _ALGORITHM,
            "seed": self._seed,
            "stream": self._stream,
            "position": self._position,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Generator:
        """Return a generator which goes on where the one whose `state()` this is stood."""
        missing = {"algorithm", "seed", "stream", "position"} - set(state)
        if missing:
            raise ValueError(f"Generator.from_state: the state lacks {', '.join(sorted(missing))}")
        if state["algorithm"] != _ALGORITHM:
            raise ValueError(f"Generator.from_state: the algorithm is {state['algorithm']!r}; known is {_ALGORITHM!r}")
        generator = cls(state["seed"], state["stream"])
        generator._position = check_uint64(state["position"], "Generator.from_state", "position")
        return generator

    def __getstate__(self) -> dict[str, int | str]:
        return self.state()

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        restored = Generator.from_state(state)
        self._seed, self._stream, self._position = restored._seed, restored._stream, restored._position

    @staticmethod
    def _floats(
        size: SupportsIndex | Sequence[SupportsIndex], dtype: npt.DTypeLike, operation: str
    ) -> tuple[tuple[int, ...], str, int]:
        name = check_dtype(dtype, operation).name
        return _shape(size, operation), name, 1 if name == "float32" else 2
