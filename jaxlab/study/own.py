"""A user's functions, so wrapped that whatever goes wrong inside them is one clear line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxlab.errors import InputError, shown
from jaxlab.settings import Configuration
from jaxlab.study.concrete import LOOKS, NEEDS_VALUE
from jaxlab.study.noting import Undeclared
from jaxlab.trial import Trial

_ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)


def check_arguments(field: str, given: Any, arguments: Sequence[str]) -> None:
    """Raise unless ``given`` can be called with so many arguments.

    Raises:
        InputError: it cannot; or it is an optimizer of Optax itself or a model that is built already.
    """
    call = f"({', '.join(arguments)})"
    if isinstance(given, nnx.Module):
        raise InputError(field, given, f"is a model that is built: give a function {call} that builds it")
    if not callable(given):
        raise InputError(field, given, f"give a function {call}")
    if arguments[0] == "configuration" and _of_optax(given):
        remedy = f"is Optax's own: give a function {call} that calls it, such as "
        raise InputError(field, given, f"{remedy}lambda c, h: optax.adamw(h.learning_rate)")
    built = inspect.isclass(given)
    if built and arguments[0] != "configuration":
        raise InputError(field, given, f"is a class: give a function of {call}")
    try:  # a class of Flax has a metaclass that takes anything
        signature = inspect.signature(given.__init__ if built else given)
    except (TypeError, ValueError):  # of C: calling it tells
        return
    try:
        signature.bind(*["self"] * built, *arguments)
    except TypeError:
        takes = _arguments(list(signature.parameters.values())[built:])
        if built:
            remedy = f"is a class that is built from {takes}: give a function {call} that returns one"
        else:
            remedy = f"is a function of {takes}: give a function of {call}, passed by position"
        raise InputError(field, given, remedy) from None


def _arguments(parameters: Sequence[inspect.Parameter]) -> str:
    """Their names, with the marks of those that are passed by position or by name alone."""
    empty = inspect.Parameter.empty
    return str(inspect.Signature([each.replace(annotation=empty, default=empty) for each in parameters]))


def guarded(
    field: str,
    given: Callable,
    arguments: Sequence[str],
    returns: str = "an array",
    shape: Callable[..., Sequence[int]] | None = None,
) -> Callable:
    """``given`` with its errors as `InputError`, those of `check_arguments` at once.

    Args:
        field: the study's field that holds it.
        given: the user's function.
        arguments: what it is called with, by name.
        returns: what it should return, for the error where it returns nothing, or what is no array.
        shape: of the same arguments, the shape of the array that it should return; by default any.
    """
    check_arguments(field, given, arguments)

    @wraps(given)
    def call(*values: Any) -> Any:
        try:
            result = given(*values)
        except InputError:
            raise
        except Exception as error:  # whatever the user's code raises
            raise failed(field, given, error) from error
        check_arrays(field, given, result, returns)
        if shape is not None and jnp.shape(result) != tuple(shape(*values)):
            found, wanted = list(jnp.shape(result)), list(shape(*values))
            raise InputError(field, given, f"returns shape {found} for {wanted}: return {returns}")
        return result

    return call


def built_trial(given: Any, configuration: Configuration) -> Trial:
    """What ``given`` makes of a configuration; `InputError` if it raises, or makes no triple."""
    check_arguments("trial", given, ("configuration",))
    try:
        trial = given(configuration)
    except InputError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise failed("trial", given, error) from error
    if not isinstance(trial, Trial):
        raise wrong_result("trial", given, trial, "a jaxlab.Trial")
    return trial


def check_arrays(field: str, given: Callable, result: Any, returns: str) -> None:
    """Raise unless what a function returned is a tree of arrays; ``returns`` says what it should be."""
    leaves = [None] if result is None else jax.tree.leaves(result)
    if not all(isinstance(leaf, _ARRAYS) for leaf in leaves):
        raise wrong_result(field, given, result, returns)


def wrong_result(field: str, given: Callable, result: Any, returns: str) -> InputError:
    """A function returned ``result``; ``returns`` says what it should return."""
    found = "None" if result is None else shown(result) if callable(result) else type(result).__name__
    return InputError(field, given, f"returns {found}: return {returns}")


def failed(field: str, given: Callable, error: Exception, of_missing_keys: str = "") -> InputError:
    """One line for what a user's function raised; ``of_missing_keys`` is added where a key was missing."""
    if isinstance(error, Undeclared):
        return error.error(field, given)
    if isinstance(error, NEEDS_VALUE):
        return InputError(field, given, LOOKS)
    text = " ".join(str(error).split())
    if len(text) > 200:
        text = f"{text[:197]}..."
    text += of_missing_keys if isinstance(error, KeyError) else ""
    return InputError(field, given, f"raises {type(error).__name__}{': ' * bool(text)}{text}")


def _of_optax(given: Callable) -> bool:
    if isinstance(given, partial):
        return _of_optax(given.func)
    module = getattr(given, "__module__", None) or ""
    return module.partition(".")[0] == optax.__name__
