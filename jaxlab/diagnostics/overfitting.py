"""Measures of overfitting: the gap between training and validation, and Prechelt's criteria.

Curves belong to one trial and are 1-D over epochs; entry 0 is the initial state, entry t the state after epoch t,
and a NaN tail stands for epochs that the trial did not reach, see ``last`` in `final`. Losses are >= 0. All
functions work under jit and vmap; ``k``, ``s`` and ``better`` are static.

Source of GL, P, PQ and UP: Prechelt, Early stopping - but when?, 1998. The source has no epoch 0; each docstring
states how it is treated here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.checks import whole
from jaxlab.diagnostics.curves import as_curve, final, or_worst, sign_of
from jaxlab.errors import InputError


def gap(train: ArrayLike, validation: ArrayLike, better: str) -> jax.Array:
    """How much worse validation is than training, elementwise, in units of the metric; > 0 if worse.

    ``train - validation`` if higher is better (accuracy), ``validation - train`` if lower is (a loss, MAE).
    Measure both with the same weights.

    Raises:
        InputError: ``better`` is neither ``"higher"`` nor ``"lower"``.
    """
    difference = jnp.asarray(train) - jnp.asarray(validation)
    return difference * sign_of(better)


def rise(validation_loss_E: ArrayLike, last: ArrayLike | None = None) -> jax.Array:
    """Validation loss at the last epoch reached, divided by its minimum: 1 if training ends at the best epoch.

    Epoch 0 counts: a trial that only gets worse has its minimum there. A minimum of 0 gives inf, or 1 if the
    last loss is 0 too. A last loss that is not finite gives inf; NaN if no loss was finite.

    Args:
        validation_loss_E: one entry per epoch.
        last: the last epoch reached; by default the last whose loss is not NaN.
    """
    loss_E = or_worst(as_curve("validation_loss_E", validation_loss_E), "lower")
    least = jnp.min(loss_E)
    end = or_worst(final(validation_loss_E, last), "lower")
    return jnp.where(jnp.isfinite(least), 1 + _excess(end, least), jnp.nan)


def generalization_loss(validation_loss_E: ArrayLike) -> jax.Array:
    """Prechelt's GL per epoch, in percent: ``100·(E(t) / min over t' <= t of E(t') - 1)``.

    Epoch 0 counts for the minimum, so GL(0) = 0. NaN where the curve is NaN.
    """
    loss_E = as_curve("validation_loss_E", validation_loss_E)
    best_E = jax.lax.cummin(jnp.where(jnp.isnan(loss_E), jnp.inf, loss_E))
    return 100 * _excess(loss_E, best_E)


def progress(train_loss_E: ArrayLike, k: int = 5) -> jax.Array:
    """Prechelt's P_k per epoch, in per mille: ``1000·(mean of the last k losses / their minimum - 1)``.

    The last k losses at epoch t are those of epochs t-k+1..t. Epoch 0 belongs to no strip. NaN for t < k, and where
    one of the k losses is NaN; 0 if all k are equal.

    Raises:
        InputError: ``k`` is not a whole number >= 1.
    """
    loss_E = as_curve("train_loss_E", train_loss_E)
    whole("k", k, 1)
    ends_E = jnp.arange(loss_E.size)
    window_Exk = loss_E[jnp.maximum(ends_E[:, None] - jnp.arange(k)[None, :], 0)]
    least_E = jnp.min(window_Exk, axis=1)
    # The mean of the excess is exactly 0 for equal losses; mean / minimum - 1 rounds to about ±1e-7.
    progress_E = 1000 * jnp.mean(_excess(window_Exk, least_E[:, None]), axis=1)
    return jnp.where(ends_E >= k, progress_E, jnp.nan)


def productivity_quotient(validation_loss_E: ArrayLike, train_loss_E: ArrayLike, k: int = 5) -> jax.Array:
    """Prechelt's PQ per epoch: ``GL(t) / P_k(t)``, in percent per per mille.

    High when validation gets worse while training stagnates. NaN where P_k is NaN (t < k); 0 where GL is 0;
    inf where only P_k is 0. Epoch 0 counts only for the minimum in GL.

    Raises:
        InputError: ``k`` is not a whole number >= 1, or the curves differ in length.
    """
    lost_E, progress_E = generalization_loss(validation_loss_E), progress(train_loss_E, k)
    if lost_E.shape != progress_E.shape:
        raise InputError("train_loss_E", progress_E.shape, f"give {lost_E.size} epochs, as for validation")
    return jnp.where((lost_E == 0) & ~jnp.isnan(progress_E), 0, lost_E / progress_E)


def up(validation_loss_E: ArrayLike, s: int, k: int = 5) -> jax.Array:
    """Prechelt's UP_s per epoch: the validation loss rose in each of the last s strips of k epochs.

    Strips end at epochs k, 2k, 3k, ...; the loss rose in a strip if it is higher at its end than at the
    end of the previous strip. Epoch 0 counts as the end of a strip before the first, so UP_s can hold from epoch
    s·k on. False at epochs that do not end a strip, and where a loss is NaN. Training stops at the first True.

    Raises:
        InputError: ``s`` or ``k`` is not a whole number >= 1.
    """
    loss_E = as_curve("validation_loss_E", validation_loss_E)
    whole("s", s, 1)
    whole("k", k, 1)
    ends = loss_E[::k]
    rose = ends[1:] > ends[:-1]
    held = jnp.zeros(loss_E.shape, bool)
    if rose.size < s:
        return held
    runs = jnp.stack([rose[i : rose.size - s + 1 + i] for i in range(s)])
    return held.at[s * k :: k].set(jnp.all(runs, axis=0))


def best_epoch(curve_E: ArrayLike, better: str = "lower") -> jax.Array:
    """First epoch with the best value, epoch 0 included; -1 if every entry is NaN.

    NaN is never best; an infinity of either sign is best only if no value is finite.

    Raises:
        InputError: ``better`` is neither ``"higher"`` nor ``"lower"``.
    """
    curve_E = as_curve("curve_E", curve_E)
    known_E = ~jnp.isnan(curve_E)
    # argmin alone would prefer an unreached epoch to a reached one with an infinite value.
    worse_E = -sign_of(better) * or_worst(curve_E, better)
    best = jnp.min(worse_E)
    return jnp.where(jnp.any(known_E), jnp.argmax(known_E & (worse_E == best)), -1).astype(jnp.int32)


def _excess(loss: jax.Array, least: jax.Array) -> jax.Array:
    """``loss / least - 1`` without cancellation; 0 where both are equal, even if both are 0 or inf."""
    return jnp.where(loss == least, 0, (loss - least) / least)
