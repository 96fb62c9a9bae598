"""The operations against the executable contract, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import assert_same_bits, contract, sprinkle_special, use_isa
from normcore.testing.strategies import (
    awkward_sizes,
    cross_entropy_problems,
    dtypes,
    labels,
    matrices,
    norm_parameters,
    soft_targets,
    weights,
)
from operations import SLOTS

# float64 goes through integers: few elements, but more rows than a chunk, more terms than a block, trees of five chunks
SHAPES = st.tuples(awkward_sizes(20), awkward_sizes(40)) | st.sampled_from(
    [(1, 1), (15, 3), (16, 3), (2, 15), (2, 16), (256, 2), (257, 1), (300, 2), (1100, 1), (1, 300), (2, 67), (0, 3)]
)
FILLS = ("normal", "offset", "scaled", "wide_range", "constant", "integers")
PLAIN = ("contiguous",)


def agree(isa: str | None, name: str, *arguments: Any, **options: Any) -> Any:
    """Call an operation and its specification: the same results, and arguments moved alike. Returns the results.

    On one instruction set, or on all if it is None. The arguments given stay as they are.
    """
    moved = copy.deepcopy(arguments)
    expected = getattr(contract, name)(*moved, **options)
    for one in nc.available_isas() if isa is None else (isa,):
        mine = copy.deepcopy(arguments)
        with use_isa(one):
            assert_same_bits(getattr(nc, name)(*mine, **options), expected, f"{name} on {one}")
        for i, (argument, twin) in enumerate(zip(mine, moved, strict=True)):
            if isinstance(argument, np.ndarray):
                assert_same_bits(argument, twin, f"argument {i} of {name} on {one}")
    return expected


def isas() -> Any:
    return st.sampled_from(nc.available_isas())


@st.composite
def cases(draw: st.DrawFn, dtype: Any, shape: Any = SHAPES, fills: Any = FILLS) -> Any:
    """A matrix. A third has a tenth of special values; a third has those that are finite: ±0, subnormal, huge."""
    x = draw(matrices(dtype, shape, layout=PLAIN, fills=fills))
    kind = draw(st.sampled_from(["plain", "special", "finite"]))
    if kind != "plain":
        x = sprinkle_special(x, draw(st.integers(0, 999)))
    return np.where(np.isfinite(x), x, np.copysign(x.dtype.type(0), x)) if kind == "finite" else x


def like(x: Any, fills: Any = ("normal",)) -> Any:
    return cases(x.dtype, st.just(x.shape), fills)


# ---------------------------------------------------------------- affine, ReLU


@given(st.data(), dtypes(), isas())
def test_affine(data: st.DataObject, dtype: Any, isa: str) -> None:
    small = awkward_sizes(9)
    edges = st.sampled_from([(2, 530, 1), (1, 257, 2), (1, 256, 1), (3, 0, 2), (0, 2, 2)])
    n, k, m = data.draw(st.tuples(small, awkward_sizes(20), small) | edges)
    x = data.draw(cases(dtype, st.just((n, k))))
    w = data.draw(cases(dtype, st.just((k, m)), ("normal",)))
    b = data.draw(cases(dtype, st.just((1, m)), ("normal",)))[0]
    agree(isa, "affine_forward", x, w, b, relu=data.draw(st.booleans()))
    agree(isa, "affine_forward", x, w)


@given(st.data(), dtypes(), isas())
def test_affine_backward(data: st.DataObject, dtype: Any, isa: str) -> None:
    small = awkward_sizes(9)
    edges = st.sampled_from([(530, 2, 1), (1030, 1, 1), (256, 1, 2), (257, 2, 1), (2, 1, 300), (0, 3, 2), (2, 0, 3)])
    n, k, m = data.draw(st.tuples(awkward_sizes(20), small, small) | edges)
    x = data.draw(cases(dtype, st.just((n, k))))
    w = data.draw(cases(dtype, st.just((k, m)), ("normal",)))
    agree(isa, "affine_backward", data.draw(cases(dtype, st.just((n, m)), ("normal", "offset"))), x, w)


@pytest.mark.parametrize("name", nc.ACTIVATIONS)
@given(st.data(), dtypes(), isas())
def test_activations(name: str, data: st.DataObject, dtype: Any, isa: str) -> None:
    x = data.draw(cases(dtype, fills=("normal", "scaled", "integers", "wide_range")))
    with np.errstate(over="ignore"):
        x = x * dtype.type(data.draw(st.sampled_from([0.1, 1.0, 10.0, 50.0, 100.0, 700.0])))
    options = {"slope": data.draw(st.sampled_from([0.01, 0.3, 0.0, 1.0]))} if name == "leaky_relu" else {}
    y = agree(isa, f"{name}_forward", x, **options)
    agree(isa, f"{name}_backward", data.draw(like(x)), x if name == "silu" else y, **options)
    agree(isa, f"{name}_backward", data.draw(like(x)), data.draw(like(x)), **options)


# ---------------------------------------------------------------- softmax, cross-entropy


@st.composite
def logits(draw: st.DrawFn, dtype: Any) -> Any:
    """Logits of any spread; some with several greatest elements, some masked by -inf."""
    x = draw(cases(dtype, fills=("normal", "scaled", "integers", "offset", "constant")))
    with np.errstate(over="ignore"):
        x = x * dtype.type(draw(st.sampled_from([1.0, 20.0, 90.0, 700.0])))
    kind = draw(st.sampled_from(["any", "ties", "masked"]))
    if kind == "ties" and x.size:
        x[:, ::3] = x.max(axis=1, keepdims=True)
    if kind == "masked":
        random = np.random.default_rng(draw(st.integers(0, 999)))
        x[~np.isfinite(x) | (random.random(x.shape) < 0.2)] = -np.inf
    return x


@given(st.data(), dtypes(), isas())
def test_softmax(data: st.DataObject, dtype: Any, isa: str) -> None:
    x = data.draw(logits(dtype))
    y = agree(isa, "softmax", x)
    agree(isa, "softmax_backward", data.draw(like(x)), y)
    agree(isa, "softmax_backward", data.draw(like(x)), data.draw(like(x)))


@given(st.data(), dtypes(), isas())
def test_log_softmax(data: st.DataObject, dtype: Any, isa: str) -> None:
    x = data.draw(logits(dtype))
    y = agree(isa, "log_softmax", x)
    agree(isa, "log_softmax_backward", data.draw(like(x)), y)


def exponentials(isa: str | None, x: Any) -> Any:
    """exp(x) through the gradient of log-softmax, which is exp(y) where dy is (0, -1) against y = (x, 0)."""
    y = np.column_stack([x, np.zeros_like(x)])
    dx = agree(isa, "log_softmax_backward", np.full_like(y, -1) * np.arange(2, dtype=x.dtype), y)
    assert_same_bits(dx[:, 0], contract.exp(x), "exp")


@given(st.data(), dtypes(), isas())
def test_exp(data: st.DataObject, dtype: Any, isa: str) -> None:
    x = data.draw(cases(dtype, st.tuples(st.just(1), st.integers(1, 40)), ("normal", "scaled", "wide_range")))[0]
    with np.errstate(over="ignore"):
        exponentials(isa, x * dtype.type(data.draw(st.sampled_from([1.0, 30.0, 100.0, 745.0]))))


@pytest.mark.parametrize(
    ("dtype", "edges"),
    [(np.float32, (-104.0, -103.6, -87.5, 88.5, 89.0)), (np.float64, (-745.2, -744.6, -708.5, 709.5, 710.0))],
)
def test_exp_at_its_edges(dtype: Any, edges: tuple[float, ...]) -> None:
    # both ends of the range, and where results become subnormal, which rounds them once more if done in two steps
    exponentials(None, np.concatenate([np.linspace(edge - 0.5, edge + 0.5, 301) for edge in edges]).astype(dtype))
    exponentials(None, np.linspace(edges[0], edges[2], 999).astype(dtype))
    # a thousandth of these show whether the polynomial is evaluated with fma
    exponentials(None, np.linspace(-30, 30, 6000).astype(dtype))


@given(st.data(), dtypes(), isas())
def test_cross_entropy_of_problems(data: st.DataObject, dtype: Any, isa: str) -> None:
    problem = data.draw(cross_entropy_problems(dtype, layout=PLAIN, special=True))
    agree(isa, "softmax_cross_entropy", problem.logits, problem.labels, **problem.options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_of_a_mean_over_no_weight(dtype: Any) -> None:
    x, weights = np.array([[0.5, -2.0], [1.0, 3.0]], dtype), np.zeros(2)
    loss, gradient, weight_sum = agree(None, "softmax_cross_entropy", x, np.array([1, 0]), sample_weight=weights)
    assert (loss, weight_sum) == (0.0, 0.0)
    assert not gradient.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_of_a_masked_label(dtype: Any, smoothing: float) -> None:
    z = np.array([[0.5, -np.inf, 1.0], [0.5, 2.0, 1.0]], dtype)
    loss, _, _ = agree(None, "softmax_cross_entropy", z, np.array([1, 1]), label_smoothing=smoothing)
    assert loss == np.inf
    agree(None, "softmax_cross_entropy", z, np.eye(3, dtype=dtype)[[0, 2]], label_smoothing=smoothing)


@given(st.data(), dtypes(), isas())
def test_cross_entropy(data: st.DataObject, dtype: Any, isa: str) -> None:
    z = data.draw(logits(dtype).filter(lambda z: z.shape[1] > 1))
    n, c = z.shape
    options: dict[str, Any] = {
        "reduction": data.draw(st.sampled_from(["mean", "sum", "none"])),
        "label_smoothing": data.draw(st.sampled_from([0.0, 0.1, 1.0, 5e-324])),
    }
    if data.draw(st.booleans()):
        options["class_weight"] = data.draw(weights(c) | st.just({0: 0.25}))
    if data.draw(st.booleans()):
        options["sample_weight"] = data.draw(weights(n))
    if data.draw(st.booleans()):
        # or any numbers, NaN among them
        target = data.draw(soft_targets(n, c, dtype) | like(z, ("normal", "integers"))).clip(-2, 2)
        agree(isa, "softmax_cross_entropy", z, target, **options)
    else:
        options["ignore_index"] = data.draw(st.sampled_from([None, -1, 0]))
        index = data.draw(labels(n, c, ignore_index=options["ignore_index"]))
        agree(isa, "softmax_cross_entropy", z, index, **options)


# ---------------------------------------------------------------- normalisation


@st.composite
def norm_inputs(draw: st.DrawFn, dtype: Any) -> Any:
    """Data of any scale: float32 takes powers of two out of rstd beyond 2**64."""
    x = draw(cases(dtype))
    power = draw(st.sampled_from([0, 0, 0, -120, -66, 66, 100] if dtype == np.float32 else [0, 0, 0, -400, 400]))
    with np.errstate(all="ignore"):
        return x * dtype.type(2.0**power)


@st.composite
def statistics(draw: st.DrawFn, size: int) -> tuple[Any, Any]:
    """Any mean and rstd, also such as no data have."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([1.0, 60.0]))
    mean, rstd = random.normal(size=size), np.exp2(random.normal(size=size) * spread)
    if draw(st.booleans()):
        odd = random.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 5e-324, 1e308, 2.0**64, 2.0**-64], size)
        rstd = np.where(random.random(size) < 0.2, odd, rstd)
    return mean, rstd


EPS = st.sampled_from([1e-5, 0.0, 1e-3])


@given(st.data(), dtypes(), EPS, isas())
def test_batch_norm(data: st.DataObject, dtype: Any, eps: float, isa: str) -> None:
    x = data.draw(norm_inputs(dtype))
    gamma, beta = data.draw(norm_parameters(dtype, x.shape[1]))
    _, mean, rstd = agree(isa, "batch_norm_forward", x, gamma, beta, eps=eps)
    dy = data.draw(like(x, ("normal", "offset")))
    for algorithm in ("fused", "graph"):
        agree(isa, "batch_norm_backward", dy, x, gamma, mean, rstd, algorithm=algorithm)


@given(st.data(), dtypes(), EPS, isas())
def test_batch_norm_with_running_statistics(data: st.DataObject, dtype: Any, eps: float, isa: str) -> None:
    x = data.draw(norm_inputs(dtype))
    d = x.shape[1]
    gamma, beta = data.draw(norm_parameters(dtype, d))
    running_mean = data.draw(cases(dtype, st.just((1, d)), ("normal",)))[0]
    running_var = abs(data.draw(cases(dtype, st.just((1, d)), ("normal", "scaled")))[0])
    options = {"eps": eps, "momentum": data.draw(st.sampled_from([0.9, 0.0, 1.0, 0.3]))}
    unbiased = data.draw(st.booleans())
    agree(
        isa, "batch_norm_forward", x, gamma, beta, running_mean, running_var, unbiased_running_var=unbiased, **options
    )
    agree(isa, "batch_norm_forward", x, gamma, beta, running_mean, running_var, training=False, **options)


@given(st.data(), dtypes(), isas())
def test_batch_norm_backward_of_any_statistics(data: st.DataObject, dtype: Any, isa: str) -> None:
    x = data.draw(norm_inputs(dtype))
    dy, (gamma, _) = data.draw(like(x, ("normal", "scaled"))), data.draw(norm_parameters(dtype, x.shape[1]))
    mean, rstd = data.draw(statistics(x.shape[1]))
    for algorithm in ("fused", "graph"):
        for training in (True, False):
            agree(isa, "batch_norm_backward", dy, x, gamma, mean, rstd, algorithm=algorithm, training=training)


@given(st.data(), dtypes(), EPS, isas())
def test_layer_norm(data: st.DataObject, dtype: Any, eps: float, isa: str) -> None:
    x = data.draw(norm_inputs(dtype))
    gamma, beta = data.draw(norm_parameters(dtype, x.shape[1]))
    _, mean, rstd = agree(isa, "layer_norm_forward", x, gamma, beta, eps=eps)
    agree(isa, "layer_norm_backward", data.draw(like(x, ("normal", "offset"))), x, gamma, mean, rstd)


@given(st.data(), dtypes(), isas())
def test_layer_norm_backward_of_any_statistics(data: st.DataObject, dtype: Any, isa: str) -> None:
    x = data.draw(norm_inputs(dtype))
    dy, (gamma, _) = data.draw(like(x, ("normal", "scaled"))), data.draw(norm_parameters(dtype, x.shape[1]))
    agree(isa, "layer_norm_backward", dy, x, gamma, *data.draw(statistics(len(x))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norms_backward_at_the_edges_of_powers_of_two(dtype: Any) -> None:
    # the exponent of rstd is that of rstd rounded to float32, and what is plain ends at 2**-64 and 2**64
    powers = np.ldexp(1.0, np.array([-149, -127, -126, -65, -64, -63, -1, 0, 1, 63, 64, 65, 126, 127]))
    near = [
        powers,
        np.nextafter(powers, 0),
        np.nextafter(powers, np.inf),
        powers * (1 - 2.0**-26),
        [0, np.inf, np.nan, -1],
    ]
    rstd = np.concatenate(near)
    random = np.random.default_rng(0)
    x, dy = (random.normal(size=(rstd.size, 20)).astype(dtype) for _ in range(2))
    gamma, mean = random.normal(size=20).astype(dtype), random.normal(size=rstd.size)
    for scale in (1.0, 1e-18, 1e18):
        agree(None, "layer_norm_backward", dy, (x * scale).astype(dtype), gamma, mean * scale, rstd)
        columns = [np.ascontiguousarray(a.T) for a in (dy, (x * scale).astype(dtype))]
        gammas = random.normal(size=rstd.size).astype(dtype)
        agree(None, "batch_norm_backward", *columns, gammas, mean * scale, rstd)
        plain = (rstd >= 2.0**-64) & (rstd <= 2.0**64)
        agree(
            None,
            "batch_norm_backward",
            *(a[:, plain] for a in columns),
            gammas[plain],
            mean[plain] * scale,
            rstd[plain],
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layer_norm_of_rows_without_elements(dtype: Any) -> None:
    x, gamma = np.zeros((3, 0), dtype), np.zeros(0, dtype)
    _, mean, rstd = agree(None, "layer_norm_forward", x, gamma, gamma)
    agree(None, "layer_norm_backward", x, x, gamma, mean, rstd)


# ---------------------------------------------------------------- batches of several chunks


@pytest.mark.parametrize("n", [257, 700, 1100, 1537])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_trees(n: int, dtype: Any) -> None:
    # two, three, five and seven chunks of ordinary numbers, in which every order of a sum shows
    random = np.random.default_rng(n)
    x, dy = (random.normal(size=(n, 3)).astype(dtype) for _ in range(2))
    gamma, beta = (random.normal(size=3).astype(dtype) for _ in range(2))
    agree(None, "affine_backward", dy, x, random.normal(size=(3, 3)).astype(dtype))
    _, mean, rstd = agree(None, "batch_norm_forward", x, gamma, beta)
    for algorithm in ("fused", "graph"):
        agree(None, "batch_norm_backward", dy, x, gamma, mean, rstd, algorithm=algorithm)
    _, mean, rstd = agree(None, "layer_norm_forward", x, gamma, beta)
    agree(None, "layer_norm_backward", dy, x, gamma, mean, rstd)
    weight = random.exponential(size=n)
    for reduction in ("mean", "sum"):
        agree(None, "softmax_cross_entropy", x, random.integers(0, 3, n), sample_weight=weight, reduction=reduction)


@pytest.mark.parametrize("n", [300, 700])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_merging_of_statistics(n: int, dtype: Any) -> None:
    # chunks whose means differ by more than their spread; momentum 0 shows the variance itself
    random = np.random.default_rng(n)
    x = (random.normal(size=(n, 20)) + np.linspace(0, 9, n)[:, None]).astype(dtype)
    gamma, beta, mean, var = (random.normal(size=20).astype(dtype) for _ in range(4))
    var = np.abs(var)
    for unbiased in (False, True):
        agree(None, "batch_norm_forward", x, gamma, beta, mean, var, momentum=0.0, unbiased_running_var=unbiased)


# ---------------------------------------------------------------- random numbers, dropout

UINT64 = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
# below the end of a stream, whose last words are a case of their own
OFFSET = st.integers(0, 70) | st.integers(0, 2**62) | st.sampled_from([2**32 - 3, 2**34 - 5, 2**61 + 1])


@given(UINT64, UINT64, OFFSET, st.sampled_from([0, 1, 3, 17, 70]), st.sampled_from(["float32", "float64"]), isas())
def test_random_floats(seed: int, stream: int, offset: int, n: int, dtype: str, isa: str) -> None:
    key: dict[str, Any] = {"seed": seed, "stream": stream, "offset": offset, "dtype": dtype}
    agree(isa, "random_uniform", n, low=-1.3, high=2.9, **key)
    agree(isa, "random_uniform", n, **key)
    agree(isa, "random_normal", n, mean=0.7, scale=1.9, **key)
    agree(isa, "random_normal", n, **key)


@given(UINT64, UINT64, OFFSET, st.integers(0, 40), st.integers(1, 2**63) | st.integers(1, 100), isas())
def test_random_integers(seed: int, stream: int, offset: int, n: int, bound: int, isa: str) -> None:
    agree(isa, "random_integers", n, bound, seed=seed, stream=stream, offset=offset)
    agree(isa, "random_permutation", n, seed=seed, stream=stream, offset=offset)


@given(st.data(), dtypes(), isas())
def test_dropout(data: st.DataObject, dtype: Any, isa: str) -> None:
    x = data.draw(cases(dtype, st.tuples(awkward_sizes(9), awkward_sizes(40)) | st.just((2, 1030))))
    key = {"seed": data.draw(UINT64), "stream": data.draw(UINT64), "offset": data.draw(OFFSET)}
    keep = data.draw(st.sampled_from([0.5, 0.9, 1.0, 1e-3, 1 - 2.0**-53, 0.3]))
    agree(isa, "dropout_forward", x, keep, **key)
    agree(isa, "dropout_backward", x, keep, **key)


def test_dropout_keeps_words_below_the_threshold() -> None:
    word, x = 0x6627E8D5, np.ones((1, 1), np.float32)  # the first word of seed 0 and stream 0
    for above, kept in ((0.0, False), (0.5, False), (1.0, True)):
        y = agree(None, "dropout_forward", x, (word + above) * 2.0**-32, seed=0)
        assert (y[0, 0] > 0) == kept


@pytest.mark.parametrize("isa", nc.available_isas())
def test_word_numbers_are_modulo_2_to_the_64(isa: str) -> None:
    x = np.ones((1, 8), np.float32)
    agree(isa, "dropout_forward", x, 0.5, seed=3, offset=2**64 - 4)
    agree(isa, "random_uniform", 8, seed=3, offset=2**64 - 4, dtype="float32")
    agree(isa, "random_integers", 4, 100, seed=3, offset=2**63 - 2)


# ---------------------------------------------------------------- optimisers


@given(st.data(), dtypes(), isas())
def test_sum_of_squares(data: st.DataObject, dtype: Any, isa: str) -> None:
    agree(isa, "sum_of_squares", data.draw(cases(dtype)))


@pytest.mark.parametrize("optimizer", SLOTS)
@given(
    st.data(),
    dtypes(),
    st.fixed_dictionaries(
        {"learning_rate": st.sampled_from([1e-3, 0.1])},
        optional={
            "momentum": st.just(0.7),
            "decay_rate": st.just(0.8),
            "beta1": st.just(0.85),
            "beta2": st.just(0.99),
            "eps": st.just(1e-3),
            "l2": st.just(0.01),
            "weight_decay": st.just(0.05),
            "gradient_scale": st.just(0.3),
            "step": st.sampled_from([2, 7, 37, 200, 1000, 2**40]),
        },
    ),
    isas(),
)
def test_optimizers(optimizer: str, data: st.DataObject, dtype: Any, options: dict[str, Any], isa: str) -> None:
    n = data.draw(awkward_sizes(40))
    fills = ("normal", "scaled", "wide_range")
    p, g, v, s = (data.draw(cases(dtype, st.just((1, n)), fills))[0] for _ in range(4))
    first, second = (slot if use else None for slot, use in zip((v, abs(s)), SLOTS[optimizer], strict=True))
    agree(isa, "optimizer_update", optimizer, p, g, first, second, **options)


def test_powers_of_adam_are_by_squaring() -> None:
    for step in range(1, 400, 3):
        p, g, v, s = (np.full(3, value) for value in (0.01, 0.3, 0.1, 0.2))
        agree(None, "optimizer_update", "adam", p, g, v, s, learning_rate=0.1, beta1=0.99, step=step)
