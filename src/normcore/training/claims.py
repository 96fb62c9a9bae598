"""One call at a time: two that train the same trainer would do each other's steps."""

from __future__ import annotations

from typing import Any

__all__ = ["Claimed"]


class Claimed:
    """An object that one call holds at a time.

    The call puts a token of its own into ``_claimed`` where there is none, in a ``try`` whose ``finally`` takes it out:
    by operations of the interpreter alone, so that no signal gets in between, and no other thread.
    """

    _claimed: object | None = None  # of the class: what the call that holds an object has put into that

    def _taken(self, operation: str) -> RuntimeError:
        return RuntimeError(
            f"{operation}: this trainer is being fitted already: by the call that a callback or schedule belongs "
            "to, or in another thread"
        )

    def __getstate__(self) -> dict[str, Any]:
        # A copy made in a callback is in nobody's hands.
        return {name: value for name, value in vars(self).items() if name != "_claimed"}
