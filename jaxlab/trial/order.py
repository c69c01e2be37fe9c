"""Which examples each step sees."""

from __future__ import annotations

import jax
import numpy as np


def epoch_key(data_seed: int, epoch: jax.Array, own: jax.Array | None = None) -> jax.Array:
    """The PRNG key of one epoch's minibatches: a function of the data seed and the epoch alone.

    ``own`` (the trial's seed) gives each trial an order of its own, and so its own minibatches.
    """
    key = jax.random.fold_in(jax.random.key(data_seed), epoch)
    return key if own is None else jax.random.fold_in(key, own)


def minibatches(key: jax.Array, examples: int, batch_size: int) -> jax.Array:
    """A random order without replacement, int32 ``[steps, batch_size]``.

    The remainder that fills no batch is left out, another one each epoch.
    """
    steps = examples // batch_size
    order = jax.random.permutation(key, examples)
    return order[: steps * batch_size].reshape(steps, batch_size)


def padded_batches(examples: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices ``[batches, batch_size]`` that cover every example once, and which of them are real.

    The remainder batch is padded with the last example, marked False.
    """
    batch_size = min(batch_size, examples)
    batches = -(-examples // batch_size)
    index = np.arange(batches * batch_size, dtype=np.int32)
    return (
        np.minimum(index, examples - 1).reshape(batches, batch_size),
        (index < examples).reshape(batches, batch_size),
    )
