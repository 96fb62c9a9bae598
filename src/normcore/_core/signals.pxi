# How the handler of a signal is exchanged without a change of what the system calls.
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
