"""Order of the examples: minibatches for training, padded batches for evaluation."""

from __future__ import annotations

import jax
import numpy as np


def epoch_key(data_seed: int, epoch: jax.Array, trial_seed: jax.Array | None = None) -> jax.Array:
    """PRNG key of the minibatches of an epoch, a function of the data seed and the epoch alone.

    With ``trial_seed``, each trial gets a different order and thus different minibatches.
    """
    key = jax.random.fold_in(jax.random.key(data_seed), epoch)
    return key if trial_seed is None else jax.random.fold_in(key, trial_seed)


def minibatches(key: jax.Array, examples: int, batch_size: int) -> jax.Array:
    """Random minibatches without replacement, as indices int32 ``[steps, batch_size]``.

    A remainder smaller than a batch is left out, a different one for each key.
    """
    steps = examples // batch_size
    order = jax.random.permutation(key, examples)
    return order[: steps * batch_size].reshape(steps, batch_size)


def padded_batches(examples: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices ``[batches, batch_size]`` that cover every example once, and a mask that is False for padding.

    The last batch is padded with the last example.
    """
    batch_size = min(batch_size, examples)
    batches = -(-examples // batch_size)
    index = np.arange(batches * batch_size, dtype=np.int32)
    return (
        np.minimum(index, examples - 1).reshape(batches, batch_size),
        (index < examples).reshape(batches, batch_size),
    )
