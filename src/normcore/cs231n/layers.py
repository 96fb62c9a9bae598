"""Layers, their backward passes and the two losses, under the names and with the arguments of ``cs231n.layers``.

Every ``*_forward`` returns its output and a cache; the cache goes to the ``*_backward`` of that name as it is. Arrays
are float32, float64 or integers, which count as float64, of any layout; they are not changed. The mathematics of each
function is in `normcore.testing.reference`.

Convolutions and pooling are not here: their names are, and raise `NotImplementedError`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

import normcore as nc
from normcore._checks import check_integer, check_number
from normcore.cs231n._arrays import Array, check_labels, check_shape, floating, mode_of, option
from normcore.cs231n._missing import missing

__all__ = [
    "affine_backward",
    "affine_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward_naive",
    "conv_forward_naive",
    "dropout_backward",
    "dropout_forward",
    "layernorm_backward",
    "layernorm_forward",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
    "relu_backward",
    "relu_forward",
    "softmax_loss",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "svm_loss",
]

Cache = Any


class _BatchNorm(NamedTuple):
    """The cache of `batchnorm_forward`."""

    x: Array
    gamma: Array
    mean: Array
    rstd: Array
    training: bool


class _SpatialBatchNorm(NamedTuple):
    """The cache of `spatial_batchnorm_forward`: the shape of its images, and the cache of its pixels."""

    shape: tuple[int, int, int, int]
    pixels: _BatchNorm


class _LayerNorm(NamedTuple):
    """The cache of `layernorm_forward`."""

    x: Array
    gamma: Array
    mean: Array
    rstd: Array


class _GroupNorm(NamedTuple):
    """The cache of `spatial_groupnorm_forward`: its groups as rows, and what the layer norm of these gave."""

    rows: Array
    ones: Array
    mean: Array
    rstd: Array
    normalized: Array
    gamma: Array


Own = TypeVar("Own", _BatchNorm, _SpatialBatchNorm, _LayerNorm, _GroupNorm)


def _own(operation: str, cache: Cache, kind: type[Own]) -> Own:
    """The cache, which must be normcore's: somebody's own forward function has caches of its own."""
    if not isinstance(cache, kind):
        forward = operation.partition("_backward")[0] + "_forward"
        raise TypeError(
            f"{operation}: the cache is not one of normcore's {forward}; a forward function and its backward "
            "function go together, both normcore's or both your own"
        )
    return cache


# ---------------------------------------------------------------- affine and ReLU


def affine_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike) -> tuple[Array, Cache]:
    """``x w + b`` with each example of `x` as one row.

    Parameters
    ----------
    x : array (N, d1, ..., dk)
    w : array (D, M), D = d1 ... dk
    b : array (M,)

    Returns
    -------
    out : array (N, M)
    cache : (x, w, b)

    Examples
    --------
    >>> from normcore.cs231n.layers import affine_forward
    >>> affine_forward(np.ones((1, 2, 2)), np.ones((4, 3)), np.array([0.0, 1.0, 2.0]))[0]
    array([[4., 5., 6.]])
    """
    x, w, b = floating("affine_forward", x=x, w=w, b=b)
    if x.ndim < 1 or w.ndim != 2:
        raise ValueError(f"affine_forward: x is {x.shape} and w is {w.shape}; they must be (N, d1, ..., dk) and (D, M)")
    rows = _rows(x)
    if rows.shape[1] != w.shape[0]:
        raise ValueError(
            f"affine_forward: x is {x.shape}, {rows.shape[1]} numbers an example, but w is {w.shape}; "
            f"w must be ({rows.shape[1]}, M)"
        )
    check_shape("affine_forward", "b", b, w.shape[1:], f"as w is {w.shape}")
    return nc.affine_forward(rows, w, b), (x, w, b)


def affine_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients of `affine_forward`: ``dx`` of the shape of x, ``dw`` (D, M), ``db`` (M,).

    Examples
    --------
    >>> from normcore.cs231n.layers import affine_backward, affine_forward
    >>> out, cache = affine_forward(np.ones((1, 2, 2)), np.ones((4, 3)), np.zeros(3))
    >>> dx, dw, db = affine_backward(np.ones((1, 3)), cache)
    >>> dx.shape, dw.shape, db
    ((1, 2, 2), (4, 3), array([1., 1., 1.]))
    """
    if not isinstance(cache, tuple) or len(cache) != 3:
        raise TypeError("affine_backward: the cache is not one of affine_forward, (x, w, b)")
    dout, x, w = floating("affine_backward", dout=dout, x=cache[0], w=cache[1])
    check_shape("affine_backward", "dout", dout, (x.shape[0], w.shape[1]), "as the output")
    dx, dw, db = nc.affine_backward(dout, _rows(x), w)
    return dx.reshape(x.shape), dw, db


def _rows(x: Array) -> Array:
    """`x` (N, d1, ..., dk) as (N, D); also where N is 0, for which reshape(0, -1) has no answer."""
    return x.reshape(x.shape[0], int(np.prod(x.shape[1:], dtype=np.int64)))


def relu_forward(x: ArrayLike) -> tuple[Array, Cache]:
    """``max(0, x)``, for an array of any shape. The cache is x.

    Examples
    --------
    >>> from normcore.cs231n.layers import relu_forward
    >>> relu_forward(np.array([-1.0, 0.0, 2.0]))[0]
    array([0., 0., 2.])
    """
    (x,) = floating("relu_forward", x=x)
    return nc.relu_forward(x), x


def relu_backward(dout: ArrayLike, cache: Cache) -> Array:
    """Gradient of `relu_forward`: `dout` where x was above 0, and 0 elsewhere.

    Examples
    --------
    >>> from normcore.cs231n.layers import relu_backward, relu_forward
    >>> out, cache = relu_forward(np.array([-1.0, 0.0, 2.0]))
    >>> relu_backward(np.array([5.0, 6.0, 7.0]), cache)
    array([0., 0., 7.])
    """
    dout, x = floating("relu_backward", dout=dout, cache=cache)
    check_shape("relu_backward", "dout", dout, x.shape, "as the output")
    return nc.relu_backward(dout, x)


# ---------------------------------------------------------------- normalisation


def batchnorm_forward(x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: dict[str, Any]) -> tuple[Array, Cache]:
    """Batch normalisation of the columns of `x` (arXiv 1502.03167).

    Parameters
    ----------
    x : array (N, D)
    gamma, beta : array (D,)
    bn_param : dict
        ``"mode"`` must be there: ``"train"`` normalises with mean and biased variance of the batch, ``"test"`` with the
        running ones. ``"eps"`` (1e-5) is added to the variance. Running statistics are
        ``momentum * running + (1 - momentum) * batch`` with ``"momentum"`` (0.9); they begin at zero, and are written
        into `bn_param`, as new arrays, as ``"running_mean"`` and ``"running_var"`` (D,).

    Returns
    -------
    out : array (N, D)
    cache : for `batchnorm_backward` or `batchnorm_backward_alt`

    Raises
    ------
    ValueError
        No such mode, or shapes that do not fit. `bn_param` is as it was.

    Examples
    --------
    >>> from normcore.cs231n.layers import batchnorm_forward
    >>> bn_param = {"mode": "train", "eps": 0}
    >>> batchnorm_forward(np.array([[0.0, 10.0], [2.0, 30.0]]), np.ones(2), np.zeros(2), bn_param)[0]
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> bn_param["running_mean"], bn_param["running_var"]
    (array([0.1, 2. ]), array([ 0.1, 10. ]))
    """
    return _batchnorm_forward("batchnorm_forward", x, gamma, beta, bn_param)


def _batchnorm_forward(
    operation: str, x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: dict[str, Any]
) -> tuple[Array, Cache]:
    training = mode_of(operation, "bn_param", bn_param) == "train"
    eps = option(operation, "bn_param", bn_param, "eps", 1e-5)
    momentum = option(operation, "bn_param", bn_param, "momentum", 0.9, 1.0)
    x, gamma, beta = floating(operation, x=x, gamma=gamma, beta=beta)
    if x.ndim != 2:
        raise ValueError(f"{operation}: x is {x.shape}; it must be (N, D)")
    running = []
    for name in ("running_mean", "running_var"):
        statistic = np.array(bn_param.get(name, np.zeros(x.shape[1])), dtype=x.dtype)
        check_shape(operation, f"bn_param[{name!r}]", statistic, x.shape[1:], f"as x is {x.shape}")
        running.append(statistic)
    for name, array in (("gamma", gamma), ("beta", beta)):
        check_shape(operation, name, array, x.shape[1:], f"as x is {x.shape}")
    out, mean, rstd = nc.batch_norm_forward(x, gamma, beta, *running, training=training, momentum=momentum, eps=eps)
    bn_param["running_mean"], bn_param["running_var"] = running
    return out, _BatchNorm(x, gamma, mean, rstd, training)


def batchnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients of `batchnorm_forward`, step by step through its computational graph: ``dx``, ``dgamma``, ``dbeta``.

    Examples
    --------
    >>> from normcore.cs231n.layers import batchnorm_backward, batchnorm_forward
    >>> x, dout = np.array([[0.0], [2.0], [7.0]]), np.array([[1.0], [2.0], [4.0]])
    >>> out, cache = batchnorm_forward(x, np.ones(1), np.zeros(1), {"mode": "train"})
    >>> dx, dgamma, dbeta = batchnorm_backward(dout, cache)
    >>> dbeta, bool(abs(dx.sum()) < 1e-12)  # what is added to a whole column does not change the output
    (array([7.]), True)
    """
    return _batchnorm_backward("batchnorm_backward", dout, cache, "graph")


def batchnorm_backward_alt(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """What `batchnorm_backward` gives, to rounding, by the simplified closed form, which is faster.

    Examples
    --------
    >>> from normcore.cs231n.layers import batchnorm_backward, batchnorm_backward_alt, batchnorm_forward
    >>> x, dout = np.array([[0.0], [2.0], [7.0]]), np.array([[1.0], [2.0], [4.0]])
    >>> out, cache = batchnorm_forward(x, np.ones(1), np.zeros(1), {"mode": "train"})
    >>> bool(np.allclose(batchnorm_backward_alt(dout, cache)[0], batchnorm_backward(dout, cache)[0]))
    True
    """
    return _batchnorm_backward("batchnorm_backward_alt", dout, cache, "fused")


def _batchnorm_backward(operation: str, dout: ArrayLike, cache: Cache, algorithm: Any) -> tuple[Array, Array, Array]:
    x, gamma, mean, rstd, training = _own(operation, cache, _BatchNorm)
    (dout,) = floating(operation, dout=dout)
    check_shape(operation, "dout", dout, x.shape, "as the output")
    return nc.batch_norm_backward(dout, x, gamma, mean, rstd, algorithm=algorithm, training=training)


def layernorm_forward(x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, ln_param: dict[str, Any]) -> tuple[Array, Cache]:
    """Layer normalisation of the rows of `x` (arXiv 1607.06450), the same in training and in testing.

    Parameters
    ----------
    x : array (N, D)
    gamma, beta : array (D,)
    ln_param : dict
        ``"eps"`` (1e-5) is added to the variance of each row; other keys are ignored.

    Examples
    --------
    >>> from normcore.cs231n.layers import layernorm_forward
    >>> layernorm_forward(np.array([[0.0, 2.0], [10.0, 30.0]]), np.ones(2), np.zeros(2), {"eps": 0})[0]
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    operation = "layernorm_forward"
    eps = option(operation, "ln_param", ln_param, "eps", 1e-5)
    x, gamma, beta = floating(operation, x=x, gamma=gamma, beta=beta)
    if x.ndim != 2:
        raise ValueError(f"{operation}: x is {x.shape}; it must be (N, D)")
    for name, array in (("gamma", gamma), ("beta", beta)):
        check_shape(operation, name, array, x.shape[1:], f"as x is {x.shape}")
    out, mean, rstd = nc.layer_norm_forward(x, gamma, beta, eps=eps)
    return out, _LayerNorm(x, gamma, mean, rstd)


def layernorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients of `layernorm_forward`: ``dx``, ``dgamma``, ``dbeta``.

    Examples
    --------
    >>> from normcore.cs231n.layers import layernorm_backward, layernorm_forward
    >>> out, cache = layernorm_forward(np.array([[0.0, 2.0], [10.0, 30.0]]), np.ones(2), np.zeros(2), {"eps": 0})
    >>> dx, dgamma, dbeta = layernorm_backward(np.array([[1.0, 2.0], [3.0, 4.0]]), cache)
    >>> dgamma, dbeta
    (array([-4.,  6.]), array([4., 6.]))
    """
    x, gamma, mean, rstd = _own("layernorm_backward", cache, _LayerNorm)
    (dout,) = floating("layernorm_backward", dout=dout)
    check_shape("layernorm_backward", "dout", dout, x.shape, "as the output")
    return nc.layer_norm_backward(dout, x, gamma, mean, rstd)


def spatial_batchnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: dict[str, Any]
) -> tuple[Array, Cache]:
    """Batch normalisation of the channels of `x` (N, C, H, W), over examples and places; `gamma`, `beta` (C,).

    `bn_param` is as in `batchnorm_forward`, with running statistics (C,).

    Examples
    --------
    >>> from normcore.cs231n.layers import spatial_batchnorm_forward
    >>> x = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> out, cache = spatial_batchnorm_forward(x, np.ones(2), np.zeros(2), {"mode": "train"})
    >>> out.mean(axis=(0, 2, 3))
    array([0., 0.])
    """
    operation = "spatial_batchnorm_forward"
    (x,) = floating(operation, x=x)
    _check_images(operation, x)
    out, cache = _batchnorm_forward(operation, _pixels(x), gamma, beta, bn_param)
    return _images(out, x.shape), _SpatialBatchNorm(x.shape, cache)


def spatial_batchnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients of `spatial_batchnorm_forward`: ``dx`` (N, C, H, W), ``dgamma`` and ``dbeta`` (C,).

    Examples
    --------
    >>> from normcore.cs231n.layers import spatial_batchnorm_backward, spatial_batchnorm_forward
    >>> x = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> out, cache = spatial_batchnorm_forward(x, np.ones(2), np.zeros(2), {"mode": "train"})
    >>> spatial_batchnorm_backward(np.ones_like(x), cache)[2]
    array([4., 4.])
    """
    operation = "spatial_batchnorm_backward"
    shape, inner = _own(operation, cache, _SpatialBatchNorm)
    (dout,) = floating(operation, dout=dout)
    check_shape(operation, "dout", dout, shape, "as the output")
    dx, dgamma, dbeta = _batchnorm_backward(operation, _pixels(dout), inner, "fused")
    return _images(dx, shape), dgamma, dbeta


def spatial_groupnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, G: int, gn_param: dict[str, Any]
) -> tuple[Array, Cache]:
    """Normalisation of each of `G` groups of channels of each example of `x` (N, C, H, W) (arXiv 1803.08494).

    Parameters
    ----------
    x : array (N, C, H, W)
    gamma, beta : array (C,) or (1, C, 1, 1)
        Scale and shift of each channel.
    G : int
        Number of groups; it divides C.
    gn_param : dict
        ``"eps"`` (1e-5) is added to the variance of each group.

    Examples
    --------
    >>> from normcore.cs231n.layers import spatial_groupnorm_forward
    >>> x = np.array([0.0, 2.0, 10.0, 30.0]).reshape(1, 4, 1, 1)
    >>> spatial_groupnorm_forward(x, np.ones((1, 4, 1, 1)), np.zeros((1, 4, 1, 1)), 2, {"eps": 0})[0].ravel()
    array([-1.,  1., -1.,  1.])
    """
    operation = "spatial_groupnorm_forward"
    eps = option(operation, "gn_param", gn_param, "eps", 1e-5)
    x, gamma, beta = floating(operation, x=x, gamma=gamma, beta=beta)
    _check_images(operation, x)
    n, channels = x.shape[:2]
    groups = check_integer(G, operation, "G", 1)
    if channels % groups:
        raise ValueError(f"{operation}: G is {groups}, but x is {x.shape}; G must divide the {channels} channels")
    for name, array in (("gamma", gamma), ("beta", beta)):
        if array.shape not in ((channels,), (1, channels, 1, 1)):
            raise ValueError(
                f"{operation}: {name} is {array.shape} but x is {x.shape}; "
                f"{name} must be ({channels},) or (1, {channels}, 1, 1)"
            )
    rows = x.reshape(n * groups, x[0].size // groups if n else 0)
    ones = np.ones(rows.shape[1], x.dtype)
    normalized, mean, rstd = nc.layer_norm_forward(rows, ones, np.zeros_like(ones), eps=eps)
    normalized = normalized.reshape(x.shape)
    out = gamma.reshape(-1, 1, 1) * normalized + beta.reshape(-1, 1, 1)
    return out, _GroupNorm(rows, ones, mean, rstd, normalized, gamma)


def spatial_groupnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients of `spatial_groupnorm_forward`: ``dx`` (N, C, H, W), ``dgamma`` and ``dbeta`` of gamma's shape.

    Examples
    --------
    >>> from normcore.cs231n.layers import spatial_groupnorm_backward, spatial_groupnorm_forward
    >>> x = np.array([0.0, 2.0, 10.0, 30.0]).reshape(1, 4, 1, 1)
    >>> out, cache = spatial_groupnorm_forward(x, np.ones((1, 4, 1, 1)), np.zeros((1, 4, 1, 1)), 2, {"eps": 0})
    >>> dx, dgamma, dbeta = spatial_groupnorm_backward(np.full_like(x, 3.0), cache)
    >>> dgamma.ravel(), dbeta.shape
    (array([-3.,  3., -3.,  3.]), (1, 4, 1, 1))
    """
    rows, ones, mean, rstd, normalized, gamma = _own("spatial_groupnorm_backward", cache, _GroupNorm)
    (dout,) = floating("spatial_groupnorm_backward", dout=dout)
    check_shape("spatial_groupnorm_backward", "dout", dout, normalized.shape, "as the output")
    inner = (dout * gamma.reshape(-1, 1, 1)).reshape(rows.shape)
    dx, _, _ = nc.layer_norm_backward(inner, rows, ones, mean, rstd)
    # Gradients of scale and shift are sums over the pixels: those of a batch norm that finds its input normalised.
    channels = normalized.shape[1]
    unit = np.ones(channels)
    _, dgamma, dbeta = nc.batch_norm_backward(
        _pixels(dout), _pixels(normalized), np.ones(channels, normalized.dtype), 0 * unit, unit
    )
    return dx.reshape(normalized.shape), dgamma.reshape(gamma.shape), dbeta.reshape(gamma.shape)


def _check_images(operation: str, x: Array) -> None:
    if x.ndim != 4:
        raise ValueError(f"{operation}: x is {x.shape}; it must be (N, C, H, W)")


def _pixels(x: Array) -> Array:
    """Images (N, C, H, W) as one row per pixel, (N H W, C)."""
    return x.transpose(0, 2, 3, 1).reshape(x.shape[0] * x.shape[2] * x.shape[3], x.shape[1])


def _images(rows: Array, shape: tuple[int, int, int, int]) -> Array:
    """The opposite of `_pixels`."""
    n, channels, height, width = shape
    return np.ascontiguousarray(rows.reshape(n, height, width, channels).transpose(0, 3, 1, 2))


# ---------------------------------------------------------------- dropout


def dropout_forward(x: ArrayLike, dropout_param: dict[str, Any]) -> tuple[Array, Cache]:
    """Inverted dropout, with masks from NumPy's global generator.

    Parameters
    ----------
    x : array of any shape
    dropout_param : dict
        ``"p"``: probability to keep a number, in (0, 1]; what is kept is divided by it. (Up to the edition of 2017 it
        is the probability to drop one: `normcore.cs231n.edition_2017`.) ``"mode"``: ``"train"``, or ``"test"``, which
        changes nothing. ``"seed"``, if it is there, goes to `numpy.random.seed` first, so that masks repeat.

    Examples
    --------
    >>> from normcore.cs231n.layers import dropout_forward
    >>> dropout_forward(np.ones((2, 3)), {"mode": "train", "p": 0.5, "seed": 0})[0]
    array([[0., 0., 0.],
           [0., 2., 0.]])
    """
    return masked("dropout_forward", x, dropout_param, drops=False)


def masked(operation: str, x: ArrayLike, dropout_param: dict[str, Any], *, drops: bool) -> tuple[Array, Cache]:
    """`dropout_forward`, with ``p`` the probability to keep a number, or the one to drop it."""
    mode = mode_of(operation, "dropout_param", dropout_param)
    p = check_number(
        dropout_param.get("p"), operation, "dropout_param['p']", 0.0, 1.0, open_low=not drops, open_high=drops
    )
    (x,) = floating(operation, x=x)
    if "seed" in dropout_param:  # in either mode, as the course has it
        np.random.seed(dropout_param["seed"])
    if mode == "test":
        return x, (dropout_param, None)
    uniform = np.random.rand(*x.shape)
    kept, keep = (uniform >= p, 1 - p) if drops else (uniform < p, p)
    mask = kept.astype(x.dtype) / x.dtype.type(keep)
    return x * mask, (dropout_param, mask)


def dropout_backward(dout: ArrayLike, cache: Cache) -> Array:
    """Gradient of `dropout_forward`: `dout` times the mask.

    Examples
    --------
    >>> from normcore.cs231n.layers import dropout_backward, dropout_forward
    >>> out, cache = dropout_forward(np.ones((2, 3)), {"mode": "train", "p": 0.5, "seed": 0})
    >>> dropout_backward(np.full((2, 3), 5.0), cache)
    array([[ 0.,  0.,  0.],
           [ 0., 10.,  0.]])
    """
    if not isinstance(cache, tuple) or len(cache) != 2:
        raise TypeError("dropout_backward: the cache is not one of dropout_forward, (dropout_param, mask)")
    mask = cache[1]
    (dout,) = floating("dropout_backward", dout=dout)
    if mask is None:
        return dout
    check_shape("dropout_backward", "dout", dout, mask.shape, "as the output")
    return np.asarray(dout * mask)


# ---------------------------------------------------------------- losses


def softmax_loss(x: ArrayLike, y: ArrayLike) -> tuple[float, Array]:
    """Softmax cross-entropy, the mean over the rows: the loss, and its gradient ``dx`` (N, C).

    Parameters
    ----------
    x : array (N, C)
        Scores.
    y : array of N integers in [0, C)
        Labels.

    Examples
    --------
    >>> from normcore.cs231n.layers import softmax_loss
    >>> loss, dx = softmax_loss(np.zeros((2, 4)), np.array([0, 3]))
    >>> round(loss, 6), dx[0]
    (1.386294, array([-0.375,  0.125,  0.125,  0.125]))
    """
    (x,) = floating("softmax_loss", x=x)
    labels = check_labels("softmax_loss", x, y)
    if x.shape[1] == 1:
        raise ValueError(
            f"softmax_loss: x is {x.shape}; the softmax of one score is 1 whatever it is, so there must be two"
        )
    loss, dx, _ = nc.softmax_cross_entropy(x, labels)
    return loss, dx


def svm_loss(x: ArrayLike, y: ArrayLike) -> tuple[float, Array]:
    """Multiclass hinge loss with a margin of 1, the mean over the rows: the loss, and its gradient ``dx`` (N, C).

    A row with label k costs the sum of ``max(0, x_j - x_k + 1)`` over the other classes j (Weston and Watkins).

    Examples
    --------
    >>> from normcore.cs231n.layers import svm_loss
    >>> svm_loss(np.array([[3.0, 2.5, 0.0]]), np.array([0]))
    (0.5, array([[-1.,  1.,  0.]]))
    """
    (x,) = floating("svm_loss", x=x)
    labels = check_labels("svm_loss", x, y)
    n = len(x)
    if n == 0:
        return 0.0, np.zeros_like(x)
    rows = np.arange(n)
    margins = np.maximum(0, x - x[rows, labels][:, None] + 1)
    margins[rows, labels] = 0
    dx = (margins > 0).astype(x.dtype)
    dx[rows, labels] = -dx.sum(axis=1)
    return float(margins.sum() / n), dx / n


# ---------------------------------------------------------------- not here

conv_forward_naive = missing("conv_forward_naive")
conv_backward_naive = missing("conv_backward_naive")
max_pool_forward_naive = missing("max_pool_forward_naive")
max_pool_backward_naive = missing("max_pool_backward_naive")
