"""Gradients of a minibatch, a few examples at a time so that their activations stay in the CPU cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlab.convolution import FULL_VECTORS
from jaxlab.errors import InputError

# Bytes of post-activations to compute at once, about the cache of one core; see docs/convolution.md.
_CACHE_BYTES = 5 * 2**18
# Up to this multiple of the cache is still faster than partly filled vectors.
_MAX_OVER_CACHE = 8

Layers = Mapping[str, tuple[int, ...]]


def microbatch_size(
    requested: int | None, batch_size: int, layers: Layers, separable: bool, backend: str
) -> int:
    """Number of examples of a minibatch to process at once, a divisor of the batch size.

    Args:
        requested: the number that the user set, or None to choose: on a CPU about as many as fit in its cache if the
            examples are separable, else the whole minibatch.
        batch_size: examples of the minibatch.
        layers: shapes of the post-activations, whose first axis is that of examples.
        separable: whether no operation couples the examples of a minibatch.
        backend: name of the JAX backend.
    """
    if requested is not None:
        if batch_size % requested:
            remedy = f"give a number that divides the batch size, {batch_size}"
            raise InputError("configuration.microbatch", requested, remedy)
        return requested
    if not separable:
        return batch_size
    limit = _max_in_cache(layers, backend, batch_size)
    sizes = [size for size in range(1, batch_size + 1) if batch_size % size == 0]
    fitting = max(size for size in sizes if size <= limit)
    # If the batch size has few divisors, slightly too many at once is better than one at a time or half a vector.
    enough = 2 * fitting > limit and fitting >= min(FULL_VECTORS, limit)
    return fitting if enough else min(size for size in sizes if size >= limit)


def evaluation_size(requested: int | None, layers: Layers, backend: str) -> int:
    """Number of examples to evaluate at once: as requested, else at most 512, on a CPU as many as fit in its cache."""
    if requested is not None:
        return requested
    limit = _max_in_cache(layers, backend, 512)
    return limit - limit % FULL_VECTORS if limit > FULL_VECTORS else limit


def _max_in_cache(layers: Layers, backend: str, default: int) -> int:
    if backend != "cpu" or not layers:
        return default
    example = 4 * sum(math.prod(shape[1:]) for shape in layers.values())
    limit = max(1, _CACHE_BYTES // example)
    if limit < FULL_VECTORS <= limit * _MAX_OVER_CACHE:
        limit = FULL_VECTORS
    return min(default, limit)


def loss_and_gradient(
    loss_of: Callable[..., tuple[jax.Array, Any]], parameters: Any, rest: Any, batch: Any, size: int
) -> tuple[jax.Array, Any, Any]:
    """Mean loss of a batch, the model's other state afterwards, and the gradient with respect to the parameters.

    Args:
        loss_of: ``(parameters, rest, batch) -> (mean loss, rest)``.
        parameters, rest: state of the model.
        batch: pytree of arrays ``[B, ...]``.
        size: examples per part; the mean losses and gradients of the parts are averaged.
    """
    value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
    examples = len(jax.tree.leaves(batch)[0])
    parts = examples // size
    if parts == 1:
        (loss, rest), gradient = value_and_grad(parameters, rest, batch)
        return loss, rest, gradient

    def part(carry, microbatch):
        loss, gradient, rest = carry
        (more_loss, rest), more = value_and_grad(parameters, rest, microbatch)
        return (loss + more_loss, jax.tree.map(jnp.add, gradient, more), rest), None

    microbatches = jax.tree.map(lambda a: a.reshape(parts, size, *a.shape[1:]), batch)
    loss = jax.eval_shape(loss_of, parameters, rest, jax.tree.map(lambda a: a[0], microbatches))[0]
    start = (jnp.zeros(loss.shape, loss.dtype), jax.tree.map(jnp.zeros_like, parameters), rest)
    (loss, gradient, rest), _ = jax.lax.scan(part, start, microbatches)
    return loss / parts, rest, jax.tree.map(lambda total: total / parts, gradient)
