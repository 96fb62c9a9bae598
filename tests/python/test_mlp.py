"""MLP: the public operations put together, its gradients, its labels, its configuration."""

from __future__ import annotations

import copy
import math
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normcore
from normcore import MLP, Generator
from normcore.testing import assert_same_bits, contract, numerical_gradient, use_isa, use_num_threads

NORMS = [None, "batch", "layer"]
ACTIVATIONS = list(normcore._core.ACTIVATIONS)


def random_model(sizes: list[int], seed: int = 3, **options: Any) -> MLP:
    """A model all of whose parameters and running statistics are away from their initial values."""
    model = MLP(sizes, seed=seed, **options)
    rng = Generator(seed, 100)
    for name, array in model.parameters().items():
        noise = rng.normal(array.shape, scale=0.3, dtype=model.dtype)
        array[...] = noise + (1 if name.startswith("gamma") else 0) if array.ndim == 1 else array
    for array in model.buffers().values():
        array[...] = rng.uniform(array.shape, 0.5, 2.0, dtype=model.dtype)
    return model


def batch(model: MLP, rows: int, seed: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = Generator(seed)
    return rng.normal((rows, model.features), dtype=model.dtype), rng.integers(model.outputs, rows)


# ---------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    ("norm", "names", "buffers"),
    [
        (None, ["w1", "b1", "w2", "b2", "w3", "b3"], []),
        ("layer", ["w1", "b1", "gamma1", "beta1", "w2", "b2", "gamma2", "beta2", "w3", "b3"], []),
        (
            "batch",
            ["w1", "b1", "gamma1", "beta1", "w2", "b2", "gamma2", "beta2", "w3", "b3"],
            ["running_mean1", "running_var1", "running_mean2", "running_var2"],
        ),
    ],
)
def test_names_shapes_and_initial_values(norm: Any, names: list[str], buffers: list[str]) -> None:
    model = MLP([5, 4, 3, 2], norm=norm, dtype="float64", weight_scale=0.1)
    parameters = model.parameters()
    assert list(parameters) == names == list(model.gradients())
    assert list(model.buffers()) == buffers
    widths = {"1": (5, 4), "2": (4, 3), "3": (3, 2)}
    for name, array in parameters.items():
        inputs, outputs = widths[name[-1]]
        assert array.shape == ((inputs, outputs) if name.startswith("w") else (outputs,))
        if not name.startswith("w"):
            assert (array == (1.0 if name.startswith("gamma") else 0.0)).all()
    for name, array in model.buffers().items():
        assert (array == (1.0 if name.startswith("running_var") else 0.0)).all()
    for views, flat in (
        (parameters, model.parameters_flat),
        (model.gradients(), model.gradients_flat),
        (model.buffers(), model.buffers_flat),
    ):
        assert sum(array.size for array in views.values()) == flat.size
        assert all(np.shares_memory(array, flat) for array in views.values())
        joined = np.concatenate([array.reshape(-1) for array in views.values()]) if views else flat
        assert joined.tobytes() == flat.tobytes()
    assert [part.stop - part.start for part in model.weight_slices()] == [20, 12, 6]
    model.parameters()["w2"][...] = 7
    assert (model.parameters_flat[model.weight_slices()[1]] == 7).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_initial_weights(activation: Any) -> None:
    sizes = [300, 200, 10]
    for scale in (None, 0.05):
        model = MLP(sizes, activation=activation, weight_scale=scale, seed=42, dtype="float64")
        for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
            fan = inputs + outputs if activation in ("tanh", "logistic") else inputs
            expected = math.sqrt(2 / fan) if scale is None else scale
            weights = model.parameters()[f"w{layer + 1}"]
            drawn = Generator(42, layer).normal(weights.shape, scale=expected)
            assert weights.tobytes() == drawn.tobytes()
    assert not MLP(sizes, weight_scale=0.0).parameters()["w1"].any()


def test_seed() -> None:
    assert MLP([3, 2], seed=1).parameters_flat.tobytes() == MLP([3, 2], seed=np.uint64(1)).parameters_flat.tobytes()
    assert MLP([3, 2], seed=1).parameters_flat.tobytes() != MLP([3, 2], seed=2).parameters_flat.tobytes()


def test_properties_and_repr() -> None:
    model = MLP(np.array([5, 4, 3]), norm="batch", dropout=0.5, weight_scale=0.1, dtype=np.float64)
    assert (model.sizes, model.features, model.outputs, model.layers) == ((5, 4, 3), 5, 3, 2)
    assert (model.norm, model.dropout, model.weight_scale, model.dtype) == ("batch", 0.5, 0.1, np.float64)
    assert model.activation == "relu"
    assert repr(model) == "MLP((5, 4, 3), norm='batch', dropout=0.5, dtype='float64')"
    assert repr(MLP([2, 2])) == "MLP((2, 2), dtype='float32')"
    assert repr(MLP([2, 2], activation="silu")) == "MLP((2, 2), activation='silu', dtype='float32')"
    assert MLP([2, 2], dtype=">f8").dtype.isnative


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sizes": [3]}, ValueError, r"sizes is \[3\]; it needs at least two entries"),
        ({"sizes": []}, ValueError, "at least two"),
        ({"sizes": [3, 0, 2]}, ValueError, r"sizes is \[3, 0, 2\]; each entry must be at least 1"),
        ({"sizes": [3, -1]}, ValueError, "at least 1"),
        ({"sizes": [3, 2.0]}, TypeError, "sizes must be a sequence of integers"),
        ({"sizes": 7}, TypeError, "sizes must be a sequence of integers"),
        ({"norm": "group"}, ValueError, "norm is 'group'; accepted are None, 'batch' and 'layer'"),
        ({"activation": "gelu"}, ValueError, "activation is 'gelu'; accepted are 'relu', .*'silu' and 'relu6'"),
        ({"activation": None}, ValueError, "activation is None; accepted are 'relu'"),
        ({"activation": ["tanh"]}, ValueError, r"activation is \['tanh'\]; accepted are 'relu'"),
        ({"dropout": 1.0}, ValueError, r"dropout is 1.0; it must be in \[0, 1\)"),
        ({"dropout": -0.1}, ValueError, "dropout is -0.1"),
        ({"dropout": math.nan}, ValueError, "dropout is nan"),
        ({"dropout": "half"}, TypeError, "dropout must be a number, not str"),
        ({"weight_scale": -1.0}, ValueError, "weight_scale is -1.0; it must be finite and not negative"),
        ({"weight_scale": math.inf}, ValueError, "weight_scale is inf"),
        ({"norm": np.array([1, 2])}, ValueError, r"norm is array\(\[1, 2\]\); accepted are None, 'batch'"),
        ({"dropout": "0.5"}, TypeError, "dropout must be a number, not str"),
        ({"weight_scale": 10**400}, ValueError, "weight_scale is inf"),
        ({"sizes": [2**40, 2**40]}, ValueError, r"sizes is \[1099511627776, 1099511627776\]: .*overflows"),
        ({"sizes": [2**26, 2**26]}, MemoryError, r"sizes is \[67108864, 67108864\]: no memory for 45035.* parameters"),
        ({"dtype": None}, TypeError, "dtype is None; accepted are float32 and float64"),
        ({"dtype": "foo"}, TypeError, "dtype is 'foo'; accepted are float32 and float64"),
        ({"dtype": "float16"}, TypeError, "dtype is float16; accepted are float32 and float64"),
        ({"dtype": int}, TypeError, "dtype is int64; accepted are float32 and float64"),
        ({"seed": -1}, ValueError, "MLP: seed is -1"),
        ({"seed": 2**64}, ValueError, "MLP: seed is"),
        ({"seed": None}, TypeError, "MLP: seed must be an integer, not NoneType"),
        ({"seed": Generator(1)}, TypeError, "MLP: seed must be an integer, not Generator"),
        ({"rng": 1}, TypeError, "MLP: there is no argument rng; here it is seed"),
        ({"eps": -1e-5}, ValueError, "eps is -1e-05"),
        ({"momentum": 1.5}, ValueError, r"momentum is 1.5; it must be in \[0, 1\]"),
    ],
)
def test_wrong_configurations(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"MLP: .*{message.removeprefix('MLP: ')}"):
        MLP(options.pop("sizes", [3, 2]), **options)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_copies_are_independent(activation: Any) -> None:
    model = random_model([4, 5, 3], norm="batch", activation=activation, dropout=0.25)
    X, y = batch(model, 6)
    for other in (model.copy(), copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.config() == model.config()
        assert other.parameters_flat.tobytes() == model.parameters_flat.tobytes()
        assert other.buffers_flat.tobytes() == model.buffers_flat.tobytes()
        assert other.forward(X).tobytes() == model.forward(X).tobytes()
        assert other.loss_and_grads(X, y)[0] == model.copy().loss_and_grads(X, y)[0]
        other.parameters_flat[...] = 0
        other.buffers_flat[...] = 1
        assert model.parameters_flat.all()
        assert not np.shares_memory(other.parameters()["w1"], model.parameters_flat)


# ---------------------------------------------------------------------- forward


def composed_forward(model: MLP, X: np.ndarray) -> np.ndarray:
    p, buffers = model.parameters(), model.buffers()
    for layer in range(1, model.layers):
        X = normcore.affine_forward(X, p[f"w{layer}"], p[f"b{layer}"])
        if model.norm == "batch":
            statistics = buffers[f"running_mean{layer}"], buffers[f"running_var{layer}"]
            X = normcore.batch_norm_forward(X, p[f"gamma{layer}"], p[f"beta{layer}"], *statistics, training=False)[0]
        elif model.norm == "layer":
            X = normcore.layer_norm_forward(X, p[f"gamma{layer}"], p[f"beta{layer}"])[0]
        X = getattr(normcore, f"{model.activation}_forward")(X)
    return normcore.affine_forward(X, p[f"w{model.layers}"], p[f"b{model.layers}"])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [[7, 3], [5, 9, 4], [300, 33, 17, 10]])
def test_forward_is_the_composition_of_the_operations(norm: Any, activation: Any, dtype: str, sizes: list[int]) -> None:
    model = random_model(sizes, norm=norm, activation=activation, dtype=dtype, dropout=0.5)
    X, _ = batch(model, 37)
    logits = model.forward(X)
    assert logits.dtype == dtype
    assert logits.shape == (37, sizes[-1])
    assert logits.tobytes() == composed_forward(model, X).tobytes()


def test_forward_takes_any_layout() -> None:
    model = random_model([6, 5, 3], norm="batch")
    X, _ = batch(model, 8)
    expected = model.forward(X).tobytes()
    wide = np.zeros((16, 13), np.float32)
    wide[::2, 1::2] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    raw = np.zeros(X.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(np.float32).reshape(X.shape)
    misaligned[...] = X
    for other in (
        np.asfortranarray(X),
        wide[::2, 1::2],
        X.astype(">f4"),
        read_only,
        misaligned,
        X[::-1].copy()[::-1],
        X[:, ::-1].copy()[:, ::-1],
        X.astype(np.float64),
        X.tolist(),
    ):
        assert model.forward(other).tobytes() == expected
    assert model.forward(X.reshape(2, 4, 6)).shape == (2, 4, 3)
    assert model.forward(X.reshape(2, 4, 6)).tobytes() == expected
    repeated = np.broadcast_to(X[:1], X.shape)
    assert model.forward(repeated).tobytes() == model.forward(X[:1]).tobytes() * 8
    assert model.forward(X[:0]).shape == (0, 3)


@given(
    cuts=st.lists(st.integers(0, 12), min_size=1, max_size=5),
    norm=st.sampled_from(NORMS),
    activation=st.sampled_from(ACTIVATIONS),
)
def test_forward_row_by_row(cuts: list[int], norm: Any, activation: Any) -> None:
    model = random_model([6, 5, 3], norm=norm, activation=activation)
    X, _ = batch(model, sum(cuts))
    ends = np.cumsum(cuts)
    pieces = [model.forward(X[end - n : end]) for n, end in zip(cuts, ends, strict=True)]
    assert b"".join(piece.tobytes() for piece in pieces) == model.forward(X).tobytes()


def test_forward_into_an_array() -> None:
    model = random_model([6, 5, 3])
    X, _ = batch(model, 4)
    out = np.full((4, 3), np.nan, np.float32)
    assert model.forward(X, out=out) is out
    assert out.tobytes() == model.forward(X).tobytes()
    strided = np.zeros((4, 6), np.float32)[:, ::2]
    assert model.forward(X, out=strided).tobytes() == out.tobytes()
    for wrong in (out[:3], out.T.copy(), out.reshape(2, 2, 3)):
        with pytest.raises(ValueError, match="forward: out"):
            model.forward(X, out=wrong)
    for kind in (out.astype(np.float64), out.tolist()):
        with pytest.raises((TypeError, ValueError), match="forward: out"):
            model.forward(X, out=kind)  # type: ignore[arg-type]
    out.flags.writeable = False
    with pytest.raises(ValueError, match="forward: out"):
        model.forward(X, out=out)
    square = random_model([3, 3])
    both = np.zeros((5, 3), np.float32)
    with pytest.raises(ValueError, match="forward: out"):
        square.forward(both[:4], out=both[1:])
    with pytest.raises(ValueError, match="forward: out"):
        square.forward(both[:4], out=square.parameters_flat.reshape(4, 3))


def test_nan_poisons_its_row_only() -> None:
    model = random_model([6, 5, 3], norm="layer")
    X, _ = batch(model, 4)
    clean = model.forward(X)
    X[2, 1] = np.nan
    logits = model.forward(X)
    assert np.isnan(logits[2]).all()
    assert logits[[0, 1, 3]].tobytes() == clean[[0, 1, 3]].tobytes()


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((3, 5), np.float32), ValueError, r"X is \(3, 5\) but the model takes 6 features"),
        (np.zeros(6, np.float32), ValueError, r"X is \(6,\); it must be \(rows, features\)"),
        (np.float32(1), ValueError, r"X is \(\)"),
        (
            np.zeros((3, 6), complex),
            TypeError,
            "X is complex128; accepted are float32 and float64, and float16, integers",
        ),
        (np.zeros((3, 6), complex), TypeError, "X is complex128"),
        (np.full((3, 6), "a"), TypeError, "accepted are float32 and float64"),
        (np.ma.masked_array(np.zeros((3, 6))), TypeError, "masked"),
    ],
)
@pytest.mark.parametrize("name", ["forward", "predict", "predict_proba", "score", "loss_and_grads"])
def test_wrong_features(name: str, X: Any, error: type[Exception], message: str) -> None:
    model = MLP([6, 3])
    arguments = (X, np.zeros(3, int)) if name in ("score", "loss_and_grads") else (X,)
    with pytest.raises(error, match=f"{name}: .*{message}"):
        getattr(model, name)(*arguments)


@pytest.mark.parametrize("name", ["forward", "predict", "predict_proba", "score", "loss_and_grads"])
@pytest.mark.filterwarnings("error")
def test_values_beyond_the_dtype_of_the_model(name: str) -> None:
    model = random_model([3, 2])
    X = np.array([[0.0, np.inf, 0.0], [np.nan, 0.0, -1e300], [1e300, 0.0, 0.0]])
    y = np.zeros(3, int)
    arguments = (y,) if name in ("score", "loss_and_grads") else ()
    with pytest.raises(ValueError, match=rf"^MLP\.{name}: X\[1, 2\] is -1e\+300, which does not fit float32"):
        getattr(model, name)(X, *arguments)
    with pytest.raises(ValueError, match=rf"^MLP\.{name}: X\[0, 2, 0\] is 1e\+300"):
        getattr(model, name)(X[np.newaxis] * [1.0, 1.0, 0.0], *(label[np.newaxis] for label in arguments))
    # What is infinite, NaN or small before is so after, and float64 models take it all.
    model.forward(np.array([[np.inf, np.nan, 1e-300]]))
    MLP([3, 2], dtype="float64").forward(np.array([[1e300, 0.0, 0.0]]))
    model.loss = "squared_error"  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"^MLP.loss_and_grads: y\[1, 0\] is 1e\+39, which does not fit float32"):
        model.loss_and_grads(np.zeros((2, 3)), np.array([[1.0, 0.0], [1e39, 0.0]]))


def test_errors_of_the_core_name_the_method() -> None:
    model = random_model([3, 2])
    X = np.zeros((2, 3), np.float32)
    with pytest.raises(TypeError, match=r"^MLP\.forward: out is"):
        model.forward(X, out=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^MLP\.loss_and_grads: y has 5 in row 1"):
        model.loss_and_grads(X, np.array([0, 5]))
    with pytest.raises(ValueError, match=r"^MLP\.loss_and_grads: y\[1\] is 5; labels"):
        model.loss_and_grads(X, [0, 5])
    with pytest.raises(TypeError, match=r"^MLP\.loss_and_grads: label_smoothing"):
        model.loss_and_grads(X, [0, 1], label_smoothing="a")  # type: ignore[arg-type]


def test_predictions() -> None:
    model = random_model([6, 5, 3], norm="batch")
    X, y = batch(model, 20)
    logits = model.forward(X)
    assert model.predict(X).dtype == np.int64
    assert model.predict(X).tolist() == logits.argmax(axis=1).tolist()
    assert model.predict_proba(X).tobytes() == normcore.softmax(logits).tobytes()
    assert model.predict_proba(X.reshape(4, 5, 6)).shape == (4, 5, 3)
    assert model.predict(X.reshape(4, 5, 6)).shape == (4, 5)
    assert model.score(X, y) == np.mean(logits.argmax(axis=1) == y)
    assert model.score(X, np.eye(3)[y]) == model.score(X, y)
    assert model.score(X, y.astype(np.uint64)) == model.score(X, y)
    assert model.score(X, model.predict(X)) == 1.0
    with pytest.raises(ValueError, match="score: X has no rows"):
        model.score(X[:0], y[:0])
    model.parameters_flat[...] = 0
    assert model.predict(X).tolist() == [0] * 20


# ---------------------------------------------------------------------- training


def composed_pass(
    model: MLP, X: np.ndarray, y: np.ndarray, seed: int, stream: int
) -> tuple[float, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Loss, gradients and buffers of a training pass, from the public operations."""
    p = model.parameters()
    buffers = {name: array.copy() for name, array in model.buffers().items()}
    keep = 1.0 - model.dropout
    inputs, tapes = [X], []
    for layer in range(1, model.layers):
        z = a = normcore.affine_forward(inputs[-1], p[f"w{layer}"], p[f"b{layer}"])
        mean = rstd = None
        if model.norm == "batch":
            statistics = buffers[f"running_mean{layer}"], buffers[f"running_var{layer}"]
            a, mean, rstd = normcore.batch_norm_forward(z, p[f"gamma{layer}"], p[f"beta{layer}"], *statistics)
        elif model.norm == "layer":
            a, mean, rstd = normcore.layer_norm_forward(z, p[f"gamma{layer}"], p[f"beta{layer}"])
        before, a = a, getattr(normcore, f"{model.activation}_forward")(a)
        tapes.append((z, before if model.activation == "silu" else a, mean, rstd))
        if keep < 1:
            a = normcore.dropout_forward(a, keep, seed=seed, stream=stream + layer - 1)
        inputs.append(a)
    logits = normcore.affine_forward(inputs[-1], p[f"w{model.layers}"], p[f"b{model.layers}"])
    loss, d, _ = normcore.softmax_cross_entropy(logits, y)
    grads: dict[str, np.ndarray] = {}
    for layer in range(model.layers, 0, -1):
        if layer < model.layers:
            z, saved, mean, rstd = tapes[layer - 1]
            if keep < 1:
                d = normcore.dropout_backward(d, keep, seed=seed, stream=stream + layer - 1)
            d = getattr(normcore, f"{model.activation}_backward")(d, saved)
            if model.norm is not None:
                backward = normcore.batch_norm_backward if model.norm == "batch" else normcore.layer_norm_backward
                d, grads[f"gamma{layer}"], grads[f"beta{layer}"] = backward(d, z, p[f"gamma{layer}"], mean, rstd)
        d, grads[f"w{layer}"], grads[f"b{layer}"] = normcore.affine_backward(d, inputs[layer - 1], p[f"w{layer}"])
    return loss, grads, buffers


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize(("sizes", "rows"), [([5, 9, 4], 7), ([20, 33, 17, 10], 300), ([4, 3], 1)])
def test_training_pass_is_the_composition_of_the_operations(
    norm: Any, activation: Any, dtype: str, dropout: float, sizes: list[int], rows: int
) -> None:
    model = random_model(sizes, norm=norm, activation=activation, dtype=dtype, dropout=dropout)
    X, y = batch(model, rows + (norm == "batch"))  # which takes no single row
    expected_loss, expected_grads, expected_buffers = composed_pass(model, X, y, seed=77, stream=10)
    loss, grads = model.loss_and_grads(X, y, seed=77, stream=10)
    assert loss == expected_loss
    assert list(grads) == list(model.parameters())
    for name, array in grads.items():
        assert array.tobytes() == expected_grads[name].tobytes(), name
    for name, array in model.buffers().items():
        assert array.tobytes() == expected_buffers[name].tobytes(), name


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_by_finite_differences(norm: Any, activation: Any, dropout: float) -> None:
    model = random_model([4, 6, 5, 3], norm=norm, activation=activation, dropout=dropout, dtype="float64")
    X, y = batch(model, 9)
    options: dict[str, Any] = {
        "class_weight": [1.0, 2.0, 0.5],
        "sample_weight": np.arange(9.0),
        "label_smoothing": 0.1,
        "ignore_index": 2,
        "seed": 5,
    }
    _, grads = model.loss_and_grads(X, y, **options)
    analytic = {name: array.copy() for name, array in grads.items()}
    for name, array in model.parameters().items():

        def loss(value: np.ndarray, array: np.ndarray = array) -> float:
            saved = array.copy()
            array[...] = value
            result = model.loss_and_grads(X, y, **options)[0]
            array[...] = saved
            return result

        numeric = numerical_gradient(loss, array)
        assert np.abs(numeric).max() > 1e-4 or (norm == "batch" and name in ("b1", "b2"))
        np.testing.assert_allclose(analytic[name], numeric, rtol=1e-6, atol=2e-8, err_msg=name)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4"])
def test_label_dtypes(dtype: str) -> None:
    model = random_model([6, 5, 3])
    X, y = batch(model, 10)
    expected = model.loss_and_grads(X, y)[0]
    assert model.loss_and_grads(X, y.astype(dtype))[0] == expected
    assert model.loss_and_grads(X, np.repeat(y, 2).astype(dtype)[::2])[0] == expected
    assert model.loss_and_grads(X, y.tolist())[0] == expected
    assert model.loss_and_grads(X.reshape(2, 5, 6), y.reshape(2, 5).astype(dtype))[0] == expected


def test_bool_labels_and_soft_targets() -> None:
    model = random_model([6, 5, 2])
    X, y = batch(model, 10)
    loss, grads = model.loss_and_grads(X, y)
    expected = model.gradients_flat.copy()
    assert model.loss_and_grads(X, y.astype(bool))[0] == loss
    for kind in (np.float32, np.float64):
        assert model.loss_and_grads(X, np.eye(2, dtype=kind)[y])[0] == pytest.approx(loss, rel=1e-6)
        np.testing.assert_allclose(model.gradients_flat, expected, atol=1e-6)
    assert grads.keys() == model.gradients().keys()


def test_weights_and_ignored_rows() -> None:
    model = random_model([6, 5, 3])
    X, y = batch(model, 12)
    plain = model.loss_and_grads(X, y)[0]
    assert model.loss_and_grads(X, y, sample_weight=np.ones(12), class_weight=[1, 1, 1])[0] == plain
    some = model.loss_and_grads(X, y, ignore_index=1)[0]
    weights = (y != 1).astype(np.float32)
    assert some == model.loss_and_grads(X, y, sample_weight=weights)[0]
    assert some == pytest.approx(model.loss_and_grads(X[y != 1], y[y != 1])[0], rel=1e-6)
    assert some != plain
    loss, grads = model.loss_and_grads(X, np.full(12, -1), ignore_index=-1)
    assert loss == 0.0
    assert not any(array.any() for array in grads.values())


@pytest.mark.parametrize(
    ("y", "options", "error", "message"),
    [
        (np.array([0, 1, 3, 0]), {}, ValueError, r"y has 3 in row 2; .*\[0, 3\)"),
        (np.array([0, -1, 1, 0]), {}, ValueError, "y has -1 in row 1"),
        (np.array([0, 1, 2]), {}, ValueError, r"y is int64 \(3,\) but X has the rows \(4,\)"),
        (np.array([[0], [1], [2], [0]]), {}, ValueError, r"y is int64 \(4, 1\)"),
        (np.zeros(4), {}, TypeError, r"y is float64 \(4,\); labels must be integers"),
        (np.zeros((4, 3)), {}, ValueError, r"y\[0\] sums to 0; soft targets are probabilities"),
        (np.zeros((4, 2)), {}, ValueError, r"soft targets must be \(4, 3\)"),
        (np.array(list("abca")), {}, TypeError, "encode_labels"),
        (np.zeros((4, 3), np.float16), {}, TypeError, "y is float16"),
        (np.ma.masked_array([0, 1, 2, 0]), {}, TypeError, "y is a masked array"),
        (np.zeros(4, int), {"class_weight": [1, 2]}, ValueError, r"class_weight is \(2,\); it must be \(3,\)"),
        (np.zeros(4, int), {"class_weight": [1, -2, 1]}, ValueError, r"class_weight\[1\] is -2.0"),
        (np.zeros(4, int), {"sample_weight": [1, 1, 1, np.nan]}, ValueError, r"sample_weight\[3\] is nan"),
        (np.zeros(4, int), {"sample_weight": [1, 1, np.inf, 1]}, ValueError, r"sample_weight\[2\] is inf"),
        (np.zeros(4, int), {"sample_weight": list("abcd")}, TypeError, "sample_weight"),
        (np.zeros(4, int), {"label_smoothing": 1.5}, ValueError, "label_smoothing"),
        (np.zeros(4, int), {"seed": -1}, ValueError, "seed is -1"),
        (np.zeros(4, int), {"stream": 1.5}, TypeError, "stream must be an integer"),
    ],
)
def test_wrong_labels_and_options(y: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    model = random_model([6, 5, 3], norm="batch")
    buffers = model.buffers_flat.copy()
    X, _ = batch(model, 4)
    with pytest.raises(error, match=f"loss_and_grads: .*{message}"):
        model.loss_and_grads(X, y, **options)
    assert model.buffers_flat.tobytes() == buffers.tobytes()


def test_a_batch_without_rows() -> None:
    model = MLP([6, 3])
    with pytest.raises(ValueError, match=r"loss_and_grads: X is \(0, 6\); it must have at least one row"):
        model.loss_and_grads(np.zeros((0, 6), np.float32), np.zeros(0, int))


def test_dropout_streams() -> None:
    model = random_model([6, 50, 3], dropout=0.5)
    X, y = batch(model, 8)

    def loss(**options: int) -> float:
        return model.loss_and_grads(X, y, **options)[0]

    assert loss() == loss(seed=0, stream=0)
    assert loss(seed=1) != loss() != loss(stream=1)
    assert loss(seed=2**64 - 1, stream=2**63) == loss(seed=2**64 - 1, stream=2**63)
    plain = MLP.from_config({**model.config(), "dropout": 0.0})
    plain.parameters_flat[...] = model.parameters_flat
    assert plain.forward(X).tobytes() == model.forward(X).tobytes()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_same_bits_on_every_instruction_set_and_thread_count(norm: Any, activation: Any) -> None:
    model = random_model([130, 70, 33, 10], norm=norm, activation=activation, dropout=0.25)
    X, y = batch(model, 600)
    results = set()
    for isa in normcore.available_isas():
        for count in (1, 2, 3):
            with use_isa(isa), use_num_threads(count):
                other = model.copy()
                loss, _ = other.loss_and_grads(X, y, stream=4)
                arrays = (other.gradients_flat, other.buffers_flat, other.forward(X))
                results.add((loss, *(array.tobytes() for array in arrays)))
    assert len(results) == 1


# ---------------------------------------------------------------------- seeing inside


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations(norm: Any, activation: Any, dropout: float, dtype: str) -> None:
    """The outputs of forward and forward_training to the bit, and before them what the contract says of each layer."""
    model = random_model([6, 9, 8, 4], norm=norm, activation=activation, dropout=dropout, dtype=dtype)
    X, _ = batch(model, 12)
    before = model.parameters_flat.tobytes(), model.buffers_flat.tobytes()
    for training in (False, True):
        inside = model.activations(X, training=training, seed=3, stream=2**64 - 1)
        hidden = ["affine", *(["norm"] if norm else []), "activation", *(["dropout"] if training and dropout else [])]
        assert list(inside) == [f"{name}{layer}" for layer in (1, 2) for name in hidden] + ["affine3"]
        outputs = (
            model.forward_training(X, seed=3, stream=2**64 - 1, update_statistics=False)
            if training
            else model.forward(X)
        )
        assert inside["affine3"].tobytes() == outputs.tobytes()
        p = model.parameters()
        forward = getattr(contract, f"{activation}_forward")
        read = X
        for layer, width in ((1, 9), (2, 8)):
            found = {name: inside[f"{name}{layer}"] for name in hidden}
            assert all(array.shape == (12, width) and array.dtype == dtype for array in found.values())
            assert_same_bits(found["affine"], contract.affine_forward(read, p[f"w{layer}"], p[f"b{layer}"]))
            assert_same_bits(found["activation"], forward(found["norm" if norm else "affine"]))
            if norm == "layer":
                wanted = contract.layer_norm_forward(found["affine"], p[f"gamma{layer}"], p[f"beta{layer}"])[0]
                assert_same_bits(found["norm"], wanted)
            read = found[hidden[-1]]
    assert (model.parameters_flat.tobytes(), model.buffers_flat.tobytes()) == before
    assert not any(np.shares_memory(array, model.parameters_flat) for array in inside.values())


def test_activations_of_any_rows() -> None:
    model = random_model([6, 5, 3], norm="batch")
    X, _ = batch(model, 8)
    for other in (X.reshape(2, 4, 6), np.asfortranarray(X), X.astype(np.float64), X.tolist()):
        inside = model.activations(other)
        for name, array in model.activations(X).items():
            assert inside[name].tobytes() == array.tobytes()
            assert inside[name].shape == (*np.shape(other)[:-1], array.shape[-1])
    assert model.activations(X[:0])["activation1"].shape == (0, 5)
    assert model.activations(X[:1])["affine2"].tobytes() == model.forward(X[:1]).tobytes()
    for mistake, message in (
        (lambda: model.activations(X[0]), r"MLP.activations: X is \(6,\); it must be \(rows, features\)"),
        (
            lambda: model.activations(X[:1], training=True),
            "MLP.activations: X has one row; batch norm needs at least two",
        ),
        (lambda: model.activations(X[:0], training=True), "MLP.activations: X is .*; it must have at least one row"),
        (lambda: model.activations(X, seed=-1), "MLP.activations: seed is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            mistake()
    model.buffers()["running_var1"][3] = -1
    with pytest.raises(
        ValueError, match=r"MLP.activations: running_var1\[3\] is -1.0; a variance must not be negative"
    ):
        model.activations(X)


# ---------------------------------------------------------------------- the parts of a training step


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_parts_of_a_step_make_the_whole(norm: Any, activation: Any, dropout: float, dtype: str) -> None:
    """Forward, loss and backward as calls of their own: the bits of loss_and_grads, for batches of many sizes."""
    random = np.random.default_rng(3)
    whole = MLP([6, 9, 8, 4], norm=norm, activation=activation, dropout=dropout, dtype=dtype, seed=5)
    parts = whole.copy()
    for step, rows in enumerate([7, 300, 2, 300, 31]):
        X = np.asfortranarray(random.normal(size=(rows, 6)).astype(dtype))
        y = random.integers(0, 4, rows)
        at = {"seed": 11, "stream": step * whole.layers}
        loss, gradients = whole.loss_and_grads(X, y, **at)
        outputs = parts.forward_training(X, **at)
        assert outputs.dtype == dtype
        parts_loss, doutputs, _ = normcore.softmax_cross_entropy(outputs, y)
        for _ in range(2):  # the pass is left as it is
            found = parts.backward(doutputs)
            assert {name: array.tobytes() for name, array in found.items()} == {
                name: array.tobytes() for name, array in gradients.items()
            }
        assert parts_loss == loss
        assert parts.buffers_flat.tobytes() == whole.buffers_flat.tobytes()
        whole.parameters_flat[...] -= np.asarray(0.05, dtype) * whole.gradients_flat
        parts.parameters_flat[...] = whole.parameters_flat


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_gradients_of_any_loss(norm: Any) -> None:
    """Of a loss that is none of the library's, with respect to parameters and data, against differences."""
    random = np.random.default_rng(4)
    model = MLP([3, 6, 5, 2], norm=norm, dropout=0.3, dtype="float64", seed=2)
    model.parameters_flat[...] += 0.1 * random.normal(size=model.parameters_flat.shape)
    X, T = random.normal(size=(2, 4, 3)), random.normal(size=(2, 4, 2))

    def loss() -> float:
        outputs = model.forward_training(X, seed=1, stream=2, update_statistics=False)
        return float(np.log(np.cosh(outputs - T)).sum())

    loss()
    dX = np.empty_like(X)
    outputs = model.forward_training(X, seed=1, stream=2, update_statistics=False)
    model.backward(np.tanh(outputs - T), dx=dX)
    gradients = model.gradients_flat.copy()
    for values, found in ((model.parameters_flat, gradients), (X.reshape(-1), dX.reshape(-1))):
        for i in range(values.size):
            kept, step = values[i], 1e-6
            values[i] = kept + step
            above = loss()
            values[i] = kept - step
            below = loss()
            values[i] = kept
            assert abs((above - below) / (2 * step) - found[i]) < 1e-7


def test_statistics_can_be_left_alone() -> None:
    random = np.random.default_rng(5)
    model = MLP([3, 6, 2], norm="batch", seed=2)
    X, y = random.normal(size=(9, 3)).astype(np.float32), random.integers(0, 2, 9)
    before = model.buffers_flat.copy()
    loss, gradients = model.loss_and_grads(X, y, update_statistics=False)
    kept = {name: array.copy() for name, array in gradients.items()}
    model.forward_training(X, update_statistics=False)
    assert model.buffers_flat.tobytes() == before.tobytes()
    again, gradients = model.loss_and_grads(X, y)
    assert again == loss
    assert all(kept[name].tobytes() == array.tobytes() for name, array in gradients.items())
    assert model.buffers_flat.tobytes() != before.tobytes()


def test_mistakes_with_the_parts_of_a_step() -> None:
    model = MLP([3, 6, 2], norm="batch", seed=2)
    X = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"MLP.backward: there has been no forward_training"):
        model.backward(np.ones((4, 2), np.float32))
    with pytest.raises(ValueError, match=r"MLP.forward_training: X has one row"):
        model.forward_training(X[:1])
    with pytest.raises(ValueError, match=r"MLP.forward_training: X is \(0, 3\)"):
        model.forward_training(X[:0])
    with pytest.raises(ValueError, match="stream is -1"):
        model.forward_training(X, stream=-1)
    model.forward_training(X)
    with pytest.raises(ValueError, match=r"doutputs is \(3, 2\); the outputs of forward_training were \(4, 2\)"):
        model.backward(np.ones((3, 2), np.float32))
    with pytest.raises(TypeError, match="doutputs is int64"):
        model.backward(np.ones((4, 2), np.int64))
    with pytest.raises(TypeError, match="doutputs is a masked array"):
        model.backward(np.ma.ones((4, 2)))
    with pytest.raises(ValueError, match=r"MLP.backward: dx is"):
        model.backward(np.ones((4, 2), np.float32), dx=np.ones((4, 2), np.float32))
    with pytest.raises(ValueError, match=r"MLP.backward: dx overlaps x"):
        model.backward(np.ones((4, 2), np.float32), dx=X)
    for out in (model.buffers_flat, model.gradients_flat):
        with pytest.raises(ValueError, match=r"MLP.backward: dx overlaps \w+_flat of the model"):
            model.backward(np.ones((4, 2), np.float32), dx=out[:12].reshape(4, 3))
        with pytest.raises(ValueError, match=r"MLP.forward: out overlaps \w+_flat of the model"):
            model.forward(X, out=out[:8].reshape(4, 2))
    with pytest.raises(ValueError, match=r"MLP.backward: gradients_flat overlaps doutputs"):
        model.backward(model.gradients_flat[:8].reshape(4, 2))
    with pytest.raises(TypeError, match="unbiased_running_var is 'false'; it must be a bool"):
        MLP([3, 6, 2], unbiased_running_var="false")  # type: ignore[arg-type]
    model.forward_training(X := X.copy())
    X.shape = (2, 6)
    with pytest.raises(ValueError, match=r"outputs of forward_training were \(4, 2\)"):
        model.backward(np.ones((3, 2), np.float32))
    with pytest.raises(ValueError, match=r"MLP.backward: "):
        model.backward(np.ones((4, 2), np.float32))
    model.forward_training(X := np.ones((4, 3), np.float32))
    copied = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match="no forward_training"):
        copied.backward(np.ones((4, 2), np.float32))
    model.buffers()["running_var1"][2] = -1
    with pytest.raises(ValueError, match="running_var1"):
        model.forward_training(X)
    with pytest.raises(ValueError, match="no forward_training"):  # what failed leaves nothing to go back from
        model.backward(np.ones((4, 2), np.float32))


def test_mistakes_with_passes() -> None:
    core = normcore._core
    net, other = core.Network((3, 5, 2), norm="batch"), core.Network((3, 5, 2), norm="batch")
    tape = core.Pass(net, 4)
    assert (tape.rows, tape.network) == (4, net)
    assert repr(tape) == f"Pass({net!r}, 4)"
    assert pickle.loads(pickle.dumps(tape)).rows == 4
    x, dy, y = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32), np.ones((4, 2), np.float32)
    params, grads = np.ones(net.parameter_count, np.float32), np.ones(net.parameter_count, np.float32)
    with pytest.raises(ValueError, match="the pass holds no forward pass of so many rows"):
        net.backward(x, params, tape, dy, grads)
    with pytest.raises(ValueError, match="tape is the pass of another network"):
        other.forward_training(x, params, None, tape, y)
    with pytest.raises(ValueError, match=r"x is \(5, 3\) but the pass is for 4 rows at most"):
        net.forward_training(np.ones((5, 3), np.float32), params, None, tape, np.ones((5, 2), np.float32))
    with pytest.raises(TypeError, match="tape is None"):
        net.forward_training(x, params, None, None, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="out overlaps x"):
        net.forward_training(x, params, None, tape, x.reshape(-1)[:8].reshape(4, 2))
    net.forward_training(x, params, None, tape, y)
    with pytest.raises(ValueError, match="holds no forward pass of so many rows"):
        net.backward(x[:3], params, tape, dy[:3], grads)
    with pytest.raises(ValueError, match=r"dy is \(4, 3\) but x is \(4, 3\); dy must be \(4, 2\)"):
        net.backward(x, params, tape, x, grads)
    with pytest.raises(ValueError, match="rows is"):
        core.Pass(net, -1)
    with pytest.raises(ValueError, match="so many activations"):
        core.Pass(net, 2**62)
    with pytest.raises(MemoryError):
        core.Pass(net, 2**50)
    wide = np.ones((4, 6), np.float32)
    net.backward(x, params, tape, dy, grads, wide[:, ::2])  # a layout that C cannot write
    dx = np.empty((4, 3), np.float32)
    net.backward(x, params, tape, dy, grads, dx)
    assert wide[:, ::2].tobytes() == dx.tobytes()
    assert (wide[:, 1::2] == 1).all()


@pytest.mark.parametrize("loss", ["logistic", "squared_error", "huber", "quantile", "poisson"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loss_and_grads_of_any_loss_is_forward_loss_backward(loss: Any, dtype: str) -> None:
    model = MLP([6, 5, 3], norm="batch", dropout=0.3, dtype=dtype, loss=loss, seed=3)
    parts = model.copy()
    random = np.random.default_rng(4)
    X, T, weights = random.normal(size=(2, 4, 6)), random.uniform(size=(2, 4, 3)), random.uniform(size=(2, 4))
    value, gradients = model.loss_and_grads(X, T, sample_weight=weights, seed=7, stream=8)
    outputs = parts.forward_training(X, seed=7, stream=8)
    expected, doutputs, _ = parts.loss(outputs, T.astype(dtype), sample_weight=weights)
    assert value == expected
    for name, gradient in parts.backward(doutputs).items():
        assert_same_bits(gradients[name], gradient)
    assert_same_bits(model.buffers_flat, parts.buffers_flat)
    buffers = model.buffers_flat.copy()
    assert model.loss_and_grads(X, T, sample_weight=weights, seed=7, stream=8, update_statistics=False)[0] == value
    assert_same_bits(model.buffers_flat, buffers)
    for options in ({"class_weight": [1, 2, 3]}, {"label_smoothing": 0.1}, {"ignore_index": 0}):
        with pytest.raises(ValueError, match=rf"^MLP.loss_and_grads: {next(iter(options))} is for classes, and {loss}"):
            model.loss_and_grads(X, T, **options)
    with pytest.raises(ValueError, match=r"^MLP.loss_and_grads: y is float64 \(2, 3, 3\)"):
        model.loss_and_grads(X, T[:, :3])
    assert_same_bits(model.buffers_flat, buffers)


def test_methods_of_other_libraries_are_not_there() -> None:
    model = MLP([3, 2])
    for name in ("fit", "train", "partial_fit", "compile", "evaluate", "state_dict"):
        assert not hasattr(model, name)
        assert not hasattr(MLP, name)
        assert name not in dir(model)
        with pytest.raises(AttributeError, match=rf"^'MLP' object has no attribute '{name}'; \S+"):
            getattr(model, name)
    assert "Trainer(model, ...).fit(X, y) trains it" in repr(vars(MLP)["fit"])


def test_which_arrays_a_network_takes_as_they_are() -> None:
    net = normcore._core.Network((3, 2), norm="batch")
    x = np.zeros((4, 3), np.float32)
    assert net.takes(x)
    assert net.takes(x.reshape(2, 2, 3))
    assert net.takes(x[::-1])
    for other in (x[0], x.T, x.astype(float), x.astype(">f4"), x.tolist(), np.ma.masked_array(x), None):
        assert not net.takes(other)
    y = np.zeros(4, int)
    assert net.takes_labels(x, y)
    assert net.takes_labels(x, y.astype(np.uint8))
    for labels in (y[:3], y.reshape(4, 1), y.astype(float), y.tolist(), np.ma.masked_array(y)):
        assert not net.takes_labels(x, labels)
    assert not net.takes_labels(x[:1], y[:1])  # too few rows for batch norm
    assert normcore._core.Network((3, 2)).takes_labels(x[:1], y[:1])
    assert not normcore._core.Network((3, 1)).takes_labels(x, y)
