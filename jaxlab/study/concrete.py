"""Find the hyperparameters whose concrete values a custom function needs, and name them in the error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from jaxlab.errors import InputError
from jaxlab.settings import Hyperparameters

#: Exceptions that JAX raises when Python code needs the concrete value of a traced array.
NEEDS_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)

#: Error text for a function that needs the concrete value of a traced array other than a hyperparameter.
LOOKS = "looks at the value of a traced array in Python (if, float(), range(), ...): use jnp.where"


@contextmanager
def traced(field: str, given: Any, function: Callable[..., Any], example: Hyperparameters, *more: Any):
    """Turn JAX's error about a needed concrete value into an InputError of one line that names the hyperparameter.

    Args:
        field: name of the study field that holds the function, e.g. ``"configuration.model"``.
        given: value of the field, for the error message.
        function: ``(hyperparameters, *more)``, which does the same work as the body of the ``with`` statement. It is
            traced again with each hyperparameter concrete in turn, to find the one whose value the code needs.
        example: hyperparameters with concrete values.
        more: shapes of further arguments.

    Raises:
        InputError: the body needs the concrete value of a traced array.
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
    """Names of the hyperparameters whose concrete values the function needs.

    Returns:
        one name if that value alone makes the function traceable, else each name whose value it cannot do without.
        Empty if the function is not traceable even with all hyperparameters concrete.
    """
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
