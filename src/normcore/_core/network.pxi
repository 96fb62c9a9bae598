# Network, a multilayer perceptron over flat arrays, and Pass, the memory of a training pass.
import sys
from functools import partial

from libc.stdlib cimport free, malloc

cdef extern from *:
    by_dtype normcore_mlp_initialize, normcore_mlp_forward, normcore_mlp_forward_training, normcore_mlp_backward
    by_dtype normcore_mlp_loss_and_grads, normcore_mlp_pass_create


cdef dict NORMS = {None: NORMCORE_NORM_NONE, "batch": NORMCORE_NORM_BATCH, "layer": NORMCORE_NORM_LAYER}
cdef tuple SEGMENTS = ("w", "b", "gamma", "beta", "running_mean", "running_var")


cdef class Network:
    """{affine - [norm] - activation - [dropout]} x (layers - 1) - affine, over flat arrays that the caller owns.

    It holds the shape alone: no parameters, no work memory. `normcore.MLP` owns those, and is what users see.

    Parameters
    ----------
    sizes : sequence of int
        Features, hidden widths ..., outputs; each at least 1.
    norm : {None, "batch", "layer"}
        Normalisation after each hidden affine map.
    activation : one of `ACTIVATIONS`: "relu", "tanh", ...
        Of the hidden layers; the slope of leaky ReLU is 0.01.
    keep : float in [2**-32, 1]
        Dropout after each hidden activation: the probability to keep an element.
    eps, momentum, unbiased_running_var
        As in `batch_norm_forward`.
    dtype : float32 or float64

    Attributes
    ----------
    sizes, norm, activation, keep, eps, momentum, unbiased_running_var, dtype
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

    Examples
    --------
    >>> from normcore import _core
    >>> network = _core.Network((3, 5, 2), norm="batch")
    >>> params, buffers = np.empty(network.parameter_count, np.float32), np.empty(network.buffer_count, np.float32)
    >>> network.initialize(params, buffers, seed=1)
    >>> params.size, network.forward(np.ones((4, 3)), params, buffers).shape
    (42, (4, 2))
    """
    cdef normcore_mlp *mlp
    cdef int t
    cdef size_t features
    cdef size_t outputs
    cdef size_t least_rows  # of a training pass
    cdef readonly tuple sizes
    cdef readonly object norm
    cdef readonly str activation
    cdef readonly double keep
    cdef readonly double eps
    cdef readonly double momentum
    cdef readonly bint unbiased_running_var
    cdef readonly object dtype
    cdef readonly size_t parameter_count
    cdef readonly size_t buffer_count

    def __cinit__(self, sizes, *, norm=None, activation="relu", keep=1.0, eps=1e-5, momentum=0.9,
                  bint unbiased_running_var=False, dtype="float32"):
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
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise ValueError(f"Network: activation is {activation!r}; it must be one of {', '.join(ACTIVATIONS)}")
        self.t = _dtype("Network", dtype)
        self.dtype = FLOAT32 if self.t == cnp.NPY_FLOAT else FLOAT64
        self.norm = norm
        self.activation = str(activation)
        self.keep = options.keep = _keep("Network", keep)
        self.eps = options.eps = _epsilon("Network", eps, self.t)
        self.momentum = options.momentum = _fraction("Network", "momentum", momentum)
        self.unbiased_running_var = options.unbiased_running_var = unbiased_running_var
        options.norm = <normcore_norm><int>NORMS[norm]
        options.activation = <normcore_activation><int>ACTIVATIONS[activation]
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
        self.features, self.outputs = self.sizes[0], self.sizes[len(self.sizes) - 1]
        self.least_rows = 2 if norm == "batch" else 1
        self.parameter_count = normcore_mlp_parameter_count(self.mlp)
        self.buffer_count = normcore_mlp_buffer_count(self.mlp)

    def __dealloc__(self):
        if self.mlp != NULL:
            normcore_mlp_destroy(self.mlp)

    def __reduce__(self):
        return partial(Network, self.sizes, norm=self.norm, activation=self.activation, keep=self.keep, eps=self.eps,
                       momentum=self.momentum, unbiased_running_var=self.unbiased_running_var,
                       dtype=self.dtype.name), ()

    def __repr__(self):
        return (f"Network({self.sizes}, norm={self.norm!r}, activation={self.activation!r}, keep={self.keep}, "
                f"dtype={self.dtype.name!r})")

    cdef int flat(self, str op, object params, object buffers, bint params_written, bint buffers_written, Rows *pr,
                  Rows *br) except -1:
        """Fills the rows of parameters and buffers. Without buffers their data are NULL."""
        _flat(op, "params", params, self.t, self.parameter_count, params_written, pr)
        br.data = NULL
        if buffers is not None or self.buffer_count != 0:
            _flat(op, "buffers", buffers, self.t, self.buffer_count, buffers_written, br)
        return 0

    cdef int take(self, str op, object params, object buffers, Rows *pr, Rows *br) except -1:
        """As _take, for both."""
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

    cdef int check_features(self, str op, object x, int min_ndim) except -1:
        """TypeError or ValueError unless x has rows of features."""
        cdef int ndim
        _type(op, "x", x, min_ndim)
        ndim = cnp.PyArray_NDIM(<cnp.ndarray>x)
        if cnp.PyArray_DIMS(<cnp.ndarray>x)[ndim - 1] != <cnp.npy_intp>self.features:
            raise ValueError(f"{op}: x is {x.shape} but the network has {self.features} features; they must equal x's "
                             f"last axis")
        return 0

    cdef object input_rows(self, str op, object x, Rows *rows):
        """x as rows of the network's dtype, to which data of the other one are rounded."""
        self.check_features(op, x, 1)
        return _rows(x, self.t, rows)

    def takes(self, x, /):
        """Whether `x` is an array of rows of the network's features and dtype: of its argument nothing is to be converted."""
        cdef int ndim
        if not cnp.PyArray_CheckExact(x) or cnp.PyArray_TYPE(<cnp.ndarray>x) != self.t:
            return False
        ndim = cnp.PyArray_NDIM(<cnp.ndarray>x)
        return (ndim >= 2 and cnp.PyArray_DIMS(<cnp.ndarray>x)[ndim - 1] == <cnp.npy_intp>self.features
                and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>x))

    def takes_labels(self, x, y, /):
        """Whether `x` are rows, (n, features), and `y` labels for them, (n,), that a training pass takes as they are."""
        return (cnp.PyArray_Check(x) and cnp.PyArray_NDIM(<cnp.ndarray>x) == 2 and self.outputs > 1
                and <size_t>cnp.PyArray_DIMS(<cnp.ndarray>x)[0] >= self.least_rows and cnp.PyArray_CheckExact(y)
                and cnp.PyArray_ISINTEGER(<cnp.ndarray>y) and _has_rows_of(<cnp.ndarray>y, <cnp.ndarray>x))

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
            Weights become ``weight_scale`` times normal deviates, by default by the activation:
            ``sqrt(2 / (in + out))`` for tanh and logistic (Glorot and Bengio, AISTATS 2010), ``sqrt(2 / in)`` for the
            others (He et al., arXiv 1502.01852). Layer l uses stream ``stream + l``. Biases and beta 0, gamma 1.
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
        cdef double scale = -1.0  # by the activation
        if weight_scale is not None:
            scale = _not_negative(op, "weight_scale", weight_scale)
            _check_deviation(op, "weight_scale", weight_scale, 0.0, scale, self.t)
        self.flat(op, params, buffers, True, True, &pr, &br)
        if buffers is not None:
            _clash(op, "params", params, "buffers", buffers, APART)
        self.take(op, params, buffers, &pr, &br)
        state = _release_gil(self.parameter_count)
        status = BY_DTYPE(normcore_mlp_initialize, self.t, context, self.mlp, seed_word, stream_word, scale, pr.data,
                          br.data)
        _restore_gil(state)
        if status != NORMCORE_OK:
            _fail(op, status)

    def forward(self, x, params, buffers, out=None):
        """Return the outputs of `x` in evaluation mode, in `out` where it is given.

        Parameters
        ----------
        x : ndarray (..., features), float32 or float64
            Any layout; rounded to the network's dtype if it is of the other one.
        params : ndarray (parameter_count,)
        buffers : ndarray (buffer_count,), or None if there are none
        out : ndarray (..., outputs) of the network's dtype, optional
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
        self.flat(op, params, buffers, False, False, &pr, &br)
        x_held = self.input_rows(op, x, &xr)
        y = _target(op, out, self.t, <cnp.ndarray>x, self.outputs, &yr)
        if out is not None and (_clash(op, "out", out, "x", x, APART) | _clash(op, "out", out, "params", params, APART)
                                | _clash(op, "out", out, "buffers", buffers, APART)):
            y = _new(self.t, <cnp.ndarray>x, self.outputs, &yr)
        self.take(op, params, buffers, &pr, &br)
        _take(op, "x", x_held, self.t, xr.n, self.features, &xr)
        _take(op, "out", y, self.t, xr.n, self.outputs, &yr)
        state = _release_gil(<double>xr.n * self.parameter_count)
        status = BY_DTYPE(normcore_mlp_forward, self.t, context, self.mlp, xr.n, xr.data, xr.stride, pr.data, br.data,
                          yr.data, yr.stride)
        _restore_gil(state)
        if status != NORMCORE_OK:
            if status == NORMCORE_ERROR_VALUE:
                self.check_variances(op, buffers)
            _fail(op, status)
        return _finish(out, y)

    def forward_training(self, x, params, buffers, Pass tape, out=None, *, seed=0, stream=0):
        """Return the outputs of `x` in training mode, in `out` where it is given; into `tape` goes what `backward` needs.

        Parameters
        ----------
        x : ndarray (..., features), float32 or float64
            Any layout; rounded to the network's dtype if it is of the other one.
        params : ndarray (parameter_count,)
        buffers : ndarray (buffer_count,), or None
            Running statistics, moved in place. None: they stay as they are.
        tape : Pass
            Of this network, for at least as many rows. One thread at a time.
        out : ndarray (..., outputs) of the network's dtype, optional
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
        cdef uint64_t seed_word = _uint64(op, "seed", seed), stream_word = _uint64(op, "stream", stream)
        _flat(op, "params", params, self.t, self.parameter_count, False, &pr)
        br.data = NULL
        if buffers is not None:
            _flat(op, "buffers", buffers, self.t, self.buffer_count, True, &br)
            _clash(op, "buffers", buffers, "x", x, APART)
            _clash(op, "buffers", buffers, "params", params, APART)
        x_held = self.input_rows(op, x, &xr)
        self.check_pass(op, tape, x, xr.n)
        y = _target(op, out, self.t, <cnp.ndarray>x, self.outputs, &yr)
        if out is not None and (_clash(op, "out", out, "x", x, APART) | _clash(op, "out", out, "params", params, APART)
                                | (buffers is not None and _clash(op, "out", out, "buffers", buffers, APART))):
            y = _new(self.t, <cnp.ndarray>x, self.outputs, &yr)
        self.take(op, params, buffers, &pr, &br)
        _take(op, "x", x_held, self.t, xr.n, self.features, &xr)
        _take(op, "out", y, self.t, xr.n, self.outputs, &yr)
        state = _release_gil(<double>xr.n * self.parameter_count)
        status = BY_DTYPE(normcore_mlp_forward_training, self.t, context, self.mlp, xr.n, xr.data, xr.stride, pr.data,
                          br.data, seed_word, stream_word, tape.tape, yr.data, yr.stride)
        _restore_gil(state)
        if status != NORMCORE_OK:
            if status == NORMCORE_ERROR_VALUE and buffers is not None:
                self.check_variances(op, buffers)
            _fail(op, status)
        return _finish(out, y)

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
        _flat(op, "params", params, self.t, self.parameter_count, False, &pr)
        _flat(op, "grads", grads, self.t, self.parameter_count, True, &gr)
        x_held = self.input_rows(op, x, &xr)
        self.check_pass(op, tape, x, xr.n)
        _type(op, "dy", dy, 1)
        if not (cnp.PyArray_NDIM(<cnp.ndarray>dy) == cnp.PyArray_NDIM(<cnp.ndarray>x)
                and _leading_match(<cnp.ndarray>dy, <cnp.ndarray>x)
                and <size_t>cnp.PyArray_DIMS(<cnp.ndarray>dy)[cnp.PyArray_NDIM(<cnp.ndarray>dy) - 1] == self.outputs):
            raise ValueError(f"{op}: dy is {dy.shape} but x is {x.shape}; dy must be {_leading(x) + (self.outputs,)}")
        dy_held = _rows(dy, self.t, &dyr)
        _clash(op, "grads", grads, "x", x, APART)
        _clash(op, "grads", grads, "params", params, APART)
        _clash(op, "grads", grads, "dy", dy, APART)
        dxr.data = NULL
        dxr.stride = self.features
        held = None
        if dx is not None:
            held = _target(op, dx, self.t, <cnp.ndarray>x, self.features, &dxr, "dx")
            if (_clash(op, "dx", dx, "x", x, APART) | _clash(op, "dx", dx, "params", params, APART)
                    | _clash(op, "dx", dx, "dy", dy, APART) | _clash(op, "dx", dx, "grads", grads, APART)):
                held = _new(self.t, <cnp.ndarray>x, self.features, &dxr)
        _take(op, "params", params, self.t, 1, self.parameter_count, &pr)
        _take(op, "grads", grads, self.t, 1, self.parameter_count, &gr)
        _take(op, "x", x_held, self.t, xr.n, self.features, &xr)
        _take(op, "dy", dy_held, self.t, xr.n, self.outputs, &dyr)
        if held is not None:
            _take(op, "dx", held, self.t, xr.n, self.features, &dxr)
        state = _release_gil(<double>xr.n * self.parameter_count)
        status = BY_DTYPE(normcore_mlp_backward, self.t, context, self.mlp, xr.n, xr.data, xr.stride, pr.data,
                          tape.tape, dyr.data, dyr.stride, gr.data, dxr.data, dxr.stride)
        _restore_gil(state)
        if status == NORMCORE_ERROR_VALUE or status == NORMCORE_ERROR_SIZE:
            raise ValueError(f"{op}: x is {x.shape}; the pass holds no forward pass of so many rows")
        if status != NORMCORE_OK:
            _fail(op, status)
        if dx is not None:
            _finish(dx, held)

    def loss_and_grads(self, x, labels, params, buffers, grads, class_weight=None, sample_weight=None,
                       label_smoothing=0.0, ignore_index=None, seed=0, stream=0, bint update_statistics=True, *,
                       reduction="mean"):
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
        cdef normcore_mlp_loss_options options
        cdef normcore_status status
        cdef PyThreadState *state
        cdef double loss = 0.0, weight_sum = 0.0
        cdef size_t bad = 0
        cdef str op = "Network.loss_and_grads"
        cdef uint64_t seed_word = _uint64(op, "seed", seed)
        cdef uint64_t stream_word = _uint64(op, "stream", stream)
        cdef size_t c = self.outputs
        self.check_features(op, x, 2)
        labels_held = _labels(op, labels, "x", x, c)
        held = _goal(op, labels_held, "x", x, self.t, c, class_weight, sample_weight, label_smoothing, ignore_index,
                     reduction, &goal)
        if goal.options.reduction == NORMCORE_REDUCTION_NONE:
            raise ValueError(f"{op}: reduction is 'none'; it must be 'mean' or 'sum'")
        self.flat(op, params, buffers, False, True, &pr, &br)
        _flat(op, "grads", grads, self.t, self.parameter_count, True, &gr)
        x_held = self.input_rows(op, x, &xr)
        if xr.n == 0:
            raise ValueError(f"{op}: x is {x.shape}; a training pass needs at least one row")
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
        _take(op, "x", x_held, self.t, xr.n, self.features, &xr)
        normcore_mlp_loss_defaults(&options, sizeof(normcore_mlp_loss_options))
        options.cross_entropy = &goal.options
        state = _release_gil(<double>xr.n * self.parameter_count)
        status = BY_DTYPE(normcore_mlp_loss_and_grads, self.t, context, self.mlp, xr.n, xr.data, xr.stride, goal.labels,
                          goal.targets.data, goal.targets.stride, &options, seed_word, stream_word, pr.data,
                          br.data, gr.data, &loss, &weight_sum, &bad)
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
        status = BY_DTYPE(normcore_mlp_pass_create, network.t, network.mlp, self.rows, &self.tape)
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
