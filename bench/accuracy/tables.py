"""The measurements: one table an operation, one line a class of data, one error a library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normcore.testing import ulp

from . import oracle
from .libraries import Library

Array = NDArray[Any]
Random = np.random.Generator
KNOWN_DX = 8.0  # ULP, where one xhat of 30 meets a dy of its own sign everywhere; the exact dx rounded has 4
FLOAT64_LIMIT = 1e140  # of magnitudes whose squares float64 holds; the norms promise no more for it


@dataclass
class Line:
    """The worst error of each library over all repetitions; None where a library refuses the data."""

    data: str
    goal: float | None
    errors: list[float | None] = field(default_factory=list)
    known: float = 0.0  # above the goal: how far it is known to be missed, for the reason docs/accuracy.md gives

    @property
    def met(self) -> bool:
        """Whether normcore, the first of the libraries, stays within the goal, if there is one."""
        return self.goal is None or (self.errors[0] is not None and self.errors[0] <= self.goal)

    @property
    def expected(self) -> bool:
        """Whether the goal is met, or missed by no more than is known."""
        return self.met or (self.errors[0] is not None and self.errors[0] <= self.known)


@dataclass(frozen=True)
class Setting:
    """What a table needs to measure itself."""

    libraries: list[Library]
    dtype: np.dtype[Any]
    quick: bool
    seed: int

    @property
    def single(self) -> bool:
        return self.dtype == np.float32

    def line(
        self, data: str, goal: float | None, measure: Callable[[Random], Callable[[Library], float]], known: float = 0.0
    ) -> Line:
        """`measure` draws data and computes the oracle, and returns what measures a library on them."""
        line = Line(data, goal, [None] * len(self.libraries), known)
        for repetition in range(1 if self.quick else 4):
            rng = np.random.default_rng([self.seed, repetition, *data.encode()])
            with np.errstate(all="ignore"):
                error_of = measure(rng)
                for i, library in enumerate(self.libraries):
                    try:
                        error = error_of(library)
                    except ValueError:
                        continue
                    line.errors[i] = max(line.errors[i] or 0.0, error)
        return line


def worst(errors: Array) -> float:
    """The greatest; infinity for NaN."""
    return float(np.where(np.isnan(errors), np.inf, errors).max(initial=0.0))


# ---------------------------------------------------------------- normalisation


@dataclass(frozen=True)
class NormData:
    """A class of rows to normalise; eps is 0 where it would hide the data."""

    name: str
    draw: Callable[[Random, tuple[int, int]], Array]
    eps: float = 1e-5
    counts: tuple[int, ...] = (1024,)


def _normal(offset: float = 0.0, scale: float = 1.0) -> Callable[[Random, tuple[int, int]], Array]:
    return lambda rng, shape: offset + scale * rng.standard_normal(shape)


def _uniform(scale: float) -> Callable[[Random, tuple[int, int]], Array]:
    return lambda rng, shape: scale * rng.uniform(-1, 1, shape)


def _outlier(rng: Random, shape: tuple[int, int]) -> Array:
    x = 1e4 + rng.standard_normal(shape)
    x[np.arange(shape[0]), rng.integers(shape[1], size=shape[0])] = 1e8
    return x


def _far(rng: Random, shape: tuple[int, int]) -> Array:
    x = rng.standard_normal(shape)
    x[:, 0] = rng.choice([-30.0, 30.0], shape[0])
    return x


def _spike(rng: Random, shape: tuple[int, int]) -> Array:
    x = np.full(shape, 0.1)
    x[np.arange(shape[0]), rng.integers(shape[1], size=shape[0])] = 1.0
    return x


def _alternating(rng: Random, shape: tuple[int, int]) -> Array:
    return np.where(np.arange(shape[1]) % 2, -1e4, 1e4) + rng.standard_normal(shape)


def _magnitudes(rng: Random, shape: tuple[int, int]) -> Array:
    return rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(-20, 20, shape)


def _neighbours(dtype: np.dtype[Any]) -> Callable[[Random, tuple[int, int]], Array]:
    step = 1e4 * 2.0 ** -np.finfo(dtype).nmant
    return lambda rng, shape: 1e4 + step * rng.integers(-2, 3, shape)


def norm_data(s: Setting) -> Iterator[NormData]:
    """The classes of data of both norms, in both directions."""
    few, long = tuple(range(2, 16)), (100_000,) if s.quick else (100_000, 300_000)
    yield NormData("standard normal", _normal())
    yield NormData("mean 1e4", _normal(1e4))
    yield NormData("mean 1e6", _normal(1e6))
    yield NormData("mean -1e6, uniform", lambda rng, shape: rng.uniform(-1, 1, shape) - 1e6)
    yield NormData("mean 3, scale 1e-4", _normal(3, 1e-4))
    yield NormData("1e4 and its four neighbours", _neighbours(s.dtype), 0.0)
    yield NormData("alternating +-1e4", _alternating)
    yield NormData("mean 1e4, one 1e8", _outlier)
    yield NormData("0.1, one 1", _spike)
    yield NormData("magnitudes 1e-20 to 1e20", _magnitudes)
    yield NormData("scale 1e-20", _normal(0, 1e-20), 0.0)
    yield NormData("scale 1e-30", _normal(0, 1e-30), 0.0)
    yield NormData("scale 1e20", _normal(0, 1e20))
    if s.single:
        yield NormData("scale 1e37", _normal(0, 1e37))
        yield NormData("all there is, +-3.4e38", _uniform(float(np.finfo(np.float32).max)))
        yield NormData("subnormal, 1e-40", _normal(0, 1e-40), 0.0)
    else:
        yield NormData("scale 1e-140", _normal(0, 1 / FLOAT64_LIMIT), 0.0)
        yield NormData("scale 1e140", _normal(0, FLOAT64_LIMIT))
    yield NormData("2 to 15 elements", _normal(), counts=few)
    yield NormData("2 to 15 elements, mean 1e4", _normal(1e4), counts=few)
    yield NormData("2 to 15 elements, scale 1e30", _normal(0, 1e30), counts=few)
    yield NormData("16 to 40 elements", _normal(), counts=tuple(range(16, 41)))
    yield NormData("long", _normal(), counts=long)
    yield NormData("long, mean 1e4", _normal(1e4), counts=long)


def _rows(s: Setting, count: int) -> int:
    return max(2, (2**13 if s.quick else 2**15) // max(count, 128))


def _mean_size(norm: oracle.Norm) -> Array:
    """|mean| rstd: float64 means are rounded to float64, so that ULP of this are the best there can be."""
    return (np.abs(norm.mean.high) * norm.rstd.high)[:, None]


def norm_forward(s: Setting, by_column: bool) -> Iterator[Line]:
    """Layer norm (rows) or batch norm (columns), gamma 1 and beta 0."""

    def measure(data: NormData) -> Callable[[Random], Callable[[Library], float]]:
        def draw(rng: Random) -> Callable[[Library], float]:
            drawn = []
            for count in data.counts:
                x = data.draw(rng, (_rows(s, count), count)).astype(s.dtype)
                norm = oracle.normalise(x, data.eps)
                size = oracle.magnitude(norm.xhat)
                top = size.max(axis=1, keepdims=True)
                if s.single:
                    unit = ulp(np.where(size >= top / 64, size, top), s.dtype)
                else:
                    unit = ulp(np.maximum(top, _mean_size(norm)), s.dtype)
                drawn.append((x, norm.xhat, unit))

            def error(library: Library) -> float:
                found = 0.0
                for x, xhat, unit in drawn:
                    if by_column:
                        y = library.batch_norm(np.ascontiguousarray(x.T), np.zeros(len(x), s.dtype), data.eps).T
                    else:
                        y = library.layer_norm(x, np.zeros(x.shape[1], s.dtype), data.eps)
                    found = max(found, worst(oracle.difference(y, xhat) / unit))
                return found

            return error

        return draw

    for data in norm_data(s):
        # float64 sums are in float64: of m terms one after the other, half an ULP each.
        chain = max(min(count, 256) if by_column else count / 16 for count in data.counts)
        yield s.line(data.name, 2.5 if s.single else 4 + chain / 2, measure(data))


def norm_backward(s: Setting, by_column: bool) -> Iterator[Line]:
    """Dx of the same, for random, spiked, alternating and constant dy, and for one that cancels: dy = x normalised."""

    def gradients(rng: Random, norm: oracle.Norm) -> Iterator[Array]:
        shape = norm.xhat.high.shape
        yield rng.standard_normal(shape)
        yield np.where(np.arange(shape[1]) == shape[1] // 2, 1.0, 0.0) * np.ones(shape)
        yield np.where(np.arange(shape[1]) % 2, -1.0, 1.0) + 0.1 * rng.standard_normal(shape)
        yield np.full(shape, 0.1)
        yield norm.xhat.high

    def along(rng: Random, norm: oracle.Norm) -> Iterator[Array]:
        yield np.sign(norm.xhat.high) * rng.uniform(0.5, 1, norm.xhat.high.shape)

    def measure(
        data: NormData, gradients: Callable[[Random, oracle.Norm], Iterator[Array]] = gradients
    ) -> Callable[[Random], Callable[[Library], float]]:
        def draw(rng: Random) -> Callable[[Library], float]:
            drawn = []
            for count in data.counts:
                x = data.draw(rng, (max(2, _rows(s, count) // 4), count)).astype(s.dtype)
                norm = oracle.normalise(x, data.eps)
                for dy in gradients(rng, norm):
                    g = dy.astype(s.dtype)
                    top = np.abs(g).max(axis=1, keepdims=True).astype(np.float64)
                    scale = norm.rstd.high[:, None] * top
                    if not s.single:
                        scale = scale * np.maximum(1, _mean_size(norm))
                    unit = ulp(scale, s.dtype)
                    drawn.append((x, g, oracle.normalise_backward(norm, g), unit))

            def error(library: Library) -> float:
                found = 0.0
                for x, g, expected, unit in drawn:
                    if by_column:
                        transposed = np.ascontiguousarray(g.T), np.ascontiguousarray(x.T)
                        dx = library.batch_norm_backward(*transposed, data.eps)[0].T
                    else:
                        dx = library.layer_norm_backward(g, x, data.eps)[0]
                    found = max(found, worst(oracle.difference(dx, expected) / unit))
                return found

            return error

        return draw

    for data in norm_data(s):
        # Beyond the range of the type even the unit has no meaning.
        if s.single and data.name == "subnormal, 1e-40":
            continue
        yield s.line(data.name, 3 if s.single else None, measure(data))
    for data in (
        NormData("dy along x, 2 to 15 elements", _normal(), counts=tuple(range(2, 16))),
        NormData("dy along x, 16 to 40 elements", _normal(), counts=tuple(range(16, 41))),
        NormData("dy along x, standard normal", _normal()),
        NormData("dy along x, one of 30 sigma", _far),
    ):
        known = KNOWN_DX if s.single and data.draw is _far else 0.0
        yield s.line(data.name, 3 if s.single else None, measure(data, along), known)


def norm_exact(s: Setting) -> Iterator[Line]:
    """Greatest |y - beta|, |dgamma| and, of one element, |dx|: what has nothing to normalise must give exactly 0."""

    def measure(value: float, count: int, by_column: bool) -> Callable[[Random], Callable[[Library], float]]:
        def draw(rng: Random) -> Callable[[Library], float]:
            shape = (count, 64) if by_column else (64, count)
            x = np.full(shape, value).astype(s.dtype) * np.ones(1, s.dtype)
            if count == 1:
                x *= rng.standard_normal(shape).astype(s.dtype)
            dy = rng.standard_normal(shape).astype(s.dtype)
            beta = rng.standard_normal(shape[1]).astype(s.dtype)

            def error(library: Library) -> float:
                norm = library.batch_norm if by_column else library.layer_norm
                backward = library.batch_norm_backward if by_column else library.layer_norm_backward
                y = norm(x, beta, 1e-5)
                dx, dgamma = backward(dy, x, 1e-5)
                off = [y - beta, dgamma] + ([dx] if count == 1 else [])
                return max(worst(np.abs(part)) for part in off)

            return error

        return draw

    for by_column, kind in ((False, "layer norm"), (True, "batch norm")):
        for value in (0.1, 1e10, 1e-30, 3e38):
            yield s.line(f"{kind}, all {value:g}", 0, measure(value, 1000, by_column))
        yield s.line(f"{kind}, one element", 0, measure(100.0, 1, by_column))


# ---------------------------------------------------------------- exp, softmax, cross-entropy


def exponential(s: Setting) -> Iterator[Line]:
    """exp, where it is a normal number."""
    tiny = float(np.finfo(s.dtype).smallest_normal)
    low, high = np.log(tiny), np.log(float(np.finfo(s.dtype).max))
    size = (2**14 if s.quick else 2**20) if s.single else (2**10 if s.quick else 2**13)

    def measure(low: float, high: float) -> Callable[[Random], Callable[[Library], float]]:
        def draw(rng: Random) -> Callable[[Library], float]:
            x = rng.uniform(low, high, size).astype(s.dtype)
            expected = oracle.exp(x)
            unit = ulp(oracle.magnitude(expected), s.dtype)
            return lambda library: worst(oracle.difference(library.exp(x), expected) / unit)

        return draw

    yield s.line("-1 to 1", 1, measure(-1, 1))
    yield s.line("-20 to 20", 1, measure(-20, 20))
    yield s.line(f"{low:.0f} to {high:.0f}", 1, measure(low, high))


def activation(name: str) -> Callable[[Setting], Iterator[Line]]:
    """One of them, down to subnormal results; silu's derivative, which has a zero, in ULP of the logistic at least."""

    def lines(s: Setting) -> Iterator[Line]:
        size = (2**14 if s.quick else 2**20) if s.single else (2**10 if s.quick else 2**13)
        low = -104.0 if s.single else -745.0

        def measure(draw: Callable[[Random], Array]) -> Callable[[Random], Callable[[Library], float]]:
            def drawn(rng: Random) -> Callable[[Library], float]:
                x = draw(rng).astype(s.dtype)
                expected = oracle.activation(name, x)
                unit = ulp(oracle.magnitude(expected), s.dtype)
                if name == "silu derivative":
                    logistic = oracle.magnitude(oracle.activation("logistic", x))
                    unit = np.maximum(unit, ulp(logistic, s.dtype))

                def error(library: Library) -> float:
                    y = library.silu_derivative(x) if name == "silu derivative" else library.activation(name, x)
                    return worst(oracle.difference(y, expected) / unit)

                return error

            return drawn

        goal = 4 if name == "silu derivative" else 2
        yield s.line("magnitudes 1e-10 to 1", goal, measure(lambda rng: _sizes(rng, size)))
        yield s.line("-1 to 1", goal, measure(lambda rng: rng.uniform(-1, 1, size)))
        yield s.line("-20 to 20", goal, measure(lambda rng: rng.uniform(-20, 20, size)))
        yield s.line(f"{low:.0f} to 0", goal, measure(lambda rng: rng.uniform(low, 0, size)))

    return lines


def _sizes(rng: Random, size: int) -> Array:
    return rng.choice([-1.0, 1.0], size) * 10.0 ** rng.uniform(-10, 0, size)


def _logits(s: Setting) -> Iterator[tuple[str, int, Callable[[Random], Array]]]:
    """Name, number of classes, and what draws the logits."""
    total = (2**15 if s.quick else 2**18) if s.single else (2**11 if s.quick else 2**13)
    huge = 3e38 if s.single else 1e308

    def ties(rng: Random, shape: tuple[int, int]) -> Array:
        return np.ones(shape) * rng.standard_normal((shape[0], 1))

    kinds: list[tuple[str, int, Callable[[Random, tuple[int, int]], Array]]] = [
        ("standard normal, 1000 classes", 1000, _normal()),
        ("scale 10, 1000 classes", 1000, _normal(0, 10)),
        ("scale 30, 1000 classes", 1000, _normal(0, 30)),
        ("scale 30, 10 classes", 10, _normal(0, 30)),
        ("mean 1e6, 100 classes", 100, _normal(1e6)),
        ("within +-100, 3 classes", 3, _uniform(100)),
        ("within +-1e4, 1000 classes", 1000, _uniform(1e4)),
        ("within +-1e4, 2 classes", 2, _uniform(1e4)),
        (f"within +-{huge:g}, 10 classes".replace("e+", "e"), 10, _uniform(huge)),
        ("all equal, 10 classes", 10, ties),
        ("standard normal, 50 000 classes", 50_000, _normal()),
    ]

    def drawer(classes: int, draw: Callable[[Random, tuple[int, int]], Array]) -> Callable[[Random], Array]:
        return lambda rng: draw(rng, (max(1, total // classes), classes)).astype(s.dtype)

    for name, classes, draw in kinds:
        if s.single or classes <= 1000 or not s.quick:
            yield name, classes, drawer(classes, draw)


def softmax(s: Setting) -> Iterator[Line]:
    """Probabilities that are normal numbers."""

    def measure(draw_logits: Callable[[Random], Array]) -> Callable[[Random], Callable[[Library], float]]:
        def draw(rng: Random) -> Callable[[Library], float]:
            x = draw_logits(rng)
            p = oracle.softmax(x, np.zeros(len(x), np.int64)).p
            size = oracle.magnitude(p)
            normal, unit = size >= np.finfo(s.dtype).smallest_normal, ulp(size, s.dtype)
            return lambda library: worst((oracle.difference(library.softmax(x), p) / unit)[normal])

        return draw

    for name, classes, draw_logits in _logits(s):
        yield s.line(name, 3 if s.single else 4 + classes / 32, measure(draw_logits))


def log_softmax(s: Setting) -> Iterator[Line]:
    """Every element whose logarithm is a normal, finite number."""

    def measure(draw_logits: Callable[[Random], Array]) -> Callable[[Random], Callable[[Library], float]]:
        def draw(rng: Random) -> Callable[[Library], float]:
            x = draw_logits(rng)
            log_p = oracle.softmax(x, np.zeros(len(x), np.int64)).log_p
            size = oracle.magnitude(log_p)
            kind = np.finfo(s.dtype)
            chosen, unit = (size >= kind.smallest_normal) & (size <= kind.max), ulp(size, s.dtype)
            return lambda library: worst((oracle.difference(library.log_softmax(x), log_p) / unit)[chosen])

        return draw

    for name, _, draw_logits in _logits(s):
        yield s.line(name, 4, measure(draw_logits))


def cross_entropy(s: Setting) -> Iterator[Line]:
    """Losses of at least 1e-37, each row's own."""

    def measure(
        draw_logits: Callable[[Random], Array], confident: bool
    ) -> Callable[[Random], Callable[[Library], float]]:
        def draw(rng: Random) -> Callable[[Library], float]:
            x = draw_logits(rng)
            labels = x.argmax(axis=1) if confident else rng.integers(x.shape[1], size=len(x))
            loss = oracle.softmax(x, labels).loss
            size = oracle.magnitude(loss)
            chosen = (size >= 1e-37) & (size <= np.finfo(s.dtype).max)
            unit = ulp(size, s.dtype)
            return lambda library: worst((oracle.difference(library.cross_entropy(x, labels), loss) / unit)[chosen])

        return draw

    def sure(low: float, high: float) -> Callable[[Random], Array]:
        def draw(rng: Random) -> Array:
            x = rng.uniform(-1, 1, (64 if s.quick else 1024, 10))
            x[:, 3] = rng.uniform(low, high, len(x))
            return x.astype(s.dtype)

        return draw

    for name, _, draw_logits in _logits(s):
        yield s.line(name, 4, measure(draw_logits, False))
    yield s.line("sure, loss about 1e-2 to 1e-7", 4, measure(sure(6, 17), True))
    yield s.line("sure, loss about 1e-7 to 1e-20", 4, measure(sure(18, 47), True))
    yield s.line("sure, loss down to 1e-37", 4, measure(sure(47, 86), True))


# ---------------------------------------------------------------- losses of numbers


def logistic_loss(s: Setting) -> Iterator[Line]:
    """Losses and gradients of at least the least normal number, for targets of 1 and 0."""
    size, end = (2**10 if s.quick else 2**13), 85.0 if s.single else 700.0

    def measure(low: float, high: float, part: int) -> Callable[[Random], Callable[[Library], float]]:
        def draw(rng: Random) -> Callable[[Library], float]:
            y = rng.uniform(low, high, size).astype(s.dtype)
            positive = bool(rng.integers(2))
            t = np.full(size, positive, s.dtype)
            y = y if positive else -y
            expected = oracle.logistic_loss(y, positive)[part]
            unit = ulp(oracle.magnitude(expected), s.dtype)
            return lambda library: worst(oracle.difference(library.logistic_loss(y, t)[part], expected) / unit)

        return draw

    for part, what in enumerate(("loss", "gradient")):
        yield s.line(f"{what}, within +-5", 4, measure(-5, 5, part))
        yield s.line(f"{what}, wrong by up to {end:g}", 4, measure(-end, 0, part))
        yield s.line(f"{what}, right by 10 to {end:g}", 4, measure(10, end, part))


def squared_error(s: Setting) -> Iterator[Line]:
    """The mean, in the units of the data; normcore's is a double."""

    def measure(
        size: int, draw: Callable[[Random, tuple[int, int]], Array]
    ) -> Callable[[Random], Callable[[Library], float]]:
        def drawn(rng: Random) -> Callable[[Library], float]:
            y, t = (draw(rng, (size, 1)).astype(s.dtype)[:, 0] for _ in range(2))
            expected = oracle.mean_square(y, t)
            unit = ulp(oracle.magnitude(expected), s.dtype)
            return lambda library: worst(oracle.difference(library.squared_error(y, t), expected) / unit)

        return drawn

    for size in (100, 1000 if s.quick else 30_000):
        yield s.line(f"{size} standard normal", 4, measure(size, _normal()))
        yield s.line(f"{size} of mean 1e4", 4, measure(size, _normal(1e4)))


def row_losses(name: str) -> Callable[[Setting], Iterator[Line]]:
    """Losses of rows of one output and of a hundred, and their gradients."""

    def lines(s: Setting) -> Iterator[Line]:
        def measure(d: int, offset: float, part: int) -> Callable[[Random], Callable[[Library], float]]:
            def drawn(rng: Random) -> Callable[[Library], float]:
                shape = ((64 if s.quick else 1024) // d + 1, d)
                y = (offset + rng.normal(size=shape) * 3).astype(s.dtype)
                t = (rng.poisson(5.0, shape) if name == "poisson" else offset + rng.normal(size=shape)).astype(s.dtype)
                found = oracle.row_losses(name, y, t)
                unit = ulp(found[part + 2], s.dtype)
                return lambda library: worst(
                    oracle.difference(library.row_losses(name, y, t)[part], found[part]) / unit
                )

            return drawn

        for part, what in enumerate(("loss", "gradient")):
            yield s.line(f"{what}, row of 1", 4, measure(1, 0.0, part))
            yield s.line(f"{what}, row of 100", 4, measure(100, 0.0, part))
            if name != "poisson":
                yield s.line(f"{what}, row of 100, mean 1e4", 4, measure(100, 1e4, part))

    return lines


# ---------------------------------------------------------------- affine maps


def _affine_data() -> Iterator[tuple[str, Callable[[Random, tuple[int, int]], Array]]]:
    yield "random signs", _normal()
    yield "positive", lambda rng, shape: rng.uniform(0, 1, shape)
    yield "cancelling", lambda rng, shape: _alternating(rng, shape) if shape[1] > 4 else rng.uniform(0, 1, shape)
    yield "magnitudes 1e-8 to 1e8", lambda rng, shape: 10.0 ** rng.uniform(-8, 8, shape)


def affine(s: Setting) -> Iterator[Line]:
    """|error| / (|x| |w|), in units of u = 2^-24 (2^-53); the goal is a bound that counts roundings."""

    def measure(
        k: int, values: Callable[[Random, tuple[int, int]], Array]
    ) -> Callable[[Random], Callable[[Library], float]]:
        def draw(rng: Random) -> Callable[[Library], float]:
            x, w = (values(rng, shape).astype(s.dtype) for shape in ((16, k), (k, 4)))
            expected = oracle.affine(x, w)
            unit = float(np.finfo(s.dtype).epsneg) * (np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64))
            return lambda library: worst(oracle.difference(library.affine(x, w), expected) / unit)

        return draw

    for name, values in _affine_data():
        for k in (16, 256, 1024, 16384):
            goal = min(k, 256) + -(-k // 256) + 1
            yield s.line(f"{name}, K = {k}", goal, measure(k, values))


def affine_exact(s: Setting) -> Iterator[Line]:
    """How many of the results on whole numbers are not exact."""

    def measure(k: int) -> Callable[[Random], Callable[[Library], float]]:
        def draw(rng: Random) -> Callable[[Library], float]:
            x, w = rng.integers(-30, 31, (33, k)), rng.integers(-30, 31, (k, 65))
            return lambda library: float((library.affine(x.astype(s.dtype), w.astype(s.dtype)) != x @ w).sum())

        return draw

    for k in (1, 255, 1000, 16384):
        yield s.line(f"K = {k}", 0, measure(k))


TABLES: dict[str, tuple[str, Callable[[Setting], Iterator[Line]]]] = {
    "layer norm": ("xhat, in ULP", lambda s: norm_forward(s, by_column=False)),
    "layer norm backward": ("dx, in ULP of rstd max|dy|", lambda s: norm_backward(s, by_column=False)),
    "batch norm": ("xhat, in ULP", lambda s: norm_forward(s, by_column=True)),
    "batch norm backward": ("dx, in ULP of rstd max|dy|", lambda s: norm_backward(s, by_column=True)),
    "nothing to normalise": ("greatest |y - beta|, |dgamma|, |dx|", norm_exact),
    "exp": ("in ULP", exponential),
    "tanh": ("in ULP", activation("tanh")),
    "logistic": ("in ULP", activation("logistic")),
    "silu": ("in ULP", activation("silu")),
    "silu derivative": ("in ULP of it or the logistic", activation("silu derivative")),
    "softmax": ("probabilities, in ULP", softmax),
    "log-softmax": ("in ULP", log_softmax),
    "cross-entropy": ("loss, in ULP", cross_entropy),
    "logistic loss": ("of its own size, in ULP", logistic_loss),
    "squared error": ("mean, in ULP", squared_error),
    "huber loss": ("of rows, in ULP", row_losses("huber")),
    "quantile loss": ("of rows, in ULP", row_losses("quantile")),
    "poisson loss": ("of rows, in ULP of exp(y) + t|y|, exp(y) + t", row_losses("poisson")),
    "affine": ("in u |x||w|", affine),
    "affine, whole numbers": ("results that are not exact", affine_exact),
}
