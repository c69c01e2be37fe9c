"""Conversion of values and axes to plain Python values: exact, hashable, comparable."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

from jaxlab.checks import number, plain, python, whole
from jaxlab.errors import InputError

# Annotations of numbers that the functions check themselves: anything else raises InputError.
Number = Any
Whole = Any

#: The largest number of settings in a space and of values in an axis. More are a typo, and would take minutes to list.
MOST = 1_000_000


def check_most(field: str, value: Any, count: Any) -> None:
    """Raise where ``count`` is a number above `MOST`; before anything is laid out."""
    if isinstance(count, int | float) and count > MOST:
        raise InputError(field, value, f"give at most {MOST:,} values")


def at_least_one(field: str, value: Whole) -> int:
    """A number of things: an integer from 1 to `MOST`."""
    check_most(field, value, python(value))
    return whole(field, value, 1, remedy=f"give {field.rpartition('.')[2]} as a whole number >= 1")


def token(value: Any) -> Hashable:
    """A key that is equal for equal plain values: 1 and 1.0 are equal, True and 1 are not."""
    return tuple(map(token, value)) if isinstance(value, tuple) else (isinstance(value, bool), value)


def exact(value: Any) -> Hashable:
    """A key that is equal for plain values of equal value and type: 1, 1.0 and True all differ."""
    return tuple(map(exact, value)) if isinstance(value, tuple) else (type(value), value)


def first_repeat(tokens: Iterable[Hashable]) -> int | None:
    """The index of the first item that repeats an earlier one, or None."""
    seen = set()
    for index, item in enumerate(tokens):
        if item in seen:
            return index
        seen.add(item)
    return None


def axis(field: str, values: Any) -> tuple:
    """One to `MOST` plain values from a list, tuple, range or array."""
    items = python(values)
    if not isinstance(items, list | tuple | range) or not items:
        raise InputError(field, values, "give a list of one or more values")
    if items[MOST:]:
        raise InputError(field, values, f"give at most {MOST:,} values")
    return tuple(items) if isinstance(items, range) else tuple(plain(field, item) for item in items)


@functools.lru_cache(maxsize=64)
def _line(low: float, high: float) -> tuple[int, int, int]:
    """The decimals low and high − low as written, as numerators over a common denominator."""
    start, change = Fraction(repr(low)), Fraction(repr(high)) - Fraction(repr(low))
    below = math.lcm(start.denominator, change.denominator)
    return int(start * below), int(change * below), below


def linear_between(low: float, high: float, parts: Iterable[int], whole: int) -> list[float]:
    """Interpolate linearly: ``low + (high - low) * part / whole``, exact on the decimals as written, rounded once."""
    start, change, below = _line(low, high)
    start, below = start * whole, below * whole
    return [(start + change * part) / below for part in parts]


_EXACT, _NEARLY = Context(prec=40), Context(prec=30)
_AROUND = Decimal("0.99999999999999999999"), Decimal("1.00000000000000000001")
_BITS = 11


def log_between(low: float, high: float, parts: Iterable[int], whole: int) -> list[float]:
    """Interpolate geometrically: ``low * (high / low) ** (part / whole)`` to 40 digits, rounded once.

    The floats are the same on every platform.
    """
    first, last = (Decimal(repr(value)) for value in (low, high))
    start, change = _EXACT.ln(first), _EXACT.subtract(_EXACT.ln(last), _EXACT.ln(first))
    smallest, largest = sorted((low, high))
    masks = [(2**_BITS - 1) << place for place in range(0, whole.bit_length(), _BITS)]

    def exponent(part: int) -> Decimal:
        return _EXACT.divide(_EXACT.multiply(change, part), whole)

    @functools.cache
    def power(part: int) -> Decimal:
        return _NEARLY.exp(exponent(part))

    def between(part: int) -> float:
        nearly = first
        for mask in masks:  # a few powers that the parts share, instead of one for each part
            nearly *= power(part & mask)
        value, other = (float(nearly * each) for each in _AROUND)
        if value != other:  # too close to halfway between two floats
            value = float(_EXACT.exp(_EXACT.add(start, exponent(part))))
        return min(max(value, smallest), largest)

    with localcontext(_NEARLY):
        return [between(part) for part in parts]


def log_range(low: Number, high: Number, num: Whole) -> tuple[float, ...]:
    """Geometrically spaced values ``low * (high / low) ** (i / (num - 1))``, i = 0 … num − 1, both ends exact.

    Each value is the float nearest to the exact value, so that powers of ten are exact:

    >>> log_range(1e-4, 1.0, 5)
    (0.0001, 0.001, 0.01, 0.1, 1.0)

    Args:
        low, high: positive ends; ``low > high`` descends.
        num: number of values; 1 gives ``low`` alone.

    Raises:
        InputError: an end is not a positive finite number, both are equal with num > 1, or num is not in
            [1, 1,000,000].
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
        InputError: an end is not a finite number, both are equal with num > 1, or num is not in [1, 1,000,000].
    """
    return _spread("linear_range", low, high, num, linear_between)


def _spread(name: str, low: Number, high: Number, num: Whole, between: Callable) -> tuple[float, ...]:
    low, high = float(number(f"{name}.low", low)), float(number(f"{name}.high", high))
    num = at_least_one(f"{name}.num", num)
    if num == 1:
        return (low,)
    if low == high:
        raise InputError(name, (low, high), "give two different ends, or num = 1")
    return (low, *between(low, high, range(1, num - 1), num - 1), high)
