# cython: language_level=3, boundscheck=False, wraparound=False, binding=True, embedsignature=False
# cython: freethreading_compatible=True, autotestdict=False
"""The operations of the C library on NumPy arrays.

Each argument takes one of two ways. An array that C can read as it lies (right dtype, native byte order, aligned, unit
last stride, row stride of at least a row) is used as it is; anything else is packed once, or refused with an error that
names the operation, the argument and the shapes. Arguments are plain objects looked at through PyArray_* macros: typed
memoryviews cost ten times as much as everything else in a call on small arrays.

Converting a scalar, a list or an array may run anybody's Python code (__float__, __index__, __array__, a warning), and
lets other threads run: either may give an array that has been looked at another shape, dtype or memory. So each
operation converts its numbers first, looks at its arrays then (_rows), and where one had to be packed or compared by
NumPy meanwhile (`distractions`) looks at every array once more (_take), in a stretch without Python code that ends in
the call of C. What stays open is open in NumPy too: ``ndarray.resize(..., refcheck=False)`` in another thread frees
memory that is in use, and an allocator for NumPy that is written in Python may change what it likes.
"""
import numpy as np

cimport numpy as cnp
from libc.stdint cimport int64_t, uint64_t

from normcore.c_api cimport *

cnp.import_array()


cdef extern from *:
    """
    /* What threadpoolctl tells this extension by from others of its name. */
    #if defined(__GNUC__)
    __attribute__((visibility("default")))
    #endif
    extern const int normcore_python_extension;
    const int normcore_python_extension = 1;
    """

# By topic. The first four serve the others.
include "process.pxi"
include "calls.pxi"
include "scalars.pxi"
include "arrays.pxi"
include "affine.pxi"
include "activations.pxi"
include "losses.pxi"
include "norms.pxi"
include "random.pxi"
include "optimizers.pxi"
include "signals.pxi"
include "network.pxi"

_create_context()

__version__ = normcore_version().decode("ascii")
CONTRACT = normcore_contract().decode("ascii")
