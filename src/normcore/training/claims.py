"""One call at a time: two that train the same trainer would do each other's steps."""

from __future__ import annotations

from typing import Any

__all__ = ["Claimed"]


class Claimed:
    """An object that one call holds at a time.

    The call makes a token, claims the object in a ``try``, and in its ``finally`` deletes ``_claimed`` if that is its
    own: without a call, so that no signal gets in between.
    """

    _claimed: object | None = None  # of the class: what the call that holds an object has put into that

    def _claim(self, token: object, operation: str) -> None:
        """Take the object for one call, or refuse."""
        if self.__dict__.setdefault("_claimed", token) is not token:  # one operation, whatever other threads do
            raise RuntimeError(
                f"{operation}: this trainer is being fitted already: by the call that a callback or schedule belongs "
                "to, or in another thread"
            )

    def __getstate__(self) -> dict[str, Any]:
        # A copy made in a callback is in nobody's hands.
        return {name: value for name, value in vars(self).items() if name != "_claimed"}
