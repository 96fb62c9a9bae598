"""What a file says of a model: its configuration as flat strings, and back.

docs/model-format.md lists the entries. The arrays are the model's own business, and those of the file `archive`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from normcore._fields import Fields, names_text, text_of

__all__ = ["config_of", "metadata_of"]

_PLAIN = ("sizes", "norm", "activation", "dropout", "weight_scale", "dtype", "eps", "momentum", "unbiased_running_var")
_NAMES = ("feature_names", "class_names")


def metadata_of(config: Mapping[str, Any], operation: str) -> dict[str, str]:
    """The entries of ``MLP.config()``, but for the scale of the features, which is in arrays.

    ValueError, of the operation, for a name that is not valid Unicode.
    """
    metadata = {key: text_of(config[key]) for key in _PLAIN}
    for key, value in config["loss"].items():
        metadata["loss" if key == "name" else f"loss.{key}"] = text_of(value)
    for key in _NAMES:
        metadata[key] = text_of(None) if config[key] is None else names_text(config[key], operation, key)
    return metadata


def config_of(fields: Fields, arrays: int) -> dict[str, Any]:
    """The configuration in those entries, of a file of that many arrays, for ``MLP.from_config``.

    ValueError where one is missing or is not written as `metadata_of` writes it; what it means is MLP's to judge.
    """
    sizes = fields.integers("sizes", arrays + 1)
    parameters = {key.removeprefix("loss."): fields.double(key) for key in fields.starting_with("loss.")}
    names = {
        key: None if fields.is_none(key) else fields.names(key, count)
        for key, count in zip(_NAMES, (sizes[0], sizes[-1]), strict=True)
    }
    return {
        "sizes": sizes,
        "norm": None if fields.is_none("norm") else fields.text("norm"),
        "activation": fields.text("activation"),
        "dropout": fields.double("dropout"),
        "weight_scale": None if fields.is_none("weight_scale") else fields.double("weight_scale"),
        "dtype": fields.text("dtype"),
        "eps": fields.double("eps"),
        "momentum": fields.double("momentum"),
        "unbiased_running_var": fields.boolean("unbiased_running_var"),
        "loss": {"name": fields.text("loss"), **parameters},
        **names,
    }
