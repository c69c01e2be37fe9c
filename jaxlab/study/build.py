"""Build the trial that the engine maps over, from one group's configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlab.datasets import AUGMENTATIONS, Dataset
from jaxlab.diagnostics import effective_rank
from jaxlab.errors import InputError
from jaxlab.models import ACTIVATIONS, MODELS, has_flat_zero
from jaxlab.optimizers import build_optimizer
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.store import Data
from jaxlab.study.custom import guarded, named
from jaxlab.study.fields import CONFIGURATION, HYPERPARAMETERS
from jaxlab.study.scores import loss_of, metrics_of
from jaxlab.trial import Supervised, Trial, supervised


def supervised_trial(
    configuration: Configuration,
    example: Hyperparameters,
    data: Dataset,
    epochs: int,
    data_seed: int,
    keep: str,
) -> Trial:
    """Build the supervised trial of one group.

    Args:
        configuration: the group's complete configuration, see `jaxlab.study.fields.CONFIGURATION`.
        example: the declared hyperparameters; their values do not matter.
        data: the data set.
        epochs: planned number of epochs; a schedule may depend on it.
        data_seed: seed of the minibatch order.
        keep: weights to keep, see `Supervised`.
    """
    c = configuration
    examples = len(data.train.targets)
    if c.batch_size > examples:
        remedy = f"the training set has {examples} examples"
        raise InputError("configuration.batch_size", c.batch_size, remedy)
    built = {
        "model": model_of(c, data),
        "optimizer": optimizer_of(c, len(data.train.targets), epochs),
        "loss": loss_of(c, data),
        "metrics": metrics_of(c, data),
        "diagnostics": _diagnostics([name for name in c.diagnostics if name != "update_cosine"]),
        "augment": _augment(c.augment),
        # Unknown for custom functions.
        "separable": not any(map(callable, (c.model, c.loss, c.get("activation")))),
        "data_seed": data_seed,
        "update_cosine": "update_cosine" in c.diagnostics,
        "flat_zero": _flat_zero(c),
        "keep": keep,
    }
    as_declared = {name: value for name, value in c.items() if name in Supervised._fields}
    return supervised(Supervised(**(as_declared | built)), c, example, data)


def model_of(configuration: Configuration, data: Dataset | Data) -> Callable[..., nnx.Module]:
    """The function that builds a group's model; it reads only ``input_shape`` and ``outputs`` of ``data``."""
    model = configuration.model
    return model if callable(model) else partial(_built, data=data)


def optimizer_of(configuration: Configuration, examples: int, epochs: int) -> Callable:
    """The function that builds a group's optimizer for a training of some epochs over some examples."""
    optimizer, schedule = configuration.optimizer, configuration.get("schedule", "constant")
    if callable(optimizer):
        return optimizer
    if callable(schedule):
        schedule = guarded("configuration.schedule", schedule, ("step",), "a factor on the learning rate")
    steps = max(1, examples // configuration.batch_size)
    return partial(build_optimizer, steps_per_epoch=steps, epochs=epochs, schedule=schedule)


def _built(
    configuration: Configuration, hyperparameters: Hyperparameters, rngs: nnx.Rngs, data: Dataset | Data
) -> nnx.Module:
    """Build a built-in model: each field or hyperparameter that needs a model is a keyword of the model's class."""
    keywords = {
        name: values[name]
        for table, values in ((CONFIGURATION, configuration), (HYPERPARAMETERS, hyperparameters))
        for name, field in table.items()
        if "model" in field.needs and field.has_effect(configuration)
    }
    del keywords["dropout"]  # only switches dropout_rate on
    for name, convert in _CONVERTED.items():
        keywords[name] = convert(keywords[name])
    # None stands for the model's default.
    keywords = {name: value for name, value in keywords.items() if value is not None}
    return MODELS[configuration.model](data.input_shape, data.outputs, **keywords, rngs=rngs)


def _activation(given: str | Callable) -> str | Callable:
    if isinstance(given, str) or any(given is known for known in ACTIVATIONS.values()):
        return given
    returns = "an array of the shape of x"
    return guarded("configuration.activation", given, ("x",), returns, lambda x: x.shape)


def _initializer(field: str, given: str | Callable | None) -> str | Callable | None:
    if not callable(given):
        return given
    arguments, returns = ("key", "shape", "dtype"), "an array of that shape"
    return guarded(f"configuration.{field}", given, arguments, returns, lambda key, shape, dtype: shape)


_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "activation": _activation,
    "kernel_init": partial(_initializer, "kernel_init"),
    "bias_init": partial(_initializer, "bias_init"),
    "dtype": {"float32": None, "bfloat16": jnp.bfloat16}.get,
}


def _flat_zero(configuration: Configuration) -> bool:
    """Whether units can be dead: ``dead_units`` if set, else by the activation; custom models are taken to use ReLU."""
    if configuration.dead_units is not None:
        return configuration.dead_units
    return callable(configuration.model) or has_flat_zero(configuration.activation)


def _diagnostics(given: Sequence[str | Callable]) -> dict[str, Callable]:
    field, seen = "diagnostics", ("outputs", "activations", "targets")
    return {
        name: guarded(f"configuration.{field}", each, seen) if callable(each) else _effective_rank
        for name, each in named(field, given).items()
    }


def _effective_rank(outputs: jax.Array, activations: dict[str, jax.Array], targets: jax.Array) -> jax.Array:
    if not activations:
        remedy = "needs a model that returns its activations"
        raise InputError("configuration.diagnostics", "effective_rank", remedy)
    return jnp.stack([effective_rank(h) for h in activations.values()])


def _augment(given: Sequence[str | Callable]) -> Callable | None:
    functions = [
        guarded("configuration.augment", each, ("key", "inputs")) if callable(each) else AUGMENTATIONS[each]
        for each in given
    ]
    if not functions:
        return None

    def augment(key: jax.Array, inputs: jax.Array) -> jax.Array:
        for index, function in enumerate(functions):
            inputs = function(jax.random.fold_in(key, index), inputs)
        return inputs

    return augment
