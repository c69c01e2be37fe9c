"""Did training diverge, oscillate, or never get below where it started?

Curves are those of one trial, 1-D over epochs; a NaN tail means epochs that the trial did not reach, see ``last``
in `final`. Losses are >= 0 and without the penalty. Everything works under jit and vmap.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.diagnostics.curves import as_curve, epochs_reached, final, sign_of
from jaxlab.diagnostics.norms import inexact_leaves
from jaxlab.errors import InputError

_CAP = 1e6
_LAST = 20
# Relative: what rounding does to a mean over many examples. A smaller difference is not a change.
_STILL = 1e-5


class Instability(NamedTuple):
    """Verdicts on one finished trial, each a scalar bool.

    Attributes:
        bad_step: a loss, gradient, parameter or state was not finite at some step.
        above_initial: the final training loss is above the initial one.
        not_converged: `convergence_measure` is >= 1.
        unstable: any of the three, unless the loss stood still, which is another failure: see `did_not_learn`.
    """

    # Arrays; under jax.eval_shape or jax.tree.map, whatever stands in their place.
    bad_step: Any
    above_initial: Any
    not_converged: Any
    unstable: Any


def all_finite(tree: Any) -> jax.Array:
    """Whether no entry is inf or NaN, over every leaf with a floating or complex dtype; True without any."""
    finite = jnp.asarray(True)
    for leaf in inexact_leaves(tree):
        finite = finite & jnp.all(jnp.isfinite(leaf))
    return finite


def first_bad(finite_S: ArrayLike) -> jax.Array:
    """The first step after which something was not finite, counted from 1; -1 if there was none.

    0 is left for a bad initial state, which the caller checks: ``finite_S[0]`` is the state after step 1.

    Args:
        finite_S: bool, one entry per step.

    Raises:
        InputError: not a 1-D array of bools.
    """
    finite_S = jnp.asarray(finite_S)
    if finite_S.ndim != 1 or finite_S.dtype != bool:
        raise InputError(
            "finite_S", (finite_S.dtype.name, finite_S.shape), "give a 1-D array of bools, one per step"
        )
    if finite_S.size == 0:
        return jnp.asarray(-1, jnp.int32)
    return jnp.where(jnp.all(finite_S), -1, jnp.argmin(finite_S) + 1).astype(jnp.int32)


def convergence_measure(
    loss_E: ArrayLike, initial: ArrayLike, diverged: ArrayLike = False, last: ArrayLike | None = None
) -> jax.Array:
    """Mean of the last 20 of ``v = loss / initial``, capped at 1e6; converged if and only if < 1.

    A v that is not finite counts as 1e6, as does every v if the initial loss is not finite or is 0. With
    fewer than 20 epochs the mean is over those there are; NaN if there are none. A first entry equal to
    ``initial`` adds v = 1, which moves the mean but not the verdict. A loss that never moves gives exactly 1,
    so has not converged.

    The source goes on to colour a picture by Σv of the whole curve where it converged, by Σ1/v where not.

    Args:
        loss_E: training loss, one entry per epoch (or per step, as in the source).
        initial: the loss before training.
        diverged: whether the trial met a bad step: then its NaN tail counts as 1e6 and is not left out.
        last: the last epoch reached; by default the last whose loss is not NaN.

    Source: Sohl-Dickstein, The boundary of neural network trainability is fractal, 2024.
    """
    v_E, counted_E = _ratios(as_curve("loss_E", loss_E), initial, diverged, last)
    return jnp.sum(jnp.where(counted_E, v_E, 0)) / jnp.sum(counted_E)


def _ratios(loss_E, initial, diverged, last) -> tuple[jax.Array, jax.Array]:
    """``loss / initial`` capped, and which of them are among the last that count."""
    reached = jnp.where(diverged, loss_E.size, epochs_reached(loss_E, last))
    v_E = loss_E / initial
    v_E = jnp.where(jnp.isfinite(v_E) & jnp.isfinite(initial), jnp.minimum(v_E, _CAP), _CAP)
    epoch_E = jnp.arange(loss_E.size)
    return v_E, (epoch_E < reached) & (epoch_E >= reached - _LAST)


def oscillation(loss_E: ArrayLike) -> jax.Array:
    """Share of pairs of consecutive epoch-to-epoch changes of the loss that differ in sign.

    0 for a monotone curve, 1 for a zigzag, about 2/3 for independent noise. A change of 0 has no sign, so is
    no sign change, but its pairs count. Pairs that involve a NaN are left out; NaN with fewer than two
    changes.
    """
    loss_E = as_curve("loss_E", loss_E)
    # Comparisons, since the difference of two losses can be lost to underflow or be inf - inf.
    before_E, after_E = loss_E[:-1], loss_E[1:]
    rises_E, falls_E = after_E > before_E, after_E < before_E
    known_E = ~(jnp.isnan(before_E) | jnp.isnan(after_E))
    turns_E = (rises_E[:-1] & falls_E[1:]) | (falls_E[:-1] & rises_E[1:])
    return jnp.sum(turns_E) / jnp.sum(known_E[:-1] & known_E[1:])


def opposed_updates(cosine_E: ArrayLike) -> jax.Array:
    """Share of consecutive updates that point against each other: cosine < 0.

    NaN entries are left out; NaN if all are. Gradient descent on a quadratic ½λw² gives 1 where η > 1/λ and 0
    below.
    """
    cosine_E = as_curve("cosine_E", cosine_E)
    return jnp.sum(cosine_E < 0) / jnp.sum(~jnp.isnan(cosine_E))


def unstable(
    first_bad_step: ArrayLike, loss_E: ArrayLike, initial: ArrayLike, last: ArrayLike | None = None
) -> Instability:
    """Three verdicts at the end of a trial, kept apart, and their union.

    A loss that rises and comes back (a catapult) is none of them. A last loss that is not finite is above any
    initial one; a trial with a bad step whose curve ends in NaN counts as having an infinite loss there. A curve
    without any value gives False, as nothing is known. A loss whose last 20 values all are the initial one (within
    1e-5 of it, the rounding of a mean) has not converged, yet is not unstable.

    Args:
        first_bad_step: from `first_bad`, -1 if none.
        loss_E: training loss, penalty left out.
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
    still = jnp.all(~counted_E | (jnp.abs(v_E - 1) <= _STILL))
    return Instability(bad, above, not_converged, bad | ((above | not_converged) & ~still))


def did_not_learn(
    loss_E: ArrayLike,
    figure_E: ArrayLike | None = None,
    chance: ArrayLike | None = None,
    better: str = "higher",
    last: ArrayLike | None = None,
) -> jax.Array:
    """Whether a trial ends no better than it began, or than the best constant answer.

    Its training loss is not below the initial one at the end, or its figure on the training set is not better than
    `chance`, by more than 1e-5 of it (rounding). So it is for a learning rate of 0, and for a network of which every
    unit of some layer is dead: only its last bias learns. False where no epoch was trained.

    Args:
        loss_E: training loss, penalty left out; entry 0 before training.
        figure_E: metric on the training set.
        chance: the metric of the best constant answer there, e.g. the share of the most frequent class.
        better: whether "higher" or "lower" figures are better.
        last: the last epoch reached; by default the last whose loss is not NaN.

    Raises:
        InputError: ``better`` is neither ``"higher"`` nor ``"lower"``.
    """
    loss_E, sign = as_curve("loss_E", loss_E), sign_of(better)
    initial, end = loss_E[0], final(loss_E, last)
    failed = ~(initial - end > _STILL * jnp.abs(initial))
    if figure_E is not None and chance is not None:
        gained = sign * (final(figure_E, last) - chance)
        failed = failed | ~(gained > _STILL * jnp.abs(chance))
    return failed & (epochs_reached(loss_E, last) > 1)


def learning_rate_sensitivity(final_loss_R: ArrayLike, initial_loss_R: ArrayLike) -> jax.Array:
    """``mean over η of min(final loss, initial loss) - best loss``, in the loss's units.

    0 if every learning rate ends equally well; it depends on the range of learning rates that was tried.
    The best loss is the smallest of the capped ones, so the result is never negative. A final loss that is
    not finite counts as the initial one.

    Args:
        final_loss_R: one entry per learning rate.
        initial_loss_R: likewise, or one number for all.

    Source: Wortsman et al. 2023.
    """
    final_loss_R = as_curve("final_loss_R", final_loss_R)
    capped_R = jnp.where(
        jnp.isfinite(final_loss_R), jnp.minimum(final_loss_R, initial_loss_R), initial_loss_R
    )
    best = jnp.min(capped_R)
    return jnp.mean(capped_R - best)
