# Arrays: NumPy arrays as rows that C reads and writes, packed if need be; shapes, overlaps, results and `out`.
from libc.string cimport memset


cdef object FLOAT32 = np.dtype(np.float32)
cdef object FLOAT64 = np.dtype(np.float64)
cdef object INT64 = np.dtype(np.int64)


cdef extern from *:
    """
    /* Whether an array can change only where `distractions` counts: not where other threads run beside this one, or a
       tracer between its lines. */
    #if defined(Py_GIL_DISABLED) || defined(CYTHON_TRACE_NOGIL)
    #define NORMCORE_UNDISTURBED 0
    #else
    #define NORMCORE_UNDISTURBED 1
    #endif
    """
    const bint NORMCORE_UNDISTURBED

cdef extern from *:
    """
    /* An array without values. As PyArray_EMPTY, without a look at whether the elements are objects. */
    static CYTHON_INLINE PyObject *normcore_new_array(int t, int ndim, npy_intp *dims) {
        return PyArray_NewFromDescr(&PyArray_Type, PyArray_DescrFromType(t), ndim, dims, NULL, NULL, 0, NULL);
    }
    """
    cnp.ndarray normcore_new_array(int t, int ndim, cnp.npy_intp *dims)

# How often code that is not ours may have run, or another thread: arrays looked at before may be others now. Everything
# in this file that lets it run between _rows and _take adds one; whatever else may run it stands before the first _rows.
cdef size_t distractions = 1


cdef struct Rows:
    void *data
    size_t n       # rows: the product of the leading axes
    size_t d       # elements of a row
    size_t stride  # from one row to the next, in elements
    size_t seen    # `distractions` when the array was looked at; 0: never


cdef inline bint _is_contiguous(cnp.ndarray a, int t, Rows *rows) noexcept:
    """Whether `a` (at least 1-D) is C-contiguous and of type `t`, as nearly every array is; fills `rows` if so."""
    cdef int axis, last = cnp.PyArray_NDIM(a) - 1
    cdef cnp.npy_intp *dims = cnp.PyArray_DIMS(a)
    cdef size_t n = 1
    if last < 0 or cnp.PyArray_TYPE(a) != t or not cnp.PyArray_ISCARRAY_RO(a):
        return False
    for axis in range(last):
        n *= dims[axis]
    rows.data = cnp.PyArray_DATA(a)
    rows.n = n
    rows.d = dims[last]
    rows.stride = rows.d
    rows.seen = distractions
    return True


cdef bint _as_it_lies(cnp.ndarray a, int t, Rows *rows) noexcept:
    """Fills `rows`; whether C can use the memory of `a` (at least 1-D) as it lies."""
    cdef int axis, last = cnp.PyArray_NDIM(a) - 1
    cdef cnp.npy_intp *dims = cnp.PyArray_DIMS(a)
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(a)
    cdef cnp.npy_intp size = 4 if t == cnp.NPY_FLOAT else 8
    cdef cnp.npy_intp n = 1, step = 0, d
    cdef bint even = True  # one step leads from each row to the next
    if _is_contiguous(a, t, rows):
        return True
    if last < 0:
        memset(rows, 0, sizeof(Rows))
        return False
    d = dims[last]
    for axis in range(last - 1, -1, -1):
        if dims[axis] != 1:
            if n == 1:
                step = strides[axis]
            elif strides[axis] != step * n:
                even = False
            n *= dims[axis]
    rows.data = cnp.PyArray_DATA(a)
    rows.n = n
    rows.d = d
    rows.stride = d
    rows.seen = distractions
    if cnp.PyArray_TYPE(a) != t or not cnp.PyArray_ISALIGNED(a) or not cnp.PyArray_ISNOTSWAPPED(a):
        return False
    if d > 1 and strides[last] != size:
        return False
    if not even or step < d * size or step % size:
        return False
    rows.stride = step // size
    return True


cdef object _packed(object a, int t):
    """A copy of `a` that C can use."""
    global distractions
    a = np.array(a, dtype=FLOAT32 if t == cnp.NPY_FLOAT else FLOAT64, order="C", subok=False)
    distractions += 1
    return a


cdef inline object _rows(object a, int t, Rows *rows):
    """Fills `rows`. Returns what holds its memory: `a`, or a packed copy of type `t`."""
    return a if _is_contiguous(<cnp.ndarray>a, t, rows) else _other_rows(a, t, rows)


cdef object _other_rows(object a, int t, Rows *rows):
    if not _as_it_lies(<cnp.ndarray>a, t, rows):
        a = _packed(a, t)
        _as_it_lies(<cnp.ndarray>a, t, rows)
    return a


cdef int _changed(str op, str name) except -1:
    raise ValueError(f"{op}: {name} was given another shape, dtype or layout during the call")


cdef inline int _take(str op, str name, object a, int t, size_t n, size_t d, Rows *rows) except -1:
    """Makes sure of `rows` for the call of C that follows: n rows of d in the memory of `a`. ValueError if `a`, which C
    could use as it lay, has changed since. From the first of these to the call nothing adds to `distractions`."""
    if NORMCORE_UNDISTURBED and rows.seen == distractions and rows.n == n and rows.d == d:
        return 0
    return _look_again(op, name, a, t, n, d, rows)


cdef int _look_again(str op, str name, object a, int t, size_t n, size_t d, Rows *rows) except -1:
    if not _as_it_lies(<cnp.ndarray>a, t, rows) or rows.n != n or rows.d != d:
        _changed(op, name)
    return 0


cdef inline const double *_take_doubles(str op, str name, object a, size_t count) except? NULL:
    """As _take, for C-contiguous doubles of any shape."""
    if not (cnp.PyArray_TYPE(<cnp.ndarray>a) == cnp.NPY_DOUBLE and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>a)
            and <size_t>cnp.PyArray_SIZE(<cnp.ndarray>a) == count):
        _changed(op, name)
    return <const double *>cnp.PyArray_DATA(<cnp.ndarray>a)


cdef int _refuse(str op, str name, object a) except -1:
    """TypeError for what is no array of float32 or float64."""
    wanted = "it must be a NumPy array of float32 or float64"
    if isinstance(a, np.ma.MaskedArray):
        raise TypeError(f"{op}: {name} is a masked array, whose mask would be lost; {wanted}")
    if isinstance(a, np.ndarray):
        raise TypeError(f"{op}: {name} is an array of {a.dtype}; {wanted}")
    raise TypeError(f"{op}: {name} is a {type(a).__name__}; {wanted}")


cdef bint _is_array(object a) except -1:
    """Whether `a`, of another class than ndarray itself, is an array of which its elements say all."""
    global distractions
    if not cnp.PyArray_Check(a):
        return False
    distractions += 1  # the class may answer itself
    return not isinstance(a, np.ma.MaskedArray)


cdef inline int _type(str op, str name, object a, int min_ndim) except -1:
    """NPY_FLOAT or NPY_DOUBLE of an array. The greater of two is the type of an operation on both."""
    cdef int t
    if cnp.PyArray_CheckExact(a):
        t = cnp.PyArray_TYPE(<cnp.ndarray>a)
        if (t == cnp.NPY_FLOAT or t == cnp.NPY_DOUBLE) and cnp.PyArray_NDIM(<cnp.ndarray>a) >= min_ndim:
            return t
    return _unusual_type(op, name, a, min_ndim)


cdef int _unusual_type(str op, str name, object a, int min_ndim) except -1:
    """_type of whatever else there is."""
    cdef int t
    if not cnp.PyArray_CheckExact(a) and not _is_array(a):
        return _refuse(op, name, a)
    t = cnp.PyArray_TYPE(<cnp.ndarray>a)
    if t != cnp.NPY_FLOAT and t != cnp.NPY_DOUBLE:
        return _refuse(op, name, a)
    if cnp.PyArray_NDIM(<cnp.ndarray>a) < min_ndim:
        raise ValueError(f"{op}: {name} is {cnp.PyArray_NDIM(<cnp.ndarray>a)}-D with shape {a.shape}; "
                         f"it needs at least {min_ndim} {'axis' if min_ndim == 1 else 'axes'}")
    return t


cdef inline bint _dims_are(cnp.ndarray a, int ndim, const cnp.npy_intp *dims) noexcept:
    cdef int axis
    if cnp.PyArray_NDIM(a) != ndim:
        return False
    for axis in range(ndim):
        if cnp.PyArray_DIMS(a)[axis] != dims[axis]:
            return False
    return True


cdef tuple _leading(object a):
    """Lengths of all axes but the last."""
    return a.shape[:a.ndim - 1]


cdef inline int _same_shape(str op, str name, object a, str other_name, object other) except -1:
    if not _dims_are(<cnp.ndarray>a, cnp.PyArray_NDIM(<cnp.ndarray>other), cnp.PyArray_DIMS(<cnp.ndarray>other)):
        raise ValueError(f"{op}: {name} is {a.shape} but {other_name} is {other.shape}; they must have the same shape")
    return 0


cdef inline object _vector(str op, str name, object a, int t, str other_name, object other, size_t d, Rows *rows):
    """As _rows, for an array that must be (d,)."""
    if (cnp.PyArray_NDIM(<cnp.ndarray>a) == 1 and <size_t>cnp.PyArray_DIMS(<cnp.ndarray>a)[0] == d
            and _is_contiguous(<cnp.ndarray>a, t, rows)):
        return a
    return _other_vector(op, name, a, t, other_name, other, d, rows)


cdef object _other_vector(str op, str name, object a, int t, str other_name, object other, size_t d, Rows *rows):
    cdef cnp.npy_intp dim = <cnp.npy_intp>d
    if not _dims_are(<cnp.ndarray>a, 1, &dim):
        raise ValueError(f"{op}: {name} is {a.shape} but {other_name} is {other.shape}; {name} must be ({d},)")
    return _other_rows(a, t, rows)


cdef inline bint _has_rows_of(cnp.ndarray a, cnp.ndarray x) noexcept:
    """Whether the shape of `a` is that of x's leading axes."""
    return _dims_are(a, cnp.PyArray_NDIM(x) - 1, cnp.PyArray_DIMS(x))


cdef object _statistic(str op, str name, object a, object x, bint by_row):
    """A saved mean or rstd, one a row or one a column of x, as contiguous doubles."""
    cdef int last
    global distractions
    if not cnp.PyArray_Check(a):
        distractions += 1
        if isinstance(a, np.floating):
            a = np.asarray(a)  # 0-d arrays turn into scalars at the first arithmetic
    _type(op, name, a, 0)
    last = cnp.PyArray_NDIM(<cnp.ndarray>x) - 1
    if not (last >= 0 and (_has_rows_of(<cnp.ndarray>a, <cnp.ndarray>x) if by_row
                           else _dims_are(<cnp.ndarray>a, 1, cnp.PyArray_DIMS(<cnp.ndarray>x) + last))):
        raise ValueError(f"{op}: {name} is {a.shape} but x is {x.shape}; {name} must be "
                         f"{_leading(x) if by_row else x.shape[last:]}")
    if not (cnp.PyArray_TYPE(<cnp.ndarray>a) == cnp.NPY_DOUBLE and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>a)):
        a = _packed(a, cnp.NPY_DOUBLE)
    return a


cdef inline object _new(int t, cnp.ndarray like, size_t last, Rows *rows):
    """A new array of the leading axes of `like` and a last axis of `last`."""
    cdef cnp.npy_intp dims[64]  # NPY_MAXDIMS of NumPy 2
    cdef int axis, ndim = cnp.PyArray_NDIM(like)
    if ndim < 1:
        raise ValueError("an array was given another shape during the call")
    rows.n = 1
    for axis in range(ndim - 1):
        dims[axis] = cnp.PyArray_DIMS(like)[axis]
        rows.n *= dims[axis]
    dims[ndim - 1] = <cnp.npy_intp>last
    a = normcore_new_array(t, ndim, dims)
    rows.data = cnp.PyArray_DATA(<cnp.ndarray>a)
    rows.d = rows.stride = last
    rows.seen = distractions
    return a


cdef inline object _new_vector(int t, size_t d, Rows *rows):
    cdef cnp.npy_intp dim = <cnp.npy_intp>d
    a = normcore_new_array(t, 1, &dim)
    rows.data = cnp.PyArray_DATA(<cnp.ndarray>a)
    return a


cdef inline object _new_by_row(str op, str name, object x, size_t n, double **data):
    """A new array of doubles, one for each of the n rows of x."""
    cdef int axis, last = cnp.PyArray_NDIM(<cnp.ndarray>x) - 1
    cdef size_t count = 1
    for axis in range(last):
        count *= cnp.PyArray_DIMS(<cnp.ndarray>x)[axis]
    if last < 0 or count != n:
        _changed(op, name)
    a = normcore_new_array(cnp.NPY_DOUBLE, last, cnp.PyArray_DIMS(<cnp.ndarray>x))
    data[0] = <double *>cnp.PyArray_DATA(<cnp.ndarray>a)
    return a


cdef bint _overlaps_itself(object a):
    """Whether two elements may share memory. Exact for all that slicing, transposing and broadcasting make."""
    global distractions
    if cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>a):
        return False  # by far the usual case, and what follows costs a microsecond
    distractions += 1
    extent = a.itemsize
    for stride, dim in sorted((abs(stride), dim) for stride, dim in zip(a.strides, a.shape, strict=True) if dim > 1):
        if stride < extent:
            return True
        extent += stride * (dim - 1)
    return False


cdef inline object _target(str op, object out, int t, cnp.ndarray like, size_t last, Rows *rows, str name="out"):
    """The array to compute into, of the leading axes of `like` and a last axis of `last`: `out` where it is given and C
    can write it as it lies, else a new one, which _finish copies into `out`."""
    return _new(t, like, last, rows) if out is None else _given(op, out, t, like, last, rows, name)


cdef object _given(str op, object out, int t, cnp.ndarray like, size_t last, Rows *rows, str name):
    cdef int ndim = cnp.PyArray_NDIM(like)
    cdef cnp.npy_intp *dims
    if not cnp.PyArray_CheckExact(out) and not _is_array(out):
        raise TypeError(f"{op}: {name} is a {type(out).__name__}; it must be a NumPy array of {_name(t)}")
    if cnp.PyArray_TYPE(<cnp.ndarray>out) != t or not cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>out):
        raise ValueError(f"{op}: {name} is an array of {out.dtype} but the result is {_name(t)}")
    dims = cnp.PyArray_DIMS(<cnp.ndarray>out)
    if not (cnp.PyArray_NDIM(<cnp.ndarray>out) == ndim and <size_t>dims[ndim - 1] == last
            and _leading_match(<cnp.ndarray>out, like)):
        raise ValueError(f"{op}: {name} is {out.shape} but the result is {_leading(like) + (last,)}")
    if not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>out):
        raise ValueError(f"{op}: {name} is read-only")
    if _as_it_lies(<cnp.ndarray>out, t, rows):
        return out
    if _overlaps_itself(out):
        raise ValueError(f"{op}: {name} has elements that share memory (shape {out.shape}, strides {out.strides})")
    return _new(t, like, last, rows)


cdef inline bint _leading_match(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int axis
    for axis in range(cnp.PyArray_NDIM(a) - 1):
        if cnp.PyArray_DIMS(a)[axis] != cnp.PyArray_DIMS(b)[axis]:
            return False
    return True


cdef inline void _bounds(cnp.ndarray a, char **low, char **high) noexcept:
    """The bytes from *low up to *high hold all elements of `a`."""
    cdef int axis
    cdef cnp.npy_intp reach
    low[0] = cnp.PyArray_BYTES(a)
    high[0] = low[0] + cnp.PyArray_ITEMSIZE(a)
    for axis in range(cnp.PyArray_NDIM(a)):
        reach = (cnp.PyArray_DIMS(a)[axis] - 1) * cnp.PyArray_STRIDES(a)[axis]
        if cnp.PyArray_DIMS(a)[axis] == 0:
            high[0] = low[0]
            return
        if reach < 0:
            low[0] += reach
        else:
            high[0] += reach


cdef enum Sharing:
    APART      # an output must not overlap this argument
    IN_PLACE   # it may be this argument
    VIA_COPY   # it may be this argument, but C cannot compute in place


cdef bint _clash(str op, str out_name, object out, str name, object a, Sharing sharing) except -1:
    """Whether the result must be computed elsewhere and copied to `out`. ValueError where `out` overlaps `a` in a way
    that is not allowed."""
    cdef char *out_low
    cdef char *out_high
    cdef char *low
    cdef char *high
    global distractions
    if not cnp.PyArray_Check(a):
        return False
    _bounds(<cnp.ndarray>out, &out_low, &out_high)
    _bounds(<cnp.ndarray>a, &low, &high)
    if out_high <= low or high <= out_low or out_low == out_high or low == high:
        return False
    if (sharing != APART and cnp.PyArray_BYTES(<cnp.ndarray>out) == cnp.PyArray_BYTES(<cnp.ndarray>a)
            and cnp.PyArray_TYPE(<cnp.ndarray>out) == cnp.PyArray_TYPE(<cnp.ndarray>a)
            and _dims_are(<cnp.ndarray>a, cnp.PyArray_NDIM(<cnp.ndarray>out), cnp.PyArray_DIMS(<cnp.ndarray>out))
            and _strides_are(<cnp.ndarray>a, <cnp.ndarray>out)):
        return sharing == VIA_COPY
    distractions += 1
    if np.shares_memory(out, a):
        raise ValueError(f"{op}: {out_name} overlaps {name}" + ("" if sharing == APART else f" without being {name}"))
    return True  # interleaved, as two halves of a wider array: apart, but hard to see from C


cdef inline bint _strides_are(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int axis
    for axis in range(cnp.PyArray_NDIM(a)):
        if (cnp.PyArray_STRIDES(a)[axis] != cnp.PyArray_STRIDES(b)[axis] and cnp.PyArray_DIMS(a)[axis] != 1):
            return False
    return True


cdef inline object _finish(object out, object computed):
    if out is None:
        return computed
    if computed is not out:
        cnp.PyArray_CopyInto(<cnp.ndarray>out, <cnp.ndarray>computed)
    return out


cdef int _flat(str op, str name, object a, int t, size_t n, bint written, Rows *rows) except -1:
    """Fills `rows` from a flat array that C uses as it lies: 1-D, contiguous, of just this dtype and size."""
    cdef cnp.npy_intp dim = <cnp.npy_intp>n
    dtype = FLOAT32 if t == cnp.NPY_FLOAT else FLOAT64
    if not cnp.PyArray_CheckExact(a) and not _is_array(a):
        raise TypeError(f"{op}: {name} is a {type(a).__name__}; it must be a NumPy array of {dtype}")
    if cnp.PyArray_TYPE(<cnp.ndarray>a) != t:
        raise TypeError(f"{op}: {name} is an array of {a.dtype}; it must be {dtype}")
    if not _dims_are(<cnp.ndarray>a, 1, &dim):
        raise ValueError(f"{op}: {name} is {a.shape}; it must be ({n},)")
    if not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>a):
        raise ValueError(f"{op}: {name} must be contiguous, aligned and in native byte order")
    if written and not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>a):
        raise ValueError(f"{op}: {name} is read-only, but it is changed in place")
    _as_it_lies(<cnp.ndarray>a, t, rows)
    return 0
