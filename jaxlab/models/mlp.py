"""Multilayer perceptron."""

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
from jaxlab.models.layers import Block, Dropout, build_layer, layer_options, layer_rngs


class MLP(nnx.Module):
    """Multilayer perceptron: per hidden layer dense → batch normalisation → activation → dropout; then dense.

    ``model(x)`` takes x of shape (B, *input_shape) and returns ``(outputs_BxK, activations)``;
    ``activations`` maps ``"dense_0"``, ``"dense_1"``, … to the post-activation arrays of shape (B, features),
    before dropout. The output layer has no activation and no entry: its outputs are
    logits, or predictions of a regression.

    Args:
        input_shape: shape of one example, with any number of axes; the model flattens it.
        outputs: K, the number of outputs.
        features: widths of the hidden layers. With ``()`` the model is linear.
        activation: a name in ``ACTIVATIONS`` or a function, applied after every trainable layer except the
            output layer. Two models are equal as configurations only if given the same function object.
        kernel_init: a name in ``INITIALIZERS`` or a JAX initializer; None is LeCun normal.
        bias_init: a name in ``BIAS_INITIALIZERS``, a JAX initializer, or a number; None is zero.
        init_scale: factor of every initial kernel, that of the output layer included; may be traced.
        batch_norm: normalise between the layer and its activation (`jaxlab.models.BatchNorm`: momentum 0.99,
            ε = 1e-5 inside the root).
        dropout_rate: None for no dropout layer; else the rate, a number in [0, 1) or traced.
        dtype: dtype of the computation; None is JAX's default float. Parameters and statistics are float32, or this
            dtype if it is wider.
        rngs: ``params`` and ``dropout`` streams, or a default one. The initial kernel of layer i depends on
            the ``params`` key and i alone, not on batch normalisation or dropout.

    Raises:
        InputError: on building, an argument is invalid; on calling, the inputs have another shape.
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
        shared = layer_options(activation, kernel_init, bias_init, init_scale, batch_norm, dtype)
        key = rngs.params()
        self.dense, fan_in = nnx.List([]), math.prod(self.input_shape)
        for i, width in enumerate(widths):
            layer_streams = layer_rngs(key, i)
            layer = build_layer(shared, nnx.Linear, fan_in, width, fan_in=fan_in, rngs=layer_streams)
            self.dense.append(Block(layer, width, shared, rngs=layer_streams))
            fan_in = width
        layer_streams = layer_rngs(key, len(widths))
        self.output = build_layer(shared, nnx.Linear, fan_in, outputs, fan_in=fan_in, rngs=layer_streams)
        self.dropout = None if dropout_rate is None else Dropout(dropout_rate, rngs=rngs)

    def __call__(self, x_BxSPATIALxC: ArrayLike) -> tuple[jax.Array, dict[str, jax.Array]]:
        sizes.inputs(jnp.shape(x_BxSPATIALxC), self.input_shape)
        x = jnp.asarray(x_BxSPATIALxC)
        x = x.reshape(x.shape[0], math.prod(self.input_shape))
        return self._apply_layers(lambda first: first(x))

    def examples_last(self, x_CxSPATIALxB: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Apply the model to inputs [C, *spatial, B], flattening each example in the order (*spatial, C)."""
        return self._apply_layers(partial(_apply_examples_last, x_CxSPATIALxB))

    def _apply_layers(
        self, first: Callable[[nnx.Module], jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Apply all layers; ``first`` applies the first module to the inputs."""
        apply, activations = first, {}
        for i, block in enumerate(self.dense):
            x = activations[f"dense_{i}"] = apply(block)
            if self.dropout is not None:
                x = self.dropout(x)
            apply = partial(_apply, x)
        return apply(self.output), activations


def _apply(x: jax.Array, module: nnx.Module) -> jax.Array:
    return module(x)


def _apply_examples_last(x_CxSPATIALxB: jax.Array, module: nnx.Module) -> jax.Array:
    """Outputs [B, features] of a module for inputs [C, *spatial, B]."""
    if type(module) is Block and _is_unmodified(module.layer):
        return module.activate(_linear_examples_last(x_CxSPATIALxB, module.layer))
    if _is_unmodified(module):
        return _linear_examples_last(x_CxSPATIALxB, module)
    x = transposed(x_CxSPATIALxB)
    return module(x.reshape(x.shape[0], math.prod(x.shape[1:])))


def _is_unmodified(layer: nnx.Module) -> bool:
    """Whether a linear layer is the one built here, not replaced or changed by the user."""
    return (
        type(layer) is nnx.Linear
        and layer.use_bias
        and layer.dot_general is jax.lax.dot_general
        and layer.precision is layer.preferred_element_type is None
    )


def _linear_examples_last(x_CxSPATIALxB: jax.Array, layer: nnx.Linear) -> jax.Array:
    """Outputs [B, features] of a linear layer. Reorders the rows of the kernel instead of x, which is larger."""
    channels, *_, examples = x_CxSPATIALxB.shape
    given = (x_CxSPATIALxB, layer.kernel[...], layer.bias[...])
    x, kernel, bias = layer.promote_dtype(given, dtype=layer.dtype)
    kernel = jnp.moveaxis(kernel.reshape(-1, channels, kernel.shape[-1]), 1, 0)
    rows = kernel.reshape(-1, kernel.shape[-1])
    y = jax.lax.dot_general(x.reshape(len(rows), examples), rows, (((0,), (0,)), ((), ())))
    return y + bias[None]
