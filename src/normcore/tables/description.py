"""What a network's inputs and outputs mean: the part of a model file that is about the table it was trained on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normcore.tables.reading import DataError

__all__ = ["FORMAT", "Description"]

FORMAT = "normcore-table-1"


@dataclass(frozen=True)
class Description:
    """What `train_table` keeps of its data beside the model.

    Attributes
    ----------
    classes : the label that each output stands for
    feature_names : the columns' names, or None where the table had none
    target : what the label column was called
    target_position : its number in a CSV file, counted from 0
    mean, scale : float64 (features,); the network takes (x - mean) / scale
    """

    classes: list[str]
    feature_names: list[str] | None
    target: str | None
    target_position: int | None
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    def to_extra(self) -> dict[str, Any]:
        """Return the description as it stands in the `extra` of a model file."""
        return {
            "format": FORMAT,
            "classes": self.classes,
            "feature_names": self.feature_names,
            "header": self.feature_names is not None,
            "target": self.target,
            "target_position": self.target_position,
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
        }

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any], features: int, outputs: int, source: object) -> Description:
        """Check the description in a model file: anyone can write one, and a wrong one would predict nonsense.

        DataError, which names the file `source`, if it does not fit a network with that many features and outputs.
        """

        def entry(key: str, wanted: str, fits: Callable[[Any], bool]) -> Any:
            if key not in extra:
                raise DataError(f"{source}: its description has no {key!r}")
            if not fits(extra[key]):
                raise DataError(f"{source}: {key!r} in its description must be {wanted}")
            return extra[key]

        def texts(count: int) -> Callable[[Any], bool]:
            return lambda value: (
                isinstance(value, list)
                and len(value) == len({text for text in value if isinstance(text, str)}) == count
            )

        def numbers(value: Any) -> bool:
            return (
                isinstance(value, list)
                and len(value) == features
                and all(
                    type(number) in (int, float) and -sys.float_info.max <= number <= sys.float_info.max
                    for number in value
                )
            )

        def position(value: Any) -> bool:
            return value is None or (type(value) is int and 0 <= value <= features)

        classes = entry("classes", f"{outputs} different texts", texts(outputs))
        names_fit = texts(features)
        names = entry("feature_names", f"{features} different texts or null", lambda v: v is None or names_fit(v))
        # A file without names is read by position, so that the two have to agree.
        entry("header", "whether there are feature_names", lambda value: value is (names is not None))
        return cls(
            classes,
            names,
            entry("target", "a text", lambda value: isinstance(value, str)),
            entry("target_position", f"a whole number from 0 to {features} or null", position),
            np.array(entry("mean", f"{features} finite numbers", numbers), dtype=np.float64),
            np.array(
                entry("scale", f"{features} finite numbers above 0", lambda v: numbers(v) and min(v) > 0),
                dtype=np.float64,
            ),
        )

    @classmethod
    def plain(cls, features: int, outputs: int) -> Description:
        """Of a network that takes the features as they are and knows its classes by number."""
        return cls([str(i) for i in range(outputs)], None, None, None, np.zeros(features), np.ones(features))
