"""Generator: where it stands in its stream, and the numbers it gives."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore import Generator
from normcore.testing import reference

SEEDS = [0, 1, 2**32, 2**64 - 1]


def test_known_answer_of_philox() -> None:
    # Random123's known-answer file, counter 0 and key 0: 6627e8d5 e169c58d bc57ac4c 9b00dbd8. An integer is the high
    # half of a 64-bit word times the bound.
    words = [0xE169C58D6627E8D5, 0x9B00DBD8BC57AC4C]
    assert Generator(0).integers(2**63, 2).tolist() == [word >> 1 for word in words]
    assert Generator(0).uniform(2).tolist() == [(word >> 11) * 2.0**-53 for word in words]
    assert Generator(0).uniform(1, dtype="float32").tolist() == [(0x6627E8D5 >> 8) * 2.0**-24]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stream", [0, 3, 2**64 - 1])
def test_agrees_with_the_reference(seed: int, stream: int) -> None:
    key = {"seed": seed, "stream": stream}
    rng = Generator(seed, stream)
    assert rng.uniform(5, -1.0, 3.0).tolist() == reference.random_uniform(5, **key, low=-1.0, high=3.0).tolist()
    assert rng.integers(10, 7).tolist() == reference.random_integers(7, 10, **key, offset=5).tolist()
    assert rng.permutation(9).tolist() == reference.random_permutation(9, **key, offset=12).tolist()
    expected = reference.random_normal(6, **key, offset=20, mean=1.0, scale=2.0)
    np.testing.assert_allclose(rng.normal(6, 1.0, 2.0), np.asarray(expected, np.float64), rtol=1e-14)
    assert rng.position == 2 * 26


@given(
    cuts=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_stream_may_be_cut_anywhere(cuts: list[int], dtype: str, seed: int) -> None:
    rng = Generator(seed, 5)
    pieces = np.concatenate([rng.normal(n, dtype=dtype) for n in cuts])
    whole = Generator(seed, 5).normal(sum(cuts), dtype=dtype)
    assert pieces.tobytes() == whole.tobytes()


def test_wide_values_begin_at_an_even_word() -> None:
    rng = Generator(7)
    rng.uniform(3, dtype="float32")
    value = rng.uniform(1)
    assert rng.position == 6
    assert value.tolist() == Generator(7).uniform(3).tolist()[2:]


def test_permutation_is_fisher_yates_of_the_integers() -> None:
    n = 12
    expected = list(range(n))
    draws = Generator(3, 4)
    for i in range(n - 1, 0, -1):
        j = int(draws.integers(i + 1, 1)[0])
        expected[i], expected[j] = expected[j], expected[i]
    rng = Generator(3, 4)
    assert rng.permutation(n).tolist() == expected
    assert rng.position == draws.position


def test_small_permutations() -> None:
    assert Generator(0).permutation(0).tolist() == []
    assert Generator(0).permutation(1).tolist() == [0]
    counts = np.zeros((3, 3, 3), int)
    rng = Generator(1)
    for _ in range(600):
        counts[tuple(rng.permutation(3))] += 1
    seen = counts[counts > 0]
    assert seen.size == 6
    assert seen.min() > 60


def test_shapes_and_dtypes() -> None:
    rng = Generator(0)
    assert rng.uniform((2, 3), dtype="float32").shape == (2, 3)
    assert rng.uniform((2, 3), dtype="float32").dtype == np.float32
    assert rng.normal(()).shape == ()
    assert rng.normal((0, 4)).shape == (0, 4)
    assert rng.integers(np.int64(5), [2, 2]).dtype == np.int64
    assert rng.uniform(np.int32(4)).dtype == np.float64


def test_moments() -> None:
    values = Generator(11).normal(200_000, 2.0, 3.0)
    assert abs(values.mean() - 2.0) < 5 * 3.0 / 200_000**0.5
    assert abs(values.std() - 3.0) < 0.03
    uniform = Generator(12).uniform(200_000, dtype="float32")
    assert uniform.min() >= 0.0
    assert uniform.max() < 1.0
    assert abs(uniform.mean(dtype=np.float64) - 0.5) < 0.004
    assert np.bincount(Generator(13).integers(7, 70_000), minlength=7).min() > 9_500


def test_streams_and_seeds_differ() -> None:
    base = Generator(5)
    others = [Generator(6), base.spawn(1), Generator(5, 2**63)]
    first = base.integers(2**63, 4).tolist()
    assert all(other.integers(2**63, 4).tolist() != first for other in others)
    assert base.spawn(0).integers(2**63, 4).tolist() == first
    assert base.spawn(9).seed == 5
    assert base.spawn(9).stream == 9


def test_state_goes_on_from_there() -> None:
    rng = Generator(2**64 - 1, 3)
    rng.normal(7, dtype="float32")
    restored = [
        Generator.from_state(json.loads(json.dumps(rng.state()))),
        pickle.loads(pickle.dumps(rng)),
        copy.deepcopy(rng),
    ]
    expected = rng.normal(5).tolist()
    for other in restored:
        assert other.normal(5).tolist() == expected
        assert repr(other) == repr(rng)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(seed: int) -> None:
    with pytest.raises(ValueError, match=r"Generator: seed is .* \[0, 2\*\*64\)"):
        Generator(seed)
    with pytest.raises(ValueError, match="Generator: stream is"):
        Generator(0, seed)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda rng: Generator(1.5), TypeError, "Generator: seed must be an integer, not float"),
        (lambda rng: Generator("7"), TypeError, "seed must be an integer, not str"),
        (lambda rng: rng.uniform(-1), ValueError, "uniform: size is -1"),
        (lambda rng: rng.uniform((2, -3)), ValueError, "must not be negative"),
        (lambda rng: rng.normal(2.0), TypeError, "normal: size must be an integer or a tuple"),
        (lambda rng: rng.normal(2, dtype="float16"), TypeError, "dtype is float16; accepted are float32 and float64"),
        (lambda rng: rng.uniform(2, dtype=None), TypeError, r"Generator.uniform: dtype is None; accepted are float32"),
        (
            lambda rng: rng.uniform(2, dtype="foo"),
            TypeError,
            r"uniform: dtype is 'foo'; accepted are float32",
        ),
        (
            lambda rng: rng.uniform(2**62),
            ValueError,
            r"uniform: size is 4611686018427387904; no array",
        ),
        (lambda rng: rng.normal((2**80, 0)), ValueError, r"Generator.normal: size is \(.*, 0\); no array can be"),
        (lambda rng: rng.integers(2, 2**62), ValueError, r"Generator.integers: size is 4611686018427387904; no array"),
        (lambda rng: rng.permutation(2**62), ValueError, r"Generator.permutation: size is .*; no array can be"),
        (lambda rng: rng.normal(2, scale=-1.0), ValueError, "scale"),
        (lambda rng: rng.integers(0, 2), ValueError, r"bound is 0; it must be in \[1, 2\*\*63\]"),
        (lambda rng: rng.integers(2**63 + 1, 2), ValueError, "bound is"),
        (lambda rng: rng.permutation(-1), ValueError, "permutation: size is"),
        (lambda rng: Generator.from_state({"seed": 1}), ValueError, "lacks algorithm, position, stream"),
        (lambda rng: Generator.from_state({**rng.state(), "algorithm": "x"}), ValueError, "algorithm is 'x'"),
        (lambda rng: Generator.from_state({**rng.state(), "position": -1}), ValueError, "position is -1"),
    ],
)
def test_wrong_arguments(call: Any, error: type[Exception], message: str) -> None:
    rng = Generator(0)
    with pytest.raises(error, match=message):
        call(rng)
    assert rng.position == 0


def test_the_end_of_a_stream() -> None:
    rng = Generator.from_state({**Generator(1).state(), "position": 2**64 - 4})
    assert rng.integers(10, 2).shape == (2,)
    with pytest.raises(OverflowError, match=r"Generator\.integers: the stream of .* has no 1 values left"):
        rng.integers(10, 1)
