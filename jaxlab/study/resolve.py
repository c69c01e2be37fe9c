"""Resolve the declarations of a study into groups of trials, with every name and value checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jaxlab.checks import plain, seed, traceable
from jaxlab.datasets import Dataset
from jaxlab.errors import InputError, UnknownName
from jaxlab.optimizers import check_optimizer
from jaxlab.settings import Configuration, as_traced
from jaxlab.space import Group, Space, groups
from jaxlab.study.fields import (
    CONFIGURATION,
    HYPERPARAMETERS,
    Field,
    checked_configuration,
    checked_hyperparameter,
    defaults,
    with_effect,
)
from jaxlab.study.reading import names_read, names_read_by
from jaxlab.study.scores import may_read, settings_read
from jaxlab.trial import Trial


def resolve_supervised(
    data: Dataset, space: Space, configuration: Mapping[str, Any], hyperparameters: Mapping[str, Any]
) -> tuple[Group, ...]:
    """Resolve a supervised study into groups, from built-in names with their defaults and from custom names.

    A trial consists of the names that have an effect under its configuration. A built-in name has an effect if a
    built-in part reads it; any name has one if a custom model or optimizer reads it when traced. A name is not swept
    under a configuration where it has no effect.

    Raises:
        InputError: a name is unknown or has no effect under any configuration, a value is invalid, or a custom function
            fails.
    """
    custom = _has_custom_reader(space, configuration)
    statics = defaults(CONFIGURATION) | _defaults_for(data)
    for name, value in configuration.items():
        if name in HYPERPARAMETERS:
            remedy = "is a hyperparameter: declare it under hyperparameters"
            raise InputError(f"configuration.{name}", value, remedy)
        if name not in CONFIGURATION and not custom:
            raise UnknownName("configuration", name, CONFIGURATION)
        checked = checked_configuration(name, value)
        if checked is not None:
            statics[name] = checked
    for name in space.names:
        if name in statics:
            space = space.replaced(name, partial(checked_configuration, name, where="space"))
    given = {}
    for name, value in hyperparameters.items():
        if name in CONFIGURATION:
            remedy = "is configuration: declare it under configuration"
            raise InputError(f"hyperparameters.{name}", value, remedy)
        if name not in HYPERPARAMETERS and not custom:
            raise UnknownName("hyperparameters", name, HYPERPARAMETERS)
        given[name] = checked_hyperparameter(name, value)
    swept_by_name = {name: HYPERPARAMETERS[name].default for name in space.names if name in HYPERPARAMETERS}
    numbers = defaults(HYPERPARAMETERS) | swept_by_name | given
    swept = [name for name in space.names if name not in statics]
    for name in swept:
        if name not in numbers:
            raise UnknownName("space", name, numbers)
        for value in space.values(name):
            checked_hyperparameter(name, value, "space")
    offered = {name: numbers[name] for name in (*given, *swept)}
    found = groups(space, numbers, statics, partial(_names, data=data, numbers=numbers, offered=offered))
    # A custom part can read any name, so no field can say what would give a name an effect.
    fields = {} if custom else CONFIGURATION | HYPERPARAMETERS
    _check_effect(found, space, configuration, hyperparameters, {*statics, *numbers}, fields)
    return found


def _names(
    configuration: Configuration, data: Dataset, numbers: Mapping[str, float], offered: Mapping[str, float]
) -> frozenset[str]:
    """Names that have an effect in supervised training under one configuration.

    Args:
        configuration: complete configuration.
        data: data set of the study.
        numbers: values of all built-in and declared hyperparameters.
        offered: those of ``numbers`` that a custom function may read in addition to the names that built-in parts read.
    """
    check_optimizer(configuration)
    names = with_effect(HYPERPARAMETERS, configuration)
    found = frozenset(names).union(with_effect(CONFIGURATION, configuration))
    found |= settings_read(configuration, numbers.keys() | configuration.keys(), data)
    if not (callable(configuration.model) or callable(configuration.optimizer)):
        return found
    example = offered | {name: numbers[name] for name in names}
    return found | names_read(configuration, as_traced(example), data)


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
            remedy = (name in fields and fields[name].remedy) or "nothing reads it, remove it"
            remedy = f"has no effect under this configuration: {remedy}"
            raise InputError(f"{where}.{name}", values[name], remedy)
