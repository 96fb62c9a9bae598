"""Signals at every place where Python looks for them: no step, no curve, no model and no handler is left half done."""

from __future__ import annotations

import copy
import ctypes
import dis
import faulthandler
import functools
import gc
import itertools
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest

from normcore import MLP, CosineSchedule, Generator, Trainer
from normcore._signals import HeldSignals, uninterrupted
from test_trainer import Spy, state_of

# Each of the sweeps in full takes some seconds; this many times fewer places are tried, from 1 (all) on.
STRIDE = int(os.environ.get("NORMCORE_SIGNAL_STRIDE", "1"))


class Terminated(BaseException):
    """What a handler of SIGTERM raises in a program that cleans up."""


def terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Python's own handler of SIGINT, which is not there where the tests were started in the background."""
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.fixture
def usr1() -> Iterator[None]:
    if not hasattr(signal, "SIGUSR1"):
        pytest.skip("no third signal here")
    old = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, old)


@functools.cache
def check_points(code: CodeType) -> frozenset[int]:
    """Offsets of the instructions before which CPython may just have looked for signals.

    It does so at the start of a function, after a call and after a jump back.
    """
    instructions = list(dis.get_instructions(code))
    points = {
        following.offset
        for this, following in itertools.pairwise(instructions)
        if this.opname == "RESUME" or this.opname.startswith("CALL")
    }
    points |= {
        this.argval for this in instructions if "JUMP_BACKWARD" in this.opname and "NO_INTERRUPT" not in this.opname
    }
    return frozenset(points)


def interrupted(
    call: Callable[[], Any], place: int, *numbers: int, files: str = ""
) -> tuple[bool, BaseException | None]:
    """Make `call`, with the signals coming at its place-th check point: whether there was one, and what was raised.

    Only code of files with `files` in their names counts.
    """
    count = 0

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        if files not in frame.f_code.co_filename:
            frame.f_trace_lines = False
            return enter  # not None, which the line tracing of Cython would call at each line
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        points = check_points(frame.f_code)

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal count
            if event == "opcode" and frame.f_lasti in points:
                count += 1
                if count == place + 1:
                    sys.settrace(None)
                    for number in numbers:
                        signal.raise_signal(number)
            return trace

        return trace

    raised: BaseException | None = None
    before = sys.gettrace()
    gc.disable()  # what it calls, such as hypothesis's clock, drops exceptions: no place to notice Ctrl-C at
    sys.settrace(enter)
    try:
        call()
    except BaseException as error:
        raised = error
    finally:
        sys.settrace(before)
        gc.enable()
    return count > place, raised


def test_the_places_are_those_of_this_interpreter() -> None:
    """A handler is called at a place of `check_points`, and each of them is such a place."""

    def loop() -> None:
        for _ in range(2):
            len("")

    instructions = {i.offset: i for i in dis.get_instructions(loop.__code__)}
    assert {instructions[offset].opname for offset in check_points(loop.__code__)} & {"FOR_ITER", "POP_TOP"}
    places = 0
    while (result := interrupted(loop, places, signal.SIGINT))[0]:
        assert isinstance(result[1], KeyboardInterrupt)
        places += 1
    # The start of `loop`; after range and twice after len; twice after the jump back. More in the trace's own way out.
    assert places >= 6
    assert result == (False, None)


# ---------------------------------------------------------------------- training


X = Generator(3).normal((8, 2), dtype="float32")
Y = np.array([0, 1, 1, 0, 1, 0, 0, 1])
VALIDATION = (Generator(4).normal((5, 2), dtype="float32"), np.array([0, 1, 0, 1, 1]))


def make(**options: Any) -> Trainer:
    model = MLP([2, 3, 2], norm="batch", dropout=0.2, seed=1)
    options = {"epochs": 2, "batch_size": 4, "l2": 1e-3, "clip_norm": 1.0, "seed": 18, **options}
    return Trainer(model, **{"learning_rate": CosineSchedule(0.3, 6), **options})


class States:
    """Keeps the model of each step."""

    def __init__(self) -> None:
        self.steps: list[tuple[bytes, bytes]] = []

    def on_train_begin(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        self.on_step_end(trainer, logs)

    def on_step_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        self.steps.append((trainer.model.parameters_flat.tobytes(), trainer.model.buffers_flat.tobytes()))


def fit(trainer: Trainer) -> None:
    warnings.filterwarnings("ignore", "Trainer.fit: nothing to do")  # until pytest puts it back at the test's end
    trainer.fit(X, Y, validation_data=VALIDATION)


def check_position(trainer: Trainer, whole: Trainer) -> None:
    """Everything is as after trainer.step_count steps and trainer.epoch epochs of the whole run."""
    history, reference = trainer.history, whole.history
    assert history.loss == reference.loss[: trainer.step_count]
    assert trainer.optimizer.updates == trainer.step_count
    assert trainer.step_count == 2 * trainer.epoch + trainer._batch
    entries = trainer.epoch + 1 if trainer.step_count or history.curves else 0
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        assert history.curves.get(name, []) == reference[name][:entries]
    losses = reference["val_loss"][:entries]
    assert history.best_value == (min(losses) if losses else None)
    assert history.best_epoch == (losses.index(min(losses)) if losses else None)


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.usefixtures("no_sync")
def test_control_c_anywhere_in_fit(tmp_path: Path) -> None:
    states = States()
    whole = make(restore_best=True, callbacks=[states])
    fit(whole)
    assert whole.history.best_epoch == 1
    final, path, files = state_of(whole), tmp_path / "run", set()
    place = 0
    while True:
        trainer = make(restore_best=True, callbacks=[Spy()])
        found, error = interrupted(lambda trainer=trainer: fit(trainer), place, signal.SIGINT)  # type: ignore[misc]
        if not found:
            break
        assert type(error) is KeyboardInterrupt
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        check_position(trainer, whole)
        model = (trainer.model.parameters_flat.tobytes(), trainer.model.buffers_flat.tobytes())
        assert model == states.steps[2 * (trainer.history.best_epoch or 0)]
        events = [name for name, _ in trainer.callbacks[0].events]
        if "train_begin" in events and trainer.history.stopped_reason == "interrupted":
            assert events[-1] == "train_end"
        trainer.save_checkpoint(path)
        content = path.read_bytes()
        if content not in files:  # as it is, and from the file, it goes on as if nothing had been
            files.add(content)
            resumed = Trainer.resume(path)
            assert resumed.model.parameters_flat.tobytes() == trainer.model.parameters_flat.tobytes()
            for other in (trainer, resumed):
                fit(other)
                assert state_of(other) == final
        place += STRIDE
    assert place > 300
    assert error is None
    assert state_of(trainer) == final
    # Untouched; before the first value; before each step and after the last; each with each reason; some more.
    assert len(files) > 6


def test_without_holding_signals_steps_and_epochs_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in other threads, where nothing is held, and which may be ended by exceptions from outside."""
    monkeypatch.setattr("normcore._signals._NUMBERS", ())
    states = States()
    whole = make(callbacks=[states])
    fit(whole)
    final, seen = state_of(whole), set()
    place = 0
    while True:
        trainer = make()
        found, error = interrupted(lambda t=trainer: fit(t), place, signal.SIGINT, files="normcore")  # type: ignore[misc]
        if not found:
            break
        assert type(error) is KeyboardInterrupt
        check_position(trainer, whole)
        model = (trainer.model.parameters_flat.tobytes(), trainer.model.buffers_flat.tobytes())
        assert model == states.steps[trainer.step_count]
        position = repr((trainer.epoch, trainer._batch, trainer.history.as_dict()))
        if position not in seen:
            seen.add(position)
            fit(trainer)
            assert state_of(trainer) == final
        place += STRIDE
    assert place > 300
    assert error is None


@pytest.mark.parametrize("kind", ["update", "careful update", "skipped", "after the best epoch"])
def test_control_c_anywhere_in_step(kind: str) -> None:
    options: dict[str, Any] = {"optimizer": "momentum", "l2": 1e-3, "on_nonfinite": "skip", "epochs": 1}
    batch = X.copy()
    if kind == "skipped":
        batch[1, 1] = np.inf

    if kind == "after the best epoch":
        options |= {"restore_best": True, "monitor": "train_loss", "learning_rate": 5.0}

    def begin() -> Trainer:
        trainer = make(**options)
        trainer.fit(X, Y)
        if kind == "careful update":
            trainer.optimizer._limit = 0.0
        return trainer

    before, whole = begin(), begin()
    whole.step(batch, Y)
    assert (before._kept.last is not None) is ("restore_best" in options)
    done, place = 0, 0
    while True:
        trainer = begin()
        found, error = interrupted(lambda trainer=trainer: trainer.step(batch, Y), place, signal.SIGINT)  # type: ignore[misc]
        if not found:
            break
        assert type(error) is KeyboardInterrupt
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if trainer.step_count == before.step_count:
            assert state_of(trainer) == state_of(before)
            trainer.step(batch, Y)
        else:
            done += 1
        assert state_of(trainer) == state_of(whole)
        place += 1
    assert 0 < done < place


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file that is closed a little late
@pytest.mark.usefixtures("no_sync")
def test_control_c_anywhere_in_save_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run"
    trainer = make(restore_best=True, monitor="train_loss", epochs=1)
    trainer.save_checkpoint(path)
    old = path.read_bytes()
    trainer.fit(X, Y)
    trainer.save_checkpoint(path)
    new, state = path.read_bytes(), state_of(trainer)
    seen, place = set(), 0
    while True:
        path.write_bytes(old)
        found, error = interrupted(lambda: trainer.save_checkpoint(path), place, signal.SIGINT, files="normcore")
        if not found:
            break
        assert type(error) is KeyboardInterrupt
        assert path.read_bytes() in (old, new)
        assert state_of(trainer) == state
        seen.add(path.read_bytes())
        place += STRIDE
    assert place > 100
    assert path.read_bytes() == new
    assert STRIDE > 1 or seen == {old, new}


def test_sigterm_waits_as_control_c_does() -> None:
    signal.signal(signal.SIGTERM, terminate)
    trainer = make()
    update = trainer.optimizer.update

    def press(*args: Any) -> None:
        if trainer.step_count == 2:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        update(*args)

    trainer.optimizer.update = press  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(trainer)
    assert signal.getsignal(signal.SIGTERM) is terminate
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # Both had their way, in the order in which they came.
    assert isinstance(caught.value.__context__, Terminated)
    assert trainer.history.stopped_reason == "interrupted"
    assert (trainer.step_count, trainer.optimizer.updates) == (3, 3)


def test_a_fit_in_a_callback_of_another() -> None:
    inner = make()
    moved: list[bool] = []

    def train(trainer: Trainer, logs: dict[str, Any]) -> None:
        update = inner.optimizer.update

        def press(*args: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            moved.append(True)
            update(*args)

        inner.optimizer.update = press  # type: ignore[method-assign]
        fit(inner)

    outer = make(callbacks=train)
    with pytest.raises(KeyboardInterrupt):
        fit(outer)
    assert moved == [True]
    assert (inner.step_count, inner.optimizer.updates, inner.history.stopped_reason) == (1, 1, "interrupted")
    assert (outer.step_count, outer.epoch, outer.history.stopped_reason) == (2, 1, "interrupted")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("hook", ["on_train_begin", "on_step_end", "on_epoch_end", "on_train_end", "schedule"])
@pytest.mark.parametrize("call", ["fit", "step"])
def test_a_trainer_in_a_call_of_its_own_is_refused(hook: str, call: str) -> None:
    refused: list[str] = []
    copies: list[Trainer] = []

    def again(*_: Any) -> None:
        copies.append(copy.deepcopy(trainer))
        with pytest.raises(RuntimeError, match=f"^Trainer.{call}: this trainer is being fitted already") as caught:
            fit(trainer) if call == "fit" else trainer.step(X, Y)
        refused.append(str(caught.value))

    def rate(step: int) -> float:
        again()
        return schedule(step)

    schedule = CosineSchedule(0.3, 6)
    spy = Spy()
    trainer, whole = make(callbacks=[spy]), make()
    if hook == "schedule":
        trainer.learning_rate = rate
    else:
        setattr(spy, hook, again)
    fit(trainer)
    fit(whole)
    assert refused
    assert state_of(trainer) == state_of(whole)
    copies[0].learning_rate, copies[0].callbacks = schedule, []
    fit(copies[0])  # it has not been claimed
    copies[0].step(X, Y)
    trainer.learning_rate, trainer.callbacks = schedule, []
    trainer.epochs = whole.epochs = 3
    for other in (trainer, whole):
        fit(other)
        other.step(X, Y)
    assert state_of(trainer) == state_of(whole)


def test_a_trainer_in_two_threads_is_refused() -> None:
    inside, done = threading.Event(), threading.Event()

    class Wait(Spy):
        def on_step_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            inside.set()
            assert done.wait(60)

    trainer, whole = make(callbacks=[Wait()]), make()
    thread = threading.Thread(target=fit, args=(trainer,))
    thread.start()
    try:
        assert inside.wait(60)
        with pytest.raises(RuntimeError, match=r"^Trainer.fit: .*in another thread"):
            fit(trainer)
        with pytest.raises(RuntimeError, match=r"^Trainer.step: .*in another thread"):
            trainer.step(X, Y)
    finally:
        done.set()
        thread.join()
    fit(whole)
    assert state_of(trainer) == state_of(whole)


def test_fit_in_another_thread() -> None:
    trainer, whole = make(), make()
    seen: list[Any] = []
    spy = Spy()
    spy.on_step_end = lambda *_: seen.append(signal.getsignal(signal.SIGINT))  # type: ignore[method-assign]
    trainer.callbacks = [spy]
    thread = threading.Thread(target=fit, args=(trainer,))
    thread.start()
    thread.join()
    fit(whole)
    assert state_of(trainer) == state_of(whole)
    assert seen == [signal.default_int_handler] * 4


# ---------------------------------------------------------------------- held signals


def test_signals_wait_but_where_they_go_through() -> None:
    order: list[str] = []

    def press() -> None:
        with HeldSignals() as signals:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            order.append("held")
            signals.through(order.append, "through")
            order.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        press()
    assert order == ["held", "through"]
    with HeldSignals() as signals:
        with pytest.raises(KeyboardInterrupt):
            signals.through(signal.raise_signal, signal.SIGINT)
        assert signals.through(len, "abc") == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def pressed(order: list[str], error: Exception | None = None) -> None:
    with HeldSignals():
        signal.raise_signal(signal.SIGINT)
        order.append("to the end")
        if error is not None:
            raise error


def test_a_signal_is_not_lost() -> None:
    order: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        pressed(order)
    assert order == ["to the end"]
    with pytest.raises(KeyboardInterrupt) as caught:
        pressed(order, ValueError("mine"))
    assert isinstance(caught.value.__context__, ValueError)


@pytest.mark.parametrize("place", ["block", "through"])
@pytest.mark.parametrize("order", list(itertools.permutations((signal.SIGINT, signal.SIGTERM, signal.SIGUSR1))))
def test_every_signal_noted_gets_its_handler(order: tuple[int, ...], place: str, usr1: None) -> None:
    """Whatever the handlers before it raise."""
    calls: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        calls.append(number)
        if number != signal.SIGTERM:
            raise Terminated(number)

    def block() -> None:
        with HeldSignals() as signals:
            for number in order:
                signal.raise_signal(number)
            assert calls == []
            if place == "through":
                signals.through(len, "")
                raise AssertionError("not reached")

    for number in order:
        signal.signal(number, handle)
    with pytest.raises(Terminated) as caught:
        block()
    assert calls == list(order)
    raising = [number for number in order if number != signal.SIGTERM]
    assert caught.value.args == (raising[1],)
    context = caught.value.__context__
    assert isinstance(context, Terminated)
    assert context.args == (raising[0],)
    assert [signal.getsignal(number) for number in order] == [handle] * 3


def test_no_signal_is_lost_that_comes_while_others_are_delivered(usr1: None) -> None:
    calls: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        calls.append(number)
        raise Terminated

    def block() -> None:
        with HeldSignals() as signals:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            signals.through(len, "")

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    place = 0
    while True:
        for number in numbers:
            signal.signal(number, handle)
        calls.clear()
        found, error = interrupted(block, place, signal.SIGUSR1, files=os.path.join("normcore", "_signals"))
        assert type(error) is Terminated
        if not found:
            break
        if signal.SIGINT in calls:  # else it came before the others
            assert sorted(calls) == sorted(numbers)
        assert signal.SIGUSR1 in calls
        assert [signal.getsignal(number) for number in numbers] == [handle] * 3
        place += 1
    assert calls == [signal.SIGINT, signal.SIGTERM]
    assert place > 20


def test_signals_that_nobody_in_python_handles_are_left_alone() -> None:
    for handler in (signal.SIG_DFL, signal.SIG_IGN):
        signal.signal(signal.SIGINT, handler)
        signal.signal(signal.SIGTERM, handler)
        with HeldSignals():
            assert signal.getsignal(signal.SIGINT) is handler
            assert signal.getsignal(signal.SIGTERM) is handler
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with HeldSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        signals.through(signal.raise_signal, signal.SIGINT)


def test_a_handler_set_meanwhile_is_held_and_stays() -> None:
    order: list[str] = []

    def block() -> None:
        with HeldSignals() as signals:
            signals.through(signal.signal, signal.SIGINT, terminate)
            signal.raise_signal(signal.SIGINT)
            order.append("held")

    with pytest.raises(Terminated):
        block()
    assert order == ["held"]
    assert signal.getsignal(signal.SIGINT) is terminate
    signal.signal(signal.SIGTERM, terminate)
    with HeldSignals() as signals:
        signals.through(signal.signal, signal.SIGTERM, signal.SIG_IGN)
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_a_handler_set_by_a_callback_is_held() -> None:
    class Install(Spy):
        def on_train_begin(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            signal.signal(signal.SIGTERM, terminate)

    def press(*args: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        update(*args)

    trainer = make(callbacks=[Install()])
    update = trainer.optimizer.update
    trainer.optimizer.update = press  # type: ignore[method-assign]
    with pytest.raises(Terminated):
        fit(trainer)
    assert (trainer.step_count, trainer.optimizer.updates, trainer.history.stopped_reason) == (1, 1, "interrupted")


@pytest.mark.skipif(not hasattr(faulthandler, "register"), reason="nothing is registered here")
def test_what_the_system_calls_stays(tmp_path: Path) -> None:
    """As faulthandler's function, which is called before Python's: it cannot be seen in `signal`."""

    def traces() -> int:
        before = path.stat().st_size
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return path.stat().st_size - before

    path = tmp_path / "traces"
    with path.open("w") as file:
        faulthandler.register(signal.SIGINT, file, chain=True)
        try:
            assert traces() > 0
            fit(make())
            assert traces() > 0
            with HeldSignals() as signals:
                before = path.stat().st_size
                signals.through(traces)
                assert path.stat().st_size > before
        finally:
            faulthandler.unregister(signal.SIGINT)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the layout of sigaction is that of Linux")
@pytest.mark.parametrize("restart", [False, True])
def test_system_calls_are_begun_again_as_before(restart: bool) -> None:
    def action() -> tuple[bytes, bytes]:
        """The function that the system calls, and the flags; the set of blocked signals between them has 1024 bits."""
        buffer = ctypes.create_string_buffer(1024)
        assert ctypes.CDLL(None).sigaction(int(signal.SIGTERM), None, buffer) == 0
        pointer, flags = ctypes.sizeof(ctypes.c_void_p), ctypes.sizeof(ctypes.c_void_p) + 128
        return buffer.raw[:pointer], buffer.raw[flags : flags + ctypes.sizeof(ctypes.c_int)]

    signal.signal(signal.SIGTERM, terminate)
    plain = action()
    signal.siginterrupt(signal.SIGTERM, not restart)
    before = action()
    assert (before != plain) is restart
    with HeldSignals():
        assert signal.getsignal(signal.SIGTERM) is not terminate
        assert action() == before
    assert signal.getsignal(signal.SIGTERM) is terminate
    assert action() == before


def test_a_handler_of_ours_that_is_left_does_nothing() -> None:
    """Whatever goes wrong with putting back: the next block is as good, and signals come through."""
    with HeldSignals():
        left = signal.getsignal(signal.SIGINT)
    assert left is not signal.default_int_handler
    signal.signal(signal.SIGINT, left)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    order: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        pressed(order)
    assert order == ["to the end"]
    assert signal.getsignal(signal.SIGINT) == left


@pytest.mark.parametrize(
    "numbers", [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)]
)
def test_handlers_are_put_back_whenever_a_signal_comes(numbers: tuple[int, ...]) -> None:
    calls: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        calls.append(number)
        if len(calls) < len(numbers):
            signal.raise_signal(numbers[len(calls)])
        raise Terminated

    def block() -> None:
        with HeldSignals() as signals:
            half.append(1)
            half.append(2)
            signals.through(len, "")
            half.append(3)
            half.append(4)

    half: list[int] = []
    halves, place = set(), 0
    while True:
        signal.signal(signal.SIGINT, handle)
        signal.signal(signal.SIGTERM, handle)
        calls.clear()
        half.clear()
        found, error = interrupted(block, place, numbers[0])
        if not found:
            break
        assert type(error) is Terminated
        assert sorted(calls) == sorted(numbers)
        assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM) is handle
        halves.add(len(half))
        place += 1
    assert error is None
    assert halves == {0, 2, 4}


def test_uninterrupted_calls_have_no_place_between_them() -> None:
    lengths = set()
    place = 0
    while True:
        items: list[int] = []
        calls = [(items.append, number) for number in range(5)]
        found, _ = interrupted(lambda calls=calls: uninterrupted(calls), place, signal.SIGINT)  # type: ignore[misc]
        if not found:
            break
        lengths.add(len(items))
        place += 1
    assert lengths == {0, 5}
    with pytest.raises(ZeroDivisionError):
        uninterrupted(((items.append, 5), (divmod, 1, 0), (items.append, 6)))
    assert items == [0, 1, 2, 3, 4, 5]
