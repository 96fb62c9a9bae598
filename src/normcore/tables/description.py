"""What `train_table` keeps of its table in the model file: all but what the model itself knows of its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from normcore.tables.reading import DataError

__all__ = ["FORMAT", "Description"]

FORMAT = "normcore-table-2"


@dataclass(frozen=True)
class Description:
    """Where the labels were; names of features and classes and the scale are the model's.

    Attributes
    ----------
    target : what the label column was called; None if it is not known
    target_position : its number in a CSV file, counted from 0
    """

    target: str | None = None
    target_position: int | None = None

    def to_extra(self) -> dict[str, Any]:
        """Return the description as it stands in the `extra` of a model file."""
        return {"format": FORMAT, "target": self.target, "target_position": self.target_position}

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any], features: int, source: object) -> Description:
        """Check the description in a model file, which anyone can write; nothing is known if another program wrote it.

        DataError, which names the file `source`, if it does not fit a network with that many features.
        """
        if extra.get("format") != FORMAT:
            return cls()

        def entry(key: str, wanted: str, fits: Callable[[Any], bool]) -> Any:
            if key not in extra:
                raise DataError(f"{source}: its description has no {key!r}")
            if not fits(extra[key]):
                raise DataError(f"{source}: {key!r} in its description must be {wanted}")
            return extra[key]

        return cls(
            entry("target", "a text", lambda value: isinstance(value, str)),
            entry(
                "target_position",
                f"a whole number from 0 to {features} or null",
                lambda value: value is None or (type(value) is int and 0 <= value <= features),
            ),
        )
