# The C library in this process: its statuses as exceptions, the context of all calls, instruction sets, threads.
import os

from libc.stdlib cimport getenv


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


cdef extern from *:
    """
    int normcore_digests_main(int argc, char **argv); /* digests/main.c */
    """
    int normcore_digests_main(int argc, char **argv)


def _digests_main(list arguments):
    """Runs the program ``normcore-digests`` with arguments of bytes and returns its exit status. Where it finds that it
    cannot go on, it ends the process: for a process of its own."""
    cdef char *argv[16]
    cdef int argc = 0
    cdef bytes argument
    if len(arguments) > 14:
        raise ValueError(f"_digests_main: {len(arguments)} arguments; at most 14")
    argv[0] = b"normcore-digests"
    for argument in arguments:
        argc += 1
        argv[argc] = argument
    argv[argc + 1] = NULL
    return normcore_digests_main(argc + 1, argv)


# One context for the process. Busy in one thread, it serves a second one serially, so no thread needs its own.
cdef normcore_context *context = NULL


cdef int _create_context() except -1:
    cdef normcore_status status = normcore_context_create(NULL, &context)
    if status != NORMCORE_OK:
        _fail("normcore", status)
    return 0


def available_isas():
    """Names of the instruction sets that this machine can run, best first. They give the same bits.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> "scalar" in nc.available_isas()
    True
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

    Examples
    --------
    >>> nc.get_isa() in nc.available_isas()
    True
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

    Examples
    --------
    >>> nc.set_isa("scalar")
    >>> nc.get_isa()
    'scalar'
    >>> nc.set_isa(None)
    """
    cdef str op = "set_isa"
    cdef bytes encoded
    cdef const char *text = NULL
    if name is not None:
        if not isinstance(name, str):
            raise TypeError(f"{op}: name is a {type(name).__name__}; it must be a str or None")
        encoded = name.encode("utf-8", "replace")
        text = encoded
    if "\0" in (name or "") or normcore_set_isa(text) != NORMCORE_OK:
        raise ValueError(f"{op}: name is {name!r}; it must be one of {', '.join(available_isas())}")


def get_num_threads():
    """How many threads a call may use, the caller's among them.

    Examples
    --------
    >>> nc.get_num_threads() >= 1
    True
    """
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

    Examples
    --------
    >>> nc.set_num_threads(2)
    >>> nc.get_num_threads()
    2
    >>> nc.set_num_threads(0)
    """
    cdef str op = "set_num_threads"
    cdef size_t count = _integer(op, "n", n, 0, NORMCORE_MAX_THREADS)
    cdef normcore_status status = normcore_context_set_num_threads(context, count)
    if status != NORMCORE_OK:
        _fail(op, status)


def selftest():
    """Check that the arithmetic of this process is the one the numeric contract needs, on every instruction set.

    Raises
    ------
    RuntimeError
        Names the check that failed.

    Examples
    --------
    >>> nc.selftest()  # no error: all is well
    """
    cdef str op = "selftest"
    cdef const char *what = NULL
    cdef normcore_status status
    with nogil:
        status = normcore_selftest(&what)
    if status == NORMCORE_ERROR_SELFTEST:
        raise RuntimeError(f"{op}: {'' if what == NULL else what.decode('ascii')}")
    if status != NORMCORE_OK:
        _fail(op, status)


def cpu_features():
    """Features of this CPU that matter here, separated by blanks.

    Returns
    -------
    str

    Examples
    --------
    >>> isinstance(nc.cpu_features(), str)  # on x86 for example "popcnt avx2 fma"
    True
    """
    return normcore_cpu_features().decode("ascii")
