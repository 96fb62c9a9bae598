"""The arithmetic of the executable contract, against integers, published values and higher precision."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import assert_same_bits, contract, ulp_error

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)

# ---------------------------------------------------------------- fma


def rounded(exact: Fraction, dtype: Any) -> Any:
    """`exact` rounded to nearest even, by integers alone."""
    kind = np.finfo(dtype)
    if exact == 0:
        return dtype.type(0)
    size, exponent = abs(exact), 0
    while size >= 2 ** (kind.nmant + 1):
        size, exponent = size / 2, exponent + 1
    while size < 2**kind.nmant and exponent > kind.minexp - kind.nmant:
        size, exponent = size * 2, exponent - 1
    whole = round(size)  # half to even
    value = np.ldexp(dtype.type(whole), exponent, dtype=dtype)
    return value if exact > 0 else -value


def check_fma(dtype: Any, a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    with np.errstate(over="ignore"):
        expected = rounded(exact, dtype)
        actual = contract.fma(*(dtype.type(x) for x in (a, b, c)))
    if exact == 0:
        assert actual == 0
    else:
        assert_same_bits(actual, np.asarray(expected))


FINITE32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
FINITE64 = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE32, FINITE32, FINITE32)
@example(0.9474000930786133, 4.639900907932315e-07, -0.24325084686279297)
@example(-19369631416320.0, 2.1513551473617554e-07, -1.7354427155273866e-24)
@example(1 + 2.0**-23, 1 + 2.0**-23, 2.0**-80)
@example(1 + 2.0**-12, 1 + 2.0**-12, -(2.0**-140))
@example(1 + 2.0**-23, 1 - 2.0**-23, -1.0)
@example(2.0**-75, 2.0**-75, 2.0**-149)
@example(-(2.0**-75), 2.0**-76, 0.0)
def test_fma_of_float32_rounds_once(a: float, b: float, c: float) -> None:
    check_fma(F32, a, b, c)


@given(FINITE64, FINITE64, FINITE64)
@example(1 + 2.0**-52, 1 - 2.0**-52, -1.0)
@example(2.0**-537, 2.0**-538, 2.0**-1074)
@example(-(2.0**-537), 2.0**-539, 0.0)
@example(1e308, 10.0, -1.7e308)
@example(1 + 2.0**-27, 1 + 2.0**-27, 2.0**-150)
def test_fma_of_float64_rounds_once(a: float, b: float, c: float) -> None:
    check_fma(F64, a, b, c)


# Both defeat the fmaf of a C library: docs/numerics.md, section 1.
TRIPLES = [
    ((0.9474001, 4.639901e-7, -0.24325085), float.fromhex("-0x1.f22d46p-3")),
    ((-1.9369631e13, 2.1513551e-7, -1.7354427e-24), -4167095.75),
]


@pytest.mark.parametrize(("triple", "expected"), TRIPLES)
def test_fma_of_the_triples_that_c_libraries_get_wrong(triple: tuple[float, ...], expected: float, isa: str) -> None:
    a, b, c = (np.float32(x) for x in triple)
    assert float(contract.fma(a, b, c)) == expected
    # in the kernels, in every lane: c + a b is the second step of a sum that begins with c·1
    wide = np.ones((1, 40), np.float32)
    y = nc.affine_forward(np.array([[c, a]]), np.vstack([wide, b * wide]))
    assert y.tolist() == [[expected] * 40]


@pytest.mark.parametrize("dtype", [F32, F64])
def test_fma_of_special_values(dtype: Any) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], dtype)
    a, b, c = (x.ravel() for x in np.meshgrid(values, values, values))
    with np.errstate(invalid="ignore"):
        expected = a * b + c
        actual = contract.fma(a, b, c)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(np.signbit(actual[expected == 0]), np.signbit(expected[expected == 0]))


# ---------------------------------------------------------------- exp and log are what they are called


@pytest.mark.parametrize(("dtype", "low", "high"), [(F32, -87.0, 88.0), (F64, -708.0, 709.0)])
def test_exp_is_the_exponential(dtype: Any, low: float, high: float) -> None:
    x = np.random.default_rng(0).uniform(low, high, 2000).astype(dtype)
    # the C library's is good to less than one unit itself
    assert ulp_error(contract.exp(x), np.exp(x.astype(np.longdouble)), dtype).max() < 1.0
    edges = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e4, -1e4], dtype)
    assert_same_bits(contract.exp(edges), np.array([np.nan, np.inf, 0.0, 1.0, 1.0, np.inf, 0.0], dtype))


def test_log_is_the_logarithm() -> None:
    x = np.exp2(np.random.default_rng(1).uniform(-100, 100, 2000))
    assert ulp_error(contract.log(x), np.log(x.astype(np.longdouble)), F64).max() < 1.0
    near = 1 + np.random.default_rng(2).uniform(-0.1, 0.1, 2000)
    assert ulp_error(contract.log(near), np.log(near.astype(np.longdouble)), F64).max() < 1.0
    small = np.exp2(np.random.default_rng(3).uniform(-120, 10, 2000))
    assert ulp_error(contract.log1p(small), np.log1p(small.astype(np.longdouble)), F64).max() < 2.0
    assert_same_bits(contract.log1p(np.array([0.0, np.inf, np.nan])), np.array([0.0, np.inf, np.nan]))


# ---------------------------------------------------------------- published values

# kat_vectors of Random123 (Salmon et al.), philox4x32-10: counter, key, result
PHILOX = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> tuple[Any, ...]:
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "result"), PHILOX)
def test_philox_gives_the_known_answers(counter: str, key: str, result: str) -> None:
    assert contract.philox(words(counter), words(key)) == words(result)


@pytest.mark.parametrize(("counter", "key", "result"), PHILOX)
def test_the_generator_gives_the_known_answers(counter: str, key: str, result: str, isa: str) -> None:
    c, k = words(counter), words(key)
    block, stream, seed = c[0] | c[1] << 32, c[2] | c[3] << 32, k[0] | k[1] << 32
    # The counter of the second vector lies beyond all 2**64 words of a stream: there is no such block.
    if block >> 62:
        block_words = contract.random_uniform(4, seed=seed, stream=stream, offset=4 * block % 2**64, dtype="float32")
        assert block_words.tolist() != [(word >> 8) * 2.0**-24 for word in words(result)]
        return
    values = nc.random_uniform(4, seed=seed, stream=stream, offset=4 * block, dtype="float32")
    assert values.tolist() == [(word >> 8) * 2.0**-24 for word in words(result)]
    r = words(result)
    wide = nc.random_integers(2, 2**63, seed=seed, stream=stream, offset=2 * block)
    assert wide.tolist() == [(r[0] | r[1] << 32) >> 1, (r[2] | r[3] << 32) >> 1]


def test_quantiles_of_as_241() -> None:
    # The values with which the algorithm was published (Applied Statistics 37 (1988) 477): z of p = 0.25, 0.001, 1e-20.
    for p, z in ((0.25, -0.6744897501960817), (0.001, -3.090232306167814), (1e-20, -9.262340089798408)):
        assert float(contract.normal_quantile(p)) == pytest.approx(z, rel=4e-16)
    assert float(contract.normal_quantile(0.5)) == 0.0


@given(st.floats(2.0**-53, 1 - 2.0**-53))
@example(0.925)
@example(0.075)
@example(math.exp(-25.0))
def test_the_quantile_inverts_the_distribution(p: float) -> None:
    z = float(contract.normal_quantile(p))
    # the smaller tail, on which erfc is accurate; d(log tail)/dz is about z, and 1 - p is rounded
    tail = 0.5 * math.erfc(abs(z) / math.sqrt(2.0))
    assert tail == pytest.approx(min(p, 1 - p), rel=1e-14 * (1 + z * z))
    assert (z < 0) == (p < 0.5)


# ---------------------------------------------------------------- constants

# Wrong last bits of a polynomial's highest coefficients show in one result of millions: here they are read instead.
ROOT = Path(__file__).parents[2]
SPECIFICATION = Path(contract.__file__).parent
DOCUMENT = ROOT / "docs" / "numerics.md"


def numbers(path: Path, pattern: str, first: str, last: str) -> set[float]:
    """The numbers that match `pattern` between two marks of a file."""
    text = path.read_text(encoding="utf-8")
    start = text.index(first)
    found = re.findall(pattern, text[start : text.index(last, start)])
    return {float.fromhex(number) if "x" in number else float(number) for number in found}


HEX = r"0x1\.?[0-9a-f]*p[+-]\d+"
DECIMAL = r"\d\.\d{15,}(?:e[+-]?\d+)?"


@pytest.mark.parametrize(
    ("source", "marks", "module", "section", "pattern", "count"),
    [
        ("simd/vmath.h", ("#define EXP_LOG2E", "w_log1p_unit(vwide"), "functions.py", ("## 3. exp", "## 4."), HEX, 41),
        (
            "kernels/random.c",
            ("normal_quantile(double p)", "const double q"),
            "random.py",
            ("## 9.", "## 10."),
            DECIMAL,
            45,
        ),
    ],
    ids=["exp and log", "AS 241"],
)
@pytest.mark.skipif(not DOCUMENT.exists(), reason="not in the source tree")
def test_kernels_specification_and_document_have_the_same_constants(
    source: str, marks: tuple[str, str], module: str, section: tuple[str, str], pattern: str, count: int
) -> None:
    kernels = numbers(ROOT / "src" / "normcore" / "core" / source, pattern, *marks)
    text = (SPECIFICATION / module).read_text(encoding="utf-8")
    specified = numbers(SPECIFICATION / module, pattern, text[:20], text[-20:])
    assert kernels == specified == numbers(DOCUMENT, pattern, *section)
    assert len(kernels) == count
