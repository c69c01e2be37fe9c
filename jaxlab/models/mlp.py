"""A multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from jaxlab.checks import whole
from jaxlab.convolution import transposed
from jaxlab.models import sizes
from jaxlab.models.initializers import Initializer
from jaxlab.models.layers import Block, Dropout, layer_rngs, recipe, trainable


class MLP(nnx.Module):
    """Flatten, per hidden layer dense → batch normalisation → activation → dropout, then dense → outputs.

    ``model(x)`` takes x of shape (B, *input_shape) and returns ``(outputs_BxK, activations)``;
    ``activations`` maps ``"dense_0"``, ``"dense_1"``, … to the post-activation arrays of shape (B, features),
    before dropout. The output layer has no activation and no entry: its outputs are
    logits, or a regression's predictions.

    Args:
        input_shape: the shape of one example, any number of axes.
        outputs: K.
        features: the widths of the hidden layers. With ``()`` the model is linear.
        activation: a name in ``ACTIVATIONS`` or a function, applied after every trainable layer but the
            output layer. Two models are equal as configurations only if given the same function object.
        kernel_init: a name in ``INITIALIZERS`` or a JAX initializer; None is LeCun normal.
        bias_init: a name in ``BIAS_INITIALIZERS``, a JAX initializer, or a number; None is zero.
        init_scale: multiplies every initial kernel, the output layer's too, and nothing else; may be traced.
        batch_norm: normalise between the layer and its activation (`jaxlab.models.BatchNorm`: momentum 0.99,
            ε = 1e-5 inside the root).
        dropout_rate: None for no dropout layer; else the rate, a number in [0, 1) or traced.
        dtype: of the computation; None is JAX's default float. Parameters and statistics are float32, or this
            dtype where it is wider.
        rngs: ``params`` and ``dropout`` streams, or a default one. The initial kernel of layer i depends on
            the ``params`` key and i alone, whatever the batch normalisation and dropout.

    Raises:
        InputError: while building; in a call, for inputs of another shape.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        *,
        features: Sequence[int] = (128,),
        activation: str | Callable[..., Any] = "relu",
        kernel_init: str | Initializer | None = None,
        bias_init: str | Initializer | ArrayLike | None = None,
        init_scale: ArrayLike = 1.0,
        batch_norm: bool = False,
        dropout_rate: ArrayLike | None = None,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        self.input_shape = sizes.integers("input_shape", input_shape)
        widths = sizes.integers("features", features)
        outputs = whole("outputs", outputs, 1)
        shared = recipe(activation, kernel_init, bias_init, init_scale, batch_norm, dtype)
        key = rngs.params()
        self.dense, fan_in = nnx.List([]), math.prod(self.input_shape)
        for i, width in enumerate(widths):
            own = layer_rngs(key, i)
            layer = trainable(shared, nnx.Linear, fan_in, width, fan_in=fan_in, rngs=own)
            self.dense.append(Block(layer, width, shared, rngs=own))
            fan_in = width
        own = layer_rngs(key, len(widths))
        self.output = trainable(shared, nnx.Linear, fan_in, outputs, fan_in=fan_in, rngs=own)
        self.dropout = None if dropout_rate is None else Dropout(dropout_rate, rngs=rngs)

    def __call__(self, x_BxSPATIALxC: ArrayLike) -> tuple[jax.Array, dict[str, jax.Array]]:
        sizes.inputs(jnp.shape(x_BxSPATIALxC), self.input_shape)
        x = jnp.asarray(x_BxSPATIALxC)
        x = x.reshape(x.shape[0], math.prod(self.input_shape))
        return self._behind(lambda first: first(x))

    def examples_last(self, x_CxSPATIALxB: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The same of one array [C, *spatial, B], whose examples are flattened in the order (*spatial, C)."""
        return self._behind(partial(_applied_examples_last, x_CxSPATIALxB))

    def _behind(self, first: Callable[[nnx.Module], jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The whole network, given what its first module makes of the inputs."""
        apply, activations = first, {}
        for i, block in enumerate(self.dense):
            x = activations[f"dense_{i}"] = apply(block)
            if self.dropout is not None:
                x = self.dropout(x)
            apply = partial(_applied, x)
        return apply(self.output), activations


def _applied(x: jax.Array, module: nnx.Module) -> jax.Array:
    return module(x)


def _applied_examples_last(x_CxSPATIALxB: jax.Array, module: nnx.Module) -> jax.Array:
    """[B, outputs] of a block, a linear layer, or any other module, which is given [B, inputs]."""
    if type(module) is Block and _is_plain(module.layer):
        return module.activate(_product(x_CxSPATIALxB, module.layer))
    if _is_plain(module):
        return _product(x_CxSPATIALxB, module)
    x = transposed(x_CxSPATIALxB)
    return module(x.reshape(x.shape[0], math.prod(x.shape[1:])))


def _is_plain(layer: nnx.Module) -> bool:
    """Whether a linear layer is as built here, and not one that a user put in or changed."""
    return (
        type(layer) is nnx.Linear
        and layer.use_bias
        and layer.dot_general is jax.lax.dot_general
        and layer.precision is layer.preferred_element_type is None
    )


def _product(x_CxSPATIALxB: jax.Array, layer: nnx.Linear) -> jax.Array:
    """A linear layer's outputs. The kernel's rows are reordered instead of x, which has more numbers."""
    channels, *_, examples = x_CxSPATIALxB.shape
    given = (x_CxSPATIALxB, layer.kernel[...], layer.bias[...])
    x, kernel, bias = layer.promote_dtype(given, dtype=layer.dtype)
    kernel = jnp.moveaxis(kernel.reshape(-1, channels, kernel.shape[-1]), 1, 0)
    rows = kernel.reshape(-1, kernel.shape[-1])
    y = jax.lax.dot_general(x.reshape(len(rows), examples), rows, (((0,), (0,)), ((), ())))
    return y + bias[None]
