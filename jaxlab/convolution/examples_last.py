"""Convolution with the examples of the batch along the last axis.

A CPU works on vectors of 8 or 16 numbers along the last axis of an array. Channels are often fewer, or not a multiple
of that, and then most elementwise work around a convolution is not vectorised. A batch has enough examples for any
network. See docs/convolution.md for measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxlab.convolution.geometry import check_window, geometry_of
from jaxlab.convolution.lowerings import taps

#: Examples along the last axis that fill a CPU's vectors.
FULL_VECTORS = 16


def conv_examples_last(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[Sequence[int]],
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Convolve [C, *spatial, B]: `conv_general_dilated` of the transposed arrays, transposed back::

        y[f, i, j, b] = Σ_{u,v,c} x[c, s₀i + u, s₁j + v, b] · k[u, v, c, f]

    Args:
        x: the input, [C, *spatial, B].
        kernel: k, [*window, C, F], of x's dtype.
        strides: the step of the window per spatial axis.
        padding: as in `conv_general_dilated`.
        precision: precision of the matrix product, as in ``jax.lax.dot_general``.

    Returns:
        y, [F, *spatial of the output, B].

    Raises:
        InputError: the window does not fit in the padded input.
    """
    *window, _, features = kernel.shape
    geometry = geometry_of(x.shape[1:-1], window, strides, padding, (1,) * len(window), 1)
    check_window(x.shape, geometry)
    patches = jnp.concatenate(taps(x, geometry), axis=0)
    rows = kernel.reshape(-1, features)
    columns = patches.reshape(len(rows), math.prod(patches.shape[1:]))
    y = lax.dot_general(rows, columns, (((0,), (0,)), ((), ())), precision=precision)
    return y.reshape(features, *patches.shape[1:])


def transposed(x: jax.Array) -> jax.Array:
    """Transpose [B, *spatial, C] to [C, *spatial, B], or back."""
    return jnp.swapaxes(x, 0, -1)
