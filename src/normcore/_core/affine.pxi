# The affine map and its gradients.


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
    """
    cdef Rows xr, wr, br, yr
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = max(_type("affine_forward", "x", x, 1), _type("affine_forward", "w", w, 0))
    if b is not None:
        t = max(t, _type("affine_forward", "b", b, 0))
    if cnp.PyArray_NDIM(<cnp.ndarray>w) != 2:
        raise ValueError(f"affine_forward: w is {w.shape}; it must have two axes, (in, out)")
    x_held = _rows(x, t, &xr)
    w_held = _rows(w, t, &wr)
    if xr.d != wr.n:
        raise ValueError(f"affine_forward: x is {x.shape} but w is {w.shape}; x's last axis must equal w's first")
    br.data = NULL
    b_held = None if b is None else _vector("affine_forward", "b", b, t, "w", w, wr.d, &br)
    y = _target("affine_forward", out, t, <cnp.ndarray>x, wr.d, &yr)
    if out is not None:
        if (_clash("affine_forward", "out", out, "x", x, VIA_COPY)
                | _clash("affine_forward", "out", out, "w", w, APART)
                | _clash("affine_forward", "out", out, "b", b, APART)):
            y = _new(t, <cnp.ndarray>x, wr.d, &yr)
    _take("affine_forward", "x", x_held, t, xr.n, wr.n, &xr)
    _take("affine_forward", "w", w_held, t, wr.n, wr.d, &wr)
    if b is not None:
        _take("affine_forward", "b", b_held, t, 1, wr.d, &br)
    _take("affine_forward", "out", y, t, xr.n, wr.d, &yr)
    state = _release_gil(<double>xr.n * (xr.d + 1) * wr.d)
    if t == cnp.NPY_FLOAT:
        status = normcore_affine_forward_f32(
            context, xr.n, wr.n, wr.d, <const float *>xr.data, xr.stride, <const float *>wr.data, wr.stride,
            <const float *>br.data, relu, <float *>yr.data, yr.stride)
    else:
        status = normcore_affine_forward_f64(
            context, xr.n, wr.n, wr.d, <const double *>xr.data, xr.stride, <const double *>wr.data, wr.stride,
            <const double *>br.data, relu, <double *>yr.data, yr.stride)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail("affine_forward", status)
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
    """
    cdef Rows dyr, xr, wr, dxr, dwr, dbr
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = max(_type("affine_backward", "dy", dy, 1), _type("affine_backward", "x", x, 1),
                     _type("affine_backward", "w", w, 0))
    if cnp.PyArray_NDIM(<cnp.ndarray>w) != 2:
        raise ValueError(f"affine_backward: w is {w.shape}; it must have two axes, (in, out)")
    dy_held = _rows(dy, t, &dyr)
    x_held = _rows(x, t, &xr)
    w_held = _rows(w, t, &wr)
    if xr.d != wr.n:
        raise ValueError(f"affine_backward: x is {x.shape} but w is {w.shape}; x's last axis must equal w's first")
    if dyr.d != wr.d:
        raise ValueError(f"affine_backward: dy is {dy.shape} but w is {w.shape}; dy's last axis must equal w's last")
    if (cnp.PyArray_NDIM(<cnp.ndarray>dy) != cnp.PyArray_NDIM(<cnp.ndarray>x)
            or not _leading_match(<cnp.ndarray>dy, <cnp.ndarray>x)):
        raise ValueError(f"affine_backward: dy is {dy.shape} but x is {x.shape}; all axes but the last must be equal")
    dx = _new(t, <cnp.ndarray>x, xr.d, &dxr)
    dw = _new(t, <cnp.ndarray>w, wr.d, &dwr)
    db = _new_vector(t, wr.d, &dbr)
    _take("affine_backward", "dy", dy_held, t, xr.n, wr.d, &dyr)
    _take("affine_backward", "x", x_held, t, xr.n, wr.n, &xr)
    _take("affine_backward", "w", w_held, t, wr.n, wr.d, &wr)
    _take("affine_backward", "dx", dx, t, xr.n, wr.n, &dxr)
    _take("affine_backward", "dw", dw, t, wr.n, wr.d, &dwr)
    state = _release_gil(2.0 * xr.n * (xr.d + 1) * wr.d)
    if t == cnp.NPY_FLOAT:
        status = normcore_affine_backward_f32(
            context, xr.n, wr.n, wr.d, <const float *>dyr.data, dyr.stride, <const float *>xr.data, xr.stride,
            <const float *>wr.data, wr.stride, <float *>dxr.data, dxr.stride, <float *>dwr.data, dwr.stride,
            <float *>dbr.data)
    else:
        status = normcore_affine_backward_f64(
            context, xr.n, wr.n, wr.d, <const double *>dyr.data, dyr.stride, <const double *>xr.data, xr.stride,
            <const double *>wr.data, wr.stride, <double *>dxr.data, dxr.stride, <double *>dwr.data, dwr.stride,
            <double *>dbr.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail("affine_backward", status)
    return dx, dw, db
