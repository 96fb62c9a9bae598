"""Prints a code block of README.md, so that what the README says is what is tested.

``python tests/readme_block.py main-command | test-command | python | c``
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def block(which: str) -> str:
    """The first two ``sh`` blocks are the main command and the test command; the others are found by language."""
    kinds = {"main-command": ("sh", 0), "test-command": ("sh", 1), "python": ("python", 0), "c": ("c", 0)}
    language, index = kinds[which]
    found = re.findall(r"^```(\w+)\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language][index]


if __name__ == "__main__":
    sys.stdout.write(block(sys.argv[1]))
