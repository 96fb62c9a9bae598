"""Arguments whose conversion changes other arguments, and threads that write into them: no access outside.

Every case runs in a process of its own, because a failure is a crash.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PRELUDE = """
import re, sys, threading, time
import numpy as np
import normcore as nc
from normcore import _core

ROWS, COLUMNS, CLASSES, FLAT = 400, 100, 40, 30_000
SHAPES = {
    "x": (ROWS, COLUMNS), "y": (ROWS, COLUMNS), "dy": (ROWS, COLUMNS), "out": (ROWS, COLUMNS), "gamma": (COLUMNS,),
    "beta": (COLUMNS,), "running_mean": (COLUMNS,), "running_var": (COLUMNS,), "w": (COLUMNS, CLASSES),
    "b": (CLASSES,), "dz": (ROWS, CLASSES), "z": (ROWS, CLASSES), "targets": (ROWS, CLASSES), "flat": (FLAT,),
    "grads": (FLAT,), "slot1": (FLAT,), "slot2": (FLAT,),
}
DOUBLES = {"mean": COLUMNS, "rstd": COLUMNS, "row_mean": ROWS, "row_rstd": ROWS, "sample_weight": ROWS,
           "class_weight": CLASSES}
random = np.random.default_rng(0)
net = _core.Network((COLUMNS, 30, CLASSES), norm="batch")
tape = nc._core.Pass(net, ROWS)
net.forward_training(np.ones((ROWS, COLUMNS), np.float32), np.ones(net.parameter_count, np.float32), None, tape,
                     np.ones((ROWS, CLASSES), np.float32))
SHAPES |= {"params": (net.parameter_count,), "buffers": (net.buffer_count,), "net_grads": (net.parameter_count,)}

def array(name, dtype):
    if name == "labels":
        return random.integers(0, CLASSES, ROWS)
    if name in DOUBLES:
        return random.random(DOUBLES[name])
    return random.random(SHAPES[name]).astype(dtype)

# The arguments that Python code converts.
NUMBERS = {"eps": 1e-5, "momentum": 0.9, "keep": 0.5, "seed": 1, "stream": 2, "offset": 3, "label_smoothing": 0.1,
           "ignore_index": 1, "learning_rate": 0.1, "slope": 0.1, "beta1": 0.9, "step": 3, "gradient_scale": 1.0,
           "delta": 0.5, "tau": 0.75}
"""

OPERATIONS = {
    "affine_forward": "nc.affine_forward(a['x'], a['w'], a['b'], out=a['z'])",
    "relu_forward": "nc.relu_forward(a['x'], out=a['out'])",
    "leaky_relu_backward": "nc.leaky_relu_backward(a['dy'], a['y'], slope=v('slope'), out=a['out'])",
    "softmax_backward": "nc.softmax_backward(a['dy'], a['y'], out=a['out'])",
    "softmax_cross_entropy": "nc.softmax_cross_entropy(a['z'], a['labels'], sample_weight=a['sample_weight'], "
    "class_weight=a['class_weight'], label_smoothing=v('label_smoothing'), ignore_index=v('ignore_index'))",
    "soft targets": "nc.softmax_cross_entropy(a['z'], a['targets'], sample_weight=a['sample_weight'], "
    "class_weight=a['class_weight'], label_smoothing=v('label_smoothing'), reduction='none')",
    "squared_error": "nc.squared_error(a['z'], a['targets'], sample_weight=a['sample_weight'])",
    "huber_loss": "nc.huber_loss(a['z'], a['targets'], delta=v('delta'), sample_weight=a['sample_weight'])",
    "quantile_loss": "nc.quantile_loss(a['z'], a['targets'], tau=v('tau'), reduction='none')",
    "batch_norm_forward": "nc.batch_norm_forward(a['x'], a['gamma'], a['beta'], a['running_mean'], a['running_var'], "
    "momentum=v('momentum'), eps=v('eps'), out=a['out'])",
    "layer_norm_forward": "nc.layer_norm_forward(a['x'], a['gamma'], a['beta'], eps=v('eps'), out=a['out'])",
    "dropout_forward": "nc.dropout_forward(a['x'], v('keep'), seed=v('seed'), stream=v('stream'), "
    "offset=v('offset'), out=a['out'])",
    "optimizer_update": "nc.optimizer_update('adam', a['flat'], a['grads'], a['slot1'], a['slot2'], "
    "learning_rate=v('learning_rate'), beta1=v('beta1'), eps=v('eps'), step=v('step'), "
    "gradient_scale=v('gradient_scale'))",
    "Network.initialize": "net.initialize(a['params'], a['buffers'], seed=v('seed'), stream=v('stream'))",
    "Network.forward": "net.forward(a['x'], a['params'], a['buffers'], out=a['z'])",
    "Network.forward_training": "net.forward_training(a['x'], a['params'], a['buffers'], tape, a['z'], seed=v('seed'), "
    "stream=v('stream'))",
    "Network.backward": "net.backward(a['x'], a['params'], tape, a['dz'], a['net_grads'], a['out'])",
    "Network.loss_and_grads": "net.loss_and_grads(a['x'], a['labels'], a['params'], a['buffers'], a['net_grads'], "
    "sample_weight=a['sample_weight'], class_weight=a['class_weight'], label_smoothing=v('label_smoothing'), "
    "seed=v('seed'), stream=v('stream'))",
}

# Whatever is converted changes each array in each way: numbers, arrays made by __array__, an `out` of a class whose
# attributes are its own, and arrays whose packing warns of what float32 cannot hold.
MEDDLE = """
HARM = {
    "shrink": lambda x: x.resize((1,), refcheck=False),
    "empty": lambda x: x.resize((0,), refcheck=False),
    "flatten": lambda x: setattr(x, "shape", (-1,)),
    "stand": lambda x: setattr(x, "shape", (x.size, 1)),
    "bytes": lambda x: setattr(x, "dtype", np.int8),
}

class Meddler:
    def __init__(self, value, harm): self.value, self.harm = value, harm
    def __float__(self): self.harm(); return float(self.value)
    def __index__(self): self.harm(); return int(self.value)
    def __array__(self, dtype=None, copy=None): self.harm(); return self.value

class Own(np.ndarray):
    itemsize = property(lambda self: (meddle(), 4)[1])

def meddle():
    global asked
    asked += 1
    try:
        harm(target)
    except (ValueError, AttributeError, TypeError):
        pass  # this array cannot be changed so

done = refused = asked = 0
dtype = "float32"
names = re.findall(r"a\\['(\\w+)'\\]", CALL)
numbers = [name for name in NUMBERS if f"v('{name}')" in CALL]
made = [name for name in names if name in ("labels", "targets", "sample_weight", "class_weight")]
written = re.findall(r"out=a\\['(\\w+)'\\]", CALL)
for harm in HARM.values():
    for victim in names:
        for trigger in numbers + made + written + (["warning"] if CALL.startswith("net") and "x" in names else []):
            if trigger == victim and trigger in written:
                continue  # the memory of a view, taken away: NumPy itself does not survive that
            a = {name: array(name, dtype) for name in names}
            target = a[victim]
            if trigger in made:
                a[trigger] = Meddler(a[trigger], meddle)
            elif trigger in written:
                a[trigger] = a[trigger][::-1].view(Own)
            elif trigger == "warning":
                a["x"] = np.full(a["x"].shape, 1e300)[::-1]
                np.seterrcall(lambda *_: meddle())
                np.seterr(all="call")
            v = lambda name: Meddler(NUMBERS[name], meddle) if name == trigger else NUMBERS[name]
            before = asked
            try:
                eval(CALL)
                done += 1
            except (TypeError, ValueError) as error:
                refused += 1
            assert asked > before, trigger
            np.seterr(all="ignore")
assert done + refused
"""


def run(code: str) -> str:
    # Large blocks come from mmap however often they have been freed, so that what a resize gives back is gone.
    environment = dict(os.environ, MALLOC_MMAP_THRESHOLD_="8192", NORMCORE_NUM_THREADS="2")
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.parametrize("operation", OPERATIONS)
def test_conversions_that_change_arguments(operation: str) -> None:
    run(PRELUDE + f"CALL = {OPERATIONS[operation]!r}\n" + MEDDLE)


RACE = """
n, c = 100_000, 8
z = np.zeros((n, c), np.float32)
labels = np.zeros(n, np.int64)
weights = np.ones(c)
stop = False
model = nc.MLP([8, c])
trainer = nc.Trainer(model, batch_size=n, progress=False)

def flip():
    while not stop:
        labels[-1] = 1 << 40
        labels[-2] = -1 << 40
        labels[-1] = labels[-2] = 0

threading.Thread(target=flip, daemon=True).start()
calls = [lambda: nc.softmax_cross_entropy(z, labels), lambda: nc.softmax_cross_entropy(z, labels, class_weight=weights),
         lambda: model.loss_and_grads(z, labels), lambda: trainer.step(z, labels)]
good = bad = 0
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    for call in calls:
        try:
            call()
            good += 1
        except ValueError:
            bad += 1
stop = True
print(good, bad)
assert good
"""


def test_labels_that_a_thread_changes() -> None:
    run(PRELUDE + "SECONDS = 3\n" + RACE)


def test_arguments_are_converted_once() -> None:
    # what a Meddler returns counts, and it is asked once
    code = """
calls = []
class Number:
    def __init__(self, value): self.value = value
    def __float__(self): calls.append(1); return float(self.value)
    def __index__(self): calls.append(1); return int(self.value)
x = np.ones((2, 3))
y = nc.dropout_forward(x, Number(1.0), seed=Number(1), stream=Number(2), offset=Number(3))
assert (y == x).all() and len(calls) == 4, calls
"""
    run(PRELUDE + code)
