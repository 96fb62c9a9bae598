"""Text from outside, made fit for a terminal."""

from __future__ import annotations

import re

__all__ = ["is_printable", "printable"]

# Control characters (C0, DEL, C1), what turns the direction of writing, other ends of lines, and halves of surrogate
# pairs, which stand for the undecodable bytes of file names. Not blanks, joiners or other characters without ink: they
# belong to names in many languages.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]",
)


def is_printable(text: str) -> bool:
    """Whether a terminal shows `text` as it is: it holds nothing that `printable` would escape."""
    return _UNPRINTABLE.search(text) is None


def printable(text: str) -> str:
    r"""Return `text` with every character that could command a terminal written as Python writes it: ``\x1b``."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
