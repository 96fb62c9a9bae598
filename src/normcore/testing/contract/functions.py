"""Section 3 of NC1: exp in the data's precision, log and log1p in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arithmetic import Array, double, fma, stored

_h = float.fromhex

# EXP_MIN, EXP_MAX, LOG2E, LN2_HI, LN2_LO and the coefficients of Q, lowest first
_EXP: dict[Any, tuple[float, float, float, float, float, tuple[float, ...]]] = {
    np.float32: (
        -104.0,
        89.0,
        _h("0x1.715476p+0"),
        _h("0x1.62e4p-1"),
        _h("0x1.7f7d1cp-20"),
        tuple(map(_h, ("0x1.ffffecp-2", "0x1.555496p-3", "0x1.55651cp-5", "0x1.123738p-7", "0x1.61735p-10"))),
    ),
    np.float64: (
        -745.2,
        710.0,
        _h("0x1.71547652b82fep+0"),
        _h("0x1.62e42fefa2p-1"),
        _h("0x1.9ef35793c7673p-41"),
        (
            _h("0x1.0000000000000p-1"),
            _h("0x1.5555555555557p-3"),
            _h("0x1.5555555555556p-5"),
            _h("0x1.11111111100dcp-7"),
            _h("0x1.6c16c16c162d4p-10"),
            _h("0x1.a01a01abe7fe1p-13"),
            _h("0x1.a01a01a6d889cp-16"),
            _h("0x1.71de0231960ebp-19"),
            _h("0x1.27e4db646b17ep-22"),
            _h("0x1.af4de97ca4194p-26"),
            _h("0x1.1f730349868cep-29"),
        ),
    ),
}


def exp_rest(hi: Array, lo: Any) -> tuple[Array, Array]:
    """N and e of exp(hi + lo) = 2**n (1 + e)."""
    real = hi.dtype.type
    _, _, log2e, ln2_hi, ln2_lo, coefficients = _EXP[real]
    n = np.rint(hi * real(log2e))
    r = fma(-n, real(ln2_lo), fma(-n, real(ln2_hi), hi)) + lo
    q = np.full_like(r, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        q = fma(q, r, real(coefficient))
    return n, fma(r * r, q, r)


def times_power(a: Array, n: Array) -> Array:
    """``a * 2**n`` rounded once: the first of two products is exact."""
    real = a.dtype.type
    half = np.floor(n / real(2)).astype(int)
    return np.asarray(a * np.ldexp(real(1), half) * np.ldexp(real(1), n.astype(int) - half))


def exp_sum(hi: Array, lo: Any) -> Array:
    """exp(hi + lo) for hi of at most EXP_MAX, lo what a rounding to hi left out; 0 from EXP_MIN down."""
    real = hi.dtype.type
    inside = hi > real(_EXP[real][0])
    n, rest = exp_rest(np.where(inside, hi, real(0)), np.where(inside, lo, real(0)))
    return np.asarray(np.where(inside, times_power(rest + real(1), n), real(0)))


@np.errstate(all="ignore")
def exp(x: Array) -> Array:
    """exp in the precision of x."""
    real = x.dtype.type
    greatest = real(_EXP[real][1])
    above = x > greatest
    e = exp_sum(np.where(above, greatest, x), real(0))
    return stored(np.where(np.isnan(x), real(np.nan), np.where(above, real(np.inf), e)))


@np.errstate(all="ignore")
def log(x: Any) -> Array:
    """Natural logarithm of positive normal float64 numbers."""
    offset = np.uint64(0x3FE6A09E00000000)
    t = np.atleast_1d(double(x)).view(np.uint64) + (np.uint64(0x3FF0000000000000) - offset)
    k = (t >> np.uint64(52)).astype(np.float64) - 1023.0
    m = ((t & np.uint64(0xFFFFFFFFFFFFF)) + offset).view(np.float64)
    f = m - 1.0
    h = 0.5 * f * f
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (_h("0x1.999999997fa04p-2") + w * (_h("0x1.c71c51d8e78afp-3") + w * _h("0x1.39a09d078c69fp-3")))
    tail = _h("0x1.2492494229359p-2") + w * (_h("0x1.7466496cb03dep-3") + w * _h("0x1.2f112df3e5244p-3"))
    odd = z * (_h("0x1.5555555555593p-1") + w * tail)
    y = s * (h + (even + odd)) + k * _h("0x1.a39ef35793c76p-33") - h + f + k * _h("0x1.62e42fee00000p-1")
    return np.asarray(y).reshape(np.shape(x))


@np.errstate(all="ignore")
def log1p(x: Any) -> Array:
    """log(1 + x) of float64 numbers x >= 0, +inf or NaN."""
    x = double(x)
    u = 1.0 + x
    itself = (u == 1.0) | ~(x < np.inf)
    u = np.where(itself, 1.0, u)
    return np.asarray(np.where(itself, x, log(u) + (x - (u - 1.0)) / u))


_LOG1P_UNIT = tuple(
    map(
        _h,
        (
            "0x1.5555555555555p-4",
            "0x1.999999999a3ddp-7",
            "0x1.24924923d44c6p-9",
            "0x1.c71c727143318p-12",
            "0x1.745cf0b0e03bdp-14",
            "0x1.3b18b294bebf9p-16",
            "0x1.10ac75dc602b1p-18",
            "0x1.eb905e8575054p-21",
            "0x1.687a6e7c95176p-23",
            "0x1.4b0a26c5f2af0p-24",
        ),
    )
)


@np.errstate(all="ignore")
def log1p_unit(x: Array) -> Array:
    """log(1 + x) of float64 numbers in [0, 1], or NaN."""
    t = (x + x) / (2.0 + x)
    z = t * t
    q = np.full_like(x, _LOG1P_UNIT[-1])
    for coefficient in _LOG1P_UNIT[-2::-1]:
        q = fma(q, z, coefficient)
    return fma(t * z, q, t)
