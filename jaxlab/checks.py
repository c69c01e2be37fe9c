"""Checks of single values that a person wrote.

Each takes the name of a field and its value, and returns the value in plain Python or raises an `InputError`. Scalars
and arrays of NumPy and JAX count as the Python numbers and lists that they hold; a bool is not a number.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Collection, Hashable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlab.errors import InputError, did_you_mean

Check = Callable[[str, Any], Any]

_LARGEST = sys.float_info.max
# Deeper than any real setting, rule or study file.
_DEEPEST = 40


def python(value: Any) -> Any:
    """Python numbers and (nested) lists for NumPy's and JAX's scalars and arrays; anything else unchanged.

    Masked arrays stay as they are, so that every check refuses them: their mask would be lost. So do traced values.
    """
    if type(value) in (float, int, str) or not hasattr(value, "__array__"):
        return value
    return value if isinstance(value, np.ma.MaskedArray | jax.core.Tracer) else np.asarray(value).tolist()


def number(
    field: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    remedy: str = "",
) -> float | int:
    """A real number that float64 holds, with ``least <= number <= most`` and ``above < number < below``."""
    found = python(value)
    finite = not isinstance(found, bool) and isinstance(found, int | float) and -_LARGEST <= found <= _LARGEST
    if not finite or not (least <= found <= most and above < found < below):
        words = f"give a {'finite ' * (not finite)}number {_range(least, most, above, below)}"
        raise InputError(field, value, remedy or words.rstrip())
    return found


def whole(
    field: str, value: Any, least: float = -math.inf, most: float = math.inf, *, remedy: str = ""
) -> int:
    """An integer from ``least`` to ``most``; floats such as 3.0 are refused."""
    found = python(value)
    if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
        words = f"give a whole number {_range(least, most, -math.inf, math.inf)}"
        raise InputError(field, value, remedy or words.rstrip())
    return found


def _range(least: float, most: float, above: float, below: float) -> str:
    """An interval in words: ``>= 0``, ``> 0``, ``in [0, 1)``; nothing where there is no lower end."""
    low, opens = (above, True) if above > -math.inf else (least, False)
    high, closes = (below, ")") if below < math.inf else (most, "]")
    if low == -math.inf:
        return ""
    if high == math.inf:
        return f"{'>' if opens else '>='} {low:.12g}"
    return f"in {'(' if opens else '['}{low:.12g}, {high:.12g}{closes}"


def seed(field: str, value: Any) -> int:
    """A whole number in [0, 2³²), also where it is a float."""
    value = python(value)
    whole_float = isinstance(value, float) and value.is_integer()
    return whole(
        field, int(value) if whole_float else value, 0, 2**32 - 1, remedy="give a whole number in [0, 2**32)"
    )


def scalar(field: str, value: Any, least: float = -math.inf, most: float = math.inf, **bounds: Any) -> None:
    """A `number`, or a traced one, which has no value to look at yet, only a shape."""
    if getattr(value, "shape", ()) != ():
        raise InputError(field, value, "give one number: this is one trial's, map over trials with jax.vmap")
    if not isinstance(value, jax.core.Tracer):
        number(field, value, least, most, **bounds)


def traceable(
    field: str, value: Any, least: float = -math.inf, most: float = math.inf, **bounds: Any
) -> float:
    """A `number` that is neither infinite nor 0 by rounding in the type that devices compute with."""
    value = float(number(field, value, least, most, **bounds))
    dtype = jax.dtypes.canonicalize_dtype(np.float64)  # float32, unless JAX has 64-bit types switched on
    # Below the smallest normal number a device may take it for 0.
    smallest, largest = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)
    if value and not smallest <= abs(value) <= largest:
        with np.errstate(over="ignore", under="ignore"):
            traced = dtype.type(value) if abs(value) > largest else 0
        remedy = (
            f"is {traced:g} in {dtype.name}, in which it is traced: give 0 or a size from {smallest:.2g} "
        )
        raise InputError(field, value, f"{remedy}to {largest:.2g}")
    return value


def flag(field: str, value: Any) -> bool:
    """True or False."""
    value = python(value)
    if not isinstance(value, bool):
        raise InputError(field, value, "give true or false")
    return value


def text(field: str, value: Any, *, remedy: str = "give text") -> str:
    """A string."""
    if not isinstance(value, str):
        raise InputError(field, value, remedy)
    return value


def path(field: str, value: Any) -> Path:
    """The path of a file or a folder."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(field, value, "give a path")
    return Path(value)


def one_of(field: str, value: Any, known: Collection[str], *, or_function: bool = False) -> Any:
    """One of some names, or a function where ``or_function`` says so."""
    if (isinstance(value, str) and value in known) or (or_function and callable(value)):
        return value
    hint = did_you_mean(value.lower(), known) if isinstance(value, str) else ""
    raise InputError(field, value, f"{hint}give {'a function, or ' * or_function}one of {', '.join(known)}")


def plain(field: str, value: Any) -> Any:
    """A hashable value: a number, a string, a bool, None, a function, or a tuple of these, which a list becomes."""
    value = python(value)
    if isinstance(value, list | tuple):
        return tuple(plain(field, item) for item in value)
    if isinstance(value, float) and math.isnan(value):  # equals nothing
        raise InputError(field, value, "give a number, not NaN")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if callable(value) and isinstance(value, Hashable):
        return value
    raise InputError(field, value, "give a number, string, bool, function, or a list of these")


def several(check: Check, least: int = 0) -> Check:
    """A list of what ``check`` takes, ``least`` or more; a single one counts as a list of one."""

    def check_each(field: str, value: Any) -> tuple:
        value = python(value)
        values = value if isinstance(value, list | tuple) else (value,)
        if len(values) < least:
            raise InputError(field, value, f"give {least} or more")
        return tuple(check(field, each) for each in values)

    return check_each


def optional(check: Check) -> Check:
    """None, the word "none", or what ``check`` takes."""

    def check_value(field: str, value: Any) -> Any:
        nothing = value is None or (isinstance(value, str) and value == "none")
        return None if nothing else check(field, value)

    return check_value


def too_deep(value: Any) -> bool:
    """Whether lists and tables are nested more deeply than any study file or setting needs."""
    depth, layer = 0, [value]
    while layer and depth <= _DEEPEST:
        layer = [
            inner
            for each in layer
            if isinstance(each, (list, dict))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        depth += 1
    return depth > _DEEPEST
