"""What the extension module does when C says no, and where arguments touch one another without overlapping."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import normcore as nc
from normcore import _core
from normcore.testing import assert_same_bits

# Every operation once, by name.
CALLS = """
import numpy as np
import normcore as nc
from normcore import _core

x, v, labels = np.arange(12.0).reshape(4, 3), np.ones(3), np.array([0, 1, 2, 1])
w, ones = np.ones((3, 3)), np.ones(4)
net = _core.Network([3, 4, 3], norm="batch", dtype="float64")
params, buffers = np.ones(net.parameter_count), np.ones(net.buffer_count)
tape = nc._core.Pass(net, 4)
calls = {  # but for Network.backward, which needs a forward pass
    "affine_forward": lambda: nc.affine_forward(x, w),
    "affine_backward": lambda: nc.affine_backward(x, x, w),
    "relu_forward": lambda: nc.relu_forward(x),
    "relu_backward": lambda: nc.relu_backward(x, x),
    "leaky_relu_forward": lambda: nc.leaky_relu_forward(x),
    "leaky_relu_backward": lambda: nc.leaky_relu_backward(x, x),
    "tanh_forward": lambda: nc.tanh_forward(x),
    "tanh_backward": lambda: nc.tanh_backward(x, x),
    "logistic_forward": lambda: nc.logistic_forward(x),
    "logistic_backward": lambda: nc.logistic_backward(x, x),
    "silu_forward": lambda: nc.silu_forward(x),
    "silu_backward": lambda: nc.silu_backward(x, x),
    "relu6_forward": lambda: nc.relu6_forward(x),
    "relu6_backward": lambda: nc.relu6_backward(x, x),
    "softmax": lambda: nc.softmax(x),
    "log_softmax": lambda: nc.log_softmax(x),
    "softmax_backward": lambda: nc.softmax_backward(x, x),
    "log_softmax_backward": lambda: nc.log_softmax_backward(x, x),
    "softmax_cross_entropy": lambda: nc.softmax_cross_entropy(x, labels),
    "squared_error": lambda: nc.squared_error(x, x),
    "huber_loss": lambda: nc.huber_loss(x, x),
    "quantile_loss": lambda: nc.quantile_loss(x, x),
    "poisson_loss": lambda: nc.poisson_loss(x, x),
    "logistic_loss": lambda: nc.logistic_loss(x, w[:1].repeat(4, axis=0)),
    "batch_norm_forward": lambda: nc.batch_norm_forward(x, v, v),
    "batch_norm_backward": lambda: nc.batch_norm_backward(x, x, v, v, v),
    "layer_norm_forward": lambda: nc.layer_norm_forward(x, v, v),
    "layer_norm_backward": lambda: nc.layer_norm_backward(x, x, v, ones, ones),
    "dropout_forward": lambda: nc.dropout_forward(x, 0.5, seed=1),
    "dropout_backward": lambda: nc.dropout_backward(x, 0.5, seed=1),
    "random_uniform": lambda: nc.random_uniform(3, seed=1),
    "random_normal": lambda: nc.random_normal(3, seed=1),
    "random_integers": lambda: nc.random_integers(3, 7, seed=1),
    "random_permutation": lambda: nc.random_permutation(3, seed=1),
    "optimizer_update": lambda: nc.optimizer_update("sgd", params, params.copy(), None, None, learning_rate=0.1),
    "sum_of_squares": lambda: nc.sum_of_squares(x),
    "Network.initialize": lambda: net.initialize(params, buffers, seed=1),
    "Network.forward": lambda: net.forward(x, params, buffers, np.empty((4, 3))),
    "Network.forward_training": lambda: net.forward_training(x, params, buffers, tape, np.empty((4, 3))),
    "Network.loss_and_grads": lambda: net.loss_and_grads(x, labels, params, buffers, np.empty_like(params)),
}
operations = {n for n in nc.__all__ if callable(getattr(nc, n)) and n[0].islower()} - {
    "available_isas", "cpu_features", "encode_labels", "get_include", "get_isa", "get_library_dir", "get_num_threads",
    "load_model", "save_model", "selftest", "set_isa", "set_num_threads", "show_config",
}
assert operations == {name for name in calls if "." not in name}, operations ^ set(calls)
"""


def child(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "NORMCORE_ISA"}
    return subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_every_operation_names_a_bad_instruction_set_and_itself() -> None:
    code = (
        CALLS
        + """
before = params.copy(), buffers.copy()
for name, call in calls.items():
    try:
        call()
    except ValueError as error:
        assert str(error).startswith(f"{name}: the environment variable NORMCORE_ISA is 'nonsense'"), error
    else:
        raise AssertionError(name)
assert (params == before[0]).all() and (buffers == before[1]).all()
nc.set_isa("scalar")  # mends it
for call in calls.values():
    call()
print("ok")
"""
    )
    done = child(code, NORMCORE_ISA="nonsense")
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_an_updater_names_a_bad_instruction_set() -> None:
    """And neither updates the first of its groups nor makes the calls that follow."""
    code = """
import numpy as np
import normcore as nc
from normcore import _core

p, q, done = np.ones(3), np.ones(2), []
groups = [(a, np.ones_like(a), None, None, 0.0, 0.0) for a in (p, q)]
updater = _core.Updater("sgd", groups, 0.9, 0.99, (0.9, 0.999), 1e-8)
try:
    updater.update(0.5, 1.0, 1, [(done.append, 1)])
except ValueError as error:
    print(error)
assert (*p, *q) == (1.0,) * 5 and not done
nc.set_isa("scalar")  # mends it
updater.update(0.5, 1.0, 1, [(done.append, 1)])
assert (*p, *q) == (0.5,) * 5 and done == [1]
"""
    done = child(code, NORMCORE_ISA="nonsense")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("optimizer_update: the environment variable NORMCORE_ISA is 'nonsense'")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory in use is looked up in /proc")
def test_memory_that_the_core_does_not_get() -> None:
    """The outputs fit, the scratch memory does not: MemoryError by name, and the next call works."""
    code = """
import resource
import numpy as np
import normcore as nc
from normcore import _core

nc.set_num_threads(1)
x, v = np.random.default_rng(0).normal(size=(100_000, 40)), np.ones(40)
expected = nc.batch_norm_backward(x, x, v, v, v)[0]
found = resource.getrlimit(resource.RLIMIT_AS)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + x.nbytes * 3 // 2, found[1]))
try:
    nc.batch_norm_backward(x, x, v, v, v, algorithm="graph")
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, found)
assert np.array_equal(nc.batch_norm_backward(x, x, v, v, v)[0], expected)
nc.batch_norm_backward(x, x, v, v, v, algorithm="graph")
"""
    done = child(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("batch_norm_backward: ")
    assert done.stdout.count("\n") == 1


def test_uniform_limits_the_wrong_way_round() -> None:
    with pytest.raises(ValueError, match=r"random_uniform: high is 1, which is less than low, 2"):
        nc.random_uniform(3, seed=1, low=2, high=1)
    assert (nc.random_uniform(3, seed=1, low=2, high=2) == 2).all()


@pytest.mark.parametrize(("low", "high"), [(-2e38, 2e38), (0.0, 1e39), (-1e39, 0.0)])
def test_uniform_limits_that_float32_cannot_hold(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="random_uniform: "):
        nc.random_uniform(3, seed=1, low=low, high=high, dtype="float32")
    assert np.isfinite(nc.random_uniform(3, seed=1, low=low, high=high, dtype="float64")).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_network_writes_beside_its_input_in_one_wider_array(dtype: type) -> None:
    """The two lie interleaved, which C cannot see to be apart: the logits come by way of a copy."""
    network = _core.Network([3, 5, 2], norm="layer", dtype=dtype)
    params = np.empty(network.parameter_count, dtype)
    network.initialize(params, None, seed=4)
    wider = np.random.default_rng(0).normal(size=(7, 5)).astype(dtype)
    x, out = wider[:, :3], wider[:, 3:]
    expected = np.empty((7, 2), dtype)
    network.forward(x.copy(), params, None, expected)
    kept = x.copy()
    network.forward(x, params, None, out)
    assert np.array_equal(out, expected)
    assert np.array_equal(x, kept)


def test_a_network_writes_between_the_columns_of_its_rows() -> None:
    """Outputs and dx in columns of the same wide matrix as x: apart, and the same as in memory of their own."""
    network = _core.Network([3, 4, 2], norm="layer", dtype="float64")
    params, grads = np.zeros(network.parameter_count), np.zeros(network.parameter_count)
    network.initialize(params, None, seed=1)
    held = nc._core.Pass(network, 4)
    wide = np.random.default_rng(0).normal(size=(4, 16))
    x, y, dx = wide[:, :3], wide[:, 4:6], wide[:, 8:11]
    expected, dx_alone, alone = np.empty((4, 2)), np.empty((4, 3)), np.empty_like(grads)
    network.forward_training(x.copy(), params, None, held, expected)
    network.backward(x.copy(), params, held, np.ones((4, 2)), alone, dx_alone)
    network.forward_training(x, params, None, held, y)
    network.backward(x, params, held, np.ones((4, 2)), grads, dx)
    for got, wanted in ((y, expected), (dx, dx_alone), (grads, alone)):
        assert_same_bits(got, wanted)
