"""Batch, layer, spatial batch and group normalisation: cases, references and known mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from normcore.cs231n.checker.function import Array, Call, Case, Function, Outcome, Wrong, cache_of, outputs_of

__all__ = ["FUNCTIONS"]

_FAR = 1e4  # the mean of the cases whose accuracy is looked at


def _given(
    seed: int,
    shape: tuple[int, ...],
    width: tuple[int, ...],
    scale: float = 1.0,
    mean: float = 0.0,
    dtype: Any = np.float64,
) -> dict[str, Any]:
    """Arrays of unlike rows and columns: a mean or a spread of the wrong axis must show."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if shape[0] > 2:
        x[0] *= 2.5
    x = x * np.linspace(0.6, 1.7, shape[1]).reshape(1, -1, *[1] * (len(shape) - 2)) + rng.standard_normal(shape[1:])
    arrays = {
        "x": scale * x + mean,
        "gamma": 0.5 + rng.random(width),
        "beta": 1 + rng.standard_normal(width),
        "dout": rng.standard_normal(shape) + 0.3,
    }
    return {name: array.astype(dtype) for name, array in arrays.items()}


def _batch_case(
    seed: int,
    n: int,
    d: int,
    mode: str = "train",
    tag: str = "",
    *,
    eps: float | None = 0.3,
    momentum: float | None = 0.7,
    running: bool = True,
    scale: float = 1.0,
    mean: float = 0.0,
    dtype: Any = np.float64,
) -> Case:
    given = _given(seed, (n, d), (d,), scale, mean, dtype)
    rng = np.random.default_rng(seed + 100)
    parameters: dict[str, Any] = {"mode": mode}
    if eps is not None:
        parameters["eps"] = eps
    if momentum is not None:
        parameters["momentum"] = momentum
    if running:
        parameters["running_mean"] = rng.standard_normal(d).astype(dtype)
        parameters["running_var"] = (0.5 + rng.random(d)).astype(dtype)
    return Case({**given, "bn_param": parameters}, tag)


_BATCH_CASES = (
    _batch_case(21, 5, 3),
    _batch_case(22, 4, 6, eps=0.8, momentum=0.6),
    _batch_case(23, 6, 4, running=False, eps=0.2),
    _batch_case(24, 6, 3, eps=None, momentum=None, scale=3e-3),
    _batch_case(25, 4, 3, "test", eps=0.4),
    _batch_case(26, 3, 5, "test", eps=0.9, momentum=0.6),
    _batch_case(27, 1, 4, tag="one row"),
    _batch_case(28, 1, 4, "test", tag="one row"),
    _batch_case(29, 5, 1, tag="one column"),
    _batch_case(30, 5, 3, tag="float32", dtype=np.float32),
    _batch_case(31, 24, 5, tag="far", mean=_FAR, eps=1e-5),
)


def _layer_case(
    seed: int,
    n: int,
    d: int,
    tag: str = "",
    *,
    eps: float | None = 0.3,
    scale: float = 1.0,
    mean: float = 0.0,
    dtype: Any = np.float64,
) -> Case:
    given = _given(seed, (n, d), (d,), scale, mean, dtype)
    return Case({**given, "ln_param": {} if eps is None else {"eps": eps}}, tag)


_LAYER_CASES = (
    _layer_case(41, 4, 6),
    _layer_case(42, 5, 3, eps=0.8),
    _layer_case(43, 3, 4, eps=0.2),
    _layer_case(44, 3, 6, eps=None, scale=3e-3),
    _layer_case(45, 1, 5, "one row"),
    _layer_case(46, 4, 6, "float32", dtype=np.float32),
    _layer_case(47, 6, 24, "far", mean=_FAR, eps=1e-5),
)


def _spread(x: Array, eps: float, axis: Any, wrong: Wrong) -> tuple[Array, Array, Array]:
    """x normalised, what it is divided by, and x about its mean."""
    if "other axis" in wrong:
        axis = 1 - axis
    if "whole" in wrong:
        axis = None
    mean = x.mean(axis=axis, keepdims=True)
    n = x.size // mean.size
    centred = x - mean
    var = (centred**2).mean(axis=axis, keepdims=True)
    if "raw variance" in wrong:
        var = (x**2).mean(axis=axis, keepdims=True)
    if "unbiased" in wrong or "unbiased both" in wrong:
        var = var * n / (n - 1)
    if "absolute deviation" in wrong:
        var = np.abs(centred).mean(axis=axis, keepdims=True) ** 2
    if "default eps" in wrong:
        eps = 1e-5
    if "no eps" in wrong:
        eps = 0.0
    divisor = np.sqrt(var + eps)
    if "eps after root" in wrong:
        divisor = np.sqrt(var) + eps
    if "no root" in wrong:
        divisor = var + eps
    if "std and eps" in wrong:
        divisor = np.sqrt(np.sqrt(var) + eps)
    return (x if "not centred" in wrong else centred) / divisor, divisor, centred


def _scaled(xhat: Array, gamma: Array, beta: Array, wrong: Wrong) -> Array:
    if "no gamma" in wrong:
        return np.asarray(xhat + beta)
    if "no beta" in wrong:
        return np.asarray(xhat * gamma)
    if "neither" in wrong:
        return xhat
    if "swapped" in wrong:
        return np.asarray(xhat * beta + gamma)
    if "gamma after beta" in wrong:
        return np.asarray(gamma * (xhat + beta))
    return np.asarray(xhat * gamma + beta)


_FORWARD = {
    "no root": "divides by the variance, not by its square root",
    "eps after root": "eps is added after the square root: sqrt(var) + eps in place of sqrt(var + eps)",
    "std and eps": "takes the square root twice: sqrt(std + eps) in place of sqrt(var + eps)",
    "no eps": "eps is left out",
    "default eps": "eps is always 1e-5: that of the parameters is not used",
    "not centred": "the mean is not subtracted",
    "raw variance": "the variance is the mean of x², without the mean subtracted first",
    "absolute deviation": "divides by the mean absolute deviation, not by the standard deviation",
    "whole": "takes mean and variance over the whole array: they are those of all columns and rows together",
    "no gamma": "gamma is left out",
    "no beta": "beta is left out",
    "neither": "gamma and beta are left out: out is x normalised",
    "swapped": "gamma and beta are exchanged: beta multiplies and gamma is added",
    "gamma after beta": "gamma multiplies beta too: gamma (xhat + beta) in place of gamma xhat + beta",
}


# ---------------------------------------------------------------- batch norm


def _batch_settings(parameters: Mapping[str, Any]) -> tuple[float, float]:
    return parameters.get("eps", 1e-5), parameters.get("momentum", 0.9)


def _batchnorm_forward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    x, gamma, beta = (case.given[name] for name in ("x", "gamma", "beta"))
    parameters = case.given["bn_param"]
    eps, momentum = _batch_settings(parameters)
    old_mean = parameters.get("running_mean", np.zeros_like(gamma))
    old_var = parameters.get("running_var", np.zeros_like(gamma))
    n = x.shape[0]
    xhat, divisor, _ = _spread(x, eps, 0, wrong)
    mean, var = x.mean(axis=0), x.var(axis=0)
    test = parameters["mode"] == "test"
    if test or "train with running" in wrong:
        divisor = np.sqrt(old_var + (1e-5 if "default eps" in wrong else eps))
        if (test and "test no eps" in wrong) or "no eps" in wrong:
            divisor = np.sqrt(old_var)
        if (test and "test eps after root" in wrong) or "eps after root" in wrong:
            divisor = np.sqrt(old_var) + eps
        if (test and "test no root" in wrong) or "no root" in wrong:
            divisor = old_var + eps
        if (test and "test batch" not in wrong) or not test:
            xhat = (x - (0 if "not centred" in wrong else old_mean)) / divisor
    out = _scaled(xhat, gamma, beta, wrong)
    if test and "test no scale" in wrong:
        out = xhat
    if test and "test updates" not in wrong:
        return {"out": out, "running_mean": old_mean, "running_var": old_var}
    if "momentum default" in wrong:
        momentum = 0.9
    if "momentum swapped" in wrong:
        momentum = 1 - momentum
    if "replaced" in wrong:
        momentum = 0.0
    if "running unbiased" in wrong or "unbiased both" in wrong:
        var = var * n / (n - 1)
    if "running std" in wrong:
        var = np.sqrt(var)
    if "running std eps" in wrong:
        var = np.sqrt(var + eps)
    if "running eps" in wrong:
        var = var + eps
    new_mean = momentum * old_mean + (1 - momentum) * mean
    new_var = momentum * old_var + (1 - momentum) * var
    if "running whole" in wrong:
        new_mean = momentum * old_mean + (1 - momentum) * x.mean()
        new_var = momentum * old_var + (1 - momentum) * x.var()
    if "running mean swapped" in wrong:
        new_mean = (1 - momentum) * old_mean + momentum * mean
    if "running var swapped" in wrong:
        new_var = (1 - momentum) * old_var + momentum * var
    if "no decay" in wrong:
        new_mean, new_var = momentum * old_mean + mean, momentum * old_var + var
    if "not written" in wrong:
        new_mean, new_var = old_mean, old_var
    if "mean not written" in wrong:
        new_mean = old_mean
    if "var not written" in wrong:
        new_var = old_var
    if "running exchanged" in wrong:
        new_mean, new_var = new_var, new_mean
    return {"out": out, "running_mean": new_mean, "running_var": new_var}


_BATCH_FORWARD = {
    **_FORWARD,
    "other axis": "takes mean and variance over axis 1 (that is layer norm), not over the rows (axis 0)",
    "unbiased both": "the variance is the unbiased one (N - 1), in the output and in running_var",
    "unbiased": "divides by the unbiased variance (N - 1), not by that of the batch (N)",
    "train with running": "normalises with the running statistics in train mode, not with those of the batch",
    "test batch": "uses the statistics of the batch in test mode, not the running ones",
    "test updates": "updates the running statistics in test mode",
    "test no eps": "eps is left out in test mode",
    "test eps after root": "eps is added after the square root in test mode",
    "test no root": "divides by the running variance in test mode, not by its square root",
    "test no scale": "gamma and beta are left out in test mode",
    "running unbiased": "the running variance is the unbiased one (N - 1)",
    "running std": "running_var follows the standard deviation, not the variance",
    "running std eps": "running_var follows sqrt(var + eps), not the variance",
    "running eps": "running_var follows var + eps, not the variance",
    "running whole": "the running statistics follow mean and variance of the whole array, not of each column",
    "momentum swapped": "the momentum is exchanged: the running statistics keep 1 - momentum of the old ones",
    "momentum default": "the momentum is always 0.9: that of bn_param is not used",
    "running mean swapped": "the momentum of the running mean is exchanged: it keeps 1 - momentum of the old one",
    "running var swapped": "the momentum of the running variance is exchanged: it keeps 1 - momentum of the old one",
    "replaced": "the running statistics are those of the last batch: the old ones are forgotten",
    "no decay": "the running statistics grow: the batch's are added without the factor 1 - momentum",
    "not written": "the running statistics are not written back into bn_param",
    "mean not written": "the running mean is not written back into bn_param",
    "var not written": "the running variance is not written back into bn_param",
    "running exchanged": "running_mean and running_var are exchanged",
}


def _batch_forward_calls(case: Case) -> list[Call]:
    arguments = {name: case.given[name] for name in ("x", "gamma", "beta", "bn_param")}
    return [Call("batchnorm_forward", arguments, ("x", "gamma", "beta"), (1,))]


def _batch_observed(case: Case, calls: list[dict[str, Any]]) -> dict[str, Any]:
    found = {"out": outputs_of(calls[0], ("out", "cache"))["out"]}
    after = calls[0]["after"].get("bn_param", {})
    for name in ("running_mean", "running_var"):
        value = after.get(name)
        found[name] = value if isinstance(value, np.ndarray) else np.zeros_like(case.given["gamma"])
    return found


# ---------------------------------------------------------------- backward of all


def _parts(case: Case, axis: Any, eps: float, wrong: Wrong) -> dict[str, Array]:
    """The summands of dx, and what dgamma and dbeta sum."""
    x, gamma, dout = (case.given[name] for name in ("x", "gamma", "dout"))
    if "backward no eps" in wrong:
        wrong |= {"no eps"}
    xhat, divisor, centred = _spread(x, eps, axis, wrong)
    dxhat = dout if "dx no gamma" in wrong else dout * gamma**2 if "dx gamma twice" in wrong else dout * gamma
    over: Any = axis
    if "dx other axis" in wrong or "other axis" in wrong:
        over = 1 - axis
    unit = xhat
    if "dx x for xhat" in wrong:
        unit = x
    if "dx x for centred" in wrong:
        unit = x / divisor
    if "dx centred for xhat" in wrong:
        unit = centred
    if "dx divided twice" in wrong:
        divisor = divisor**2
    if "dx multiplied" in wrong:
        divisor = 1 / divisor
    direct = dxhat / divisor
    of_mean = -dxhat.mean(axis=over, keepdims=True) / divisor
    of_var = -unit * (dxhat * unit).mean(axis=over, keepdims=True) / divisor
    if "dx mean of dout" in wrong:
        of_mean = -dout.mean(axis=over, keepdims=True) / divisor
    if "dx variance of dout" in wrong:
        of_var = -unit * (dout * unit).mean(axis=over, keepdims=True) / divisor
    return {"direct": direct, "mean": of_mean, "variance": of_var, "xhat": xhat, "centred": centred}


def _norm_backward(case: Case, axis: int, eps: float, wrong: Wrong) -> dict[str, Any]:
    x, gamma, dout = (case.given[name] for name in ("x", "gamma", "dout"))
    p = _parts(case, axis, eps, wrong)
    n = x.shape[axis]
    of_mean, of_var = p["mean"], p["variance"]
    if "dx no mean" in wrong or "dx constants" in wrong:
        of_mean = 0 * of_mean
    if "dx no variance" in wrong or "dx constants" in wrong:
        of_var = 0 * of_var
    if "dx mean summed" in wrong or "dx sums" in wrong:
        of_mean = n * of_mean
    if "dx variance summed" in wrong or "dx sums" in wrong:
        of_var = n * of_var
    if "dx variance half" in wrong:
        of_var = of_var / 2
    if "dx variance sign" in wrong:
        of_var = -of_var
    if "dx mean sign" in wrong:
        of_mean = -of_mean
    if "dx unbiased" in wrong:
        of_var = of_var * n / (n - 1)
    dx = p["direct"] + of_mean + of_var
    if "dx times n" in wrong:
        dx = n * dx
    dgamma, dbeta = (dout * p["xhat"]).sum(axis=0), dout.sum(axis=0)
    if "dgamma of x" in wrong:
        dgamma = (dout * x).sum(axis=0)
    if "dgamma centred" in wrong:
        dgamma = (dout * p["centred"]).sum(axis=0)
    if "dgamma times gamma" in wrong:
        dgamma = dgamma * gamma
    if "dgamma of out" in wrong:
        dgamma = (dout * (p["xhat"] * gamma + case.given["beta"])).sum(axis=0)
    if "dgamma dbeta axis" in wrong or "dgamma axis" in wrong:
        dgamma = (dout * p["xhat"]).sum(axis=1)
    if "dgamma dbeta axis" in wrong or "dbeta axis" in wrong:
        dbeta = dout.sum(axis=1)
    if "dgamma dbeta mean" in wrong or "dgamma mean" in wrong:
        dgamma = (dout * p["xhat"]).mean(axis=0)
    if "dgamma dbeta mean" in wrong or "dbeta mean" in wrong:
        dbeta = dout.mean(axis=0)
    if "dbeta whole" in wrong:
        dbeta = np.asarray(dout.sum())
    if "dgamma whole" in wrong:
        dgamma = np.asarray((dout * p["xhat"]).sum())
    if "dbeta times gamma" in wrong:
        dbeta = dbeta * gamma
    return {"dx": dx, "dgamma": dgamma, "dbeta": dbeta}


def _backward_mistakes(count: str) -> dict[str, str]:
    """The sentences; `count` is what the means are over, "N" rows or "D" columns."""
    return {
        "dgamma dbeta axis": "dgamma and dbeta sum over axis 1, not over the rows (axis 0)",
        "dgamma dbeta mean": "dgamma and dbeta are means over the rows, not sums",
        "dgamma axis": "dgamma sums over axis 1, not over the rows (axis 0)",
        "dbeta axis": "dbeta sums over axis 1, not over the rows (axis 0)",
        "dgamma mean": "dgamma is the mean over the rows, not the sum",
        "dbeta mean": "dbeta is the mean over the rows, not the sum",
        "dgamma whole": "dgamma sums over both axes: one number instead of one per column",
        "dbeta whole": "dbeta sums over both axes: one number instead of one per column",
        "dgamma of x": "dgamma sums dout x: x itself in place of x normalised",
        "dgamma centred": "dgamma sums dout (x - mean): the division by the standard deviation is missing",
        "dgamma of out": "dgamma sums dout out: the output in place of x normalised",
        "dgamma times gamma": "dgamma is multiplied by gamma",
        "dbeta times gamma": "dbeta is multiplied by gamma",
        "dx constants": "dx takes mean and variance for constants: both terms through them are missing",
        "dx no mean": "dx leaves out the term through the mean",
        "dx no variance": "dx leaves out the term through the variance",
        "dx sums": f"dx takes sums for means: 1/{count} is missing in the terms through mean and variance",
        "dx mean summed": f"1/{count} is missing in the term of dx through the mean",
        "dx variance summed": f"1/{count} is missing in the term of dx through the variance",
        "dx times n": f"dx is {count} times too large: 1/{count} is missing",
        "dx unbiased": f"the term of dx through the variance divides by {count} - 1, not by {count}",
        "dx variance half": "the term of dx through the variance is half as large as it should be: the factor 2 of the "
        "square is missing",
        "dx variance sign": "the term of dx through the variance has the wrong sign",
        "dx mean sign": "the term of dx through the mean has the wrong sign",
        "dx no gamma": "gamma is left out in dx",
        "dx gamma twice": "gamma is in dx twice",
        "dx mean of dout": "gamma is left out in the term of dx through the mean",
        "dx variance of dout": "gamma is left out in the term of dx through the variance",
        "dx x for xhat": "the term of dx through the variance has x in place of x normalised",
        "dx x for centred": "the term of dx through the variance has x in place of x - mean",
        "dx centred for xhat": "the term of dx through the variance has x - mean in place of x normalised",
        "dx divided twice": "dx is divided by the variance, not by the standard deviation",
        "dx multiplied": "dx is multiplied by the standard deviation, not divided by it",
        "dx other axis": "dx takes its means over the wrong axis",
        "backward no eps": "eps is left out in the backward pass",
    }


def _terms(axis: Any, parameters: str) -> Any:
    def terms(case: Case) -> dict[str, dict[str, Array]]:
        p = _parts(case, axis, case.given[parameters].get("eps", 1e-5), frozenset())
        names = {
            "direct": "the direct term",
            "mean": "the term through the mean",
            "variance": "the term through the variance",
        }
        return {"dx": {words: p[name] for name, words in names.items()}}

    return terms


def _batch_backward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    return _norm_backward(case, 0, case.given["bn_param"].get("eps", 1e-5), wrong)


def _layer_forward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    xhat = _spread(case.given["x"], case.given["ln_param"].get("eps", 1e-5), 1, wrong)[0]
    return {"out": _scaled(xhat, case.given["gamma"], case.given["beta"], wrong)}


def _layer_backward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    return _norm_backward(case, 1, case.given["ln_param"].get("eps", 1e-5), wrong)


def _backward_calls(function: str, forward: str, parameters: str) -> Any:
    def calls(case: Case) -> list[Call]:
        back = Call(function, {"dout": case.given["dout"], "cache": cache_of(0)}, ("dout",))
        names = ["x", "gamma", "beta", *(["G"] if "G" in case.given else []), parameters]
        return [Call(forward, {name: case.given[name] for name in names}, (), (1,)), back, back]

    return calls


def _gradients(case: Case, calls: list[dict[str, Any]]) -> dict[str, Any]:
    return outputs_of(calls[1], ("dx", "dgamma", "dbeta"))


def _forward_terms(reference: Any) -> Any:
    def terms(case: Case) -> dict[str, dict[str, Array]]:
        scaled = reference(case, frozenset(["no beta"]), {})["out"]
        return {"out": {"gamma times x normalised": scaled, "beta": np.broadcast_to(case.given["beta"], scaled.shape)}}

    return terms


# ---------------------------------------------------------------- of images


def _image_case(seed: int, shape: tuple[int, ...], mode: str = "train", tag: str = "", *, eps: float = 0.3) -> Case:
    given = _given(seed, shape, (shape[1],))
    rng = np.random.default_rng(seed + 100)
    parameters = {
        "mode": mode, "eps": eps, "momentum": 0.7, "running_mean": rng.standard_normal(shape[1]),
        "running_var": 0.5 + rng.random(shape[1]),
    }  # fmt: skip
    return Case({**given, "bn_param": parameters}, tag)


_IMAGE_CASES = (
    _image_case(61, (3, 4, 2, 5)),
    _image_case(62, (2, 3, 4, 3), eps=0.8),
    _image_case(63, (2, 3, 4, 5), "test", eps=0.5),
    _image_case(64, (1, 3, 2, 4), tag="one image"),
)
_PIXELS = (0, 2, 3)


def _flat(case: Case, order: str) -> Case:
    """The images of a case as rows of channels, rightly or as a reshape without a transpose makes them."""
    given = dict(case.given)
    channels = given["x"].shape[1]
    for name in ("x", "dout"):
        images = given[name]
        if order == "rows":
            given[name] = images.transpose(0, 2, 3, 1).reshape(-1, channels)
        elif order == "reshaped":
            given[name] = images.reshape(-1, channels)
        else:  # channels first
            given[name] = images.transpose(1, 0, 2, 3).reshape(-1, channels)
    return Case(given, case.tag)


def _images(rows: Array, case: Case, order: str) -> Array:
    n, c, h, w = case.given["x"].shape
    if order == "reshaped":
        return rows.reshape(n, c, h, w)
    if order == "channels first":
        return rows.reshape(c, n, h, w).transpose(1, 0, 2, 3)
    return rows.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def _order(wrong: Wrong) -> str:
    return next((order for order in ("reshaped", "channels first") if order in wrong), "rows")


def _spatial_forward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    order = _order(wrong)
    found = _batchnorm_forward(_flat(case, order), wrong, seen)
    out = _images(found["out"], case, order)
    if "wrongly shaped back" in wrong:
        out = found["out"].reshape(case.given["x"].shape)
    return {**found, "out": out}


def _spatial_backward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    order = _order(wrong)
    found = _batch_backward(_flat(case, order), wrong, seen)
    dx = _images(found["dx"], case, order)
    if "dx wrongly shaped back" in wrong:
        dx = found["dx"].reshape(case.given["x"].shape)
    return {**found, "dx": dx}


def _group_case(seed: int, shape: tuple[int, ...], groups: int, tag: str = "", *, eps: float = 0.3) -> Case:
    given = _given(seed, shape, (1, shape[1], 1, 1))
    return Case({**given, "G": groups, "gn_param": {"eps": eps}}, tag)


_GROUP_CASES = (
    _group_case(71, (3, 6, 2, 4), 2),
    _group_case(72, (2, 6, 3, 2), 3, eps=0.8),
    _group_case(73, (2, 4, 3, 2), 4),
    _group_case(74, (1, 4, 2, 3), 2, "one image"),
)


# In some editions gamma and beta are of shape (C,).
_FLAT_GROUP_CASES = tuple(
    Case({**case.given, "gamma": case.given["gamma"].reshape(-1), "beta": case.given["beta"].reshape(-1)}, case.tag)
    for case in _GROUP_CASES
)


def _grouped(x: Array, groups: int, wrong: Wrong) -> Array:
    n, c, h, w = x.shape
    if "interleaved" in wrong:
        return x.reshape(n, c // groups, groups, h, w).transpose(0, 2, 1, 3, 4).reshape(n * groups, -1)
    if "one group" in wrong:
        return x.reshape(n, -1)
    if "each pixel" in wrong:
        return x.reshape(n, groups, -1, h * w).transpose(0, 1, 3, 2).reshape(n * groups * h * w, -1)
    if "each channel" in wrong:
        return x.reshape(n * c, -1)
    return x.reshape(n * groups, -1)


def _group_forward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    x, groups, eps = case.given["x"], case.given["G"], case.given["gn_param"]["eps"]
    xhat = _spread(_grouped(x, groups, wrong), eps, 1, wrong)[0]
    n, c, h, w = x.shape
    if "interleaved" in wrong:
        xhat = xhat.reshape(n, groups, c // groups, h, w).transpose(0, 2, 1, 3, 4)
    if "each pixel" in wrong:
        xhat = xhat.reshape(n, groups, h * w, -1).transpose(0, 1, 3, 2)
    gamma, beta = (case.given[name].reshape(1, -1, 1, 1) for name in ("gamma", "beta"))
    return {"out": _scaled(xhat.reshape(x.shape), gamma, beta, wrong)}


def _group_backward(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
    x, groups, eps, dout = case.given["x"], case.given["G"], case.given["gn_param"]["eps"], case.given["dout"]
    gamma = case.given["gamma"].reshape(1, -1, 1, 1)
    if "dx no gamma" in wrong:
        gamma = np.ones_like(gamma)
    if "dx gamma twice" in wrong:
        gamma = gamma**2
    rows = {"x": _grouped(x, groups, wrong), "dout": _grouped(dout * gamma, groups, wrong)}
    inner = wrong - {"dx no gamma", "dx gamma twice"}
    of_rows = _norm_backward(Case({**rows, "gamma": 1.0, "beta": 0.0}), 1, eps, inner)
    xhat = _spread(_grouped(x, groups, frozenset()), eps, 1, wrong)[0].reshape(x.shape)
    dgamma, dbeta = (dout * xhat).sum(axis=_PIXELS), dout.sum(axis=_PIXELS)
    if "dgamma dbeta mean" in wrong:
        dgamma, dbeta = (dout * xhat).mean(axis=_PIXELS), dout.mean(axis=_PIXELS)
    if "dgamma of x" in wrong:
        dgamma = (dout * x).sum(axis=_PIXELS)
    dx = of_rows["dx"]
    if "interleaved" in wrong:
        n, c, h, w = x.shape
        dx = dx.reshape(n, groups, c // groups, h, w).transpose(0, 2, 1, 3, 4)
    return {"dx": dx.reshape(x.shape), "dgamma": dgamma, "dbeta": dbeta}


def _spatial_forward_calls(case: Case) -> list[Call]:
    arguments = {name: case.given[name] for name in ("x", "gamma", "beta", "bn_param")}
    return [Call("spatial_batchnorm_forward", arguments, ("x", "gamma", "beta"), (1,))]


def _group_forward_calls(case: Case) -> list[Call]:
    arguments = {name: case.given[name] for name in ("x", "gamma", "beta", "G", "gn_param")}
    return [Call("spatial_groupnorm_forward", arguments, ("x", "gamma", "beta"), (1,))]


def _out(case: Case, calls: list[dict[str, Any]]) -> dict[str, Any]:
    return {"out": outputs_of(calls[0], ("out", "cache"))["out"]}


def _layer_forward_calls(case: Case) -> list[Call]:
    arguments = {name: case.given[name] for name in ("x", "gamma", "beta", "ln_param")}
    return [Call("layernorm_forward", arguments, ("x", "gamma", "beta", "ln_param"), (1,))]


def _naive(axis: int, parameters: str) -> Any:
    """What E[x²] - E[x]² gives of the case: the name of the mistake and the size of its error."""

    def lossy(case: Case) -> tuple[str, float]:
        x = case.given["x"]
        var = (x.astype(np.longdouble) ** 2).mean(axis=axis) - x.astype(np.longdouble).mean(axis=axis) ** 2
        square = float(np.max(np.abs(x)) ** 2) * float(np.finfo(x.dtype).eps)
        return f"at a mean of {_FAR:.0e}: E[x²] - E[x]²".replace("1e+04", "1e4"), square / float(np.min(var))

    return lossy


_TAGS = {
    "one row": "for one row",
    "one column": "for one column",
    "one image": "for one image",
    "float32": "for float32",
    "far": "at a mean of 1e4",
}
_TRAIN_CASES = tuple(case for case in _BATCH_CASES if case.given["bn_param"]["mode"] == "train")
_OF_INPUTS = {"dx": "x", "dgamma": "gamma", "dbeta": "beta"}


def _batch_backward_function(name: str) -> Function:
    return Function(
        name,
        ("dx", "dgamma", "dbeta"),
        tuple(case for case in _TRAIN_CASES if case.tag != "far"),
        _backward_calls(name, "batchnorm_forward", "bn_param"),
        _batch_backward,
        _backward_mistakes("N"),
        _gradients,
        "batchnorm_forward",
        terms=_terms(0, "bn_param"),
        tags=_TAGS,
        gradients=_OF_INPUTS,
    )


FUNCTIONS = (
    Function(
        "batchnorm_forward",
        ("out", "running_mean", "running_var"),
        _BATCH_CASES,
        _batch_forward_calls,
        _batchnorm_forward,
        _BATCH_FORWARD,
        _batch_observed,
        tags=_TAGS,
        terms=_forward_terms(_batchnorm_forward),
        shapeless=("running_mean", "running_var"),
        remarks={"far": ""},
        lossy=_naive(0, "bn_param"),
    ),
    _batch_backward_function("batchnorm_backward"),
    _batch_backward_function("batchnorm_backward_alt"),
    Function(
        "layernorm_forward",
        ("out",),
        _LAYER_CASES,
        _layer_forward_calls,
        _layer_forward,
        {
            **_FORWARD,
            "other axis": "takes mean and variance over axis 0 (that is batch norm), not over each row (axis 1)",
            "unbiased": "divides by the unbiased variance (D - 1), not by that of the row (D)",
        },
        _out,
        tags=_TAGS,
        terms=_forward_terms(_layer_forward),
        remarks={"far": ""},
        lossy=_naive(1, "ln_param"),
    ),
    Function(
        "layernorm_backward",
        ("dx", "dgamma", "dbeta"),
        tuple(case for case in _LAYER_CASES if case.tag != "far"),
        _backward_calls("layernorm_backward", "layernorm_forward", "ln_param"),
        _layer_backward,
        _backward_mistakes("D"),
        _gradients,
        "layernorm_forward",
        terms=_terms(1, "ln_param"),
        tags=_TAGS,
        gradients=_OF_INPUTS,
    ),
    Function(
        "spatial_batchnorm_forward",
        ("out", "running_mean", "running_var"),
        _IMAGE_CASES,
        _spatial_forward_calls,
        _spatial_forward,
        {
            "reshaped": "the channels are mixed up: reshape(-1, C) without the channels moved to the last axis first",
            "channels first": "the channels are mixed up: transposed to (C, N, H, W) and reshaped to (-1, C)",
            "wrongly shaped back": "out is mixed up: reshaped to (N, C, H, W) while its channels are the last axis",
            **{key: words for key, words in _BATCH_FORWARD.items() if key not in ("other axis", "unbiased both")},
        },
        _batch_observed,
        tags=_TAGS,
        shapeless=("running_mean", "running_var"),
    ),
    Function(
        "spatial_batchnorm_backward",
        ("dx", "dgamma", "dbeta"),
        tuple(case for case in _IMAGE_CASES if case.given["bn_param"]["mode"] == "train"),
        _backward_calls("spatial_batchnorm_backward", "spatial_batchnorm_forward", "bn_param"),
        _spatial_backward,
        {
            "reshaped": "the channels are mixed up: reshape(-1, C) without the channels moved to the last axis first",
            "channels first": "the channels are mixed up: transposed to (C, N, H, W) and reshaped to (-1, C)",
            "dx wrongly shaped back": "dx is mixed up: reshaped to (N, C, H, W) while its channels are the last axis",
            **{
                key: words
                for key, words in _backward_mistakes("(N H W)").items()
                if key
                in ("dx constants", "dx no mean", "dx no variance", "dx no gamma", "dgamma of x", "backward no eps")
            },
        },
        _gradients,
        "spatial_batchnorm_forward",
        tags=_TAGS,
        gradients=_OF_INPUTS,
        shapeless=("dgamma", "dbeta"),
    ),
    Function(
        "spatial_groupnorm_forward",
        ("out",),
        _GROUP_CASES,
        _group_forward_calls,
        _group_forward,
        {
            "interleaved": "a group holds channels that lie G apart, not C // G neighbouring ones",
            "each pixel": "takes mean and variance of each pixel by itself over the channels of its group, not over "
            "the pixels too",
            "one group": "normalises over all channels together: G is not used",
            "each channel": "normalises each channel by itself: G is not used",
            **{key: words for key, words in _FORWARD.items() if key != "whole"},
            "whole": "takes mean and variance over the whole array, not over each group of each image",
            "unbiased": "divides by the unbiased variance, not by that of the group",
        },
        _out,
        tags=_TAGS,
        otherwise=_FLAT_GROUP_CASES,
    ),
    Function(
        "spatial_groupnorm_backward",
        ("dx", "dgamma", "dbeta"),
        _GROUP_CASES,
        _backward_calls("spatial_groupnorm_backward", "spatial_groupnorm_forward", "gn_param"),
        _group_backward,
        {
            **{
                key: words
                for key, words in _backward_mistakes("(size of the group)").items()
                if key
                in (
                    "dx constants",
                    "dx no mean",
                    "dx no variance",
                    "dx no gamma",
                    "dx gamma twice",
                    "dgamma of x",
                    "dgamma dbeta mean",
                    "backward no eps",
                    "dx variance half",
                    "dx sums",
                )
            },
        },
        _gradients,
        "spatial_groupnorm_forward",
        tags=_TAGS,
        otherwise=_FLAT_GROUP_CASES,
        gradients=_OF_INPUTS,
        shapeless=("dgamma", "dbeta"),
    ),
)
