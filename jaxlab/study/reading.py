"""Trace custom functions on abstract arrays, to find the names that they read and the errors that they contain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxlab.datasets import Dataset
from jaxlab.engine.tracing import shape_of
from jaxlab.errors import InputError
from jaxlab.optax_functions import find
from jaxlab.optimizers import rate_of
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.study.build import model_of, optimizer_of
from jaxlab.study.custom import (
    NEEDS_VALUE,
    built_trial,
    check_arguments,
    check_arrays,
    errors_in_one_line,
    wrong_result,
)
from jaxlab.study.noting import NotingConfiguration, NotingHyperparameters
from jaxlab.trial import Trial, build_model, update_with
from jaxlab.trial.fit import check_batch, outputs_and_activations

_ARGUMENTS = {
    "model": ("configuration", "hyperparameters", "rngs"),
    "optimizer": ("configuration", "hyperparameters"),
}
_SEARCHING = (
    optax.ScaleByLBFGSState,
    optax.ScaleByBacktrackingLinesearchState,
    optax.ScaleByZoomLinesearchState,
)


def names_read(
    configuration: Configuration, example: Hyperparameters, data: Dataset, epochs: int = 1
) -> frozenset[str]:
    """Names of configuration and hyperparameters that a custom model or optimizer reads under one configuration.

    The model is built and called in training mode and in evaluation mode. An optimizer that is custom or uses Optax by
    name takes one step on the model's parameters. Everything is traced on shapes; nothing is computed.

    Args:
        configuration: all declared names; ``model`` or ``optimizer`` is a function, or ``optimizer`` or ``schedule`` is
            a name of Optax.
        example: all declared hyperparameters; their values do not matter.
        data: data set that defines the shapes.
        epochs: epochs of the study, on which a schedule may depend.

    Raises:
        InputError: a function cannot be called, raises, returns something other than a model or an optimizer, needs
            the concrete value of a traced array, or reads a name that is not declared.
    """
    read: set[str] = set()
    custom = [field for field in _ARGUMENTS if callable(configuration[field])]
    for field in custom:
        check_arguments(f"configuration.{field}", configuration[field], _ARGUMENTS[field])
    scheduled = not callable(configuration.optimizer) and find(configuration.schedule)
    if scheduled or find(configuration.optimizer):
        custom.append("optimizer")
    noting = NotingConfiguration.of(configuration, read)

    def noted(field: str, function: Callable) -> Callable:
        if field not in custom:
            return function

        def call(_: Configuration, h: Hyperparameters, *more: Any) -> Any:
            return function(noting, NotingHyperparameters.of(h, read), *more)

        return call

    def tried(field: str, function: Callable) -> Any:
        if field == "model" and field not in custom:
            return jax.eval_shape(function, example)
        return _tried(f"configuration.{field}", configuration[field], function, example)

    model = noted("model", model_of(configuration, data))
    parameters = tried("model", partial(_called, model, configuration, data))
    if "optimizer" in custom:
        build = optimizer_of(configuration, len(data.train.targets), epochs)
        if scheduled:
            tried(
                "schedule", lambda h: rate_of(noting, NotingHyperparameters.of(h, read), **build.keywords)(0)
            )
        optimizer = noted("optimizer", build)
        given = "configuration.optimizer", configuration.optimizer
        updates, before, after = tried("optimizer", partial(_stepped, optimizer, configuration, parameters))
        _check_same(*given, "updates", parameters, updates)
        _check_same(*given, "a state", before, after)
    return frozenset(read)


def names_read_by(
    trial: Callable[[Configuration], Trial],
    configuration: Configuration,
    example: Hyperparameters,
    shared: Any,
) -> frozenset[str]:
    """Names of configuration and hyperparameters that a custom trial reads under one configuration.

    All functions are traced on shapes; nothing is computed.

    Args:
        trial: function that builds the trial.
        configuration: all declared names.
        example: all declared hyperparameters; their values do not matter.
        shared: arrays that the trial's functions receive; only shapes and dtypes are used.

    Raises:
        InputError: for the reasons that `names_read` lists, or a result does not follow the protocol of `Trial`.
    """
    read: set[str] = set()
    triple = built_trial(trial, NotingConfiguration.of(configuration, read))
    has = f"; shared has {', '.join(map(str, shared))}" if isinstance(shared, Mapping) else ""
    shared = _shapes(shared)

    def tried(name: str, *more: Any, final: bool | None = None) -> Any:
        field, given = f"trial.{name}", getattr(triple, name)

        def call(h: Hyperparameters, *more: Any) -> Any:
            last = () if final is None else (final,)
            result = given(NotingHyperparameters.of(h, read), *more, *last)
            check_arrays(field, given, result, "the state, a tree of arrays" if name == "init" else _PAIR)
            if name != "init" and not _is_pair(result):
                raise wrong_result(field, given, result, _PAIR)
            return result

        return _tried(field, given, call, example, *more, has=has)

    for name, arguments in _TRIPLE.items():
        check_arguments(f"trial.{name}", getattr(triple, name), arguments)
    state = jax.tree.map(shape_of, tried("init", shared))
    epoch = jax.ShapeDtypeStruct((), jnp.int32)
    measured, record = tried("evaluate", state, shared, final=False)
    _check_same("trial.evaluate", triple.evaluate, "a state", state, measured)
    trained, _ = tried("train_segment", state, shared, epoch)
    _check_same("trial.train_segment", triple.train_segment, "a state", state, trained)
    tried("evaluate", state, shared, final=True)
    for field, given, *arguments in _others(triple, state, record, shared):
        _tried(field, given, lambda h, *more, given=given: given(*more), example, *arguments)
    return frozenset(read)


def _others(triple: Trial, state: Any, record: Any, shared: Any) -> Iterator[tuple]:
    """Optional functions of a trial, each as ``(field, function, *shapes of its arguments)``."""
    if triple.sample is not None:
        yield "trial.sample", triple.sample, shared
    if triple.weights is not None:
        kept, restored, score = triple.weights
        yield "trial.weights.kept", kept, state
        yield "trial.weights.restored", lambda state: restored(state, kept(state)), state
        if score is not None:
            yield "trial.weights.score", score, record


_PAIR = "(state, record), where record is a dict from names to arrays"
_TRIPLE = {
    "init": ("hyperparameters", "shared"),
    "train_segment": ("hyperparameters", "state", "shared", "epoch"),
    "evaluate": ("hyperparameters", "state", "shared", "final"),
}


def _is_pair(result: Any) -> bool:
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], Mapping):
        return False
    return all(jax.tree.structure(each) == jax.tree.structure(0) for each in result[1].values())


def _shapes(shared: Any) -> Any:
    try:
        return jax.tree.map(shape_of, jax.eval_shape(lambda arrays: arrays, shared))
    except TypeError as error:
        raise InputError("shared", shared, "give a tree of arrays of numbers") from error


def _tried(
    field: str, given: Any, function: Callable, example: Hyperparameters, *more: Any, has: str = ""
) -> Any:
    """Shapes that ``function(hyperparameters, *more)`` returns; errors of custom code become an InputError."""
    with errors_in_one_line(field, given, has):
        try:
            return jax.eval_shape(function, example, *more)
        except NEEDS_VALUE as error:
            names = _looked_at(function, example, *more)
            if not names:
                raise
            which = " and ".join(names)
            remedy = (
                f"looks at the value of {which} in Python (if, float(), range(), ...), which is traced: "
                f"declare {which} under configuration{', or use jnp.where' if callable(given) else ''}"
            )
            raise InputError(field, given, remedy) from error


def _looked_at(function: Callable[..., Any], example: Hyperparameters, *more: Any) -> list[str]:
    """Names of the hyperparameters whose concrete values the function needs.

    Returns:
        one name if that value alone makes the function traceable, else each name whose value it cannot do without.
        Empty if the function is not traceable even with all hyperparameters concrete.
    """

    def traces(*concrete: str) -> bool:
        known = {name: np.asarray(example[name]).item() for name in concrete}
        others = {name: value for name, value in example.items() if name not in known}
        try:
            jax.eval_shape(lambda rest, *more: function(Hyperparameters(rest | known), *more), others, *more)
        except NEEDS_VALUE:
            return False
        return True

    if not traces(*example):
        return []
    alone = next((name for name in example if traces(name)), None)
    if alone is not None:
        return [alone]
    return [name for name in example if not traces(*(each for each in example if each != name))]


def _called(
    model: Callable, configuration: Configuration, data: Dataset, hyperparameters: Hyperparameters
) -> Any:
    """Build the model, call it in training mode and in evaluation mode, and return its parameters."""
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
) -> tuple[Any, Any, Any]:
    """Take one step of the optimizer and return its updates and its state before and after the step."""
    field, given = "configuration.optimizer", configuration.optimizer
    parameters = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), parameters)
    transformation = optimizer(configuration, hyperparameters)
    if not isinstance(transformation, optax.GradientTransformation):
        raise wrong_result(field, given, transformation, "an optax.GradientTransformation")
    before = transformation.init(parameters)
    nodes = jax.tree.leaves(before, is_leaf=lambda node: isinstance(node, _SEARCHING))
    if any(isinstance(node, _SEARCHING) for node in nodes):
        remedy = "is L-BFGS or a line search, which compare losses or gradients of one function: here each step has "
        raise InputError(field, given, f"{remedy}another minibatch, so take an optimizer such as adam")
    updates, after = update_with(transformation, parameters, before, parameters, jnp.zeros(()))
    return updates, before, after


def _check_same(field: str, given: Any, what: str, before: Any, after: Any) -> None:
    """Raise InputError unless two trees have the same structure, shapes and dtypes."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise InputError(field, given, f"returns {what} of another structure than it was given")
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            words = [f"{leaf.dtype.name} {list(leaf.shape)}" for leaf in (other, one)]
            raise InputError(field, given, f"returns {what} with {words[0]} where it was given {words[1]}")
