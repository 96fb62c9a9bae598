"""What is measured inside a model: against plain NumPy, and without a trace left in the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normcore as nc
from normcore import diagnostics
from normcore.testing import numerical_gradient

ROWS = 40
X = nc.random_normal(ROWS * 3, seed=0).reshape(ROWS, 3)
LABELS = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
NORMS = (None, "batch", "layer")


def model_of(norm: Any = None, **options: Any) -> nc.MLP:
    return nc.MLP([3, 8, 6, 2], norm=norm, **{"seed": 1, "dtype": "float64", **options})


def state_of(model: nc.MLP) -> bytes:
    arrays = (model.parameters_flat, model.buffers_flat, model.gradients_flat)
    return b"".join(array.tobytes() for array in arrays)


MEASURES: dict[str, Callable[[nc.MLP], Any]] = {
    "layer_inputs": lambda model: diagnostics.layer_inputs(model, X),
    "activation_inputs": lambda model: diagnostics.activation_inputs(model, X),
    "dead_units": lambda model: diagnostics.dead_units(model, X),
    "statistics_drift": lambda model: diagnostics.statistics_drift(model, X),
    "weight_norms": diagnostics.weight_norms,
    "update_ratios": lambda model: diagnostics.update_ratios(model, model),
    "gradient_norms": lambda model: diagnostics.gradient_norms(model, X, LABELS),
    "loss_along_gradient": lambda model: diagnostics.loss_along_gradient(model, X, LABELS, [0.1, 1e300]),
}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_model_stays_as_it_is(name: str, dropout: float) -> None:
    model = model_of("batch", dropout=dropout)
    model.loss_and_grads(X, LABELS)
    outputs = model.forward_training(X)
    before = state_of(model)
    assert any(model.gradients_flat)
    MEASURES[name](model)
    assert state_of(model) == before
    model.backward(np.ones_like(outputs))  # what it keeps of a training pass is still there


# ---------------------------------------------------------------------------------------------- distributions


@given(st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=60), st.integers(1, 40))
def test_distribution(values: list[float], bins: int) -> None:
    found = diagnostics.distribution(values, bins=bins)
    array = np.array(values)
    assert math.isclose(found.mean, math.fsum(values) / len(values), abs_tol=1e-6)
    assert math.isclose(found.std, math.sqrt(max(np.mean((array - found.mean) ** 2), 0.0)), abs_tol=1e-6)
    assert found.quantiles.shape == (len(diagnostics.QUANTILES),)
    assert np.all(np.diff(found.quantiles) >= -1e-9)
    assert np.allclose(found.quantiles, np.quantile(array, diagnostics.QUANTILES), rtol=1e-9, atol=1e-9)
    assert np.array_equal(found.counts, np.histogram(array, found.edges)[0])
    assert found.counts.sum() == len(values)
    assert found.counts.shape == (bins,)
    assert found.edges.shape == (bins + 1,)
    assert np.all(np.diff(found.edges) > 0)
    assert found.edges[0] <= array.min() <= array.max() <= found.edges[-1]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e308])
def test_distribution_of_what_is_not_finite(bad: float) -> None:
    found = diagnostics.distribution([1.0, bad, 3.0], bins=2)
    assert math.isnan(found.mean)
    assert math.isnan(found.std)
    assert np.isnan(found.quantiles).all()
    assert found.counts.tolist() == [1, 1]
    assert diagnostics.distribution([bad]).counts.sum() == 0


@pytest.mark.parametrize("value", [0.0, 1.0, -1e20, 1e149, 5e-324])
def test_distribution_of_one_value(value: float) -> None:
    found = diagnostics.distribution([value, np.nextafter(value, 2 * value), value])
    assert found.counts.sum() == 3
    assert np.all(np.diff(found.edges) > 0)


def test_distribution_refuses() -> None:
    with pytest.raises(TypeError, match=r"^distribution: values are complex128; they must be real numbers"):
        diagnostics.distribution([1j])
    with pytest.raises(ValueError, match=r"^distribution: values is \(0,\); it must have at least one element"):
        diagnostics.distribution([])
    with pytest.raises(ValueError, match=r"^distribution: bins is 0; it must be at least 1"):
        diagnostics.distribution([1.0], bins=0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_inputs_of_layers_and_activations(norm: Any, training: bool, dropout: float) -> None:
    mean, scale = [1.0, 2.0, 3.0], [2.0, 1.0, 4.0]
    model = model_of(norm, dropout=dropout, feature_mean=mean, feature_scale=scale)
    inputs = diagnostics.layer_inputs(model, X, training=training, seed=5)
    seen = diagnostics.activation_inputs(model, X, training=training, seed=5)
    assert np.allclose(inputs[0], (X - mean) / scale)
    assert [array.shape for array in inputs] == [(ROWS, 3), (ROWS, 8), (ROWS, 6)]
    parameters = model.parameters()
    for layer, (given_, before) in enumerate(zip(inputs, seen, strict=False), 1):
        affine = given_ @ parameters[f"w{layer}"] + parameters[f"b{layer}"]
        if norm is None:
            assert np.allclose(before, affine)
        elif norm == "batch" and not training:
            running = (model.buffers()[f"running_{name}{layer}"] for name in ("mean", "var"))
            centre, variance = running
            assert np.allclose(before, (affine - centre) / np.sqrt(variance + 1e-5))
        else:
            axis = 0 if norm == "batch" else 1
            centred = affine - affine.mean(axis, keepdims=True)
            assert np.allclose(before, centred / np.sqrt(affine.var(axis, keepdims=True) + 1e-5))
        after = np.maximum(before, 0.0)
        kept = inputs[layer] != 0.0 if training and dropout else np.ones_like(after, dtype=bool)
        assert np.allclose(inputs[layer][kept], after[kept] / (1.0 - dropout if training else 1.0))


def test_distribution_shift() -> None:
    draw = np.random.default_rng(0)
    before = draw.normal(size=(50, 4))
    assert diagnostics.distribution_shift(before, draw.permuted(before, axis=0)) == 0.0
    moved = before + np.array([0.0, 1.0, -2.0, 0.0])
    assert math.isclose(diagnostics.distribution_shift(before, moved), 0.75 / before.std())
    assert math.isnan(diagnostics.distribution_shift(np.ones((2, 2)), before[:2, :2]))
    with pytest.raises(ValueError, match=r"^distribution_shift: before is \(50, 4\) and after \(4,\); both must be"):
        diagnostics.distribution_shift(before, before[0])


# ---------------------------------------------------------------------------------------------- units and statistics


@pytest.mark.parametrize("activation", ["relu", "relu6", "tanh", "leaky_relu", "silu", "logistic"])
@pytest.mark.parametrize("norm", NORMS)
def test_dead_units(activation: Any, norm: Any) -> None:
    model = model_of(norm, activation=activation, dropout=0.5)
    shift = model.parameters()["b1" if norm is None else "beta1"]
    before = diagnostics.dead_units(model, X)
    shift[:2] = -1000.0
    found = diagnostics.dead_units(model, X)
    # Leaky ReLU's slope never is 0; tanh and the logistic function round to their limits there, and SiLU to 0.
    assert found[0] == (before[0] if activation == "leaky_relu" else 0.25)
    assert np.all((found >= 0.0) & (found <= 1.0))


def test_dead_units_are_those_without_a_gradient() -> None:
    model = nc.MLP([3, 60, 2], seed=4, dtype="float64")
    model.parameters()["b1"][...] = -2.5
    _, gradients = model.loss_and_grads(X, LABELS)
    assert 0.1 < diagnostics.dead_units(model, X)[0] < 0.9
    assert diagnostics.dead_units(model, X)[0] == np.mean(gradients["b1"] == 0.0)


def test_statistics_drift() -> None:
    model = model_of("batch", momentum=0.0, dropout=0.3)
    model.forward_training(X)
    found = diagnostics.statistics_drift(model, X)
    assert found.mean.shape == found.std.shape == (2,)
    assert found.mean[0] < 1e-12  # the first layer, before which nothing is dropped
    assert found.std[0] < 1e-12
    affine = X @ model.parameters()["w1"] + model.parameters()["b1"]
    model.buffers()["running_mean1"][...] += 3.0 * np.sqrt(affine.var(axis=0) + 1e-5)
    model.buffers()["running_var1"][...] = 4.0 * (affine.var(axis=0) + 1e-5) - 1e-5
    moved = diagnostics.statistics_drift(model, X)
    assert math.isclose(moved.mean[0], 3.0)
    assert math.isclose(moved.std[0], 1.0)
    with pytest.raises(ValueError, match=r"^statistics_drift: the model has norm='layer'; only batch norm has"):
        diagnostics.statistics_drift(model_of("layer"), X)


# ---------------------------------------------------------------------------------------------- weights and gradients


def test_norms_and_ratios() -> None:
    model = model_of("batch", dtype="float32")
    weights = [model.parameters()[f"w{layer}"].astype(np.float64) for layer in (1, 2, 3)]
    assert np.allclose(diagnostics.weight_norms(model), [np.sqrt((w**2).sum()) for w in weights])
    before = model.parameters_flat.copy()
    model.parameters()["w2"][0, 0] += 1.0
    assert np.allclose(diagnostics.update_ratios(before, model), [0.0, 1.0 / np.linalg.norm(weights[1]), 0.0])
    assert np.isinf(diagnostics.update_ratios(np.zeros_like(before), model)).all()
    zero = nc.MLP.from_config(model.config())
    assert np.isnan(diagnostics.update_ratios(zero, zero)).all()
    with pytest.raises(ValueError, match=r"^update_ratios: before has \(3,\) parameters and after \(\d+,\)"):
        diagnostics.update_ratios(np.zeros(3), model)


def test_norms_whose_squares_overflow() -> None:
    model = model_of()
    model.parameters()["w1"][...] = 1e200
    assert math.isclose(diagnostics.weight_norms(model)[0], math.sqrt(24) * 1e200)
    model.parameters()["w1"][0, 0] = np.inf
    assert diagnostics.weight_norms(model)[0] == math.inf


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("norm", NORMS)
def test_gradient_norms(norm: Any, loss: str) -> None:
    """By finite differences of the loss in training mode."""
    model = model_of(norm, activation="tanh", loss=loss)
    y: Any = LABELS if loss == "cross_entropy" else np.eye(2)[LABELS]
    found = diagnostics.gradient_norms(model, X, y)
    for layer in (1, 2, 3):
        weights = model.parameters()[f"w{layer}"]

        def value(w: np.ndarray, weights: np.ndarray = weights) -> float:
            kept = weights.copy()
            weights[...] = w
            outputs = model.forward_training(X, update_statistics=False)
            weights[...] = kept
            return float(model.loss(outputs, y)[0])

        gradient = numerical_gradient(value, weights.copy())
        assert math.isclose(found[layer - 1], np.linalg.norm(gradient), rel_tol=1e-5)


def test_gradients_drop_the_units_of_the_seed() -> None:
    model = model_of(dropout=0.5)
    first, again, other = (diagnostics.gradient_norms(model, X, LABELS, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).all()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_loss_along_gradient(norm: Any, normalize: bool) -> None:
    model, steps = model_of(norm), [0.05, 0.5, 3.0]
    line = diagnostics.loss_along_gradient(model, X, LABELS, steps, normalize=normalize)
    loss, _ = model.loss_and_grads(X, LABELS, update_statistics=False)
    gradient = model.gradients_flat.copy()
    assert line.loss == loss
    assert math.isclose(line.gradient_norm, np.linalg.norm(gradient))
    unit = gradient / np.linalg.norm(gradient) if normalize else gradient
    for index, step in enumerate(steps):
        there = model.copy()
        there.parameters_flat[...] -= step * unit
        loss, _ = there.loss_and_grads(X, LABELS, update_statistics=False)
        turned = there.gradients_flat
        assert math.isclose(line.losses[index], loss, rel_tol=1e-9)
        assert math.isclose(line.gradient_distances[index], np.linalg.norm(turned - gradient), rel_tol=1e-6)
        cosine = turned @ gradient / np.linalg.norm(turned) / np.linalg.norm(gradient)
        assert math.isclose(line.cosines[index], cosine, rel_tol=1e-6, abs_tol=1e-9)
    assert line.losses[0] < line.loss
    assert line.loss_range == (min(line.loss, *line.losses), max(line.loss, *line.losses))
    assert math.isclose(line.turn, math.degrees(math.acos(min(line.cosines))))


def test_a_line_that_leaves_the_numbers() -> None:
    line = diagnostics.loss_along_gradient(model_of(dtype="float32"), X, LABELS, [1e-3, 1e30])
    assert math.isfinite(line.losses[0])
    assert not math.isfinite(line.losses[1])
    assert math.isnan(line.loss_range[1]) or line.loss_range[1] == math.inf
    assert "points=2" in repr(line)


# ---------------------------------------------------------------------------------------------- errors


def test_errors_name_the_operation() -> None:
    model = model_of("batch")
    for name in ("layer_inputs", "activation_inputs", "dead_units", "statistics_drift"):
        measure = getattr(diagnostics, name)
        with pytest.raises(ValueError, match=rf"^{name}: X is \(40, 2\) but the model takes 3 features"):
            measure(model, X[:, :2])
        with pytest.raises(ValueError, match=rf"^{name}: X has one row; batch norm needs at least two"):
            measure(model, X[:1])
        with pytest.raises(TypeError, match=rf"^{name}: model is a str; it must be an MLP"):
            measure("model", X)
    for name, arguments in (("gradient_norms", ()), ("loss_along_gradient", ([0.1],))):
        measure = getattr(diagnostics, name)
        with pytest.raises(ValueError, match=rf"^{name}: X is \(0, 3\); it must have at least one row"):
            measure(model, X[:0], LABELS[:0], *arguments)
        with pytest.raises(ValueError, match=rf"^{name}: y is int64 \(3,\) but X has the rows"):
            measure(model, X, LABELS[:3], *arguments)
        with pytest.raises(ValueError, match=rf"^{name}: seed is -1; it must be in \[0, 2\*\*64\)"):
            measure(model, X, LABELS, *arguments, seed=-1)
    for measure in (diagnostics.weight_norms, lambda wrong: diagnostics.update_ratios(X, wrong)):
        with pytest.raises(TypeError, match=r"is a str; it must be an MLP$"):
            measure("model")
    with pytest.raises(TypeError, match=r"^layer_inputs: training is 'yes'; it must be a bool"):
        diagnostics.layer_inputs(model, X, training="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^layer_inputs: X is \(0, 3\); it must have at least one row"):
        diagnostics.layer_inputs(model, X[:0], training=False)


def test_steps_that_are_refused() -> None:
    for steps, error, message in (
        ([], ValueError, r"steps is \(0,\); it must be \(points,\), at least one"),
        (0.1, ValueError, r"steps is \(\); it must be \(points,\)"),
        ([0.1, math.inf], ValueError, r"steps\[1\] is inf; it must be finite"),
        (["0.1"], TypeError, r"steps is \S+; it must be numbers"),
    ):
        with pytest.raises(error, match="^loss_along_gradient: " + message):
            diagnostics.loss_along_gradient(model_of(), X, LABELS, steps)  # type: ignore[arg-type]
