"""Values and axes as a person writes them, turned into plain Python: exact, hashable, comparable."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Hashable, Iterable
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np

from jaxlab.errors import InputError

# Checked here, not by the hint: whatever else is given raises InputError.
Number = Any
Whole = Any


# Values of one axis: more are a slip of the pen, and would take minutes to lay out.
_MOST = 1_000_000


def _python(value: Any) -> Any:
    """Python numbers and (nested) lists for NumPy's and JAX's scalars and arrays; anything else unchanged."""
    return np.asarray(value).tolist() if hasattr(value, "__array__") else value


def plain(field: str, value: Any) -> Any:
    """The hashable Python value: numpy scalars become Python ones, exactly; lists and arrays become tuples.

    Accepted are numbers, strings, bools, None, functions, and tuples of these.

    Raises:
        InputError: for NaN, which equals nothing, and for any other type.
    """
    value = _python(value)
    if isinstance(value, list | tuple):
        return tuple(plain(field, item) for item in value)
    if isinstance(value, float) and math.isnan(value):
        raise InputError(field, value, "give a number, not NaN")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if callable(value) and isinstance(value, Hashable):
        return value
    raise InputError(field, value, "give a number, string, bool, function, or a list of these")


def number(field: str, value: Number, remedy: str = "give a finite number") -> float | int:
    """A real number that float64 can hold; a bool is none."""
    value = _python(value)
    largest = sys.float_info.max
    if isinstance(value, bool) or not isinstance(value, int | float) or not -largest <= value <= largest:
        raise InputError(field, value, remedy)
    return value


def whole(field: str, value: Whole, remedy: str = "give a whole number") -> int:
    """An integer; a bool or a float is none."""
    value = _python(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(field, value, remedy)
    return value


def at_least_one(field: str, value: Whole) -> int:
    """A number of things: an integer, 1 or more."""
    remedy = f"give {field.rpartition('.')[2]} as a whole number >= 1"
    count = whole(field, value, remedy)
    if count < 1:
        raise InputError(field, value, remedy)
    return count


def token(value: Any) -> Hashable:
    """What decides whether two plain values are the same: 1 and 1.0 are, True and 1 are not."""
    return tuple(map(token, value)) if isinstance(value, tuple) else (isinstance(value, bool), value)


def first_repeat(tokens: Iterable[Hashable]) -> int | None:
    """Index of the first item that came before, or None."""
    seen = set()
    for index, item in enumerate(tokens):
        if item in seen:
            return index
        seen.add(item)
    return None


def axis(field: str, values: Any) -> tuple:
    """One or more plain values from a list, tuple, range or array."""
    items = _python(values)
    if not isinstance(items, list | tuple | range) or not items:
        raise InputError(field, values, "give a list of one or more values")
    return tuple(plain(field, item) for item in items)


def linear_between(low: float, high: float, share: Fraction) -> float:
    """``low + (high - low) * share``, computed exactly on the decimals as written, then rounded once."""
    start, stop = Fraction(repr(low)), Fraction(repr(high))
    return float(start + (stop - start) * share)


def log_between(low: float, high: float, share: Fraction) -> float:
    """``low * (high / low) ** share`` to 40 digits, then rounded once: the same float on every platform."""
    with localcontext(Context(prec=40)):
        start, stop = Decimal(repr(low)).ln(), Decimal(repr(high)).ln()
        value = float((start + (stop - start) * share.numerator / share.denominator).exp())
    smallest, largest = sorted((low, high))
    return min(max(value, smallest), largest)


def log_range(low: Number, high: Number, num: Whole) -> tuple[float, ...]:
    """Geometric values ``low * (high / low) ** (i / (num - 1))``, i = 0 … num − 1, both ends exact.

    Each value is the float nearest to the exact one, so decades come out as written:

    >>> log_range(1e-4, 1.0, 5)
    (0.0001, 0.001, 0.01, 0.1, 1.0)

    Args:
        low, high: positive ends; ``low > high`` descends.
        num: number of values; 1 gives ``low`` alone.

    Raises:
        InputError: ends that are not positive finite numbers, equal ends with num > 1, or num < 1.
    """
    for end, value in (("low", low), ("high", high)):
        if number(f"log_range.{end}", value) <= 0:
            raise InputError(f"log_range.{end}", value, "give positive ends for a logarithmic range")
    return _spread("log_range", low, high, num, log_between)


def linear_range(low: Number, high: Number, num: Whole) -> tuple[float, ...]:
    """Evenly spaced values ``low + (high - low) * i / (num - 1)``, i = 0 … num − 1, both ends exact.

    >>> linear_range(0.0, 0.4, 5)
    (0.0, 0.1, 0.2, 0.3, 0.4)

    Args:
        low, high: finite ends; ``low > high`` descends.
        num: number of values; 1 gives ``low`` alone.

    Raises:
        InputError: ends that are not finite numbers, equal ends with num > 1, or num < 1.
    """
    return _spread("linear_range", low, high, num, linear_between)


def _spread(name: str, low: Number, high: Number, num: Whole, between: Callable) -> tuple[float, ...]:
    low, high = float(number(f"{name}.low", low)), float(number(f"{name}.high", high))
    num = at_least_one(f"{name}.num", num)
    if num > _MOST:
        raise InputError(f"{name}.num", num, f"give at most {_MOST:,} values")
    if num == 1:
        return (low,)
    if low == high:
        raise InputError(name, (low, high), "give two different ends, or num = 1")
    return (low, *(between(low, high, Fraction(i, num - 1)) for i in range(1, num - 1)), high)
