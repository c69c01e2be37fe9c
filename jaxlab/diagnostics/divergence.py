"""Measures of divergence, oscillation, and failure to learn.

Curves belong to one trial and are 1-D over epochs; a NaN tail stands for epochs that the trial did not reach, see
``last`` in `final`. Losses are >= 0 and exclude the penalty. All functions work under jit and vmap.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.diagnostics.curves import as_curve, epochs_reached, final, sign_of
from jaxlab.diagnostics.norms import inexact_leaves
from jaxlab.errors import InputError

_CAP = 1e6
_LAST_EPOCHS = 20
# Relative rounding error of a mean over many examples. A smaller difference is not a change.
_ROUNDING = 1e-5


class Instability(NamedTuple):
    """Verdicts on one finished trial, each a scalar bool.

    Attributes:
        bad_step: a loss, gradient, parameter or state was not finite at some step.
        above_initial: the final training loss is above the initial one.
        not_converged: `convergence_measure` is >= 1.
        unstable: any of the three, unless the loss did not change, which is another failure: see `did_not_learn`.
    """

    # Arrays, or their stand-ins under jax.eval_shape and jax.tree.map.
    bad_step: Any
    above_initial: Any
    not_converged: Any
    unstable: Any


def all_finite(tree: Any) -> jax.Array:
    """Whether every floating or complex entry of a tree is finite; True if there are none."""
    finite = jnp.asarray(True)
    for leaf in inexact_leaves(tree):
        finite = finite & jnp.all(jnp.isfinite(leaf))
    return finite


def first_bad(finite_S: ArrayLike) -> jax.Array:
    """The first step after which something was not finite, counted from 1; -1 if there was none.

    ``finite_S[0]`` is the state after step 1. Callers use 0 for a bad initial state, which they check themselves.

    Args:
        finite_S: bool, one entry per step.

    Raises:
        InputError: ``finite_S`` is not a 1-D array of bools.
    """
    finite_S = jnp.asarray(finite_S)
    if finite_S.ndim != 1 or finite_S.dtype != bool:
        remedy = "give a 1-D array of bools, one per step"
        raise InputError("finite_S", (finite_S.dtype.name, finite_S.shape), remedy)
    if finite_S.size == 0:
        return jnp.asarray(-1, jnp.int32)
    return jnp.where(jnp.all(finite_S), -1, jnp.argmin(finite_S) + 1).astype(jnp.int32)


def convergence_measure(
    loss_E: ArrayLike, initial: ArrayLike, diverged: ArrayLike = False, last: ArrayLike | None = None
) -> jax.Array:
    """Mean of the last 20 values of ``v = loss / initial``, capped at 1e6; training converged if and only if it is < 1.

    A v that is not finite counts as 1e6, as does every v if the initial loss is not finite or is 0. With
    fewer than 20 epochs the mean is over all of them; with none it is NaN. A first entry equal to ``initial`` adds
    v = 1, which changes the mean but not the verdict. A loss that never changes gives exactly 1, i.e. not
    converged.

    The source also colours a picture by Σv of the whole curve where training converged, and by Σ1/v elsewhere.

    Args:
        loss_E: training loss, one entry per epoch (or per step, as in the source).
        initial: the loss before training.
        diverged: whether the trial had a bad step; its NaN tail then counts as 1e6 instead of being left out.
        last: the last epoch reached; by default the last whose loss is not NaN.

    Source: Sohl-Dickstein, The boundary of neural network trainability is fractal, 2024.
    """
    v_E, counted_E = _ratios(as_curve("loss_E", loss_E), initial, diverged, last)
    return jnp.sum(jnp.where(counted_E, v_E, 0)) / jnp.sum(counted_E)


def _ratios(loss_E, initial, diverged, last) -> tuple[jax.Array, jax.Array]:
    """``loss / initial``, capped, and a mask of the last entries that count."""
    reached = jnp.where(diverged, loss_E.size, epochs_reached(loss_E, last))
    v_E = loss_E / initial
    v_E = jnp.where(jnp.isfinite(v_E) & jnp.isfinite(initial), jnp.minimum(v_E, _CAP), _CAP)
    epoch_E = jnp.arange(loss_E.size)
    return v_E, (epoch_E < reached) & (epoch_E >= reached - _LAST_EPOCHS)


def oscillation(loss_E: ArrayLike) -> jax.Array:
    """Fraction of consecutive pairs of epoch-to-epoch loss changes that differ in sign.

    0 for a monotone curve, 1 for a zigzag, about 2/3 for independent noise. A change of 0 has no sign, so its
    pairs count but do not differ in sign. Pairs with a NaN are left out; NaN with fewer than two changes.
    """
    loss_E = as_curve("loss_E", loss_E)
    # Compare instead of subtracting: a difference can underflow or be inf - inf.
    before_E, after_E = loss_E[:-1], loss_E[1:]
    rises_E, falls_E = after_E > before_E, after_E < before_E
    known_E = ~(jnp.isnan(before_E) | jnp.isnan(after_E))
    turns_E = (rises_E[:-1] & falls_E[1:]) | (falls_E[:-1] & rises_E[1:])
    return jnp.sum(turns_E) / jnp.sum(known_E[:-1] & known_E[1:])


def opposed_updates(cosine_E: ArrayLike) -> jax.Array:
    """Fraction of consecutive updates at an obtuse angle: cosine < 0.

    NaN entries are left out; NaN if all entries are NaN. Gradient descent on a quadratic ½λw² gives 1 where η > 1/λ
    and 0 below.
    """
    cosine_E = as_curve("cosine_E", cosine_E)
    return jnp.sum(cosine_E < 0) / jnp.sum(~jnp.isnan(cosine_E))


def unstable(
    first_bad_step: ArrayLike, loss_E: ArrayLike, initial: ArrayLike, last: ArrayLike | None = None
) -> Instability:
    """Three separate verdicts of instability at the end of a trial, and their union.

    A loss that rises and falls again (a catapult) meets none of them. A last loss that is not finite is above any
    initial loss; a trial with a bad step whose curve ends in NaN counts as having an infinite loss there. A curve
    without any value gives False, since nothing is known. A loss whose last 20 values all equal the initial one
    (within 1e-5 of it, the rounding error of a mean) has not converged, but is not unstable.

    Args:
        first_bad_step: from `first_bad`, -1 if none.
        loss_E: training loss, without the penalty.
        initial: the same loss before training.
        last: the last epoch reached; by default the last whose loss is not NaN.

    Sources: Wortsman et al., Small-scale proxies for large-scale Transformer training instabilities, 2023
    (the cap at the initial loss); Sohl-Dickstein 2024.
    """
    loss_E = as_curve("loss_E", loss_E)
    bad = jnp.asarray(first_bad_step) >= 0
    known = epochs_reached(loss_E, last) > 0
    failed = final(jnp.where(jnp.isnan(loss_E), jnp.inf, loss_E))
    end = jnp.where(bad, failed, final(loss_E, last))
    above = (end > initial) | ((known | bad) & ~jnp.isfinite(end))
    not_converged = convergence_measure(loss_E, initial, bad, last) >= 1
    v_E, counted_E = _ratios(loss_E, initial, bad, last)
    unchanged = jnp.all(~counted_E | (jnp.abs(v_E - 1) <= _ROUNDING))
    return Instability(bad, above, not_converged, bad | ((above | not_converged) & ~unchanged))


def did_not_learn(
    loss_E: ArrayLike,
    figure_E: ArrayLike | None = None,
    chance: ArrayLike | None = None,
    better: str = "higher",
    last: ArrayLike | None = None,
) -> jax.Array:
    """Whether a trial ends no better than it began, or no better than the best constant answer.

    True if the final training loss is not below the initial one, or the training metric not better than ``chance``,
    by more than a fraction of 1e-5 (rounding). Examples are a learning rate of 0, and a network with a layer of dead
    units, of which only the last bias learns. False if no epoch was trained.

    Args:
        loss_E: training loss, without the penalty; entry 0 is that before training.
        figure_E: a metric on the training set.
        chance: the metric of the best constant answer, e.g. the share of the most frequent class.
        better: whether a "higher" or a "lower" metric is better.
        last: the last epoch reached; by default the last whose loss is not NaN.

    Raises:
        InputError: ``better`` is neither ``"higher"`` nor ``"lower"``.
    """
    loss_E, sign = as_curve("loss_E", loss_E), sign_of(better)
    initial, end = loss_E[0], final(loss_E, last)
    failed = ~(initial - end > _ROUNDING * jnp.abs(initial))
    if figure_E is not None and chance is not None:
        gained = sign * (final(figure_E, last) - chance)
        failed = failed | ~(gained > _ROUNDING * jnp.abs(chance))
    return failed & (epochs_reached(loss_E, last) > 1)


def learning_rate_sensitivity(final_loss_R: ArrayLike, initial_loss_R: ArrayLike) -> jax.Array:
    """``mean over η of min(final loss, initial loss) - best loss``, in units of the loss.

    0 if every learning rate ends equally well. The value depends on the range of learning rates.
    The best loss is the smallest of the capped ones, so the result is never negative. A final loss that is
    not finite counts as the initial one.

    Args:
        final_loss_R: one entry per learning rate.
        initial_loss_R: one entry per learning rate, or one number for all.

    Source: Wortsman et al. 2023.
    """
    final_loss_R = as_curve("final_loss_R", final_loss_R)
    capped_R = jnp.where(
        jnp.isfinite(final_loss_R), jnp.minimum(final_loss_R, initial_loss_R), initial_loss_R
    )
    best = jnp.min(capped_R)
    return jnp.mean(capped_R - best)
