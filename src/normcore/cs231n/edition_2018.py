"""What the editions from 2018 to 2020 have otherwise: the probability to keep is called ``dropout``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from normcore._checks import check_number
from normcore.cs231n.classifiers.fc_net import Network, refuse_foreign

__all__ = ["FullyConnectedNet"]


class FullyConnectedNet(Network):
    """`normcore.cs231n.classifiers.fc_net.FullyConnectedNet` with the arguments of 2018 to 2020.

    ``dropout`` is the probability to keep a number, 1 for no dropout.

    Examples
    --------
    >>> from normcore.cs231n.edition_2018 import FullyConnectedNet
    >>> net = FullyConnectedNet([20, 30], input_dim=15, dropout=0.75)
    >>> net.dropout_param
    {'mode': 'train', 'p': 0.75}
    """

    def __init__(
        self,
        hidden_dims: Any,
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout: float = 1,
        normalization: str | None = None,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
        **foreign: object,
    ) -> None:
        refuse_foreign(foreign, "2018 to 2020")
        p = check_number(dropout, "FullyConnectedNet", "dropout", 0.0, 1.0, open_low=True)
        self._build(
            hidden_dims,
            input_dim,
            num_classes,
            dropout if p != 1 else None,
            normalization,
            reg,
            weight_scale,
            dtype,
            seed,
        )
