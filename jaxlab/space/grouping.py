"""A space split by what is static: one group of trials for each program to compile."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxlab.errors import InputError, did_you_mean
from jaxlab.space.settings import Space, setting_key
from jaxlab.space.values import first_repeat, number, plain


@dataclass(frozen=True, eq=False)
class Group:
    """The trials of a space that share one configuration.

    Attributes:
        configuration: every declared configuration name with this group's value, hashable.
        trials: indices into the space, ascending.
        hyperparameters: every declared hyperparameter with its values, float64 [trials]; ``seed`` is int64.
    """

    configuration: dict[str, Any]
    trials: tuple[int, ...]
    hyperparameters: dict[str, np.ndarray]


def groups(
    space: Space, hyperparameters: Mapping[str, Any], configuration: Mapping[str, Any]
) -> tuple[Group, ...]:
    """Split a space into groups of one configuration each, in order of first appearance.

    Where a name is declared decides what it is, never the type of its value: a name of ``hyperparameters`` is
    traced, so any value runs in one compiled program; a name of ``configuration`` is static. Names that a
    setting leaves out take the declared default.

    >>> from jaxlab.space import grid
    >>> space = grid(activation=["relu", "tanh"], learning_rate=[0.1, 0.01])
    >>> defaults = {"learning_rate": 0.1, "seed": 0}, {"activation": "relu", "batch_size": 64}
    >>> relu, tanh = groups(space, *defaults)
    >>> tanh.configuration, tanh.trials
    ({'activation': 'tanh', 'batch_size': 64}, (2, 3))
    >>> {name: values.tolist() for name, values in tanh.hyperparameters.items()}
    {'learning_rate': [0.1, 0.01], 'seed': [0, 0]}

    Args:
        space: one setting or more.
        hyperparameters: the declared hyperparameters with their defaults, finite numbers.
        configuration: the declared configuration with its defaults: values of the kinds that a `Space` takes.

    Raises:
        InputError: for an empty space, a name of the space that is not declared, a name declared twice, a
            hyperparameter that is not a finite number (``seed``: a whole number of 64 bits), two settings
            that are the same trial once the defaults are filled in (`Space.with_defaults` drops the second),
            or two different functions of one qualified name.
    """
    _check_names(space, hyperparameters, configuration)
    numbers = {n: _number(f"hyperparameters.{n}", n, value) for n, value in hyperparameters.items()}
    statics = {name: plain(f"configuration.{name}", value) for name, value in configuration.items()}
    # Only the names of the space tell two settings apart: a space may be long, and the declared names are many.
    static_names = [name for name in space.names if name in statics]
    traced_names = [name for name in space.names if name in numbers]
    members, rows = {}, []
    for index, setting in enumerate(space):
        static = {name: setting.get(name, statics[name]) for name in static_names}
        group, _, trials = members.setdefault(setting_key(static), (len(members), static, []))
        trials.append(index)
        values = (_number(f"space.{n}", n, setting[n]) if n in setting else numbers[n] for n in traced_names)
        rows.append((group, *values))
    repeat = first_repeat(rows)
    if repeat is not None:
        first = rows.index(rows[repeat])
        remedy = f"setting {repeat} is the trial of setting {first} once defaults are filled in: drop one"
        raise InputError("space", space[repeat], remedy)
    configurations = [statics | static for _, static, _ in members.values()]
    _check_functions(configurations)
    position = {name: place for place, name in enumerate(traced_names, 1)}

    def columns(trials: list[int]) -> dict[str, np.ndarray]:
        given = {name: [rows[trial][position[name]] for trial in trials] for name in position}
        return {n: _column(n, given.get(n, [value] * len(trials))) for n, value in numbers.items()}

    return tuple(
        Group(static, tuple(trials), columns(trials))
        for static, (_, _, trials) in zip(configurations, members.values(), strict=True)
    )


def trial_id(hyperparameters_row: Mapping[str, Any], configuration: Mapping[str, Any]) -> str:
    """A hash of one complete setting, 12 hexadecimal digits, the same on every platform and in every process.

    The order of names does not matter, equal numbers are the same value (1 and 1.0; 1e-3 and 0.001), a
    function is known by its module and qualified name, a `functools.partial` by its function and arguments.

    >>> trial_id({"learning_rate": 1e-3, "seed": 0}, {"activation": "relu", "channels": (16, 32)})
    '9f4c6daec383'

    Args:
        hyperparameters_row: every hyperparameter's value in this trial; numpy scalars may be given.
        configuration: every configuration value, as in `Group.configuration`.

    Raises:
        InputError: for a hyperparameter that is not a finite number, or a callable object without a name.
    """
    fields = {f"hyperparameters.{name}": value for name, value in hyperparameters_row.items()}
    numbers = {field: number(field, value) for field, value in fields.items()}
    complete = numbers | {f"configuration.{name}": value for name, value in configuration.items()}
    return hashlib.sha256(_text(complete).encode()).hexdigest()[:12]


def _check_names(space: Space, hyperparameters: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
    if not len(space):
        raise InputError("space", space, "give one setting or more")
    for name, value in hyperparameters.items():
        if name in configuration:
            remedy = "declare it under hyperparameters or under configuration, not both"
            raise InputError(f"hyperparameters.{name}", value, remedy)
    declared = [*hyperparameters, *configuration]
    for name in space.names:
        if name not in declared:
            value = next(setting[name] for setting in space if name in setting)
            guess = did_you_mean(name, declared)
            raise InputError(f"space.{name}", value, f"{guess}give a declared name: {', '.join(declared)}")


def _number(field: str, name: str, value: Any) -> float | int:
    value = number(field, value, "give a finite number, or declare it under configuration")
    if name != "seed":
        return float(value)
    if value != int(value) or not -(2**63) <= value < 2**63:
        raise InputError(field, value, "give a whole number of at most 64 bits")
    return int(value)


def _column(name: str, values: list[float | int]) -> np.ndarray:
    return np.array(values, dtype=np.int64 if name == "seed" else np.float64)


def _check_functions(configurations: list[dict[str, Any]]) -> None:
    """Functions are known by name: two that share one would give different trials one id."""
    texts = [_text({f"configuration.{n}": value for n, value in c.items()}) for c in configurations]
    repeat = first_repeat(texts)
    if repeat is not None:
        first, second = configurations[texts.index(texts[repeat])], configurations[repeat]
        name = next(n for n in second if setting_key({n: first[n]}) != setting_key({n: second[n]}))
        remedy = f"{first[name]!r} has the same name: define each function under a name of its own"
        raise InputError(f"configuration.{name}", second[name], remedy)


def _text(values: Mapping[str, Any]) -> str:
    """Sorted JSON of values by field: equal for the same values, different for different ones."""
    canonical = {field: _canonical(field, plain(field, value)) for field, value in values.items()}
    return json.dumps(canonical, sort_keys=True)


def _canonical(field: str, value: Any) -> Any:
    """The value as JSON can hold it; whole floats become integers, so 1.0 and -0.0 read as 1 and 0."""
    if isinstance(value, tuple):
        return [_canonical(field, item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, functools.partial):
        keywords = {name: _canonical(field, plain(field, item)) for name, item in value.keywords.items()}
        return {"partial": _canonical(field, (value.func, *plain(field, value.args))), "keywords": keywords}
    if callable(value):
        name = getattr(value, "__qualname__", None)
        if name is None:
            raise InputError(field, value, "give a function or a class, which has a name, or a string")
        return {"function": f"{value.__module__}.{name}"}
    return value
