"""Which hyperparameter did a user's function need as a plain Python number?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from jaxlab.errors import InputError
from jaxlab.trial import Hyperparameters

_NEEDS_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


@contextmanager
def traced(field: str, given: Any, function: Callable[[Hyperparameters], Any], example: Hyperparameters):
    """Turn JAX's error about a traced value that Python wanted to look at into one line that names it.

    Args:
        field: the study's field that holds the function, e.g. ``"configuration.model"``.
        given: the field's value, for the message.
        function: the same work as inside the ``with``, of the hyperparameters alone; traced again with each of them
            concrete in turn, to find out which one the code looks at.
        example: hyperparameters with concrete values.
    """
    try:
        yield
    except _NEEDS_VALUE as error:
        names = _looked_at(function, example)
        which = " and ".join(names) if names else "a hyperparameter"
        remedy = (
            f"looks at the value of {which} in Python (if, float(), range(), ...), which is traced: "
            f"declare {which} under configuration, or use jnp.where"
        )
        raise InputError(field, getattr(given, "__name__", given), remedy) from error


def _looked_at(function: Callable[[Hyperparameters], Any], example: Hyperparameters) -> list[str]:
    """The one name, or else the fewest leading ones, whose values make the function traceable."""
    for name in example:
        if _traces(function, example, (name,)):
            return [name]
    return [
        name for name in example if not _traces(function, example, tuple(n for n in example if n != name))
    ]


def _traces(function: Callable, example: Hyperparameters, concrete: tuple[str, ...]) -> bool:
    known = {name: np.asarray(example[name]).item() for name in concrete}
    others = {name: value for name, value in example.items() if name not in known}
    try:
        jax.eval_shape(lambda rest: function(Hyperparameters(rest | known)), others)
    except _NEEDS_VALUE:
        return False
    return True
