"""``max_pool`` and ``avg_pool`` without ``reduce_window``, which is slow on XLA's CPU backend. Requires only JAX."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxlab.errors import InputError

Padding = str | Sequence[Sequence[int]]


def max_pool(
    x: ArrayLike,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Maximum of each window, bitwise equal to ``flax.nnx.max_pool``.

    At a tie the gradient goes to the first of the largest elements in row-major order, whatever the strides, as in
    ``flax.nnx.max_pool``.

    Args:
        x: floating, [*batch, *spatial, C] with any number of batch axes.
        window_shape: the window per spatial axis.
        strides: the step of the window per spatial axis; ``None`` is 1, as in Flax.
        padding: ``"VALID"`` (a remainder at the end is dropped), ``"SAME"``, ``"SAME_LOWER"``, or (low, high) per
            spatial axis. Padding is −∞.

    Returns:
        [*batch, *spatial of the output, C], of x's dtype.

    Raises:
        InputError: an argument does not fit x, or the window is larger than padded x.
    """
    return _largest(*_windows(jnp.asarray(x), window_shape, strides, padding, -math.inf))


def _maximum(windows: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Maximum over some axes; NaN if any element is NaN."""
    return functools.reduce(jnp.maximum, _elements(windows, axes))


def _maximum_jvp(axes: tuple[int, ...], primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """Tangent of the first of the largest elements.

    The elements are compared with each other and not with their maximum: the compiler may recompute them in the
    backward pass with different last bits, and then none would equal the maximum. The transpose is one selection per
    element; that of nested ``where`` calls would be a chain of padded sums.
    """
    (windows,), (moved,) = primals, tangents
    first, *others = _elements(windows, axes)
    largest, winner = first, jnp.zeros(first.shape, jnp.int32)
    for place, element in enumerate(others, 1):
        beaten = ~((largest >= element) | jnp.isnan(largest))
        largest = jnp.where(beaten, element, largest)
        winner = jnp.where(beaten, place, winner)
    place = _index_in_window(windows.shape, axes)
    chosen = jnp.where(jnp.expand_dims(winner, axes) == place, moved, jnp.zeros((), moved.dtype))
    return _largest(windows, axes), jnp.sum(chosen, axis=axes)


_largest = jax.custom_jvp(_maximum, nondiff_argnums=(1,))
_largest.defjvp(_maximum_jvp)


def _elements(windows: jax.Array, axes: tuple[int, ...]) -> list[jax.Array]:
    """The slices along some axes, in row-major order."""
    sizes = [windows.shape[axis] for axis in axes]
    return [
        jnp.squeeze(_slice_at(windows, axes, index), axes) for index in itertools.product(*map(range, sizes))
    ]


def _slice_at(windows: jax.Array, axes: tuple[int, ...], index: tuple[int, ...]) -> jax.Array:
    for axis, i in zip(axes, index, strict=True):
        windows = lax.slice_in_dim(windows, i, i + 1, axis=axis)
    return windows


def _index_in_window(shape: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    """Row-major index of each element within its window: int32, of size 1 along the other axes."""
    sizes = [n if axis in axes else 1 for axis, n in enumerate(shape)]
    return np.arange(math.prod(sizes), dtype=np.int32).reshape(sizes)


def avg_pool(
    x: ArrayLike,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> jax.Array:
    """Mean of each window, as ``flax.nnx.avg_pool``: the window's sum over its size.

    Args:
        x, window_shape, strides, padding: as in ``max_pool``, but padding is 0.
        count_include_pad: whether padding counts; if not, the divisor is the number of elements of x in the window.

    Returns:
        [*batch, *spatial of the output, C], of x's dtype.

    Raises:
        InputError: an argument does not fit x, or the window is larger than padded x.
    """
    x = jnp.asarray(x)
    windows, axes = _windows(x, window_shape, strides, padding, 0.0)
    total = jnp.sum(windows, axis=axes)
    if count_include_pad:
        return total / math.prod(window_shape)
    n = len(window_shape)
    ones = np.ones((*x.shape[-n - 1 : -1], 1), x.dtype)
    windows, axes = _windows(jnp.asarray(ones), window_shape, strides, padding, 0.0)
    counts = jnp.sum(windows, axis=axes)
    return total / counts.reshape((1,) * (total.ndim - counts.ndim) + counts.shape)


def _windows(
    x: jax.Array, window: Sequence[int], strides: Sequence[int] | None, padding: Padding, fill: float
) -> tuple[jax.Array, tuple[int, ...]]:
    """x with the elements of each window along separate axes, and the indices of these axes."""
    window = tuple(window)
    strides = (1,) * len(window) if strides is None else tuple(strides)
    pads = _check(x, window, strides, padding)
    batch = x.shape[: x.ndim - len(window) - 1]
    zero = [(0, 0, 0)] * len(batch)
    x = lax.pad(x, jnp.asarray(fill, x.dtype), [*zero, *((low, high, 0) for low, high in pads), (0, 0, 0)])
    *spatial, channels = x.shape[len(batch) :]
    out = [(n - w) // s + 1 for n, w, s in zip(spatial, window, strides, strict=True)]

    def cut(start: Sequence[int], length: Sequence[int], step: tuple[int, ...]) -> jax.Array:
        first, last = [0] * len(batch), [i + n for i, n in zip(start, length, strict=True)]
        return lax.slice(x, (*first, *start, 0), (*batch, *last, channels), (*((1,) * len(batch)), *step, 1))

    if strides == window:  # the windows tile x
        tiled = cut([0] * len(window), [n * w for n, w in zip(out, window, strict=True)], (1,) * len(window))
        tiles = itertools.chain(*zip(out, window, strict=True))
        axes = tuple(len(batch) + 1 + 2 * i for i in range(len(window)))
        return tiled.reshape(*batch, *tiles, channels), axes
    reach = [(n - 1) * s + 1 for n, s in zip(out, strides, strict=True)]
    return jnp.stack([cut(i, reach, strides) for i in itertools.product(*map(range, window))]), (0,)


def _check(
    x: jax.Array, window: tuple[int, ...], strides: tuple[int, ...], padding: Padding
) -> list[tuple[int, int]]:
    """Check that all arguments fit x; return the (low, high) padding per spatial axis."""
    n = len(window)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError("x.dtype", x.dtype.name, "give floating-point numbers, e.g. x.astype('float32')")
    if not 0 < n < x.ndim or min(window) < 1:
        remedy = f"give one positive integer per spatial axis of x, of shape {x.shape}"
        raise InputError("window_shape", window, remedy)
    if len(strides) != n or min(strides) < 1:
        raise InputError("strides", strides, f"give {n} positive integers, one per axis of window_shape")
    spatial = x.shape[-n - 1 : -1]
    if isinstance(padding, str):
        if padding.upper() not in ("VALID", "SAME", "SAME_LOWER"):
            raise InputError("padding", padding, "give 'VALID', 'SAME', 'SAME_LOWER' or (low, high) pairs")
        padding = lax.padtype_to_pads(spatial, window, strides, padding)
    if len(padding) != n or any(len(pair) != 2 for pair in padding):
        raise InputError("padding", padding, f"give {n} (low, high) pairs, one per axis of window_shape")
    pads = [(int(low), int(high)) for low, high in padding]
    size = tuple(m + low + high for m, (low, high) in zip(spatial, pads, strict=True))
    if any(m < w for m, w in zip(size, window, strict=True)):
        remedy = f"does not fit in x, padded to {size}; give a smaller window, or pad x"
        raise InputError("window_shape", window, remedy)
    return pads
