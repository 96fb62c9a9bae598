# How C is called: the function of a dtype, and the GIL given away while it has much to do.

cdef extern from *:
    """
    /* Calls name_f32 or name_f64. Arrays are pointers to void, which C converts to what either takes. */
    #define NORMCORE_BY_DTYPE(name, t, ...) ((t) == NPY_FLOAT ? name##_f32(__VA_ARGS__) : name##_f64(__VA_ARGS__))
    """
    ctypedef int by_dtype  # what such names are declared as, each where it is called; they stand for nothing else
    normcore_status BY_DTYPE "NORMCORE_BY_DTYPE" (by_dtype name, int t, ...) noexcept nogil

cdef extern from *:
    """
    /* Lines are traced with the GIL, which a build for coverage therefore never gives away. */
    #ifdef CYTHON_TRACE_NOGIL
    #define NORMCORE_GIL_WORK HUGE_VAL
    #else
    #define NORMCORE_GIL_WORK 16384.0
    #endif
    """
    const double NORMCORE_GIL_WORK

cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass
    PyThreadState *PyEval_SaveThread() noexcept nogil
    void PyEval_RestoreThread(PyThreadState *state) noexcept nogil

# Giving the GIL away and taking it back costs 50 ns: a twentieth of the work of this many elements.
cdef double GIL_WORK = NORMCORE_GIL_WORK


# Between these two no Python object is touched. The pair instead of `with nogil`: it can depend on the work without a
# second copy of each call.
cdef inline PyThreadState *_release_gil(double work) noexcept nogil:
    return PyEval_SaveThread() if work >= GIL_WORK else NULL


cdef inline void _restore_gil(PyThreadState *state) noexcept nogil:
    if state != NULL:
        PyEval_RestoreThread(state)
