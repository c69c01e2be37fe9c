"""From what a person declared to groups of trials: every name known, every value checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlab.datasets import Dataset
from jaxlab.errors import InputError
from jaxlab.space import Group, Space, groups
from jaxlab.study.checks import number, static, unknown
from jaxlab.study.checks import seed as check_seed
from jaxlab.study.fields import (
    CONFIGURATION,
    checked_configuration,
    checked_hyperparameter,
    hyperparameters_of,
    known_hyperparameters,
)
from jaxlab.study.optimizers import check_optimizer
from jaxlab.trial import Configuration, Hyperparameters


def resolve_supervised(
    data: Dataset, space: Space, configuration: Mapping[str, Any], hyperparameters: Mapping[str, Any]
) -> tuple[Group, ...]:
    """Groups of a supervised study: the built-in names with their defaults, and the user's own beside them.

    Names of the user's own are taken where a function of theirs could read them; without one, an unknown name is an
    error.
    """
    own = _functions_of_ones_own(space, configuration)
    static_fields = _defaults(data)
    for name, value in configuration.items():
        _check_static(name, value, own)
        checked = checked_configuration(name, value)
        if checked is not None:
            static_fields[name] = checked
    space = _checked(space, static_fields)
    varied = [static_fields | dict(chosen) for chosen in _chosen(space, static_fields)]
    effective = dict.fromkeys(name for fields in varied for name in hyperparameters_of(Configuration(fields)))
    for fields in {Configuration(fields): fields for fields in varied}.values():
        check_optimizer(Configuration(fields))
    declared = {name: known_hyperparameters()[name].default for name in effective}
    for name, value in hyperparameters.items():
        _check_effective(f"hyperparameters.{name}", name, value, declared, own)
        declared[name] = checked_hyperparameter(name, value)
    for setting in space:
        for name, value in setting.items():
            if name not in static_fields:
                if name not in declared and own and name in known_hyperparameters():
                    declared[name] = known_hyperparameters()[name].default
                _check_effective(f"space.{name}", name, value, declared, own=False)
                checked_hyperparameter(name, value, "space")
    return groups(_completed(space, declared | static_fields), declared, static_fields)


def resolve_custom(
    space: Space, configuration: Mapping[str, Any], hyperparameters: Mapping[str, Any]
) -> tuple[Group, ...]:
    """Groups of a study over a triple of the user's own: its names are those declared."""
    fields = {name: static(f"configuration.{name}", value) for name, value in configuration.items()}
    given = {name: _number_or_seed("hyperparameters", name, value) for name, value in hyperparameters.items()}
    declared = {"seed": 0} | given
    for setting in space:
        for name in set(setting) & set(declared):
            _number_or_seed("space", name, setting[name])
    return groups(_completed(space, declared | fields), declared, fields)


def _completed(space: Space, defaults: Mapping[str, Any]) -> Space:
    """The space with a value in every setting for each name that some setting has; equal settings are kept once."""
    return space.with_defaults({name: defaults[name] for name in space.names if name in defaults})


def hyperparameters_in(group: Group) -> Hyperparameters:
    """Arrays ``[trials]`` in the dtypes that are traced."""
    return traced_values(group.hyperparameters)


def traced_values(columns: Mapping[str, np.ndarray]) -> Hyperparameters:
    """Values in the dtypes that are traced: uint32 for the seed, floating point for the rest."""
    return Hyperparameters(
        {name: values.astype(np.uint32 if name == "seed" else np.float64) for name, values in columns.items()}
    )


def example_in(group: Group) -> Hyperparameters:
    """The hyperparameters of the group's first trial."""
    return Hyperparameters({name: values[0] for name, values in hyperparameters_in(group).items()})


def _functions_of_ones_own(space: Space, configuration: Mapping[str, Any]) -> bool:
    """Whether a model or an optimizer of the user's own could read names of the user's own."""
    given = [fields.get(name) for fields in (configuration, *space) for name in ("model", "optimizer")]
    return any(callable(each) for each in given)


def _number_or_seed(where: str, name: str, value: Any) -> float | int:
    return (check_seed if name == "seed" else number())(f"{where}.{name}", value)


def _like(name: str, known: Mapping[str, Any]) -> bool:
    """Whether a name of the user's own is more likely a slip of the pen."""
    return bool(difflib.get_close_matches(name, known, n=1, cutoff=0.85))


def _defaults(data: Dataset) -> dict[str, Any]:
    fields = {name: field.default for name, field in CONFIGURATION.items()}
    fields["loss"] = "cross_entropy" if data.classes else "mse"
    fields["metrics"] = ("accuracy",) if data.classes else ("mae", "rmse")
    return fields


def _check_static(name: str, value: Any, own: bool) -> None:
    if name in known_hyperparameters():
        raise InputError(
            f"configuration.{name}", value, "is a hyperparameter: declare it under hyperparameters"
        )
    if name not in CONFIGURATION and (not own or _like(name, CONFIGURATION)):
        raise unknown("configuration", name, CONFIGURATION)


def _checked(space: Space, static_fields: Mapping[str, Any]) -> Space:
    """The space with its configuration values in canonical form."""
    if not len(space):
        raise InputError("space", space, "give one setting or more")
    if not set(space.names) & set(static_fields):
        return space
    return Space(
        {
            name: checked_configuration(name, value, "space") if name in static_fields else value
            for name, value in setting.items()
        }
        for setting in space
    )


def _chosen(space: Space, static_fields: Mapping[str, Any]) -> list[Configuration]:
    """The different choices of configuration that the settings make, in order."""
    names = [name for name in space.names if name in static_fields]
    if not names:
        return [Configuration()]
    chosen = ({name: setting[name] for name in names if name in setting} for setting in space)
    return list(dict.fromkeys(map(Configuration, chosen)))


def _check_effective(field: str, name: str, value: Any, declared: Mapping[str, Any], own: bool) -> None:
    if name in declared:
        return
    known = known_hyperparameters()
    if own and (name in known or not _like(name, known)):
        return
    if name in CONFIGURATION:
        raise InputError(field, value, "is configuration: declare it under configuration")
    if name in known:
        raise InputError(field, value, f"has no effect under this configuration{_REMEDIES.get(name, '')}")
    raise unknown(field.rsplit(".", 1)[0], name, {**declared, **known} if own else declared)


_REMEDIES = {
    "momentum": ": set configuration.momentum_type to classical or nesterov",
    "dropout_rate": ": set configuration.dropout to true",
    "warmup_fraction": ": set configuration.schedule to warmup_cosine",
    "final_fraction": ": set configuration.schedule to warmup_cosine",
    "decay_rate": ": set configuration.schedule to exponential",
    "drop_factor": ": set configuration.schedule to step",
    "drop_every": ": set configuration.schedule to step",
}
