"""Numbers are judged as they are used, rounded to the dtype. Errors name argument and limit, and nothing is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import normcore as nc

F32 = np.float32
# Doubles from which on rounding to float32 gives infinity, 1, and, downwards, 0; their neighbours on the good side.
INFINITE, ONE, ZERO = (2 - 2.0**-24) * 2.0**127, 1 - 2.0**-25, 2.0**-150
FINITE, BELOW_ONE, NOT_ZERO = np.nextafter(INFINITE, 0), np.nextafter(ONE, 0), np.nextafter(ZERO, 1)


def update(dtype: Any, optimizer: str = "adam", **options: float) -> None:
    p, g = np.ones(2, dtype), np.zeros(2, dtype)
    slots = [np.zeros(2, dtype) if optimizer == "adam" else None for _ in range(2)]
    before = p.copy()
    try:
        nc.optimizer_update(optimizer, p, g, *slots, **{"learning_rate": 0.1, **options})
    except ValueError:
        np.testing.assert_array_equal(p, before)
        raise


@pytest.mark.parametrize(
    ("bad", "good", "message"),
    [
        ({"learning_rate": INFINITE}, {"learning_rate": FINITE}, r"learning_rate is .*finite in float32, at most 3\.4"),
        ({"l2": INFINITE}, {"l2": FINITE}, r"l2 is .*finite in float32"),
        ({"eps": INFINITE}, {"eps": FINITE}, r"eps is .*finite in float32"),
        ({"gradient_scale": -INFINITE}, {"gradient_scale": -FINITE}, r"gradient_scale is .*finite in float32"),
        ({"eps": ZERO}, {"eps": NOT_ZERO}, r"eps is .*which is 0 in float32"),
        ({"l2": ZERO}, {"l2": NOT_ZERO}, r"l2 is .*which is 0 in float32"),
        ({"gradient_scale": -ZERO}, {"gradient_scale": -NOT_ZERO}, r"gradient_scale is .*which is 0 in float32"),
        ({"momentum": ONE}, {"momentum": BELOW_ONE}, r"momentum is .*which is 1 in float32; .*\[0, 1\)"),
        ({"decay_rate": ONE}, {"decay_rate": BELOW_ONE}, r"decay_rate is .*which is 1 in float32"),
        ({"beta1": ONE}, {"beta1": BELOW_ONE}, r"beta1 is .*which is 1 in float32"),
        ({"beta2": ONE}, {"beta2": BELOW_ONE}, r"beta2 is .*which is 1 in float32"),
        (
            {"learning_rate": 1e20, "weight_decay": 1e20},
            {"learning_rate": 1e19, "weight_decay": 1e19},
            r"learning_rate \* weight_decay is 1e\+40; it must be finite in float32",
        ),
    ],
)
def test_an_optimizers_numbers_are_judged_in_its_dtype(bad: Any, good: Any, message: str) -> None:
    for optimizer in ("sgd", "adam"):
        with pytest.raises(ValueError, match=rf"optimizer_update: {message}"):
            update(F32, optimizer, **bad)
    update(F32, "sgd", **good)
    update(np.float64, "sgd", **bad)


def test_a_rate_divided_by_adam_must_fit_too() -> None:
    with pytest.raises(ValueError, match=r"learning_rate / \(1 - beta1\) is 1\..*e\+39"):
        update(F32, "adam", learning_rate=1e38, beta1=0.9)
    with pytest.raises(ValueError, match=r"learning_rate / \(1 - beta1\) is inf; it must be finite in float64"):
        update(np.float64, "adam", learning_rate=1e308, beta1=0.9)
    update(F32, "sgd", learning_rate=1e38)


def test_a_rate_that_falls_to_zero_moves_nothing() -> None:
    update(F32, learning_rate=1e-60)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "message"),
    [
        (-1e39, 0, "float32", r"low is -1e\+39; it must be finite in float32, at most 3\.4028235e\+38"),
        (0, 1e39, "float32", r"high is 1e\+39; it must be finite in float32"),
        (-2e38, 2e38, "float32", r"high - low is 4e\+38; it must be finite in float32"),
        (-1e308, 1e308, "float64", r"high - low is inf; it must be finite in float64, at most 1\.7976931e\+308"),
        (2, 1, "float64", r"high is 1, which is less than low, 2"),
    ],
)
def test_a_uniform_range_that_does_not_fit_is_named(low: float, high: float, dtype: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"random_uniform: {message}"):
        nc.random_uniform(3, seed=1, low=low, high=high, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        nc.Generator(1).uniform(3, low, high, dtype)


@pytest.mark.parametrize(
    ("mean", "scale", "dtype", "message"),
    [
        (1e39, 1, "float32", r"mean is 1e\+39; it must be finite in float32, at most 3\.4"),
        (
            0,
            1e38,
            "float32",
            r"scale is 1e\+38; values of up to 9 times it must be finite in float32.* at most 3\.7809",
        ),
        (3.3e38, 1e37, "float32", r"scale is 1e\+37; values of up to 9 times it beside the mean .* at most 1\.14"),
        (0, 1e308, "float64", r"scale is 1e\+308; .*float64"),
    ],
)
def test_a_normal_scale_that_does_not_fit_is_named(mean: float, scale: float, dtype: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"random_normal: {message}"):
        nc.random_normal(3, seed=1, mean=mean, scale=scale, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        nc.Generator(1).normal(3, mean, scale, dtype)


def test_a_models_numbers() -> None:
    with pytest.raises(ValueError, match=r"MLP: weight_scale is 1e\+38; .*float32"):
        nc.MLP([3, 2], weight_scale=1e38)
    nc.MLP([3, 2], weight_scale=1e38, dtype="float64")
    with pytest.raises(ValueError, match=r"MLP: dropout is .*at most 1 - 2\*\*-32"):
        nc.MLP([3, 4, 2], dropout=1 - 2.0**-33)
    nc.MLP([3, 4, 2], dropout=1 - 2.0**-32)
    model = nc.MLP([3, 1])  # which may have another loss; see test_description.py
    with pytest.raises(ValueError, match=r"MLP.loss_and_grads: .*one output.* use two"):
        model.loss_and_grads(np.zeros((4, 3)), np.zeros(4, int))


@pytest.mark.parametrize("labels", [np.zeros(4, int), np.zeros((4, 1))])
def test_the_loss_of_one_class_is_refused(labels: Any) -> None:
    with pytest.raises(ValueError, match=r"softmax_cross_entropy: there is one output, .* use two"):
        nc.softmax_cross_entropy(np.zeros((4, 1)), labels)


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weights_too_large_are_refused(dtype: Any, reduction: Any) -> None:
    z, y = np.zeros((4, 3), dtype), np.array([0, 1, 2, 0])
    limit = float(np.finfo(F32).max) if dtype == F32 else 2.0**958
    loss, dlogits, weight_sum = nc.softmax_cross_entropy(z, y, sample_weight=[limit] * 4, reduction=reduction)
    assert weight_sum == 4 * limit
    assert np.isfinite(loss)
    assert np.isfinite(dlogits).all()
    with pytest.raises(ValueError, match=r"the greatest sample_weight is .*2\*\*960"):
        nc.softmax_cross_entropy(z, y, sample_weight=[1, 1, 1, 1.001 * limit], reduction=reduction)
    with pytest.raises(ValueError, match=r"the greatest class_weight times the greatest sample_weight is 2\.0 \* "):
        nc.softmax_cross_entropy(z, y, sample_weight=[0.6 * limit] * 4, class_weight={1: 2.0}, reduction=reduction)


@pytest.mark.parametrize("soft", [False, True])
def test_weights_too_small_for_a_mean_are_refused(soft: bool) -> None:
    z, y = np.array([[1.0, 2.0], [3.0, 0.5]]), np.array([0, 1])
    targets = np.eye(2)[y] if soft else y
    want = nc.softmax_cross_entropy(z[:1], targets[:1])[0]
    loss, gradient, _ = nc.softmax_cross_entropy(z, targets, sample_weight=[2.0**-960, 5e-324])
    assert loss == want
    np.testing.assert_array_equal(gradient[0], nc.softmax_cross_entropy(z[:1], targets[:1])[1][0])
    match = r"row 1, sum to less than 2\*\*-960, too little for a mean; scale sample_weight up"
    for small in (2.0**-961, 5e-324):
        with pytest.raises(ValueError, match=match):
            nc.softmax_cross_entropy(z, targets, sample_weight=[0, small])
        nc.softmax_cross_entropy(z, targets, sample_weight=[0, small], reduction="sum")
    model = nc.MLP([2, 2], dtype="float64")
    with pytest.raises(ValueError, match=match):
        model.loss_and_grads(z, targets, sample_weight=[0, 5e-324])
    if not soft:
        with pytest.raises(ValueError, match="scale class_weight up"):
            nc.softmax_cross_entropy(z, y, class_weight=[5e-324, 5e-324])
    assert nc.softmax_cross_entropy(z, targets, sample_weight=[0, 0])[0] == 0


def test_class_weights_are_mappings_everywhere() -> None:
    X = np.random.default_rng(0).normal(size=(9, 3)).astype(F32)
    y = np.arange(9) % 3
    weights = [1.0, 2.5, 1.0]
    model = nc.MLP([3, 3], seed=1)
    for mapping in ({1: 2.5}, {np.int64(1): np.float32(2.5), True: 2.5}, {0: 1, 1: 2.5, 2: 1}):
        assert (
            model.loss_and_grads(X, y, class_weight=mapping)[0] == model.loss_and_grads(X, y, class_weight=weights)[0]
        )
        trainer = nc.Trainer(model, class_weight=mapping, progress=False)
        assert trainer.class_weight is not None
        assert trainer.class_weight.tolist() == weights
    for call in (
        lambda weight: model.loss_and_grads(X, y, class_weight=weight),
        lambda weight: nc.Trainer(model, class_weight=weight),
        lambda weight: nc.softmax_cross_entropy(X, y, class_weight=weight),
    ):
        with pytest.raises(ValueError, match=r": class_weight has the class 3; classes are in \[0, 3\)"):
            call({3: 1.0})
        with pytest.raises(TypeError, match=r": class_weight has the key 'cat'; keys must be class indices"):
            call({"cat": 1.0})
        with pytest.raises(ValueError, match=r": class_weight\[2\] is -1; it must be finite and not negative"):
            call({2: -1})
        with pytest.raises(TypeError, match=r"class_weight is "):
            call("even")


# ---------------------------------------------------------------- batch norm


@pytest.mark.parametrize("training", [False, True])
def test_a_negative_running_variance_is_refused(training: bool) -> None:
    x, mean, var = np.ones((4, 2)), np.zeros(2), np.array([1.0, -0.5])
    with pytest.raises(ValueError, match=r"batch_norm_forward: running_var\[1\] is -0\.5"):
        nc.batch_norm_forward(x, np.ones(2), np.zeros(2), mean, var, training=training)
    assert (var == [1, -0.5]).all()
    assert not mean.any()
    nc.batch_norm_forward(x, np.ones(2), np.zeros(2), mean, np.array([-0.0, np.nan]), training=training)


def test_a_model_of_a_negative_running_variance_is_refused() -> None:
    model = nc.MLP([3, 4, 5, 2], norm="batch")
    X, y = np.ones((4, 3), F32), np.zeros(4, int)
    model.buffers()["running_var2"][3] = -1
    before = model.buffers_flat.copy()
    with pytest.raises(ValueError, match=r"MLP\.predict: running_var2\[3\] is -1\.0"):
        model.predict(X)
    with pytest.raises(ValueError, match=r"MLP\.loss_and_grads: running_var2\[3\] is -1\.0"):
        model.loss_and_grads(X, y)
    np.testing.assert_array_equal(model.buffers_flat, before)


def test_one_row_does_not_train_batch_norm() -> None:
    model = nc.MLP([3, 4, 2], norm="batch")
    before = model.buffers_flat.copy()
    for call, name in ((model.loss_and_grads, "MLP.loss_and_grads"), (nc.Trainer(model).step, "Trainer.step")):
        with pytest.raises(ValueError, match=rf"{name}: X has one row; batch norm needs at least two"):
            call(np.ones((1, 3), F32), [0])
    np.testing.assert_array_equal(model.buffers_flat, before)
    nc.MLP([3, 4, 2], norm="layer").loss_and_grads(np.ones((1, 3), F32), [0])
