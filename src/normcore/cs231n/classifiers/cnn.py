"""The name of ``cs231n.classifiers.cnn``, a convolutional network, which is not here."""

from __future__ import annotations

from typing import Any

from normcore.cs231n._missing import WHY

__all__ = ["ThreeLayerConvNet"]


class ThreeLayerConvNet:
    """Not here: raises `NotImplementedError`, as normcore has no convolutions and no pooling."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(f"ThreeLayerConvNet: {WHY}")
