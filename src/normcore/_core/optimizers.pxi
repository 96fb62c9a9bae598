# Updates of parameters from gradients, and the norm that clipping needs.

from cpython.ref cimport PyObject

cdef extern from *:
    by_dtype normcore_optimizer_update, normcore_sum_of_squares


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

    Examples
    --------
    >>> params, velocity = np.array([1.0, 1.0]), np.zeros(2)
    >>> nc.optimizer_update("momentum", params, np.array([1.0, -2.0]), velocity, None, learning_rate=0.1)
    >>> params
    array([0.9, 1.2])
    >>> velocity
    array([-0.1,  0.2])
    """
    cdef str op = "optimizer_update"
    cdef normcore_optimizer_options options
    cdef normcore_status status
    cdef PyThreadState *state
    cdef UpdateGroup group
    cdef int t = _type(op, "params", params, 1)
    _optimizer_options(op, t, optimizer, momentum, decay_rate, "beta1", beta1, "beta2", beta2, eps, l2, weight_decay, &options)
    _step_options(op, t, learning_rate, "beta1", gradient_scale, step, &options)
    _update_arrays(op, optimizer, options.optimizer, t, params, grads, slot1, slot2, &group)
    state = _release_gil(group.n)
    status = BY_DTYPE(normcore_optimizer_update, t, context, &options, group.n, group.params, group.grads, group.slot1,
                      group.slot2)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)


cdef extern from "Python.h":
    object PyObject_Vectorcall(object function, PyObject **arguments, size_t count, PyObject *names)
    PyObject **PyTuple_ITEMS "&PyTuple_GET_ITEM" (tuple items, Py_ssize_t i) noexcept


cdef struct UpdateGroup:
    size_t n
    void *params
    const void *grads
    void *slot1
    void *slot2
    double l2
    double weight_decay


cdef normcore_optimizer _optimizer_options(str op, int t, optimizer, momentum, decay_rate, str name1, beta1, str name2, beta2,
                                           eps, l2, weight_decay, normcore_optimizer_options *options) except? NORMCORE_SGD:
    """Checks what an optimiser keeps from update to update, as the kernels of the dtype `t` use it. The betas have names
    of their own."""
    cdef normcore_optimizer kind
    if not isinstance(optimizer, str) or optimizer not in OPTIMIZERS:
        raise ValueError(f"{op}: optimizer is {optimizer!r}; it must be one of {', '.join(OPTIMIZERS)}")
    kind = <normcore_optimizer><int>OPTIMIZERS[optimizer]
    normcore_optimizer_defaults(kind, options, sizeof(normcore_optimizer_options))
    options.momentum = _below_one(op, "momentum", momentum, t)
    options.decay_rate = _below_one(op, "decay_rate", decay_rate, t)
    options.beta1 = _below_one(op, name1, beta1, t)
    options.beta2 = _below_one(op, name2, beta2, t)
    options.eps = _not_negative(op, "eps", eps)
    options.l2 = _not_negative(op, "l2", l2)
    options.weight_decay = _not_negative(op, "weight_decay", weight_decay)
    _check_use(op, "eps", eps, options.eps, t)
    _check_use(op, "l2", l2, options.l2, t)
    return kind


cdef int _step_options(str op, int t, learning_rate, str name1, gradient_scale, step,
                       normcore_optimizer_options *options) except -1:
    """Checks what each update has of its own, alone and with what `_optimizer_options` found."""
    cdef double rate = _not_negative(op, "learning_rate", learning_rate)
    options.learning_rate = rate
    options.gradient_scale = _finite(op, "gradient_scale", gradient_scale)
    options.step = _uint64(op, "step", step)
    if options.step == 0:
        raise ValueError(f"{op}: step is 0; it must be in [1, {0xFFFFFFFFFFFFFFFF}]")
    _check_fit(op, "learning_rate", learning_rate, rate, t)
    _check_use(op, "gradient_scale", gradient_scale, options.gradient_scale, t)
    _check_fit(op, "learning_rate * weight_decay", None, rate * options.weight_decay, t)
    if options.optimizer == NORMCORE_ADAM and _is_infinite(rate / (1.0 - options.beta1), t):
        _check_fit(op, f"learning_rate / (1 - {name1})", None, rate / (1.0 - options.beta1), t)
    return 0


cdef int _update_arrays(str op, optimizer, normcore_optimizer kind, int t, params, grads, slot1, slot2,
                        UpdateGroup *group) except -1:
    """Checks the arrays of an update; their memory and size are in `group`."""
    cdef Rows pr, gr, first, second
    cdef size_t n
    needs_first = kind in (NORMCORE_MOMENTUM, NORMCORE_NESTEROV, NORMCORE_ADAM)
    needs_second = kind in (NORMCORE_RMSPROP, NORMCORE_ADAM)
    for name, slot, needed in (("slot1", slot1, needs_first), ("slot2", slot2, needs_second)):
        if (slot is not None) != needed:
            raise ValueError(f"{op}: {optimizer} {'needs' if needed else 'has no'} {name}")
    _type(op, "params", params, 1)
    n = cnp.PyArray_DIMS(<cnp.ndarray>params)[0]
    _flat(op, "params", params, t, n, True, &pr)
    _flat(op, "grads", grads, t, n, False, &gr)
    first.data = second.data = NULL
    if needs_first:
        _flat(op, "slot1", slot1, t, n, True, &first)
        _clash(op, "slot1", slot1, "grads", grads, APART)
        _clash(op, "slot1", slot1, "params", params, APART)
    if needs_second:
        _flat(op, "slot2", slot2, t, n, True, &second)
        _clash(op, "slot2", slot2, "grads", grads, APART)
        _clash(op, "slot2", slot2, "params", params, APART)
        _clash(op, "slot2", slot2, "slot1", slot1, APART)
    _clash(op, "params", params, "grads", grads, APART)
    _take(op, "params", params, t, 1, n, &pr)
    _take(op, "grads", grads, t, 1, n, &gr)
    if needs_first:
        _take(op, "slot1", slot1, t, 1, n, &first)
    if needs_second:
        _take(op, "slot2", slot2, t, 1, n, &second)
    group.n, group.params, group.grads, group.slot1, group.slot2 = n, pr.data, gr.data, first.data, second.data
    return 0


def check_optimizer(str operation, dtype, optimizer, learning_rate, momentum, decay_rate, betas, eps, l2, weight_decay, /):
    """Refuse for `operation`, which the errors name, the scalars that `optimizer_update` refuses for arrays of `dtype`."""
    cdef normcore_optimizer_options options
    cdef int t = cnp.NPY_FLOAT if dtype == FLOAT32 else cnp.NPY_DOUBLE
    beta1, beta2 = betas
    _optimizer_options(operation, t, optimizer, momentum, decay_rate, "betas[0]", beta1, "betas[1]", beta2, eps, l2,
                       weight_decay, &options)
    _step_options(operation, t, learning_rate, "betas[0]", 1.0, 1, &options)


cdef class Updater:
    """`optimizer_update` of one optimiser, again and again: of the same arrays, with scalars that were checked once.

    Parameters
    ----------
    optimizer, momentum, decay_rate, betas, eps
        As for `optimizer_update`.
    groups : sequence of (params, grads, slot1, slot2, l2, weight_decay)
        Arrays of nobody else: they are not looked at again. All of one dtype.

    Raises
    ------
    TypeError, ValueError
        As `optimizer_update`.
    """
    cdef normcore_optimizer_options options
    cdef UpdateGroup *groups
    cdef size_t count
    cdef double work  # elements of all groups
    cdef double decay  # the greatest of them
    cdef int t
    cdef object held

    def __cinit__(self, optimizer, groups, momentum, decay_rate, betas, eps, /):
        cdef str op = "optimizer_update"
        cdef UpdateGroup *group
        self.held = tuple(groups)
        beta1, beta2 = betas
        self.groups = <UpdateGroup *>malloc((len(self.held) + 1) * sizeof(UpdateGroup))
        if self.groups == NULL:
            raise MemoryError("Updater: out of memory")
        for params, grads, slot1, slot2, l2, weight_decay in self.held:
            group = self.groups + self.count
            self.t = _type(op, "params", params, 1)
            _optimizer_options(op, self.t, optimizer, momentum, decay_rate, "betas[0]", beta1, "betas[1]", beta2, eps, l2,
                               weight_decay, &self.options)
            _update_arrays(op, optimizer, self.options.optimizer, self.t, params, grads, slot1, slot2, group)
            group.l2, group.weight_decay = self.options.l2, self.options.weight_decay
            self.decay = max(self.decay, group.weight_decay)
            self.work += group.n
            self.count += 1

    def __dealloc__(self):
        free(self.groups)

    def __reduce__(self):
        raise TypeError("Updater: a copy would change arrays of nobody")

    def update(self, learning_rate, gradient_scale, step, calls, /):
        """Update all groups, then make each call (function, arguments ...).

        Python calls the handlers of signals between instructions of Python code alone: they find all of it done or, if
        the functions are compiled too, nothing. ValueError, and nothing has changed, for a number that is out of range.
        """
        cdef tuple call
        cdef UpdateGroup *group
        cdef normcore_optimizer_options options = self.options
        cdef normcore_status status = NORMCORE_OK
        cdef PyThreadState *state
        cdef size_t i
        options.weight_decay = self.decay
        _step_options("optimizer_update", self.t, learning_rate, "betas[0]", gradient_scale, step, &options)
        state = _release_gil(self.work)
        for i in range(self.count):
            group = self.groups + i
            options.l2, options.weight_decay = group.l2, group.weight_decay
            status = BY_DTYPE(normcore_optimizer_update, self.t, context, &options, group.n, group.params, group.grads,
                              group.slot1, group.slot2)
            if status != NORMCORE_OK:
                break
        _restore_gil(state)
        if status != NORMCORE_OK:
            _fail("optimizer_update", status)
        for call in calls:
            PyObject_Vectorcall(call[0], PyTuple_ITEMS(call, 1), len(call) - 1, NULL)


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

    Examples
    --------
    >>> nc.sum_of_squares(np.array([[1.0, 2.0], [2.0, 4.0]]))
    25.0
    """
    cdef str op = "sum_of_squares"
    cdef Rows rows
    cdef normcore_status status
    cdef PyThreadState *state
    cdef double result = 0.0
    cdef size_t n
    cdef int t = _type(op, "x", x, 1)
    held = _rows(x, t, &rows)
    if rows.stride != rows.d:
        held = _rows(_packed(x, t), t, &rows)
    _take(op, "x", held, t, rows.n, rows.d, &rows)
    n = rows.n * rows.d
    state = _release_gil(n)
    status = BY_DTYPE(normcore_sum_of_squares, t, context, n, rows.data, &result)
    _restore_gil(state)
    if status != NORMCORE_OK:
        _fail(op, status)
    return result
