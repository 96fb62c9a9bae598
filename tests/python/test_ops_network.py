"""The multilayer perceptron of the core against the reference put together from single operations."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore import _core as nc
from normcore.testing import (
    apply_layout,
    assert_same_bits,
    numerical_gradient,
    reference,
    use_isa,
    use_num_threads,
)
from normcore.testing.strategies import dtypes, layouts


class Case:
    """A network with its arrays, and the same arrays as the reference takes them."""

    def __init__(
        self,
        sizes: tuple[int, ...],
        norm: str | None,
        keep: float,
        dtype: Any,
        seed: int,
        n: int,
        activation: Any = "relu",
    ) -> None:
        self.network = nc.Network(
            sizes,
            norm=norm,
            activation=activation,
            keep=keep,
            eps=1e-3,
            momentum=0.8,
            dtype=np.dtype(dtype).name,
        )
        self.norm, self.keep, self.activation = norm, keep, activation
        random = np.random.default_rng(seed)
        self.params = random.normal(size=self.network.parameter_count).astype(dtype)
        self.buffers = random.exponential(size=self.network.buffer_count).astype(dtype)
        self.x = random.normal(size=(n, sizes[0])).astype(dtype)
        self.labels = random.integers(0, sizes[-1], n)

    def split(self, params: Any, buffers: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        layers: list[dict[str, Any]] = [{} for _ in self.network.sizes[1:]]
        running: list[dict[str, Any]] = [{} for _ in self.network.sizes[2:] if self.norm == "batch"]
        for name, layer, offset, rows, columns in self.network.segments():
            source, target = (buffers, running) if name.startswith("running") else (params, layers)
            piece = source[offset : offset + rows * columns]
            target[layer][name] = piece.reshape(rows, columns) if name == "w" else piece
        return layers, running

    def loss_and_grads(self, **options: Any) -> tuple[float, float, Any, Any]:
        grads, buffers = np.full_like(self.params, np.nan), self.buffers.copy()
        loss, weight_sum = self.network.loss_and_grads(
            self.x,
            self.labels,
            self.params,
            buffers,
            grads,
            seed=9,
            stream=40,
            **options,
        )
        return loss, weight_sum, grads, buffers

    def reference(self, **options: Any) -> reference.MLPResult:
        layers, running = self.split(self.params, self.buffers)
        return reference.mlp_loss_and_grads(
            self.x,
            self.labels,
            layers,
            norm=self.norm,
            activation=self.activation,
            buffers=running,
            keep=self.keep,
            eps=1e-3,
            momentum=0.8,
            seed=9,
            stream=40,
            **options,
        )


SIZES = st.lists(st.integers(1, 12), min_size=2, max_size=5).map(tuple)
NORMS = st.sampled_from([None, "batch", "layer"])
ACTIVATIONS = tuple(nc.ACTIVATIONS)


@st.composite
def cases(draw: st.DrawFn, dtype: Any = None) -> Case:
    kind = draw(dtypes()) if dtype is None else dtype
    keep = draw(st.sampled_from([1.0, 0.6]))
    return Case(
        draw(SIZES.map(lambda sizes: (*sizes[:-1], max(sizes[-1], 2)))),  # a loss needs two classes
        draw(NORMS),
        keep,
        kind,
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(1, 9)),
        draw(st.sampled_from(ACTIVATIONS)),
    )


@given(cases(np.float64), st.sampled_from(["mean", "sum"]), st.sampled_from([0.0, 0.1]))
def test_loss_and_gradients_match_the_reference(case: Case, reduction: str, smoothing: float) -> None:
    options = {"reduction": reduction, "label_smoothing": smoothing}
    loss, weight_sum, grads, buffers = case.loss_and_grads(**options)
    exact = case.reference(**options)
    np.testing.assert_allclose(loss, float(exact.loss), rtol=1e-10, atol=1e-12)
    assert weight_sum == len(case.x)
    layers, running = case.split(grads, buffers)
    for actual, wanted in zip(layers + running, exact.grads + exact.buffers, strict=True):
        assert set(actual) == set(wanted)
        for name, array in actual.items():
            scale = max(1.0, float(np.abs(wanted[name]).max()))
            np.testing.assert_allclose(
                array,
                wanted[name].astype(float),
                rtol=1e-9,
                atol=1e-10 * scale,
                err_msg=name,
            )


@given(cases(np.float32))
def test_float32_is_near_the_reference(case: Case) -> None:
    loss, _, grads, _ = case.loss_and_grads()
    # A deep network with batch statistics of few rows magnifies roundings; a wrong formula is wrong by far more.
    exact = case.reference()
    np.testing.assert_allclose(loss, float(exact.loss), rtol=1e-3, atol=1e-4)
    layers, _ = case.split(grads, case.buffers)
    scale = max(1.0, max(float(np.abs(g[name]).max()) for g in exact.grads for name in g))
    error = max(float(np.abs(a[name] - g[name]).max()) for a, g in zip(layers, exact.grads, strict=True) for name in g)
    assert error <= 0.02 * scale


@given(cases())
def test_forward_matches_the_reference(case: Case) -> None:
    out = np.full((len(case.x), case.network.sizes[-1]), np.nan, case.params.dtype)
    case.network.forward(case.x, case.params, case.buffers, out)
    layers, running = case.split(case.params, case.buffers)
    exact = reference.mlp_forward(case.x, layers, norm=case.norm, activation=case.activation, buffers=running, eps=1e-3)
    tolerance = 1e-10 if out.dtype == np.float64 else 5e-3
    assert (np.abs(out - exact) <= tolerance * max(1.0, float(np.abs(exact).max()))).all()


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("sizes", [(3, 2), (4, 5, 3), (2, 3, 3, 2)])
@pytest.mark.parametrize("keep", [1.0, 0.7])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_match_finite_differences(
    norm: str | None, sizes: tuple[int, ...], keep: float, activation: Any
) -> None:
    case = Case(sizes, norm, keep, np.float64, 3, 6, activation)
    _, _, grads, _ = case.loss_and_grads()

    def loss(params: Any) -> float:
        scratch = np.empty_like(grads)
        return float(
            case.network.loss_and_grads(
                case.x,
                case.labels,
                params,
                case.buffers.copy(),
                scratch,
                seed=9,
                stream=40,
            )[0]
        )

    # A unit within a step of its kink would spoil the comparison; with this seed none is.
    np.testing.assert_allclose(grads, numerical_gradient(loss, case.params), rtol=1e-6, atol=1e-7)


@given(cases(), st.data())
def test_bits_do_not_depend_on_instruction_set_threads_or_layout(case: Case, data: st.DataObject) -> None:
    with use_isa("scalar"), use_num_threads(1):
        expected = case.loss_and_grads()
    for name in nc.available_isas():
        for threads in (1, 3):
            with use_isa(name), use_num_threads(threads):
                assert_same_bits(case.loss_and_grads(), expected, name)
    case.x = apply_layout(
        case.x,
        data.draw(layouts(("every_other_column", "fortran", "reversed_rows", "byte_swapped"))),
    )
    assert_same_bits(case.loss_and_grads(), expected, "layout")


@given(cases(), st.integers(1, 8))
def test_forward_rows_may_be_cut_anywhere(case: Case, cut: int) -> None:
    def forward(x: Any) -> Any:
        out = np.empty((len(x), case.network.sizes[-1]), case.params.dtype)
        case.network.forward(x, case.params, case.buffers, out)
        return out

    cut = min(cut, len(case.x))
    assert_same_bits(np.concatenate([forward(case.x[:cut]), forward(case.x[cut:])]), forward(case.x))


@given(
    SIZES,
    NORMS,
    st.sampled_from(ACTIVATIONS),
    dtypes(),
    st.sampled_from([None, 0.02]),
    st.integers(0, 2**64 - 1),
)
def test_initialisation(
    sizes: tuple[int, ...], norm: str | None, activation: Any, dtype: Any, scale: float | None, seed: int
) -> None:
    network = nc.Network(sizes, norm=norm, activation=activation, dtype=dtype.name)
    params = np.full(network.parameter_count, np.nan, dtype)
    buffers = np.full(network.buffer_count, np.nan, dtype)
    network.initialize(params, buffers, seed=seed, stream=7, weight_scale=scale)
    for name, layer, offset, rows, columns in network.segments():
        piece = (buffers if name.startswith("running") else params)[offset : offset + rows * columns]
        if name == "w":
            fan = rows + columns if activation in ("tanh", "logistic") else rows
            deviation = np.sqrt(2 / fan) if scale is None else scale
            exact = reference.random_normal(piece.size, seed=seed, stream=7 + layer, scale=deviation, dtype=dtype)
            np.testing.assert_allclose(piece, exact.astype(float), rtol=16 * float(np.finfo(dtype).eps))
        else:
            wanted = {
                "b": 0,
                "beta": 0,
                "gamma": 1,
                "running_mean": 0,
                "running_var": 1,
            }[name]
            np.testing.assert_array_equal(piece, wanted)


@given(SIZES, NORMS)
def test_segments_tile_the_arrays(sizes: tuple[int, ...], norm: str | None) -> None:
    network = nc.Network(sizes, norm=norm)
    for count, kinds in (
        (network.parameter_count, ("w", "b", "gamma", "beta")),
        (network.buffer_count, ("running_mean", "running_var")),
    ):
        spans = sorted(
            (offset, rows * columns) for name, _, offset, rows, columns in network.segments() if name in kinds
        )
        assert all(size > 0 for _, size in spans)
        ends = [0, *(offset + size for offset, size in spans)]
        assert all(offset >= end for (offset, _), end in zip(spans, ends, strict=False))
        assert ends[-1] <= count
    shapes = {(name, layer): (rows, columns) for name, layer, _, rows, columns in network.segments()}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        assert shapes["w", layer] == (inputs, outputs)
        assert shapes["b", layer] == (1, outputs)
        hidden = layer < len(sizes) - 2
        assert (("gamma", layer) in shapes) == (hidden and norm is not None)
        assert (("running_var", layer) in shapes) == (hidden and norm == "batch")
