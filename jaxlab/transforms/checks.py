"""Checks of concrete numbers; a traced number has no value yet and passes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxlab.errors import InputError


def at_least_zero(field: str, number: Any) -> None:
    """Raise InputError if ``number`` is a concrete Python or NumPy number that is negative or not finite."""
    if isinstance(number, int | float | np.number) and not 0 <= number < math.inf:
        raise InputError(field, number, "give a finite number >= 0")


def fraction(field: str, number: Any) -> None:
    """Raise InputError if ``number`` is a concrete Python or NumPy number outside [0, 1)."""
    if isinstance(number, int | float | np.number) and not 0 <= number < 1:
        raise InputError(field, number, "give a number in [0, 1)")


def has_params(transform: str, params: Any) -> None:
    """Raise InputError if ``update`` was called without the parameters that ``transform`` reads."""
    if params is None:
        raise InputError(
            "params", params, f"{transform} needs the parameters: call update(updates, state, params)"
        )
