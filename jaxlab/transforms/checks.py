"""Checks of numbers that a person wrote; a traced number has no value yet and passes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxlab.errors import InputError


def at_least_zero(field: str, number: Any) -> None:
    """Raise InputError unless ``number`` is finite and >= 0, or not a concrete Python or NumPy number."""
    if isinstance(number, int | float | np.number) and not 0 <= number < math.inf:
        raise InputError(field, number, "give a finite number >= 0")


def fraction(field: str, number: Any) -> None:
    """Raise InputError unless 0 <= ``number`` < 1, or it is not a concrete Python or NumPy number."""
    if isinstance(number, int | float | np.number) and not 0 <= number < 1:
        raise InputError(field, number, "give a number in [0, 1)")


def has_params(transform: str, params: Any) -> None:
    """Raise InputError where ``update`` was called without the parameters that ``transform`` reads."""
    if params is None:
        raise InputError("params", params, f"{transform} reads them: call update(updates, state, params)")
