"""Resolve the declarations of a study into groups of trials, with every name and value checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from jaxlab.checks import Check, plain, seed, traceable
from jaxlab.datasets import Dataset
from jaxlab.errors import InputError, UnknownName
from jaxlab.optax_functions import OptaxFunction, Parameter, find
from jaxlab.optimizers import check_optimizer
from jaxlab.settings import Configuration, as_traced
from jaxlab.space import Group, Space, groups
from jaxlab.study.fields import (
    CONFIGURATION,
    HYPERPARAMETERS,
    Field,
    defaults,
    with_effect,
)
from jaxlab.study.reading import names_read, names_read_by
from jaxlab.study.scores import may_read, settings_read
from jaxlab.trial import Trial

_IS_CONFIGURATION = "is configuration: declare it under configuration"
_IS_HYPERPARAMETER = "is a hyperparameter: declare it under hyperparameters"


def resolve_supervised(
    data: Dataset,
    space: Space,
    configuration: Mapping[str, Any],
    hyperparameters: Mapping[str, Any],
    epochs: int,
) -> tuple[Group, ...]:
    """Resolve a supervised study into groups, from built-in names with their defaults and from custom names.

    A trial consists of the names that have an effect under its configuration. A built-in name has an effect if a
    built-in part reads it; any name has one if a custom model or optimizer reads it when traced, or a function of Optax
    has a parameter of this name. A name is not swept under a configuration where it has no effect.

    Raises:
        InputError: a name is unknown or has no effect under any configuration, a value is invalid, or a custom function
            fails.
    """
    custom = _has_custom_reader(space, configuration)
    optax_names = _optax_parameters(space, configuration)
    statics = defaults(CONFIGURATION) | _defaults_for(data)
    statics |= {name: None for name in space.names if _is_static(name, optax_names)}
    for name, value in configuration.items():
        if name in HYPERPARAMETERS and name not in optax_names:
            raise InputError(f"configuration.{name}", value, _IS_HYPERPARAMETER)
        if name not in CONFIGURATION and name not in optax_names and not custom:
            raise UnknownName("configuration", name, [*CONFIGURATION, *optax_names])
        checked = _check(CONFIGURATION, name, optax_names)(f"configuration.{name}", value)
        if checked is not None:
            statics[name] = checked
    for name in space.names:
        if name in statics:
            space = space.replaced(name, partial(_check(CONFIGURATION, name, optax_names), f"space.{name}"))
    given = {}
    for name, value in hyperparameters.items():
        if name in CONFIGURATION:
            raise InputError(f"hyperparameters.{name}", value, _IS_CONFIGURATION)
        if not custom and _is_static(name, optax_names):
            raise InputError(f"hyperparameters.{name}", value, _IS_CONFIGURATION)
        if name not in HYPERPARAMETERS and name not in optax_names and not custom:
            raise UnknownName("hyperparameters", name, [*HYPERPARAMETERS, *optax_names])
        given[name] = _check(HYPERPARAMETERS, name, optax_names)(f"hyperparameters.{name}", value)
    swept = [name for name in space.names if name not in statics]
    optional = {name: None for name in swept if name in optax_names}
    optional |= {name: HYPERPARAMETERS[name].default for name in swept if name in HYPERPARAMETERS}
    numbers = defaults(HYPERPARAMETERS) | optional | given
    numbers = {name: number for name, number in numbers.items() if name in given or name not in statics}
    offered = dict(given)
    for name in swept:
        if name not in numbers:
            raise UnknownName("space", name, [*numbers, *optax_names])
        check = _check(HYPERPARAMETERS, name, optax_names)
        offered[name], *_ = [check(f"space.{name}", value) for value in space.values(name)]
    used = partial(_names, data=data, epochs=epochs, numbers=numbers, offered=offered)
    found = groups(space, numbers, statics, used, partial(_own_defaults, names=numbers.keys() - given.keys()))
    # A custom part can read any name, so no field can say what would give a name an effect.
    fields = {} if custom else CONFIGURATION | HYPERPARAMETERS
    declared = {*statics, *numbers, *optax_names}
    _check_effect(found, space, configuration, hyperparameters, declared, fields)
    return found


def _check(fields: Mapping[str, Field], name: str, optax_names: Mapping[str, Parameter]) -> Check:
    """The check of a name's values: its field's, that of a parameter of Optax, or that of any custom name."""
    traced = fields is HYPERPARAMETERS
    if name in fields:
        return fields[name].check
    if name in optax_names:
        return optax_names[name].check(traced)
    return traceable if traced else plain


def _optax_parameters(space: Space, configuration: Mapping[str, Any]) -> dict[str, Parameter]:
    """Parameters of the optimizers and schedules of Optax that a study names, which it may declare."""
    found = {}
    for field in ("optimizer", "schedule"):
        for value in (configuration.get(field), *space.values(field)):
            function = find(value)
            found |= {} if function is None else function.parameters
    return found


def _is_static(name: str, optax_names: Mapping[str, Parameter]) -> bool:
    """Whether a custom name is configuration since the parameter of Optax of this name is."""
    return name in optax_names and optax_names[name].static and name not in HYPERPARAMETERS | CONFIGURATION


def _own_defaults(configuration: Configuration, names: Collection[str]) -> dict[str, float | None]:
    """The defaults, of some names, that the optimizer and the schedule of Optax have under a configuration."""
    found = {}
    for function in _of_optax(configuration):
        found |= function.default_numbers
    return {name: number for name, number in found.items() if name in names}


def _of_optax(configuration: Configuration) -> list[OptaxFunction]:
    """The optimizer and the schedule of a configuration that are Optax's; a custom optimizer reads no schedule."""
    if callable(configuration.optimizer):
        return []
    found = [find(configuration.get(field)) for field in ("optimizer", "schedule")]
    return [function for function in found if function is not None]


def _names(
    configuration: Configuration,
    data: Dataset,
    epochs: int,
    numbers: Mapping[str, float | None],
    offered: Mapping[str, float],
) -> frozenset[str]:
    """Names that have an effect in supervised training under one configuration.

    Args:
        configuration: complete configuration.
        data: data set of the study.
        epochs: epochs of the study.
        numbers: values of all built-in and declared hyperparameters.
        offered: values of those that a custom function may read in addition to the names that built-in parts read.
    """
    check_optimizer(configuration)
    names = with_effect(HYPERPARAMETERS, configuration)
    for name in names:
        if name not in numbers:
            raise InputError(f"configuration.{name}", configuration[name], _IS_HYPERPARAMETER)
    found = frozenset(names).union(with_effect(CONFIGURATION, configuration))
    found |= settings_read(configuration, numbers.keys() | configuration.keys(), data)
    if isinstance(configuration.optimizer, str):
        found |= numbers.keys() & {"clip_norm"}
    optimizer = find(configuration.optimizer)
    if optimizer is not None and optimizer.takes_rate:
        found |= {"schedule"}
    if not (callable(configuration.model) or callable(configuration.optimizer) or _of_optax(configuration)):
        return found
    example = {"learning_rate": numbers["learning_rate"]} if _of_optax(configuration) else {}
    example |= offered | {name: numbers[name] for name in names}
    return found | names_read(configuration, as_traced(example), data, epochs)


def resolve_custom(
    trial: Callable[[Configuration], Trial],
    shared: Any,
    space: Space,
    configuration: Mapping[str, Any],
    hyperparameters: Mapping[str, Any],
) -> tuple[Group, ...]:
    """Resolve a study of a custom trial into groups: a trial consists of the declared names that its functions read.

    Names without effect are treated as in `resolve_supervised`. The seed is 0 unless declared.

    Raises:
        InputError: a name has no effect under any configuration, a value is invalid, or a custom function fails.
    """
    fields = {name: plain(f"configuration.{name}", value) for name, value in configuration.items()}
    given = {name: _number_or_seed("hyperparameters", name, value) for name, value in hyperparameters.items()}
    declared = {"seed": 0} | given
    for name in declared:
        for value in space.values(name):
            _number_or_seed("space", name, value)
    example = as_traced(declared)
    implied = {"seed"}.difference(given, space.names)
    found = groups(
        space, declared, fields, lambda each: names_read_by(trial, each, example, shared) | implied
    )
    _check_effect(found, space, fields, given, {*declared, *fields}, {})
    return found


def _has_custom_reader(space: Space, configuration: Mapping[str, Any]) -> bool:
    """Whether a model, an optimizer, a loss or a metric is custom, and can therefore read custom names."""

    def any_of(reads: Callable[[Any], bool], *names: str) -> bool:
        return any(reads(value) for name in names for value in (configuration.get(name), *space.values(name)))

    return any_of(callable, "model", "optimizer") or any_of(may_read, "loss", "metrics")


def _number_or_seed(where: str, name: str, value: Any) -> float | int:
    return (seed if name == "seed" else traceable)(f"{where}.{name}", value)


def _defaults_for(data: Dataset) -> dict[str, Any]:
    """The defaults that depend on whether the targets are labels or numbers."""
    if data.classes:
        return {"loss": "cross_entropy", "metrics": ("accuracy",)}
    return {"loss": "mse", "metrics": ("mae", "rmse")}


def _check_effect(
    found: Sequence[Group],
    space: Space,
    configuration: Mapping[str, Any],
    hyperparameters: Mapping[str, Any],
    declared: set[str],
    fields: Mapping[str, Field],
) -> None:
    """Raise InputError for a given name that has no effect in any group; ``fields`` supply the remedy."""
    used = {name for group in found for name in (*group.configuration, *group.hyperparameters)}
    tried = {name: space.values(name)[0] for name in space.names}
    given = {"configuration": configuration, "hyperparameters": hyperparameters, "space": tried}
    for where, values in given.items():
        for name in values:
            if name in used:
                continue
            others = declared - {name}
            built_in = name in CONFIGURATION or name in HYPERPARAMETERS
            if not built_in and difflib.get_close_matches(name, others, n=1, cutoff=0.85):
                raise UnknownName(where, name, others)
            remedy = _what_optax_reads(name, found) or (name in fields and fields[name].remedy)
            remedy = remedy or "nothing reads it, remove it"
            remedy = f"has no effect under this configuration: {remedy}"
            raise InputError(f"{where}.{name}", values[name], remedy)


def _what_optax_reads(name: str, found: Sequence[Group]) -> str:
    """What the first group's optimizer reads, if it is Optax's and the name belongs to built-in ones; else nothing."""
    field = (HYPERPARAMETERS | CONFIGURATION).get(name)
    optimizer = found[0].configuration.get("optimizer")
    function = find(optimizer)
    if function is None or field is None or field.suits(optimizer):
        return ""
    reads = ", ".join([*["learning_rate"] * function.takes_rate, *function.parameters])
    if name in ("l2", "l2_type") and "weight_decay" in function.parameters:
        return f"take weight_decay; {optimizer} reads {reads}"
    return f"take one of those that {optimizer} reads, {reads}, or remove it"
