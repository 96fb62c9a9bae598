"""What a model knows of its data: scale, names and loss; and what it shows of itself."""

from __future__ import annotations

import copy
import hashlib
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore import MLP, Generator, Trainer, losses
from normcore.testing import numerical_gradient

MEAN, SCALE = [10.0, -0.1, 3e5], [0.5, 1e-3, 2e4]


def raw_rows(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return Generator(seed).normal((*shape, 3)) * SCALE + MEAN


def pair(dtype: str = "float32", norm: Any = "batch", **options: Any) -> tuple[MLP, MLP]:
    """The same network, once with the scale and once without."""
    models = [
        MLP([3, 5, 2], norm=norm, dtype=dtype, seed=4, **options, **scale)
        for scale in ({"feature_mean": MEAN, "feature_scale": SCALE}, {})
    ]
    for model in models:
        model.parameters_flat[...] = Generator(2).normal(model.parameters_flat.size, dtype=dtype)
        model.buffers_flat[...] = Generator(3).uniform(model.buffers_flat.size, 0.5, 2.0, dtype=dtype)
    return models[0], models[1]


def scaled(X: np.ndarray, dtype: str) -> np.ndarray:
    """The formula, in double, rounded once."""
    return ((X.astype(np.float64) - np.array(MEAN)) / np.array(SCALE)).astype(dtype)


# ---------------------------------------------------------------------- the scale


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given_as", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (4, 7), (30_000,), (0,)])
def test_every_method_takes_raw_rows(dtype: str, given_as: str, shape: tuple[int, ...]) -> None:
    model, plain = pair(dtype)
    X = raw_rows(shape).astype(given_as)
    Z = scaled(X, dtype)
    for layout in (X, np.asfortranarray(X), np.repeat(X, 2, axis=-1)[..., ::2]):
        assert model.forward(layout).tobytes() == plain.forward(Z).tobytes()
    assert model.predict_proba(X).tobytes() == plain.predict_proba(Z).tobytes()
    assert model.predict(X).tobytes() == plain.predict(Z).tobytes()
    out = np.empty((*shape, 2), dtype)
    assert model.forward(X, out=out) is out
    assert out.tobytes() == plain.forward(Z).tobytes()
    if not all(shape):
        return
    y = Generator(5).integers(2, shape)
    assert model.score(X, y) == plain.score(Z, y)
    if shape == (1,):
        return
    assert model.loss_and_grads(X, y)[0] == plain.loss_and_grads(Z, y)[0]
    assert model.gradients_flat.tobytes() == plain.gradients_flat.tobytes()
    assert model.forward_training(X).tobytes() == plain.forward_training(Z).tobytes()
    inside, expected = model.activations(X, training=True), plain.activations(Z, training=True)
    assert all(array.tobytes() == expected[name].tobytes() for name, array in inside.items())
    model.backward(out)
    plain.backward(out)
    assert model.gradients_flat.tobytes() == plain.gradients_flat.tobytes()
    assert model.digest() == plain.digest()


@given(st.integers(0, 40), st.integers(0, 40))
def test_rows_are_scaled_each_by_itself(first: int, second: int) -> None:
    model, _ = pair()
    X = raw_rows((40,))
    begin, end = sorted((first, second))
    assert model.forward(X[begin:end]).tobytes() == model.forward(X)[begin:end].tobytes()


def test_a_trainer_sees_what_predict_sees() -> None:
    X, y = raw_rows((90,)), Generator(6).integers(2, 90)
    model, plain = pair(dropout=0.2)
    Z = scaled(X, "float32")
    options: dict[str, Any] = {"epochs": 3, "batch_size": 20, "progress": False, "restore_best": True}
    trainers = [Trainer(m, **options) for m in (model, plain)]
    for trainer, rows in zip(trainers, (X, Z), strict=True):
        trainer.fit(rows[:70], y[:70], validation_data=(rows[70:], y[70:]))
        trainer.step(rows[:9], y[:9])
    assert trainers[0].history == trainers[1].history
    assert model.digest() == plain.digest()
    X[2, 1] = 1e300
    with pytest.raises(ValueError, match=r"Trainer.fit: X\[2, 1\] is 1e\+300, too far from the mean of its feature"):
        trainers[0].fit(X, y)
    with pytest.raises(ValueError, match=r"Trainer.step: X\[2, 1\] is 1e\+300, too far from the mean"):
        trainers[0].step(X, y)


def test_the_gradient_of_raw_rows() -> None:
    model, plain = pair("float64", "layer")
    X, T = raw_rows((4,)), Generator(7).normal((4, 2))
    dx = np.empty_like(X)
    model.backward(2 * (model.forward_training(X) - T), dx=dx)
    dz = np.empty_like(X)
    plain.backward(2 * (plain.forward_training(scaled(X, "float64")) - T), dx=dz)
    assert dx.tobytes() == (dz / SCALE).tobytes()
    found = numerical_gradient(lambda x: float(((model.forward(x * SCALE + MEAN) - T) ** 2).sum()), (X - MEAN) / SCALE)
    np.testing.assert_allclose(dz, found, rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("error")
def test_values_that_do_not_fit_the_scale() -> None:
    model, _ = pair()
    X = raw_rows((2, 50_000))
    X[1, 40_000, 2] = -1e300
    with pytest.raises(ValueError, match=r"^MLP\.forward: X\[1, 40000, 2\] is -1e\+300, too far from the mean of its "):
        model.forward(X)
    with pytest.raises(ValueError, match=r"^MLP\.predict: X\[0, 1\] is 1.7e\+308, too far .*, -0.1, for float64"):
        pair("float64")[0].predict([[0.0, 1.7e308, 0.0]])
    # What is infinite or NaN is so afterwards.
    assert np.isnan(model.forward([[np.inf, np.nan, 0.0]])).all()


@pytest.mark.parametrize(
    ("mean", "scale", "error", "message"),
    [
        ([0, 0, 0], None, TypeError, "feature_mean needs feature_scale"),
        (None, [1, 1, 1], TypeError, "feature_scale needs feature_mean"),
        ([0, 0], [1, 1, 1], ValueError, r"feature_mean is \(2,\); it must be \(3,\)"),
        ([0, 0, 0], 1.0, ValueError, r"feature_scale is \(\); it must be \(3,\)"),
        ([0, np.inf, 0], [1, 1, 1], ValueError, r"feature_mean\[1\] is inf; it must be finite$"),
        ([0, 0, 0], [1, 1, 0], ValueError, r"feature_scale\[2\] is 0.0; it must be finite and greater than 0"),
        ([0, 0, 0], [1, np.nan, 0], ValueError, r"feature_scale\[1\] is nan"),
        ([0, 0, 0], [np.inf, 1, 1], ValueError, r"feature_scale\[0\] is inf"),
        (["a", "b", "c"], [1, 1, 1], TypeError, "feature_mean is str.*; it must be numbers"),
        (np.ma.zeros(3), [1, 1, 1], TypeError, "feature_mean is float64; it must be numbers, and not masked"),
    ],
)
def test_wrong_scales(mean: Any, scale: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^MLP: {message}"):
        MLP([3, 2], feature_mean=mean, feature_scale=scale)


def test_the_scale_is_the_models_own() -> None:
    mean, scale = np.array(MEAN), np.array(SCALE)
    model = MLP([3, 2], feature_mean=mean, feature_scale=scale)
    X = raw_rows((5,))
    before = model.forward(X)
    for array in (mean, scale, model.feature_mean, model.feature_scale):
        assert array is not None
        array[...] = 7
    assert model.forward(X).tobytes() == before.tobytes()
    with pytest.raises(AttributeError):
        model.feature_mean = mean  # type: ignore[misc]
    for other in (model.copy(), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.forward(X).tobytes() == before.tobytes()
        assert other.config() == model.config()
    assert MLP([3, 2]).feature_mean is MLP([3, 2]).feature_scale is None


# ---------------------------------------------------------------------- names


def test_names() -> None:
    model = MLP([3, 2], feature_names=np.array(["a", "b", "c"]), class_names=("no", "yes"))
    assert model.feature_names == ("a", "b", "c")
    assert all(type(name) is str for name in model.feature_names)
    assert model.class_names == ("no", "yes")
    assert MLP.from_config(model.config()).class_names == ("no", "yes")
    assert MLP([3, 2]).feature_names is MLP([3, 2]).class_names is None


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["a", "b"], ValueError, "feature_names has 2 names; it must have 3"),
        (["a", "b", "a"], ValueError, "feature_names has 'a' twice"),
        (["a", "b", 3], TypeError, r"feature_names\[2\] is 3; it must be a str"),
        ("abc", TypeError, "feature_names is 'abc'; it must be a sequence of 3 names"),
        (7, TypeError, "feature_names is 7"),
    ],
)
def test_wrong_names(names: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^MLP: {message}"):
        MLP([3, 2], feature_names=names)
    with pytest.raises(error, match=r"^MLP: class_names"):
        MLP([2, 3], class_names=names)


# ---------------------------------------------------------------------- the loss


def test_predictions_follow_the_loss() -> None:
    X, t = raw_rows((12,)), Generator(8).normal((12, 2), dtype="float32")
    outputs = pair()[0].forward(X)
    model = pair(loss="squared_error")[0]
    assert model.predict(X).tobytes() == outputs.tobytes()
    assert model.score(X, outputs) == 1.0
    assert model.score(X, t) == losses.get("squared_error").score(outputs, t)
    weight = np.arange(12.0)
    assert model.score(X, t, sample_weight=weight) == losses.get("squared_error").score(outputs, t, weight)
    with pytest.raises(TypeError, match="the loss is squared_error, which predicts numbers"):
        model.predict_proba(X)
    with pytest.raises(ValueError, match=r"MLP.score: y is int64 \(12,\)"):
        model.score(X, np.zeros(12, int))

    model.loss = "logistic"  # type: ignore[assignment]
    assert model.predict(X).tolist() == (outputs > 0).tolist()
    assert model.score(X, (outputs > 0).astype(int)) == 1.0
    model.loss = losses.huber(delta=2.0)
    assert MLP.from_config(model.config()).loss == losses.huber(delta=2.0)
    assert "loss=losses.huber(delta=2.0)" in repr(model)
    with pytest.raises(ValueError, match="there is no loss 'odd'"):
        model.loss = "odd"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="there is no loss 'odd'"):
        MLP([3, 2], loss="odd")
    with pytest.raises(TypeError, match="a loss is a name"):
        MLP([3, 2], loss=3)  # type: ignore[arg-type]


def test_one_output() -> None:
    """A network may have one; the softmax over it says nothing."""
    model, X = MLP([3, 1]), raw_rows((4,))
    assert model.forward(X).shape == (4, 1)
    for method, *more in ((model.predict,), (model.predict_proba,), (model.score, np.zeros(4, int))):
        with pytest.raises(ValueError, match=r"^MLP\.\w+: the model has one output, .* use two, .*'logistic'"):
            method(X, *more)  # type: ignore[operator]
    model.loss = "squared_error"  # type: ignore[assignment]
    assert model.predict(X).shape == (4,)
    assert model.score(X, model.predict(X)) == 1.0


# ---------------------------------------------------------------------- seen from outside


def test_the_digest_is_that_of_the_arrays() -> None:
    for dtype in ("float32", "float64"):
        model, plain = pair(dtype)
        arrays = [*model.parameters().values(), *model.buffers().values()]
        content = b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays)
        assert model.digest() == hashlib.sha256(content).hexdigest() == plain.digest()
        model.buffers()["running_mean1"][0] += 1
        assert model.digest() != plain.digest()


SUMMARY = """
layer  operation   outputs  parameters  arrays
1      affine           50       3,250  w1 (64, 50), b1 (50,)
       batch norm       50         100  gamma1 (50,), beta1 (50,), running_mean1 (50,), running_var1 (50,)
       relu             50
       dropout 0.1      50
2      affine           10         510  w2 (50, 10), b2 (10,)
64 features as they are; loss cross_entropy; 3,860 parameters, 100 running statistics, 15,840 bytes of float32
"""


def test_summary() -> None:
    found = MLP([64, 50, 10], norm="batch", dropout=0.1).summary()
    assert found.split() == SUMMARY.split()
    assert [len(line) - len(line.lstrip()) for line in found.splitlines()] == [0, 0, 7, 7, 7, 0, 0]
    plain = MLP([2, 3, 3, 1], loss=losses.quantile(0.9), feature_mean=[0, 0], feature_scale=[1, 1], dtype="float64")
    lines = plain.summary().splitlines()
    assert [line.split()[:2] for line in lines[1:-1]] == [
        ["1", "affine"], ["relu", "3"], ["2", "affine"], ["relu", "3"], ["3", "affine"],
    ]  # fmt: skip
    assert lines[-1] == (
        "2 features, scaled; loss quantile(tau=0.9); 25 parameters, 0 running statistics, 200 bytes of float64"
    )
    assert "layer norm" in MLP([2, 3, 2], norm="layer").summary()
    assert "silu" in MLP([2, 3, 2], activation="silu").summary()
