"""Checks of single values: each takes the field's name and the value and gives it back in canonical form."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np

from jaxlab.errors import InputError, did_you_mean

Check = Callable[[str, Any], Any]


def unknown(field: str, name: Any, known: Collection[str], what: str = "name") -> InputError:
    """The error of an unknown name, with the closest known one in front."""
    plural = "es" if what.endswith("s") else "s"
    return InputError(
        field, name, f"{did_you_mean(str(name), known)}known {what}{plural}: {', '.join(sorted(known))}"
    )


def one_of(known: Collection[str], what: str = "name") -> Check:
    """One of some names."""

    def check(field: str, value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise unknown(field, value, known, what)
        return value

    return check


def name_or_function(known: Collection[str], what: str) -> Check:
    """One of some names, or a function of the user's own."""

    def check(field: str, value: Any) -> Any:
        return value if callable(value) else one_of(known, what)(field, value)

    return check


def several(check_one: Check, least: int = 0) -> Check:
    """A list of what ``check_one`` takes, ``least`` or more; a single one counts as a list of one."""

    def check(field: str, value: Any) -> tuple:
        values = value if isinstance(value, (list, tuple)) else (value,)
        if len(values) < least:
            raise InputError(field, value, f"give {least} or more")
        return tuple(check_one(field, each) for each in values)

    return check


def optional(check_one: Check) -> Check:
    """None, the word "none", or what ``check_one`` takes."""

    def check(field: str, value: Any) -> Any:
        return None if value is None or value == "none" else check_one(field, value)

    return check


def flag(field: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(field, value, "give true or false")
    return bool(value)


def positive_int(field: str, value: Any) -> int:
    """A whole number >= 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(field, value, "give a whole number >= 1")
    return int(value)


def number(low: float = -math.inf, high: float = math.inf, *, open_high: bool = False) -> Check:
    """A finite real number in ``[low, high]``, or ``[low, high)``."""
    bounds = f"in [{low:g}, {high:g}{')' if open_high else ']'}" if math.isfinite(high) else f">= {low:g}"

    def check(field: str, value: Any) -> float:
        real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not real or not math.isfinite(value):
            raise InputError(field, value, "give a finite number")
        if value < low or value > high or (open_high and value == high):
            raise InputError(field, value, f"give a number {bounds}")
        _check_traced(field, float(value))
        return float(value)

    return check


def _check_traced(field: str, value: float) -> None:
    """Raise where a number is infinite, or a small one is 0, in the type that devices compute with."""
    dtype = jax.dtypes.canonicalize_dtype(np.float64)  # float32, unless JAX has 64-bit types switched on
    # Below the smallest normal number a device may take it for 0.
    least, most = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)
    if value and not least <= abs(value) <= most:
        with np.errstate(over="ignore", under="ignore"):
            traced = dtype.type(value) if abs(value) > most else 0
        remedy = f"is {traced:g} in {dtype.name}, in which it is traced: give 0 or a size from {least:.2g} "
        raise InputError(field, value, f"{remedy}to {most:.2g}")


def seed(field: str, value: Any) -> int:
    """A whole number in [0, 2³²)."""
    whole = isinstance(value, (int, np.integer)) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not 0 <= value < 2**32:
        raise InputError(field, value, "give a whole number in [0, 2**32)")
    return int(value)


def static(field: str, value: Any) -> Any:
    """Anything hashable; lists become tuples."""
    value = _tuples(value)
    try:
        hash(value)
    except TypeError:
        raise InputError(
            field, value, "give a hashable value: number, text, true/false, a list of these"
        ) from None
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value
