"""Random numbers, dropout and optimisers against the reference."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import assert_same_bits, assert_ulp, plain, reference
from normcore.testing.strategies import dtypes, matrices
from operations import SLOTS

U64 = st.integers(0, 2**64 - 1)
COUNTS = st.integers(0, 70) | st.sampled_from([0, 1, 255, 1000])
PLACES = st.fixed_dictionaries({"seed": U64, "stream": U64, "offset": st.integers(0, 2**62) | st.integers(0, 9)})
CORNER = {"seed": 2**64 - 1, "stream": 2**64 - 1, "offset": 2**62 - 1}
START = {"seed": 0, "stream": 0, "offset": 0}


# ---------------------------------------------------------------- generators


@given(COUNTS, PLACES, dtypes())
@example(9, CORNER, np.dtype(np.float32))
@example(9, START, np.dtype(np.float64))
def test_uniform_is_exact(n: int, place: dict[str, int], dtype: Any) -> None:
    u = nc.random_uniform(n, **place, dtype=dtype.name)
    assert_same_bits(u, reference.random_uniform(n, **place, dtype=dtype).astype(dtype))
    assert ((u >= 0) & (u < 1)).all()


@given(COUNTS, PLACES, dtypes(), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_uniform_between_bounds(n: int, place: dict[str, int], dtype: Any, low: float, high: float) -> None:
    low, high = sorted((low, high))
    u = nc.random_uniform(n, **place, low=low, high=high, dtype=dtype.name)
    exact = reference.random_uniform(n, **place, low=low, high=high, dtype=dtype)
    size = max(abs(low), abs(high))
    assert (
        np.abs(u - exact) <= 2 * float(np.finfo(dtype).eps) * size + float(np.finfo(dtype).smallest_subnormal)
    ).all()


@given(COUNTS, PLACES)
@example(70, CORNER)
def test_normal_float32_is_within_an_ulp(n: int, place: dict[str, int]) -> None:
    deviates = nc.random_normal(n, **place, dtype="float32")
    assert deviates.dtype == np.float32
    assert_ulp(deviates, reference.random_normal(n, **place, dtype="float32"), 1)


@given(COUNTS, PLACES)
def test_normal_float64_is_accurate(n: int, place: dict[str, int]) -> None:
    deviates = nc.random_normal(n, **place)
    assert deviates.dtype == np.float64
    assert_ulp(deviates, reference.random_normal(n, **place), 8)


@given(COUNTS, PLACES, st.floats(-100, 100), st.floats(0, 100), dtypes())
def test_normal_with_mean_and_scale(n: int, place: dict[str, int], mean: float, scale: float, dtype: Any) -> None:
    deviates = nc.random_normal(n, **place, mean=mean, scale=scale, dtype=dtype.name)
    exact = reference.random_normal(n, **place, mean=mean, scale=scale, dtype=dtype)
    kind = np.finfo(dtype)
    limit = 8 * float(kind.eps) * (abs(mean) + 8.3 * scale) + float(kind.smallest_subnormal)
    assert (np.abs(deviates - exact) <= limit).all()


@given(COUNTS, PLACES, st.integers(1, 2**63) | st.integers(1, 20))
@example(20, CORNER, 2**63)
@example(20, START, 1)
def test_integers_are_exact(n: int, place: dict[str, int], bound: int) -> None:
    integers = nc.random_integers(n, bound, **place)
    assert_same_bits(integers, reference.random_integers(n, bound, **place))
    assert ((integers >= 0) & (integers <= bound - 1)).all()


@given(COUNTS, PLACES)
def test_permutation_is_exact(n: int, place: dict[str, int]) -> None:
    order = nc.random_permutation(n, **place)
    assert_same_bits(order, reference.random_permutation(n, **place))
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


@pytest.mark.parametrize(
    "make",
    [
        lambda n, place: nc.random_uniform(n, **place, dtype="float32"),
        lambda n, place: nc.random_uniform(n, **place),
        lambda n, place: nc.random_normal(n, **place, dtype="float32"),
        lambda n, place: nc.random_normal(n, **place),
        lambda n, place: nc.random_integers(n, 1000, **place),
    ],
    ids=["uniform_f32", "uniform_f64", "normal_f32", "normal_f64", "integers"],
)
@given(st.integers(1, 200), st.integers(0, 200), U64, st.integers(0, 2**40))
def test_any_stretch_can_be_made_alone(make: Any, n: int, cut: int, seed: int, offset: int) -> None:
    cut = min(cut, n)
    whole = make(n, {"seed": seed, "stream": 3, "offset": offset})
    tail = make(n - cut, {"seed": seed, "stream": 3, "offset": offset + cut})
    assert_same_bits(tail, whole[cut:])


def test_moments_and_independence_of_streams() -> None:
    # 2e5 deviates: the mean of a correct generator stays within 5 standard errors but for one seed in a million
    n = 200_000
    normal = nc.random_normal(n, seed=7)
    assert abs(normal.mean()) < 5 / np.sqrt(n)
    assert abs(np.square(normal).mean() - 1) < 5 * np.sqrt(2 / n)
    assert abs(np.mean(normal**3)) < 5 * np.sqrt(15 / n)
    other = nc.random_normal(n, seed=7, stream=1)
    assert abs((normal * other).mean()) < 5 / np.sqrt(n)
    assert abs((normal[1:] * normal[:-1]).mean()) < 5 / np.sqrt(n)


# ---------------------------------------------------------------- dropout


@given(
    matrices(special=True),
    st.sampled_from([1.0, 0.5, 0.9, 1e-3, 0.25, 2.0**-32, 0.7]) | st.floats(1e-9, 1),
    PLACES,
)
@example(np.array([[np.nan, np.inf, -np.inf, -0.0, 1.0]], np.float32), 0.5, START)
def test_dropout_matches_the_reference(x: Any, keep: float, place: dict[str, int]) -> None:
    y = nc.dropout_forward(x, keep, **place)
    kind = x.dtype.newbyteorder("=")
    assert y.dtype == kind
    kept = reference.dropout_mask(x.shape, keep, **place)
    if keep == 1:
        kept[...] = True
    assert_same_bits(y[~kept], np.zeros(int((~kept).sum()), kind))
    with np.errstate(over="ignore"):
        assert_ulp(y[kept], reference.dropout_forward(x, keep, **place)[kept], 1.5)
    if keep in (1.0, 0.5, 0.25):
        expected = (plain(x).astype(np.longdouble) / keep)[kept]
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(y[kept], expected.astype(kind))
    assert_same_bits(nc.dropout_backward(x, keep, **place), y)


@given(st.floats(0.05, 0.95), U64)
def test_dropout_keeps_its_share(keep: float, seed: int) -> None:
    n = 20_000
    share = np.count_nonzero(nc.dropout_forward(np.ones((n // 10, 10), np.float32), keep, seed=seed)) / n
    assert abs(share - keep) < 7 * np.sqrt(keep * (1 - keep) / n)


# ---------------------------------------------------------------- optimisers

RATES = st.sampled_from([1e-3, 0.1, 1.0, 0.0])


@pytest.mark.parametrize("optimizer", SLOTS)
@given(
    st.integers(1, 70),
    dtypes(),
    st.fixed_dictionaries(
        {"learning_rate": RATES},
        optional={
            "momentum": st.sampled_from([0.0, 0.5, 0.99]),
            "decay_rate": st.sampled_from([0.0, 0.9]),
            "beta1": st.sampled_from([0.0, 0.5]),
            "beta2": st.sampled_from([0.0, 0.99]),
            "eps": st.sampled_from([1e-8, 1e-3]),
            "l2": st.sampled_from([0.0, 0.01]),
            "gradient_scale": st.sampled_from([1.0, 0.3, 0.0]),
            "step": st.sampled_from([1, 2, 10, 1000]),
        },
    ),
    st.sampled_from([0.0, 0.0, 0.05]),
    st.integers(0, 2**32 - 1),
)
def test_optimizers_match_the_reference(
    optimizer: str,
    n: int,
    dtype: Any,
    options: dict[str, Any],
    weight_decay: float,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    if weight_decay:
        options = {k: v for k, v in options.items() if k != "l2"} | {"weight_decay": weight_decay}
    # away from 0, where the reciprocal of the root of a tiny second moment would magnify any rounding
    p, g = (random.choice([-1.0, 1.0], n) * random.uniform(0.1, 2, n) for _ in range(2))
    v, s = (random.uniform(0.1, 1, n).astype(dtype) if use else None for use in SLOTS[optimizer])
    p, g = p.astype(dtype), g.astype(dtype)
    exact = reference.optimizer_update(optimizer, p, g, v, s, **options)
    before = p.astype(np.longdouble)
    nc.optimizer_update(optimizer, p, g, v, s, **options)
    eps = float(np.finfo(dtype).eps)
    lr = options["learning_rate"]
    step = np.abs(exact[0] - before) + (np.abs(exact[1]) if exact[1] is not None else 0) * max(lr, 1) + lr
    assert (np.abs(p - exact[0]) <= 8 * eps * (np.abs(before) + step)).all()
    for actual, wanted in zip((v, s), exact[1:], strict=True):
        assert (actual is None) == (wanted is None)
        if actual is not None and wanted is not None:
            assert (np.abs(actual - wanted) <= 6 * eps * (np.abs(wanted) + 1 + lr * 3)).all()


def exact_step(optimizer: str, g: float, v: float, s: float, step: int, rate: float) -> tuple[Decimal, ...]:
    """Change of the parameter and new slots, for the default coefficients, in decimals of any exponent."""
    with localcontext(prec=60, Emin=-(10**6), Emax=10**6):
        gradient, first, second, lr = (Decimal(x) for x in (g, v, s, rate))
        mu, rho, b1, b2, eps = (Decimal(x) for x in (0.9, 0.99, 0.9, 0.999, 1e-8))
        if optimizer == "sgd":
            return -lr * gradient, first, second
        if optimizer in ("momentum", "nesterov"):
            first = mu * first - lr * gradient
            return (first if optimizer == "momentum" else mu * first - lr * gradient), first, second
        if optimizer == "rmsprop":
            second = rho * second + (1 - rho) * gradient**2
            return -lr * gradient / (second.sqrt() + eps), first, second
        first, second = b1 * first + (1 - b1) * gradient, b2 * second + (1 - b2) * gradient**2
        root = (second / (1 - b2**step)).sqrt() + eps
        return -lr * first / (1 - b1**step) / root, first, second


@pytest.mark.parametrize("optimizer", SLOTS)
@given(
    dtypes(),
    st.floats(-1, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([1, 10**5]),  # between them 1 - beta2**t loses bits that the data have not
    st.sampled_from([1e-30, 1e-3, 1.0, 1e10, 1e30]),
)
@example(np.dtype(np.float32), 0.52, 0.0, 0.0, 1, 1e-3)  # 1.9e19, whose square overflows
@example(np.dtype(np.float32), 0.55, 0.0, 0.0, 1, 1e-3)
@example(np.dtype(np.float64), 0.51, 0.0, 0.0, 1, 1e-3)
@example(np.dtype(np.float32), 0.5, 1.0, 1.0, 1, 1e30)
@example(np.dtype(np.float32), -1.0, 1.0, 0.0, 1, 1e-3)  # 1e-37, whose square underflows
def test_steps_are_right_wherever_they_fit(
    optimizer: str, dtype: Any, exponent: float, first: float, second: float, step: int, rate: float
) -> None:
    limits = np.finfo(dtype)
    least, most = float(limits.tiny), float(limits.max)
    # down to where Adam's first moment is normal, up to the greatest number
    g = float(dtype.type(most**exponent if exponent > 0 else max(least**-exponent, 16 * least)))
    v, s = np.full(1, first * g, dtype), np.full(1, second * min(g, most**0.5) * min(g, most**0.5), dtype)
    if optimizer in ("momentum", "nesterov"):
        v = -v  # as a descent along g has left it
    change, *slots = exact_step(optimizer, g, float(v[0]), float(s[0]), step, rate)
    if max(abs(change), *slots, key=abs) > Decimal(most) or abs(change) < Decimal(least):
        return
    p, uses = np.zeros(1, dtype), SLOTS[optimizer]
    nc.optimizer_update(
        optimizer, p, np.full(1, g, dtype), v if uses[0] else None, s if uses[1] else None, learning_rate=rate,
        step=step, decay_rate=0.99,
    )  # fmt: skip
    with localcontext(prec=60, Emin=-(10**6), Emax=10**6):
        error = abs(Decimal(float(p[0])) - change) / abs(change)
    assert error <= 4 * Decimal(float(limits.eps)), f"{g}: {p[0]} where {change:.9g} is exact"


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
@pytest.mark.parametrize(("dtype", "huge"), [(np.float32, 1.9e19), (np.float32, 5e20), (np.float64, 1.4e155)])
def test_one_huge_gradient_is_forgotten(optimizer: Any, dtype: Any, huge: float) -> None:
    huge = huge if optimizer == "adam" else huge / 3  # which its second moment still holds
    p, v, s = (np.zeros(1, dtype) for _ in range(3))
    for step in range(1, 100):
        g = np.full(1, huge if step == 1 else 1.0, dtype)
        nc.optimizer_update(optimizer, p, g, v if optimizer == "adam" else None, s, learning_rate=0.1, step=step)
        assert np.isfinite(s[0])
        assert p[0] < 0
    before = s[0]
    nc.optimizer_update(optimizer, p, np.ones(1, dtype), v if optimizer == "adam" else None, s, learning_rate=0.1)
    assert 0.98 < s[0] / before < 1


def test_the_first_step_of_adam_is_the_learning_rate() -> None:
    p, g = np.zeros(5, np.float64), np.array([1e-3, -5.0, 0.1, 1e4, -0.0])
    nc.optimizer_update("adam", p, g, np.zeros(5), np.zeros(5), learning_rate=0.01, eps=0.0 + 1e-300)
    np.testing.assert_allclose(p, [-0.01, 0.01, -0.01, -0.01, 0], rtol=1e-12)


def test_adamw_decays_without_the_gradient() -> None:
    p = np.array([1.0, -2.0])
    nc.optimizer_update(
        "adam",
        p,
        np.zeros(2),
        np.zeros(2),
        np.zeros(2),
        learning_rate=0.5,
        weight_decay=0.25,
    )
    np.testing.assert_array_equal(p, [0.875, -1.75])


@given(matrices(special=True, fills=("normal", "scaled")))
def test_sum_of_squares(x: Any) -> None:
    with np.errstate(over="ignore"):
        exact = reference.sum_of_squares(x)
        actual = nc.sum_of_squares(x)
        assert isinstance(actual, float)
        if not np.isfinite(exact) or exact > np.finfo(np.float64).max:
            np.testing.assert_equal(actual, float(exact))
        else:
            np.testing.assert_allclose(actual, float(exact), rtol=1e-12, atol=1e-318)
