"""Convolutional network for one or two spatial axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from jaxlab.checks import one_of
from jaxlab.convolution import conv_examples_last, conv_general_dilated, materialize, transposed
from jaxlab.errors import InputError
from jaxlab.models import sizes
from jaxlab.models.initializers import Initializer
from jaxlab.models.layers import Block, Dropout, LayerOptions, build_layer, layer_options, layer_rngs
from jaxlab.models.mlp import MLP
from jaxlab.pooling import avg_pool, max_pool

POOLINGS: dict[str, Callable[..., Any]] = {"max": max_pool, "average": avg_pool}
#: A pooled input is stored if the next window has at least this many taps: 3×3 and larger, rarely windows of signals.
_MANY_TAPS = 9


@dataclass(frozen=True)
class LayerSizes:
    """Sizes of one convolutional layer and of the pooling after it, per spatial axis."""

    features: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]
    pool: tuple[int, ...]


class CNN(nnx.Module):
    """Convolutional network: convolution → batch normalisation → activation → pooling → dropout, then ``MLP``.

    ``model(x)`` takes x of shape (B, *input_shape), channels last, and returns
    ``(outputs_BxK, activations)``. ``activations`` maps ``"conv_0"``, ``"conv_1"``, …, ``"dense_0"``, … to
    the post-activation arrays, before pooling and dropout: (B, *spatial, features) and (B, features). The
    output layer has no activation and no entry.

    Args:
        input_shape: shape of one example, (height, width, channels) or (length, channels).
        outputs: K, the number of outputs.
        features: number of channels of each convolutional layer, for at least one layer.
        kernel_sizes: an integer for all layers, or one entry per layer: an integer, or one per spatial axis.
        strides: like ``kernel_sizes``.
        padding: ``"SAME"``, ``"VALID"``, or a number of zeros on each side, for all layers; or one entry
            per layer, which may also hold one integer or (before, after) per spatial axis.
        pool_sizes: like ``kernel_sizes``; windows do not overlap, and a remainder at the end is dropped; 1
            means no pooling.
        pooling: ``"max"`` or ``"average"``.
        dense: widths of the hidden dense layers after flattening.
        activation, kernel_init, bias_init, init_scale, batch_norm, dtype, rngs: see ``MLP``.
        dropout_rate: see ``MLP``; elementwise, after the pooling of every convolutional layer and after every
            hidden dense layer.

    Raises:
        InputError: on building, an argument is invalid or the layers shrink the image to nothing; on calling, the
            inputs have another shape.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        *,
        features: Sequence[int] = (16, 32),
        kernel_sizes: Any = 3,
        strides: Any = 1,
        padding: Any = "SAME",
        pool_sizes: Any = 2,
        pooling: str = "max",
        dense: Sequence[int] = (),
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
        if len(self.input_shape) not in (2, 3):
            remedy = "give (height, width, channels) or (length, channels)"
            raise InputError("input_shape", self.input_shape, remedy)
        layers = _layer_sizes(len(self.input_shape) - 1, features, kernel_sizes, strides, padding, pool_sizes)
        flat = math.prod(_spatial_shape(self.input_shape[:-1], layers)) * layers[-1].features
        dense = sizes.integers("dense", dense)
        self.pool = POOLINGS[one_of("pooling", pooling, POOLINGS)]
        self.pool_sizes = tuple(layer.pool for layer in layers)
        options = {
            "activation": activation,
            "kernel_init": kernel_init,
            "bias_init": bias_init,
            "init_scale": init_scale,
            "batch_norm": batch_norm,
            "dtype": dtype,
        }
        self.conv = nnx.List(
            _conv_blocks(self.input_shape[-1], layers, layer_options(**options), rngs.params())
        )
        self.head = MLP((flat,), outputs, features=dense, dropout_rate=dropout_rate, rngs=rngs, **options)
        self.dropout = None if dropout_rate is None else Dropout(dropout_rate, rngs=rngs)

    def __call__(self, x_BxSPATIALxC: ArrayLike) -> tuple[jax.Array, dict[str, jax.Array]]:
        sizes.inputs(jnp.shape(x_BxSPATIALxC), self.input_shape)
        x = jnp.asarray(x_BxSPATIALxC)
        return self._examples_last(x) if self.examples_last else self._channels_last(x)

    @property
    def examples_last(self) -> tuple[str, ...]:
        """Names of the layers computed with the examples along the last axis: on a CPU all convolutions, else none.

        Their post-activations are returned transposed, with channels last as everywhere.
        """
        on_cpu = jax.default_backend() == "cpu"
        supported = on_cpu and type(self.head) is MLP and all(map(_is_unmodified, self.conv))
        return tuple(f"conv_{i}" for i in range(len(self.conv))) if supported else ()

    def _channels_last(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        activations = {}
        for i, (block, size) in enumerate(zip(self.conv, self.pool_sizes, strict=True)):
            x = activations[f"conv_{i}"] = block(x)
            if math.prod(size) > 1:
                x = self.pool(x, size, strides=size)
            if self.dropout is not None:
                x = self.dropout(x)
        outputs, dense_activations = self.head(x.reshape(x.shape[0], *self.head.input_shape))
        return outputs, activations | dense_activations

    def _examples_last(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """`_channels_last` up to rounding, but on arrays [C, *spatial, B], see `jaxlab.convolution`."""
        x, activations = transposed(x), {}
        for i, (block, size) in enumerate(zip(self.conv, self.pool_sizes, strict=True)):
            x = block.activate_examples_last(_convolve_examples_last(block.layer, x))
            activations[f"conv_{i}"] = transposed(x)
            if math.prod(size) > 1:
                x = self.pool(x, size, strides=size)
            if self.dropout is not None:
                x = transposed(self.dropout(transposed(x)))
            if math.prod(size) > 1 and _is_read_often(self.conv, i + 1):
                x = materialize(x)
        outputs, dense_activations = self.head.examples_last(x)
        return outputs, activations | dense_activations


def _is_unmodified(block: nnx.Module) -> bool:
    """Whether a block's convolution is the one built here, not replaced or changed by the user."""
    if type(block) is not Block or type(block.layer) is not nnx.Conv:
        return False
    layer = block.layer
    return (
        layer.conv_general_dilated is conv_general_dilated
        and layer.use_bias
        and layer.mask is None
        and layer.feature_group_count == 1
        and all(np.all(np.equal(each, 1)) for each in (layer.input_dilation, layer.kernel_dilation))
        and isinstance(layer.strides, tuple)
        and (layer.padding in ("SAME", "VALID") or isinstance(layer.padding, tuple))
        and layer.precision is layer.preferred_element_type is None
    )


def _is_read_often(blocks: Sequence[Block], i: int) -> bool:
    """Whether layer i exists and has so many taps that pooling again for each costs more than storing the result."""
    return i < len(blocks) and math.prod(blocks[i].layer.kernel_size) >= _MANY_TAPS


def _convolve_examples_last(layer: nnx.Conv, x_CxSPATIALxB: jax.Array) -> jax.Array:
    """Outputs [F, *spatial, B] of a convolutional layer."""
    given = (x_CxSPATIALxB, layer.kernel[...], layer.bias[...])
    x, kernel, bias = layer.promote_dtype(given, dtype=layer.dtype)
    y = conv_examples_last(x, kernel, layer.strides, layer.padding)
    return y + bias.reshape(-1, *(1,) * (y.ndim - 1))


def _layer_sizes(
    axes: int, features: Sequence[int], kernel_sizes: Any, strides: Any, padding: Any, pool_sizes: Any
) -> list[LayerSizes]:
    """Expand the user's shorthands to the sizes of every layer."""
    features = sizes.integers("features", features)
    if not features:
        raise InputError("features", features, "give at least one layer, or use MLP")
    given = {"kernel_sizes": kernel_sizes, "strides": strides, "padding": padding, "pool_sizes": pool_sizes}
    rows = {field: sizes.per_layer(field, value, len(features)) for field, value in given.items()}

    def per_axis(field: str, i: int) -> tuple[int, ...]:
        return sizes.per_axis(f"{field}[{i}]", rows[field][i], axes)

    return [
        LayerSizes(
            width,
            per_axis("kernel_sizes", i),
            per_axis("strides", i),
            sizes.padding(f"padding[{i}]", rows["padding"][i], axes),
            per_axis("pool_sizes", i),
        )
        for i, width in enumerate(features)
    ]


def _spatial_shape(spatial: tuple[int, ...], layers: Sequence[LayerSizes]) -> tuple[int, ...]:
    """Spatial shape after the last layer; raise InputError if a layer leaves nothing."""
    for i, layer in enumerate(layers):
        steps = (
            ("convolution", layer.kernel, layer.strides, layer.padding),
            ("pooling", layer.pool, layer.pool, "VALID"),
        )
        for step, window, strides, padding in steps:
            before, spatial = spatial, _window_counts(spatial, window, strides, padding)
            if min(spatial) < 1:
                remedy = "use smaller windows, fewer layers or pools, padding='SAME', or larger images"
                found = f"nothing is left of its {'×'.join(map(str, before))} input"
                raise InputError(f"conv_{i}'s {step}", window, f"{found}; {remedy}")
    return spatial


def _window_counts(
    spatial: tuple[int, ...],
    window: tuple[int, ...],
    strides: tuple[int, ...],
    padding: str | tuple[tuple[int, int], ...],
) -> tuple[int, ...]:
    """Number of windows along each axis."""
    pads = jax.lax.padtype_to_pads(spatial, window, strides, padding) if isinstance(padding, str) else padding
    return tuple(
        (n + sum(pad) - k) // stride + 1
        for n, pad, k, stride in zip(spatial, pads, window, strides, strict=True)
    )


def _conv_blocks(
    channels: int, layers: Sequence[LayerSizes], shared: LayerOptions, key: jax.Array
) -> list[Block]:
    blocks = []
    for i, layer in enumerate(layers):
        rngs = layer_rngs(key, i)
        conv = build_layer(
            shared,
            nnx.Conv,
            channels,
            layer.features,
            layer.kernel,
            strides=layer.strides,
            padding=layer.padding,
            conv_general_dilated=conv_general_dilated,
            fan_in=channels * math.prod(layer.kernel),
            rngs=rngs,
        )
        blocks.append(Block(conv, layer.features, shared, rngs=rngs))
        channels = layer.features
    return blocks
