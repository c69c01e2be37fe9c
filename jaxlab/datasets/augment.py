"""Augmentations: pure functions ``(key, inputs) -> inputs`` that run inside the training step.

They act on raw inputs, before `Dataset.prepare`, where the background is 0 and uint8 stays uint8.
``B`` denotes the batch dimension, ``C`` the channels.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxlab.checks import whole
from jaxlab.errors import InputError


def shift(key: jax.Array, x: jax.Array, pixels: int = 1) -> jax.Array:
    """Shift each example by a random number of pixels along each spatial axis; zeros fill the gap.

    The shifts are independent and uniform on {-pixels, …, pixels}: ``y[b, i, j] = x[b, i - d, j - e]``, 0
    outside.

    Args:
        key: one PRNG key for the batch.
        x: [B, *spatial, C], any dtype.
        pixels: the largest shift, static, 0 <= pixels < every spatial size.

    Raises:
        InputError: ``x`` has no spatial axis, or ``pixels`` is out of range.
    """
    _check_spatial(x)
    smallest = min(x.shape[1:-1])
    remedy = f"give a whole number from 0 to {smallest - 1}, less than the size of the image"
    pixels = whole("pixels", pixels, 0, smallest - 1, remedy=remedy)
    spatial = range(1, x.ndim - 1)
    moves = jax.random.randint(key, (len(spatial), x.shape[0]), -pixels, pixels + 1)
    for axis, move in zip(spatial, moves, strict=True):
        x = _move(x, axis, move, pixels)
    return x


def _move(x: jax.Array, axis: int, move: jax.Array, pixels: int) -> jax.Array:
    # Selecting among 2·pixels + 1 static slices fuses into one loop; a slice with a traced start is a gather.
    padding = [(0, 0)] * x.ndim
    padding[axis] = (pixels, pixels)
    padded = jnp.pad(x, padding)
    move = move.reshape((-1,) + (1,) * (x.ndim - 1))
    size = x.shape[axis]
    moved = x
    for distance in range(-pixels, pixels + 1):
        if distance != 0:
            start = pixels - distance
            candidate = jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
            moved = jnp.where(move == distance, candidate, moved)
    return moved


def flip(key: jax.Array, x: jax.Array) -> jax.Array:
    """Mirror each example left to right (along its last spatial axis) with probability 1/2.

    Args:
        key: one PRNG key for the batch.
        x: [B, *spatial, C], any dtype.

    Raises:
        InputError: ``x`` has no spatial axis.
    """
    _check_spatial(x)
    mirrored = jax.random.bernoulli(key, shape=(x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(mirrored, jnp.flip(x, -2), x)


def _check_spatial(x: jax.Array) -> None:
    if x.ndim < 3:
        raise InputError("x", x.shape, "give [B, *spatial, C] with at least one spatial axis")


AUGMENTATIONS: dict[str, Callable[..., jax.Array]] = {"shift": shift, "flip": flip}
