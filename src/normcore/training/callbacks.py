"""The caller's own code in a training run, and the progress bar."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["Progress", "call_callbacks", "check_callbacks", "has_hook"]

_HOOKS = ("on_train_begin", "on_step_end", "on_epoch_end", "on_train_end")


def _is_callback(value: Any) -> bool:
    return callable(value) or any(hasattr(value, hook) for hook in _HOOKS)


def check_callbacks(value: Any) -> list[Any]:
    if _is_callback(value):
        return [value]
    wanted = f"a callback must be a function or have one of {', '.join(_HOOKS)}"
    if not isinstance(value, Iterable):
        raise TypeError(f"Trainer: callbacks is {value!r}; it must be a callback or an iterable of them; {wanted}")
    callbacks = list(value)
    for index, callback in enumerate(callbacks):
        if not _is_callback(callback):
            raise TypeError(f"Trainer: callbacks[{index}] is {callback!r}; {wanted}")
    return callbacks


def has_hook(callbacks: Sequence[Any], hook: str) -> bool:
    """Whether there is anything that `call_callbacks` would call for a hook other than on_epoch_end."""
    for callback in callbacks:  # noqa: SIM110 - a generator would take longer than all else of a step without callbacks
        if hasattr(callback, hook):
            return True
    return False


def call_callbacks(callbacks: Sequence[Any], hook: str, trainer: Any, logs: dict[str, Any]) -> bool:
    """Call the callbacks that have `hook`; whether one of them returned True."""
    stop = False
    for callback in callbacks:
        method = getattr(callback, hook, None)
        if method is None and hook == "on_epoch_end" and not any(hasattr(callback, name) for name in _HOOKS):
            method = callback
        if method is None:
            continue
        answer = method(trainer, logs)
        if not (answer is None or isinstance(answer, (bool, np.bool_))):
            raise TypeError(
                f"Trainer: {hook} of the callback {callback!r} returned a {type(answer).__name__}; it must return "
                "None, or a bool"
            )
        stop |= bool(answer)
    return stop


def _in_notebook() -> bool:
    """Whether this is the process of a notebook, which shows bars as widgets."""
    ipython = sys.modules.get("IPython")
    shell = getattr(ipython, "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


class Progress:
    """How a fit tells how far it is on standard error: a bar over the steps, a line for each epoch, or nothing.

    `wanted` None: a bar on a terminal and in a notebook, if there is tqdm, else nothing. True: the bar, and a line for
    each epoch where there is none. False: nothing.
    """

    def __init__(self, wanted: bool | None, epochs: int, steps: int, done: int) -> None:
        self._bar: Any = None
        self._epochs = epochs
        self._epoch = done // steps
        self._shown: dict[str, str] = {}
        stream, notebook = sys.stderr, _in_notebook()
        if wanted is False or stream is None:
            self._lines = False
            return
        if notebook or stream.isatty():
            try:  # optional, and without type information
                tqdm = importlib.import_module("tqdm.auto" if notebook else "tqdm").tqdm
                self._bar = tqdm(total=epochs * steps, initial=done, unit="step", dynamic_ncols=True)
                self._bar.set_description_str(self._where(), refresh=False)
            except ImportError:
                pass
        self._lines = wanted is True and self._bar is None

    def _where(self) -> str:
        return f"epoch {min(self._epoch + 1, self._epochs)}/{self._epochs}"

    @property
    def has_bar(self) -> bool:
        """Whether `step` does anything."""
        return self._bar is not None

    def step(self, loss: float) -> None:
        if self._bar is not None:
            self._bar.set_postfix({"loss": f"{loss:.4g}", **self._shown}, refresh=False)
            self._bar.update()

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Show the values of a finished epoch, those of the validation data if there are any."""
        validation = {name: f"{value:.4g}" for name, value in values.items() if name.startswith("val_")}
        if self._bar is not None:
            self._epoch, self._shown = epoch, validation
            self._bar.set_description_str(self._where(), refresh=False)
            self._bar.set_postfix(self._shown or {"loss": f"{values['loss']:.4g}"})
        elif self._lines:
            shown = {name: f"{value:.4g}" for name, value in values.items()}
            line = ", ".join(f"{name} {value}" for name, value in shown.items())
            with contextlib.suppress(OSError, ValueError):  # a closed stream is no reason to lose a training
                print(f"epoch {epoch}/{self._epochs}: {line}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
