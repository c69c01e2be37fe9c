"""The gradient of a minibatch, taken a few examples at a time so that their activations stay in a core's cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlab.convolution import FULL_VECTORS
from jaxlab.errors import InputError

# Post-activations that go through a network at once, in bytes, about a core's cache; the evidence is in
# docs/convolution.md.
_CACHE = 5 * 2**18
# So many times the cache is still faster than vectors that are not full.
_MOST_OVER_CACHE = 8

Layers = Mapping[str, tuple[int, ...]]


def microbatch_size(asked: int | None, batch_size: int, layers: Layers, separable: bool, backend: str) -> int:
    """How many examples of a minibatch go through the network at once; it divides the minibatch.

    Args:
        asked: as the user wants it, or None: on a CPU about as many as its cache allows, if nothing couples examples;
            the whole minibatch elsewhere.
        batch_size: of the minibatch.
        layers: shapes of the post-activations, the first axis that of examples.
        separable: nothing couples the examples of a minibatch.
        backend: JAX's.
    """
    if asked is not None:
        if batch_size % asked:
            remedy = f"give a number that divides the batch size, {batch_size}"
            raise InputError("configuration.microbatch", asked, remedy)
        return asked
    if not separable:
        return batch_size
    most = _most_in_cache(layers, backend, batch_size)
    sizes = [size for size in range(1, batch_size + 1) if batch_size % size == 0]
    fitting = max(size for size in sizes if size <= most)
    # A batch size with few divisors: better a little too many at once than one by one, or than half a vector.
    enough = 2 * fitting > most and fitting >= min(FULL_VECTORS, most)
    return fitting if enough else min(size for size in sizes if size >= most)


def evaluation_size(asked: int | None, layers: Layers, backend: str) -> int:
    """How many examples are evaluated at once: as asked, else at most 512, on a CPU as many as its cache allows."""
    if asked is not None:
        return asked
    most = _most_in_cache(layers, backend, 512)
    return most - most % FULL_VECTORS if most > FULL_VECTORS else most


def _most_in_cache(layers: Layers, backend: str, otherwise: int) -> int:
    if backend != "cpu" or not layers:
        return otherwise
    example = 4 * sum(math.prod(shape[1:]) for shape in layers.values())
    most = max(1, _CACHE // example)
    if most < FULL_VECTORS <= most * _MOST_OVER_CACHE:
        most = FULL_VECTORS
    return min(otherwise, most)


def loss_and_gradient(
    loss_of: Callable[..., tuple[jax.Array, Any]], parameters: Any, rest: Any, batch: Any, size: int
) -> tuple[jax.Array, Any, Any]:
    """The mean loss of a batch, its gradient in the parameters, and the model's other state after it.

    Args:
        loss_of: ``(parameters, rest, batch) -> (mean loss, rest)``.
        parameters, rest: the model's state.
        batch: pytree of arrays ``[B, ...]``.
        size: examples at once; their mean losses and gradients are averaged.
    """
    value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
    examples = len(jax.tree.leaves(batch)[0])
    parts = examples // size
    if parts == 1:
        (loss, rest), gradient = value_and_grad(parameters, rest, batch)
        return loss, rest, gradient

    def part(carry, piece):
        loss, gradient, rest = carry
        (more_loss, rest), more = value_and_grad(parameters, rest, piece)
        return (loss + more_loss, jax.tree.map(jnp.add, gradient, more), rest), None

    pieces = jax.tree.map(lambda a: a.reshape(parts, size, *a.shape[1:]), batch)
    loss = jax.eval_shape(loss_of, parameters, rest, jax.tree.map(lambda a: a[0], pieces))[0]
    start = (jnp.zeros(loss.shape, loss.dtype), jax.tree.map(jnp.zeros_like, parameters), rest)
    (loss, gradient, rest), _ = jax.lax.scan(part, start, pieces)
    return loss / parts, rest, jax.tree.map(lambda total: total / parts, gradient)
