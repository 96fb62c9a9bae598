# Batch and layer normalisation and their gradients.

cdef extern from *:
    by_dtype normcore_batch_norm_forward, normcore_batch_norm_backward, normcore_layer_norm_forward
    by_dtype normcore_layer_norm_backward

cdef normcore_batch_norm_options BATCH_NORM_DEFAULTS
normcore_batch_norm_defaults(&BATCH_NORM_DEFAULTS, sizeof(normcore_batch_norm_options))


cdef object _running(str op, str name, object a, int t, object x, size_t d, bint written, Rows *rows):
    """A running statistic. Returns what holds the memory of `rows`: `a`, or a packed copy of it."""
    cdef cnp.npy_intp dim = <cnp.npy_intp>d
    dtype = FLOAT32 if t == cnp.NPY_FLOAT else FLOAT64
    if not cnp.PyArray_CheckExact(a) and not _is_array(a):
        raise TypeError(f"{op}: {name} is a {type(a).__name__}; it must be a NumPy array of {dtype}")
    if cnp.PyArray_TYPE(<cnp.ndarray>a) != t:
        raise TypeError(f"{op}: {name} is an array of {a.dtype}; the operation is in {dtype}, and so must be {name}")
    if not _dims_are(<cnp.ndarray>a, 1, &dim):
        raise ValueError(f"{op}: {name} is {a.shape} but x is {x.shape}; {name} must be ({d},)")
    if written and not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>a):
        raise ValueError(f"{op}: {name} is read-only, but training updates it in place")
    if written and _overlaps_itself(a):
        raise ValueError(f"{op}: {name} has elements that share memory (shape {a.shape}, strides {a.strides})")
    return _rows(a, t, rows)


cdef int _check_variance(str op, str name, object variances) except -1:
    """ValueError, which names it, if a running variance is negative."""
    negative = np.flatnonzero(np.less(variances, 0.0))
    if negative.size:
        raise ValueError(f"{op}: {name}[{negative[0]}] is {variances[negative[0]]}; a variance must not be negative")
    return 0


def batch_norm_forward(x, gamma, beta, running_mean=None, running_var=None, *, bint training=True, momentum=0.9,
                       eps=1e-5, bint unbiased_running_var=False, out=None):
    """Batch normalisation: ``gamma * (x - mean) / sqrt(var + eps) + beta``, column by column (arXiv 1502.03167).

    Parameters
    ----------
    x : ndarray (..., d), at least 2-D, float32 or float64
        All axes but the last are the batch.
    gamma, beta : ndarray (d,)
    running_mean, running_var : ndarray (d,), optional, both or neither
        Updated in place in training, of the dtype of the operation. Needed in evaluation, which leaves them alone. The
        variance is not negative.
    training : bool
        Normalise with the mean and the biased variance of the batch; otherwise with the running statistics.
    momentum : float in [0, 1]
        ``running = momentum * running + (1 - momentum) * batch``. PyTorch's momentum is 1 minus this one.
    eps : float
        Added to the variance inside the root: finite, and 0 or at least the least normal number of the dtype.
    unbiased_running_var : bool
        Move the running variance to the unbiased variance of the batch, as PyTorch does.
    out : ndarray (..., d), optional
        Where to write. Of the result's shape and dtype; `x` itself or no overlap with any argument.

    Returns
    -------
    y : ndarray (..., d)
    mean, rstd : float64 ndarray (d,)
        The mean and ``1 / sqrt(var + eps)`` used, for `batch_norm_backward`.

    Raises
    ------
    TypeError
        An argument is no NumPy array of float32 or float64, or a running statistic is not of the operation's dtype.
    ValueError
        Shapes that do not fit, a parameter out of range, a bad `out` or running statistic. Nothing has been written.

    Examples
    --------
    >>> x, running_mean, running_var = np.array([[0.0, 10.0], [2.0, 30.0]]), np.zeros(2), np.ones(2)
    >>> y, mean, rstd = nc.batch_norm_forward(x, np.ones(2), np.zeros(2), running_mean, running_var, eps=0)
    >>> y
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> mean, 1 / rstd
    (array([ 1., 20.]), array([ 1., 10.]))
    >>> running_mean, running_var
    (array([0.1, 2. ]), array([ 1. , 10.9]))
    """
    cdef str op = "batch_norm_forward"
    cdef Rows xr, gr, br, yr, rmr, rvr, mr, sr
    cdef normcore_batch_norm_options options
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = max(_type(op, "x", x, 2), _type(op, "gamma", gamma, 0), _type(op, "beta", beta, 0))
    options = BATCH_NORM_DEFAULTS
    options.training = training
    options.momentum = _fraction(op, "momentum", momentum)
    options.eps = _epsilon(op, eps, t)
    options.unbiased_running_var = unbiased_running_var
    x_held = _rows(x, t, &xr)
    gamma_held = _vector(op, "gamma", gamma, t, "x", x, xr.d, &gr)
    beta_held = _vector(op, "beta", beta, t, "x", x, xr.d, &br)
    rmr.data = rvr.data = NULL
    rm_held = rv_held = None
    if (running_mean is None) != (running_var is None):
        missing, given = ("mean", "var") if running_mean is None else ("var", "mean")
        raise ValueError(f"{op}: running_{given} is given but running_{missing} is not; give both or "
                         f"neither")
    if running_mean is None:
        if not training:
            raise ValueError(f"{op}: training is False, which needs running_mean and running_var")
    else:
        rm_held = _running(op, "running_mean", running_mean, t, x, xr.d, training, &rmr)
        rv_held = _running(op, "running_var", running_var, t, x, xr.d, training, &rvr)
        if training:
            if (_clash(op, "running_mean", running_mean, "x", x, APART)
                    | _clash(op, "running_mean", running_mean, "gamma", gamma, APART)
                    | _clash(op, "running_mean", running_mean, "beta", beta, APART)
                    | _clash(op, "running_mean", running_mean, "running_var", running_var, APART)):
                rm_held = _rows(_packed(running_mean, t), t, &rmr)
            if (_clash(op, "running_var", running_var, "x", x, APART)
                    | _clash(op, "running_var", running_var, "gamma", gamma, APART)
                    | _clash(op, "running_var", running_var, "beta", beta, APART)):
                rv_held = _rows(_packed(running_var, t), t, &rvr)
    y = _target(op, out, t, <cnp.ndarray>x, xr.d, &yr)
    if out is not None:
        if (_clash(op, "out", out, "x", x, IN_PLACE)
                | _clash(op, "out", out, "gamma", gamma, APART)
                | _clash(op, "out", out, "beta", beta, APART)
                | _clash(op, "out", out, "running_mean", running_mean, APART)
                | _clash(op, "out", out, "running_var", running_var, APART)):
            y = _new(t, <cnp.ndarray>x, xr.d, &yr)
    mean = _new_vector(cnp.NPY_DOUBLE, xr.d, &mr)
    rstd = _new_vector(cnp.NPY_DOUBLE, xr.d, &sr)
    _take(op, "x", x_held, t, xr.n, xr.d, &xr)
    _take(op, "gamma", gamma_held, t, 1, xr.d, &gr)
    _take(op, "beta", beta_held, t, 1, xr.d, &br)
    if running_mean is not None:
        _take(op, "running_mean", rm_held, t, 1, xr.d, &rmr)
        _take(op, "running_var", rv_held, t, 1, xr.d, &rvr)
    _take(op, "out", y, t, xr.n, xr.d, &yr)
    state = _release_gil(<double>xr.n * xr.d)
    status = BY_DTYPE(normcore_batch_norm_forward, t, context, xr.n, xr.d, xr.data, xr.stride, gr.data, br.data,
                      &options, rmr.data, rvr.data, yr.data, yr.stride, mr.data, sr.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        if status == NORMCORE_ERROR_VALUE and running_var is not None:
            _check_variance(op, "running_var", rv_held)
        _fail(op, status)
    if training and running_mean is not None:
        _finish(running_mean, rm_held)
        _finish(running_var, rv_held)
    return _finish(out, y), mean, rstd


def batch_norm_backward(dy, x, gamma, mean, rstd, *, algorithm="fused", bint training=True):
    """Gradients of batch normalisation.

    Parameters
    ----------
    dy, x : ndarray (..., d), at least 2-D, float32 or float64
    gamma : ndarray (d,)
    mean, rstd : ndarray (d,)
        As `batch_norm_forward` returned them.
    algorithm : {"fused", "graph"}
        The simplified closed form, or step by step through the computational graph. They agree to rounding.
    training : bool
        As in the forward call. In evaluation ``dx = dy * gamma * rstd``.

    Returns
    -------
    dx : ndarray (..., d)
    dgamma, dbeta : ndarray (d,)

    Raises
    ------
    TypeError
        An argument is no NumPy array of float32 or float64.
    ValueError
        Shapes that do not fit, or an unknown algorithm.

    Examples
    --------
    >>> x, gamma = np.array([[0.0, 10.0], [2.0, 30.0], [4.0, 20.0]]), np.ones(2)
    >>> y, mean, rstd = nc.batch_norm_forward(x, gamma, np.zeros(2))
    >>> dx, dgamma, dbeta = nc.batch_norm_backward(np.ones((3, 2)), x, gamma, mean, rstd)
    >>> bool(np.abs(dx).max() < 1e-15)  # what is added to a whole column does not change y
    True
    >>> dbeta
    array([3., 3.])
    """
    cdef str op = "batch_norm_backward"
    cdef Rows dyr, xr, gr, dxr, dgr, dbr
    cdef const double *mean_data
    cdef const double *rstd_data
    cdef normcore_batch_norm_algorithm chosen
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = max(_type(op, "dy", dy, 2), _type(op, "x", x, 2), _type(op, "gamma", gamma, 0))
    if algorithm == "fused":
        chosen = NORMCORE_BATCH_NORM_FUSED
    elif algorithm == "graph":
        chosen = NORMCORE_BATCH_NORM_GRAPH
    else:
        raise ValueError(f"{op}: algorithm is {algorithm!r}; it must be 'fused' or 'graph'")
    _same_shape(op, "dy", dy, "x", x)
    dy_held = _rows(dy, t, &dyr)
    x_held = _rows(x, t, &xr)
    gamma_held = _vector(op, "gamma", gamma, t, "x", x, xr.d, &gr)
    mean_held = _statistic(op, "mean", mean, x, False)
    rstd_held = _statistic(op, "rstd", rstd, x, False)
    dx = _new(t, <cnp.ndarray>x, xr.d, &dxr)
    dgamma = _new_vector(t, xr.d, &dgr)
    dbeta = _new_vector(t, xr.d, &dbr)
    _take(op, "dy", dy_held, t, xr.n, xr.d, &dyr)
    _take(op, "x", x_held, t, xr.n, xr.d, &xr)
    _take(op, "gamma", gamma_held, t, 1, xr.d, &gr)
    _take(op, "dx", dx, t, xr.n, xr.d, &dxr)
    mean_data = _take_doubles(op, "mean", mean_held, xr.d)
    rstd_data = _take_doubles(op, "rstd", rstd_held, xr.d)
    state = _release_gil(<double>xr.n * xr.d)
    status = BY_DTYPE(normcore_batch_norm_backward, t, context, xr.n, xr.d, dyr.data, dyr.stride, xr.data, xr.stride,
                      gr.data, mean_data, rstd_data, training, chosen, dxr.data, dxr.stride, dgr.data, dbr.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return dx, dgamma, dbeta


def layer_norm_forward(x, gamma, beta, *, eps=1e-5, out=None):
    """Layer normalisation: ``gamma * (x - mean) / sqrt(var + eps) + beta``, row by row (arXiv 1607.06450).

    Parameters
    ----------
    x : ndarray (..., d), float32 or float64
    gamma, beta : ndarray (d,)
    eps : float
        Added to the biased variance inside the root: finite, and 0 or at least the least normal number of the dtype.
    out : ndarray (..., d), optional
        Where to write. Of the result's shape and dtype; `x` itself or no overlap with any argument.

    Returns
    -------
    y : ndarray (..., d)
    mean, rstd : float64 ndarray (...)
        Mean and ``1 / sqrt(var + eps)`` of each row, for `layer_norm_backward`; 0-d if `x` is 1-D.

    Raises
    ------
    TypeError
        An argument is no NumPy array of float32 or float64.
    ValueError
        Shapes that do not fit, a bad eps or `out`.

    Examples
    --------
    >>> x = np.array([[1.0, 3.0], [10.0, 50.0]])
    >>> y, mean, rstd = nc.layer_norm_forward(x, np.ones(2), np.zeros(2), eps=0)
    >>> y
    array([[-1.,  1.],
           [-1.,  1.]])
    >>> mean, 1 / rstd
    (array([ 2., 30.]), array([ 1., 20.]))
    """
    cdef str op = "layer_norm_forward"
    cdef Rows xr, gr, br, yr
    cdef double *mean_data
    cdef double *rstd_data
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = max(_type(op, "x", x, 1), _type(op, "gamma", gamma, 0), _type(op, "beta", beta, 0))
    cdef double epsilon = _epsilon(op, eps, t)
    x_held = _rows(x, t, &xr)
    gamma_held = _vector(op, "gamma", gamma, t, "x", x, xr.d, &gr)
    beta_held = _vector(op, "beta", beta, t, "x", x, xr.d, &br)
    y = _target(op, out, t, <cnp.ndarray>x, xr.d, &yr)
    if out is not None:
        if (_clash(op, "out", out, "x", x, IN_PLACE)
                | _clash(op, "out", out, "gamma", gamma, APART)
                | _clash(op, "out", out, "beta", beta, APART)):
            y = _new(t, <cnp.ndarray>x, xr.d, &yr)
    mean = _new_by_row(op, "x", x, xr.n, &mean_data)
    rstd = _new_by_row(op, "x", x, xr.n, &rstd_data)
    _take(op, "x", x_held, t, xr.n, xr.d, &xr)
    _take(op, "gamma", gamma_held, t, 1, xr.d, &gr)
    _take(op, "beta", beta_held, t, 1, xr.d, &br)
    _take(op, "out", y, t, xr.n, xr.d, &yr)
    state = _release_gil(<double>xr.n * xr.d)
    status = BY_DTYPE(normcore_layer_norm_forward, t, context, xr.n, xr.d, xr.data, xr.stride, gr.data, br.data,
                      epsilon, yr.data, yr.stride, mean_data, rstd_data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return _finish(out, y), mean, rstd


def layer_norm_backward(dy, x, gamma, mean, rstd):
    """Gradients of layer normalisation.

    Parameters
    ----------
    dy, x : ndarray (..., d), float32 or float64
    gamma : ndarray (d,)
    mean, rstd : ndarray (...)
        As `layer_norm_forward` returned them.

    Returns
    -------
    dx : ndarray (..., d)
    dgamma, dbeta : ndarray (d,)

    Raises
    ------
    TypeError
        An argument is no NumPy array of float32 or float64.
    ValueError
        Shapes that do not fit.

    Examples
    --------
    >>> x, gamma = np.array([[1.0, 3.0, 8.0], [10.0, 50.0, 0.0]]), np.ones(3)
    >>> y, mean, rstd = nc.layer_norm_forward(x, gamma, np.zeros(3))
    >>> dx, dgamma, dbeta = nc.layer_norm_backward(np.ones((2, 3)), x, gamma, mean, rstd)
    >>> bool(np.abs(dx).max() < 1e-15)  # what is added to a whole row does not change y
    True
    >>> dgamma.shape, dbeta
    ((3,), array([2., 2., 2.]))
    """
    cdef str op = "layer_norm_backward"
    cdef Rows dyr, xr, gr, dxr, dgr, dbr
    cdef const double *mean_data
    cdef const double *rstd_data
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = max(_type(op, "dy", dy, 1), _type(op, "x", x, 1), _type(op, "gamma", gamma, 0))
    _same_shape(op, "dy", dy, "x", x)
    dy_held = _rows(dy, t, &dyr)
    x_held = _rows(x, t, &xr)
    gamma_held = _vector(op, "gamma", gamma, t, "x", x, xr.d, &gr)
    mean_held = _statistic(op, "mean", mean, x, True)
    rstd_held = _statistic(op, "rstd", rstd, x, True)
    dx = _new(t, <cnp.ndarray>x, xr.d, &dxr)
    dgamma = _new_vector(t, xr.d, &dgr)
    dbeta = _new_vector(t, xr.d, &dbr)
    _take(op, "dy", dy_held, t, xr.n, xr.d, &dyr)
    _take(op, "x", x_held, t, xr.n, xr.d, &xr)
    _take(op, "gamma", gamma_held, t, 1, xr.d, &gr)
    _take(op, "dx", dx, t, xr.n, xr.d, &dxr)
    mean_data = _take_doubles(op, "mean", mean_held, xr.n)
    rstd_data = _take_doubles(op, "rstd", rstd_held, xr.n)
    state = _release_gil(<double>xr.n * xr.d)
    status = BY_DTYPE(normcore_layer_norm_backward, t, context, xr.n, xr.d, dyr.data, dyr.stride, xr.data, xr.stride,
                      gr.data, mean_data, rstd_data, dxr.data, dxr.stride, dgr.data, dbr.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return dx, dgamma, dbeta
