"""Reproducible random numbers: Philox4x32-10 streams which give the same bits on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from normcore import _core
from normcore._checks import UINT64_END, check_dtype, check_shape, check_uint64

__all__ = ["Generator"]

_ALGORITHM = "philox4x32-10"


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

    Examples
    --------
    >>> generator = nc.Generator(7)
    >>> generator.uniform(3)
    array([0.75015222, 0.08565787, 0.79528404])
    >>> generator.integers(6, size=(2, 4)).tolist()
    [[5, 0, 5, 1], [0, 5, 3, 2]]
    >>> generator
    Generator(seed=7, stream=0, position=22)
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
        if end > UINT64_END:
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
        shape = check_shape(size, "Generator.integers")
        count = math.prod(shape)
        offset, end = self._reserve(count, 2, "Generator.integers")
        values: npt.NDArray[np.int64] = _core.random_integers(
            count, limit, seed=self._seed, stream=self._stream, offset=offset
        )
        self._position = end
        return values.reshape(shape)

    def permutation(self, n: SupportsIndex) -> npt.NDArray[np.int64]:
        """Return a random permutation of 0 ... n-1 as int64 (Fisher-Yates; uses n - 1 integers of the stream)."""
        (count,) = check_shape((n,), "Generator.permutation")
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
        return check_shape(size, operation), name, 1 if name == "float32" else 2
