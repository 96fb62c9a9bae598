"""Section 9 of NC1: Philox4x32-10, what is made of its words, and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arithmetic import Array, stored
from .functions import log

_MASK32, _MASK64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """One block of Philox4x32-10: four words of 32 bits."""
    c, k = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = ((p1 >> 32) ^ c[1] ^ k[0], p1 & _MASK32, (p0 >> 32) ^ c[3] ^ k[1], p0 & _MASK32)
        k = ((k[0] + 0x9E3779B9) & _MASK32, (k[1] + 0xBB67AE85) & _MASK32)
    return c


def _words(seed: int, stream: int, first: int, count: int) -> list[int]:
    """Words number first ... first + count - 1, modulo 2**64."""
    key = (seed & _MASK32, seed >> 32)
    words: list[int] = []
    block: tuple[int, ...] = ()
    for i in range(count):
        number = (first + i) & _MASK64
        if not block or number % 4 == 0:
            b = number >> 2
            block = philox((b & _MASK32, b >> 32, stream & _MASK32, stream >> 32), key)
        words.append(block[number % 4])
    return words


def _wide_words(seed: int, stream: int, first: int, count: int) -> list[int]:
    words = _words(seed, stream, 2 * first, 2 * count)
    return [low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True)]


# ---------------------------------------------------------------- values


def random_uniform(
    n: int,
    *,
    seed: int,
    stream: int = 0,
    offset: int = 0,
    low: float = 0.0,
    high: float = 1.0,
    dtype: Any = "float64",
) -> Array:
    """Uniform deviates in [low, high)."""
    if np.dtype(dtype) == np.float32:
        u = np.array([(word >> 8) * 2.0**-24 for word in _words(seed, stream, offset, n)], np.float64)
    else:
        u = np.array([(word >> 11) * 2.0**-53 for word in _wide_words(seed, stream, offset, n)], np.float64)
    return stored(low + (high - low) * u, dtype)


def random_normal(
    n: int,
    *,
    seed: int,
    stream: int = 0,
    offset: int = 0,
    mean: float = 0.0,
    scale: float = 1.0,
    dtype: Any = "float64",
) -> Array:
    """Normal deviates by inversion."""
    if np.dtype(dtype) == np.float32:
        u = np.array([(word + 0.5) * 2.0**-32 for word in _words(seed, stream, offset, n)], np.float64)
    else:
        u = np.array([((word >> 12) + 0.5) * 2.0**-52 for word in _wide_words(seed, stream, offset, n)], np.float64)
    return stored(mean + scale * normal_quantile(u), dtype)


def random_integers(n: int, bound: int, *, seed: int, stream: int = 0, offset: int = 0) -> Array:
    """Integers in [0, bound)."""
    return np.array([word * bound >> 64 for word in _wide_words(seed, stream, offset, n)], np.int64)


def random_permutation(n: int, *, seed: int, stream: int = 0, offset: int = 0) -> Array:
    """A permutation of 0 ... n - 1: Fisher-Yates from the end."""
    out = np.arange(n)
    for i, word in zip(range(n - 1, 0, -1), _wide_words(seed, stream, offset, max(n - 1, 0)), strict=True):
        k = word * (i + 1) >> 64
        out[i], out[k] = out[k], out[i]
    return out


@np.errstate(all="ignore")
def dropout_forward(x: Array, keep: float, *, seed: int, stream: int = 0, offset: int = 0) -> Array:
    """Inverted dropout; element number i of x in row-major order uses word offset + i."""
    if keep == 1.0:
        return stored(x)
    words = np.array(_words(seed, stream, offset, x.size), np.uint64).reshape(x.shape)
    kept = words < np.uint64(int(keep * 2.0**32))
    return stored(np.where(kept, x * x.dtype.type(1.0 / keep), x.dtype.type(0)))


dropout_backward = dropout_forward

# ---------------------------------------------------------------- AS 241

_A = (
    3.3871328727963666080e0,
    1.3314166789178437745e2,
    1.9715909503065514427e3,
    1.3731693765509461125e4,
    4.5921953931549871457e4,
    6.7265770927008700853e4,
    3.3430575583588128105e4,
    2.5090809287301226727e3,
)
_B = (
    1.0,
    4.2313330701600911252e1,
    6.8718700749205790830e2,
    5.3941960214247511077e3,
    2.1213794301586595867e4,
    3.9307895800092710610e4,
    2.8729085735721942674e4,
    5.2264952788528545610e3,
)
_C = (
    1.42343711074968357734e0,
    4.63033784615654529590e0,
    5.76949722146069140550e0,
    3.64784832476320460504e0,
    1.27045825245236838258e0,
    2.41780725177450611770e-1,
    2.27238449892691845833e-2,
    7.74545014278341407640e-4,
)
_D = (
    1.0,
    2.05319162663775882187e0,
    1.67638483018380384940e0,
    6.89767334985100004550e-1,
    1.48103976427480074590e-1,
    1.51986665636164571966e-2,
    5.47593808499534494600e-4,
    1.05075007164441684324e-9,
)
_E = (
    6.65790464350110377720e0,
    5.46378491116411436990e0,
    1.78482653991729133580e0,
    2.96560571828504891230e-1,
    2.65321895265761230930e-2,
    1.24266094738807843860e-3,
    2.71155556874348757815e-5,
    2.01033439929228813265e-7,
)
_F = (
    1.0,
    5.99832206555887937690e-1,
    1.36929880922735805310e-1,
    1.48753612908506148525e-2,
    7.86869131145613259100e-4,
    1.84631831751005468180e-5,
    1.42151175831644588870e-7,
    2.04426310338993978564e-15,
)


def _ratio(numerator: tuple[float, ...], denominator: tuple[float, ...], r: Array, factor: Any = 1.0) -> Array:
    """Factor times one polynomial over another, by Horner without fma."""

    def polynomial(c: tuple[float, ...]) -> Array:
        s = np.full_like(r, c[-1])
        for coefficient in c[-2::-1]:
            s = s * r + coefficient
        return s

    return np.asarray(factor * polynomial(numerator) / polynomial(denominator))


@np.errstate(all="ignore")
def normal_quantile(p: Any) -> Array:
    """Quantile of the standard normal distribution, 0 < p < 1: Wichura, Algorithm AS 241 (PPND16), 1988."""
    p = np.asarray(p, np.float64)
    q = p - 0.5
    middle = _ratio(_A, _B, 0.180625 - q * q, q)
    r = np.sqrt(-log(np.where(q < 0, p, 1.0 - p)))
    tail = np.where(r <= 5.0, _ratio(_C, _D, r - 1.6), _ratio(_E, _F, r - 5.0))
    return np.where(np.abs(q) <= 0.425, middle, np.where(q < 0, -tail, tail))
