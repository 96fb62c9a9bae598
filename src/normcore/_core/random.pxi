# Dropout, and numbers from Philox streams.

cdef extern from *:
    by_dtype normcore_dropout, normcore_random_uniform, normcore_random_normal


cdef object _dropout(str op, str name, object x, object keep, object seed, object stream, object offset, object out):
    cdef Rows xr, yr
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = _type(op, name, x, 1)
    cdef double probability = _keep(op, keep)
    cdef uint64_t seed_word = _uint64(op, "seed", seed)
    cdef uint64_t stream_word = _uint64(op, "stream", stream)
    cdef uint64_t offset_word = _uint64(op, "offset", offset)
    x_held = _rows(x, t, &xr)
    y = _target(op, out, t, <cnp.ndarray>x, xr.d, &yr)
    if out is not None and _clash(op, "out", out, name, x, IN_PLACE):
        y = _new(t, <cnp.ndarray>x, xr.d, &yr)
    _take(op, name, x_held, t, xr.n, xr.d, &xr)
    _take(op, "out", y, t, xr.n, xr.d, &yr)
    state = _release_gil(<double>xr.n * xr.d)
    status = BY_DTYPE(normcore_dropout, t, context, xr.n, xr.d, xr.data, xr.stride, probability, seed_word, stream_word,
                      offset_word, yr.data, yr.stride)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return _finish(out, y)


def dropout_forward(x, keep, *, seed, stream=0, offset=0, out=None):
    """Inverted dropout: each element is kept, divided by `keep`, with probability `keep`; the others are +0.

    Parameters
    ----------
    x : ndarray (..., d), float32 or float64
    keep : float in [2**-32, 1]
        Probability to keep an element; 1 copies.
    seed, stream, offset : int in [0, 2**64)
        Element number i (in C order) depends on word ``offset + i`` of the Philox stream alone.
    out : ndarray (..., d), optional
        Where to write. Of x's shape and dtype; `x` itself or no overlap with it.

    Returns
    -------
    y : ndarray (..., d)

    Raises
    ------
    TypeError
        `x` is no NumPy array of float32 or float64, or an argument is no number of the kind it must be.
    ValueError
        A parameter out of range, or a bad `out`.

    Examples
    --------
    >>> x = np.ones((2, 3))
    >>> nc.dropout_forward(x, 0.5, seed=5)
    array([[0., 2., 0.],
           [0., 2., 2.]])
    >>> nc.dropout_forward(x[1:], 0.5, seed=5, offset=3)  # the second row alone
    array([[0., 2., 2.]])
    """
    return _dropout("dropout_forward", "x", x, keep, seed, stream, offset, out)


def dropout_backward(dy, keep, *, seed, stream=0, offset=0, out=None):
    """Gradient of dropout: the same mask and scale on `dy`, from the same keep, seed, stream and offset.

    Parameters and errors are those of `dropout_forward`.

    Examples
    --------
    >>> nc.dropout_backward(np.full((2, 3), 10.0), 0.5, seed=5)
    array([[ 0., 20.,  0.],
           [ 0., 20., 20.]])
    """
    return _dropout("dropout_backward", "dy", dy, keep, seed, stream, offset, out)


def random_uniform(n, *, seed, stream=0, offset=0, low=0.0, high=1.0, dtype="float64"):
    """`n` uniform deviates ``low + (high - low) * u`` from a Philox4x32-10 stream.

    Parameters
    ----------
    n : int
        How many.
    seed, stream, offset : int in [0, 2**64)
        Value i depends on place ``offset + i`` of the stream alone.
    low, high : float
        Bounds; they and their difference are finite in `dtype`. Rounding may give `high` itself.
    dtype : float32 or float64
        u is a multiple of 2**-24 or 2**-53 in [0, 1).

    Returns
    -------
    ndarray (n,)

    Raises
    ------
    TypeError, ValueError
        An argument of a wrong kind, or out of its range.

    Examples
    --------
    >>> nc.random_uniform(3, seed=1)
    array([0.89468472, 0.71126808, 0.87411194])
    >>> nc.random_uniform(2, seed=1, offset=1)
    array([0.71126808, 0.87411194])
    """
    cdef str op = "random_uniform"
    cdef Rows rows
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = _dtype(op, dtype)
    cdef size_t count = _count(op, n)
    cdef uint64_t seed_word = _uint64(op, "seed", seed)
    cdef uint64_t stream_word = _uint64(op, "stream", stream)
    cdef uint64_t offset_word = _uint64(op, "offset", offset)
    cdef double least = _finite(op, "low", low)
    cdef double most = _finite(op, "high", high)
    _check_fit(op, "low", low, least, t)
    _check_fit(op, "high", high, most, t)
    if most < least:
        raise ValueError(f"{op}: high is {high!r}, which is less than low, {low!r}")
    _check_fit(op, "high - low", None, most - least, t)
    result = _new_vector(t, count, &rows)
    state = _release_gil(count)
    status = BY_DTYPE(normcore_random_uniform, t, context, seed_word, stream_word, offset_word, count, least, most,
                      rows.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return result


cdef int _check_deviation(str op, str name, object value, double mean, double scale, int t) except -1:
    """ValueError where normal deviates, of which none is beyond 9, may be infinite in the dtype."""
    cdef double room = (_greatest(t) - fabs(mean)) / 9.0
    if _is_infinite(fabs(mean) + 9.0 * scale, t):
        raise ValueError(f"{op}: {name} is {value!r}; values of up to 9 times it{' beside the mean' if mean else ''} must "
                         f"be finite in {_name(t)}, so that it is at most {room:.8g}")
    return 0


def random_normal(n, *, seed, stream=0, offset=0, mean=0.0, scale=1.0, dtype="float64"):
    """`n` normal deviates from a Philox4x32-10 stream, by inversion (Wichura, algorithm AS 241).

    Parameters
    ----------
    n : int
        How many.
    seed, stream, offset : int in [0, 2**64)
        Value i depends on place ``offset + i`` of the stream alone.
    mean : float
        Finite.
    scale : float
        Standard deviation, finite and not negative; ``abs(mean) + 9 * scale`` is finite in `dtype`.
    dtype : float32 or float64

    Returns
    -------
    ndarray (n,)

    Raises
    ------
    TypeError, ValueError
        An argument of a wrong kind, or out of its range.

    Examples
    --------
    >>> nc.random_normal(3, seed=1, mean=100.0, scale=15.0)
    array([118.77750139, 108.35639595, 117.19068962])
    >>> nc.random_normal(3, seed=1, dtype="float32")
    array([1.2279077 , 1.2518334 , 0.21656406], dtype=float32)
    """
    cdef str op = "random_normal"
    cdef Rows rows
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = _dtype(op, dtype)
    cdef size_t count = _count(op, n)
    cdef uint64_t seed_word = _uint64(op, "seed", seed)
    cdef uint64_t stream_word = _uint64(op, "stream", stream)
    cdef uint64_t offset_word = _uint64(op, "offset", offset)
    cdef double centre = _finite(op, "mean", mean)
    cdef double deviation = _not_negative(op, "scale", scale)
    _check_fit(op, "mean", mean, centre, t)
    _check_deviation(op, "scale", scale, centre, deviation, t)
    result = _new_vector(t, count, &rows)
    state = _release_gil(count)
    status = BY_DTYPE(normcore_random_normal, t, context, seed_word, stream_word, offset_word, count, centre, deviation,
                      rows.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return result


def random_integers(n, bound, *, seed, stream=0, offset=0):
    """`n` integers in [0, bound) from a Philox4x32-10 stream; the bias is below ``bound / 2**64``.

    Parameters
    ----------
    n : int
        How many.
    bound : int in [1, 2**63]
    seed, stream, offset : int in [0, 2**64)
        Value i depends on place ``offset + i`` of the stream alone.

    Returns
    -------
    int64 ndarray (n,)

    Raises
    ------
    TypeError, ValueError
        An argument of a wrong kind, or out of its range.

    Examples
    --------
    >>> (nc.random_integers(10, 6, seed=1) + 1).tolist()  # ten throws of a die
    [6, 5, 6, 4, 4, 6, 1, 1, 4, 6]
    """
    cdef str op = "random_integers"
    cdef Rows rows
    cdef normcore_status status
    cdef PyThreadState *state
    cdef size_t count = _count(op, n)
    cdef uint64_t limit = _integer(op, "bound", bound, 1, 1 << 63)
    cdef uint64_t seed_word = _uint64(op, "seed", seed)
    cdef uint64_t stream_word = _uint64(op, "stream", stream)
    cdef uint64_t offset_word = _uint64(op, "offset", offset)
    result = _new_vector(cnp.NPY_INT64, count, &rows)
    state = _release_gil(count)
    status = normcore_random_integers(context, seed_word, stream_word, offset_word, count, limit, <int64_t *>rows.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return result


def random_permutation(n, *, seed, stream=0, offset=0):
    """A permutation of 0 ... n-1 from a Philox4x32-10 stream (Fisher-Yates from the end).

    Parameters
    ----------
    n : int
    seed, stream, offset : int in [0, 2**64)

    Returns
    -------
    int64 ndarray (n,)

    Raises
    ------
    TypeError, ValueError
        An argument of a wrong kind, or out of its range.

    Examples
    --------
    >>> nc.random_permutation(8, seed=1).tolist()
    [1, 0, 6, 2, 3, 5, 4, 7]
    """
    cdef str op = "random_permutation"
    cdef Rows rows
    cdef normcore_status status
    cdef PyThreadState *state
    cdef size_t count = _count(op, n)
    cdef uint64_t seed_word = _uint64(op, "seed", seed)
    cdef uint64_t stream_word = _uint64(op, "stream", stream)
    cdef uint64_t offset_word = _uint64(op, "offset", offset)
    result = _new_vector(cnp.NPY_INT64, count, &rows)
    state = _release_gil(count)
    status = normcore_random_permutation(context, seed_word, stream_word, offset_word, count, <int64_t *>rows.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return result
