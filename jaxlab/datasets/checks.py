"""Checks of data set options: each takes the name and value of an option and returns the value."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from jaxlab.errors import InputError, did_you_mean


def text(field: str, value: Any) -> str:
    """Check a string."""
    if not isinstance(value, str):
        raise InputError(field, value, "give text")
    return value


def path(field: str, value: Any) -> Path:
    """Check the path of a file or folder."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(field, value, "give a path")
    return Path(value)


def flag(field: str, value: Any) -> bool:
    """Check a boolean."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(field, value, "give true or false")
    return bool(value)


def choice(field: str, value: Any, known: Collection[str]) -> str:
    """Check one of several known words."""
    if not isinstance(value, str) or value not in known:
        hint = did_you_mean(value, known) if isinstance(value, str) else ""
        raise InputError(field, value, f"{hint}give {' or '.join(map(repr, known))}")
    return value


def whole(field: str, value: Any, least: int, remedy: str = "") -> int:
    """Check a whole number >= ``least``; strings, floats and booleans are refused."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(field, value, remedy or f"give a whole number >= {least}")
    return int(value)


def number(field: str, value: Any, remedy: str = "give a finite number") -> float | int:
    """Check a finite real number; strings and booleans are refused."""
    if not is_number(value) or not math.isfinite(value):
        raise InputError(field, value, remedy)
    return value


def is_number(value: Any) -> bool:
    """Whether a value is a real number that a float can hold, NaN and infinity included."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True
