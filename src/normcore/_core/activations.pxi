# Maps from rows to rows of the same shape, and their gradients: activations, softmax and its logarithm.

cdef extern from *:
    by_dtype normcore_softmax, normcore_log_softmax, normcore_activation_forward, normcore_softmax_backward
    by_dtype normcore_log_softmax_backward, normcore_activation_backward


# By the names that networks know them by.
ACTIVATIONS = {
    "relu": NORMCORE_ACTIVATION_RELU, "leaky_relu": NORMCORE_ACTIVATION_LEAKY_RELU, "tanh": NORMCORE_ACTIVATION_TANH,
    "logistic": NORMCORE_ACTIVATION_LOGISTIC, "silu": NORMCORE_ACTIVATION_SILU,
    "relu6": NORMCORE_ACTIVATION_RELU6,
}


cdef enum:  # what _map and _map2 compute, beside the activations of C
    SOFTMAX = -1
    LOG_SOFTMAX = -2


cdef object _map(str op, int f, object x, object out, double slope=0.0):
    """y = f(x), row by row, f an activation or one of those above."""
    cdef Rows xr, yr
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = _type(op, "x", x, 1)
    x_held = _rows(x, t, &xr)
    y = _target(op, out, t, <cnp.ndarray>x, xr.d, &yr)
    if out is not None and _clash(op, "out", out, "x", x, IN_PLACE):
        y = _new(t, <cnp.ndarray>x, xr.d, &yr)
    _take(op, "x", x_held, t, xr.n, xr.d, &xr)
    _take(op, "out", y, t, xr.n, xr.d, &yr)
    state = _release_gil(<double>xr.n * xr.d)
    if f == SOFTMAX:
        status = BY_DTYPE(normcore_softmax, t, context, xr.n, xr.d, xr.data, xr.stride, yr.data, yr.stride)
    elif f == LOG_SOFTMAX:
        status = BY_DTYPE(normcore_log_softmax, t, context, xr.n, xr.d, xr.data, xr.stride, yr.data, yr.stride)
    else:
        status = BY_DTYPE(normcore_activation_forward, t, context, <normcore_activation>f, slope, xr.n, xr.d,
                          xr.data, xr.stride, yr.data, yr.stride)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return _finish(out, y)


cdef object _map2(str op, int f, object dy, object y, object out, str y_name="y", double slope=0.0):
    """dx, the gradient of f at what was saved as y, row by row. The caller knows y as `y_name`."""
    cdef Rows dyr, yr, dxr
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = max(_type(op, "dy", dy, 1), _type(op, y_name, y, 1))
    _same_shape(op, "dy", dy, y_name, y)
    dy_held = _rows(dy, t, &dyr)
    y_held = _rows(y, t, &yr)
    dx = _target(op, out, t, <cnp.ndarray>y, yr.d, &dxr)
    if out is not None and (_clash(op, "out", out, "dy", dy, IN_PLACE) | _clash(op, "out", out, y_name, y, IN_PLACE)):
        dx = _new(t, <cnp.ndarray>y, yr.d, &dxr)
    _take(op, "dy", dy_held, t, yr.n, yr.d, &dyr)
    _take(op, y_name, y_held, t, yr.n, yr.d, &yr)
    _take(op, "out", dx, t, yr.n, yr.d, &dxr)
    state = _release_gil(<double>yr.n * yr.d)
    if f == SOFTMAX:
        status = BY_DTYPE(normcore_softmax_backward, t, context, yr.n, yr.d, dyr.data, dyr.stride, yr.data, yr.stride,
                          dxr.data, dxr.stride)
    elif f == LOG_SOFTMAX:
        status = BY_DTYPE(normcore_log_softmax_backward, t, context, yr.n, yr.d, dyr.data, dyr.stride,
                          yr.data, yr.stride, dxr.data, dxr.stride)
    else:
        status = BY_DTYPE(normcore_activation_backward, t, context, <normcore_activation>f, slope, yr.n, yr.d,
                          dyr.data, dyr.stride, yr.data, yr.stride, dxr.data, dxr.stride)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return _finish(out, dx)


def relu_forward(x, *, out=None):
    """Rectified linear unit: x where x > 0, NaN where x is NaN, else +0.

    Parameters
    ----------
    x : ndarray (..., d), float32 or float64
    out : ndarray, optional
        Where to write. Of x's shape and dtype; `x` itself or no overlap with it.

    Returns
    -------
    y : ndarray (..., d)

    Raises
    ------
    TypeError
        `x` is no NumPy array of float32 or float64.
    ValueError
        `x` is 0-d, or a bad `out`.

    Examples
    --------
    >>> nc.relu_forward(np.array([-1.5, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return _map("relu_forward", NORMCORE_ACTIVATION_RELU, x, out)


def relu_backward(dy, y, *, out=None):
    """Gradient of ReLU: dy where not y <= 0 (so that NaN passes), else +0.

    Parameters
    ----------
    dy : ndarray (..., d), float32 or float64
    y : ndarray (..., d)
        The output of `relu_forward`; its input gives the same.
    out : ndarray, optional
        Where to write. Of the result's shape and dtype; `dy` or `y` itself or no overlap with them.

    Returns
    -------
    dx : ndarray (..., d)

    Raises
    ------
    TypeError
        An argument is no NumPy array of float32 or float64.
    ValueError
        Shapes that differ, or a bad `out`.

    Examples
    --------
    >>> y = nc.relu_forward(np.array([-1.5, 0.0, 2.0]))
    >>> nc.relu_backward(np.array([5.0, 6.0, 7.0]), y)
    array([0., 0., 7.])
    """
    return _map2("relu_backward", NORMCORE_ACTIVATION_RELU, dy, y, out)


def leaky_relu_forward(x, *, slope=0.01, out=None):
    """Leaky rectified linear unit: x where x > 0, else ``slope * x``.

    Parameters
    ----------
    x : ndarray (..., d), float32 or float64
    slope : float
        In [0, 1], rounded to x's dtype. 0 gives the results of `relu_forward`.
    out : ndarray, optional
        Where to write. Of x's shape and dtype; `x` itself or no overlap with it.

    Returns
    -------
    y : ndarray (..., d)

    Raises
    ------
    TypeError
        `x` is no NumPy array of float32 or float64.
    ValueError
        `x` is 0-d, `slope` out of its range, or a bad `out`.

    Examples
    --------
    >>> nc.leaky_relu_forward(np.array([-1.5, 0.0, 2.0]), slope=0.1)
    array([-0.15,  0.  ,  2.  ])
    """
    cdef str op = "leaky_relu_forward"
    return _map(op, NORMCORE_ACTIVATION_LEAKY_RELU, x, out, _fraction(op, "slope", slope))


def leaky_relu_backward(dy, y, *, slope=0.01, out=None):
    """Gradient of the leaky ReLU: ``slope * dy`` where y <= 0, else dy.

    Parameters
    ----------
    dy : ndarray (..., d), float32 or float64
    y : ndarray (..., d)
        The output of `leaky_relu_forward`; its input gives the same.
    slope : float
        That of the forward pass.
    out : ndarray, optional
        Where to write. Of the result's shape and dtype; `dy` or `y` itself or no overlap with them.

    Returns
    -------
    dx : ndarray (..., d)

    Raises
    ------
    TypeError
        An argument is no NumPy array of float32 or float64.
    ValueError
        Shapes that differ, `slope` out of its range, or a bad `out`.

    Examples
    --------
    >>> y = nc.leaky_relu_forward(np.array([-1.5, 0.0, 2.0]), slope=0.1)
    >>> nc.leaky_relu_backward(np.ones(3), y, slope=0.1)
    array([0.1, 0.1, 1. ])
    """
    cdef str op = "leaky_relu_backward"
    return _map2(op, NORMCORE_ACTIVATION_LEAKY_RELU, dy, y, out, "y", _fraction(op, "slope", slope))


def tanh_forward(x, *, out=None):
    """Hyperbolic tangent, within 2 units in the last place; ``tanh_forward(-x)`` is exactly ``-tanh_forward(x)``.

    Parameters and errors are those of `relu_forward`.

    Examples
    --------
    >>> nc.tanh_forward(np.array([-20.0, 0.0, 0.5], dtype=np.float32))
    array([-1.        ,  0.        ,  0.46211717], dtype=float32)
    """
    return _map("tanh_forward", NORMCORE_ACTIVATION_TANH, x, out)


def tanh_backward(dy, y, *, out=None):
    """Gradient of tanh: ``dy * (1 - y**2)``.

    `y` is the output of `tanh_forward`. Parameters and errors are those of `relu_backward`.

    Examples
    --------
    >>> nc.tanh_backward(np.ones(3), np.array([-1.0, 0.0, 0.5]))
    array([0.  , 1.  , 0.75])
    """
    return _map2("tanh_backward", NORMCORE_ACTIVATION_TANH, dy, y, out)


def logistic_forward(x, *, out=None):
    """Logistic function (sigmoid), ``1 / (1 + exp(-x))``, within 2 units in the last place.

    Small results keep their digits: there is no overflow, and subnormal results are right.
    Parameters and errors are those of `relu_forward`.

    Examples
    --------
    >>> nc.logistic_forward(np.array([-100.0, 0.0, 100.0]))
    array([3.72007598e-44, 5.00000000e-01, 1.00000000e+00])
    """
    return _map("logistic_forward", NORMCORE_ACTIVATION_LOGISTIC, x, out)


def logistic_backward(dy, y, *, out=None):
    """Gradient of the logistic function: ``dy * y * (1 - y)``.

    `y` is the output of `logistic_forward`. Parameters and errors are those of `relu_backward`.

    Examples
    --------
    >>> nc.logistic_backward(np.ones(3), np.array([0.0, 0.5, 1.0]))
    array([0.  , 0.25, 0.  ])
    """
    return _map2("logistic_backward", NORMCORE_ACTIVATION_LOGISTIC, dy, y, out)


def silu_forward(x, *, out=None):
    """Sigmoid linear unit (swish), ``x / (1 + exp(-x))``, within 2 units in the last place; -0 for -inf, its limit.

    Parameters and errors are those of `relu_forward`.

    Examples
    --------
    >>> nc.silu_forward(np.array([-np.inf, 0.0, 1.0, 100.0]))
    array([ -0.        ,   0.        ,   0.73105858, 100.        ])
    """
    return _map("silu_forward", NORMCORE_ACTIVATION_SILU, x, out)


def silu_backward(dy, x, *, out=None):
    """Gradient of the sigmoid linear unit: ``dy * s * (1 + x * (1 - s))``, s the logistic function of x.

    Parameters
    ----------
    dy : ndarray (..., d), float32 or float64
    x : ndarray (..., d)
        The input of `silu_forward`: its output does not tell enough.
    out : ndarray, optional
        Where to write. Of the result's shape and dtype; `dy` or `x` itself or no overlap with them.

    Returns
    -------
    dx : ndarray (..., d)

    Raises
    ------
    TypeError
        An argument is no NumPy array of float32 or float64.
    ValueError
        Shapes that differ, or a bad `out`.

    Examples
    --------
    >>> nc.silu_backward(np.ones(3), np.array([-1000.0, 0.0, 1000.0]))
    array([-0. ,  0.5,  1. ])
    """
    return _map2("silu_backward", NORMCORE_ACTIVATION_SILU, dy, x, out, "x")


def relu6_forward(x, *, out=None):
    """Rectified linear unit that ends at 6: ``min(max(x, 0), 6)`` (A. Krizhevsky, Convolutional deep belief networks).

    Parameters and errors are those of `relu_forward`.

    Examples
    --------
    >>> nc.relu6_forward(np.array([-1.5, 2.0, 7.0]))
    array([0., 2., 6.])
    """
    return _map("relu6_forward", NORMCORE_ACTIVATION_RELU6, x, out)


def relu6_backward(dy, y, *, out=None):
    """Gradient of ReLU6: +0 where y <= 0 or y >= 6, else dy (so that NaN passes).

    `y` is the output of `relu6_forward`; its input gives the same. Parameters and errors are those of `relu_backward`.

    Examples
    --------
    >>> nc.relu6_backward(np.ones(3), np.array([0.0, 2.0, 6.0]))
    array([0., 1., 0.])
    """
    return _map2("relu6_backward", NORMCORE_ACTIVATION_RELU6, dy, y, out)


def softmax(x, *, out=None):
    """Softmax of each row: ``exp(x - max(x)) / sum(exp(x - max(x)))``.

    Parameters
    ----------
    x : ndarray (..., d), float32 or float64
    out : ndarray, optional
        Where to write. Of x's shape and dtype; `x` itself or no overlap with it.

    Returns
    -------
    y : ndarray (..., d)
        A row that holds NaN or +inf, or nothing but -inf, becomes NaN.

    Raises
    ------
    TypeError
        `x` is no NumPy array of float32 or float64.
    ValueError
        `x` is 0-d, or a bad `out`.

    Examples
    --------
    >>> nc.softmax(np.log([[1.0, 2.0, 1.0], [3.0, 0.5, 0.5]]))
    array([[0.25 , 0.5  , 0.25 ],
           [0.75 , 0.125, 0.125]])
    """
    return _map("softmax", SOFTMAX, x, out)


def log_softmax(x, *, out=None):
    """Logarithm of softmax of each row: ``(x - max(x)) - log(sum(exp(x - max(x))))``.

    Parameters, special rows and errors are those of `softmax`.

    Examples
    --------
    >>> nc.log_softmax(np.array([[0.0, 1e4]]))
    array([[-10000.,      0.]])
    """
    return _map("log_softmax", LOG_SOFTMAX, x, out)


def softmax_backward(dy, y, *, out=None):
    """Gradient of softmax: ``y * (dy - sum(dy * y))``, the sum along each row.

    Parameters
    ----------
    dy : ndarray (..., d), float32 or float64
    y : ndarray (..., d)
        The output of `softmax`.
    out : ndarray, optional
        Where to write. Of the result's shape and dtype; `dy` or `y` itself or no overlap with them.

    Returns
    -------
    dx : ndarray (..., d)

    Raises
    ------
    TypeError
        An argument is no NumPy array of float32 or float64.
    ValueError
        Shapes that differ, or a bad `out`.

    Examples
    --------
    >>> y = np.array([[0.25, 0.5, 0.25]])
    >>> nc.softmax_backward(np.array([[0.0, 1.0, 0.0]]), y)
    array([[-0.125,  0.25 , -0.125]])
    """
    return _map2("softmax_backward", SOFTMAX, dy, y, out)


def log_softmax_backward(dy, y, *, out=None):
    """Gradient of log-softmax: ``dy - exp(y) * sum(dy)``, the sum along each row.

    `y` is the output of `log_softmax`. Parameters and errors are those of `softmax_backward`.

    Examples
    --------
    >>> y = np.log([[0.25, 0.5, 0.25]])
    >>> nc.log_softmax_backward(np.array([[0.0, -1.0, 0.0]]), y)
    array([[ 0.25, -0.5 ,  0.25]])
    """
    return _map2("log_softmax_backward", LOG_SOFTMAX, dy, y, out)
