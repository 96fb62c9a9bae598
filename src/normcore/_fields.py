"""Values as the flat strings of a file's metadata: the same in every locale, and in one spelling each.

docs/model-format.md specifies them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Fields", "names_text", "text_of", "texts_of"]

NONE = "none"
_INTEGER = re.compile("0|-?[1-9][0-9]{0,39}")
_INTEGERS = re.compile("(?:0|[1-9][0-9]{0,19})(?:,(?:0|[1-9][0-9]{0,19}))*+")
_DOUBLE = re.compile(r"-?(?:0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}|inf)")
# A JSON string as `names_text` writes it.
_NAME = re.compile(r'"(?:[^"\\\x00-\x1f\x7f-\U0010ffff]++|\\["\\]|\\u[0-9a-f]{4})*+"')
_OTHERS = re.compile(r"[^ -~]")


def text_of(value: str | bool | int | float | Sequence[int] | Sequence[float] | None) -> str:
    """A value as it stands in a file; a str stands for itself, as long as it looks like nothing else.

    None is ``none``, a bool ``true`` or ``false``, and a double is as C99 writes it in hexadecimal, with all digits:
    ``0x1.999999999999ap-4``. A sequence has commas between its elements.
    """
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return value.hex()
    return str(value) if isinstance(value, (str, int)) else ",".join(map(text_of, value))


def texts_of(group: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Values as entries ``group.key``; a mapping among them is a group of its own, ``group.key.…``."""
    texts: dict[str, str] = {}
    for key, value in values.items():
        name = f"{group}.{key}"
        texts |= texts_of(name, value) if isinstance(value, Mapping) else {name: text_of(value)}
    return texts


def names_text(names: Sequence[str], operation: str, argument: str) -> str:
    r"""Names as a JSON array in ASCII: escaped are ``"`` and ``\``, and as ``\uXXXX`` all that is not printable ASCII.

    ValueError if a name holds half a surrogate pair, which is no character.
    """
    quoted = []
    for index, name in enumerate(names):
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        try:
            quoted.append(f'"{_OTHERS.sub(_in_utf16, escaped)}"')
        except UnicodeEncodeError:
            raise ValueError(f"{operation}: {argument}[{index}] is {name!r}, which is not valid Unicode") from None
    return f"[{','.join(quoted)}]"


def _in_utf16(character: re.Match[str]) -> str:
    units = character[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


class Fields:
    """The metadata of a file, of which every entry has to be asked for: `finish` refuses those that were not.

    All methods raise ValueError, in words that follow the name of the file.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._left = set(texts)

    def starting_with(self, prefix: str) -> list[str]:
        """The keys of a group, in order."""
        return sorted(key for key in self._texts if key.startswith(prefix))

    def text(self, key: str) -> str:
        """The string itself."""
        if key not in self._texts:
            raise ValueError(f"no entry {key}")
        self._left.discard(key)
        return self._texts[key]

    def _refuse(self, key: str, wanted: str) -> ValueError:
        return ValueError(f"{key} is {self._texts[key][:80]!r}; it must be {wanted}")

    def is_none(self, key: str) -> bool:
        """Whether the value is none."""
        return self.text(key) == NONE

    def value(self, key: str) -> Any:
        """Whatever the text looks like: None, a bool, an integer, a double, two of these, or else a str."""
        text = self.text(key)
        if text.count(",") == 1:
            return [self._single(part, key) for part in text.split(",")]
        return self._single(text, key)

    def values(self, group: str) -> dict[str, Any]:
        """The values of a group, as `texts_of` took them."""
        values: dict[str, Any] = {}
        for key in self.starting_with(group + "."):
            *groups, last = key[len(group) + 1 :].split(".")
            into = values
            for name in groups:
                into = into.setdefault(name, {})
                if not isinstance(into, dict):
                    raise ValueError(f"{key}, and something else of that name")
            into[last] = self.value(key)
        return values

    def _single(self, text: str, key: str) -> Any:
        words = {NONE: None, "true": True, "false": False}
        if text in words:
            return words[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        return self._double(text, key) if _DOUBLE.fullmatch(text) else text

    def _double(self, text: str, key: str) -> float:
        try:
            value = float.fromhex(text) if _DOUBLE.fullmatch(text) else math.nan
        except OverflowError:
            value = math.nan
        if math.isnan(value) or value.hex() != text:
            raise self._refuse(key, "a number in hexadecimal, as 0x1.8000000000000p+1")
        return value

    def double(self, key: str) -> float:
        """A double, which may be infinite but not NaN."""
        return self._double(self.text(key), key)

    def integer(self, key: str, greatest: int) -> int:
        """An integer from 0 to `greatest`."""
        text = self.text(key)
        if not _INTEGER.fullmatch(text) or not 0 <= int(text) <= greatest:
            raise self._refuse(key, f"an integer in [0, {greatest}]")
        return int(text)

    def integers(self, key: str, most: int) -> list[int]:
        """One to `most` integers, none of them negative."""
        text = self.text(key)
        if text.count(",") >= most or not _INTEGERS.fullmatch(text):  # counted before they become objects
            raise self._refuse(key, f"1 to {most} integers with commas between them")
        return [int(part) for part in text.split(",")]

    def boolean(self, key: str) -> bool:
        """True or False."""
        text = self.text(key)
        if text not in ("true", "false"):
            raise self._refuse(key, "true or false")
        return text == "true"

    def names(self, key: str, count: int) -> list[str]:
        """That many names, counted before they become objects."""
        text = self.text(key)
        position, found = 0, 0
        while text.startswith("," if found else "[", position) and (match := _NAME.match(text, position + 1)):
            position, found = match.end(), found + 1
        if text[position:] != "]" or found != count:
            raise self._refuse(key, f"a JSON array of {count} strings, in ASCII")
        names: list[str] = json.loads(text)
        try:
            canonical = names_text(names, "", "") == text
        except ValueError:
            canonical = False
        if not canonical:
            raise self._refuse(key, "valid Unicode, with nothing escaped that need not be")
        return names

    def finish(self) -> None:
        """Refuse entries that nobody has asked for."""
        if self._left:
            raise ValueError(f"unknown entries: {', '.join(sorted(self._left)[:8])}")
