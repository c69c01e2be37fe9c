"""A flax.nnx model as pure functions of its parameters and its remaining state."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlab.datasets import Dataset
from jaxlab.errors import InputError
from jaxlab.models import CNN, use_fast_convolutions
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.trial.fit import MISMATCH, check_batch, one_line, outputs_and_activations


class Network(NamedTuple):
    """A model as pure functions, unbatched over trials.

    Attributes:
        init: ``hyperparameters -> (parameters, rest)``; the draws depend on ``hyperparameters.seed`` alone.
        apply: ``(parameters, rest, inputs, train) -> (outputs, activations, rest)``; ``train`` is a Python bool.
        outputs: shape and dtype of the outputs for one batch.
        layers: shape of each layer's post-activations for one batch, by the layer's name, in the model's order.
        stateless: whether the state consists of parameters only, without statistics or PRNG keys.
        examples_last: names of the layers whose post-activations are transposes of arrays with the examples along the
            last axis; read them in that order.
    """

    init: Callable[..., tuple[Any, Any]]
    apply: Callable[..., tuple[jax.Array, dict[str, jax.Array], Any]]
    outputs: jax.ShapeDtypeStruct
    layers: dict[str, tuple[int, ...]]
    stateless: bool
    examples_last: frozenset[str] = frozenset()


def build_model(
    model: Callable[..., nnx.Module],
    configuration: Configuration,
    convolution: str,
    hyperparameters: Hyperparameters,
) -> nnx.Module:
    """Build a model for training: draw it from ``hyperparameters.seed`` and set the lowering of its convolutions."""
    rngs = nnx.Rngs(jax.random.key(hyperparameters.seed))
    built = model(configuration, hyperparameters, rngs)
    if not isinstance(built, nnx.Module):
        found = "None" if built is None else type(built).__name__
        given = configuration.get("model", model)
        raise InputError("configuration.model", given, f"returns {found}; return a flax.nnx.Module")
    return use_fast_convolutions(built, convolution)


def network_of(
    model: Callable[..., nnx.Module],
    configuration: Configuration,
    example: Hyperparameters,
    data: Dataset,
    convolution: str = "auto",
) -> Network:
    """Trace construction and call of a model once, without computation; ``convolution`` is the lowering to use."""

    build = partial(build_model, model, configuration, convolution)

    def init(hyperparameters: Hyperparameters):
        _, parameters, rest = nnx.split(build(hyperparameters), nnx.Param, ...)
        return parameters, rest

    graph, parameters, rest = nnx.split(nnx.eval_shape(build, example), nnx.Param, ...)

    def apply(parameters, rest, inputs: jax.Array, train: bool):
        # Copy: the given variables may belong to an outer trace, in which batch norm must not write to them.
        module = nnx.merge(graph, parameters, rest, copy=True)
        (module.train if train else module.eval)()
        outputs, activations = outputs_and_activations(module(inputs))
        _, _, rest = nnx.split(module, nnx.Param, ...)
        return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32)), activations, rest

    layers: dict[str, tuple[int, ...]] = {}

    def inspect(parameters, rest, inputs):
        outputs, activations, _ = apply(parameters, rest, data.prepare(inputs), train=False)
        check_batch(outputs, activations, len(inputs))
        layers.update({name: jnp.shape(value) for name, value in activations.items()})
        return outputs

    module = nnx.merge(graph, parameters, rest)
    examples_last = frozenset(module.examples_last) if isinstance(module, CNN) else frozenset()
    inputs = jax.ShapeDtypeStruct((2, *data.input_shape), data.train.inputs.dtype)
    try:
        outputs = jax.eval_shape(inspect, parameters, rest, inputs)
    except InputError:
        raise
    except MISMATCH as error:
        remedy = f"fails on inputs float32 {list(inputs.shape)}: {one_line(error)}"
        raise InputError("configuration.model", configuration.get("model", model), remedy) from error
    return Network(init, apply, outputs, layers, not jax.tree.leaves(rest), examples_last)
