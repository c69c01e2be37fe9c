"""Check and wrap custom functions, so that their errors become an InputError of one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxlab.errors import InputError, name_of, shown
from jaxlab.settings import Configuration, named_parameters
from jaxlab.study.noting import Undeclared
from jaxlab.trial import Trial

#: Exceptions that JAX raises when Python code needs the concrete value of a traced array.
NEEDS_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
_ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)


def check_arguments(field: str, given: Any, arguments: Sequence[str], named: bool = False) -> None:
    """Raise InputError unless ``given`` can be called with the positional arguments named in ``arguments``.

    Args:
        field: name of the study field that holds it.
        given: custom function.
        arguments: names of the positional arguments.
        named: whether it may have further parameters, which are settings by name.

    Raises:
        InputError: ``given`` cannot be called so, is a function of Optax, is a model that is already built, or is a
            class where a function is needed.
    """
    call = f"({', '.join(arguments)})"
    if isinstance(given, nnx.Module):
        raise InputError(field, given, f"is a model that is built: give a function {call} that builds it")
    if not callable(given):
        raise InputError(field, given, f"give a function {call}")
    if arguments[0] == "configuration" and _of_optax(given):
        remedy = f"is Optax's own: give a function {call} that calls it, such as "
        example = 'lambda c, h: optax.adamw(h.learning_rate), or its name, such as "optax.adamw"'
        raise InputError(field, given, f"{remedy}{example}")
    built = inspect.isclass(given)
    if built and arguments[0] != "configuration":
        raise InputError(field, given, f"is a class: give a function of {call}")
    try:  # the metaclass of a Flax module accepts any arguments
        signature = inspect.signature(given.__init__ if built else given)
    except (TypeError, ValueError):  # no signature, written in C: only a call can fail
        return
    try:
        more = named_parameters(given, len(arguments)) if named else {}
        signature.bind(*["self"] * built, *arguments, **more)
    except TypeError:
        takes = _arguments(list(signature.parameters.values())[built:])
        if built:
            remedy = f"is a class that is built from {takes}: give a function {call} that returns one"
        else:
            remedy = f"is a function of {takes}: give a function of {call}, passed by position"
        raise InputError(field, given, remedy) from None


def _arguments(parameters: Sequence[inspect.Parameter]) -> str:
    """Format parameters by name, with the markers ``/`` and ``*`` of positional-only and keyword-only ones."""
    empty = inspect.Parameter.empty
    return str(inspect.Signature([each.replace(annotation=empty, default=empty) for each in parameters]))


def guarded(
    field: str,
    given: Callable,
    arguments: Sequence[str],
    returns: str = "an array",
    shape: Callable[..., Sequence[int]] | None = None,
    named: bool = False,
) -> Callable:
    """Wrap a custom function so that it raises only InputError.

    Args:
        field: name of the study field that holds the function.
        given: custom function.
        arguments: names of its positional arguments.
        returns: what the function should return, for error messages.
        shape: function of the same arguments that returns the expected shape of the result; None accepts any shape.
        named: whether it may read settings by further parameters, see `jaxlab.settings.named_parameters`.

    Returns:
        the wrapped function, which raises InputError if ``given`` raises, returns anything but a tree of arrays, or
        returns another shape.

    Raises:
        InputError: immediately, if `check_arguments` rejects the function.
    """
    check_arguments(field, given, arguments, named)

    @wraps(given)
    def call(*values: Any, **settings: Any) -> Any:
        with errors_in_one_line(field, given):
            result = given(*values, **settings)
        check_arrays(field, given, result, returns)
        if shape is not None and jnp.shape(result) != tuple(shape(*values)):
            found, wanted = list(jnp.shape(result)), list(shape(*values))
            raise InputError(field, given, f"returns shape {found} for {wanted}: return {returns}")
        return result

    return call


def built_trial(given: Any, configuration: Configuration) -> Trial:
    """Call ``given`` with a configuration; raise InputError if it fails or does not return a Trial."""
    check_arguments("trial", given, ("configuration",))
    with errors_in_one_line("trial", given):
        trial = given(configuration)
    if not isinstance(trial, Trial):
        raise wrong_result("trial", given, trial, "a jaxlab.Trial")
    return trial


def check_arrays(field: str, given: Callable, result: Any, returns: str) -> None:
    """Raise InputError unless a function's result is a tree of arrays; ``returns`` says what it should be."""
    leaves = [None] if result is None else jax.tree.leaves(result)
    if not all(isinstance(leaf, _ARRAYS) for leaf in leaves):
        raise wrong_result(field, given, result, returns)


def wrong_result(field: str, given: Callable | str, result: Any, returns: str) -> InputError:
    """The InputError for a function that returned ``result``; ``returns`` says what it should return."""
    found = "None" if result is None else shown(result) if callable(result) else type(result).__name__
    return InputError(field, given, f"returns {found}: return {returns}")


@contextmanager
def errors_in_one_line(field: str, given: Callable | str, of_missing_keys: str = "") -> Iterator[None]:
    """Turn what a function raises into an InputError of one line; ``of_missing_keys`` is added to a KeyError.

    The function ``given`` is custom, or a name of Optax.
    """
    try:
        yield
    except InputError:
        raise
    except Undeclared as error:
        raise error.error(field, given) from error
    except NEEDS_VALUE as error:
        remedy = "looks at the value of a traced array in Python (if, float(), range(), ...): use jnp.where"
        raise InputError(field, given, remedy) from error
    except Exception as error:  # custom code may raise anything
        text = " ".join(str(error).split())
        if len(text) > 200:
            text = f"{text[:197]}..."
        text += of_missing_keys if isinstance(error, KeyError) else ""
        raise InputError(field, given, f"raises {type(error).__name__}{': ' * bool(text)}{text}") from error


def _of_optax(given: Callable) -> bool:
    if isinstance(given, partial):
        return _of_optax(given.func)
    module = getattr(given, "__module__", None) or ""
    return module.partition(".")[0] == optax.__name__


def named(field: str, given: Sequence[str | Callable], *taken: str) -> dict[str, str | Callable]:
    """What a field records, by name; raise InputError for a name used twice."""
    found: dict[str, str | Callable] = {}
    for each in given:
        name = _name(each)
        if name in found or name in taken:
            remedy = "is the name of another recorded variable; rename it"
            raise InputError(f"configuration.{field}", name, remedy)
        found[name] = each
    return found


def _name(given: str | Callable) -> str:
    while isinstance(given, partial):
        given = given.func
    return given if isinstance(given, str) else name_of(given).rpartition(".")[2]
