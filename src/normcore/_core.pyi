from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Self, SupportsIndex, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from typing_extensions import disjoint_base

# float32 or float64. Arguments of both promote: a type checker then sees their join.
_F = TypeVar("_F", bound=np.floating[Any])
_Statistic = NDArray[np.float32] | NDArray[np.float64] | np.float32 | np.float64
_Labels = ArrayLike
_ClassWeight = ArrayLike | Mapping[int, float]
_Norm = Literal["batch", "layer"] | None
# Of a loss: a number and an array of one for each row, with the gradient and the sum of the weights.
_Summed = Literal["mean", "sum"]
_Loss = tuple[float, NDArray[_F], float]
_RowLosses = tuple[NDArray[np.float64], NDArray[_F], float]
_Activation = Literal["relu", "leaky_relu", "tanh", "logistic", "silu", "relu6"]

__version__: Final[str]
CONTRACT: Final[str]
ACTIVATIONS: Final[dict[_Activation, int]]

def affine_forward(
    x: NDArray[_F], w: NDArray[_F], b: NDArray[_F] | None = None, *, relu: bool = False, out: NDArray[_F] | None = None
) -> NDArray[_F]: ...
def affine_backward(
    dy: NDArray[_F], x: NDArray[_F], w: NDArray[_F]
) -> tuple[NDArray[_F], NDArray[_F], NDArray[_F]]: ...
def relu_forward(x: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def relu_backward(dy: NDArray[_F], y: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def leaky_relu_forward(x: NDArray[_F], *, slope: float = 0.01, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def leaky_relu_backward(
    dy: NDArray[_F], y: NDArray[_F], *, slope: float = 0.01, out: NDArray[_F] | None = None
) -> NDArray[_F]: ...
def tanh_forward(x: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def tanh_backward(dy: NDArray[_F], y: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def logistic_forward(x: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def logistic_backward(dy: NDArray[_F], y: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def silu_forward(x: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def silu_backward(dy: NDArray[_F], x: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def relu6_forward(x: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def relu6_backward(dy: NDArray[_F], y: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def softmax(x: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def log_softmax(x: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def softmax_backward(dy: NDArray[_F], y: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def log_softmax_backward(dy: NDArray[_F], y: NDArray[_F], *, out: NDArray[_F] | None = None) -> NDArray[_F]: ...
def first_bad_label(labels: NDArray[np.int64], classes: int, ignore_index: int | None, /) -> int: ...
def class_weights(operation: str, weights: Mapping[Any, float], classes: int) -> NDArray[np.float64]: ...
@overload
def softmax_cross_entropy(
    logits: NDArray[_F],
    labels: _Labels,
    *,
    class_weight: _ClassWeight | None = None,
    sample_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    ignore_index: SupportsIndex | None = None,
    reduction: _Summed = "mean",
) -> _Loss[_F]: ...
@overload
def softmax_cross_entropy(
    logits: NDArray[_F],
    labels: _Labels,
    *,
    class_weight: _ClassWeight | None = None,
    sample_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    ignore_index: SupportsIndex | None = None,
    reduction: Literal["none"],
) -> _RowLosses[_F]: ...
@overload
def logistic_loss(
    outputs: NDArray[_F], targets: ArrayLike, *, sample_weight: ArrayLike | None = None, reduction: _Summed = "mean"
) -> _Loss[_F]: ...
@overload
def logistic_loss(
    outputs: NDArray[_F], targets: ArrayLike, *, sample_weight: ArrayLike | None = None, reduction: Literal["none"]
) -> _RowLosses[_F]: ...
@overload
def squared_error(
    outputs: NDArray[_F], targets: ArrayLike, *, sample_weight: ArrayLike | None = None, reduction: _Summed = "mean"
) -> _Loss[_F]: ...
@overload
def squared_error(
    outputs: NDArray[_F], targets: ArrayLike, *, sample_weight: ArrayLike | None = None, reduction: Literal["none"]
) -> _RowLosses[_F]: ...
@overload
def huber_loss(
    outputs: NDArray[_F],
    targets: ArrayLike,
    *,
    delta: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: _Summed = "mean",
) -> _Loss[_F]: ...
@overload
def huber_loss(
    outputs: NDArray[_F],
    targets: ArrayLike,
    *,
    delta: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: Literal["none"],
) -> _RowLosses[_F]: ...
@overload
def quantile_loss(
    outputs: NDArray[_F],
    targets: ArrayLike,
    *,
    tau: float = 0.5,
    sample_weight: ArrayLike | None = None,
    reduction: _Summed = "mean",
) -> _Loss[_F]: ...
@overload
def quantile_loss(
    outputs: NDArray[_F],
    targets: ArrayLike,
    *,
    tau: float = 0.5,
    sample_weight: ArrayLike | None = None,
    reduction: Literal["none"],
) -> _RowLosses[_F]: ...
@overload
def poisson_loss(
    outputs: NDArray[_F], targets: ArrayLike, *, sample_weight: ArrayLike | None = None, reduction: _Summed = "mean"
) -> _Loss[_F]: ...
@overload
def poisson_loss(
    outputs: NDArray[_F], targets: ArrayLike, *, sample_weight: ArrayLike | None = None, reduction: Literal["none"]
) -> _RowLosses[_F]: ...
def batch_norm_forward(
    x: NDArray[_F],
    gamma: NDArray[_F],
    beta: NDArray[_F],
    running_mean: NDArray[_F] | None = None,
    running_var: NDArray[_F] | None = None,
    *,
    training: bool = True,
    momentum: float = 0.9,
    eps: float = 1e-5,
    unbiased_running_var: bool = False,
    out: NDArray[_F] | None = None,
) -> tuple[NDArray[_F], NDArray[np.float64], NDArray[np.float64]]: ...
def batch_norm_backward(
    dy: NDArray[_F],
    x: NDArray[_F],
    gamma: NDArray[_F],
    mean: _Statistic,
    rstd: _Statistic,
    *,
    algorithm: Literal["fused", "graph"] = "fused",
    training: bool = True,
) -> tuple[NDArray[_F], NDArray[_F], NDArray[_F]]: ...
def layer_norm_forward(
    x: NDArray[_F], gamma: NDArray[_F], beta: NDArray[_F], *, eps: float = 1e-5, out: NDArray[_F] | None = None
) -> tuple[NDArray[_F], NDArray[np.float64], NDArray[np.float64]]: ...
def layer_norm_backward(
    dy: NDArray[_F], x: NDArray[_F], gamma: NDArray[_F], mean: _Statistic, rstd: _Statistic
) -> tuple[NDArray[_F], NDArray[_F], NDArray[_F]]: ...
def dropout_forward(
    x: NDArray[_F],
    keep: float,
    *,
    seed: SupportsIndex,
    stream: SupportsIndex = 0,
    offset: SupportsIndex = 0,
    out: NDArray[_F] | None = None,
) -> NDArray[_F]: ...
def dropout_backward(
    dy: NDArray[_F],
    keep: float,
    *,
    seed: SupportsIndex,
    stream: SupportsIndex = 0,
    offset: SupportsIndex = 0,
    out: NDArray[_F] | None = None,
) -> NDArray[_F]: ...
@overload
def random_uniform(
    n: SupportsIndex,
    *,
    seed: SupportsIndex,
    stream: SupportsIndex = 0,
    offset: SupportsIndex = 0,
    low: float = 0.0,
    high: float = 1.0,
    dtype: Literal["float64"] = "float64",
) -> NDArray[np.float64]: ...
@overload
def random_uniform(
    n: SupportsIndex,
    *,
    seed: SupportsIndex,
    stream: SupportsIndex = 0,
    offset: SupportsIndex = 0,
    low: float = 0.0,
    high: float = 1.0,
    dtype: Literal["float32"],
) -> NDArray[np.float32]: ...
@overload
def random_uniform(
    n: SupportsIndex,
    *,
    seed: SupportsIndex,
    stream: SupportsIndex = 0,
    offset: SupportsIndex = 0,
    low: float = 0.0,
    high: float = 1.0,
    dtype: DTypeLike = "float64",
) -> NDArray[np.floating[Any]]: ...
@overload
def random_normal(
    n: SupportsIndex,
    *,
    seed: SupportsIndex,
    stream: SupportsIndex = 0,
    offset: SupportsIndex = 0,
    mean: float = 0.0,
    scale: float = 1.0,
    dtype: Literal["float64"] = "float64",
) -> NDArray[np.float64]: ...
@overload
def random_normal(
    n: SupportsIndex,
    *,
    seed: SupportsIndex,
    stream: SupportsIndex = 0,
    offset: SupportsIndex = 0,
    mean: float = 0.0,
    scale: float = 1.0,
    dtype: Literal["float32"],
) -> NDArray[np.float32]: ...
@overload
def random_normal(
    n: SupportsIndex,
    *,
    seed: SupportsIndex,
    stream: SupportsIndex = 0,
    offset: SupportsIndex = 0,
    mean: float = 0.0,
    scale: float = 1.0,
    dtype: DTypeLike = "float64",
) -> NDArray[np.floating[Any]]: ...
def random_integers(
    n: SupportsIndex, bound: SupportsIndex, *, seed: SupportsIndex, stream: SupportsIndex = 0, offset: SupportsIndex = 0
) -> NDArray[np.int64]: ...
def random_permutation(
    n: SupportsIndex, *, seed: SupportsIndex, stream: SupportsIndex = 0, offset: SupportsIndex = 0
) -> NDArray[np.int64]: ...
def optimizer_update(
    optimizer: str,
    params: NDArray[_F],
    grads: NDArray[_F],
    slot1: NDArray[_F] | None,
    slot2: NDArray[_F] | None,
    *,
    learning_rate: float,
    momentum: float = 0.9,
    decay_rate: float = 0.99,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    l2: float = 0.0,
    weight_decay: float = 0.0,
    gradient_scale: float = 1.0,
    step: SupportsIndex = 1,
) -> None: ...
def check_optimizer(
    operation: str,
    dtype: np.dtype[Any],
    optimizer: str,
    learning_rate: float,
    momentum: float,
    decay_rate: float,
    betas: tuple[float, float],
    eps: float,
    l2: float,
    weight_decay: float,
    /,
) -> None: ...

@disjoint_base
class Updater:
    def __new__(
        cls,
        optimizer: str,
        groups: Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, NDArray[Any] | None, float, float]],
        momentum: float,
        decay_rate: float,
        betas: tuple[float, float],
        eps: float,
        /,
    ) -> Self: ...
    def update(
        self, learning_rate: float, gradient_scale: float, step: SupportsIndex, calls: Iterable[tuple[Any, ...]], /
    ) -> None: ...

def replace_handler(
    set_handler: Callable[[int, Any], object], number: SupportsIndex, handler: Callable[[int, Any], Any], /
) -> None: ...
def sum_of_squares(x: NDArray[np.floating[Any]]) -> float: ...

@disjoint_base
class Network:
    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def norm(self) -> _Norm: ...
    @property
    def activation(self) -> _Activation: ...
    @property
    def keep(self) -> float: ...
    @property
    def eps(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def unbiased_running_var(self) -> bool: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def parameter_count(self) -> int: ...
    @property
    def buffer_count(self) -> int: ...
    def __new__(
        cls,
        sizes: Sequence[SupportsIndex],
        *,
        norm: _Norm = None,
        activation: _Activation = "relu",
        keep: float = 1.0,
        eps: float = 1e-5,
        momentum: float = 0.9,
        unbiased_running_var: bool = False,
        dtype: DTypeLike = "float32",
    ) -> Self: ...
    def takes(self, x: object, /) -> bool: ...
    def takes_labels(self, x: object, y: object, /) -> bool: ...
    def segments(self) -> list[tuple[str, int, int, int, int]]: ...
    def initialize(
        self,
        params: NDArray[Any],
        buffers: NDArray[Any] | None,
        *,
        seed: SupportsIndex,
        stream: SupportsIndex = 0,
        weight_scale: float | None = None,
    ) -> None: ...
    def forward(
        self, x: NDArray[Any], params: NDArray[Any], buffers: NDArray[Any] | None, out: NDArray[Any] | None = None
    ) -> NDArray[Any]: ...
    def forward_training(
        self,
        x: NDArray[Any],
        params: NDArray[Any],
        buffers: NDArray[Any] | None,
        tape: Pass,
        out: NDArray[Any] | None = None,
        *,
        seed: SupportsIndex = 0,
        stream: SupportsIndex = 0,
    ) -> NDArray[Any]: ...
    def backward(
        self,
        x: NDArray[Any],
        params: NDArray[Any],
        tape: Pass,
        dy: NDArray[Any],
        grads: NDArray[Any],
        dx: NDArray[Any] | None = None,
    ) -> None: ...
    def loss_and_grads(
        self,
        x: NDArray[Any],
        labels: _Labels,
        params: NDArray[Any],
        buffers: NDArray[Any] | None,
        grads: NDArray[Any],
        class_weight: _ClassWeight | None = None,
        sample_weight: ArrayLike | None = None,
        label_smoothing: float = 0.0,
        ignore_index: SupportsIndex | None = None,
        seed: SupportsIndex = 0,
        stream: SupportsIndex = 0,
        update_statistics: bool = True,
        *,
        reduction: str = "mean",
    ) -> tuple[float, float]: ...

@disjoint_base
class Pass:
    @property
    def network(self) -> Network: ...
    @property
    def rows(self) -> int: ...
    def __new__(cls, network: Network, rows: SupportsIndex) -> Self: ...

def _digests_main(arguments: list[bytes]) -> int: ...
def available_isas() -> tuple[str, ...]: ...
def get_isa() -> str: ...
def set_isa(name: str | None) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(n: SupportsIndex) -> None: ...
def selftest() -> None: ...
def cpu_features() -> str: ...
