"""Update rules: cases, references and known mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from normcore.cs231n.checker.function import Array, Call, Case, Function, MalformedError, Outcome, Wrong, outputs_of
from normcore.cs231n.checker.wire import Reference

__all__ = ["FUNCTIONS"]

_STEPS = 3


def _arrays(seed: int, shape: tuple[int, ...], *state: str, dtype: Any = np.float64) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    given: dict[str, Any] = {"w": rng.standard_normal(shape).astype(dtype)}
    given["dw"] = [(0.3 + rng.standard_normal(shape)).astype(dtype) for _ in range(_STEPS)]
    config: dict[str, Any] = {}
    for name in state:
        positive = name in ("cache", "v")
        values = 0.2 + rng.random(shape) if positive else rng.standard_normal(shape)
        config[name] = values.astype(dtype)
    given["config"] = config
    return given


def _cases(settings: list[dict[str, Any]], state: tuple[str, ...], t: bool = False) -> tuple[Case, ...]:
    cases = []
    for index, setting in enumerate(settings):
        given = _arrays(90 + index, (3, 4), *state)
        given["config"].update(setting)
        if t:
            given["config"]["t"] = 4 + index
        cases.append(Case(given))
    fresh = _arrays(95, (2, 5))
    fresh["config"].update(settings[0])
    if t:
        fresh["config"]["t"] = 0  # by default it begins at 1 in older editions
    vector = _arrays(96, (6,), *state)
    vector["config"].update(settings[-1])
    if t:
        vector["config"]["t"] = 2
    single = _arrays(97, (3, 4), *state, dtype=np.float32)
    single["config"].update(settings[0])
    if t:
        single["config"]["t"] = 3
    nothing: dict[str, Any] = {**_arrays(98, (3, 2)), "config": None}
    return (*cases, Case(fresh), Case(vector, "vector"), Case(single, "float32"), Case(nothing, "no config"))


def _calls(function: str) -> Callable[[Case], list[Call]]:
    """Three steps, each with the weights and the config that the one before gave."""

    def calls(case: Case) -> list[Call]:
        steps = []
        for step in range(_STEPS):
            w: Any = case.given["w"] if step == 0 else Reference(step - 1, 0)
            config: Any = case.given["config"] if step == 0 else Reference(step - 1, 1)
            steps.append(Call(function, {"w": w, "dw": case.given["dw"][step], "config": config}, ("dw",)))
        return steps

    return calls


def _observed(*state: str) -> Callable[[Case, list[dict[str, Any]]], dict[str, Any]]:
    def observed(case: Case, calls: list[dict[str, Any]]) -> dict[str, Any]:
        weights: list[Any] = []
        states: dict[str, list[Any]] = {name: [] for name in state}
        for call in calls:
            found = outputs_of(call, ("next_w", "config"))
            if found["next_w"] is None:
                return {"next_w": None, **dict.fromkeys(state)}
            if not isinstance(found["config"], dict):
                raise MalformedError("does not return its config as the second value")
            if np.shape(found["next_w"]) != np.shape(case.given["w"]):
                return {"next_w": found["next_w"]}
            weights.append(found["next_w"])
            for name in state:
                value = found["config"].get(name)
                empty = 0 if name == "t" else np.zeros_like(case.given["w"])
                states[name].append(empty if value is None or isinstance(value, (str, list, dict, tuple)) else value)
        shapes = {name: () if name == "t" else np.shape(case.given["w"]) for name in state}
        stacked = {name: _stacked(values, shapes[name]) for name, values in states.items()}
        return {"next_w": np.stack(weights), **stacked}

    return observed


def _stacked(values: list[Any], shape: tuple[int, ...]) -> Any:
    """The values after each step; the first one alone that is of another shape, where one is."""
    others = [np.asarray(value) for value in values if np.shape(value) != shape]
    return others[0] if others else np.stack(values)


Rule = Callable[[Array, Array, dict[str, Any], Wrong], Array]


def _reference(rule: Rule, defaults: Mapping[str, Any], *state: str) -> Any:
    def reference(case: Case, wrong: Wrong, seen: Outcome) -> dict[str, Any]:
        w = case.given["w"]
        config = {**defaults, **(case.given["config"] or {})}
        if "default settings" in wrong:
            config = {**config, **defaults}
        if case.given["config"] is None and seen.get("t") is not None and np.ravel(seen["t"])[0] == 2:
            config["t"] = 1
        start = {name: config.get(name, 0 if name == "t" else np.zeros_like(w)) for name in state}
        config.update(start)
        weights: list[Any] = []
        states: dict[str, list[Any]] = {name: [] for name in state}
        for dw in case.given["dw"]:
            w = rule(w, dw, config, wrong)
            if "not stored" in wrong:
                config.update(start)
            for name in state:
                if f"{name} not stored" in wrong:
                    config[name] = start[name]
            weights.append(w)
            for name in state:
                states[name].append(config[name])
        return {"next_w": np.stack(weights), **{name: np.stack(values) for name, values in states.items()}}

    return reference


def _sgd(w: Array, dw: Array, config: dict[str, Any], wrong: Wrong) -> Array:
    step = config["learning_rate"] * dw
    return np.asarray(w + step if "ascends" in wrong else w - dw if "no rate" in wrong else w - step)


def _sgd_momentum(w: Array, dw: Array, config: dict[str, Any], wrong: Wrong) -> Array:
    rate, mu, old = config["learning_rate"], config["momentum"], config["velocity"]
    if "momentum left out" in wrong:
        mu = 0.0
    if "momentum exchanged" in wrong:
        mu = 1 - mu
    gradient = dw * (1 - config["momentum"]) if "dampened" in wrong else dw
    v = mu * old - rate * gradient
    if "ascends" in wrong:
        v = mu * old + rate * gradient
    if "velocity sign" in wrong:
        v = mu * old + rate * gradient
        config["velocity"] = v
        return np.asarray(w - v)
    if "velocity subtracted" in wrong:
        config["velocity"] = v
        return np.asarray(w - v)
    if "rate outside" in wrong:
        v = mu * old + gradient
        config["velocity"] = v
        return np.asarray(w - rate * v)
    if "rate outside sign" in wrong:
        v = mu * old - gradient
        config["velocity"] = v
        return np.asarray(w + rate * v)
    if "no rate" in wrong:
        v = mu * old - gradient
    config["velocity"] = v
    if "old velocity" in wrong:
        return np.asarray(w + old)
    if "nesterov" in wrong:
        return np.asarray(w + mu * v - rate * dw)
    if "rate twice" in wrong:
        return np.asarray(w + rate * v)
    return np.asarray(w + v)


def _rmsprop(w: Array, dw: Array, config: dict[str, Any], wrong: Wrong) -> Array:
    rate, decay, eps, old = (config[name] for name in ("learning_rate", "decay_rate", "epsilon", "cache"))
    if "decay exchanged" in wrong:
        decay = 1 - decay
    square = np.abs(dw) if "not squared" in wrong else dw**2
    cache = decay * old + (1 - decay) * square
    if "adagrad" in wrong:
        cache = old + square
    if "no decay" in wrong:
        cache = decay * old + square
    config["cache"] = cache
    used = old if "old cache" in wrong else cache
    divisor = np.sqrt(used) + eps
    if "eps in root" in wrong:
        divisor = np.sqrt(used + eps)
    if "no eps" in wrong:
        divisor = np.sqrt(used)
    if "no root" in wrong:
        divisor = used + eps
    step = rate * dw / divisor
    if "no rate" in wrong:
        step = dw / divisor
    return np.asarray(w + step if "ascends" in wrong else w - step)


def _adam(w: Array, dw: Array, config: dict[str, Any], wrong: Wrong) -> Array:
    rate, beta1, beta2, eps = (config[name] for name in ("learning_rate", "beta1", "beta2", "epsilon"))
    if "betas exchanged" in wrong:
        beta1, beta2 = beta2, beta1
    if "beta1 inverted" in wrong:
        beta1 = 1 - beta1
    if "beta2 inverted" in wrong:
        beta2 = 1 - beta2
    t = config["t"] + 1
    old_m, old_v = config["m"], config["v"]
    m = beta1 * old_m + (1 - beta1) * dw
    v = beta2 * old_v + (1 - beta2) * (np.abs(dw) if "v not squared" in wrong else dw**2)
    if "v of m" in wrong:
        v = beta2 * old_v + (1 - beta2) * m**2
    if "m no decay" in wrong:
        m = beta1 * old_m + dw
    config.update(m=m, v=v, t=t)
    power = t - 1 if "t late" in wrong or "t not counted" in wrong else t
    if "t late but first" in wrong:
        power = max(t - 1, 1)
    if "t not counted" in wrong:
        config["t"] = t - 1
    if "t one" in wrong:
        power = 1
    used_m, used_v = (old_m, old_v) if "old moments" in wrong else (m, v)
    with np.errstate(divide="ignore", invalid="ignore"):
        m_hat, v_hat = used_m / (1 - beta1**power), used_v / (1 - beta2**power)
        if "correction times t" in wrong:
            m_hat, v_hat = used_m / (1 - beta1 * power), used_v / (1 - beta2 * power)
    if "no correction" in wrong or "m not corrected" in wrong:
        m_hat = used_m
    if "no correction" in wrong or "v not corrected" in wrong:
        v_hat = used_v
    if "correction multiplied" in wrong:
        m_hat, v_hat = used_m * (1 - beta1**power), used_v * (1 - beta2**power)
    if "correction of inverted" in wrong:
        m_hat, v_hat = used_m / (1 - (1 - beta1) ** power), used_v / (1 - (1 - beta2) ** power)
    if "neither correction nor t" in wrong:
        config["t"] = t - 1
        m_hat, v_hat = used_m, used_v
    if "corrected stored" in wrong:
        config.update(m=m_hat, v=v_hat)
    with np.errstate(invalid="ignore"):
        divisor = np.sqrt(v_hat) + eps
        if "eps in root" in wrong:
            divisor = np.sqrt(v_hat + eps)
        if "eps before correction" in wrong:
            divisor = np.sqrt(v_hat) + eps / np.sqrt(1 - beta2**power)
        if "no eps" in wrong:
            divisor = np.sqrt(v_hat)
    if "no root" in wrong:
        divisor = v_hat + eps
    if "gradient for m" in wrong:
        m_hat = dw
    step = rate * m_hat / divisor
    if "no rate" in wrong:
        step = m_hat / divisor
    return np.asarray(w + step if "ascends" in wrong else w - step)


_COMMON = {
    "ascends": "the step goes up the gradient: its sign is wrong",
    "no rate": "the learning rate is left out",
    "default settings": "the settings of config are not used, always the defaults",
}
_TAGS = {"vector": "for a vector", "float32": "for float32", "no config": "where config is None"}


def _function(
    name: str,
    rule: Rule,
    defaults: dict[str, Any],
    state: tuple[str, ...],
    settings: list[dict[str, Any]],
    mistakes: dict[str, str],
) -> Function:
    return Function(
        name,
        ("next_w", *state),
        _cases(settings, tuple(entry for entry in state if entry != "t"), "t" in state),
        _calls(name),
        _reference(rule, defaults, *state),
        mistakes,
        _observed(*state),
        tags=_TAGS,
        steps=True,
        remarks={"eps before correction": ""},
    )


FUNCTIONS = (
    _function(
        "sgd",
        _sgd,
        {"learning_rate": 1e-2},
        (),
        [{"learning_rate": 0.3}, {"learning_rate": 0.07}],
        _COMMON,
    ),
    _function(
        "sgd_momentum",
        _sgd_momentum,
        {"learning_rate": 1e-2, "momentum": 0.9},
        ("velocity",),
        [{"learning_rate": 0.3, "momentum": 0.7}, {"learning_rate": 0.05, "momentum": 0.6}],
        {
            "momentum left out": "the momentum is left out: each velocity is that of its step alone",
            "not stored": "the velocity is not stored in config: each step begins with the old one",
            "momentum exchanged": "the momentum is exchanged: the velocity keeps 1 - momentum of the old one",
            "velocity sign": "the velocity has the opposite sign: "
            "v = mu v + lr dw, w -= v in place of v = mu v - lr dw, w += v",
            "velocity subtracted": "the velocity is subtracted from w, not added",
            "rate outside": "the velocity lacks the learning rate: "
            "v = mu v + dw, w -= lr v in place of v = mu v - lr dw, w += v",
            "rate outside sign": "the velocity lacks the learning rate: "
            "v = mu v - dw, w += lr v in place of v = mu v - lr dw, w += v",
            "rate twice": "the learning rate multiplies the velocity too, which has it already",
            "dampened": "the gradient is multiplied by 1 - momentum too",
            "old velocity": "the step is the velocity of before, not the new one",
            "nesterov": "the step looks ahead: that is Nesterov's momentum",
            **_COMMON,
        },
    ),
    _function(
        "rmsprop",
        _rmsprop,
        {"learning_rate": 1e-2, "decay_rate": 0.99, "epsilon": 1e-8},
        ("cache",),
        [
            {"learning_rate": 0.3, "decay_rate": 0.7, "epsilon": 0.1},
            {"learning_rate": 0.05, "decay_rate": 0.8, "epsilon": 0.3},
        ],
        {
            "not stored": "the cache is not stored in config: each step begins with the old one",
            "decay exchanged": "the decay is exchanged: the cache keeps 1 - decay_rate of the old one",
            "not squared": "the cache follows |dw|, not dw²",
            "adagrad": "the cache sums dw² without a decay: that is AdaGrad",
            "no decay": "dw² enters the cache without the factor 1 - decay_rate",
            "old cache": "the step divides by the root of the cache of before, not the new one",
            "eps in root": "eps is inside the square root: sqrt(cache + eps) in place of sqrt(cache) + eps",
            "no eps": "eps is left out",
            "no root": "divides by the cache, not by its square root",
            **_COMMON,
        },
    ),
    _function(
        "adam",
        _adam,
        {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
        ("m", "v", "t"),
        [
            {"learning_rate": 0.3, "beta1": 0.7, "beta2": 0.8, "epsilon": 0.1},
            {"learning_rate": 0.05, "beta1": 0.6, "beta2": 0.9, "epsilon": 0.3},
        ],
        {
            "eps before correction": "eps is added to sqrt(v) before the bias correction: the shorter form of the "
            "paper, whose steps differ where sqrt(v) is near eps",
            "neither correction nor t": "the bias correction is missing, and t is not increased",
            "correction of inverted": "the bias correction has 1 - beta in place of beta",
            "no correction": "the bias correction is missing",
            "m not corrected": "the bias correction of m is missing",
            "v not corrected": "the bias correction of v is missing",
            "correction multiplied": "the bias correction multiplies by 1 - beta^t, where it is to divide",
            "correction times t": "the bias correction has beta t in place of beta to the power of t",
            "t late": "t is increased after it is used: the bias correction is one step behind",
            "t late but first": "t is increased after it is used, but for the first step: the bias correction is one "
            "step behind",
            "t not counted": "t is not increased",
            "t one": "the bias correction has t = 1 at every step",
            "t not stored": "t is increased but not stored in config",
            "not stored": "m, v and t are not stored in config: each step begins with the old ones",
            "m not stored": "m is not stored in config",
            "v not stored": "v is not stored in config",
            "corrected stored": "config keeps m and v after the bias correction, which the next step applies again",
            "betas exchanged": "beta1 and beta2 are exchanged",
            "beta1 inverted": "beta1 is exchanged with 1 - beta1",
            "beta2 inverted": "beta2 is exchanged with 1 - beta2",
            "m no decay": "dw enters m without the factor 1 - beta1",
            "v not squared": "v follows |dw|, not dw²",
            "v of m": "v follows m², not dw²",
            "old moments": "the step uses m and v of before, not the new ones",
            "gradient for m": "the step has dw in place of m",
            "eps in root": "eps is inside the square root: sqrt(v + eps) in place of sqrt(v) + eps",
            "no eps": "eps is left out",
            "no root": "divides by v, not by its square root",
            **_COMMON,
        },
    ),
)
