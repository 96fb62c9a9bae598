"""Losses as objects: names and parameters, the targets they take, what outputs predict, scores."""

from __future__ import annotations

import copy
import pickle
from typing import Any, get_args

import numpy as np
import pytest

import normcore
from normcore import _core, losses

ALL = [losses.get(name) for name in get_args(losses.LossName)]
WHERE = "Trainer.fit"


# ---------------------------------------------------------------- names and parameters


@pytest.mark.parametrize("loss", [*ALL, losses.huber(0.25), losses.quantile(0.9)], ids=repr)
def test_a_loss_is_made_again_from_its_repr_and_its_parts(loss: losses.Loss) -> None:
    again = eval(repr(loss), {"losses": losses})
    assert again == loss == losses.Loss(loss.name, loss.parameters)
    assert hash(again) == hash(loss)
    assert pickle.loads(pickle.dumps(loss)) == copy.deepcopy(loss) == loss
    assert losses.get(loss) is loss
    with pytest.raises(AttributeError):
        loss.name = "huber"  # type: ignore[misc]


def test_parameters_tell_losses_apart() -> None:
    assert losses.huber(0.5) != losses.huber(0.25)
    assert losses.get("huber") == losses.huber() == losses.huber(delta=1)
    assert losses.get("quantile").parameters == {"tau": 0.5}


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: losses.get("mse"), ValueError, "here it is called 'squared_error'"),
        (lambda: losses.get("MAE"), ValueError, r"losses.quantile\(tau=0.5\) is half"),
        (lambda: losses.get("hinge"), ValueError, "known are cross_entropy, logistic"),
        (lambda: losses.get(3), TypeError, "not 3"),
        (lambda: losses.huber(0.0), ValueError, "losses.huber: delta is 0.0; it must be finite and greater than 0"),
        (lambda: losses.huber(float("inf")), ValueError, "delta is inf"),
        (lambda: losses.huber("1"), TypeError, "losses.huber: delta must be a number"),
        (lambda: losses.quantile(1.0), ValueError, r"losses.quantile: tau is 1.0; it must be in \(0, 1\)"),
        (lambda: losses.quantile(float("nan")), ValueError, "tau is nan"),
        (lambda: losses.Loss("huber", {"tau": 1.0}), TypeError, "no parameter 'tau'; it takes delta"),
        (lambda: losses.Loss("logistic", {"tau": 1.0}), TypeError, "it takes no parameters"),
    ],
)
def test_what_is_no_loss_is_refused(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


def test_only_cross_entropy_has_classes_and_their_options() -> None:
    assert [loss.name for loss in ALL if loss.has_classes] == ["cross_entropy"]
    for loss in ALL[1:]:
        with pytest.raises(ValueError, match=f"Trainer: class_weight is for classes, and {loss.name} has none"):
            loss.check_class_options([1.0], 0.0, None, "Trainer")
        with pytest.raises(ValueError, match="label_smoothing"):
            loss(np.zeros((1, 1)), [[0.0]], label_smoothing=0.1)
        loss.check_class_options(None, 0, None, "Trainer")


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_labels(dtype: str) -> None:
    labels = losses.cross_entropy().check_targets(np.array([0, 1, 1], dtype), 3, 2, WHERE)
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 1]


def test_ignore_index_is_a_label_wherever_it_lies() -> None:
    assert losses.cross_entropy().check_targets([0, -100], 2, 2, WHERE, ignore_index=-100).tolist() == [0, -100]


def test_soft_targets_keep_their_values() -> None:
    soft = np.array([[0.25, 0.75], [1.0, 0.0]])
    checked = losses.cross_entropy().check_targets(soft, 2, 2, WHERE, dtype="float32")
    assert checked.dtype == np.float32
    assert checked.tolist() == soft.tolist()


@pytest.mark.parametrize("loss", ALL[1:], ids=repr)
def test_numbers_are_rows_of_the_models_dtype(loss: losses.Loss) -> None:
    for given in ([0, 1, 1], [[0], [1], [1]], np.array([0, 1, 1], np.float64), np.array([False, True, True])):
        checked = loss.check_targets(given, 3, 1, WHERE, dtype="float32")
        assert checked.dtype == np.float32
        assert checked.tolist() == [[0.0], [1.0], [1.0]]
    assert loss.check_targets(np.ones((2, 3, 4)), (2, 3), 4, WHERE).shape == (6, 4)


REFUSED = [
    ("cross_entropy", [0.0, 1.0], 2, 2, TypeError, r"y is float64 \(2,\); labels must be integers"),
    ("cross_entropy", [0, 1], 2, 1, ValueError, 'softmax is 1 whatever it is; use two outputs.*loss="logistic"'),
    ("cross_entropy", [0, 2], 2, 2, ValueError, r"y\[1\] is 2; labels must be in \[0, 2\)"),
    ("cross_entropy", np.array([0, 2**64 - 1], np.uint64), 2, 2, ValueError, r"y\[1\] is 18446744073709551615"),
    ("cross_entropy", [[0, 1], [1, 1]], 2, 2, ValueError, r'labels must be one a row; such.*loss="logistic"'),
    ("cross_entropy", [[0, 1], [1, 0]], 2, 2, ValueError, r"labels are integers \(2,\): y.argmax\(axis=-1\)"),
    ("cross_entropy", [[0.5, 0.5], [1.5, -0.5]], 2, 2, ValueError, r'y\[1\] has a target of -0.5.*"squared_error"'),
    ("cross_entropy", [[0.5, 0.5], [1.0, 1.0]], 2, 2, ValueError, r'y\[1\] sums to 2;.*"logistic"'),
    ("cross_entropy", [[0.5, 0.5], [3.0, 4.0]], 2, 2, ValueError, r'y\[1\] sums to 7;.*"squared_error"'),
    ("cross_entropy", [[0.5, 0.5], [np.nan, 1.0]], 2, 2, ValueError, r"y\[1\] has a target of nan"),
    ("cross_entropy", [[0.5, 0.5]], 2, 2, ValueError, r"soft targets must be \(2, 2\)"),
    ("cross_entropy", ["a", "b"], 2, 2, TypeError, "normcore.encode_labels"),
    ("logistic", [0, 2], 2, 3, ValueError, r'y is int64 \(2,\).*\(2, 3\), a number for each.*loss="cross_entropy"'),
    ("logistic", [[0.0, 1.5]], 1, 2, ValueError, r'y\[0, 1\] is 1.5.*probabilities between.*"squared_error"'),
    ("logistic", [[3, 1]], 1, 2, ValueError, r'y\[0, 0\] is 3;.*loss="poisson"'),
    ("squared_error", [1.0, np.inf], 2, 1, ValueError, r"y\[1\] is inf; targets must be finite"),
    ("squared_error", [1, 0], 2, 2, ValueError, 'loss="cross_entropy"'),
    ("squared_error", [1.0, 2.0, 3.0], 2, 1, ValueError, r"y is float64 \(3,\).*must be \(2,\) or \(2, 1\)"),
    ("huber", [[1.0, 2.0]], 1, 3, ValueError, r"targets of huber must be \(1, 3\)"),
    ("poisson", [2.0, -1.0], 2, 1, ValueError, r'y\[1\] is -1.0; targets of poisson are counts.*"squared_error"'),
    ("quantile", np.ma.masked_array([1.0], [True]), 1, 1, TypeError, "masked array"),
    ("quantile", np.ones(1, np.float16), 1, 1, TypeError, "float16"),
]


@pytest.mark.parametrize(("name", "y", "rows", "outputs", "error", "text"), REFUSED)
def test_targets_that_do_not_fit(name: str, y: Any, rows: int, outputs: int, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"(?s)^Trainer.fit: .*{text}"):
        losses.get(name).check_targets(y, rows, outputs, WHERE)


def test_a_target_beyond_the_models_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match=r"y\[1, 0\] is 1e\+300, which does not fit float32"):
        losses.squared_error().check_targets([[1.0], [1e300]], 2, 1, WHERE, dtype="float32")


def test_no_rows_are_targets_of_any_loss() -> None:
    for loss in ALL:
        outputs = 2
        y = np.zeros(0, np.int64) if loss.has_classes else np.zeros((0, outputs))
        assert len(loss.check_targets(y, 0, outputs, WHERE)) == 0


# ---------------------------------------------------------------- predictions and scores


def test_cross_entropy_is_that_of_the_core() -> None:
    z, labels = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]]), np.array([1, 0])
    options = {"class_weight": [1.0, 2.0, 3.0], "sample_weight": [0.5, 1.0], "label_smoothing": 0.1}
    value, gradient, weight_sum = losses.cross_entropy()(z, labels, **options)
    expected = normcore.softmax_cross_entropy(z, labels, **options)
    assert (value, weight_sum) == (expected[0], expected[2])
    assert gradient.tobytes() == expected[1].tobytes()


def test_predictions_follow_the_link() -> None:
    y = np.array([[0.0, 2.0], [-1.0, -3.0]], np.float32)
    one = y[:, :1]
    assert losses.cross_entropy().predict(y).tolist() == [1, 0]
    assert losses.cross_entropy().predict_proba(y).sum(axis=1) == pytest.approx(1.0)
    assert losses.logistic().predict(y).tolist() == [[0, 1], [0, 0]]
    assert losses.logistic().predict(one).tolist() == [0, 0]
    assert losses.logistic().predict_proba(one) == pytest.approx([0.5, 0.26894142])
    for loss in (losses.squared_error(), losses.huber(), losses.quantile()):
        assert loss.predict(y).tolist() == y.tolist()
        assert loss.predict(one).tolist() == [0.0, -1.0]
        with pytest.raises(TypeError, match=f"the loss is {loss.name}, which predicts numbers"):
            loss.predict_proba(y)


def test_accuracy() -> None:
    z = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    loss = losses.cross_entropy()
    assert (loss.metric, loss.lower_is_better) == ("accuracy", False)
    assert loss.score(z, np.array([0, 1, 0])) == 2 / 3
    assert loss.score(z, np.array([[0.9, 0.1], [0.2, 0.8], [1.0, 0.0]])) == 2 / 3
    assert loss.score(z, np.array([0, 1, 0]), [1.0, 1.0, 2.0]) == 0.5
    assert losses.logistic().score(z - 0.5, np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])) == 2 / 3
    with pytest.raises(ValueError, match="no rows"):
        loss.score(z[:0], np.array([], np.int64))


def test_scores_of_numbers_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(5)
    y, t, w = rng.normal(size=(40, 3)), rng.normal(size=(40, 3)), rng.uniform(size=40)
    for weight in (None, w):
        found = losses.squared_error().metrics(y, t, weight)
        assert found["r2"] == pytest.approx(metrics.r2_score(t, y, sample_weight=weight))
        squared = metrics.mean_squared_error(t, y, sample_weight=weight)
        assert found["rmse"] == pytest.approx(np.sqrt(squared))
        assert found["mae"] == pytest.approx(metrics.mean_absolute_error(t, y, sample_weight=weight))
    assert losses.huber().score(y, t) == losses.squared_error().score(y, t)


def test_r2_of_constant_targets() -> None:
    t = np.ones((3, 1))
    assert losses.squared_error().score(t, t) == 1.0
    assert losses.squared_error().score(t + 1.0, t) == 0.0
    assert np.isnan(losses.squared_error().score(t * np.nan, t))


@pytest.mark.parametrize("loss", [*ALL[1:], losses.huber(0.25), losses.quantile(0.9)], ids=repr)
def test_losses_of_numbers_are_those_of_the_core(loss: losses.Loss) -> None:
    y, t, weight = np.array([[0.5], [-1.0], [2.0]]), np.array([[1.0], [0.0], [1.0]]), [1.0, 0.5, 2.0]
    name = loss.name if loss.name == "squared_error" else f"{loss.name}_loss"
    expected = getattr(normcore, name)(y, t, sample_weight=weight, **loss.parameters)
    value, gradient, weight_sum = loss(y, t, sample_weight=weight)
    assert (value, weight_sum) == (expected[0], expected[2])
    assert gradient.tobytes() == expected[1].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_poisson_loss_predicts_the_exp_of_the_contract(dtype: str) -> None:
    contract = pytest.importorskip("normcore.testing.contract")
    y = np.linspace(-110, 100, 600).astype(dtype).reshape(200, 3)
    assert losses.poisson().predict(y).tobytes() == contract.exp(y).tobytes()
    assert losses.poisson().predict(y[:, :1]).shape == (200,)
    assert losses.poisson().predict(y[::-1, :1]).tolist() == contract.exp(y[::-1, 0]).tolist()


def test_targets_of_no_rows_mean_nothing() -> None:
    with pytest.raises(ValueError, match=r"^f: y is .*2") as error:
        losses.get("squared_error").check_targets(np.zeros((0, 3)), (0,), 2, "f")
    assert "such targets are for" not in str(error.value)


@pytest.mark.parametrize("ignored", [None, -1, 3, -(2**63), 2**63, -(2**70)])
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64, np.uint8, bool])
def test_the_first_label_that_is_no_class_is_named(dtype: Any, ignored: int | None) -> None:
    check = losses.cross_entropy().check_targets
    good = np.array([0, 1, 1, 0]).astype(dtype)
    assert check(good, 4, 2, "here", ignore_index=ignored).tolist() == [0, 1, 1, 0]
    if dtype is bool:
        return
    end = np.iinfo(dtype).max if dtype is np.uint64 else 3
    for wrong in (3, end, 2) if np.dtype(dtype).kind == "u" else (3, -1, 2):
        labels = np.array([0, wrong, 1, 0], dtype)
        if wrong == ignored:
            assert check(labels, 4, 2, "here", ignore_index=ignored).tolist() == [0, wrong, 1, 0]
        else:
            with pytest.raises(ValueError, match=rf"^here: y\[1\] is {wrong}; labels must be in \[0, 2\)"):
                check(labels, 4, 2, "here", ignore_index=ignored)
    with pytest.raises(TypeError, match="first_bad_label: labels is an array of float64"):
        _core.first_bad_label(np.zeros(3), 2, None)  # type: ignore[arg-type]


def test_a_loss_is_copied_by_name_and_parameters() -> None:
    loss = losses.huber(0.5)
    assert loss.metric == "r2"
    for other in (pickle.loads(pickle.dumps(loss)), copy.copy(loss), copy.deepcopy(loss)):
        assert other == loss
        assert (other.metric, other.has_classes, other.lower_is_better) == ("r2", False, False)
    pickle.loads(pickle.dumps(losses.poisson()))  # whose check of targets is a function in a function
