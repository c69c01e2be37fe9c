"""Reading a space from the ``[[space]]`` tables of a study file."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping
from typing import Any

from jaxlab.checks import whole
from jaxlab.errors import InputError
from jaxlab.space.distributions import Distribution, choice, integers, log_uniform, random, uniform
from jaxlab.space.space import Space, check_settings, grid, zipped
from jaxlab.space.values import check_most, linear_range, log_range

PARTS = {"grid": grid, "zipped": zipped, "random": random}
DISTRIBUTIONS = {"uniform": uniform, "log_uniform": log_uniform, "integers": integers, "choice": choice}
AXIS_FORMS = (
    "give a list, {log = [low, high], num = n}, {linear = [low, high], num = n}, "
    "{range = n} or {range = [start, stop]}"
)
DISTRIBUTION_FORMS = (
    "give {uniform = [low, high]}, {log_uniform = [low, high]}, {integers = [low, high]} "
    "or {choice = [value, …]}"
)


def from_table(tables: Any) -> Space:
    """Build the space that the ``[[space]]`` tables of a study file describe.

    A table is the product of its parts ``grid``, ``zipped`` and ``random``, in the order written. Several tables are
    concatenated.

    >>> import tomllib
    >>> text = '''
    ... [[space]]
    ... zipped = {width = [16, 32], learning_rate = [0.01, 0.003]}
    ... grid = {l2 = {log = [1e-4, 1.0], num = 5}, seed = {range = 3}}
    ...
    ... [[space]]
    ... [space.random]
    ... samples = 20
    ... seed = 0
    ... learning_rate = {log_uniform = [1e-4, 1.0]}
    ... activation = {choice = ["relu", "tanh"]}
    ... '''
    >>> from_table(tomllib.loads(text)["space"])
    Space(50 settings of width, learning_rate, l2, seed, activation)

    Args:
        tables: a list of tables (dicts), or one table. An axis in ``grid`` or ``zipped`` is a list of values,
            ``{log = [low, high], num = n}`` (`log_range`), ``{linear = [low, high], num = n}``
            (`linear_range`), ``{range = n}`` (0 … n − 1) or ``{range = [start, stop]}`` (``stop`` excluded).
            A name in ``random`` is ``{uniform = [low, high]}``, ``{log_uniform = [low, high]}``, ``{integers
            = [low, high]}`` (``high`` excluded) or ``{choice = [value, …]}``; its ``samples`` and ``seed``
            are those of `random`.

    Raises:
        InputError: something else is given. It names the field: ``space.grid.learning_rate``, or
            ``space[1].grid.learning_rate`` in the second of several tables.
    """
    listed = [tables] if isinstance(tables, Mapping) else tables
    if not isinstance(listed, list | tuple) or not listed:
        raise InputError("space", tables, "give one [[space]] table or more")
    fields = ["space"] if len(listed) == 1 else [f"space[{index}]" for index in range(len(listed))]
    return functools.reduce(operator.add, map(_table, fields, listed))


def _table(field: str, table: Any) -> Space:
    if not isinstance(table, Mapping) or not table:
        raise InputError(field, table, "give a table with grid, zipped or random")
    parts = [_part(field, kind, part) for kind, part in table.items()]
    sizes = list(map(len, parts))
    check_settings(field, dict(zip(table, sizes, strict=True)), math.prod(sizes))
    try:
        return functools.reduce(operator.mul, parts)
    except InputError as error:
        raise InputError(field, error.value, "give a name in one part of a table only") from None


def _part(field: str, kind: str, part: Any) -> Space:
    where = f"{field}.{kind}"
    if kind not in PARTS:
        raise InputError(where, part, "give grid, zipped or random")
    if not isinstance(part, Mapping):
        raise InputError(where, part, "give a table of names")
    if kind == "random":
        if "samples" not in part:
            raise InputError(where, part, "give samples = n, the number of draws")
        options = {name: part[name] for name in ("samples", "seed") if name in part}
        named = {name: _distribution(f"{where}.{name}", part[name]) for name in part if name not in options}
    else:
        options, named = {}, {name: _axis(f"{where}.{name}", values) for name, values in part.items()}
    try:
        return PARTS[kind](**options, **named)
    except InputError as error:
        raise InputError(f"{field}.{error.field}", error.value, error.remedy) from None


def _axis(field: str, given: Any) -> list | tuple[float, ...] | range:
    if isinstance(given, list):
        return given
    try:
        match given:
            case {"log": [low, high], "num": num, **rest} if not rest:
                return log_range(low, high, num)
            case {"linear": [low, high], "num": num, **rest} if not rest:
                return linear_range(low, high, num)
            case {"range": [start, stop], **rest} if not rest:
                return range(whole(field, start), whole(field, stop))
            case {"range": stop, **rest} if not rest:
                check_most(field, stop, stop)
                return range(whole(field, stop, remedy=AXIS_FORMS))
    except InputError as error:
        raise InputError(field, given, error.remedy) from None
    raise InputError(field, given, AXIS_FORMS)


def _distribution(field: str, given: Any) -> Distribution:
    if not isinstance(given, Mapping) or len(given) != 1:
        raise InputError(field, given, DISTRIBUTION_FORMS)
    ((kind, arguments),) = given.items()
    fits = isinstance(arguments, list) and (kind == "choice" or len(arguments) == 2)
    if kind not in DISTRIBUTIONS or not fits:
        raise InputError(field, given, DISTRIBUTION_FORMS)
    try:
        return DISTRIBUTIONS[kind](*arguments)
    except InputError as error:
        raise InputError(field, given, error.remedy) from None
