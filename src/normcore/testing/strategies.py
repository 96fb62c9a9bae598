"""Hypothesis strategies: arrays of every layout, special values, and whole problems.

Arrays are filled from a drawn seed rather than element by element: an example is made in microseconds whatever its
size, and shrinks by its shape and kind. Small arrays are sometimes drawn element by element as well, so that hypothesis
can look for values of its own.

Every array strategy gives an `ndarray` of the asked dtype in one of the `LAYOUTS`; ``plain(x)`` is the same array as
native, contiguous memory, which every function should treat alike.

>>> from hypothesis import given
>>> from normcore.testing import strategies as nst
>>> @given(nst.arrays("float32", special=True))
... def test_negation_is_its_own_inverse(x):
...     np.testing.assert_array_equal(-(-x), x)
>>> test_negation_is_its_own_inverse()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .layouts import LAYOUTS, VECTOR_LAYOUTS, Array, apply_layout, plain
from .values import FILLS, fill, sprinkle_special

try:
    from hypothesis import strategies as st
except ImportError as _error:
    raise ImportError("normcore.testing.strategies needs hypothesis: pip install 'normcore[testing]'") from _error

__all__ = [
    "AWKWARD_SIZES",
    "LABEL_DTYPES",
    "LOSSES",
    "SHAPES",
    "AffineProblem",
    "CrossEntropyProblem",
    "LossProblem",
    "NormProblem",
    "affine_problems",
    "arrays",
    "awkward_sizes",
    "cross_entropy_problems",
    "dtypes",
    "labels",
    "layouts",
    "loss_problems",
    "matrices",
    "norm_parameters",
    "norm_problems",
    "shapes",
    "soft_targets",
    "vectors",
    "weights",
]

# ---------------------------------------------------------------- layouts, sizes and shapes


def _names(given: str | Sequence[str], known: Sequence[str], what: str) -> tuple[str, ...]:
    """Names of layouts or fills; one may stand without a list."""
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if name not in known:
            raise ValueError(f"no {what} {name!r}; there are {', '.join(known)}")
    if not names:
        raise ValueError(f"no {what} is given; there are {', '.join(known)}")
    return names


def layouts(names: str | Sequence[str] = LAYOUTS) -> st.SearchStrategy[str]:
    """Names of layouts, the contiguous one being the simplest.

    Examples
    --------
    >>> from hypothesis import find
    >>> from normcore.testing import strategies as nst
    >>> find(nst.layouts(), lambda simplest: True)
    'contiguous'
    """
    return st.sampled_from(sorted(_names(names, LAYOUTS, "layout"), key=lambda name: name != "contiguous"))


AWKWARD_SIZES = (1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 129)
"""Sizes around vector and tile edges, and primes."""

SHAPES = ((1, 1), (1, 7), (2, 1), (3, 5), (8, 16), (17, 33), (64, 31), (255, 3), (257, 5), (5, 1031), (600, 2))
"""Shapes of matrices that reach every vector tail and more than one chunk of 256 rows."""


def awkward_sizes(max_size: int = 129, *, min_size: int = 1) -> st.SearchStrategy[int]:
    """Sizes around vector and tile edges, mixed with any other size.

    Examples
    --------
    >>> from hypothesis import find
    >>> from normcore.testing import strategies as nst
    >>> find(nst.awkward_sizes(), lambda simplest: True)
    1
    """
    edges = [s for s in AWKWARD_SIZES if min_size <= s <= max_size]
    anything = st.integers(min_size, max_size)
    return st.sampled_from(edges) | anything if edges else anything


def shapes(
    *,
    min_rows: int = 1,
    max_rows: int | None = None,
    min_columns: int = 1,
    max_columns: int | None = None,
    large: bool | None = None,
) -> st.SearchStrategy[tuple[int, int]]:
    """Shapes (rows, columns): awkward sizes and any others, up to 40 by 80 where no maximum is given.

    With `large`, by default where no maximum is given, also those of `SHAPES`, which reach 600 rows and 1031 columns.

    Examples
    --------
    >>> from hypothesis import find
    >>> from normcore.testing import strategies as nst
    >>> find(nst.shapes(), lambda shape: shape[0] > 256)
    (257, 5)
    >>> find(nst.shapes(min_rows=2, max_rows=6, max_columns=4), lambda simplest: True)
    (2, 1)
    """
    if large is None:
        large = max_rows is None and max_columns is None
    some = st.tuples(
        awkward_sizes(40 if max_rows is None else max_rows, min_size=min_rows),
        awkward_sizes(80 if max_columns is None else max_columns, min_size=min_columns),
    )
    fixed = [s for s in SHAPES if s[0] >= min_rows and s[1] >= min_columns]
    return some | some | st.sampled_from(fixed) if large and fixed else some


def dtypes() -> st.SearchStrategy[np.dtype[Any]]:
    """float32 and float64.

    Examples
    --------
    >>> from hypothesis import find
    >>> from normcore.testing import strategies as nst
    >>> find(nst.dtypes(), lambda simplest: True)
    dtype('float32')
    """
    return st.sampled_from([np.dtype(np.float32), np.dtype(np.float64)])


# ---------------------------------------------------------------- arrays

_SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def _filled(
    draw: st.DrawFn,
    shape: tuple[int, ...],
    dtype: Any,
    fills: str | Sequence[str],
    special: bool,
    layout: str | Sequence[str],
) -> Array:
    """An array of `shape`, filled in one of the ways named, perhaps with special values, in one of the layouts."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64))
    if special and 0 < size <= 12 and draw(st.booleans()):
        element = st.floats(width=32 if kind.itemsize == 4 else 64)
        x = np.array(draw(st.lists(element, min_size=size, max_size=size)), dtype=kind).reshape(shape)
    else:
        seed = draw(_SEEDS)
        x = fill(draw(st.sampled_from(_names(fills, FILLS, "fill"))), shape, kind, seed=seed)
        if special and draw(st.booleans()):
            x = sprinkle_special(x, seed)
    return apply_layout(x, draw(layouts(layout))) if shape else x


def _drawn(draw: st.DrawFn, x: Any) -> Any:
    return draw(x) if isinstance(x, st.SearchStrategy) else x


def _dtype(draw: st.DrawFn, dtype: Any) -> np.dtype[Any]:
    kind: np.dtype[Any] = np.dtype(_drawn(draw, dtypes() if dtype is None else dtype))
    if kind not in (np.float32, np.float64):
        raise TypeError(f"dtype is {kind.name}; there are float32 and float64")
    return kind


_RANKS = st.integers(1, 3).flatmap(lambda rank: st.tuples(*[awkward_sizes({1: 129, 2: 40, 3: 9}[rank])] * rank))


@st.composite
def _arrays(
    draw: st.DrawFn,
    dtype: Any,
    shape: Any,
    fills: tuple[str, ...],
    special: bool,
    layout: tuple[str, ...],
) -> Array:
    size = _drawn(draw, shape)
    kind = _dtype(draw, dtype)
    return draw(_filled((size,) if isinstance(size, int) else tuple(size), kind, fills, special, layout))


def arrays(
    dtype: Any = None,
    shape: Any = None,
    *,
    layout: str | Sequence[str] = LAYOUTS,
    fills: str | Sequence[str] = ("normal", "integers"),
    special: bool = False,
) -> st.SearchStrategy[Array]:
    """Arrays of floats.

    Parameters
    ----------
    dtype : dtype or strategy, optional
        float32 or float64; either by default.
    shape : int, tuple or strategy, optional
        Of any rank; by default of one to three axes with at least one element.
    layout : str or sequence of str
        The layouts to choose from; all of `LAYOUTS` by default.
    fills : str or sequence of str
        How to fill it: names of `FILLS`.
    special : bool
        Whether a tenth of the values may be NaN, infinite, ±0, subnormal or huge.

    Raises
    ------
    ValueError
        A name of a layout or fill that is not known.

    Examples
    --------
    >>> from normcore.testing import strategies as nst
    >>> from hypothesis import given
    >>> @given(nst.arrays("float32", (3, 4), layout="fortran"))
    ... def test_sums_along_either_axis(x):
    ...     assert x.flags.f_contiguous
    ...     np.testing.assert_allclose(x.sum(axis=0).sum(), x.sum(axis=1).sum(), atol=1e-4)
    >>> test_sums_along_either_axis()
    """
    return _arrays(
        dtype,
        _RANKS if shape is None else shape,
        _names(fills, FILLS, "fill"),
        special,
        _names(layout, LAYOUTS, "layout"),
    )


def matrices(
    dtype: Any = None,
    shape: Any = None,
    *,
    layout: str | Sequence[str] = LAYOUTS,
    fills: str | Sequence[str] = ("normal", "integers"),
    special: bool = False,
) -> st.SearchStrategy[Array]:
    """Matrices of floats: :func:`arrays` whose shape is by default one of :func:`shapes`.

    Examples
    --------
    >>> from hypothesis import find
    >>> from normcore.testing import strategies as nst
    >>> find(nst.matrices("float64", (1, 3), fills="integers"), lambda simplest: True)
    array([[6., 2., 0.]])
    """
    return arrays(dtype, shapes() if shape is None else shape, layout=layout, fills=fills, special=special)


def vectors(
    dtype: Any = None,
    size: Any = None,
    *,
    layout: str | Sequence[str] = VECTOR_LAYOUTS,
    fills: str | Sequence[str] = ("normal", "integers"),
    special: bool = False,
) -> st.SearchStrategy[Array]:
    """Vectors of floats: :func:`arrays` whose size is by default one of :func:`awkward_sizes`.

    Examples
    --------
    >>> from hypothesis import find
    >>> from normcore.testing import strategies as nst
    >>> find(nst.vectors("float64", 3), lambda simplest: True)
    array([ 0.12573022, -0.13210486,  0.64042265])
    """
    return arrays(dtype, awkward_sizes() if size is None else size, layout=layout, fills=fills, special=special)


@st.composite
def norm_parameters(draw: st.DrawFn, dtype: Any, size: int) -> tuple[Array, Array]:
    """gamma and beta of a normalisation: 1 and 0 as at the start of training, or moderate numbers of either sign.

    Examples
    --------
    >>> from hypothesis import find
    >>> from normcore.testing import strategies as nst
    >>> find(nst.norm_parameters("float64", 2), lambda simplest: True)
    (array([1., 1.]), array([0., 0.]))
    """
    if draw(st.booleans()):
        return np.ones(size, dtype), np.zeros(size, dtype)
    random = np.random.default_rng(draw(_SEEDS))
    return random.normal(1, 1, size).astype(dtype), random.normal(size=size).astype(dtype)


LABEL_DTYPES = (
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    ">i4",
)
"""Integer dtypes of labels (bool is another)."""


@st.composite
def labels(draw: st.DrawFn, rows: int, classes: int, *, ignore_index: int | None = None) -> Array:
    """Integer labels of `rows` rows in any integer dtype (bool for up to two classes); some may be `ignore_index`.

    Examples
    --------
    >>> from hypothesis import find
    >>> from normcore.testing import strategies as nst
    >>> find(nst.labels(4, 3), lambda simplest: True)
    array([2, 1, 1, 0])
    """
    kinds = [k for k in LABEL_DTYPES if classes - 1 <= np.iinfo(k).max]
    if ignore_index is not None:
        kinds = [k for k in kinds if np.iinfo(k).min <= ignore_index <= np.iinfo(k).max]
    elif classes <= 2:
        kinds.append("bool")
    random = np.random.default_rng(draw(_SEEDS))
    values = random.integers(0, classes, rows)
    if ignore_index is not None:
        values = np.where(
            random.random(rows) < draw(st.sampled_from([0.0, 0.3, 1.0])),
            ignore_index,
            values,
        )
    kind = draw(st.sampled_from(kinds))
    chosen = draw(
        layouts(
            (
                "contiguous",
                "every_other_column",
                "reversed_columns",
                "misaligned",
                "read_only",
            )
        )
    )
    return apply_layout(values.astype(kind), chosen)


@st.composite
def soft_targets(draw: st.DrawFn, rows: int, classes: int, dtype: Any) -> Array:
    """Soft targets (rows, classes): rows of a probability distribution, one-hot rows, or any numbers from 0 to 1.

    Examples
    --------
    >>> from hypothesis import find
    >>> from normcore.testing import strategies as nst
    >>> find(nst.soft_targets(2, 3, "float64"), lambda simplest: True)
    array([[0., 0., 1.],
           [0., 1., 0.]])
    """
    random = np.random.default_rng(draw(_SEEDS))
    kind = draw(st.sampled_from(["one_hot", "distribution", "free"]))
    if kind == "one_hot":
        target = np.eye(classes)[random.integers(0, classes, rows)]
    else:
        target = random.random((rows, classes))
        if kind == "distribution":
            target = target / target.sum(axis=1, keepdims=True)
    return apply_layout(
        target.astype(dtype),
        draw(layouts([name for name in LAYOUTS if name != "broadcast"])),
    )


@st.composite
def weights(draw: st.DrawFn, size: int) -> Array:
    """Class or sample weights: `size` finite numbers of at least 0, some of them 0, as float64 or float32.

    Examples
    --------
    >>> from hypothesis import find
    >>> from normcore.testing import strategies as nst
    >>> find(nst.weights(3), lambda simplest: True)
    array([0.6799319 , 1.0195971 , 0.01980666])
    """
    random = np.random.default_rng(draw(_SEEDS))
    values = random.exponential(size=size) * (random.random(size) >= draw(st.sampled_from([0.0, 0.25])))
    return values.astype(draw(st.sampled_from([np.float64, np.float32])))


# ---------------------------------------------------------------- whole problems


@dataclass(frozen=True)
class AffineProblem:
    """Arguments of an affine map, and a gradient `dy` of its output."""

    x: Array
    w: Array
    b: Array | None
    dy: Array
    relu: bool


@st.composite
def affine_problems(
    draw: st.DrawFn,
    dtype: Any = None,
    *,
    layout: str | Sequence[str] = LAYOUTS,
    fills: str | Sequence[str] = ("normal", "integers"),
    special: bool = False,
) -> AffineProblem:
    """Affine maps with sums of up to 800 terms: beyond one block of 256, forward (k) and for the weights (n).

    Examples
    --------
    >>> from hypothesis import given
    >>> from normcore.testing import check_gradients, reference, strategies as nst
    >>> @given(nst.affine_problems("float64"))
    ... def test_product(p):
    ...     exact = reference.affine_forward(p.x, p.w)
    ...     np.testing.assert_allclose(p.x @ p.w, exact, rtol=1e-12, atol=1e-10)
    >>> test_product()
    """
    kind = _dtype(draw, dtype)
    small = awkward_sizes(40)
    blocks = st.sampled_from([(3, 700, 5), (600, 4, 3), (2, 257, 33), (257, 17, 2)])
    n, k, m = draw(st.tuples(small, small, small) | blocks)

    def matrix(rows: int, columns: int) -> Array:
        return draw(_filled((rows, columns), kind, fills, special, layout))

    bias = draw(vectors(kind, m, fills=fills, special=special)) if draw(st.booleans()) else None
    return AffineProblem(matrix(n, k), matrix(k, m), bias, matrix(n, m), draw(st.booleans()))


@dataclass(frozen=True)
class NormProblem:
    """Arguments of a batch or layer normalisation, and a gradient `dy` of its output."""

    x: Array
    gamma: Array
    beta: Array
    dy: Array
    eps: float


@st.composite
def norm_problems(
    draw: st.DrawFn,
    dtype: Any = None,
    *,
    shape: Any = None,
    layout: str | Sequence[str] = LAYOUTS,
    fills: str | Sequence[str] = ("normal", "offset", "integers"),
    special: bool = False,
    eps: Sequence[float] = (1e-5, 1e-3, 0.5),
) -> NormProblem:
    """Normalisations, by rows or by columns; `fills` and `special` speak of x and dy.

    Parameters
    ----------
    dtype, layout, fills, special
        As for :func:`arrays`, of x and dy.
    shape : tuple or strategy, optional
        Of x: rows and columns; one of :func:`shapes` by default.
    eps : sequence of float
        To choose from.

    Examples
    --------
    >>> from hypothesis import given
    >>> from normcore.testing import reference, strategies as nst
    >>> @given(nst.norm_problems("float64", shape=nst.shapes(min_rows=2, max_rows=9, max_columns=9), fills="normal"))
    ... def test_gradients_of_a_column_sum_to_nothing(p):
    ...     _, mean, rstd, _, _ = reference.batch_norm_forward(p.x, p.gamma, p.beta, eps=p.eps)
    ...     dx = reference.batch_norm_backward(p.dy, p.x, p.gamma, mean, rstd).dx
    ...     np.testing.assert_allclose(dx.sum(axis=0), 0, atol=1e-10)
    >>> test_gradients_of_a_column_sum_to_nothing()
    """
    kind = _dtype(draw, dtype)
    n, d = _drawn(draw, shapes() if shape is None else shape)
    gamma, beta = draw(norm_parameters(kind, d))
    x = draw(_filled((n, d), kind, fills, special, layout))
    dy = draw(_filled((n, d), kind, ("normal", "integers"), special, layout))
    return NormProblem(x, gamma, beta, dy, draw(st.sampled_from(list(eps))))


@dataclass(frozen=True)
class CrossEntropyProblem:
    """Arguments of a softmax cross-entropy; `options` are its keyword arguments."""

    logits: Array
    labels: Array
    options: dict[str, Any] = field(default_factory=dict)


@st.composite
def cross_entropy_problems(
    draw: st.DrawFn,
    dtype: Any = None,
    *,
    layout: str | Sequence[str] = LAYOUTS,
    spread: Sequence[float] = (1.0, 10.0, 60.0),
    special: bool = False,
) -> CrossEntropyProblem:
    """Cross-entropies with labels or soft targets and every combination of options; `spread` scales the logits.

    At least two classes: the softmax over one is refused.

    Examples
    --------
    >>> from hypothesis import given
    >>> from normcore.testing import reference, strategies as nst
    >>> @given(nst.cross_entropy_problems("float32"))
    ... def test_losses_are_not_negative(p):
    ...     assert (reference.softmax_cross_entropy(p.logits, p.labels, **p.options).loss >= 0).all()
    >>> test_losses_are_not_negative()
    """
    kind = _dtype(draw, dtype)
    n, c = draw(shapes(max_rows=20, min_columns=2, max_columns=40, large=True))
    logits = draw(_filled((n, c), kind, ("normal",), special, ("contiguous",)))
    with np.errstate(over="ignore"):
        logits = apply_layout(
            logits * kind.type(draw(st.sampled_from(list(spread)))),
            draw(layouts(layout)),
        )
    options: dict[str, Any] = {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))}
    if draw(st.booleans()):
        options["label_smoothing"] = draw(st.sampled_from([0.0, 0.1, 1.0]))
    if draw(st.booleans()):
        options["class_weight"] = draw(weights(c))
    if draw(st.booleans()):
        options["sample_weight"] = draw(weights(n))
    if draw(st.booleans()):
        return CrossEntropyProblem(logits, draw(soft_targets(n, c, kind)), options)
    ignore_index = draw(st.sampled_from([None, -100, c - 1]))
    if ignore_index is not None:
        options["ignore_index"] = ignore_index
    return CrossEntropyProblem(logits, draw(labels(n, c, ignore_index=ignore_index)), options)


LOSSES = ("logistic_loss", "squared_error", "huber_loss", "quantile_loss", "poisson_loss")
"""The losses of numbers."""


@dataclass(frozen=True)
class LossProblem:
    """Arguments of a loss of numbers; `options` are its keyword arguments."""

    outputs: Array
    targets: Array
    options: dict[str, Any] = field(default_factory=dict)


@st.composite
def loss_problems(
    draw: st.DrawFn,
    name: str,
    dtype: Any = None,
    *,
    layout: str | Sequence[str] = LAYOUTS,
    spread: Sequence[float] = (1.0, 10.0),
    special: bool = False,
) -> LossProblem:
    """Arguments of the loss called `name`, with every combination of options; `spread` scales the outputs.

    Some outputs are their targets. With `special`, both may hold NaN and infinities where the loss takes them. Another
    name than that of one of normcore's losses is a ValueError.

    Examples
    --------
    >>> from hypothesis import given
    >>> from normcore.testing import reference, strategies as nst
    >>> @given(nst.loss_problems("huber_loss", "float32"))
    ... def test_huber_is_at_most_half_the_square(p):
    ...     p.options.pop("delta")
    ...     huber = reference.huber_loss(p.outputs, p.targets, **p.options)
    ...     square = reference.squared_error(p.outputs, p.targets, **p.options)
    ...     assert (huber.loss <= square.loss / 2 + 1e-12).all()
    >>> test_huber_is_at_most_half_the_square()
    """
    if name not in LOSSES:
        raise ValueError(f"loss_problems: no loss {name!r}; there are {', '.join(LOSSES)}")
    kind = _dtype(draw, dtype)
    shape = draw(shapes(max_rows=20, max_columns=40, large=True))
    y = draw(_filled(shape, kind, ("normal", "integers"), special, ("contiguous",)))
    with np.errstate(over="ignore"):
        y = y * kind.type(draw(st.sampled_from(list(spread))))
    random = np.random.default_rng(draw(_SEEDS))
    options: dict[str, Any] = {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))}
    if name == "logistic_loss":
        t = plain(draw(soft_targets(*shape, kind)))
    elif name == "poisson_loss":
        t = random.poisson(draw(st.sampled_from([0.5, 3.0, 100.0])), shape).astype(kind)
    else:
        t = draw(_filled(shape, kind, ("normal", "integers"), special, ("contiguous",)))
        y = np.where(random.random(shape) < 0.1, t, y)
    if special and draw(st.booleans()):
        t = np.where(random.random(shape) < 0.1, kind.type(np.nan), t)
    if name == "huber_loss":
        options["delta"] = draw(st.sampled_from([1.0, 0.25, 1e-3, 30.0]))
    if name == "quantile_loss":
        options["tau"] = draw(st.sampled_from([0.5, 0.1, 0.9, 1e-4]))
    if draw(st.booleans()):
        options["sample_weight"] = draw(weights(shape[0]))
    return LossProblem(apply_layout(y, draw(layouts(layout))), apply_layout(t, draw(layouts(layout))), options)
