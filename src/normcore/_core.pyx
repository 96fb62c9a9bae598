# cython: language_level=3, boundscheck=False, wraparound=False, binding=True, embedsignature=False
# cython: freethreading_compatible=True, autotestdict=False
"""The operations of the C library on NumPy arrays.

Each argument takes one of two ways. An array that C can read as it lies (right dtype, native byte order, aligned, unit
last stride, row stride of at least a row) is used as it is; anything else is packed once, or refused with an error that
names the operation, the argument and the shapes. Arguments are plain objects looked at through PyArray_* macros: typed
memoryviews cost ten times as much as everything else in a call on small arrays.

Converting a scalar, a list or an array may run anybody's Python code (__float__, __index__, __array__, a warning), and
lets other threads run: either may give an array that has been looked at another shape, dtype or memory. So each
operation converts first, compares shapes then, and looks at every array a last time (_take) in a stretch without Python
code that ends in the call of C. What stays open is open in NumPy too: ``ndarray.resize(..., refcheck=False)`` in
another thread frees memory that is in use.
"""
import math
import os
import sys
from collections.abc import Mapping
from functools import partial
from operator import index as _as_index

import numpy as np

cimport numpy as cnp
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from libc.math cimport fabs, isfinite
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport free, getenv, malloc
from libc.string cimport memcpy, memset

from normcore.c_api cimport *

cnp.import_array()


cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass
    PyThreadState *PyEval_SaveThread() noexcept nogil
    void PyEval_RestoreThread(PyThreadState *state) noexcept nogil


cdef extern from *:
    """
    /* What threadpoolctl tells this extension by from others of its name. */
    #if defined(__GNUC__)
    __attribute__((visibility("default")))
    #endif
    extern const int normcore_python_extension;
    const int normcore_python_extension = 1;

    /* Lines are traced with the GIL, which a build for coverage therefore never gives away. */
    #ifdef CYTHON_TRACE_NOGIL
    #define NORMCORE_GIL_WORK HUGE_VAL
    #else
    #define NORMCORE_GIL_WORK 16384.0
    #endif
    """
    const double NORMCORE_GIL_WORK

cdef extern from *:
    """
    #ifdef _WIN32 /* has no more to a signal's handler than signal() sets */
    typedef int normcore_action;
    static int normcore_get_action(int number, normcore_action *action) { (void)number; *action = 0; return -1; }
    static int normcore_set_action(int number, const normcore_action *action) { (void)number; return *action; }
    #else
    #include <signal.h>
    typedef struct sigaction normcore_action;
    static int normcore_get_action(int number, normcore_action *action) { return sigaction(number, NULL, action); }
    static int normcore_set_action(int number, const normcore_action *action) { return sigaction(number, action, NULL); }
    #endif
    """
    ctypedef struct normcore_action:
        pass
    int normcore_get_action(int number, normcore_action *action) noexcept
    int normcore_set_action(int number, const normcore_action *action) noexcept

cdef object FLOAT32 = np.dtype(np.float32)
cdef object FLOAT64 = np.dtype(np.float64)
cdef object INT64 = np.dtype(np.int64)

# Giving the GIL away and taking it back costs 50 ns: a twentieth of the work of this many elements.
cdef double GIL_WORK = NORMCORE_GIL_WORK

# From here on a double rounds to infinity in float32, up to there to 0, from there on to 1; and the greatest float32.
cdef double FLOAT32_OVERFLOW = (2.0 - 2.0 ** -24) * 2.0 ** 127
cdef double FLOAT32_UNDERFLOW = 2.0 ** -150
cdef double FLOAT32_ONE = 1.0 - 2.0 ** -25
cdef double LEAST_KEEP = 2.0 ** -32

# One context for the process. Busy in one thread, it serves a second one serially, so no thread needs its own.
cdef normcore_context *context = NULL


# ------------------------------------------------------------------------------------------------ errors and scalars

cdef int _fail(str op, normcore_status status) except -1:
    """Raises the exception of a status. The one place where the two meet."""
    cdef str text = normcore_strerror(status).decode("ascii")
    if status == NORMCORE_ERROR_MEMORY:
        raise MemoryError(f"{op}: {text}")
    if status == NORMCORE_ERROR_ENVIRONMENT_ISA:
        raise ValueError(f"{op}: {_environment('NORMCORE_ISA')}, which is no instruction set of this build and machine; "
                         f"available: {', '.join(available_isas())}")
    if status == NORMCORE_ERROR_ENVIRONMENT_THREADS:
        raise ValueError(f"{op}: {_environment('NORMCORE_NUM_THREADS')}; it must be an integer in "
                         f"[1, {NORMCORE_MAX_THREADS}]")
    if status in (NORMCORE_ERROR_NULL, NORMCORE_ERROR_SIZE, NORMCORE_ERROR_STRIDE, NORMCORE_ERROR_ALIAS,
                  NORMCORE_ERROR_VALUE, NORMCORE_ERROR_LABEL, NORMCORE_ERROR_WEIGHT, NORMCORE_ERROR_ISA):
        raise ValueError(f"{op}: {text}")
    raise RuntimeError(f"{op}: {text}")


cdef str _environment(str name):
    """What C has read, of which os.environ need not know."""
    cdef bytes key = name.encode("ascii")
    cdef const char *value = getenv(key)
    return f"the environment variable {name} is {None if value == NULL else os.fsdecode(value)!r}"


cdef double _real(str op, str name, object value) except? -1.0:
    if PyFloat_CheckExact(value):
        return PyFloat_AS_DOUBLE(value)
    try:
        return <double>value
    except TypeError:
        raise TypeError(f"{op}: {name} is a {type(value).__name__}; it must be a real number") from None
    except OverflowError:
        raise ValueError(f"{op}: {name} is {value!r}; it must be finite") from None


cdef double _not_negative(str op, str name, object value) except? -1.0:
    cdef double real = _real(op, name, value)
    if not (isfinite(real) and real >= 0.0):
        raise ValueError(f"{op}: {name} is {value!r}; it must be finite and not negative")
    return real


cdef double _finite(str op, str name, object value) except? -1.0:
    cdef double real = _real(op, name, value)
    if not isfinite(real):
        raise ValueError(f"{op}: {name} is {value!r}; it must be finite")
    return real


cdef double _fraction(str op, str name, object value) except? -1.0:
    cdef double real = _real(op, name, value)
    if not 0.0 <= real <= 1.0:
        raise ValueError(f"{op}: {name} is {value!r}; it must be in [0, 1]")
    return real


# Scalars that kernels take in the dtype `t` are judged after rounding to it. C does the same; here they get a name.

cdef double _below_one(str op, str name, object value, int t) except? -1.0:
    cdef double real = _real(op, name, value)
    if not 0.0 <= real < 1.0:
        raise ValueError(f"{op}: {name} is {value!r}; it must be in [0, 1)")
    if t == cnp.NPY_FLOAT and real >= FLOAT32_ONE:
        raise ValueError(f"{op}: {name} is {value!r}, which is 1 in float32; it must be in [0, 1)")
    return real


cdef double _greatest(int t) noexcept:
    return FLT_MAX if t == cnp.NPY_FLOAT else DBL_MAX


cdef inline bint _is_infinite(double real, int t) noexcept:
    return not (fabs(real) < FLOAT32_OVERFLOW if t == cnp.NPY_FLOAT else isfinite(real))


cdef int _check_fit(str op, str what, object value, double real, int t) except -1:
    """ValueError where `real`, given as `value` (None: computed), is infinite in the dtype."""
    if _is_infinite(real, t):
        raise ValueError(f"{op}: {what} is {real if value is None else value!r}; it must be finite in {_name(t)}, at "
                         f"most {_greatest(t):.8g}")
    return 0


cdef int _check_use(str op, str name, object value, double real, int t) except -1:
    """_check_fit, and ValueError where `real` is not 0, but is in the dtype, where 0 would do something else."""
    _check_fit(op, name, value, real, t)
    if t == cnp.NPY_FLOAT and real != 0.0 and fabs(real) <= FLOAT32_UNDERFLOW:
        raise ValueError(f"{op}: {name} is {value!r}, which is 0 in float32; it must be 0 or at least 1e-45 there")
    return 0


cdef double _epsilon(str op, object value, int t) except? -1.0:
    """The eps of a norm: with less than that 1 / sqrt(eps), by which a constant line is multiplied, may overflow."""
    cdef double real = _not_negative(op, "eps", value)
    cdef double least = FLT_MIN if t == cnp.NPY_FLOAT else DBL_MIN
    if 0.0 < real < least:
        raise ValueError(f"{op}: eps is {value!r}; it must be 0 or at least {least:.8g}, the least normal {_name(t)}")
    return real


cdef str _name(int t):
    return "float32" if t == cnp.NPY_FLOAT else "float64"


cdef double _keep(str op, object value) except? -1.0:
    cdef double real = _real(op, "keep", value)
    if not LEAST_KEEP <= real <= 1.0:
        raise ValueError(f"{op}: keep is {value!r}; it is the probability to keep an element and must be in "
                         f"[2**-32, 1]")
    return real


cdef extern from "<float.h>":
    const double FLT_MAX
    const double FLT_MIN
    const double DBL_MAX
    const double DBL_MIN


cdef object _integer(str op, str name, object value, object low, object high):
    """value as an int of [low, high]."""
    try:
        number = _as_index(value)
    except TypeError:
        raise TypeError(f"{op}: {name} is a {type(value).__name__}; it must be an integer") from None
    if not low <= number <= high:
        raise ValueError(f"{op}: {name} is {number}; it must be in [{low}, {high}]")
    return number


cdef uint64_t _uint64(str op, str name, object value) except? 0:
    return _integer(op, name, value, 0, 0xFFFFFFFFFFFFFFFF)


cdef cnp.npy_intp _count(str op, object n) except -1:
    return _integer(op, "n", n, 0, sys.maxsize)


cdef int _dtype(str op, object dtype) except -1:
    """NPY_FLOAT or NPY_DOUBLE of a dtype argument."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is not None and dtype is not None:
        if found == FLOAT32:
            return cnp.NPY_FLOAT
        if found == FLOAT64:
            return cnp.NPY_DOUBLE
    raise TypeError(f"{op}: dtype is {dtype!r}; it must be float32 or float64")


# ------------------------------------------------------------------------------------------------ arrays

cdef struct Rows:
    char *data
    size_t n       # rows: the product of the leading axes
    size_t d       # elements of a row
    size_t stride  # from one row to the next, in elements


cdef inline bint _as_it_lies(cnp.ndarray a, int t, Rows *rows) noexcept:
    """Fills `rows`; whether C can use the memory of `a` (at least 1-D) as it lies."""
    cdef int axis, last = cnp.PyArray_NDIM(a) - 1
    cdef cnp.npy_intp *dims = cnp.PyArray_DIMS(a)
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(a)
    cdef cnp.npy_intp size = 4 if t == cnp.NPY_FLOAT else 8
    cdef cnp.npy_intp n = 1, step = 0, d
    cdef bint even = True  # one step leads from each row to the next
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
    rows.data = cnp.PyArray_BYTES(a)
    rows.n = n
    rows.d = d
    rows.stride = d
    if cnp.PyArray_TYPE(a) != t or not cnp.PyArray_ISALIGNED(a) or not cnp.PyArray_ISNOTSWAPPED(a):
        return False
    if n == 0 or d == 0:
        return True
    if d > 1 and strides[last] != size:
        return False
    if n == 1:
        return True
    if not even or step < d * size or step % size:
        return False
    rows.stride = step // size
    return True


cdef object _rows(object a, int t, Rows *rows):
    """Fills `rows`. Returns what holds its memory: `a`, or a packed copy of type `t`."""
    if not _as_it_lies(<cnp.ndarray>a, t, rows):
        a = np.array(a, dtype=FLOAT32 if t == cnp.NPY_FLOAT else FLOAT64, order="C", subok=False)
        _as_it_lies(<cnp.ndarray>a, t, rows)
    return a


cdef int _changed(str op, str name) except -1:
    raise ValueError(f"{op}: {name} was given another shape, dtype or layout during the call")


cdef inline int _take(str op, str name, object a, int t, size_t n, size_t d, Rows *rows) except -1:
    """Fills `rows` for the call of C that follows. ValueError if `a`, which C could use as it lay, is no longer n rows of
    d. From the first of these to the call no Python code runs: this is where pointers come from."""
    cdef int ndim = cnp.PyArray_NDIM(<cnp.ndarray>a)
    cdef cnp.npy_intp *dims = cnp.PyArray_DIMS(<cnp.ndarray>a)
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(<cnp.ndarray>a)
    cdef cnp.npy_intp size = 4 if t == cnp.NPY_FLOAT else 8
    # At a glance, whether `rows` says of a vector or matrix what the array says: a third of the work of looking anew.
    if (cnp.PyArray_TYPE(<cnp.ndarray>a) == t and rows.data == cnp.PyArray_BYTES(<cnp.ndarray>a) and rows.n == n
            and rows.d == d and ndim != 0 and strides[ndim - 1] == size and <size_t>dims[ndim - 1] == d):
        if ndim == 2 and <size_t>dims[0] == n and strides[0] == <cnp.npy_intp>rows.stride * size:
            return 0
        if ndim == 1 and n == 1 and rows.stride == d:
            return 0
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


cdef inline int _type(str op, str name, object a, int min_ndim) except -1:
    """NPY_FLOAT or NPY_DOUBLE of an array. The greater of two is the type of an operation on both."""
    cdef int t
    if not cnp.PyArray_CheckExact(a):
        if not cnp.PyArray_Check(a) or isinstance(a, np.ma.MaskedArray):
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


cdef object _vector(str op, str name, object a, int t, str other_name, object other, size_t d, Rows *rows):
    """As _rows, for an array that must be (d,)."""
    cdef cnp.npy_intp dim = <cnp.npy_intp>d
    if not _dims_are(<cnp.ndarray>a, 1, &dim):
        raise ValueError(f"{op}: {name} is {a.shape} but {other_name} is {other.shape}; {name} must be ({d},)")
    return _rows(a, t, rows)


cdef inline bint _has_rows_of(cnp.ndarray a, cnp.ndarray x) noexcept:
    """Whether the shape of `a` is that of x's leading axes."""
    return _dims_are(a, cnp.PyArray_NDIM(x) - 1, cnp.PyArray_DIMS(x))


cdef object _statistic(str op, str name, object a, object x, bint by_row):
    """A saved mean or rstd, one a row or one a column of x, as contiguous doubles."""
    cdef int last
    if not cnp.PyArray_Check(a) and isinstance(a, np.floating):
        a = np.asarray(a)  # 0-d arrays turn into scalars at the first arithmetic
    _type(op, name, a, 0)
    last = cnp.PyArray_NDIM(<cnp.ndarray>x) - 1
    if not (last >= 0 and (_has_rows_of(<cnp.ndarray>a, <cnp.ndarray>x) if by_row
                           else _dims_are(<cnp.ndarray>a, 1, cnp.PyArray_DIMS(<cnp.ndarray>x) + last))):
        raise ValueError(f"{op}: {name} is {a.shape} but x is {x.shape}; {name} must be "
                         f"{_leading(x) if by_row else x.shape[-1:]}")
    if not (cnp.PyArray_TYPE(<cnp.ndarray>a) == cnp.NPY_DOUBLE and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>a)):
        a = np.array(a, dtype=FLOAT64, order="C", subok=False)
    return a


cdef inline object _new(int t, cnp.ndarray like, size_t last, Rows *rows):
    """A new array of the leading axes of `like` and a last axis of `last`."""
    cdef cnp.npy_intp dims[64]  # NPY_MAXDIMS of NumPy 2
    cdef int ndim = cnp.PyArray_NDIM(like)
    if ndim < 1:
        raise ValueError("an array was given another shape during the call")
    memcpy(dims, cnp.PyArray_DIMS(like), ndim * sizeof(cnp.npy_intp))
    dims[ndim - 1] = <cnp.npy_intp>last
    a = cnp.PyArray_EMPTY(ndim, dims, t, 0)
    _as_it_lies(<cnp.ndarray>a, t, rows)
    return a


cdef inline object _new_vector(int t, size_t d, Rows *rows):
    cdef cnp.npy_intp dim = <cnp.npy_intp>d
    a = cnp.PyArray_EMPTY(1, &dim, t, 0)
    rows.data = cnp.PyArray_BYTES(<cnp.ndarray>a)
    return a


cdef bint _overlaps_itself(object a):
    """Whether two elements may share memory. Exact for all that slicing, transposing and broadcasting make."""
    if cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>a):
        return False  # by far the usual case, and what follows costs a microsecond
    extent = a.itemsize
    for stride, dim in sorted((abs(stride), dim) for stride, dim in zip(a.strides, a.shape, strict=True) if dim > 1):
        if stride < extent:
            return True
        extent += stride * (dim - 1)
    return False


cdef object _target(str op, object out, int t, cnp.ndarray like, size_t last, Rows *rows, str name="out"):
    """The array to compute into, of the leading axes of `like` and a last axis of `last`: `out` where it is given and C
    can write it as it lies, else a new one, which _finish copies into `out`."""
    cdef int ndim = cnp.PyArray_NDIM(like)
    cdef cnp.npy_intp *dims
    if out is None:
        return _new(t, like, last, rows)
    dtype = FLOAT32 if t == cnp.NPY_FLOAT else FLOAT64
    if not cnp.PyArray_CheckExact(out) and (not cnp.PyArray_Check(out) or isinstance(out, np.ma.MaskedArray)):
        raise TypeError(f"{op}: {name} is a {type(out).__name__}; it must be a NumPy array of {dtype}")
    if cnp.PyArray_TYPE(<cnp.ndarray>out) != t or not cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>out):
        raise ValueError(f"{op}: {name} is an array of {out.dtype} but the result is {dtype}")
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


# Between these two no Python object is touched. The pair instead of `with nogil`: it can depend on the work without a
# second copy of each call.
cdef inline PyThreadState *_release_gil(double work) noexcept nogil:
    return PyEval_SaveThread() if work >= GIL_WORK else NULL


cdef inline void _restore_gil(PyThreadState *state) noexcept nogil:
    if state != NULL:
        PyEval_RestoreThread(state)


# ------------------------------------------------------------------------------------------------ affine

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


# ------------------------------------------------------------------------------------------------ activations, softmax

ctypedef normcore_status (*map_f32)(normcore_context *, size_t, size_t, const float *, size_t, float *,
                                    size_t) noexcept nogil
ctypedef normcore_status (*map_f64)(normcore_context *, size_t, size_t, const double *, size_t, double *,
                                    size_t) noexcept nogil
ctypedef normcore_status (*map2_f32)(normcore_context *, size_t, size_t, const float *, size_t, const float *, size_t,
                                     float *, size_t) noexcept nogil
ctypedef normcore_status (*map2_f64)(normcore_context *, size_t, size_t, const double *, size_t, const double *, size_t,
                                     double *, size_t) noexcept nogil


cdef object _map(str op, map_f32 f32, map_f64 f64, object x, object out,
                 normcore_activation activation=NORMCORE_ACTIVATION_RELU, double slope=0.0):
    """y = f(x), row by row; the activation where the f are NULL."""
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
    if f32 == NULL:
        if t == cnp.NPY_FLOAT:
            status = normcore_activation_forward_f32(context, activation, slope, xr.n, xr.d, <const float *>xr.data,
                                                     xr.stride, <float *>yr.data, yr.stride)
        else:
            status = normcore_activation_forward_f64(context, activation, slope, xr.n, xr.d, <const double *>xr.data,
                                                     xr.stride, <double *>yr.data, yr.stride)
    elif t == cnp.NPY_FLOAT:
        status = f32(context, xr.n, xr.d, <const float *>xr.data, xr.stride, <float *>yr.data, yr.stride)
    else:
        status = f64(context, xr.n, xr.d, <const double *>xr.data, xr.stride, <double *>yr.data, yr.stride)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return _finish(out, y)


cdef object _map2(str op, map2_f32 f32, map2_f64 f64, object dy, object y, object out, str y_name="y",
                  normcore_activation activation=NORMCORE_ACTIVATION_RELU, double slope=0.0):
    """dx = f(dy, y), row by row; the activation's gradient where the f are NULL. The caller knows y as `y_name`."""
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
    if f32 == NULL:
        if t == cnp.NPY_FLOAT:
            status = normcore_activation_backward_f32(
                context, activation, slope, yr.n, yr.d, <const float *>dyr.data, dyr.stride, <const float *>yr.data,
                yr.stride, <float *>dxr.data, dxr.stride)
        else:
            status = normcore_activation_backward_f64(
                context, activation, slope, yr.n, yr.d, <const double *>dyr.data, dyr.stride, <const double *>yr.data,
                yr.stride, <double *>dxr.data, dxr.stride)
    elif t == cnp.NPY_FLOAT:
        status = f32(context, yr.n, yr.d, <const float *>dyr.data, dyr.stride, <const float *>yr.data, yr.stride,
                     <float *>dxr.data, dxr.stride)
    else:
        status = f64(context, yr.n, yr.d, <const double *>dyr.data, dyr.stride, <const double *>yr.data, yr.stride,
                     <double *>dxr.data, dxr.stride)
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
    """
    return _map("relu_forward", NULL, NULL, x, out, NORMCORE_ACTIVATION_RELU)


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
    """
    return _map2("relu_backward", NULL, NULL, dy, y, out, "y", NORMCORE_ACTIVATION_RELU)


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
    """
    return _map("leaky_relu_forward", NULL, NULL, x, out, NORMCORE_ACTIVATION_LEAKY_RELU,
                _fraction("leaky_relu_forward", "slope", slope))


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
    """
    return _map2("leaky_relu_backward", NULL, NULL, dy, y, out, "y", NORMCORE_ACTIVATION_LEAKY_RELU,
                 _fraction("leaky_relu_backward", "slope", slope))


def tanh_forward(x, *, out=None):
    """Hyperbolic tangent, within 2 units in the last place; ``tanh_forward(-x)`` is exactly ``-tanh_forward(x)``.

    Parameters and errors are those of `relu_forward`.
    """
    return _map("tanh_forward", NULL, NULL, x, out, NORMCORE_ACTIVATION_TANH)


def tanh_backward(dy, y, *, out=None):
    """Gradient of tanh: ``dy * (1 - y**2)``.

    `y` is the output of `tanh_forward`. Parameters and errors are those of `relu_backward`.
    """
    return _map2("tanh_backward", NULL, NULL, dy, y, out, "y", NORMCORE_ACTIVATION_TANH)


def logistic_forward(x, *, out=None):
    """Logistic function (sigmoid), ``1 / (1 + exp(-x))``, within 2 units in the last place.

    Small results keep their digits: there is no overflow, and subnormal results are right.
    Parameters and errors are those of `relu_forward`.
    """
    return _map("logistic_forward", NULL, NULL, x, out, NORMCORE_ACTIVATION_LOGISTIC)


def logistic_backward(dy, y, *, out=None):
    """Gradient of the logistic function: ``dy * y * (1 - y)``.

    `y` is the output of `logistic_forward`. Parameters and errors are those of `relu_backward`.
    """
    return _map2("logistic_backward", NULL, NULL, dy, y, out, "y", NORMCORE_ACTIVATION_LOGISTIC)


def silu_forward(x, *, out=None):
    """Sigmoid linear unit (swish), ``x / (1 + exp(-x))``, within 2 units in the last place; -0 for -inf, its limit.

    Parameters and errors are those of `relu_forward`.
    """
    return _map("silu_forward", NULL, NULL, x, out, NORMCORE_ACTIVATION_SILU)


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
    """
    return _map2("silu_backward", NULL, NULL, dy, x, out, "x", NORMCORE_ACTIVATION_SILU)


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
    """
    return _map("softmax", normcore_softmax_f32, normcore_softmax_f64, x, out)


def log_softmax(x, *, out=None):
    """Logarithm of softmax of each row: ``(x - max(x)) - log(sum(exp(x - max(x))))``.

    Parameters, special rows and errors are those of `softmax`.
    """
    return _map("log_softmax", normcore_log_softmax_f32, normcore_log_softmax_f64, x, out)


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
    """
    return _map2("softmax_backward", normcore_softmax_backward_f32, normcore_softmax_backward_f64, dy, y, out)


def log_softmax_backward(dy, y, *, out=None):
    """Gradient of log-softmax: ``dy - exp(y) * sum(dy)``, the sum along each row.

    `y` is the output of `log_softmax`. Parameters and errors are those of `softmax_backward`.
    """
    return _map2("log_softmax_backward", normcore_log_softmax_backward_f32, normcore_log_softmax_backward_f64, dy, y,
                 out)


# ------------------------------------------------------------------------------------------------ cross-entropy

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
    cdef Rows zr, dzr
    cdef Goal goal
    cdef normcore_status status
    cdef PyThreadState *state
    cdef double loss = 0.0, weight_sum = 0.0
    cdef double *losses = &loss
    cdef size_t bad = 0
    cdef int t = _type("softmax_cross_entropy", "logits", logits, 2)
    cdef size_t c = cnp.PyArray_DIMS(<cnp.ndarray>logits)[cnp.PyArray_NDIM(<cnp.ndarray>logits) - 1]
    labels_held = _labels("softmax_cross_entropy", labels, "logits", logits, c)
    if _are_targets(labels_held):
        t = max(t, cnp.PyArray_TYPE(<cnp.ndarray>labels_held))
    held = _goal("softmax_cross_entropy", labels_held, "logits", logits, t, c, class_weight, sample_weight,
                 label_smoothing, ignore_index, reduction, &goal)
    logits_held = _rows(logits, t, &zr)
    if c == 0 and zr.n > 0:
        raise ValueError(f"softmax_cross_entropy: logits is {logits.shape}; there must be at least one class")
    dlogits = _new(t, <cnp.ndarray>logits, c, &dzr)
    result = None
    if goal.options.reduction == NORMCORE_REDUCTION_NONE:
        result = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(<cnp.ndarray>logits) - 1, cnp.PyArray_DIMS(<cnp.ndarray>logits),
                                   cnp.NPY_DOUBLE, 0)
    _take_goal("softmax_cross_entropy", held, t, zr.n, c, &goal)
    _take("softmax_cross_entropy", "logits", logits_held, t, zr.n, c, &zr)
    _take("softmax_cross_entropy", "dlogits", dlogits, t, zr.n, c, &dzr)
    if result is not None:
        losses = <double *>_take_doubles("softmax_cross_entropy", "loss", result, zr.n)
    state = _release_gil(<double>zr.n * zr.d)
    if t == cnp.NPY_FLOAT:
        status = normcore_cross_entropy_f32(
            context, zr.n, c, <const float *>zr.data, zr.stride, goal.labels, <const float *>goal.targets.data,
            goal.targets.stride, &goal.options, losses, <float *>dzr.data, dzr.stride, &weight_sum, &bad)
    else:
        status = normcore_cross_entropy_f64(
            context, zr.n, c, <const double *>zr.data, zr.stride, goal.labels, <const double *>goal.targets.data,
            goal.targets.stride, &goal.options, losses, <double *>dzr.data, dzr.stride, &weight_sum, &bad)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _bad_goal("softmax_cross_entropy", status, t, c, held, &goal, bad)
    return (loss if result is None else result), dlogits, weight_sum


# ------------------------------------------------------------------------------------------------ batch normalisation

cdef object _running(str op, str name, object a, int t, object x, size_t d, bint written, Rows *rows):
    """A running statistic. Returns what holds the memory of `rows`: `a`, or a packed copy of it."""
    cdef cnp.npy_intp dim = <cnp.npy_intp>d
    dtype = FLOAT32 if t == cnp.NPY_FLOAT else FLOAT64
    if not cnp.PyArray_Check(a) or isinstance(a, np.ma.MaskedArray):
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
    """
    cdef Rows xr, gr, br, yr, rmr, rvr, mr, sr
    cdef normcore_batch_norm_options options
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = max(_type("batch_norm_forward", "x", x, 2), _type("batch_norm_forward", "gamma", gamma, 0),
                     _type("batch_norm_forward", "beta", beta, 0))
    normcore_batch_norm_defaults(&options, sizeof(options))
    options.training = training
    options.momentum = _fraction("batch_norm_forward", "momentum", momentum)
    options.eps = _epsilon("batch_norm_forward", eps, t)
    options.unbiased_running_var = unbiased_running_var
    x_held = _rows(x, t, &xr)
    gamma_held = _vector("batch_norm_forward", "gamma", gamma, t, "x", x, xr.d, &gr)
    beta_held = _vector("batch_norm_forward", "beta", beta, t, "x", x, xr.d, &br)
    rmr.data = rvr.data = NULL
    rm_held = rv_held = None
    if (running_mean is None) != (running_var is None):
        missing, given = ("mean", "var") if running_mean is None else ("var", "mean")
        raise ValueError(f"batch_norm_forward: running_{given} is given but running_{missing} is not; give both or "
                         f"neither")
    if running_mean is None:
        if not training:
            raise ValueError("batch_norm_forward: training is False, which needs running_mean and running_var")
    else:
        rm_held = _running("batch_norm_forward", "running_mean", running_mean, t, x, xr.d, training, &rmr)
        rv_held = _running("batch_norm_forward", "running_var", running_var, t, x, xr.d, training, &rvr)
        if training:
            if (_clash("batch_norm_forward", "running_mean", running_mean, "x", x, APART)
                    | _clash("batch_norm_forward", "running_mean", running_mean, "gamma", gamma, APART)
                    | _clash("batch_norm_forward", "running_mean", running_mean, "beta", beta, APART)
                    | _clash("batch_norm_forward", "running_mean", running_mean, "running_var", running_var, APART)):
                rm_held = _rows(np.array(running_mean), t, &rmr)
            if (_clash("batch_norm_forward", "running_var", running_var, "x", x, APART)
                    | _clash("batch_norm_forward", "running_var", running_var, "gamma", gamma, APART)
                    | _clash("batch_norm_forward", "running_var", running_var, "beta", beta, APART)):
                rv_held = _rows(np.array(running_var), t, &rvr)
    y = _target("batch_norm_forward", out, t, <cnp.ndarray>x, xr.d, &yr)
    if out is not None:
        if (_clash("batch_norm_forward", "out", out, "x", x, IN_PLACE)
                | _clash("batch_norm_forward", "out", out, "gamma", gamma, APART)
                | _clash("batch_norm_forward", "out", out, "beta", beta, APART)
                | _clash("batch_norm_forward", "out", out, "running_mean", running_mean, APART)
                | _clash("batch_norm_forward", "out", out, "running_var", running_var, APART)):
            y = _new(t, <cnp.ndarray>x, xr.d, &yr)
    mean = _new_vector(cnp.NPY_DOUBLE, xr.d, &mr)
    rstd = _new_vector(cnp.NPY_DOUBLE, xr.d, &sr)
    _take("batch_norm_forward", "x", x_held, t, xr.n, xr.d, &xr)
    _take("batch_norm_forward", "gamma", gamma_held, t, 1, xr.d, &gr)
    _take("batch_norm_forward", "beta", beta_held, t, 1, xr.d, &br)
    if running_mean is not None:
        _take("batch_norm_forward", "running_mean", rm_held, t, 1, xr.d, &rmr)
        _take("batch_norm_forward", "running_var", rv_held, t, 1, xr.d, &rvr)
    _take("batch_norm_forward", "out", y, t, xr.n, xr.d, &yr)
    state = _release_gil(<double>xr.n * xr.d)
    if t == cnp.NPY_FLOAT:
        status = normcore_batch_norm_forward_f32(
            context, xr.n, xr.d, <const float *>xr.data, xr.stride, <const float *>gr.data, <const float *>br.data,
            &options, <float *>rmr.data, <float *>rvr.data, <float *>yr.data, yr.stride, <double *>mr.data,
            <double *>sr.data)
    else:
        status = normcore_batch_norm_forward_f64(
            context, xr.n, xr.d, <const double *>xr.data, xr.stride, <const double *>gr.data, <const double *>br.data,
            &options, <double *>rmr.data, <double *>rvr.data, <double *>yr.data, yr.stride, <double *>mr.data,
            <double *>sr.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        if status == NORMCORE_ERROR_VALUE and running_var is not None:
            _check_variance("batch_norm_forward", "running_var", rv_held)
        _fail("batch_norm_forward", status)
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
    """
    cdef Rows dyr, xr, gr, dxr, dgr, dbr
    cdef const double *mean_data
    cdef const double *rstd_data
    cdef normcore_batch_norm_algorithm chosen
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = max(_type("batch_norm_backward", "dy", dy, 2), _type("batch_norm_backward", "x", x, 2),
                     _type("batch_norm_backward", "gamma", gamma, 0))
    if algorithm == "fused":
        chosen = NORMCORE_BATCH_NORM_FUSED
    elif algorithm == "graph":
        chosen = NORMCORE_BATCH_NORM_GRAPH
    else:
        raise ValueError(f"batch_norm_backward: algorithm is {algorithm!r}; it must be 'fused' or 'graph'")
    _same_shape("batch_norm_backward", "dy", dy, "x", x)
    dy_held = _rows(dy, t, &dyr)
    x_held = _rows(x, t, &xr)
    gamma_held = _vector("batch_norm_backward", "gamma", gamma, t, "x", x, xr.d, &gr)
    mean_held = _statistic("batch_norm_backward", "mean", mean, x, False)
    rstd_held = _statistic("batch_norm_backward", "rstd", rstd, x, False)
    dx = _new(t, <cnp.ndarray>x, xr.d, &dxr)
    dgamma = _new_vector(t, xr.d, &dgr)
    dbeta = _new_vector(t, xr.d, &dbr)
    _take("batch_norm_backward", "dy", dy_held, t, xr.n, xr.d, &dyr)
    _take("batch_norm_backward", "x", x_held, t, xr.n, xr.d, &xr)
    _take("batch_norm_backward", "gamma", gamma_held, t, 1, xr.d, &gr)
    _take("batch_norm_backward", "dx", dx, t, xr.n, xr.d, &dxr)
    mean_data = _take_doubles("batch_norm_backward", "mean", mean_held, xr.d)
    rstd_data = _take_doubles("batch_norm_backward", "rstd", rstd_held, xr.d)
    state = _release_gil(<double>xr.n * xr.d)
    if t == cnp.NPY_FLOAT:
        status = normcore_batch_norm_backward_f32(
            context, xr.n, xr.d, <const float *>dyr.data, dyr.stride, <const float *>xr.data, xr.stride,
            <const float *>gr.data, mean_data, rstd_data, training, chosen, <float *>dxr.data, dxr.stride,
            <float *>dgr.data, <float *>dbr.data)
    else:
        status = normcore_batch_norm_backward_f64(
            context, xr.n, xr.d, <const double *>dyr.data, dyr.stride, <const double *>xr.data, xr.stride,
            <const double *>gr.data, mean_data, rstd_data, training, chosen, <double *>dxr.data, dxr.stride,
            <double *>dgr.data, <double *>dbr.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail("batch_norm_backward", status)
    return dx, dgamma, dbeta


# ------------------------------------------------------------------------------------------------ layer normalisation

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
    """
    cdef Rows xr, gr, br, yr
    cdef double *mean_data
    cdef double *rstd_data
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int ndim
    cdef int t = max(_type("layer_norm_forward", "x", x, 1), _type("layer_norm_forward", "gamma", gamma, 0),
                     _type("layer_norm_forward", "beta", beta, 0))
    cdef double epsilon = _epsilon("layer_norm_forward", eps, t)
    x_held = _rows(x, t, &xr)
    gamma_held = _vector("layer_norm_forward", "gamma", gamma, t, "x", x, xr.d, &gr)
    beta_held = _vector("layer_norm_forward", "beta", beta, t, "x", x, xr.d, &br)
    y = _target("layer_norm_forward", out, t, <cnp.ndarray>x, xr.d, &yr)
    if out is not None:
        if (_clash("layer_norm_forward", "out", out, "x", x, IN_PLACE)
                | _clash("layer_norm_forward", "out", out, "gamma", gamma, APART)
                | _clash("layer_norm_forward", "out", out, "beta", beta, APART)):
            y = _new(t, <cnp.ndarray>x, xr.d, &yr)
    ndim = cnp.PyArray_NDIM(<cnp.ndarray>x)
    mean = cnp.PyArray_EMPTY(ndim - 1, cnp.PyArray_DIMS(<cnp.ndarray>x), cnp.NPY_DOUBLE, 0)
    rstd = cnp.PyArray_EMPTY(ndim - 1, cnp.PyArray_DIMS(<cnp.ndarray>x), cnp.NPY_DOUBLE, 0)
    _take("layer_norm_forward", "x", x_held, t, xr.n, xr.d, &xr)
    _take("layer_norm_forward", "gamma", gamma_held, t, 1, xr.d, &gr)
    _take("layer_norm_forward", "beta", beta_held, t, 1, xr.d, &br)
    _take("layer_norm_forward", "out", y, t, xr.n, xr.d, &yr)
    mean_data = <double *>_take_doubles("layer_norm_forward", "x", mean, xr.n)
    rstd_data = <double *>_take_doubles("layer_norm_forward", "x", rstd, xr.n)
    state = _release_gil(<double>xr.n * xr.d)
    if t == cnp.NPY_FLOAT:
        status = normcore_layer_norm_forward_f32(
            context, xr.n, xr.d, <const float *>xr.data, xr.stride, <const float *>gr.data, <const float *>br.data,
            epsilon, <float *>yr.data, yr.stride, mean_data, rstd_data)
    else:
        status = normcore_layer_norm_forward_f64(
            context, xr.n, xr.d, <const double *>xr.data, xr.stride, <const double *>gr.data, <const double *>br.data,
            epsilon, <double *>yr.data, yr.stride, mean_data, rstd_data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail("layer_norm_forward", status)
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
    """
    cdef Rows dyr, xr, gr, dxr, dgr, dbr
    cdef const double *mean_data
    cdef const double *rstd_data
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = max(_type("layer_norm_backward", "dy", dy, 1), _type("layer_norm_backward", "x", x, 1),
                     _type("layer_norm_backward", "gamma", gamma, 0))
    _same_shape("layer_norm_backward", "dy", dy, "x", x)
    dy_held = _rows(dy, t, &dyr)
    x_held = _rows(x, t, &xr)
    gamma_held = _vector("layer_norm_backward", "gamma", gamma, t, "x", x, xr.d, &gr)
    mean_held = _statistic("layer_norm_backward", "mean", mean, x, True)
    rstd_held = _statistic("layer_norm_backward", "rstd", rstd, x, True)
    dx = _new(t, <cnp.ndarray>x, xr.d, &dxr)
    dgamma = _new_vector(t, xr.d, &dgr)
    dbeta = _new_vector(t, xr.d, &dbr)
    _take("layer_norm_backward", "dy", dy_held, t, xr.n, xr.d, &dyr)
    _take("layer_norm_backward", "x", x_held, t, xr.n, xr.d, &xr)
    _take("layer_norm_backward", "gamma", gamma_held, t, 1, xr.d, &gr)
    _take("layer_norm_backward", "dx", dx, t, xr.n, xr.d, &dxr)
    mean_data = _take_doubles("layer_norm_backward", "mean", mean_held, xr.n)
    rstd_data = _take_doubles("layer_norm_backward", "rstd", rstd_held, xr.n)
    state = _release_gil(<double>xr.n * xr.d)
    if t == cnp.NPY_FLOAT:
        status = normcore_layer_norm_backward_f32(
            context, xr.n, xr.d, <const float *>dyr.data, dyr.stride, <const float *>xr.data, xr.stride,
            <const float *>gr.data, mean_data, rstd_data, <float *>dxr.data, dxr.stride, <float *>dgr.data,
            <float *>dbr.data)
    else:
        status = normcore_layer_norm_backward_f64(
            context, xr.n, xr.d, <const double *>dyr.data, dyr.stride, <const double *>xr.data, xr.stride,
            <const double *>gr.data, mean_data, rstd_data, <double *>dxr.data, dxr.stride, <double *>dgr.data,
            <double *>dbr.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail("layer_norm_backward", status)
    return dx, dgamma, dbeta


# ------------------------------------------------------------------------------------------------ random numbers

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
    if t == cnp.NPY_FLOAT:
        status = normcore_dropout_f32(context, xr.n, xr.d, <const float *>xr.data, xr.stride, probability, seed_word,
                                      stream_word, offset_word, <float *>yr.data, yr.stride)
    else:
        status = normcore_dropout_f64(context, xr.n, xr.d, <const double *>xr.data, xr.stride, probability, seed_word,
                                      stream_word, offset_word, <double *>yr.data, yr.stride)
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
    """
    return _dropout("dropout_forward", "x", x, keep, seed, stream, offset, out)


def dropout_backward(dy, keep, *, seed, stream=0, offset=0, out=None):
    """Gradient of dropout: the same mask and scale on `dy`, from the same keep, seed, stream and offset.

    Parameters and errors are those of `dropout_forward`.
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
    """
    cdef Rows rows
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = _dtype("random_uniform", dtype)
    cdef size_t count = _count("random_uniform", n)
    cdef uint64_t seed_word = _uint64("random_uniform", "seed", seed)
    cdef uint64_t stream_word = _uint64("random_uniform", "stream", stream)
    cdef uint64_t offset_word = _uint64("random_uniform", "offset", offset)
    cdef double least = _finite("random_uniform", "low", low)
    cdef double most = _finite("random_uniform", "high", high)
    _check_fit("random_uniform", "low", low, least, t)
    _check_fit("random_uniform", "high", high, most, t)
    if most < least:
        raise ValueError(f"random_uniform: high is {high!r}, which is less than low, {low!r}")
    _check_fit("random_uniform", "high - low", None, most - least, t)
    result = _new_vector(t, count, &rows)
    state = _release_gil(count)
    if t == cnp.NPY_FLOAT:
        status = normcore_random_uniform_f32(context, seed_word, stream_word, offset_word, count, least, most,
                                             <float *>rows.data)
    else:
        status = normcore_random_uniform_f64(context, seed_word, stream_word, offset_word, count, least, most,
                                             <double *>rows.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail("random_uniform", status)
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
    """
    cdef Rows rows
    cdef normcore_status status
    cdef PyThreadState *state
    cdef int t = _dtype("random_normal", dtype)
    cdef size_t count = _count("random_normal", n)
    cdef uint64_t seed_word = _uint64("random_normal", "seed", seed)
    cdef uint64_t stream_word = _uint64("random_normal", "stream", stream)
    cdef uint64_t offset_word = _uint64("random_normal", "offset", offset)
    cdef double centre = _finite("random_normal", "mean", mean)
    cdef double deviation = _not_negative("random_normal", "scale", scale)
    _check_fit("random_normal", "mean", mean, centre, t)
    _check_deviation("random_normal", "scale", scale, centre, deviation, t)
    result = _new_vector(t, count, &rows)
    state = _release_gil(count)
    if t == cnp.NPY_FLOAT:
        status = normcore_random_normal_f32(context, seed_word, stream_word, offset_word, count, centre, deviation,
                                            <float *>rows.data)
    else:
        status = normcore_random_normal_f64(context, seed_word, stream_word, offset_word, count, centre, deviation,
                                            <double *>rows.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail("random_normal", status)
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
    """
    cdef Rows rows
    cdef normcore_status status
    cdef PyThreadState *state
    cdef size_t count = _count("random_integers", n)
    cdef uint64_t limit = _integer("random_integers", "bound", bound, 1, 1 << 63)
    cdef uint64_t seed_word = _uint64("random_integers", "seed", seed)
    cdef uint64_t stream_word = _uint64("random_integers", "stream", stream)
    cdef uint64_t offset_word = _uint64("random_integers", "offset", offset)
    result = _new_vector(cnp.NPY_INT64, count, &rows)
    state = _release_gil(count)
    status = normcore_random_integers(context, seed_word, stream_word, offset_word, count, limit, <int64_t *>rows.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail("random_integers", status)
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
    """
    cdef Rows rows
    cdef normcore_status status
    cdef PyThreadState *state
    cdef size_t count = _count("random_permutation", n)
    cdef uint64_t seed_word = _uint64("random_permutation", "seed", seed)
    cdef uint64_t stream_word = _uint64("random_permutation", "stream", stream)
    cdef uint64_t offset_word = _uint64("random_permutation", "offset", offset)
    result = _new_vector(cnp.NPY_INT64, count, &rows)
    state = _release_gil(count)
    status = normcore_random_permutation(context, seed_word, stream_word, offset_word, count, <int64_t *>rows.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail("random_permutation", status)
    return result


# ------------------------------------------------------------------------------------------------ optimisers

cdef int _flat(str op, str name, object a, int t, size_t n, bint written) except -1:
    """Makes sure of a flat array that C uses as it lies: 1-D, contiguous, of just this dtype and size."""
    cdef cnp.npy_intp dim = <cnp.npy_intp>n
    dtype = FLOAT32 if t == cnp.NPY_FLOAT else FLOAT64
    if not cnp.PyArray_CheckExact(a) and (not cnp.PyArray_Check(a) or isinstance(a, np.ma.MaskedArray)):
        raise TypeError(f"{op}: {name} is a {type(a).__name__}; it must be a NumPy array of {dtype}")
    if cnp.PyArray_TYPE(<cnp.ndarray>a) != t:
        raise TypeError(f"{op}: {name} is an array of {a.dtype}; it must be {dtype}")
    if not _dims_are(<cnp.ndarray>a, 1, &dim):
        raise ValueError(f"{op}: {name} is {a.shape}; it must be ({n},)")
    if not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>a):
        raise ValueError(f"{op}: {name} must be contiguous, aligned and in native byte order")
    if written and not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>a):
        raise ValueError(f"{op}: {name} is read-only, but it is changed in place")
    return 0


cdef dict OPTIMIZERS = {"sgd": NORMCORE_SGD, "momentum": NORMCORE_MOMENTUM, "nesterov": NORMCORE_NESTEROV,
                        "rmsprop": NORMCORE_RMSPROP, "adam": NORMCORE_ADAM}


def optimizer_update(optimizer, params, grads, slot1, slot2, *, learning_rate, momentum=0.9, decay_rate=0.99, beta1=0.9,
                     beta2=0.999, eps=1e-8, l2=0.0, weight_decay=0.0, gradient_scale=1.0, step=1):
    """One update of parameters from their gradients, in place.

    Parameters
    ----------
    optimizer : {"sgd", "momentum", "nesterov", "rmsprop", "adam"}
        Adam is arXiv 1412.6980; with `weight_decay` it is AdamW, arXiv 1711.05101.
    params, grads : ndarray (n,), contiguous, float32 or float64, of the same dtype
    slot1 : ndarray (n,) or None
        Velocity of "momentum" and "nesterov", first moment of "adam"; zero before the first step.
    slot2 : ndarray (n,) or None
        Second moment of "rmsprop" and "adam"; zero before the first step.
    learning_rate, eps, l2, weight_decay : float, finite and not negative
        `l2` adds ``l2 * params`` to the gradient; `weight_decay` is decoupled. With ``eps=0`` a parameter whose gradient
        has always been 0 becomes NaN, 0 / 0.
    momentum, decay_rate, beta1, beta2 : float in [0, 1)
        Multiplies the velocity, as in CS231n and Keras: ``v = momentum * v - learning_rate * g; params += v``. PyTorch
        multiplies by the learning rate after the sum, which is another path when the rate changes.
    gradient_scale : float
        The gradient is multiplied by it first (clipping).
    step : int
        1 at the first update.

    Raises
    ------
    TypeError
        An array is not of the dtype of `params`, or an argument is of a wrong kind.
    ValueError
        An unknown optimizer, sizes that differ, slots that do not go with the optimizer, arrays that overlap, a
        parameter out of range. Nothing has been changed.

    Notes
    -----
    All numbers are judged after rounding to the dtype of `params`: in float32 a learning rate of 1e39 is infinite, a
    momentum of ``1 - 1e-9`` is 1, and an eps, l2 or gradient scale of 1e-46, which becomes 0, is refused too.
    """
    _optimizer_update(optimizer, params, grads, slot1, slot2, learning_rate, momentum, decay_rate, beta1, beta2, eps, l2,
                      weight_decay, gradient_scale, step)


cdef normcore_optimizer _optimizer_options(str op, int t, optimizer, learning_rate, momentum, decay_rate, str name1, beta1,
                                           str name2, beta2, eps, l2, weight_decay, gradient_scale, step,
                                           normcore_optimizer_options *options) except? NORMCORE_SGD:
    """Checks all scalars of an update as the kernels of the dtype `t` use them. The betas have names of their own."""
    cdef normcore_optimizer kind
    cdef double rate
    if not isinstance(optimizer, str) or optimizer not in OPTIMIZERS:
        raise ValueError(f"{op}: optimizer is {optimizer!r}; it must be one of {', '.join(OPTIMIZERS)}")
    kind = <normcore_optimizer><int>OPTIMIZERS[optimizer]
    normcore_optimizer_defaults(kind, options, sizeof(normcore_optimizer_options))
    options.learning_rate = _not_negative(op, "learning_rate", learning_rate)
    options.momentum = _below_one(op, "momentum", momentum, t)
    options.decay_rate = _below_one(op, "decay_rate", decay_rate, t)
    options.beta1 = _below_one(op, name1, beta1, t)
    options.beta2 = _below_one(op, name2, beta2, t)
    options.eps = _not_negative(op, "eps", eps)
    options.l2 = _not_negative(op, "l2", l2)
    options.weight_decay = _not_negative(op, "weight_decay", weight_decay)
    options.gradient_scale = _finite(op, "gradient_scale", gradient_scale)
    options.step = _integer(op, "step", step, 1, 0xFFFFFFFFFFFFFFFF)
    rate = options.learning_rate
    _check_fit(op, "learning_rate", learning_rate, rate, t)
    _check_use(op, "eps", eps, options.eps, t)
    _check_use(op, "l2", l2, options.l2, t)
    _check_use(op, "gradient_scale", gradient_scale, options.gradient_scale, t)
    _check_fit(op, "learning_rate * weight_decay", None, rate * options.weight_decay, t)
    if kind == NORMCORE_ADAM:
        _check_fit(op, f"learning_rate / (1 - {name1})", None, rate / (1.0 - options.beta1), t)
    return kind


def check_optimizer(str operation, dtype, optimizer, learning_rate, momentum, decay_rate, betas, eps, l2, weight_decay, /):
    """Refuse for `operation`, which the errors name, the scalars that `optimizer_update` refuses for arrays of `dtype`."""
    cdef normcore_optimizer_options options
    beta1, beta2 = betas
    _optimizer_options(operation, cnp.NPY_FLOAT if dtype == FLOAT32 else cnp.NPY_DOUBLE, optimizer, learning_rate, momentum,
                       decay_rate, "betas[0]", beta1, "betas[1]", beta2, eps, l2, weight_decay, 1.0, 1, &options)


cdef object _optimizer_update(optimizer, params, grads, slot1, slot2, learning_rate, momentum, decay_rate, beta1, beta2,
                              eps, l2, weight_decay, gradient_scale, step):
    cdef str op = "optimizer_update"
    cdef normcore_optimizer_options options
    cdef normcore_status status
    cdef PyThreadState *state
    cdef Rows pr, gr, first, second
    cdef size_t n
    cdef int t = _type(op, "params", params, 1)
    cdef normcore_optimizer kind = _optimizer_options(op, t, optimizer, learning_rate, momentum, decay_rate, "beta1", beta1,
                                                      "beta2", beta2, eps, l2, weight_decay, gradient_scale, step,
                                                      &options)

    _type(op, "params", params, 1)
    n = cnp.PyArray_DIMS(<cnp.ndarray>params)[0]
    _flat(op, "params", params, t, n, True)
    _flat(op, "grads", grads, t, n, False)
    needs_first = kind in (NORMCORE_MOMENTUM, NORMCORE_NESTEROV, NORMCORE_ADAM)
    needs_second = kind in (NORMCORE_RMSPROP, NORMCORE_ADAM)
    for name, slot, needed in (("slot1", slot1, needs_first), ("slot2", slot2, needs_second)):
        if (slot is not None) != needed:
            raise ValueError(f"optimizer_update: {optimizer} {'needs' if needed else 'has no'} {name}")
    if needs_first:
        _flat(op, "slot1", slot1, t, n, True)
        _clash(op, "slot1", slot1, "grads", grads, APART)
        _clash(op, "slot1", slot1, "params", params, APART)
    if needs_second:
        _flat(op, "slot2", slot2, t, n, True)
        _clash(op, "slot2", slot2, "grads", grads, APART)
        _clash(op, "slot2", slot2, "params", params, APART)
        _clash(op, "slot2", slot2, "slot1", slot1, APART)
    _clash(op, "params", params, "grads", grads, APART)
    first.data = second.data = NULL
    _take(op, "params", params, t, 1, n, &pr)
    _take(op, "grads", grads, t, 1, n, &gr)
    if needs_first:
        _take(op, "slot1", slot1, t, 1, n, &first)
    if needs_second:
        _take(op, "slot2", slot2, t, 1, n, &second)
    state = _release_gil(n)
    if t == cnp.NPY_FLOAT:
        status = normcore_optimizer_update_f32(context, &options, n, <float *>pr.data, <const float *>gr.data,
                                               <float *>first.data, <float *>second.data)
    else:
        status = normcore_optimizer_update_f64(context, &options, n, <double *>pr.data, <const double *>gr.data,
                                               <double *>first.data, <double *>second.data)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail("optimizer_update", status)


def optimizer_update_groups(optimizer, groups, learning_rate, momentum, decay_rate, beta1, beta2, eps, gradient_scale,
                            step, calls, /):
    """`optimizer_update` of each group (params, grads, slot1, slot2, l2, weight_decay), then each call.

    A call is (function, arguments ...). Python calls the handlers of signals between instructions of Python code alone: they
    find all of it done or, if the functions are compiled too, nothing.
    """
    for params, grads, slot1, slot2, l2, weight_decay in groups:
        _optimizer_update(optimizer, params, grads, slot1, slot2, learning_rate, momentum, decay_rate, beta1, beta2, eps,
                          l2, weight_decay, gradient_scale, step)
    for function, *arguments in calls:
        function(*arguments)


def replace_handler(set_handler, number, handler, /):
    """Call ``set_handler(number, handler)``, which is `signal.signal`, for a signal that has a handler in Python already.

    What the system calls when the signal comes, and how, stays as it is: Python's function that in its turn calls the
    handlers or, before it, another one's such as faulthandler's, and whether system calls are begun again.
    """
    cdef normcore_action action
    cdef int n = number
    cdef bint known = normcore_get_action(n, &action) == 0
    set_handler(n, handler)
    if known:
        normcore_set_action(n, &action)


def sum_of_squares(x):
    """Sum of the squares of all elements, in float64; NaN or infinite if an element is.

    Parameters
    ----------
    x : ndarray of at least one axis, float32 or float64

    Returns
    -------
    float

    Raises
    ------
    TypeError
        `x` is no NumPy array of float32 or float64.
    ValueError
        `x` is 0-d.
    """
    cdef Rows rows
    cdef normcore_status status
    cdef PyThreadState *state
    cdef double result = 0.0
    cdef size_t n
    cdef int t = _type("sum_of_squares", "x", x, 1)
    held = _rows(x, t, &rows)
    if rows.stride != rows.d:
        held = np.array(x, dtype=FLOAT32 if t == cnp.NPY_FLOAT else FLOAT64, order="C", subok=False)
        _as_it_lies(<cnp.ndarray>held, t, &rows)
    _take("sum_of_squares", "x", held, t, rows.n, rows.d, &rows)
    n = rows.n * rows.d
    state = _release_gil(n)
    if t == cnp.NPY_FLOAT:
        status = normcore_sum_of_squares_f32(context, n, <const float *>rows.data, &result)
    else:
        status = normcore_sum_of_squares_f64(context, n, <const double *>rows.data, &result)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail("sum_of_squares", status)
    return result


# ------------------------------------------------------------------------------------------------ multilayer perceptron

cdef dict NORMS = {None: NORMCORE_NORM_NONE, "batch": NORMCORE_NORM_BATCH, "layer": NORMCORE_NORM_LAYER}
cdef tuple SEGMENTS = ("w", "b", "gamma", "beta", "running_mean", "running_var")


cdef class Network:
    """{affine - [norm] - ReLU - [dropout]} x (layers - 1) - affine, over flat arrays that the caller owns.

    It holds the shape alone: no parameters, no work memory. `normcore.MLP` is the comfortable form.

    Parameters
    ----------
    sizes : sequence of int
        Features, hidden widths ..., outputs; each at least 1.
    norm : {None, "batch", "layer"}
        Normalisation after each hidden affine map.
    keep : float in [2**-32, 1]
        Dropout after each hidden ReLU: the probability to keep an element.
    eps, momentum, unbiased_running_var
        As in `batch_norm_forward`.
    dtype : float32 or float64

    Attributes
    ----------
    sizes, norm, keep, eps, momentum, unbiased_running_var, dtype
        As given.
    parameter_count, buffer_count : int
        Elements of the parameter (and gradient) array and of the buffers (running statistics; 0 without batch norm).

    Raises
    ------
    TypeError, ValueError
        An argument of a wrong kind, or out of its range.

    Notes
    -----
    Threads may share a network, each with its own outputs (buffers are an output of a training pass).
    """
    cdef normcore_mlp *mlp
    cdef int t
    cdef readonly tuple sizes
    cdef readonly object norm
    cdef readonly double keep
    cdef readonly double eps
    cdef readonly double momentum
    cdef readonly bint unbiased_running_var
    cdef readonly object dtype
    cdef readonly size_t parameter_count
    cdef readonly size_t buffer_count

    def __cinit__(self, sizes, *, norm=None, keep=1.0, eps=1e-5, momentum=0.9, bint unbiased_running_var=False,
                  dtype="float32"):
        cdef normcore_mlp_options options
        cdef normcore_status status
        cdef size_t *widths
        normcore_mlp_defaults(&options, sizeof(options))
        try:
            self.sizes = tuple([_integer("Network", f"sizes[{i}]", size, 1, sys.maxsize)
                                for i, size in enumerate(sizes)])
        except TypeError as error:
            raise TypeError(str(error) if str(error).startswith("Network") else
                            f"Network: sizes is a {type(sizes).__name__}; it must be a sequence of integers") from None
        if len(self.sizes) < 2:
            raise ValueError(f"Network: sizes is {self.sizes}; it needs at least two, features and outputs")
        if not (norm is None or isinstance(norm, str)) or norm not in NORMS:
            raise ValueError(f"Network: norm is {norm!r}; it must be None, 'batch' or 'layer'")
        self.t = _dtype("Network", dtype)
        self.dtype = FLOAT32 if self.t == cnp.NPY_FLOAT else FLOAT64
        self.norm = norm
        self.keep = options.keep = _keep("Network", keep)
        self.eps = options.eps = _epsilon("Network", eps, self.t)
        self.momentum = options.momentum = _fraction("Network", "momentum", momentum)
        self.unbiased_running_var = options.unbiased_running_var = unbiased_running_var
        options.norm = <normcore_norm><int>NORMS[norm]
        options.num_sizes = len(self.sizes)
        widths = <size_t *>malloc(options.num_sizes * sizeof(size_t))
        if widths == NULL:
            raise MemoryError("Network: out of memory")
        for i, size in enumerate(self.sizes):
            widths[<size_t>i] = size
        options.sizes = widths
        status = normcore_mlp_create(&options, &self.mlp)
        free(widths)
        if status != NORMCORE_OK:
            _fail("Network", status)
        self.parameter_count = normcore_mlp_parameter_count(self.mlp)
        self.buffer_count = normcore_mlp_buffer_count(self.mlp)

    def __dealloc__(self):
        if self.mlp != NULL:
            normcore_mlp_destroy(self.mlp)

    def __reduce__(self):
        return partial(Network, self.sizes, norm=self.norm, keep=self.keep, eps=self.eps, momentum=self.momentum,
                       unbiased_running_var=self.unbiased_running_var, dtype=self.dtype.name), ()

    def __repr__(self):
        return f"Network({self.sizes}, norm={self.norm!r}, keep={self.keep}, dtype={self.dtype.name!r})"

    cdef int flat(self, str op, object params, object buffers, bint params_written, bint buffers_written) except -1:
        """Makes sure of parameters and buffers."""
        _flat(op, "params", params, self.t, self.parameter_count, params_written)
        if buffers is not None or self.buffer_count != 0:
            _flat(op, "buffers", buffers, self.t, self.buffer_count, buffers_written)
        return 0

    cdef int take(self, str op, object params, object buffers, Rows *pr, Rows *br) except -1:
        """As _take, for both. Without buffers their data are NULL."""
        br.data = NULL
        _take(op, "params", params, self.t, 1, self.parameter_count, pr)
        if buffers is not None:
            _take(op, "buffers", buffers, self.t, 1, self.buffer_count, br)
        return 0

    cdef int check_variances(self, str op, object buffers) except -1:
        """ValueError, which names it, if a running variance is negative."""
        for name, layer, offset, _, count in self.segments():
            if name == "running_var":
                _check_variance(op, f"running_var{layer + 1}", buffers[offset:offset + count])
        return 0

    cdef int check_pass(self, str op, Pass tape, object x, size_t rows) except -1:
        """ValueError unless the pass is for this network and so many rows."""
        if tape is None:
            raise TypeError(f"{op}: tape is None; it must be a Pass")
        if tape.network is not self:
            raise ValueError(f"{op}: tape is the pass of another network")
        if rows > tape.rows:
            raise ValueError(f"{op}: x is {x.shape} but the pass is for {tape.rows} rows at most")
        return 0

    cdef object input_rows(self, str op, object x, Rows *rows):
        """x as rows of the network's dtype, to which data of the other one are rounded."""
        cdef int ndim
        _type(op, "x", x, 1)
        ndim = cnp.PyArray_NDIM(<cnp.ndarray>x)
        if cnp.PyArray_DIMS(<cnp.ndarray>x)[ndim - 1] != <cnp.npy_intp>self.sizes[0]:
            raise ValueError(f"{op}: x is {x.shape} but the network has {self.sizes[0]} features; they must equal x's "
                             f"last axis")
        return _rows(x, self.t, rows)

    def segments(self):
        """Where each array lies: a list of ``(name, layer, offset, rows, cols)``, parameters first and then buffers.

        Names are "w", "b", "gamma", "beta" (offsets into the parameters) and "running_mean", "running_var" (into the
        buffers); layers count from 0. Vectors have one row.
        """
        cdef normcore_mlp_segment segment
        cdef size_t i = 0
        found = []
        while normcore_mlp_get_segment(self.mlp, i, &segment) == NORMCORE_OK:
            found.append((SEGMENTS[<int>segment.kind], segment.layer, segment.offset, segment.rows, segment.cols))
            i += 1
        return found

    def initialize(self, params, buffers, *, seed, stream=0, weight_scale=None):
        """Overwrite parameters and buffers with their initial values.

        Parameters
        ----------
        params : ndarray (parameter_count,)
            Weights become ``weight_scale`` times normal deviates, with ``sqrt(2 / in)`` by default (He et al.,
            arXiv 1502.01852); layer l uses stream ``stream + l``. Biases and beta 0, gamma 1.
        buffers : ndarray (buffer_count,), or None if there are none
            Running means 0, running variances 1.
        seed, stream : int in [0, 2**64)
        weight_scale : float, optional
            Not negative; 9 times it is finite in the dtype.
        """
        cdef Rows pr, br
        cdef normcore_status status
        cdef PyThreadState *state
        cdef str op = "Network.initialize"
        cdef uint64_t seed_word = _uint64(op, "seed", seed)
        cdef uint64_t stream_word = _uint64(op, "stream", stream)
        cdef double scale = -1.0  # He
        if weight_scale is not None:
            scale = _not_negative(op, "weight_scale", weight_scale)
            _check_deviation(op, "weight_scale", weight_scale, 0.0, scale, self.t)
        self.flat(op, params, buffers, True, True)
        if buffers is not None:
            _clash(op, "params", params, "buffers", buffers, APART)
        self.take(op, params, buffers, &pr, &br)
        state = _release_gil(self.parameter_count)
        if self.t == cnp.NPY_FLOAT:
            status = normcore_mlp_initialize_f32(context, self.mlp, seed_word, stream_word, scale, <float *>pr.data,
                                                 <float *>br.data)
        else:
            status = normcore_mlp_initialize_f64(context, self.mlp, seed_word, stream_word, scale, <double *>pr.data,
                                                 <double *>br.data)
        _restore_gil(state)
        if status != NORMCORE_OK:
            _fail(op, status)

    def forward(self, x, params, buffers, out):
        """Write the logits of `x`, in evaluation mode, to `out`.

        Parameters
        ----------
        x : ndarray (..., features), float32 or float64
            Any layout; rounded to the network's dtype if it is of the other one.
        params : ndarray (parameter_count,)
        buffers : ndarray (buffer_count,), or None if there are none
        out : ndarray (..., outputs) of the network's dtype
            Overlaps no other argument.

        Raises
        ------
        TypeError, ValueError
            An array of a wrong dtype or shape. Nothing has been written.
        """
        cdef Rows xr, yr, pr, br
        cdef normcore_status status
        cdef PyThreadState *state
        cdef str op = "Network.forward"
        cdef size_t features = self.sizes[0], outputs = self.sizes[len(self.sizes) - 1]
        self.flat(op, params, buffers, False, False)
        x_held = self.input_rows(op, x, &xr)
        if out is None:
            raise TypeError(f"Network.forward: out is None; it must be a NumPy array of {self.dtype}")
        y = _target(op, out, self.t, <cnp.ndarray>x, outputs, &yr)
        if (_clash(op, "out", out, "x", x, APART) | _clash(op, "out", out, "params", params, APART)
                | _clash(op, "out", out, "buffers", buffers, APART)):
            y = _new(self.t, <cnp.ndarray>x, outputs, &yr)
        self.take(op, params, buffers, &pr, &br)
        _take(op, "x", x_held, self.t, xr.n, features, &xr)
        _take(op, "out", y, self.t, xr.n, outputs, &yr)
        state = _release_gil(<double>xr.n * self.parameter_count)
        if self.t == cnp.NPY_FLOAT:
            status = normcore_mlp_forward_f32(context, self.mlp, xr.n, <const float *>xr.data, xr.stride,
                                              <const float *>pr.data, <const float *>br.data, <float *>yr.data,
                                              yr.stride)
        else:
            status = normcore_mlp_forward_f64(context, self.mlp, xr.n, <const double *>xr.data, xr.stride,
                                              <const double *>pr.data, <const double *>br.data, <double *>yr.data,
                                              yr.stride)
        _restore_gil(state)
        if status != NORMCORE_OK:
            if status == NORMCORE_ERROR_VALUE:
                self.check_variances(op, buffers)
            _fail(op, status)
        _finish(out, y)

    def forward_training(self, x, params, buffers, Pass tape, out, *, seed=0, stream=0):
        """Write the outputs of `x`, in training mode, to `out`, and what `backward` needs into `tape`.

        Parameters
        ----------
        x : ndarray (..., features), float32 or float64
            Any layout; rounded to the network's dtype if it is of the other one.
        params : ndarray (parameter_count,)
        buffers : ndarray (buffer_count,), or None
            Running statistics, moved in place. None: they stay as they are.
        tape : Pass
            Of this network, for at least as many rows. One thread at a time.
        out : ndarray (..., outputs) of the network's dtype
            Overlaps no other argument.
        seed, stream : int in [0, 2**64)
            Layer l draws its dropout from stream ``stream + l``: give each step its own block of streams.

        Raises
        ------
        TypeError, ValueError
            An array of a wrong dtype or shape, a pass of another network or for fewer rows. Nothing has been written.
        """
        cdef Rows xr, yr, pr, br
        cdef normcore_status status
        cdef PyThreadState *state
        cdef str op = "Network.forward_training"
        cdef size_t features = self.sizes[0], outputs = self.sizes[len(self.sizes) - 1]
        cdef uint64_t seed_word = _uint64(op, "seed", seed), stream_word = _uint64(op, "stream", stream)
        _flat(op, "params", params, self.t, self.parameter_count, False)
        if buffers is not None:
            _flat(op, "buffers", buffers, self.t, self.buffer_count, True)
            _clash(op, "buffers", buffers, "x", x, APART)
            _clash(op, "buffers", buffers, "params", params, APART)
        x_held = self.input_rows(op, x, &xr)
        self.check_pass(op, tape, x, xr.n)
        if out is None:
            raise TypeError(f"{op}: out is None; it must be a NumPy array of {self.dtype}")
        y = _target(op, out, self.t, <cnp.ndarray>x, outputs, &yr)
        if (_clash(op, "out", out, "x", x, APART) | _clash(op, "out", out, "params", params, APART)
                | (buffers is not None and _clash(op, "out", out, "buffers", buffers, APART))):
            y = _new(self.t, <cnp.ndarray>x, outputs, &yr)
        self.take(op, params, buffers, &pr, &br)
        _take(op, "x", x_held, self.t, xr.n, features, &xr)
        _take(op, "out", y, self.t, xr.n, outputs, &yr)
        state = _release_gil(<double>xr.n * self.parameter_count)
        if self.t == cnp.NPY_FLOAT:
            status = normcore_mlp_forward_training_f32(
                context, self.mlp, xr.n, <const float *>xr.data, xr.stride, <const float *>pr.data, <float *>br.data,
                seed_word, stream_word, tape.tape, <float *>yr.data, yr.stride)
        else:
            status = normcore_mlp_forward_training_f64(
                context, self.mlp, xr.n, <const double *>xr.data, xr.stride, <const double *>pr.data,
                <double *>br.data, seed_word, stream_word, tape.tape, <double *>yr.data, yr.stride)
        _restore_gil(state)
        if status != NORMCORE_OK:
            if status == NORMCORE_ERROR_VALUE and buffers is not None:
                self.check_variances(op, buffers)
            _fail(op, status)
        _finish(out, y)

    def backward(self, x, params, Pass tape, dy, grads, dx=None):
        """Write the gradients of the parameters to `grads`, from those of the outputs.

        Parameters
        ----------
        x, params
            As they were given to the `forward_training` that is in `tape`, which stays as it is.
        tape : Pass
        dy : ndarray (..., outputs), float32 or float64
            Any layout; rounded to the network's dtype if it is of the other one.
        grads : ndarray (parameter_count,)
            Overwritten.
        dx : ndarray, of x's shape and the network's dtype, optional
            Where to put the gradient of the data. Overlaps no other argument.

        Raises
        ------
        TypeError, ValueError
            An array of a wrong dtype or shape, or a pass that holds no forward pass of so many rows. Nothing has been
            written.
        """
        cdef Rows xr, dyr, dxr, pr, gr
        cdef normcore_status status
        cdef PyThreadState *state
        cdef str op = "Network.backward"
        cdef size_t features = self.sizes[0], outputs = self.sizes[len(self.sizes) - 1]
        _flat(op, "params", params, self.t, self.parameter_count, False)
        _flat(op, "grads", grads, self.t, self.parameter_count, True)
        x_held = self.input_rows(op, x, &xr)
        self.check_pass(op, tape, x, xr.n)
        _type(op, "dy", dy, 1)
        if dy.shape != _leading(x) + (outputs,):
            raise ValueError(f"{op}: dy is {dy.shape} but x is {x.shape}; dy must be {_leading(x) + (outputs,)}")
        dy_held = _rows(dy, self.t, &dyr)
        _clash(op, "grads", grads, "x", x, APART)
        _clash(op, "grads", grads, "params", params, APART)
        _clash(op, "grads", grads, "dy", dy, APART)
        dxr.data = NULL
        dxr.stride = features
        held = None
        if dx is not None:
            held = _target(op, dx, self.t, <cnp.ndarray>x, features, &dxr, "dx")
            if (_clash(op, "dx", dx, "x", x, APART) | _clash(op, "dx", dx, "params", params, APART)
                    | _clash(op, "dx", dx, "dy", dy, APART) | _clash(op, "dx", dx, "grads", grads, APART)):
                held = _new(self.t, <cnp.ndarray>x, features, &dxr)
        _take(op, "params", params, self.t, 1, self.parameter_count, &pr)
        _take(op, "grads", grads, self.t, 1, self.parameter_count, &gr)
        _take(op, "x", x_held, self.t, xr.n, features, &xr)
        _take(op, "dy", dy_held, self.t, xr.n, outputs, &dyr)
        if held is not None:
            _take(op, "dx", held, self.t, xr.n, features, &dxr)
        state = _release_gil(<double>xr.n * self.parameter_count)
        if self.t == cnp.NPY_FLOAT:
            status = normcore_mlp_backward_f32(
                context, self.mlp, xr.n, <const float *>xr.data, xr.stride, <const float *>pr.data, tape.tape,
                <const float *>dyr.data, dyr.stride, <float *>gr.data, <float *>dxr.data, dxr.stride)
        else:
            status = normcore_mlp_backward_f64(
                context, self.mlp, xr.n, <const double *>xr.data, xr.stride, <const double *>pr.data, tape.tape,
                <const double *>dyr.data, dyr.stride, <double *>gr.data, <double *>dxr.data, dxr.stride)
        _restore_gil(state)
        if status == NORMCORE_ERROR_VALUE or status == NORMCORE_ERROR_SIZE:
            raise ValueError(f"{op}: x is {x.shape}; the pass holds no forward pass of so many rows")
        if status != NORMCORE_OK:
            _fail(op, status)
        if dx is not None:
            _finish(dx, held)

    def loss_and_grads(self, x, labels, params, buffers, grads, *, class_weight=None, sample_weight=None,
                       label_smoothing=0.0, ignore_index=None, reduction="mean", seed=0, stream=0,
                       bint update_statistics=True):
        """One training pass: forward in training mode, cross-entropy, backward.

        Parameters
        ----------
        x : ndarray (..., features), at least 2-D and one row, float32 or float64
            Any layout; rounded to the network's dtype if it is of the other one.
        labels, class_weight, sample_weight, label_smoothing, ignore_index
            As in `softmax_cross_entropy`.
        params : ndarray (parameter_count,)
        buffers : ndarray (buffer_count,), or None if there are none
            Running statistics, moved in place.
        grads : ndarray (parameter_count,)
            Overwritten with the gradients.
        reduction : {"mean", "sum"}
        seed, stream : int in [0, 2**64)
            Layer l draws its dropout from stream ``stream + l``: give each step its own block of streams.
        update_statistics : bool
            False leaves the running statistics as they are.

        Returns
        -------
        loss, weight_sum : float

        Raises
        ------
        TypeError, ValueError
            As `softmax_cross_entropy`, or a flat array of a wrong dtype or size. Nothing has been written.
        """
        cdef Rows xr, pr, br, gr
        cdef Goal goal
        cdef normcore_status status
        cdef PyThreadState *state
        cdef double loss = 0.0, weight_sum = 0.0
        cdef size_t bad = 0
        cdef str op = "Network.loss_and_grads"
        cdef uint64_t seed_word = _uint64(op, "seed", seed)
        cdef uint64_t stream_word = _uint64(op, "stream", stream)
        cdef size_t features = self.sizes[0], c = self.sizes[len(self.sizes) - 1]
        self.flat(op, params, buffers, False, True)
        _flat(op, "grads", grads, self.t, self.parameter_count, True)
        _type(op, "x", x, 2)
        x_held = self.input_rows(op, x, &xr)
        if xr.n == 0:
            raise ValueError(f"{op}: x is {x.shape}; a training pass needs at least one row")
        labels_held = _labels(op, labels, "x", x, c)
        held = _goal(op, labels_held, "x", x, self.t, c, class_weight, sample_weight, label_smoothing, ignore_index,
                     reduction, &goal)
        if goal.options.reduction == NORMCORE_REDUCTION_NONE:
            raise ValueError(f"{op}: reduction is 'none'; it must be 'mean' or 'sum'")
        _clash(op, "grads", grads, "x", x, APART)
        _clash(op, "grads", grads, "params", params, APART)
        _clash(op, "grads", grads, "labels", labels, APART)
        if buffers is not None:
            _clash(op, "buffers", buffers, "x", x, APART)
            _clash(op, "buffers", buffers, "params", params, APART)
            _clash(op, "buffers", buffers, "grads", grads, APART)
        self.take(op, params, buffers, &pr, &br)
        if not update_statistics:
            br.data = NULL
        _take_goal(op, held, self.t, xr.n, c, &goal)
        _take(op, "grads", grads, self.t, 1, self.parameter_count, &gr)
        _take(op, "x", x_held, self.t, xr.n, features, &xr)
        state = _release_gil(<double>xr.n * self.parameter_count)
        if self.t == cnp.NPY_FLOAT:
            status = normcore_mlp_loss_and_grads_f32(
                context, self.mlp, xr.n, <const float *>xr.data, xr.stride, goal.labels,
                <const float *>goal.targets.data, goal.targets.stride, &goal.options, seed_word, stream_word,
                <const float *>pr.data, <float *>br.data, <float *>gr.data, &loss, &weight_sum, &bad)
        else:
            status = normcore_mlp_loss_and_grads_f64(
                context, self.mlp, xr.n, <const double *>xr.data, xr.stride, goal.labels,
                <const double *>goal.targets.data, goal.targets.stride, &goal.options, seed_word, stream_word,
                <const double *>pr.data, <double *>br.data, <double *>gr.data, &loss, &weight_sum, &bad)
        _restore_gil(state)
        if status != NORMCORE_OK:
            if status == NORMCORE_ERROR_VALUE:
                self.check_variances(op, buffers)
            _bad_goal(op, status, self.t, c, held, &goal, bad)
        return loss, weight_sum


cdef class Pass:
    """Memory for what `Network.forward_training` leaves for `Network.backward`.

    Parameters
    ----------
    network : Network
        The one whose pass it is.
    rows : int
        How many rows a batch may have. The memory, of rows times all hidden widths, is taken now and used again by each
        step.

    Raises
    ------
    TypeError, ValueError, MemoryError
        `rows` is no integer, negative, or too large.
    """
    cdef normcore_mlp_pass *tape
    cdef readonly Network network
    cdef readonly size_t rows

    def __cinit__(self, Network network not None, rows):
        cdef normcore_status status
        self.network = network
        self.rows = _integer("Pass", "rows", rows, 0, sys.maxsize)
        if network.t == cnp.NPY_FLOAT:
            status = normcore_mlp_pass_create_f32(network.mlp, self.rows, &self.tape)
        else:
            status = normcore_mlp_pass_create_f64(network.mlp, self.rows, &self.tape)
        if status == NORMCORE_ERROR_SIZE:
            raise ValueError(f"Pass: rows is {rows}; so many activations of {network!r} cannot be addressed")
        if status != NORMCORE_OK:
            _fail("Pass", status)

    def __dealloc__(self):
        normcore_mlp_pass_destroy(self.tape)

    def __reduce__(self):
        return Pass, (self.network, self.rows)

    def __repr__(self):
        return f"Pass({self.network!r}, {self.rows})"


# ------------------------------------------------------------------------------------------------ the process

def available_isas():
    """Names of the instruction sets that this machine can run, best first. They give the same bits.

    Returns
    -------
    tuple of str
    """
    cdef const char *name
    cdef size_t i = 0
    names = []
    while True:
        name = normcore_isa_name(i)
        if name == NULL:
            return tuple(names)
        names.append(name.decode("ascii"))
        i += 1


def get_isa():
    """Name of the instruction set in use.

    Raises
    ------
    ValueError
        The environment variable NORMCORE_ISA is not understood.
    """
    cdef const char *name = normcore_get_isa()
    if name == NULL:
        _fail("get_isa", NORMCORE_ERROR_ENVIRONMENT_ISA)
    return name.decode("ascii")


def set_isa(name):
    """Use the instruction set `name` from now on in the whole process; None: the best.

    Raises
    ------
    TypeError
        `name` is neither str nor None.
    ValueError
        This machine or build has no such instruction set; nothing has changed.
    """
    cdef bytes encoded
    cdef const char *text = NULL
    if name is not None:
        if not isinstance(name, str):
            raise TypeError(f"set_isa: name is a {type(name).__name__}; it must be a str or None")
        encoded = name.encode("utf-8", "replace")
        text = encoded
    if "\0" in (name or "") or normcore_set_isa(text) != NORMCORE_OK:
        raise ValueError(f"set_isa: name is {name!r}; it must be one of {', '.join(available_isas())}")


def get_num_threads():
    """How many threads a call may use, the caller's among them."""
    return normcore_context_get_num_threads(context)


def set_num_threads(n):
    """Let calls from now on use up to `n` threads, the caller's among them; results do not depend on it.

    The default is the environment variable NORMCORE_NUM_THREADS, or the CPUs this process may run on. Waits for nothing:
    calls in progress in other threads end as they began.

    Parameters
    ----------
    n : int
        1 to 1024, or 0 for the default.

    Raises
    ------
    TypeError, ValueError
        `n` is not an integer, or out of range; or it is 0 and NORMCORE_NUM_THREADS is not a number from 1 to 1024.
    """
    cdef size_t count = _integer("set_num_threads", "n", n, 0, NORMCORE_MAX_THREADS)
    cdef normcore_status status = normcore_context_set_num_threads(context, count)
    if status != NORMCORE_OK:
        _fail("set_num_threads", status)


def selftest():
    """Check that the arithmetic of this process is the one the numeric contract needs, on every instruction set.

    Raises
    ------
    RuntimeError
        Names the check that failed.
    """
    cdef const char *what = NULL
    cdef normcore_status status
    with nogil:
        status = normcore_selftest(&what)
    if status == NORMCORE_ERROR_SELFTEST:
        raise RuntimeError(f"selftest: {'' if what == NULL else what.decode('ascii')}")
    if status != NORMCORE_OK:
        _fail("selftest", status)


def cpu_features():
    """Features of this CPU that matter here, separated by blanks.

    Returns
    -------
    str
    """
    return normcore_cpu_features().decode("ascii")


cdef int _create_context() except -1:
    cdef normcore_status status = normcore_context_create(NULL, &context)
    if status != NORMCORE_OK:
        _fail("normcore", status)
    return 0


_create_context()

__version__ = normcore_version().decode("ascii")
CONTRACT = normcore_contract().decode("ascii")
