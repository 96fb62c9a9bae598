# Losses with their gradients: labels, soft targets and weights; cross-entropy; losses of numbers.
import math
from collections.abc import Mapping

from libc.stdint cimport INT64_MAX

cdef extern from *:
    by_dtype normcore_cross_entropy


cdef struct Goal:
    const int64_t *labels
    Rows targets  # data NULL without soft targets
    normcore_cross_entropy_options options

cdef normcore_cross_entropy_options CROSS_ENTROPY_DEFAULTS
normcore_cross_entropy_defaults(&CROSS_ENTROPY_DEFAULTS, sizeof(normcore_cross_entropy_options))


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


def first_bad_label(cnp.ndarray labels not None, size_t classes, ignore_index, /):
    """The first of labels, int64 (n,), that is no class and not `ignore_index`, if there is one; -1 if all are."""
    cdef const int64_t *values = <const int64_t *>cnp.PyArray_DATA(labels)
    cdef bint ignores = ignore_index is not None
    cdef int64_t ignored = ignore_index if ignores else 0
    cdef cnp.npy_intp i
    if not (cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(labels), cnp.NPY_INT64) and cnp.PyArray_ISCARRAY_RO(labels)):
        raise TypeError(f"first_bad_label: labels is an array of {labels.dtype}; it must be contiguous int64")
    for i in range(cnp.PyArray_SIZE(labels)):
        if not 0 <= values[i] < <int64_t>classes and not (ignores and values[i] == ignored):
            return i
    return -1


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


cdef normcore_reduction _reduction(str op, object reduction) except? NORMCORE_REDUCTION_NONE:
    if reduction == "mean":
        return NORMCORE_REDUCTION_MEAN
    if reduction == "sum":
        return NORMCORE_REDUCTION_SUM
    if reduction == "none":
        return NORMCORE_REDUCTION_NONE
    raise ValueError(f"{op}: reduction is {reduction!r}; it must be 'mean', 'sum' or 'none'")


cdef tuple _goal(str op, object labels, str x_name, object x, int t, size_t c, object class_weight,
                 object sample_weight, object label_smoothing, object ignore_index, object reduction, Goal *goal):
    """Fills the options of `goal` but for pointers. Returns what will hold its memory: labels (as _labels gave them, or
    soft targets that C can use as they lie), class weights and sample weights, or None."""
    cdef Rows rows
    memset(goal, 0, sizeof(Goal))
    goal.options = CROSS_ENTROPY_DEFAULTS
    if c == 1:
        raise ValueError(f"{op}: there is one output, and the softmax over one is 1 whatever its logit; use two, one for "
                         f"each class")
    goal.options.label_smoothing = _fraction(op, "label_smoothing", label_smoothing)
    if ignore_index is not None:
        if _are_targets(labels):
            raise ValueError(f"{op}: ignore_index is {ignore_index!r}, but labels are soft targets")
        goal.options.has_ignore_index = 1
        goal.options.ignore_index = _integer(op, "ignore_index", ignore_index, -INT64_MAX - 1, INT64_MAX)
    goal.options.reduction = _reduction(op, reduction)
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

    Examples
    --------
    >>> logits = np.log([[1.0, 2.0, 1.0], [1.0, 1.0, 6.0]])
    >>> loss, dlogits, weight_sum = nc.softmax_cross_entropy(logits, [1, 2])
    >>> round(loss, 6), weight_sum  # -(log(1/2) + log(3/4)) / 2
    (0.490415, 2.0)
    >>> dlogits
    array([[ 0.125 , -0.25  ,  0.125 ],
           [ 0.0625,  0.0625, -0.125 ]])
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


# ------------------------------------------------------------------------------------------------ losses of numbers

ctypedef normcore_status (*loss_f32)(normcore_context *, size_t, size_t, const float *, size_t, const float *, size_t,
                                     const normcore_loss_options *, double *, float *, size_t, double *,
                                     size_t *) noexcept nogil
ctypedef normcore_status (*loss_f64)(normcore_context *, size_t, size_t, const double *, size_t, const double *, size_t,
                                     const normcore_loss_options *, double *, double *, size_t, double *,
                                     size_t *) noexcept nogil


cdef object _loss_targets(str op, object targets, object outputs):
    """Targets as an array of floats of the shape of the outputs."""
    cdef bint listed = not cnp.PyArray_Check(targets)
    if isinstance(targets, np.ma.MaskedArray):
        raise TypeError(f"{op}: targets is a masked array, whose mask would be lost; use a sample_weight of 0")
    targets = np.asarray(targets)
    if targets.dtype.type not in (np.float32, np.float64) or listed:
        if targets.dtype.kind not in "biu" and targets.dtype.type not in (np.float32, np.float64):
            raise TypeError(f"{op}: targets is an array of {targets.dtype}; it must be of float32, float64, integers or "
                            f"bool")
        targets = targets.astype(outputs.dtype.newbyteorder("="))
    if targets.shape == outputs.shape:
        return targets
    if outputs.shape[-1:] == (1,) and targets.shape == _leading(outputs):
        return targets[..., np.newaxis]
    wanted = f"{_leading(outputs)} or {outputs.shape}" if outputs.shape[-1:] == (1,) else f"{outputs.shape}"
    raise ValueError(f"{op}: targets is {targets.shape} but outputs is {outputs.shape}; targets must be {wanted}")


cdef int _bad_loss(str op, normcore_status status, int t, size_t d, object targets, object sample_weight, str accepted,
                   size_t bad) except -1:
    """Raises for a failed call; names the target or the weight."""
    cdef Goal none
    if status == NORMCORE_ERROR_LABEL:
        row = targets.reshape(-1, d)[bad:bad + 1]
        value = row[(row < 0) | (row > (1 if accepted == "in [0, 1]" else np.inf))][:1].tolist()
        raise ValueError(f"{op}: targets has {value[0] if value else 'no target'} in row {bad}; targets must be {accepted}")
    memset(&none, 0, sizeof(Goal))
    return _bad_goal(op, status, t, 0, (None, None, sample_weight), &none, bad)


cdef tuple _loss(str op, loss_f32 f32, loss_f64 f64, object outputs, object targets, object sample_weight,
                 object reduction, str accepted, object delta, object tau):
    """A loss by its functions of C, with its arguments as they were given; `accepted` says what targets may be."""
    cdef Rows yr, tr, dyr
    cdef normcore_loss_options options
    cdef normcore_status status
    cdef PyThreadState *state
    cdef double loss = 0.0, weight_sum = 0.0
    cdef double *losses = &loss
    cdef size_t bad = 0
    cdef int t = _type(op, "outputs", outputs, 2)
    targets = _loss_targets(op, targets, outputs)
    t = max(t, cnp.PyArray_TYPE(<cnp.ndarray>targets))
    normcore_loss_defaults(&options, sizeof(normcore_loss_options))
    options.delta = _delta(op, delta, t)
    options.tau = _tau(op, tau, t)
    options.reduction = _reduction(op, reduction)
    if sample_weight is not None:
        sample_weight = _weights(op, "sample_weight", sample_weight, "outputs", outputs, True, 0)
    y_held = _rows(outputs, t, &yr)
    t_held = _rows(targets, t, &tr)
    if yr.d == 0 and yr.n > 0:
        raise ValueError(f"{op}: outputs is {outputs.shape}; there must be at least one output")
    doutputs = _new(t, <cnp.ndarray>outputs, yr.d, &dyr)
    result = None
    if options.reduction == NORMCORE_REDUCTION_NONE:
        result = _new_by_row(op, "outputs", outputs, yr.n, &losses)
    _take(op, "outputs", y_held, t, yr.n, yr.d, &yr)
    _take(op, "targets", t_held, t, yr.n, yr.d, &tr)
    _take(op, "doutputs", doutputs, t, yr.n, yr.d, &dyr)
    if sample_weight is not None:
        options.sample_weight = _take_doubles(op, "sample_weight", sample_weight, yr.n)
    state = _release_gil(<double>yr.n * yr.d)
    if t == cnp.NPY_FLOAT:
        status = f32(context, yr.n, yr.d, <const float *>yr.data, yr.stride, <const float *>tr.data, tr.stride, &options,
                     losses, <float *>dyr.data, dyr.stride, &weight_sum, &bad)
    else:
        status = f64(context, yr.n, yr.d, <const double *>yr.data, yr.stride, <const double *>tr.data, tr.stride,
                     &options, losses, <double *>dyr.data, dyr.stride, &weight_sum, &bad)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _bad_loss(op, status, t, yr.d, t_held, sample_weight, accepted, bad)
    return (loss if result is None else result), doutputs, weight_sum


cdef double _delta(str op, object value, int t) except? -1.0:
    cdef double real = _real(op, "delta", value)
    if not (isfinite(real) and real > 0.0):
        raise ValueError(f"{op}: delta is {value!r}; it must be finite and greater than 0")
    _check_use(op, "delta", value, real, t)
    return real


cdef double _tau(str op, object value, int t) except? -1.0:
    cdef double real = _real(op, "tau", value)
    if not 0.0 < real < 1.0:
        raise ValueError(f"{op}: tau is {value!r}; it must be in (0, 1)")
    if t == cnp.NPY_FLOAT and not FLOAT32_UNDERFLOW < real < FLOAT32_ONE:
        raise ValueError(f"{op}: tau is {value!r}, which is {0 if real < 0.5 else 1} in float32; it must be in (0, 1)")
    return real


def squared_error(outputs, targets, *, sample_weight=None, reduction="mean"):
    """Squared error ``(y - t)**2``, for numbers and their mean, with its gradient.

    Parameters
    ----------
    outputs : ndarray (..., m), at least 2-D, float32 or float64
        y, of a network.
    targets : array_like (..., m), or (...) where there is one output
        t. Lists, integers and bools are converted to the dtype of the outputs.
    sample_weight : array_like (...), optional
        A weight for each row, finite and not negative. The greatest is finite in the dtype, and times the number of
        rows at most 2**960. For "mean" they sum to 0 or to at least 2**-960.
    reduction : {"mean", "sum", "none"}
        ``sum(w * l) / sum(w)`` (0 if all weights are 0), ``sum(w * l)``, or ``w * l`` of each row. l is the mean over
        the row's outputs, w the row's weight.

    Returns
    -------
    loss : float, or float64 ndarray (...) for "none"
    doutputs : ndarray (..., m)
        Gradient of the loss, or of the sum of the losses for "none". float64 if any argument is a float64 array.
    weight_sum : float
        ``sum(w)``: means of several shards combine exactly through it.

    Raises
    ------
    TypeError
        `outputs` is no NumPy array of float32 or float64, `targets` is not of numbers.
    ValueError
        Shapes that do not fit, a bad weight.

    Notes
    -----
    NaN in a row of outputs or targets makes the row's loss NaN, even if it weighs 0; a weight of 0 else gives a loss and
    a gradient of 0.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> loss, doutputs, weight_sum = nc.squared_error(np.array([[1.0], [4.0]]), [2.0, 2.0])
    >>> loss, weight_sum
    (2.5, 2.0)
    >>> doutputs
    array([[-1.],
           [ 2.]])
    """
    return _loss("squared_error", normcore_squared_error_f32, normcore_squared_error_f64, outputs, targets,
                 sample_weight, reduction, "", 1.0, 0.5)


def huber_loss(outputs, targets, *, delta=1.0, sample_weight=None, reduction="mean"):
    """Huber loss, for numbers with outliers: ``r**2 / 2`` within delta, else ``delta * (abs(r) - delta / 2)``; r = y - t.

    Parameters
    ----------
    delta : float
        Finite and greater than 0, in the dtype as well.

    Other parameters, results and errors are those of `squared_error`.

    Notes
    -----
    P. J. Huber, Robust estimation of a location parameter, 1964. The gradient is r, cut off at -delta and delta.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> loss, doutputs, _ = nc.huber_loss(np.array([[0.5], [9.0]]), [0.0, 0.0], reduction="none")
    >>> loss
    array([0.125, 8.5  ])
    >>> doutputs.ravel()
    array([0.5, 1. ])
    """
    return _loss("huber_loss", normcore_huber_loss_f32, normcore_huber_loss_f64, outputs, targets, sample_weight,
                 reduction, "", delta, 0.5)


def quantile_loss(outputs, targets, *, tau=0.5, sample_weight=None, reduction="mean"):
    """Quantile (pinball) loss ``max(tau * (t - y), (tau - 1) * (t - y))``, least for the tau-quantile of the targets.

    Parameters
    ----------
    tau : float in (0, 1)
        In the dtype as well. 1/2 is for the median: half of the absolute error.

    Other parameters, results and errors are those of `squared_error`.

    Notes
    -----
    R. Koenker and G. Bassett, Regression quantiles, 1978. The gradient is ``1 - tau`` where y > t, ``-tau`` where y < t
    and 0 where they are equal.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> loss, doutputs, _ = nc.quantile_loss(np.array([[0.0], [0.0]]), [1.0, -1.0], tau=0.75, reduction="none")
    >>> loss
    array([0.75, 0.25])
    >>> doutputs.ravel()
    array([-0.75,  0.25])
    """
    return _loss("quantile_loss", normcore_quantile_loss_f32, normcore_quantile_loss_f64, outputs, targets,
                 sample_weight, reduction, "", 1.0, tau)


def poisson_loss(outputs, targets, *, sample_weight=None, reduction="mean"):
    """Poisson loss ``exp(y) - t * y``, for counts, of whose mean the outputs are the logarithm.

    Parameters, results and errors are those of `squared_error`; a negative target is a ValueError that names its row.

    Notes
    -----
    The negative log-likelihood but for ``log(t!)``, which does not depend on y; PyTorch's with ``log_input=True``. The
    gradient is ``exp(y) - t``. exp is that of the dtype: infinite from 88.8 on in float32.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> loss, doutputs, _ = nc.poisson_loss(np.array([[0.0], [0.0]]), [1, 3], reduction="none")
    >>> loss
    array([1., 1.])
    >>> doutputs.ravel()
    array([ 0., -2.])
    """
    return _loss("poisson_loss", normcore_poisson_loss_f32, normcore_poisson_loss_f64, outputs, targets, sample_weight,
                 reduction, "at least 0", 1.0, 0.5)


def logistic_loss(outputs, targets, *, sample_weight=None, reduction="mean"):
    """Logistic loss ``log(1 + exp(y)) - t * y``, for independent answers of 0 or 1: several labels a row, or one.

    Parameters, results and errors are those of `squared_error`; targets are 0, 1 or a probability between, and others a
    ValueError that names the row.

    Notes
    -----
    Also called binary cross-entropy with logits. The gradient is ``1 / (1 + exp(-y)) - t``, without cancellation where t
    is 0 or 1. A target of 1 costs nothing where y is inf, and one of 0 where y is -inf.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> loss, doutputs, _ = nc.logistic_loss(np.array([[0.0, 40.0]]), [[1, 1]])
    >>> print(f"{loss:.4f}")  # log(2) / 2
    0.3466
    >>> print(doutputs[0, 0])
    -0.25
    """
    return _loss("logistic_loss", normcore_logistic_loss_f32, normcore_logistic_loss_f64, outputs, targets,
                 sample_weight, reduction, "in [0, 1]", 1.0, 0.5)
