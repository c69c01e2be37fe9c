"""Splitting a space by configuration: one group of trials for each compiled program; and trial ids."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxlab.checks import number, plain, seed
from jaxlab.errors import InputError, UnknownName
from jaxlab.settings import Configuration, Hyperparameters, as_traced
from jaxlab.space.space import Space, setting_key
from jaxlab.space.values import first_repeat


@dataclass(frozen=True, eq=False)
class Group:
    """The trials of a space that share a configuration.

    Attributes:
        configuration: values of the configuration names that have an effect in this group.
        trials: numbers of its trials, ascending, in the order of the space.
        hyperparameters: values of the hyperparameters that have an effect in this group, float64 ``[trials]``;
            ``seed`` is uint32.
    """

    configuration: Configuration
    trials: tuple[int, ...]
    hyperparameters: Hyperparameters

    @property
    def example(self) -> Hyperparameters:
        """The hyperparameters of the group's first trial."""
        return Hyperparameters({name: values[0] for name, values in self.hyperparameters.items()})


def groups(
    space: Space,
    hyperparameters: Mapping[str, Any],
    configuration: Mapping[str, Any],
    used: Callable[[Configuration], Collection[str]] | None = None,
    own: Callable[[Configuration], Mapping[str, float | None]] = lambda configuration: {},
) -> tuple[Group, ...]:
    """Split a space into groups that share a configuration, in order of first appearance.

    A name's declaration decides its kind, never the type of its value: a name in ``hyperparameters`` is traced, so
    that all its values run in one compiled program; a name in ``configuration`` is static. Names that a setting omits
    take the declared default.

    >>> from jaxlab.space import grid
    >>> space = grid(activation=["relu", "tanh"], learning_rate=[0.1, 0.01])
    >>> defaults = {"learning_rate": 0.1, "seed": 0}, {"activation": "relu", "batch_size": 64}
    >>> relu, tanh = groups(space, *defaults)
    >>> tanh.configuration, tanh.trials
    (Configuration(activation='tanh', batch_size=64), (2, 3))
    >>> {name: values.tolist() for name, values in tanh.hyperparameters.items()}
    {'learning_rate': [0.1, 0.01], 'seed': [0, 0]}

    Args:
        space: at least one setting.
        hyperparameters: the declared hyperparameters with their defaults, finite numbers; None where every setting
            must give the number.
        configuration: the declared configuration names with their defaults, of the types that a `Space` accepts.
        used: ``complete configuration -> names`` of both kinds that have an effect under it; by default all. The
            other names are no part of a trial: of settings that differ only in them, the first is kept.
        own: ``complete configuration -> defaults`` that replace those in ``hyperparameters`` under it.

    Raises:
        InputError: the space is empty; it has a name that is not declared; a name is declared twice; a setting omits a
            name that has no default; a hyperparameter is not a finite number (``seed``: a whole number in [0, 2³²));
            two settings are the same trial once the defaults are filled in (`Space.with_defaults` and ``used`` drop
            the second); or two different functions share a qualified name.
    """
    _check_names(space, hyperparameters, configuration)
    numbers = {
        name: None if value is None else _number(f"hyperparameters.{name}", name, value)
        for name, value in hyperparameters.items()
    }
    statics = {name: plain(f"configuration.{name}", value) for name, value in configuration.items()}
    # Settings differ only in the names of the space, which are few; the declared names are many.
    static_names = [name for name in space.names if name in statics]
    members: dict[Hashable, _Members] = {}
    by_setting: dict[Hashable, _Members] = {}
    count = 0
    for index, setting in enumerate(space):
        chosen = {name: setting.get(name, statics[name]) for name in static_names}
        group = by_setting.get(key := setting_key(chosen))
        if group is None:
            complete = statics | chosen
            defaults = numbers | own(Configuration(complete))
            group = _Members.of(complete, defaults, space.names, used)
            group = by_setting[key] = members.setdefault(setting_key(group.static), group)
        row = tuple(
            _number(f"space.{n}", n, setting[n]) if n in setting else _default(n, group.numbers[n])
            for n in group.swept
        )
        if row in group.rows and used is None:
            first = group.rows[row]
            remedy = f"setting {index} is the same trial as setting {first} once defaults are filled in"
            raise InputError("space", setting, remedy)
        if row not in group.rows:
            group.rows[row] = index
            group.trials.append(count)
            count += 1
    _check_functions([group.static for group in members.values()])
    return tuple(group.finished() for group in members.values())


@dataclass(frozen=True, eq=False)
class _Members:
    """A group while its settings are collected.

    Attributes:
        static: values of the configuration names that have an effect.
        numbers: defaults of the hyperparameters that have an effect.
        swept: the names among them that the space varies.
        rows: values of the swept names, with the index of the first setting that has them.
        trials: the trials' numbers.
    """

    static: dict[str, Hashable]
    numbers: dict[str, float]
    swept: list[str]
    rows: dict[tuple, int]
    trials: list[int]

    @classmethod
    def of(cls, static: dict, numbers: dict, swept: Collection[str], used: Callable | None) -> _Members:
        if used is not None:
            names = used(Configuration(static))
            static, numbers = ({n: f[n] for n in f if n in names} for f in (static, numbers))
        return cls(static, numbers, [name for name in swept if name in numbers], {}, [])

    def finished(self) -> Group:
        columns = dict(zip(self.swept, zip(*self.rows, strict=True), strict=True)) if self.swept else {}
        constant = {name: (value,) * len(self.trials) for name, value in self.numbers.items()}
        values = as_traced({name: columns.get(name, each) for name, each in constant.items()})
        return Group(Configuration(self.static), tuple(self.trials), values)


def trial_id(hyperparameters_row: Mapping[str, Any], configuration: Mapping[str, Any]) -> str:
    """A hash of one complete setting, 12 hexadecimal digits, the same on every platform and in every process.

    The order of names does not matter. Equal numbers are the same value (1 and 1.0; 1e-3 and 0.001). A function is
    identified by its module and qualified name, a `functools.partial` by its function and arguments.

    >>> trial_id({"learning_rate": 1e-3, "seed": 0}, {"activation": "relu", "channels": (16, 32)})
    '9f4c6daec383'

    Args:
        hyperparameters_row: the value of every hyperparameter of the trial, Python or NumPy scalars.
        configuration: the value of every configuration name, as in `Group.configuration`.

    Raises:
        InputError: a hyperparameter is not a finite number, or a callable has no name.
    """
    (only,) = _ids({name: [value] for name, value in hyperparameters_row.items()}, configuration, 1)
    return only


def trial_ids(group: Group) -> list[str]:
    """The `trial_id` of every trial of a group, in order."""
    columns = {name: column.tolist() for name, column in group.hyperparameters.items()}
    return _ids(columns, group.configuration, len(group.trials))


def _ids(columns: Mapping[str, Sequence], configuration: Mapping[str, Any], count: int) -> list[str]:
    """Hash the JSON text of each row together with the configuration, whose names sort before the row's."""
    static = _text({f"configuration.{name}": value for name, value in configuration.items()})
    start = hashlib.sha256(static[:-1].encode())
    pairs = [map(_pair(f"hyperparameters.{name}"), columns[name]) for name in sorted(columns)]
    separator, ids = ", " if configuration and columns else "", []
    for row in zip(*pairs, strict=True) if pairs else [()] * count:
        hashed = start.copy()
        hashed.update(f"{separator}{', '.join(row)}}}".encode())
        ids.append(hashed.hexdigest()[:12])
    return ids


def _pair(field: str) -> Callable[[Any], str]:
    """A function from a number to its part of a setting's JSON text, cached since a grid repeats its numbers."""

    @functools.lru_cache(maxsize=4096)
    def pair(value: float | int) -> str:
        return _text({field: value})[1:-1]

    return lambda value: pair(number(field, value))


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
            raise UnknownName("space", name, declared)


def _number(field: str, name: str, value: Any) -> float | int:
    if type(value) is float and name != "seed" and math.isfinite(value):  # most values
        return value
    if name == "seed":
        return seed(field, value)
    return float(number(field, value, remedy="give a finite number, or declare it under configuration"))


def _default(name: str, number: float | None) -> float:
    if number is None:
        remedy = "a setting omits it, and it has no default: declare it under hyperparameters"
        raise InputError(f"space.{name}", None, remedy)
    return number


def _check_functions(configurations: list[dict[str, Hashable]]) -> None:
    """Raise where different functions share a name, since their trials would share an id."""
    texts = [_text({f"configuration.{n}": value for n, value in c.items()}) for c in configurations]
    repeat = first_repeat(texts)
    if repeat is not None:
        first, second = configurations[texts.index(texts[repeat])], configurations[repeat]
        name = next(n for n in second if setting_key({n: first[n]}) != setting_key({n: second[n]}))
        remedy = "another function has the same name: give each function a distinct name"
        raise InputError(f"configuration.{name}", second[name], remedy)


def _text(values: Mapping[str, Any]) -> str:
    """Sorted JSON of values by field: the same text exactly where the values are the same."""
    canonical = {field: _canonical(field, plain(field, value)) for field, value in values.items()}
    return json.dumps(canonical, sort_keys=True)


def _canonical(field: str, value: Any) -> Any:
    """A JSON-serialisable value; whole floats become integers, so that 1.0 and -0.0 read as 1 and 0."""
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
            raise InputError(field, value, "has no name: give a function, a class or a string")
        return {"function": f"{value.__module__}.{name}"}
    return value
