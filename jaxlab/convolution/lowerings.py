"""Lowerings of a convolution that stay fast when ``vmap`` gives every trial its own kernel.

All consist of plain slices, products and sums, so every JAX transformation applies. ``dtype`` is that of the
accumulation and of the result, by default that of the arguments.
"""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jaxlab.convolution.geometry import Geometry

# With at least this many taps and a stride, summing the gradient by phases is faster; see docs/convolution.md.
_MANY_TAPS = 16


def as_product(
    x: jax.Array, kernel: jax.Array, g: Geometry, precision: lax.PrecisionLike, dtype: DTypeLike | None
) -> jax.Array:
    """im2col: the patches under the window, [B·P, K·L·C], times the kernel, [K·L·C, F].

    If T kernels are mapped and share the patches, this is one product, [B·P, K·L·C] by [K·L·C, T·F].
    """
    *_, c, f = kernel.shape
    dot = {"precision": precision, "preferred_element_type": dtype}
    patches = jnp.concatenate(taps(x, g), axis=-1)
    rows = patches.reshape(-1, patches.shape[-1])  # 2-D: slightly faster on XLA's CPU backend
    if g.groups == 1:
        y = lax.dot_general(rows, kernel.reshape(-1, f), (((1,), (0,)), ((), ())), **dot)
    else:
        rows = rows.reshape(rows.shape[0], -1, g.groups, c)
        columns = kernel.reshape(-1, c, g.groups, f // g.groups)
        y = lax.dot_general(rows, columns, (((1, 3), (0, 1)), ((2,), (2,))), **dot)
        y = jnp.moveaxis(y, 0, 1)
    return y.reshape(*patches.shape[:-1], f)


def as_remat(
    x: jax.Array, kernel: jax.Array, g: Geometry, precision: lax.PrecisionLike, dtype: DTypeLike | None
) -> jax.Array:
    """`as_product` of a few examples at a time; the backward pass recomputes their patches.

    The patches of all examples, K·L times the size of x, never exist at once, and none is kept between the passes. The
    values equal those of `as_product`; the gradient of the kernel is summed in another order.
    """
    examples, window = x.shape[0], math.prod(g.window)
    parts = max((n for n in range(1, window + 1) if examples and examples % n == 0), default=1)

    @jax.checkpoint
    def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return as_product(x, kernel, g, precision, dtype)

    if parts == 1:
        return product(x, kernel)
    batches = x.reshape(parts, examples // parts, *x.shape[1:])
    _, y = lax.scan(lambda _, batch: (None, product(batch, kernel)), None, batches)
    return y.reshape(examples, *y.shape[2:])


def as_sum(
    x: jax.Array, kernel: jax.Array, g: Geometry, precision: lax.PrecisionLike, dtype: DTypeLike | None
) -> jax.Array:
    """Depthwise convolution, C = G = F: the sum over taps of elementwise products, in float32 or wider.

    As a matrix product it would be [B·P, K·L] by [K·L, 1] per channel. ``precision`` is ignored.
    """
    dtype = dtype or jnp.result_type(x, kernel)
    wide = jnp.promote_types(dtype, jnp.float32) if jnp.issubdtype(dtype, jnp.floating) else dtype
    weights = kernel.reshape(-1, kernel.shape[-1])
    terms = [
        tap.astype(wide) * lax.broadcast_in_dim(weight.astype(wide), tap.shape, (tap.ndim - 1,))
        for tap, weight in zip(taps(x, g), weights, strict=True)
    ]
    return sum(terms).astype(dtype)


def taps(x: jax.Array, g: Geometry) -> list[jax.Array]:
    """Input elements under each tap of the window at every position, in the order of the kernel.

    With many taps and a stride s, the padded input is first split into its s phases per axis, the positions a, a + s,
    a + 2s, …; a tap is then a unit-stride slice of one phase. The gradient is therefore a sum of unit-stride slices,
    which a CPU computes faster than a sum of strided ones.

    Args:
        x: [first, *spatial, last]: examples and channels, or the reverse.
        g: the geometry.

    Returns:
        one array [first, *output, last] per tap.
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
        source = phase(tuple(p % n for p, n in zip(position, phases, strict=True)))
        start = [p // n for p, n in zip(position, phases, strict=True)]
        stop = [i + (n - 1) * step + 1 for i, n, step in zip(start, g.output, steps, strict=True)]
        return lax.slice(source, (0, *start, 0), (source.shape[0], *stop, source.shape[-1]), (1, *steps, 1))

    return [tap(index) for index in itertools.product(*map(range, g.window))]
