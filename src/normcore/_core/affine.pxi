# The affine map and its gradients.

cdef extern from *:
    by_dtype normcore_affine_forward, normcore_affine_backward


def affine_forward(x, w, b=None, *, bint relu=False, out=None):
    """Affine map ``y = x @ w + b``, then ``max(y, 0)`` if `relu`.

    Parameters
    ----------
    x : ndarray (..., k), float32 or float64
        Rows in any layout; one row if 1-D.
    w : ndarray (k, m)
    b : ndarray (m,), optional
    relu : bool
        Apply ReLU to the result.
    out : ndarray (..., m), optional
        Where to write. Of the result's shape and dtype; `x` itself or no overlap with any argument.

    Returns
    -------
    y : ndarray (..., m)
        float64 if any argument is float64. With ``k == 0`` it is the bias.

    Raises
    ------
    TypeError
        An argument is no NumPy array of float32 or float64.
    ValueError
        Shapes that do not fit, or a bad `out`.

    Notes
    -----
    Summed over blocks of 256 of k in order, so that each row has the same bits in any batch, on any number of threads.

    Examples
    --------
    >>> x, w = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
    >>> nc.affine_forward(x, w, np.array([0.0, 0.0, 4.0]))
    array([[ 1.,  2.,  1.],
           [ 3.,  4., -3.]])
    >>> nc.affine_forward(x, w, relu=True)
    array([[1., 2., 0.],
           [3., 4., 0.]])
    """
    cdef str op = "affine_forward"
    cdef Rows xr, wr, br, yr
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = max(_type(op, "x", x, 1), _type(op, "w", w, 0))
    if b is not None:
        t = max(t, _type(op, "b", b, 0))
    if cnp.PyArray_NDIM(<cnp.ndarray>w) != 2:
        raise ValueError(f"{op}: w is {w.shape}; it must have two axes, (in, out)")
    x_held = _rows(x, t, &xr)
    w_held = _rows(w, t, &wr)
    if xr.d != wr.n:
        raise ValueError(f"{op}: x is {x.shape} but w is {w.shape}; x's last axis must equal w's first")
    br.data = NULL
    b_held = None if b is None else _vector(op, "b", b, t, "w", w, wr.d, &br)
    y = _target(op, out, t, <cnp.ndarray>x, wr.d, &yr)
    if out is not None:
        if (_clash(op, "out", out, "x", x, VIA_COPY)
                | _clash(op, "out", out, "w", w, APART)
                | _clash(op, "out", out, "b", b, APART)):
            y = _new(t, <cnp.ndarray>x, wr.d, &yr)
    _take(op, "x", x_held, t, xr.n, wr.n, &xr)
    _take(op, "w", w_held, t, wr.n, wr.d, &wr)
    if b is not None:
        _take(op, "b", b_held, t, 1, wr.d, &br)
    _take(op, "out", y, t, xr.n, wr.d, &yr)
    state = _release_gil(<double>xr.n * (xr.d + 1) * wr.d)
    status = BY_DTYPE(normcore_affine_forward, t, context, xr.n, wr.n, wr.d, xr.data, xr.stride, wr.data, wr.stride,
                      br.data, relu, yr.data, yr.stride)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return _finish(out, y)


def affine_backward(dy, x, w):
    """Gradients of ``y = x @ w + b``. After a fused ReLU put `dy` through `relu_backward` with `y` first.

    Parameters
    ----------
    dy : ndarray (..., m), float32 or float64
    x : ndarray (..., k)
    w : ndarray (k, m)

    Returns
    -------
    dx : ndarray (..., k)
        ``dy @ w.T``
    dw : ndarray (k, m)
        ``x.T @ dy`` over all rows
    db : ndarray (m,)
        Sum of the rows of `dy`.

    Raises
    ------
    TypeError
        An argument is no NumPy array of float32 or float64.
    ValueError
        Shapes that do not fit.

    Examples
    --------
    >>> x, w = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -2.0]])
    >>> dx, dw, db = nc.affine_backward(np.ones((2, 3)), x, w)
    >>> dx
    array([[ 0., -1.],
           [ 0., -1.]])
    >>> dw
    array([[4., 4., 4.],
           [6., 6., 6.]])
    >>> db
    array([2., 2., 2.])
    """
    cdef str op = "affine_backward"
    cdef Rows dyr, xr, wr, dxr, dwr, dbr
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = max(_type(op, "dy", dy, 1), _type(op, "x", x, 1), _type(op, "w", w, 0))
    if cnp.PyArray_NDIM(<cnp.ndarray>w) != 2:
        raise ValueError(f"{op}: w is {w.shape}; it must have two axes, (in, out)")
    dy_held = _rows(dy, t, &dyr)
    x_held = _rows(x, t, &xr)
    w_held = _rows(w, t, &wr)
    if xr.d != wr.n:
        raise ValueError(f"{op}: x is {x.shape} but w is {w.shape}; x's last axis must equal w's first")
    if dyr.d != wr.d:
        raise ValueError(f"{op}: dy is {dy.shape} but w is {w.shape}; dy's last axis must equal w's last")
    if (cnp.PyArray_NDIM(<cnp.ndarray>dy) != cnp.PyArray_NDIM(<cnp.ndarray>x)
            or not _leading_match(<cnp.ndarray>dy, <cnp.ndarray>x)):
        raise ValueError(f"{op}: dy is {dy.shape} but x is {x.shape}; all axes but the last must be equal")
    dx = _new(t, <cnp.ndarray>x, xr.d, &dxr)
    dw = _new(t, <cnp.ndarray>w, wr.d, &dwr)
    db = _new_vector(t, wr.d, &dbr)
    _take(op, "dy", dy_held, t, xr.n, wr.d, &dyr)
    _take(op, "x", x_held, t, xr.n, wr.n, &xr)
    _take(op, "w", w_held, t, wr.n, wr.d, &wr)
    _take(op, "dx", dx, t, xr.n, wr.n, &dxr)
    _take(op, "dw", dw, t, wr.n, wr.d, &dwr)
    state = _release_gil(2.0 * xr.n * (xr.d + 1) * wr.d)
    status = BY_DTYPE(normcore_affine_backward, t, context, xr.n, wr.n, wr.d, dyr.data, dyr.stride, xr.data, xr.stride,
                      wr.data, wr.stride, dxr.data, dxr.stride, dwr.data, dwr.stride, dbr.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return dx, dw, db
