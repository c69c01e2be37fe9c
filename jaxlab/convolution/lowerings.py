"""Ways to write a convolution that stay fast when ``vmap`` gives every trial a kernel of its own.

All are plain slices, products and sums, so every transformation of JAX holds for them.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlab.convolution.geometry import Geometry

# From so many taps with a stride on, their gradient is added up faster by phases; the evidence is in
# docs/convolution.md.
_MANY_TAPS = 16


def as_product(
    x: jax.Array, kernel: jax.Array, g: Geometry, precision: Any, preferred_element_type: Any
) -> jax.Array:
    """im2col: the patches that the window sees, [B·P, K·L·C], times the kernel, [K·L·C, F].

    With the patches shared and T kernels mapped it is one product, [B·P, K·L·C] by [K·L·C, T·F].
    """
    *_, c, f = kernel.shape
    dot = {"precision": precision, "preferred_element_type": preferred_element_type}
    patches = jnp.concatenate(taps(x, g), axis=-1)
    rows = patches.reshape(
        -1, patches.shape[-1]
    )  # flat: XLA's CPU backend runs the product a little faster so
    if g.groups == 1:
        y = lax.dot_general(rows, kernel.reshape(-1, f), (((1,), (0,)), ((), ())), **dot)
    else:
        rows = rows.reshape(rows.shape[0], -1, g.groups, c)
        columns = kernel.reshape(-1, c, g.groups, f // g.groups)
        y = lax.dot_general(rows, columns, (((1, 3), (0, 1)), ((2,), (2,))), **dot)
        y = jnp.moveaxis(y, 0, 1)
    return y.reshape(*patches.shape[:-1], f)


def as_remat(
    x: jax.Array, kernel: jax.Array, g: Geometry, precision: Any, preferred_element_type: Any
) -> jax.Array:
    """`as_product` of a few examples after the other, whose patches are computed again in the backward pass.

    The patches of all examples, K·L times the size of x, never exist together, and none is kept between the passes. The
    values are those of `as_product`; the gradient of the kernel is added up in another order.
    """
    examples, window = x.shape[0], math.prod(g.window)
    parts = max((n for n in range(1, window + 1) if examples and examples % n == 0), default=1)

    @jax.checkpoint
    def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return as_product(x, kernel, g, precision, preferred_element_type)

    if parts == 1:
        return product(x, kernel)
    pieces = x.reshape(parts, examples // parts, *x.shape[1:])
    _, y = lax.scan(lambda _, piece: (None, product(piece, kernel)), None, pieces)
    return y.reshape(examples, *y.shape[2:])


def as_sum(
    x: jax.Array, kernel: jax.Array, g: Geometry, precision: Any, preferred_element_type: Any
) -> jax.Array:
    """Depthwise with one output per channel, C = G = F: an elementwise product per tap, summed in float32 at least.

    A product of matrices would be one of [B·P, K·L] by [K·L, 1] per channel. ``precision`` has no meaning here.
    """
    dtype = preferred_element_type or jnp.result_type(x, kernel)
    wide = jnp.promote_types(dtype, jnp.float32) if jnp.issubdtype(dtype, jnp.floating) else dtype
    weights = kernel.reshape(-1, kernel.shape[-1])
    terms = [
        tap.astype(wide) * lax.broadcast_in_dim(weight.astype(wide), tap.shape, (tap.ndim - 1,))
        for tap, weight in zip(taps(x, g), weights, strict=True)
    ]
    return sum(terms).astype(dtype)


def taps(x: jax.Array, g: Geometry) -> list[jax.Array]:
    """What each tap of the window sees at every place, in the kernel's order.

    Where many taps have a stride s, the padded input is first split into its s phases per axis, the positions a, a + s,
    a + 2s, …; a tap is then a slice without a stride of one of them. So the gradient is a sum of slices without a
    stride, which a CPU adds up faster than as many strided ones.

    Args:
        x: [first, *spatial, last]: examples and channels, or the other way round.
        g: its geometry.

    Returns:
        one array [first, *places, last] for each tap.
    """
    pads = [(0, 0, 0), *((low, high, 0) for low, high in g.pads), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), pads)
    split = max(g.strides) > 1 and math.prod(g.window) >= _MANY_TAPS
    phases, steps = (g.strides, (1,) * len(g.strides)) if split else ((1,) * len(g.strides), g.strides)

    @functools.cache
    def phase(first: tuple[int, ...]) -> jax.Array:
        return lax.slice(x, (0, *first, 0), x.shape, (1, *phases, 1))

    def tap(index: tuple[int, ...]) -> jax.Array:
        position = [i * d for i, d in zip(index, g.dilation, strict=True)]
        own = phase(tuple(p % n for p, n in zip(position, phases, strict=True)))
        start = [p // n for p, n in zip(position, phases, strict=True)]
        stop = [i + (n - 1) * step + 1 for i, n, step in zip(start, g.places, steps, strict=True)]
        return lax.slice(own, (0, *start, 0), (own.shape[0], *stop, own.shape[-1]), (1, *steps, 1))

    return [tap(index) for index in itertools.product(*map(range, g.window))]
