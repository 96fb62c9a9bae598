"""The perceptron against its specification as a composition of operations, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import assert_same_bits, contract, sprinkle_special, use_isa
from normcore.testing.strategies import dtypes, labels, soft_targets, weights

# sizes, and rows of a batch: around 16 elements of a norm, a block of 256 features, a chunk of 256 rows
SHAPES = st.sampled_from(
    [
        ((3, 2), 5),
        ((1, 1, 2), 258),
        ((2, 3, 2), 257),
        ((4, 17, 3), 7),
        ((4, 16, 2), 15),
        ((3, 15, 6, 2), 2),
        ((3, 4, 5, 4), 16),
        ((7, 1, 3), 17),
        ((2, 18, 2), 1),
        ((260, 2, 2), 3),
    ]
)


@st.composite
def options_of_networks(draw: st.DrawFn, norm: str | None) -> dict[str, Any]:
    return {
        "norm": norm,
        "activation": draw(st.sampled_from(list(nc.ACTIVATIONS))),
        "keep": draw(st.sampled_from([1.0, 0.6])),
        "eps": draw(st.sampled_from([1e-5, 0.0, 0.1])),
        "momentum": draw(st.sampled_from([0.9, 0.25])),
        "unbiased_running_var": draw(st.booleans()),
        "dtype": draw(dtypes()).name,
    }


@st.composite
def goals(draw: st.DrawFn, n: int, c: int, dtype: Any) -> tuple[Any, dict[str, Any]]:
    """Labels or soft targets, and options."""
    options: dict[str, Any] = {
        "reduction": draw(st.sampled_from(["mean", "sum"])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1])),
    }
    if draw(st.booleans()):
        options["class_weight"] = draw(weights(c))
    if draw(st.booleans()):
        options["sample_weight"] = draw(weights(n))
    if draw(st.booleans()):
        return draw(soft_targets(n, c, dtype)), options
    return draw(labels(n, c, ignore_index=-1)), options | {"ignore_index": -1}


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@given(st.data(), st.sampled_from(nc.available_isas()))
def test_network(norm: str | None, data: st.DataObject, isa: str) -> None:
    (sizes, n), options = data.draw(SHAPES), data.draw(options_of_networks(norm))
    dtype = np.dtype(options["dtype"])
    specified, made = contract.Network(sizes, **options), nc.Network(sizes, **options)
    assert specified.segments() == made.segments()
    assert (specified.parameter_count, specified.buffer_count) == (made.parameter_count, made.buffer_count)

    seed, stream = data.draw(st.integers(0, 2**64 - 1)), data.draw(st.sampled_from([0, 5, 2**63, 2**64 - 1]))
    key = {"seed": seed, "stream": stream}
    x = np.random.default_rng(seed).normal(size=(n, sizes[0])).astype(data.draw(dtypes()))
    if data.draw(st.booleans()):
        x = sprinkle_special(x, seed, 0.02)
    goal, goal_options = data.draw(goals(n, sizes[-1], dtype))
    scale = data.draw(st.sampled_from([None, None, 0.3, 3.0]))

    def run(network: Any) -> tuple[Any, ...]:
        params, buffers = np.empty(made.parameter_count, dtype), np.empty(made.buffer_count, dtype)
        network.initialize(params, buffers, weight_scale=scale, **key)
        start = params.copy(), buffers.copy()
        grads, logits = np.empty_like(params), np.empty((n, sizes[-1]), dtype)
        with np.errstate(over="ignore"):  # of data that are rounded to float32
            result = network.loss_and_grads(x, goal, params, buffers, grads, **key, **goal_options)
            network.forward(x, params, buffers, logits)
        return *start, result, grads, buffers, logits

    expected = run(specified)
    with use_isa(isa):
        for name, actual, wanted in zip(
            ("params", "buffers", "loss and weight", "grads", "moved buffers", "logits"),
            run(made),
            expected,
            strict=True,
        ):
            assert_same_bits(actual, wanted, name)
