# Losses with their gradients: labels, soft targets and weights; cross-entropy.
import math
from collections.abc import Mapping

from libc.stdint cimport INT64_MAX

cdef extern from *:
    by_dtype normcore_cross_entropy


cdef struct Goal:
    const int64_t *labels
    Rows targets  # data NULL without soft targets
    normcore_cross_entropy_options options


cdef object _labels(str op, object labels, str name, object x, size_t c):
    """Labels as C-contiguous int64 of x's leading axes, or soft targets as an array of floats (leading axes, c)."""
    cdef bint listed = not cnp.PyArray_Check(labels)
    if not (cnp.PyArray_CheckExact(labels) and cnp.PyArray_TYPE(<cnp.ndarray>labels) == cnp.NPY_INT64
            and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>labels)):
        if isinstance(labels, np.ma.MaskedArray):
            raise TypeError(f"{op}: labels is a masked array, whose mask would be lost; use ignore_index")
        labels = np.asarray(labels)
        kind = labels.dtype.kind
        if kind == "f" and not (listed and labels.size == 0):
            if labels.dtype.type not in (np.float32, np.float64) or labels.shape == _leading(x):
                raise TypeError(f"{op}: labels is an array of {labels.dtype} with shape {labels.shape}; class indices "
                                f"must be integers, soft targets float32 or float64 of shape {_leading(x) + (c,)}")
            if labels.shape != _leading(x) + (c,):
                raise ValueError(f"{op}: labels is {labels.shape} but {name} is {x.shape}; soft targets must be "
                                 f"{_leading(x) + (c,)}")
            return labels
        if kind not in "biuf":
            raise TypeError(f"{op}: labels is an array of {labels.dtype}; it must be of integers or bool (class "
                            f"indices), or of float32 or float64 (soft targets)")
        if labels.dtype.type is np.uint64:
            beyond = np.flatnonzero(labels > np.uint64(INT64_MAX))  # negative as int64: perhaps even ignore_index
            if beyond.size:
                raise ValueError(f"{op}: labels has {labels.reshape(-1)[beyond[0]]} in row {beyond[0]}; labels must be "
                                 f"in [0, {c})")
        labels = np.array(labels, dtype=INT64, order="C", subok=False)
    if not _has_rows_of(<cnp.ndarray>labels, <cnp.ndarray>x):
        raise ValueError(f"{op}: labels is {labels.shape} but {name} is {x.shape}; labels must be {_leading(x)}, or "
                         f"floats of shape {_leading(x) + (c,)} (soft targets)")
    return labels


cdef inline bint _are_targets(object labels) noexcept:
    """Whether _labels found soft targets. (Its integers may be of either of two 64-bit type numbers.)"""
    return cnp.PyArray_TYPE(<cnp.ndarray>labels) in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE)


cdef object _weights(str op, str name, object weights, str x_name, object x, bint by_row, size_t c):
    """Weights, one a row of x or one a class, as C-contiguous doubles."""
    cdef cnp.npy_intp classes = <cnp.npy_intp>c
    if not (cnp.PyArray_CheckExact(weights) and cnp.PyArray_TYPE(<cnp.ndarray>weights) == cnp.NPY_DOUBLE
            and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>weights)):
        if isinstance(weights, np.ma.MaskedArray):
            raise TypeError(f"{op}: {name} is a masked array, whose mask would be lost")
        weights = np.asarray(weights)
        if weights.dtype.kind not in "biuf":
            raise TypeError(f"{op}: {name} is an array of {weights.dtype}; it must be of real numbers")
        weights = np.array(weights, dtype=FLOAT64, order="C", subok=False)
    if not (_has_rows_of(<cnp.ndarray>weights, <cnp.ndarray>x) if by_row
            else _dims_are(<cnp.ndarray>weights, 1, &classes)):
        raise ValueError(f"{op}: {name} is {weights.shape} but {x_name} is {x.shape}; {name} must be "
                         f"{_leading(x) if by_row else (c,)}")
    return weights


def class_weights(str operation, weights, size_t classes):
    """Class weights from a mapping {class: weight}, as an array; classes that it does not name weigh 1.

    For `operation`, which the errors name: TypeError for a key that is no class index, ValueError for one out of range.
    """
    array = np.ones(classes)
    for label, weight in weights.items():
        try:
            position = _as_index(label)
        except TypeError:
            raise TypeError(f"{operation}: class_weight has the key {label!r}; keys must be class indices") from None
        if not 0 <= position < classes:
            raise ValueError(f"{operation}: class_weight has the class {position}; classes are in [0, {classes})")
        array[position] = _not_negative(operation, f"class_weight[{position}]", weight)
    return array


cdef tuple _goal(str op, object labels, str x_name, object x, int t, size_t c, object class_weight,
                 object sample_weight, object label_smoothing, object ignore_index, object reduction, Goal *goal):
    """Fills the options of `goal` but for pointers. Returns what will hold its memory: labels (as _labels gave them, or
    soft targets that C can use as they lie), class weights and sample weights, or None."""
    cdef Rows rows
    memset(goal, 0, sizeof(Goal))
    normcore_cross_entropy_defaults(&goal.options, sizeof(normcore_cross_entropy_options))
    if c == 1:
        raise ValueError(f"{op}: there is one output, and the softmax over one is 1 whatever its logit; use two, one for "
                         f"each class")
    goal.options.label_smoothing = _fraction(op, "label_smoothing", label_smoothing)
    if ignore_index is not None:
        if _are_targets(labels):
            raise ValueError(f"{op}: ignore_index is {ignore_index!r}, but labels are soft targets")
        goal.options.has_ignore_index = 1
        goal.options.ignore_index = _integer(op, "ignore_index", ignore_index, -INT64_MAX - 1, INT64_MAX)
    if reduction == "mean":
        goal.options.reduction = NORMCORE_REDUCTION_MEAN
    elif reduction == "sum":
        goal.options.reduction = NORMCORE_REDUCTION_SUM
    elif reduction == "none":
        goal.options.reduction = NORMCORE_REDUCTION_NONE
    else:
        raise ValueError(f"{op}: reduction is {reduction!r}; it must be 'mean', 'sum' or 'none'")
    if _are_targets(labels):
        labels = _rows(labels, t, &rows)
    if class_weight is not None:
        if isinstance(class_weight, Mapping):
            class_weight = class_weights(op, class_weight, c)
        class_weight = _weights(op, "class_weight", class_weight, x_name, x, False, c)
    if sample_weight is not None:
        sample_weight = _weights(op, "sample_weight", sample_weight, x_name, x, True, c)
    return labels, class_weight, sample_weight


cdef int _take_goal(str op, tuple held, int t, size_t n, size_t c, Goal *goal) except -1:
    """As _take, for what _goal returned: n labels or rows of targets, c and n weights."""
    labels, class_weight, sample_weight = held
    if _are_targets(labels):
        _take(op, "labels", labels, t, n, c, &goal.targets)
    else:
        if not (cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(<cnp.ndarray>labels), cnp.NPY_INT64)
                and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>labels) and <size_t>cnp.PyArray_SIZE(<cnp.ndarray>labels) == n):
            _changed(op, "labels")
        goal.labels = <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>labels)
    if class_weight is not None:
        goal.options.class_weight = _take_doubles(op, "class_weight", class_weight, c)
    if sample_weight is not None:
        goal.options.sample_weight = _take_doubles(op, "sample_weight", sample_weight, n)
    return 0


cdef int _bad_goal(str op, normcore_status status, int t, size_t c, tuple held, const Goal *goal,
                   size_t bad) except -1:
    """Raises for a failed call on `goal`; names the label or the weight."""
    if status == NORMCORE_ERROR_LABEL:
        ignored = f" (or ignore_index, {goal.options.ignore_index})" if goal.options.has_ignore_index else ""
        value = held[0].reshape(-1)[bad:bad + 1].tolist()  # empty if somebody has taken the labels away meanwhile
        raise ValueError(f"{op}: labels has {value[0] if value else 'no class'} in row {bad}; labels must be in "
                         f"[0, {c}){ignored}")
    if status == NORMCORE_ERROR_WEIGHT:
        greatest = {}
        for name, weights in zip(("class_weight", "sample_weight"), held[1:], strict=True):
            if weights is not None and weights.size:
                wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0.0)))
                if wrong.size:
                    raise ValueError(f"{op}: {name}[{wrong[0]}] is {weights.reshape(-1)[wrong[0]]}; weights must be "
                                     f"finite and not negative")
                greatest[name] = float(weights.max())
        if not _is_infinite(math.prod(greatest.values()), t) and math.prod(greatest.values()) < 2.0 ** 890:
            raise ValueError(f"{op}: the weights of the rows, of which the first that counts is row {bad}, sum to less than "
                             f"2**-960, too little for a mean; scale {' and '.join(greatest)} up")
        raise ValueError(f"{op}: the greatest {' times the greatest '.join(greatest)} is "
                         f"{' * '.join(map(repr, greatest.values()))}; it must be finite in {_name(t)}, and times the "
                         f"number of rows at most 2**960")
    return _fail(op, status)


def softmax_cross_entropy(logits, labels, *, class_weight=None, sample_weight=None, label_smoothing=0.0,
                          ignore_index=None, reduction="mean"):
    """Cross-entropy of softmax(logits) against labels or soft targets, with its gradient.

    Parameters
    ----------
    logits : ndarray (..., c), at least 2-D, float32 or float64
    labels : array_like (...) of any integer type or bool, or ndarray (..., c) of float32 or float64
        Class indices in [0, c), or soft targets, which need not sum to 1 and may be negative.
    class_weight : array_like (c,) or mapping of class to weight, optional
        Of each class's share in the loss; finite and not negative. A mapping may leave classes out: they weigh 1.
    sample_weight : array_like (...), optional
        A weight for each row, finite and not negative. The greatest times the greatest class weight is finite in the
        dtype, and times the number of rows at most 2**960. For "mean" they sum to 0 or to at least 2**-960.
    label_smoothing : float in [0, 1]
        e: the target is ``(1 - e) * target + e / c``.
    ignore_index : int, optional
        Rows with this label weigh 0 and get a zero gradient.
    reduction : {"mean", "sum", "none"}
        ``sum(l) / sum(w)`` (0 if all weights are 0), ``sum(l)``, or ``l`` of each row, where ``l`` is
        ``-sample_weight * sum(class_weight * target * log(softmax(logits)))``; a label is a target of 1 for its class.
        ``w`` is the row's sample weight, with labels times the class weight of its label, as in PyTorch.

    Returns
    -------
    loss : float, or float64 ndarray (...) for "none"
    dlogits : ndarray (..., c)
        Gradient of the loss, or of the sum of the losses for "none".
    weight_sum : float
        ``sum(w)``: means of several shards combine exactly through it.

    Raises
    ------
    TypeError
        `logits` is no NumPy array of float32 or float64, `labels` is neither of integers nor soft targets.
    ValueError
        Shapes that do not fit; a label out of range or a bad weight, named with its row and value; one class alone,
        whose softmax is 1 whatever its logit.

    Notes
    -----
    The loss is linear in soft targets, and class weights of 1 change nothing. The logarithm of softmax is through log1p
    of the sum without its greatest term: accurate down to the smallest losses, no clipping. Rows with NaN or +inf, or
    with nothing but -inf, have a NaN loss.
    """
    cdef str op = "softmax_cross_entropy"
    cdef Rows zr, dzr
    cdef Goal goal
    cdef normcore_status status
    cdef PyThreadState *state
    cdef double loss = 0.0, weight_sum = 0.0
    cdef double *losses = &loss
    cdef size_t bad = 0
    cdef int t = _type(op, "logits", logits, 2)
    cdef size_t c = cnp.PyArray_DIMS(<cnp.ndarray>logits)[cnp.PyArray_NDIM(<cnp.ndarray>logits) - 1]
    labels_held = _labels(op, labels, "logits", logits, c)
    if _are_targets(labels_held):
        t = max(t, cnp.PyArray_TYPE(<cnp.ndarray>labels_held))
    held = _goal(op, labels_held, "logits", logits, t, c, class_weight, sample_weight, label_smoothing, ignore_index,
                 reduction, &goal)
    logits_held = _rows(logits, t, &zr)
    if c == 0 and zr.n > 0:
        raise ValueError(f"{op}: logits is {logits.shape}; there must be at least one class")
    dlogits = _new(t, <cnp.ndarray>logits, c, &dzr)
    result = None
    if goal.options.reduction == NORMCORE_REDUCTION_NONE:
        result = _new_by_row(op, "logits", logits, zr.n, &losses)
    _take_goal(op, held, t, zr.n, c, &goal)
    _take(op, "logits", logits_held, t, zr.n, c, &zr)
    _take(op, "dlogits", dlogits, t, zr.n, c, &dzr)
    state = _release_gil(<double>zr.n * zr.d)
    status = BY_DTYPE(normcore_cross_entropy, t, context, zr.n, c, zr.data, zr.stride, goal.labels,
                      goal.targets.data, goal.targets.stride, &goal.options, losses, dzr.data, dzr.stride, &weight_sum,
                      &bad)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _bad_goal(op, status, t, c, held, &goal, bad)
    return (loss if result is None else result), dlogits, weight_sum
