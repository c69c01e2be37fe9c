"""A user's functions, so wrapped that whatever goes wrong inside them is one clear line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from jaxlab.errors import InputError, shown
from jaxlab.settings import Configuration
from jaxlab.study.concrete import LOOKS, NEEDS_VALUE
from jaxlab.trial import Trial

_ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)


def check_arguments(field: str, given: Callable, arguments: Sequence[str]) -> None:
    """Raise unless a function can be called with so many arguments.

    Raises:
        InputError: it cannot; or it is an optimizer of Optax itself or a model that is built already.
    """
    call = f"({', '.join(arguments)})"
    if isinstance(given, nnx.Module):
        raise InputError(field, given, f"is a model that is built: give a function {call} that builds it")
    if arguments[0] == "configuration" and _of_optax(given):
        remedy = f"is Optax's own: give a function {call} that calls it, such as "
        raise InputError(field, given, f"{remedy}lambda c, h: optax.adamw(h.learning_rate)")
    built = inspect.isclass(given)
    try:  # a class of Flax has a metaclass that takes anything
        signature = inspect.signature(given.__init__ if built else given)
    except (TypeError, ValueError):  # of C: calling it tells
        return
    try:
        signature.bind(*["self"] * built, *arguments)
    except TypeError:
        takes = f"({', '.join(list(signature.parameters)[built:])})"
        if built:
            remedy = f"is a class that is built from {takes}: give a function {call} that returns one"
        else:
            remedy = f"is a function of {takes}: give a function of {call}"
        raise InputError(field, given, remedy) from None


def guarded(
    field: str, given: Callable, arguments: Sequence[str], returns: str = "an array", has: str = ""
) -> Callable:
    """``given`` with its errors as `InputError`, those of `check_arguments` at once.

    Args:
        field: the study's field that holds it.
        given: the user's function.
        arguments: what it is called with, by name.
        returns: what it should return, for the error where it returns nothing, or what is no array.
        has: what is added where it asks for a key that is not there.
    """
    check_arguments(field, given, arguments)

    @wraps(given)
    def call(*values: Any) -> Any:
        try:
            result = given(*values)
        except InputError:
            raise
        except Exception as error:  # whatever the user's code raises
            raise failed(field, given, error, has) from error
        leaves = [None] if result is None else jax.tree.leaves(result)
        if not all(isinstance(leaf, _ARRAYS) for leaf in leaves):
            raise InputError(field, given, f"returns {_kind(result)}: return {returns}")
        return result

    return call


def guarded_trial(given: Callable, configuration: Configuration, shared: Any) -> Trial:
    """What ``given`` makes of a configuration, its functions and itself with their errors as `InputError`."""
    check_arguments("trial", given, ("configuration",))
    try:
        trial = given(configuration)
    except InputError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise failed("trial", given, error) from error
    if not isinstance(trial, Trial):
        raise InputError("trial", given, f"returns {_kind(trial)}: return a jaxlab.Trial")
    has = f"; shared has {', '.join(map(str, shared))}" if isinstance(shared, Mapping) else ""
    functions = {}
    for name, (arguments, returns) in _TRIPLE.items():
        functions[name] = guarded(f"trial.{name}", getattr(trial, name), arguments, returns, has)
    return trial._replace(**functions)


_TRIPLE = {
    "init": (("hyperparameters", "shared"), "the state, a tree of arrays"),
    "train_segment": (("hyperparameters", "state", "shared", "epoch"), "(state, record)"),
    "evaluate": (("hyperparameters", "state", "shared", "final"), "(state, record)"),
}


def failed(field: str, given: Callable, error: Exception, of_missing_keys: str = "") -> InputError:
    """One line for what a user's function raised; ``of_missing_keys`` is added where a key was missing."""
    if isinstance(error, NEEDS_VALUE):
        return InputError(field, given, LOOKS)
    if "value_fn" in str(error):
        remedy = "needs the loss as a function (value_fn), for L-BFGS or a line search, which a step on minibatches "
        return InputError(
            field, given, f"{remedy}does not offer: take an optimizer that needs at most its value"
        )
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


def _kind(result: Any) -> str:
    return "None" if result is None else shown(result) if callable(result) else type(result).__name__
