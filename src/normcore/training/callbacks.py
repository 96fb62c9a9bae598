"""The caller's own code in a training run, and the progress bar."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["Progress", "call_callbacks", "check_callbacks"]

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


class Progress:
    """A tqdm bar over the steps, or nothing."""

    def __init__(self, wanted: bool | None, total: int, done: int) -> None:
        self._bar: Any = None
        terminal = sys.stderr is not None and sys.stderr.isatty()
        if wanted is False or (wanted is None and not terminal):
            return
        try:
            tqdm = importlib.import_module("tqdm").tqdm  # optional, and without type information
        except ImportError:
            if wanted:
                raise ImportError("Trainer: progress=True needs tqdm: pip install 'normcore[progress]'") from None
            return
        self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, leave=False)

    def step(self, loss: float) -> None:
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            self._bar.update()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
