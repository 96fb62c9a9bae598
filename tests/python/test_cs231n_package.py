"""The package cs231n: in memory, in a folder, of each edition; its data and pictures; the command that lays it down."""

from __future__ import annotations

import importlib
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normcore import cs231n
from normcore.cli import main
from normcore.cs231n import data_utils, edition_2017, edition_2018, vis_utils
from normcore.cs231n import layers as layers_of_normcore
from normcore.cs231n.classifiers import fc_net

EDITIONS = (2017, 2018, 2020, 2021, 2026)
# What the notebooks import, and from where.
IMPORTS = """
from cs231n.classifiers.fc_net import *
from cs231n.data_utils import get_CIFAR10_data, load_CIFAR10
from cs231n.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array
from cs231n.solver import Solver
from cs231n.layers import *
from cs231n.layer_utils import affine_relu_forward, affine_relu_backward, conv_relu_forward
from cs231n.fast_layers import conv_forward_fast
from cs231n.classifiers.cnn import *
from cs231n.vis_utils import visualize_grid
from cs231n.optim import sgd_momentum, rmsprop, adam
from cs231n import optim
import cs231n.layers
"""


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name == "cs231n" or name.startswith("cs231n.")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def imported() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(IMPORTS, names)
    return names


@pytest.mark.parametrize("edition", cs231n.EDITIONS)
@pytest.mark.parametrize("way", ["install", "init"])
def test_what_notebooks_import(edition: int, way: str, tmp_path: Path) -> None:
    if way == "install":
        package = cs231n.install(edition=edition)
    else:
        cs231n.init(tmp_path, edition=edition)
        sys.path.insert(0, str(tmp_path))
        package = importlib.import_module("cs231n")
        assert package.__file__ == str(tmp_path / "cs231n" / "__init__.py")
    assert edition == package.EDITION
    names = imported()
    drops = edition < 2018
    # fc_net hands on the layers, as the course's does
    assert {"affine_forward", "dropout_backward", "batchnorm_backward_alt", "conv_relu_forward"} <= set(names)
    assert repr(package) == f"<module 'cs231n' (normcore, edition {edition})>" or way == "init"
    assert ("batchnorm_forward_alt" in names) == drops
    assert names["dropout_forward"] is (edition_2017 if drops else layers_of_normcore).dropout_forward
    wanted = edition_2017 if drops else edition_2018 if edition < 2021 else fc_net
    assert issubclass(names["FullyConnectedNet"], wanted.FullyConnectedNet)
    assert names["FullyConnectedNet"].__doc__ == wanted.FullyConnectedNet.__doc__
    arguments: dict[str, Any] = {"dropout_keep_ratio" if edition > 2020 else "dropout": 0.5}
    arguments |= {"use_batchnorm": True} if drops else {"normalization": "batchnorm"}
    net = names["FullyConnectedNet"]([4], input_dim=3, num_classes=2, **arguments)
    x, y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1])
    data = {"X_train": x, "y_train": y, "X_val": x, "y_val": y}
    solver = names["Solver"](net, data, update_rule="adam", batch_size=2, num_epochs=1, verbose=False)
    solver.train()
    assert len(solver.loss_history) == 2


def test_a_network_goes_by_its_own_edition() -> None:
    """Also where it is imported without a package: 2017's drops what the others keep."""
    x, y = np.ones((200, 3)), np.zeros(200, int)
    for network, p in (
        (edition_2017.FullyConnectedNet, {"dropout": 0.9}),
        (fc_net.FullyConnectedNet, {"dropout_keep_ratio": 0.9}),
    ):
        net = network([50], input_dim=3, num_classes=2, seed=1, **p)
        net.params["b1"][:] = 1
        net.params["W2"][:] = np.eye(50, 2)
        out, _ = net._forward(x.astype(np.float32), "train")
        net.loss(x, y)
        share = (out[:, 0] == 0).mean()
        assert abs(share - (0.9 if network is edition_2017.FullyConnectedNet else 0.1)) < 0.07


@pytest.mark.parametrize("edition", EDITIONS)
def test_both_ways_give_the_same_modules(edition: int, tmp_path: Path) -> None:
    package = cs231n.init(tmp_path, edition=edition)
    written = {
        ".".join(("cs231n", *path.relative_to(package).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path.read_text()
        for path in package.rglob("*.py")
    }
    loader = cs231n.install(edition=edition).__loader__
    assert {name: loader.get_source(name) for name in written} == written  # type: ignore[union-attr]
    assert all(f"edition {edition}" in text.splitlines()[0] for text in written.values())


def test_install_once_more(tmp_path: Path) -> None:
    first = cs231n.install(edition=2019)
    assert cs231n.install(edition=2019) is first
    second = cs231n.install(edition=2017)
    assert second is not first
    assert second.EDITION == 2017
    assert imported()["dropout_forward"] is edition_2017.dropout_forward
    assert cs231n.install().EDITION == 2026
    with pytest.raises(ModuleNotFoundError, match=re.escape("No module named 'cs231n.rnn_layers'")):
        importlib.import_module("cs231n.rnn_layers")


def test_install_goes_before_a_folder(tmp_path: Path) -> None:
    (tmp_path / "cs231n").mkdir()
    (tmp_path / "cs231n" / "__init__.py").write_text("raise AssertionError\n")
    sys.path.insert(0, str(tmp_path))
    assert cs231n.install(edition=2020).EDITION == 2020


def test_install_refuses_where_another_has_been_imported(tmp_path: Path) -> None:
    (tmp_path / "cs231n").mkdir()
    (tmp_path / "cs231n" / "__init__.py").write_text("")
    sys.path.insert(0, str(tmp_path))
    importlib.import_module("cs231n")
    where = re.escape(str(tmp_path / "cs231n" / "__init__.py"))
    with pytest.raises(RuntimeError, match=f"install: cs231n from {where} has been imported already; restart"):
        cs231n.install()


def test_a_folder_without_init_counts_too(tmp_path: Path) -> None:
    (tmp_path / "cs231n").mkdir()
    sys.path.insert(0, str(tmp_path))
    importlib.import_module("cs231n")
    with pytest.raises(RuntimeError, match="cs231n from somewhere else"):
        cs231n.install()


@pytest.mark.parametrize("edition", [2016, 2027, -1])
def test_editions_that_there_are_not(edition: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="install: edition is"):
        cs231n.install(edition=edition)
    with pytest.raises(ValueError, match="init: edition is"):
        cs231n.init(tmp_path, edition=edition)
    assert not any(tmp_path.iterdir())
    with pytest.raises(TypeError, match="install: edition must be an integer"):
        cs231n.install(edition="2019")  # type: ignore[arg-type]


# ---------------------------------------------------------------- in a folder


def test_ones_own_function_takes_the_place_of_normcores(tmp_path: Path) -> None:
    package = cs231n.init(tmp_path, edition=2019)
    with (package / "layers.py").open("a") as file:
        file.write("\n\ndef relu_forward(x):\n    print('mine')\n    return x * (x > 0), x\n")
    with (package / "optim.py").open("a") as file:
        file.write("\n\ndef nesterov(w, dw, config):\n    print('my rule')\n    return w, config\n")
    program = """
import numpy as np
from cs231n.classifiers.fc_net import *
from cs231n.solver import Solver
relu_forward(np.ones(2))
net = FullyConnectedNet([4], input_dim=3, num_classes=2)
x, y = np.ones((4, 3)), np.zeros(4, int)
TwoLayerNet(3, 4, 2).loss(x)
Solver(net, dict(X_train=x, y_train=y, X_val=x, y_val=y), update_rule="nesterov", num_epochs=1, verbose=False).train()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    # one of its own, one of the two-layer net, one of the step, and two of the accuracies
    assert done.stdout.split("\n")[:-1] == ["mine"] * 3 + ["my rule"] * 4 + ["mine"] * 2


def test_init_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "cs231n").mkdir()
    (tmp_path / "cs231n" / "layers.py").write_text("mine")
    with pytest.raises(FileExistsError, match=r"cs231n: exists, and is left as it is"):
        cs231n.init(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cs231n"]
    assert [path.name for path in (tmp_path / "cs231n").iterdir()] == ["layers.py"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "cs231n").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        cs231n.init(other)


def test_init_writes_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = Path.write_text, []

    def fail(path: Path, text: str, **how: Any) -> int:
        written.append(path)
        if len(written) == 5:
            raise KeyboardInterrupt
        return write(path, text, **how)

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(KeyboardInterrupt):
        cs231n.init(tmp_path)
    assert len(written) == 5
    assert not any(tmp_path.iterdir())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "some" / "notebooks"
    assert main(["cs231n", "init", str(folder), "--edition", "2017"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{folder / 'cs231n'}: edition 2017 of the course's modules over normcore\n"
    assert "edition_2017" in (folder / "cs231n" / "layers.py").read_text()
    for arguments, words in (
        (["init", str(folder)], f"{folder / 'cs231n'}: exists, and is left as it is"),
        (["init", str(tmp_path), "--edition", "2016"], "edition is 2016; it must be a year from 2017 to 2026"),
        (["init", str(tmp_path), "--edition", "new"], "'new' must be a whole number"),
        (["init"], "the following arguments are required: DIR (see normcore cs231n init --help)"),
        ([], "the following arguments are required: COMMAND (see normcore cs231n --help)"),
        (["init", str(folder / "cs231n" / "layers.py")], "layers.py: not a folder"),
    ):
        assert main(["cs231n", *arguments]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("normcore: error: ")
        assert words in said.err
        assert said.err.count("\n") == 1
    assert main(["cs231n", "init", str(tmp_path)]) == 0
    assert "edition 2026" in capsys.readouterr().out


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cs231n", "init", "--help"]) == 0
    assert "normcore cs231n init assignment2 --edition 2017" in capsys.readouterr().out


# ---------------------------------------------------------------- data


def images(count: int, seed: int) -> tuple[Any, list[int]]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3072), dtype=np.uint8), random.integers(0, 10, count).tolist()


def pickled_by_python_2(pixels: Any, labels: list[int]) -> bytes:
    """As the files of the data set are: its strings and the bytes of its arrays are of Python 2's type str."""

    def text(data: bytes) -> bytes:
        return b"T" + len(data).to_bytes(4, "little") + data

    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR(K\x03" + text(b"|") + b"NNNI-1\nI-1\nK\x00tb"
    shape = b"(I%d\nI%d\nt" % pixels.shape
    state = b"(K\x01" + shape + dtype + b"I00\n" + text(pixels.tobytes()) + b"t"
    listed = b"(" + b"".join(b"I%d\n" % label for label in labels) + b"l"
    return b"\x80\x02}(" + text(b"data") + array + state + b"b" + text(b"labels") + listed + b"u."


def write_batch(path: Path, form: str, count: int, seed: int) -> None:
    pixels, labels = images(count, seed)
    if form == "bin":
        path.with_suffix(".bin").write_bytes(np.column_stack([np.array(labels, np.uint8), pixels]).tobytes())
    elif form == "py2":
        path.write_bytes(pickled_by_python_2(pixels, labels))
    else:
        path.write_bytes(pickle.dumps({"data": pixels, "labels": labels}, protocol=int(form)))


def write_folder(folder: Path, form: str) -> None:
    folder.mkdir(parents=True)
    # more than nine files: they are taken by their numbers
    for number in (1, 2, 10):
        write_batch(folder / f"data_batch_{number}", form, 4, number)
    write_batch(folder / "test_batch", form, 3, 99)
    (folder / "batches.meta").write_text("")


@pytest.mark.parametrize("form", ["py2", "2", "5", "bin"])
def test_cifar(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("cs231n/datasets/cifar-10-batches-" + ("bin" if form == "bin" else "py"))
    write_folder(folder, form)
    train = [images(4, number) for number in (1, 2, 10)]
    pixels, labels = np.concatenate([p for p, _ in train]), [label for _, own in train for label in own]

    x_train, y_train, x_test, y_test = data_utils.load_CIFAR10(folder)
    assert x_train.dtype == np.float64
    np.testing.assert_array_equal(x_train, pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert y_train.tolist() == labels
    assert x_test.shape == (3, 32, 32, 3)
    assert y_test.tolist() == images(3, 99)[1]
    x, y = data_utils.load_CIFAR_batch(next(folder.glob("data_batch_2*")))
    np.testing.assert_array_equal(x, x_train[4:8])
    assert y.tolist() == labels[4:8]

    data = data_utils.get_CIFAR10_data(7, 4, 2)
    shapes = {name: array.shape for name, array in data.items()}
    assert shapes == {
        "X_train": (7, 3, 32, 32),
        "y_train": (7,),
        "X_val": (4, 3, 32, 32),
        "y_val": (4,),
        "X_test": (2, 3, 32, 32),
        "y_test": (2,),
    }
    assert list(data) == list(shapes)
    mean = pixels[:7].mean(axis=0)
    np.testing.assert_allclose(data["X_val"].reshape(4, -1), pixels[7:11] - mean, atol=1e-12)
    np.testing.assert_allclose(data["X_train"].sum(axis=0), 0, atol=1e-10)
    raw = data_utils.get_CIFAR10_data(7, 4, 2, subtract_mean=False)
    np.testing.assert_array_equal(raw["X_test"].reshape(2, -1), images(3, 99)[0][:2])
    assert data_utils.get_CIFAR10_data(0, 4, 2)["X_train"].shape == (0, 3, 32, 32)
    with pytest.raises(
        ValueError, match=r"has 12 images to train and 3 to test with; num_training \+ .* is 50000 and num"
    ):
        data_utils.get_CIFAR10_data()


def test_data_beside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = cs231n.init(tmp_path / "a", edition=2021)
    write_folder(package / "datasets" / "cifar-10-batches-py", "5")
    monkeypatch.chdir(tmp_path)
    sys.path.insert(0, str(tmp_path / "a"))
    loader = importlib.import_module("cs231n.data_utils")
    assert loader.get_CIFAR10_data(4, 4, 2)["y_train"].tolist() == images(4, 1)[1]
    os.rename(package / "datasets", tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=re.escape(str(package / "datasets" / "cifar-10-batches-py"))):
        loader.get_CIFAR10_data(4, 4, 2)
    # from its own folder the package's place is the first one, and named once
    monkeypatch.chdir(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match=r"none of cs231n/datasets/\S+, cs231n/datasets/\S+; put"):
        loader.get_CIFAR10_data(4, 4, 2)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch evil",)


def test_a_pickle_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data_batch_1").write_bytes(pickle.dumps({"data": Evil(), "labels": []}))
    with pytest.raises(ValueError, match=r"data_batch_1: not a file of CIFAR-10's Python version \(it asks for"):
        data_utils.load_CIFAR_batch("data_batch_1")
    assert os.listdir() == ["data_batch_1"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a file of CIFAR-10's Python version"),
        (b"text", "not a file of CIFAR-10's Python version"),
        (pickle.dumps([1]), "a dict of 'data'"),
        (pickle.dumps({"data": np.zeros((2, 3072)), "labels": [1, 2]}), "a dict of 'data'"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}), "a dict of 'data'"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}), "a dict of 'data'"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}), r"a label is not in \[0, 10\)"),
    ],
)
def test_other_files(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"load_CIFAR_batch: {re.escape(str(path))}: .*{words}"):
        data_utils.load_CIFAR_batch(path)


def test_other_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        data_utils.load_CIFAR10(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is not a folder of CIFAR-10: it has no data_batch_\*"):
        data_utils.load_CIFAR10(tmp_path)
    write_batch(tmp_path / "data_batch_1", "5", 2, 0)
    with pytest.raises(ValueError, match="is not a folder of CIFAR-10: it has no test_batch"):
        data_utils.load_CIFAR10(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"test_batch\.bin: 100 bytes are no whole number of records"):
        data_utils.load_CIFAR10(tmp_path)


# ---------------------------------------------------------------- pictures


def test_visualize_grid() -> None:
    x = np.random.default_rng(0).normal(size=(5, 2, 3, 3))
    grid = vis_utils.visualize_grid(x, ubound=10.0, padding=2)
    assert grid.shape == (3 * 2 + 2 * 2, 3 * 3 + 2 * 2, 3)
    fourth = grid[4:6, 0:3]
    np.testing.assert_allclose(fourth, 10 * (x[3] - x[3].min()) / (x[3].max() - x[3].min()))
    assert not grid[2:4].any()
    assert not grid[8:, 10:].any()
    assert not vis_utils.visualize_grid(np.ones((1, 2, 2, 1))).any()  # of one colour
    assert vis_utils.visualize_grid(np.ones((4, 2, 2, 1)), padding=0).shape == (4, 4, 1)


def test_vis_grid_and_vis_nn() -> None:
    x = np.random.default_rng(0).normal(size=(4, 2, 2, 1))
    for grid in (vis_utils.vis_grid(x), vis_utils.vis_nn([[x[0], x[1]], [x[2], x[3]]])):
        assert grid.shape == (5, 5, 1)
        scaled = (x - x.min()) / (x.max() - x.min())
        np.testing.assert_allclose(grid[:2, :2], scaled[0])
        np.testing.assert_allclose(grid[:2, 3:], scaled[1])
        np.testing.assert_allclose(grid[3:, :2], scaled[2])
        assert (grid[2] == 1).all()
    assert not vis_utils.vis_grid(np.ones((1, 2, 2, 1))).any()


@pytest.mark.parametrize("show", [vis_utils.visualize_grid, vis_utils.vis_grid, vis_utils.vis_nn])
def test_pictures_of_nothing(show: Any) -> None:
    for shape in ((0, 2, 2, 3), (2, 2), (1, 0, 2, 2, 3)):
        with pytest.raises(ValueError, match="it must be"):
            show(np.zeros(shape))


@pytest.mark.parametrize(
    "module",
    [
        "classifiers.fc_net",
        "data_utils",
        "edition_2017",
        "edition_2018",
        "gradient_check",
        "layer_utils",
        "layers",
        "optim",
        "package",
        "solver",
        "vis_utils",
    ],
)
def test_every_public_name_has_an_example(module: str) -> None:
    home = importlib.import_module(f"normcore.cs231n.{module}")
    public = [getattr(home, name) for name in home.__all__]
    documented = [value for value in public if callable(value) and "Not here" not in value.__doc__]
    assert documented
    assert not [value.__qualname__ for value in documented if ">>>" not in value.__doc__]
