# Numbers: a Python object to a number of C, or an error that names the operation, the argument and the range.
import sys
from operator import index as _as_index

from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from libc.math cimport fabs, isfinite


cdef extern from "<float.h>":
    const double FLT_MAX
    const double FLT_MIN
    const double DBL_MAX
    const double DBL_MIN

# From here on a double rounds to infinity in float32, up to there to 0, from there on to 1; and the greatest float32.
cdef double FLOAT32_OVERFLOW = (2.0 - 2.0 ** -24) * 2.0 ** 127
cdef double FLOAT32_UNDERFLOW = 2.0 ** -150
cdef double FLOAT32_ONE = 1.0 - 2.0 ** -25
cdef double LEAST_KEEP = 2.0 ** -32


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
    if PyLong_CheckExact(value):
        try:
            return value
        except OverflowError:
            pass  # the error below names the argument
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
