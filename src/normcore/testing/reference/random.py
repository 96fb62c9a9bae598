"""Random numbers: Philox4x32-10 streams, the distributions made of them, and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .precision import Array, wide, wide_dtype

__all__ = [
    "dropout_backward",
    "dropout_forward",
    "dropout_mask",
    "inverse_normal_cdf",
    "philox4x32",
    "random_integers",
    "random_normal",
    "random_permutation",
    "random_uniform",
    "random_words32",
    "random_words64",
]


_MASK32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)


def philox4x32(counter: ArrayLike, key: ArrayLike, rounds: int = 10) -> NDArray[np.uint32]:
    """Philox4x32 (Salmon et al., SC'11): `counter` (..., 4) and `key` (2) of 32-bit words to (..., 4) words."""
    c = [np.asarray(word, np.uint64) for word in np.moveaxis(np.asarray(counter, np.uint64), -1, 0)]
    k0, k1 = (int(k) for k in np.asarray(key, np.uint64))
    for _ in range(rounds):
        product0 = np.uint64(0xD2511F53) * c[0]
        product1 = np.uint64(0xCD9E8D57) * c[2]
        c = [
            (product1 >> _SHIFT32) ^ c[1] ^ np.uint64(k0),
            product1 & _MASK32,
            (product0 >> _SHIFT32) ^ c[3] ^ np.uint64(k1),
            product0 & _MASK32,
        ]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=-1).astype(np.uint32)


def _stream_blocks(seed: int, stream: int, block: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The four words of each block of a stream: the key is the seed, the counter (block, stream), low halves first."""
    low, high = stream & 0xFFFFFFFF, stream >> 32
    counter = np.stack(
        [
            block & _MASK32,
            block >> _SHIFT32,
            np.full_like(block, low),
            np.full_like(block, high),
        ],
        axis=-1,
    )
    return philox4x32(counter, [seed & 0xFFFFFFFF, seed >> 32])


def _indices(offset: int, n: int) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        return np.uint64(offset % 2**64) + np.arange(n, dtype=np.uint64)


def random_words32(n: int, *, seed: int, stream: int = 0, offset: int = 0) -> NDArray[np.uint32]:
    """The 32-bit words `offset` ... `offset` + n - 1 of a stream: word i is element i mod 4 of block i // 4."""
    i = _indices(offset, n)
    words = _stream_blocks(seed, stream, i >> np.uint64(2))
    return words[np.arange(n), (i & np.uint64(3)).astype(np.intp)]


def random_words64(n: int, *, seed: int, stream: int = 0, offset: int = 0) -> NDArray[np.uint64]:
    """64-bit words `offset` ...: word i is made of the 32-bit words 2 i (low half) and 2 i + 1 (high half)."""
    i = _indices(offset, n)
    words = _stream_blocks(seed, stream, i >> np.uint64(1)).astype(np.uint64)
    half = (i & np.uint64(1)).astype(np.intp) * 2
    rows = np.arange(n)
    return (words[rows, half + 1] << _SHIFT32) | words[rows, half]


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
    """``low + (high - low) u`` with u a multiple of 2⁻²⁴ (float32) or 2⁻⁵³ (float64) in [0, 1)."""
    out = wide_dtype(dtype)
    if np.dtype(dtype) == np.float32:
        u = (random_words32(n, seed=seed, stream=stream, offset=offset) >> np.uint32(8)).astype(out)
        u = u * out.type(2.0**-24)
    else:
        u = (random_words64(n, seed=seed, stream=stream, offset=offset) >> np.uint64(11)).astype(out)
        u = u * out.type(2.0**-53)
    return np.asarray(out.type(low) + (out.type(high) - out.type(low)) * u)


# Wichura, Algorithm AS 241, Applied Statistics 37 (1988), PPND16: numerator and denominator, constant term first.
_CENTRAL = (
    (
        "3.3871328727963666080e0 1.3314166789178437745e2 1.9715909503065514427e3 1.3731693765509461125e4 "
        "4.5921953931549871457e4 6.7265770927008700853e4 3.3430575583588128105e4 2.5090809287301226727e3"
    ),
    (
        "1 4.2313330701600911252e1 6.8718700749205790830e2 5.3941960214247511077e3 2.1213794301586595867e4 "
        "3.9307895800092710610e4 2.8729085735721942674e4 5.2264952788528545610e3"
    ),
)
_MIDDLE = (
    (
        "1.42343711074968357734e0 4.63033784615654529590e0 5.76949722146069140550e0 3.64784832476320460504e0 "
        "1.27045825245236838258e0 2.41780725177450611770e-1 2.27238449892691845833e-2 7.74545014278341407640e-4"
    ),
    (
        "1 2.05319162663775882187e0 1.67638483018380384940e0 6.89767334985100004550e-1 1.48103976427480074590e-1 "
        "1.51986665636164571966e-2 5.47593808499534494600e-4 1.05075007164441684324e-9"
    ),
)
_TAIL = (
    (
        "6.65790464350110377720e0 5.46378491116411436990e0 1.78482653991729133580e0 2.96560571828504891230e-1 "
        "2.65321895265761230930e-2 1.24266094738807843860e-3 2.71155556874348757815e-5 2.01033439929228813265e-7"
    ),
    (
        "1 5.99832206555887937690e-1 1.36929880922735805310e-1 1.48753612908506148525e-2 7.86869131145613259100e-4 "
        "1.84631831751005468180e-5 1.42151175831644588870e-7 2.04426310338993978564e-15"
    ),
)


def _rational(coefficients: tuple[str, str], r: Array) -> Array:
    def horner(text: str) -> Array:
        total = np.zeros_like(r)
        for term in reversed(text.split()):
            total = total * r + r.dtype.type(term)
        return total

    return np.asarray(horner(coefficients[0]) / horner(coefficients[1]))


def inverse_normal_cdf(p: ArrayLike) -> Array:
    """Quantile of the standard normal distribution for 0 < p < 1: Wichura's AS 241 (PPND16), good to 1e-16.

    The work is done in ``numpy.longdouble``, so that `p` must hold the probability itself: 1 - p is taken exactly.
    """
    u = np.asarray(p, np.longdouble)
    q = u - np.longdouble("0.5")
    central = q * _rational(_CENTRAL, np.longdouble("0.180625") - q * q)
    r = np.sqrt(-np.log(np.minimum(u, 1 - u)))
    outer = np.where(r <= 5, _rational(_MIDDLE, r - np.longdouble("1.6")), _rational(_TAIL, r - 5))
    return np.where(np.abs(q) <= np.longdouble("0.425"), central, np.copysign(outer, q))


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
    """``mean + scale Phi⁻¹(u)``, with u at the middle of one of 2³² (float32) or 2⁵² (float64) equal cells."""
    if np.dtype(dtype) == np.float32:
        word = random_words32(n, seed=seed, stream=stream, offset=offset).astype(np.longdouble)
        u = (word + np.longdouble("0.5")) * np.longdouble(2.0**-32)
    else:
        word = (random_words64(n, seed=seed, stream=stream, offset=offset) >> np.uint64(12)).astype(np.longdouble)
        u = (word + np.longdouble("0.5")) * np.longdouble(2.0**-52)
    return np.asarray(np.longdouble(mean) + np.longdouble(scale) * inverse_normal_cdf(u)).astype(wide_dtype(dtype))


def random_integers(n: int, bound: int, *, seed: int, stream: int = 0, offset: int = 0) -> NDArray[np.int64]:
    """Integers in [0, bound): the high half of a 64-bit word times `bound`, ``1 <= bound <= 2**63``."""
    words = random_words64(n, seed=seed, stream=stream, offset=offset)
    return np.array([(int(word) * bound) >> 64 for word in words], dtype=np.int64)


def random_permutation(n: int, *, seed: int, stream: int = 0, offset: int = 0) -> NDArray[np.int64]:
    """A permutation of 0 ... n-1: Fisher-Yates from the end, element i drawing value ``offset + n - 1 - i``."""
    order = np.arange(n, dtype=np.int64)
    words = random_words64(max(n - 1, 0), seed=seed, stream=stream, offset=offset)
    for i in range(n - 1, 0, -1):
        j = (int(words[n - 1 - i]) * (i + 1)) >> 64
        order[i], order[j] = order[j], order[i]
    return order


def dropout_mask(
    shape: tuple[int, ...], keep: float, *, seed: int, stream: int = 0, offset: int = 0
) -> NDArray[np.bool_]:
    """Which elements (counted row by row from `offset`) stay: those whose word is below ``floor(keep 2³²)``."""
    size = int(np.prod(shape, dtype=np.int64))
    words = random_words32(size, seed=seed, stream=stream, offset=offset)
    return np.asarray(words.astype(np.uint64) < np.uint64(int(keep * 2**32))).reshape(shape)


def dropout_forward(x: ArrayLike, keep: float, *, seed: int, stream: int = 0, offset: int = 0) -> Array:
    """Inverted dropout: ``x / keep`` with probability `keep`, else +0."""
    a = wide(x)
    mask = dropout_mask(a.shape, keep, seed=seed, stream=stream, offset=offset)
    return np.where(mask, a / a.dtype.type(keep), 0.0)


def dropout_backward(dy: ArrayLike, keep: float, *, seed: int, stream: int = 0, offset: int = 0) -> Array:
    """Gradient of :func:`dropout_forward`: the same map, with the same mask."""
    return dropout_forward(dy, keep, seed=seed, stream=stream, offset=offset)
