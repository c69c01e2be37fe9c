"""A user's model and optimizer, traced once on abstract arrays: which names they read, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxlab.datasets import Dataset
from jaxlab.errors import InputError
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.study.build import model_of
from jaxlab.study.checks import unknown
from jaxlab.study.concrete import traced
from jaxlab.study.own import check_arguments, failed
from jaxlab.trial import build_model, update_with
from jaxlab.trial.checks import check_batch, outputs_and_activations

_ARGUMENTS = {
    "model": ("configuration", "hyperparameters", "rngs"),
    "optimizer": ("configuration", "hyperparameters"),
}
_KINDS = {"model": nnx.Module, "optimizer": optax.GradientTransformation}
_WORDS = {"model": "a flax.nnx.Module", "optimizer": "an optax.GradientTransformation"}


class _Notes:
    """Names that were read, by kind, and the last one that was asked for and is not declared."""

    def __init__(self) -> None:
        self.read: set[str] = set()
        self.missed: tuple[str, str] | None = None


class _Noting:
    """Of a mapping: note in ``notes`` what is read of it. Whatever reads it whole reads every name."""

    __slots__ = ()

    @classmethod
    def of(cls, values: Mapping[str, Any], notes: _Notes) -> Any:
        noting = cls(values)
        object.__setattr__(noting, "notes", notes)
        return noting

    def __getitem__(self, name: str) -> Any:
        self._note(name)
        return super().__getitem__(name)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            self._note(name)
        return super().__getattr__(name)

    def replace(self, **changes: Any) -> Any:
        return type(self).of({**self._values, **changes}, self.notes)

    def _note(self, name: str) -> None:
        if name in self._values:
            self.notes.read.add(name)
        else:
            self.notes.missed = (self._kind, name)

    def _all(self) -> None:
        self.notes.read.update(self._values)


class _NotingConfiguration(_Noting, Configuration):
    __slots__ = ("notes",)
    _kind = "configuration"

    def __hash__(self) -> int:
        self._all()
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        self._all()
        return super().__eq__(other)


@jax.tree_util.register_pytree_with_keys_class
class _NotingHyperparameters(_Noting, Hyperparameters):
    __slots__ = ("notes",)
    __hash__ = None
    _kind = "hyperparameters"

    def tree_flatten_with_keys(self):
        self._all()
        return super().tree_flatten_with_keys()

    @classmethod
    def tree_unflatten(cls, names, leaves):
        return Hyperparameters(dict(zip(names, leaves, strict=True)))


def names_read(configuration: Configuration, example: Hyperparameters, data: Dataset) -> frozenset[str]:
    """The names of both kinds that a user's model and optimizer read under one configuration.

    The model is built and called, in training and in evaluation, and the optimizer takes a step on the model's own
    parameters; nothing is computed.

    Args:
        configuration: every name that is declared; ``model`` or ``optimizer`` is a function.
        example: every hyperparameter that is declared, with any values.
        data: gives the shapes.

    Raises:
        InputError: a function cannot be called, raises, gives something else than a model or an optimizer, looks at a
            traced value, or reads a name that is not declared.
    """
    notes = _Notes()
    own = [field for field in _ARGUMENTS if callable(configuration[field])]
    for field in own:
        check_arguments(f"configuration.{field}", configuration[field], _ARGUMENTS[field])
    noting = _NotingConfiguration.of(configuration, notes)

    def noted(field: str, function: Callable) -> Callable:
        if field not in own:
            return function
        return lambda _, h, *more: _built(
            field, function, function(noting, _NotingHyperparameters.of(h, notes), *more)
        )

    model = noted("model", model_of(configuration, data))
    parameters = _tried("model", partial(_called, model, configuration, data), configuration, example, notes)
    if "optimizer" in own:
        optimizer = noted("optimizer", configuration.optimizer)
        step = partial(_stepped, optimizer, configuration, parameters)
        _tried("optimizer", step, configuration, example, notes)
    return frozenset(notes.read)


def _tried(
    field: str, function: Callable, configuration: Configuration, example: Hyperparameters, notes: _Notes
) -> Any:
    """``function(hyperparameters)`` traced; whatever the user's code raises is one line."""
    given, name = configuration[field], f"configuration.{field}"
    try:
        with traced(name, given, function, example):
            return jax.eval_shape(function, example)
    except InputError:
        raise
    except Exception as error:  # whatever the user's code raises
        if not callable(given):
            raise
        missed = notes.missed
        if missed is not None and isinstance(error, (AttributeError, KeyError)) and missed[1] in str(error):
            raise _undeclared(name, given, missed, configuration, example, notes) from error
        raise failed(name, given, error) from error


def _undeclared(
    field: str,
    given: Callable,
    missed: tuple[str, str],
    configuration: Configuration,
    example: Hyperparameters,
    notes: _Notes,
) -> InputError:
    kind, name = missed
    declared = configuration if kind == "configuration" else example
    close = get_close_matches(name, set(declared) - notes.read, n=1, cutoff=0.85)
    if close:
        return unknown(kind, close[0], {name, *notes.read.intersection(declared)})
    return InputError(field, given, f"reads {name}, which is not declared: declare it under {kind}")


def _built(field: str, given: Callable, built: Any) -> Any:
    """What a user's function returned, if it is what it should build."""
    kind = _KINDS[field]
    if not isinstance(built, kind):
        found = "None" if built is None else type(built).__name__
        raise InputError(f"configuration.{field}", given, f"returns {found}: return {_WORDS[field]}")
    return built


def _called(
    model: Callable, configuration: Configuration, data: Dataset, hyperparameters: Hyperparameters
) -> Any:
    """The parameters of the model, which is called in training and in evaluation."""
    module = build_model(model, configuration, configuration.convolution, hyperparameters)
    _, parameters, _ = nnx.split(module, nnx.Param, ...)
    examples = min(configuration.batch_size, len(data.train.targets))
    inputs = data.prepare(jnp.zeros((examples, *data.input_shape), data.train.inputs.dtype))
    for mode in (module.train, module.eval):
        mode()
        check_batch(*outputs_and_activations(module(inputs)), examples)
    return parameters


def _stepped(
    optimizer: Callable, configuration: Configuration, parameters: Any, hyperparameters: Hyperparameters
) -> Any:
    """The optimizer's state after one step."""
    parameters = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), parameters)
    transformation = optimizer(configuration, hyperparameters)
    field, given = "configuration.optimizer", configuration.optimizer
    before = transformation.init(parameters)
    updates, after = update_with(transformation, parameters, before, parameters, jnp.zeros(()))
    for what, one, other in (("updates", parameters, updates), ("state", before, after)):
        if jax.tree.structure(one) != jax.tree.structure(other):
            raise InputError(field, given, f"gives {what} of another structure after a step than before it")
        if _types(one) != _types(other):
            raise InputError(
                field, given, f"gives {what} of other shapes or dtypes after a step than before it"
            )
    return after


def _types(tree: Any) -> list[tuple]:
    return [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)]
