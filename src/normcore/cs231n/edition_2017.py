"""What the edition of 2017 (and earlier ones) has otherwise: dropout's probability is the one to drop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from normcore._checks import check_flag, check_number
from normcore.cs231n import layers
from normcore.cs231n._arrays import Array
from normcore.cs231n.classifiers.fc_net import Network, refuse_foreign

__all__ = ["FullyConnectedNet", "batchnorm_forward_alt", "dropout_forward"]

# Some notebooks of that year have a forward pass of its own for `batchnorm_backward_alt`; here one cache serves both.
batchnorm_forward_alt = layers.batchnorm_forward


def dropout_forward(x: ArrayLike, dropout_param: dict[str, Any]) -> tuple[Array, Any]:
    """`normcore.cs231n.layers.dropout_forward`, but ``p`` is the probability to drop a number, in [0, 1).

    Examples
    --------
    >>> from normcore.cs231n.edition_2017 import dropout_forward
    >>> dropout_forward(np.ones((2, 3)), {"mode": "train", "p": 0.75, "seed": 1})[0]
    array([[0., 0., 0.],
           [0., 0., 0.]])
    """
    return layers.masked("dropout_forward", x, dropout_param, drops=True)


class FullyConnectedNet(Network):
    """`normcore.cs231n.classifiers.fc_net.FullyConnectedNet` with the arguments of 2017.

    ``dropout`` is the probability to drop a number, 0 for none; ``use_batchnorm=True`` asks for batch normalisation.

    Examples
    --------
    >>> from normcore.cs231n.edition_2017 import FullyConnectedNet
    >>> net = FullyConnectedNet([20, 30], input_dim=15, dropout=0.25, use_batchnorm=True)
    >>> net.dropout_param, net.use_batchnorm, sorted(net.params)[-2:]
    ({'mode': 'train', 'p': 0.25}, True, ['gamma1', 'gamma2'])
    """

    layers: ClassVar[Any] = SimpleNamespace(**(vars(layers) | {"dropout_forward": dropout_forward}))

    def __init__(
        self,
        hidden_dims: Any,
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout: float = 0,
        use_batchnorm: bool = False,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
        **foreign: object,
    ) -> None:
        refuse_foreign(foreign, "2017")
        self.use_batchnorm = check_flag(use_batchnorm, "FullyConnectedNet", "use_batchnorm")
        p = check_number(dropout, "FullyConnectedNet", "dropout", 0.0, 1.0, open_high=True)
        self._build(
            hidden_dims,
            input_dim,
            num_classes,
            dropout if p > 0 else None,
            "batchnorm" if use_batchnorm else None,
            reg,
            weight_scale,
            dtype,
            seed,
        )
