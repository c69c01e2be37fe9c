"""Resolve the declarations of a study into groups of trials, with every name and value checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Hashable, Mapping
from functools import partial
from typing import Any

from jaxlab.checks import plain, seed, traceable
from jaxlab.datasets import Dataset
from jaxlab.errors import InputError, UnknownName
from jaxlab.optimizers import check_optimizer
from jaxlab.settings import Configuration, traced
from jaxlab.space import Group, Space, groups, setting_key
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
    own = _custom_functions(space, configuration)
    statics = defaults(CONFIGURATION) | _defaults_for(data)
    for name, value in configuration.items():
        _check_static(name, value, own)
        checked = checked_configuration(name, value)
        if checked is not None:
            statics[name] = checked
    space = _checked(space, statics)
    for name, value in hyperparameters.items():
        _check_known("hyperparameters", name, value, HYPERPARAMETERS, own)
    given = {name: checked_hyperparameter(name, value) for name, value in hyperparameters.items()}
    swept = [name for name in space.names if name not in statics]
    for name in swept:
        _check_known("space", name, _first(space, name), HYPERPARAMETERS | given, own=False)
        for value in space.values(name):
            checked_hyperparameter(name, value, "space")
    numbers = defaults(HYPERPARAMETERS) | given
    offered = {name: numbers[name] for name in (*given, *swept)}
    used = _Used(partial(_names, data=data, numbers=numbers, offered=offered))
    found = groups(space, numbers, statics, used)
    tried = {name: _first(space, name) for name in space.names}
    # A custom part can read any name, so no field can say what would give a name an effect.
    fields = {} if own else CONFIGURATION | HYPERPARAMETERS
    _check_used("configuration", configuration, statics, used, fields)
    _check_used("hyperparameters", hyperparameters, numbers, used, fields)
    _check_used("space", tried, statics | numbers, used, fields)
    return found


class _Used:
    """Names that have an effect, cached by complete configuration.

    Args:
        names: ``complete configuration -> names``, called once for each configuration.
    """

    def __init__(self, names: Callable[[Configuration], frozenset[str]]):
        self.names = names
        self.known: dict[Hashable, frozenset[str]] = {}

    def __call__(self, fields: Mapping[str, Any]) -> frozenset[str]:
        key = setting_key(fields)
        if key not in self.known:
            self.known[key] = self.names(Configuration(fields))
        return self.known[key]

    @property
    def anywhere(self) -> set[str]:
        """Names that have an effect under at least one configuration seen so far."""
        return set().union(*self.known.values())


def _names(
    configuration: Configuration, data: Dataset, numbers: Mapping[str, Any], offered: Mapping[str, Any]
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
    if not (callable(configuration.model) or callable(configuration.optimizer)):
        return found
    example = offered | {name: numbers[name] for name in names}
    return found | names_read(configuration, traced(example), data)


def _first(space: Space, name: str) -> Any:
    return next(setting[name] for setting in space if name in setting)


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
    example = traced(declared)
    used = _Used(lambda each: names_read_by(trial, each, example, shared))
    implied = {"seed"}.difference(given, space.names)
    found = groups(space, declared, fields, lambda each: used(each) | implied)
    tried = {name: _first(space, name) for name in space.names}
    for where, names in (("configuration", fields), ("hyperparameters", given), ("space", tried)):
        _check_used(where, names, declared | fields, used, {})
    return found


def _custom_functions(space: Space, configuration: Mapping[str, Any]) -> bool:
    """Whether a model or an optimizer is custom, and can therefore read custom names."""
    given = [
        value for name in ("model", "optimizer") for value in (configuration.get(name), *space.values(name))
    ]
    return any(callable(each) for each in given)


def _number_or_seed(where: str, name: str, value: Any) -> float | int:
    return (seed if name == "seed" else traceable)(f"{where}.{name}", value)


def _like(name: str, known: Collection[str]) -> bool:
    """Whether a custom name is probably a misspelling of a known one."""
    return bool(difflib.get_close_matches(name, set(known) - {name}, n=1, cutoff=0.85))


def _defaults_for(data: Dataset) -> dict[str, Any]:
    """The defaults that depend on whether the targets are labels or numbers."""
    if data.classes:
        return {"loss": "cross_entropy", "metrics": ("accuracy",)}
    return {"loss": "mse", "metrics": ("mae", "rmse")}


def _check_static(name: str, value: Any, own: bool) -> None:
    if name in HYPERPARAMETERS:
        raise InputError(
            f"configuration.{name}", value, "is a hyperparameter: declare it under hyperparameters"
        )
    if name not in CONFIGURATION and not own:
        raise UnknownName("configuration", name, CONFIGURATION)


def _checked(space: Space, static_fields: Mapping[str, Any]) -> Space:
    """Check that a space is not empty, and convert its configuration values to canonical form."""
    if not len(space):
        raise InputError("space", space, "give one setting or more")
    for name in space.names:
        if name in static_fields:
            space = space.replaced(name, partial(checked_configuration, name, where="space"))
    return space


def _check_known(where: str, name: str, value: Any, known: Collection[str], own: bool) -> None:
    """Raise InputError unless a hyperparameter's name is known, or a custom function could read it."""
    if name in CONFIGURATION:
        raise InputError(f"{where}.{name}", value, "is configuration: declare it under configuration")
    if name not in known and not own:
        raise UnknownName(where, name, known)


def _check_used(
    where: str,
    given: Mapping[str, Any],
    declared: Collection[str],
    used: _Used,
    fields: Mapping[str, Field],
) -> None:
    """Raise InputError for a name that has no effect under any configuration; ``fields`` supply the remedy."""
    anywhere = used.anywhere
    for name, value in given.items():
        if name in anywhere:
            continue
        if name not in CONFIGURATION and name not in HYPERPARAMETERS and _like(name, declared):
            raise UnknownName(where, name, set(declared) - {name})
        remedy = (name in fields and fields[name].remedy) or "nothing reads it, remove it"
        raise InputError(f"{where}.{name}", value, f"has no effect under this configuration: {remedy}")
