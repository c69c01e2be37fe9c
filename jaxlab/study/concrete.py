"""Which hyperparameter did a user's function need as a plain Python number?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from jaxlab.errors import InputError
from jaxlab.settings import Hyperparameters

#: What JAX raises where Python wants to look at a traced value.
NEEDS_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)

#: What is wrong with a function that looks at a value other than a hyperparameter's.
LOOKS = "looks at the value of a traced array in Python (if, float(), range(), ...): use jnp.where"


@contextmanager
def traced(field: str, given: Any, function: Callable[..., Any], example: Hyperparameters, *more: Any):
    """Turn JAX's error about a traced value that Python wanted to look at into one line that names it.

    Args:
        field: the study's field that holds the function, e.g. ``"configuration.model"``.
        given: the field's value, for the message.
        function: the same work as inside the ``with``, of the hyperparameters and ``more``; traced again with each
            hyperparameter concrete in turn, to find out which one the code looks at.
        example: hyperparameters with concrete values.
        more: shapes of further arguments.
    """
    try:
        yield
    except NEEDS_VALUE as error:
        names = _looked_at(function, example, *more)
        if not names:
            raise InputError(field, given, LOOKS) from error
        which = " and ".join(names)
        remedy = (
            f"looks at the value of {which} in Python (if, float(), range(), ...), which is traced: "
            f"declare {which} under configuration, or use jnp.where"
        )
        raise InputError(field, given, remedy) from error


def _looked_at(function: Callable[..., Any], example: Hyperparameters, *more: Any) -> list[str]:
    """The one name, or else all those without whose values the function is not traceable; none if others matter."""
    if not _traces(function, example, tuple(example), *more):
        return []
    for name in example:
        if _traces(function, example, (name,), *more):
            return [name]
    others = {name: tuple(each for each in example if each != name) for name in example}
    return [name for name, rest in others.items() if not _traces(function, example, rest, *more)]


def _traces(function: Callable, example: Hyperparameters, concrete: tuple[str, ...], *more: Any) -> bool:
    known = {name: np.asarray(example[name]).item() for name in concrete}
    others = {name: value for name, value in example.items() if name not in known}
    try:
        jax.eval_shape(lambda rest, *more: function(Hyperparameters(rest | known), *more), others, *more)
    except NEEDS_VALUE:
        return False
    return True
