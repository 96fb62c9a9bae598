"""The checker for students: every faulty file is named as its docstring says, and no right one is faulted."""

from __future__ import annotations

import ast
import fnmatch
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import normcore
from normcore.cli import main
from normcore.cs231n.checker import FUNCTIONS, CannotRunError, Report, check, known_mistakes
from normcore.cs231n.checker.checking import _table
from normcore.cs231n.checker.compare import Expected, describe, wide
from normcore.cs231n.checker.function import Case, Function
from normcore.cs231n.checker.judge import Run, judge
from normcore.cs231n.checker.process import CodeProcess, EndedError
from normcore.cs231n.checker.wire import LARGEST, Opaque, Reference, WireError, receive, send

HERE = Path(__file__).parent
FAULTY = sorted((HERE / "cs231n_mistakes").glob("*.py"))
RIGHT = sorted((HERE / "cs231n_right").glob("*.py"))
# The remarks about right files; all others are right without one.
REMARKS = {"vectorised": ["softmax_loss: right, but loss is inf where the label's score is 900 below the greatest*"]}


def docstring(path: Path) -> list[str]:
    """The lines that the checker is to print; a star stands for any text, such as numbers of lines."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()


def findings(report: Report) -> list[str]:
    found = [(v, finding) for kind in ("mistakes", "remarks") for v in report.verdicts for finding in getattr(v, kind)]
    return [f"{verdict.function}: {finding.text}" for verdict, finding in found]


def assert_lines(found: list[str], expected: list[str]) -> None:
    assert len(found) == len(expected), found
    for line, wanted in zip(found, expected, strict=True):
        assert fnmatch.fnmatchcase(line, wanted.replace("[", "[[]")), found


def checked(folder: Path, code: str, **options: Any) -> Report:
    path = folder / "layers.py"
    path.write_text("import numpy as np\n" + code)
    return check(path, **options)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("path", FAULTY, ids=[path.stem for path in FAULTY])
def test_a_mistake_is_named(path: Path) -> None:
    report = check(path)
    assert_lines(findings(report), docstring(path))
    assert report.right == all("right, but" in line for line in docstring(path))


def test_there_are_forty_mistakes() -> None:
    assert len(FAULTY) >= 40


@pytest.mark.parametrize("path", RIGHT, ids=[path.stem for path in RIGHT])
def test_what_is_right_passes(path: Path) -> None:
    report = check(path, edition=2017 if path.stem == "edition_2017" else 2019)
    assert_lines(findings(report), REMARKS.get(path.stem, []))
    assert report.right
    assert report.of("right")
    assert not report.of("wrong")


def test_the_course_over_normcore_passes() -> None:
    folder = Path(normcore.__file__).parent / "cs231n"
    report = check(folder)
    assert report.of("right") == list(FUNCTIONS), report.text()
    assert not findings(report)


def test_there_are_ten_right_ones() -> None:
    assert len(RIGHT) >= 10


# ---------------------------------------------------------------- the table


def function_of(name: str, edition: int = 2019) -> Function:
    return next(function for function in _table(edition) if function.name == name)


def pretended(function: Function, key: str) -> list[tuple[Case, dict[str, Any]]]:
    """What a code with a known mistake gives for the ordinary cases, in float64."""
    found = []
    for case in function.cases:
        if case.tag:
            continue
        seen: dict[str, Any] = {}
        if function.name.startswith("dropout"):
            rng = np.random.default_rng(3)
            mask = rng.random(case.given["x"].shape) < case.given["keep"]
            if key in ("inverted", "inverted unscaled", "p exchanged", "vanilla exchanged"):
                mask = ~mask
            kept = case.given["x"] * mask / case.given["keep"] if case.given["mode"] == "train" else case.given["x"]
            seen = {"out": mask * 1.0} if function.forward is None else {"forward": kept, "dx": 1.0 * (kept > 0)}
        with np.errstate(all="ignore"):
            outputs = function.reference(Case(wide(case.given)), frozenset([key]), seen)
        found.append((case, {name: np.asarray(value, np.float64) for name, value in outputs.items()}))
    return found


TABLE = [(function.name, key) for function in _table(2019) for key in function.mistakes]
# They show in the special cases alone.
SPECIAL = {("affine_backward", "dx unshaped"), ("relu_backward", "greater or equal"), ("relu_backward", "half")}


@pytest.mark.parametrize(("name", "key"), TABLE)
def test_no_two_mistakes_look_alike(name: str, key: str) -> None:
    function = function_of(name)
    outcomes = {id(case): outputs for case, outputs in pretended(function, key)}
    observed = lambda case, calls: outcomes[id(case)]  # noqa: E731
    pretender = Function(**{**vars(function), "observed": observed, "cases": [c for c in function.cases if not c.tag]})
    call = {"result": np.zeros(1), "tuple": True, "changed": [], "after": {}}
    verdict = judge(pretender, [Run(case, [call, call]) for case in pretender.cases], None, lambda case: None)
    named = [finding.mistake for finding in (*verdict.mistakes, *verdict.remarks)]
    assert named == ([] if (name, key) in SPECIAL else [key])


def test_the_sentences_of_a_function_differ() -> None:
    for edition in (2017, 2019):
        for name, sentences in known_mistakes(edition).items():
            assert len(set(sentences)) == len(sentences), name
    assert known_mistakes(2017)["dropout_forward"] != known_mistakes(2019)["dropout_forward"]


def test_the_page_lists_what_is_known() -> None:
    page = (HERE.parents[1] / "docs" / "cs231n-checker.md").read_text()
    missing = [s for sentences in known_mistakes().values() for s in sentences if s.replace("|", "\\|") not in page]
    assert not missing


# ---------------------------------------------------------------- what no mistake of the table explains


def test_the_difference_is_told(tmp_path: Path) -> None:
    code = "def relu_forward(x):\n    return np.where(x > 0, x, 0.3 - x * x), x\n"
    (line,) = findings(checked(tmp_path, code))
    assert line.startswith("relu_forward: out is wrong in 20 of 40 elements") or "relu_forward: out is wrong in" in line
    assert " instead of 0 (x of shape (" in line


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("-np.maximum(x, 0)", "out has the wrong sign"),
        ("0 * x", "out is 0 everywhere"),
        ("3 * np.maximum(x, 0)", "out is 3 times what it should be"),
        ("len(x) * np.maximum(x, 0)", "out is N times what it should be"),
        ("np.maximum(x, 0) / x.shape[1]", "out is 1/D times what it should be"),
        ("np.maximum(x, 0) * len(x) / x.shape[1]", "out is N/D times what it should be"),
        ("np.maximum(x, 0).astype(int)", "out is cut off to whole numbers"),
        ("np.round(np.maximum(x, 0))", "out is rounded to whole numbers"),
        ("np.maximum(x, 0) ** 2", "out is the square of what it should be"),
        ("np.maximum(x, 0)[::-1]", "out is what it should be but in reversed order of the rows"),
        ("np.maximum(x, 0)[None]", "out has shape (1, 4, 5) instead of (4, 5), though its values are right: leave*"),
        ("np.maximum(x, 0).ravel()", "out has shape (20,) instead of (4, 5), though its values are right"),
        ("np.maximum(x, 0).T", "out is transposed: it has shape (5, 4) instead of (4, 5)"),
        ("np.maximum(x, 0)[:-1]", "out has shape (3, 5) instead of (4, 5) (x of shape (4, 5))"),
        ("x.max()", "out is a single number instead of an array of shape (4, 5) (x of shape (4, 5))"),
        ("np.log(x)", "out is NaN at * (x of shape (4, 5))"),
        ("np.maximum(x, 0) / (np.arange(x.shape[1]) > 0)", "out is * at [[]0, 0] (x of shape (4, 5))"),
        ("np.maximum(x, 0) + (np.arange(x.shape[1]) == 1)", "out is wrong in 4 of 20 elements*, in column 1 alone*"),
        ("np.maximum(x, 0) + (np.arange(len(x)) == 1)[:, None]", "out is wrong in 5 of 20*, in row 1 alone*"),
        ("np.maximum(x, 0) + (len(x) == 4)", "*; 1 of 2 cases are right)"),
    ],
)
def test_the_difference_in_words(tmp_path: Path, expression: str, words: str) -> None:
    report = checked(tmp_path, f"def relu_forward(x):\n    return {expression}, x\n")
    first = findings(report)[0].removeprefix("relu_forward: ")
    assert fnmatch.fnmatchcase(first, words.replace("[", "[[]") if "[[]" not in words else words), first


def test_a_wrong_coefficient_is_told() -> None:
    function = function_of("batchnorm_backward")
    cases = [case for case in function.cases if not case.tag]
    expected = [Expected(function, case, {}) for case in cases]
    values = []
    for e in expected:
        terms = list(e.terms()["dx"].values())
        values.append(np.asarray(terms[0] + terms[1] * 2.5 - terms[2], np.float64))
    words = describe("dx", values, expected)
    assert words == (
        "in dx, the term through the mean is 2.5 times what it should be and the term through the variance has the "
        "wrong sign"
    )


def test_coefficients_that_follow_no_rule_are_not_told() -> None:
    function = function_of("batchnorm_backward")
    expected = [Expected(function, case, {}) for case in function.cases if not case.tag]
    values = []
    for e, coefficient in zip(expected, (2.5, 1.7, 0.3, 4.1), strict=True):
        terms = list(e.terms()["dx"].values())
        values.append(np.asarray(terms[0] + terms[1] * coefficient + terms[2], np.float64))
    assert describe("dx", values, expected).startswith("dx is wrong in ")


def test_lost_digits_are_a_remark(tmp_path: Path) -> None:
    code = "def relu_forward(x):\n    return np.maximum(x, 0).astype(np.float32).astype(float), x\n"
    (line,) = findings(checked(tmp_path, code))
    assert line == "relu_forward: right, but out has 7 correct digits of 16: is something in it float32"


CONFIG = "    config = {'learning_rate': 1e-2, 'momentum': 0.9, **(config or {})}\n"
STATISTICS = """
def batchnorm_forward(x, gamma, beta, bn_param):
    for name in ("running_mean", "running_var"):
        bn_param.setdefault(name, np.zeros(x.shape[1]))
    mean, var, keep = bn_param["running_mean"], bn_param["running_var"], bn_param.get("momentum", 0.9)
    if bn_param["mode"] == "train":
        bn_param["running_mean"] = keep * mean + (1 - keep) * x.mean(0)
        bn_param["running_var"] = keep * var + (1 - keep) * x.var(0)
        mean, var = MEAN, x.var(0)
    return gamma * (x - mean) / np.sqrt(var + bn_param.get("eps", 1e-5)) + beta, None
"""
ADAM_FROM_ONE = """
def adam(w, dw, config=None):
    c = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "m": 0.0, "v": 0.0, "t": 1}
    c.update(config or {})
    c["t"] += 1
    c["m"] = c["beta1"] * c["m"] + (1 - c["beta1"]) * dw
    c["v"] = c["beta2"] * c["v"] + (1 - c["beta2"]) * dw**2
    m, v = c["m"] / (1 - c["beta1"] ** c["t"]), c["v"] / (1 - c["beta2"] ** c["t"])
    return w - c["learning_rate"] * m / (np.sqrt(v) + c["epsilon"]), c
"""
RELU = "def relu_forward(x):\n    return np.maximum(x, 0), {'x': x}\n"


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        (
            RELU + "def relu_backward(dout, c):\n    return dout, c\n",
            ["relu_backward: returns 2 values instead of dx alone"],
        ),
        (
            "def affine_forward(x, w, b):\n    return x.reshape(len(x), -1) @ w + b, (x, w)\n"
            "def affine_backward(dout, c):\n    x, w = c\n    dx, dw = dout @ w.T, x.reshape(len(x), -1).T @ dout\n"
            "    return dx.reshape(x.shape), dw, dout.sum(axis=0).tolist()\n",
            [],
        ),
        (
            RELU + "def relu_backward(dout, c):\n    return dout * (c.pop('x') > 0)\n",
            ["relu_backward: the cache was modified: a second call with it raises KeyError in line 5 of *"],
        ),
        ("def softmax_loss(x, y):\n    return 1.0, None\n", ["softmax_loss: returns None as dx"]),
        (
            "def softmax_loss(x, y):\n    return x.shape[0] + x.sum(), np.sign(x)\n",
            ["softmax_loss: loss is wrong: * instead of * (x of shape (*", "softmax_loss: dx is wrong in *"],
        ),
        ("def dropout_forward(x, dropout_param):\n    return x[0], None\n", ["dropout_forward: out has shape (50,)*"]),
        (
            "def dropout_forward(x, dropout_param):\n    return x * (np.random.rand(*x.shape) < 0.5), None\n",
            [
                "dropout_forward: drops in test mode too",
                "dropout_forward: the seed of dropout_param is not used: no two calls agree, as gradient checks need",
                "dropout_forward: out is wrong in *",
                "dropout_forward: the share of elements that are kept is wrong: 0.* instead of 0.3 *",
            ],
        ),
        (
            STATISTICS.replace("MEAN", "np.median(x, axis=0)"),
            ["batchnorm_forward: out is wrong in * (x of shape *, train mode; test mode is right)"],
        ),
        (STATISTICS.replace("MEAN", "x.mean(0)"), []),
        (
            STATISTICS.replace("MEAN", "x.mean(0)").replace(
                "x.mean(0)\n        bn_param", "np.median(x, axis=0, keepdims=True)\n        bn_param"
            ),
            ["batchnorm_forward: running_mean is wrong in *train mode; test mode is right)"],
        ),
        (
            "def affine_forward(x, w, b):\n    return 3 * (x.reshape(len(x), -1) @ w), None\n",
            ["affine_forward: in out, the product of x and w is 3 times what it should be and the bias is missing"],
        ),
        (
            "def affine_forward(x, w, b):\n    return x.shape[0] * (x.reshape(len(x), -1) @ w) + b.sum(), None\n",
            ["affine_forward: out is wrong in *"],
        ),
        (
            f"def sgd_momentum(w, dw, config=None):\n{CONFIG}    return w[0], config\n",
            ["sgd_momentum: next_w has shape (4,)*"],
        ),
        (
            f"def sgd_momentum(w, dw, config=None):\n{CONFIG}    config['velocity'] = np.zeros(np.random.randint(99))\n"
            "    return w, config\n",
            ["sgd_momentum: next_w is wrong, most at *", "sgd_momentum: velocity has shape *"],
        ),
        (
            "def sgd(w, dw, config=None):\n    return w, None\n",
            ["sgd: does not return its config as the second value (w of shape (3, 4))"],
        ),
        (
            f"def sgd_momentum(w, dw, config=None):\n{CONFIG}    if 'used' in config:\n        raise OSError('again')\n"
            "    return w, {**config, 'used': 1}\n",
            ["sgd_momentum: raises OSError in line 5 of layers.py: again (w of shape (3, 4))"],
        ),
        (ADAM_FROM_ONE, []),
    ],
)
def test_findings(tmp_path: Path, code: str, lines: list[str]) -> None:
    assert_lines(findings(checked(tmp_path, code)), lines)


# ---------------------------------------------------------------- functions that follow others


def test_a_backward_of_a_wrong_forward_is_not_faulted(tmp_path: Path) -> None:
    code = """
def affine_forward(x, w, b):
    return 3 * x.reshape(len(x), -1) @ w + b, (x, w)
def affine_backward(dout, cache):
    x, w = cache
    return 3 * (dout @ w.T).reshape(x.shape), 3 * x.reshape(len(x), -1).T @ dout, dout.sum(0)
"""
    report = checked(tmp_path, code)
    assert [v.status for v in report.verdicts[:2]] == ["wrong", "unjudged"]
    assert report.verdicts[1].note == "right for what affine_forward computes: dx and dw"


def test_what_cannot_be_judged_is_said(tmp_path: Path) -> None:
    code = """
def affine_forward(x, w, b):
    return 3 * x.reshape(len(x), -1) @ w + b, (x, w)
def affine_backward(dout, cache):
    x, w = cache
    return 5 * (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(1)
"""
    report = checked(tmp_path, code)
    verdict = report.verdicts[1]
    assert [finding.mistake for finding in verdict.mistakes] == ["db over axis 1"]
    assert verdict.note == "before affine_forward is right, dx cannot be judged"
    assert "affine_backward: before affine_forward is right, dx cannot be judged" in report.lines()


def test_a_mistake_beside_that_of_the_forward(tmp_path: Path) -> None:
    code = """
def batchnorm_forward(x, gamma, beta, bn_param):
    divisor = np.sqrt((x**2).mean(0) + bn_param.get("eps", 1e-5))
    xhat = (x - x.mean(0)) / divisor
    return gamma * xhat + beta, (xhat, divisor, gamma)
def batchnorm_backward(dout, cache):
    xhat, divisor, gamma = cache
    dx = (dout - dout.mean(0) - xhat * (dout * xhat).mean(0)) / divisor
    return dx, (dout * xhat).sum(0), dout.sum(0)
"""
    verdict = checked(tmp_path, code, only=["batchnorm_backward"]).verdicts[0]
    assert [finding.mistake for finding in verdict.mistakes] == ["dx no gamma"]
    assert verdict.note == "right for what batchnorm_forward computes: dgamma"


def test_a_backward_of_interleaved_groups_is_not_faulted(tmp_path: Path) -> None:
    code = """
def rows(x, G):
    n, c, h, w = x.shape
    return x.reshape(n, c // G, G, h, w).swapaxes(1, 2).reshape(n * G, -1)
def back(x, shape, G):
    n, c, h, w = shape
    return x.reshape(n, G, c // G, h, w).swapaxes(1, 2).reshape(shape)
def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    r = rows(x, G)
    std = np.sqrt(r.var(1, keepdims=True) + gn_param.get("eps", 1e-5))
    xhat = (r - r.mean(1, keepdims=True)) / std
    return gamma * back(xhat, x.shape, G) + beta, (xhat, std, gamma, G)
def spatial_groupnorm_backward(dout, cache):
    xhat, std, gamma, G = cache
    d = rows(dout * gamma, G)
    dx = (d - d.mean(1, keepdims=True) - xhat * (d * xhat).mean(1, keepdims=True)) / std
    sums = {"axis": (0, 2, 3), "keepdims": True}
    return back(dx, dout.shape, G), (dout * back(xhat, dout.shape, G)).sum(**sums), dout.sum(**sums)
"""
    report = checked(tmp_path, code)
    assert [finding.mistake for v in report.verdicts for finding in v.mistakes] == ["interleaved"]
    assert report.of("unjudged") == ["spatial_groupnorm_backward"]


def test_dropout_after_a_wrong_dropout(tmp_path: Path) -> None:
    code = """
def dropout_forward(x, dropout_param):
    return 3 * x, None
def dropout_backward(dout, cache):
    return 7 * dout
"""
    (verdict,) = checked(tmp_path, code, only=["dropout_backward"]).verdicts
    assert (verdict.status, verdict.note) == ("unjudged", "before dropout_forward is right, dx cannot be judged")


def test_a_cache_that_is_not_there(tmp_path: Path) -> None:
    for forward, note in (
        ("", "its cache comes from relu_forward, which is not in the file"),
        ("def relu_forward(x):\n    pass\n", "its cache comes from relu_forward, which is not written yet"),
        (
            "def relu_forward(x):\n    return None, None\n",
            "its cache comes from relu_forward, which is not written yet",
        ),
        ("def relu_forward(x):\n    return x\n", "its cache comes from relu_forward, which does not give one"),
        ("def relu_forward(x):\n    raise OSError\n", "its cache comes from relu_forward, which does not give one"),
    ):
        report = checked(
            tmp_path, forward + "def relu_backward(dout, cache):\n    return dout\n", only=["relu_backward"]
        )
        (verdict,) = report.verdicts
        assert (verdict.status, verdict.note) == ("unjudged", note)


def test_a_forward_whose_gradients_cannot_be_had(tmp_path: Path) -> None:
    code = """
import os
calls = 0
def relu_forward(x):
    global calls
    calls += 1
    if calls > 14:
        os._exit(3)
    return -np.abs(x), x
def relu_backward(dout, cache):
    return 7 * dout * np.cos(cache)
"""
    report = checked(tmp_path, code, only=["relu_backward"])
    assert report.verdicts[0].status in ("unjudged", "wrong")


# ---------------------------------------------------------------- files as students have them


def test_unwritten_functions_are_listed(tmp_path: Path) -> None:
    code = '''
def affine_forward(x, w, b):
    """To do."""
    raise NotImplementedError("to do")
def relu_forward(x):
    out = None
    return out, x
def relu_backward(dout, cache):
    dx, x = None, cache
    return dx
def softmax_loss(x, y):
    pass
def dropout_forward(x, dropout_param):
    out = None
    return out.astype(x.dtype, copy=False), None
def sgd_momentum(w, dw, config=None):
    return None, config
def svm_loss(x, y):
    return None, None
def adam(w, dw, config=None):
    raise NotImplementedError
'''
    report = checked(tmp_path, code)
    unwritten = [
        "affine_forward",
        "relu_forward",
        "softmax_loss",
        "svm_loss",
        "dropout_forward",
        "sgd_momentum",
        "adam",
    ]
    assert report.of("unwritten") == unwritten
    assert report.right
    lines = report.lines()
    assert "not written yet: affine_forward, relu_forward, softmax_loss" in "\n".join(lines)
    assert lines[-1] == "0 right, 0 wrong, 1 not judged, 7 not written, 13 missing"


def test_unwritten_functions_beside_written_ones(tmp_path: Path) -> None:
    code = """
def relu_forward(x):
    return np.maximum(x, 0), x
def relu_backward(dout, cache):
    dx, x = None, cache
    return dx
def dropout_forward(x, dropout_param):
    mask, out = None, None
    return out, (dropout_param, mask)
"""
    assert checked(tmp_path, code).of("unwritten") == ["relu_backward", "dropout_forward"]


def test_imports_of_the_course_work(tmp_path: Path) -> None:
    folder = tmp_path / "cs231n"
    folder.mkdir()
    (folder / "helper.py").write_text("import numpy as np\ndef positive(x):\n    return np.maximum(x, 0)\n")
    (folder / "layers.py").write_text(
        "from builtins import range\nfrom past.builtins import xrange\nfrom future.utils import iteritems\n"
        "import matplotlib.pyplot as plt\nfrom .helper import positive\nfrom cs231n.helper import positive as again\n"
        "from .im2col import *\nfrom cs231n.fast_layers import conv_forward_fast\nfrom six.moves import cPickle\n"
        "from .layer_utils import *\nimport helper\n"
        "def relu_forward(x):\n    assert list(xrange(2)) == [0, 1]\n    return again(positive(x)), x\n"
        "def conv_forward_naive(x):\n    return conv_forward_fast(x)\n"
        "def relu_backward(dout, x):\n    return conv_forward_fast(dout)\n"
    )
    (folder / "optim.py").write_text("def sgd(w, dw, config=None):\n    return w, config\n")
    report = check(folder)
    assert [v.function for v in report.verdicts if v.status in ("right", "wrong")] == [
        "relu_forward",
        "relu_backward",
        "sgd",
    ]
    assert "conv_forward_naive" in report.others
    text = report.text()
    assert "relu_backward: raises ModuleNotFoundError in line 18 of layers.py: cs231n.fast_layers is not there" in text


def test_the_first_file_counts(tmp_path: Path) -> None:
    for name, code in (("a", "np.maximum(x, 0)"), ("b", "x")):
        (tmp_path / f"{name}.py").write_text(f"import numpy as np\ndef relu_forward(x):\n    return {code}, x\n")
    assert check(tmp_path / "a.py", tmp_path / "b.py").right
    assert not check(tmp_path / "b.py", tmp_path / "a.py").right


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def f(:\n", "layers.py: line 2: SyntaxError: "),
        ("import sys\nsys.exit(3)\n", "layers.py: line 3: calls sys.exit while it is imported"),
        ("import os\nos._exit(3)\n", "layers.py: ends its process with status 3 while it is imported"),
        (
            "import os\nos.kill(os.getpid(), 9)\n",
            "layers.py: ends its process with signal SIGKILL while it is imported",
        ),
        ("import nowhere\n", "layers.py: line 2: ModuleNotFoundError: No module named 'nowhere'"),
        ("while True:\n    pass\n", "layers.py: cannot be imported within 1 s"),
        ("1 / 0\n", "layers.py: line 2: ZeroDivisionError: division by zero"),
        ("x = input()\n", "layers.py: line 2: EOFError: EOF when reading a line"),
    ],
)
def test_what_cannot_be_run(tmp_path: Path, code: str, words: str) -> None:
    with pytest.raises(CannotRunError) as caught:
        checked(tmp_path, code, time_limit=1.0 if "while" in code else 20.0)
    assert words in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match=r"nix\.py: no such file"):
        check(tmp_path / "nix.py")
    with pytest.raises(CannotRunError, match=r"neither layers\.py nor optim\.py is in this folder"):
        check(tmp_path)
    (tmp_path / "notes.txt").write_text("no Python")
    with pytest.raises(CannotRunError, match="not a Python file"):
        check(tmp_path / "notes.txt")
    (tmp_path / "bytes.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CannotRunError, match="SyntaxError"):
        check(tmp_path / "bytes.py")


def test_arguments_are_checked(tmp_path: Path) -> None:
    for arguments, words in (
        ({"edition": 1900}, "edition 1900 is not a year of the course"),
        ({"time_limit": 0}, "the time limit must be greater than 0, not 0"),
        ({"only": ["relu"]}, "'relu' is not a function that is checked: affine_forward"),
    ):
        with pytest.raises(ValueError, match=words):
            checked(tmp_path, "", **arguments)
    with pytest.raises(ValueError, match="no files"):
        check()


# ---------------------------------------------------------------- code that misbehaves


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("while True: pass", "does not come to an end: stopped after 1 s (x of shape (4, 5))"),
        ("import time; time.sleep(60)", "does not come to an end: stopped after 1 s (x of shape (4, 5))"),
        ("import sys; sys.exit()", "calls sys.exit in line 3 of layers.py (x of shape (4, 5))"),
        ("import os; os._exit(0)", "ends its process with status 0 (x of shape (4, 5))"),
        ("import os, time; os.closerange(3, 99); time.sleep(60)", "closes the streams of its process (x of shape*"),
        ("import os; os.abort()", "ends its process with signal SIGABRT (x of shape (4, 5))"),
        ("return relu_forward(x)", "raises RecursionError in line 3 of layers.py: maximum recursion depth exceeded*"),
        ("raise KeyboardInterrupt", "raises KeyboardInterrupt in line 3 of layers.py (x of shape (4, 5))"),
        ("return np.ones((1 << 40,)), x", "needs more memory than it may have in line 3 of layers.py*"),
        ("return [x] * 3, x", "returns list as out"),
        ("return 'x', x", "returns str as out"),
        ("return {1: 2}, x", "returns dict as out"),
        ("return object(), x", "returns object as out"),
        ("return np.array([x, None], dtype=object), x", "returns array of object and shape (2,) as out"),
        ("return x", "returns a single value instead of out and cache"),
        ("return x, x, x", "returns 3 values instead of out and cache"),
        ("x = 1", "returns None instead of out and cache: its return statement is missing"),
        ("print('x' * 100000); return x, x", "out is x itself: negative inputs are not set to 0"),
    ],
)
def test_the_checker_survives(tmp_path: Path, body: str, words: str) -> None:
    path = tmp_path / "layers.py"
    path.write_text(f"def relu_forward(x):\n    import numpy as np\n    {body}\n")
    start = time.monotonic()
    report = check(path, time_limit=1.0)
    assert time.monotonic() - start < 40
    assert_lines(findings(report), [f"relu_forward: {words}"])


def test_the_others_are_checked_after_one_has_ended_the_process(tmp_path: Path) -> None:
    code = (
        "import os\ndef relu_forward(x):\n    os._exit(7)\n"
        "def sgd(w, dw, config=None):\n    return w - (config or {}).get('learning_rate', 1e-2) * dw, config or {}\n"
    )
    report = checked(tmp_path, code)
    assert report.of("wrong") == ["relu_forward"]
    assert report.of("right") == ["sgd"]


def assert_ended(pid: Path) -> None:
    """The process whose number is in a file ends within some seconds."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid.read_text()}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the process is still there")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("where", ["", "    "])
def test_the_code_ends_with_the_checker(tmp_path: Path, number: int, where: str) -> None:
    pid, path = tmp_path / "pid", tmp_path / "layers.py"
    loop = f"import os\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\nwhile True:\n    pass\n"
    path.write_text("def relu_forward(x):\n" * bool(where) + textwrap.indent(loop, where))
    command = [sys.executable, "-m", "normcore", "cs231n", "check", str(path), "--time-limit", "100"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            if pid.exists() and pid.read_text():
                break
            time.sleep(0.05)
        process.send_signal(number)
    assert_ended(pid)


def test_a_process_that_has_ended_between_two_commands() -> None:
    process = CodeProcess()
    try:
        assert process.ask({"do": "start"}, time.monotonic() + 60) == {}
        process._process.kill()
        process._process.wait()
        with pytest.raises(EndedError, match="ends its process with "):
            process.ask({"do": "start"}, time.monotonic() + 60)
    finally:
        process.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_the_code_starts_is_ended_with_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"""
import subprocess, sys
def relu_forward(x):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open({str(pid)!r}, "w").write(str(child.pid))
    while True:
        pass
"""
    checked(tmp_path, code, time_limit=2.0)
    assert_ended(pid)


# ---------------------------------------------------------------- messages


def test_messages_come_as_they_were_sent() -> None:
    message = {
        "a": [None, True, 1, -2.5, float("inf"), "text"],
        "b": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "c": Opaque("cache"),
        "d": Reference(1, 0),
        "e": np.float64(3.0),
        "f": np.longdouble(2.0),
        "g": np.array([True, False]),
    }
    stream = io.BytesIO()
    send(stream, message)
    stream.seek(0)
    found = receive(stream)
    assert found["a"] == message["a"]
    np.testing.assert_array_equal(found["b"], message["b"])
    assert (found["c"], found["d"]) == (Opaque("cache"), Reference(1, 0))
    assert (float(found["e"]), float(found["f"]), found["g"].tolist()) == (3.0, 2.0, [True, False])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (object(), "object"),
        (1 << 80, "int"),
        ([0] * 1001, "list"),
        (np.zeros(LARGEST + 1, np.int8), f"array of int8 and shape ({LARGEST + 1},)"),
        (np.array([1j]), "array of complex128 and shape (1,)"),
    ],
)
def test_what_is_no_data_is_told_by_its_kind(value: Any, kind: str) -> None:
    stream = io.BytesIO()
    send(stream, [value])
    stream.seek(0)
    assert receive(stream) == [Opaque(kind)]


def test_messages_that_are_none() -> None:
    def message(text: bytes, data: bytes = b"") -> io.BytesIO:
        return io.BytesIO(len(text).to_bytes(8, "little") + len(data).to_bytes(8, "little") + text + data)

    for stream in (
        io.BytesIO(b""),
        io.BytesIO(b"\xff" * 32),
        message(b"{"),
        message(b'{"array": ["<f8", [4], 0]}', b"\0" * 8),
        message(b'{"array": ["|O", [1], 0]}', b"\0" * 8),
        message(b'{"what": 1}'),
        message(b'{"a": 1, "b": 2}'),
    ):
        with pytest.raises(WireError):
            receive(stream)


Ask = Callable[[dict[str, Any]], Any]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Asks the process of the code, which ends in the end by itself, as coverage needs."""
    command = [sys.executable, "-m", "normcore.cs231n.checker.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        streams = process.stdin, process.stdout

        def ask(message: dict[str, Any]) -> Any:
            send(streams[0], message)
            return receive(streams[1])

        assert ask({"do": "start"}) == {}
        yield ask
        process.stdin.close()
        assert process.wait(20) == 0


def call(function: str, watched: Sequence[str] = (), **arguments: Any) -> dict[str, Any]:
    return {"function": function, "arguments": arguments, "watched": list(watched), "opaque": [1]}


def test_the_process_of_the_code(tmp_path: Path, ask: Ask) -> None:
    """The conversation with it, to its end."""
    path = tmp_path / "layers.py"
    path.write_text(
        "def relu_forward(x):\n    if x.sum() > 100:\n        raise OSError('too much')\n    return x * (x > 0), x\n"
    )
    x = np.array([[1.0, -2.0]])
    gradients = {"do": "gradients", "function": "relu_forward", "dout": np.ones((1, 2)), "by": ["x"], "seed": 1}
    assert ask({"do": "load", "files": [str(path)], "memory": None}) == {"functions": {"relu_forward": str(path)}}
    (told,) = ask({"do": "run", "calls": [call("relu_forward", ["x"], x=x)], "seed": 1})["calls"]
    np.testing.assert_array_equal(told["result"][0], [[1.0, 0.0]])
    assert (told["result"][1], told["tuple"], told["changed"]) == (Opaque("ndarray"), True, [])
    found = ask({**gradients, "arguments": {"x": x}})["gradients"]["x"]
    np.testing.assert_allclose(found, [[1.0, 0.0]])
    error = ask({**gradients, "arguments": {"x": x + 1000}})["error"]
    assert (error["kind"], error["text"], error["line"]) == ("OSError", "too much", 3)


def test_what_the_process_says_of_files(tmp_path: Path, ask: Ask) -> None:
    def load(name: str, code: str) -> Any:
        path = tmp_path / name
        path.write_text(code)
        return ask({"do": "load", "files": [str(path)], "memory": None})

    def error(name: str, code: str) -> tuple[Any, ...]:
        found = load(name, code)
        assert found["file"] == str(tmp_path / name)
        return tuple(found["error"][key] for key in ("kind", "text", "line", "file"))

    assert error("notes.txt", "no Python") == ("ImportError", "not a Python file", None, "")
    assert error("a.py", "def f(:\n")[2:] == (1, "a.py")
    assert error("b.py", "\n1 / 0\n") == ("ZeroDivisionError", "division by zero", 2, "b.py")
    silent = "class Silent(Exception):\n    def __str__(self):\n        raise OSError\n\nraise Silent\n"
    assert error("c.py", silent) == ("Silent", "", 5, "c.py")
    assert error("d.py", "import nowhere\n")[:2] == ("ModuleNotFoundError", "No module named 'nowhere'")
    course = (
        "from past.builtins import xrange\nfrom .fast_layers import *\nfrom .fast_layers import conv\n"
        "import matplotlib.pyplot as plt\ndef f(x):\n    return list(xrange(2)), hasattr(plt, '__file__')\n"
        "def g(x):\n    return conv(x)\n"
    )
    assert set(load("e.py", course)["functions"]) >= {"f", "g"}
    first, second = (ask({"do": "run", "calls": [call(name, x=1)], "seed": 1})["calls"][0] for name in "fg")
    assert first["result"][0] == [0, 1]
    assert (second["error"]["kind"], second["error"]["line"]) == ("ModuleNotFoundError", 8)
    assert second["error"]["text"] == "cs231n.fast_layers is not there in the check, which was to give conv"


def test_what_the_process_says_of_calls(tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "layers.py"
    path.write_text(
        "class Odd:\n    def __deepcopy__(self, memo):\n        raise OSError('odd')\n"
        "def add(d, key):\n    d[key] = 1\n    return d\ndef drop(d, key):\n    return d.pop(key)\n"
        "def odd(x):\n    return Odd()\ndef wrong(x):\n    raise ValueError(x)\n"
    )
    ask({"do": "load", "files": [str(path), str(path)], "memory": 0})

    def run(*calls: dict[str, Any]) -> Any:
        return ask({"do": "run", "calls": list(calls), "seed": 1})["calls"]

    (told,) = run(call("add", ["d", "key"], d={"a": 2.0}, key="b"))
    assert (told["changed"], told["after"]) == ([], {"d": {"a": 2.0, "b": 1}})
    assert run(call("drop", ["d", "key"], d={"a": 2.0}, key="a"))[0]["changed"] == ["d"]
    errors = [run(call(name, x="no"), call("add", d={}, key="a")) for name in ("odd", "wrong")]
    assert [[told["error"]["text"] for told in calls] for calls in errors] == [["odd"], ["no"]]


# ---------------------------------------------------------------- the command


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    path = tmp_path / "layers.py"
    path.write_text("import numpy as np\ndef relu_forward(x):\n    return np.abs(x), x\n")
    return path


def test_the_command(layers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cs231n", "check", str(layers)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "relu_forward: negative inputs become positive, not 0: out is |x|"
    assert lines[1].startswith("not in the file: affine_forward, affine_backward, relu_backward,")
    assert lines[2] == f"0 right, 1 wrong, {len(FUNCTIONS) - 1} missing"


def test_the_command_with_options(layers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--only", "relu_forward,svm_loss", "sgd", "--examples", "--memory-limit", "0", "--time-limit", "9.5"]
    assert main(["cs231n", "check", str(layers), *options]) == 1
    out = capsys.readouterr().out
    assert "    x = np.array([[" in out
    assert "not in the file: svm_loss, sgd\n" in out
    layers.write_text("def relu_forward(x):\n    return x * (x > 0), x\n")
    assert main(["cs231n", "check", str(layers)]) == 0
    assert main(["cs231n", "check", str(layers), "--complete"]) == 1
    assert main(["cs231n", "check", str(layers), "--complete", "--only", "relu_forward"]) == 0


def test_an_example_can_be_pasted(tmp_path: Path) -> None:
    code = "def batchnorm_forward(x, gamma, beta, bn_param):\n    return x, None\n"
    lines = checked(tmp_path, code, only=["batchnorm_forward"]).lines(examples=True)
    names: dict[str, Any] = {"np": np}
    exec("\n".join(line[4:] for line in lines if line.startswith("    ")), names)
    assert names["x"].shape == names["dout"].shape
    assert set(names["bn_param"]) >= {"mode", "eps"}
    code = "def dropout_forward(x, dropout_param):\n    return 2 * x, None\n"
    text = checked(tmp_path, code, only=["dropout_forward"]).text(examples=True)
    assert "    # x: an array of shape (60, 50)" in text
    code = "def sgd(w, dw, config=None):\n    return w.astype(np.float32), config\n"
    assert "dw = [np.array(" in checked(tmp_path, code, only=["sgd"]).text(examples=True)


def test_json_for_graders(layers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cs231n", "check", str(layers), "--json", "--only", "relu_forward", "dropout_forward"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["right"] is False
    assert found["counts"] == {"right": 0, "wrong": 1, "unjudged": 0, "unwritten": 0, "missing": 1}
    (mistake,) = found["functions"]["relu_forward"]["mistakes"]
    assert mistake["mistake"] == "abs"
    assert np.shape(mistake["case"]["x"]) == (4, 5)
    assert found["functions"]["dropout_forward"]["status"] == "missing"
    layers.write_text("def sgd(w, dw, config=None):\n    return w + dw, config\n")
    assert main(["cs231n", "check", str(layers), "--json", "--only", "sgd"]) == 1
    case = json.loads(capsys.readouterr().out)["functions"]["sgd"]["mistakes"][0]["case"]
    assert [np.shape(dw) for dw in case["dw"]] == [np.shape(case["w"])] * 3
    assert case["config"] == {"learning_rate": 0.3}


def test_errors_of_the_command(layers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, words in (
        ([str(tmp_path / "nix.py")], "nix.py: no such file"),
        ([str(layers), "--time-limit", "0"], "'0' is not a number of seconds above 0"),
        ([str(layers), "--time-limit", "soon"], "'soon' is not a number of seconds above 0"),
        ([str(layers), "--memory-limit", "-1"], "argument --memory-limit: -1 is less than 0"),
        ([str(layers), "--edition", "1999"], "edition 1999 is not a year of the course, 2015 or later"),
        ([str(layers), "--only", "relu"], "'relu' is not a function that is checked"),
    ):
        assert main(["cs231n", "check", *options]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert words in captured.err
        assert captured.err.count("\n") == 1
    assert main(["cs231n", "check", "nix.py", "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"files": ["nix.py"], "error": "nix.py: no such file"}
    assert captured.err == "normcore: error: nix.py: no such file\n"


# ---------------------------------------------------------------- pytest


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_pytest_option(tmp_path: Path) -> None:
    (tmp_path / "layers.py").write_text(
        "import numpy as np\ndef relu_forward(x):\n    return np.abs(x), x\n"
        "def affine_forward(x, w, b):\n    return x.reshape(len(x), -1) @ w + b, None\n"
        "def svm_loss(x, y):\n    pass\n"
        "def relu_backward(dout, cache):\n    return dout * (cache >= 0)\n"
    )
    done = run_pytest(tmp_path, "--normcore-cs231n", "layers.py", "-rsfP")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "relu_forward: negative inputs become positive, not 0: out is |x|\n" in done.stdout
    assert "layers.py::relu_forward" in done.stdout
    assert "svm_loss: not written yet" in done.stdout
    assert "softmax_loss: not in the file" in done.stdout
    assert "affine_backward: not in the file" in done.stdout
    assert "right, but the gradient passes where x is 0" in done.stdout
    chosen = run_pytest(tmp_path, "--normcore-cs231n", "layers.py", "-k", "affine_forward")
    assert chosen.returncode == 0
    assert "1 passed" in chosen.stdout


def test_pytest_and_files_that_cannot_be_run(tmp_path: Path) -> None:
    absent = run_pytest(tmp_path, "--normcore-cs231n", "layers.py")
    assert absent.returncode == 4
    assert "layers.py: no such file" in absent.stderr
    (tmp_path / "layers.py").write_text("1 / 0\n")
    broken = run_pytest(tmp_path, "--normcore-cs231n", "layers.py", "-k", "sgd")
    assert broken.returncode == 1
    assert "ZeroDivisionError: division by zero" in broken.stdout


def test_pytest_does_not_import_the_package_for_others(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\ndef test_it():\n    assert 'normcore.cs231n' not in sys.modules\n"
    )
    assert run_pytest(tmp_path).returncode == 0
