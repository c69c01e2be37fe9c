"""Dead and dormant units of one layer, counted over a whole data set that is covered once in masked batches.

Activations are ``h``, [B, units] or [B, *positions, units] (channels last), after the activation function.
Counts are kept per layer in a `UnitCounts`; ``update`` fits the carry of ``jax.lax.scan``. Per trial: map
trials with ``jax.vmap``.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.diagnostics.norms import scaled
from jaxlab.errors import InputError


class UnitCounts(NamedTuple):
    """What one layer did on the examples seen so far.

    Attributes:
        magnitude: float[*positions, units], sum of |h| over examples: 0 where all of them were exactly 0, to which a
            backend may round what is below float32's normal numbers.
        examples: int32, number of examples.
    """

    # Arrays; under jax.eval_shape or jax.tree.map, whatever stands in their place.
    magnitude: Any
    examples: Any

    @property
    def active(self) -> jax.Array:
        """bool[*positions, units], whether any example had a post-activation other than 0 there."""
        return self.magnitude != 0


def init(h: jax.Array | jax.ShapeDtypeStruct) -> UnitCounts:
    """Counts of no examples yet.

    Args:
        h: the layer's activations for a batch, or their shape and dtype (``jax.eval_shape``).

    Raises:
        InputError: ``h`` has fewer than two dimensions.
    """
    if len(h.shape) < 2:
        raise InputError("h", h.shape, "give activations [B, units] or [B, *positions, units]")
    return UnitCounts(
        magnitude=jnp.zeros(h.shape[1:], jnp.promote_types(h.dtype, jnp.float32)),
        examples=jnp.zeros((), jnp.int32),
    )


def update(counts: UnitCounts, h: ArrayLike, valid_B: ArrayLike, examples_last: bool = False) -> UnitCounts:
    """Counts with one more batch; examples with ``valid_B`` False (padding) are left out, whatever they hold.

    Args:
        counts: so far.
        h: the layer's activations for a batch.
        valid_B: which examples count.
        examples_last: h is the transpose of an array [units, *positions, B]; then it is read in that array's order,
            which is faster and gives the same counts but for rounding.

    One sum serves both the dead and the dormant units. Magnitudes add up batch by batch in float32 at least. All
    terms are >= 0, so the relative rounding error is at most 6e-8 times the additions in a row: the number of
    batches plus the depth of the backend's sum within one.

    Raises:
        InputError: ``h`` is not of the shape that the counts were made for.
    """
    h, valid_B = jnp.asarray(h), jnp.asarray(valid_B)
    if h.shape[1:] != counts.magnitude.shape or valid_B.shape != h.shape[:1]:
        shape = ", ".join(map(str, counts.magnitude.shape))
        raise InputError("h", h.shape, f"give activations [B, {shape}] and a mask [B]")
    axis = h.ndim - 1 if examples_last else 0
    h = jnp.swapaxes(h, 0, axis)
    h = jnp.where(jnp.expand_dims(valid_B, [other for other in range(h.ndim) if other != axis]), h, 0)
    total = jnp.sum(jnp.abs(h).astype(counts.magnitude.dtype), axis=axis)
    return UnitCounts(
        magnitude=counts.magnitude + (jnp.moveaxis(total, 0, -1) if examples_last else total),
        examples=counts.examples + jnp.sum(valid_B, dtype=jnp.int32),
    )


def dead(counts: UnitCounts) -> jax.Array:
    """bool[units]: post-activation exactly 0 on every example; a channel, at every position of every example.

    Means something where the activation has a flat zero (ReLU). Others give 0 by rounding if at all: float32
    GELU is exactly 0 below about -6, leaky ReLU and ELU only at 0. Counts of no examples give True.
    """
    return ~jnp.any(counts.active, axis=tuple(range(counts.active.ndim - 1)))


def dead_positions(counts: UnitCounts) -> jax.Array:
    """Share of (position, unit) pairs that no example activates; of a dense layer, of dead units."""
    return jnp.sum(~counts.active) / counts.active.size


def dormant(counts: UnitCounts, tau: ArrayLike = 0.025) -> jax.Array:
    """bool[units]: ``s = mean|h| / (mean over the layer's units of mean|h| + 1e-9) <= tau``.

    The mean|h| of a unit is over examples and positions. A dead unit has s = 0, so is dormant at any tau
    that is not negative; in a layer that is all 0 every unit is dormant. Means nothing where an activation
    was not finite.

    Args:
        counts: of the layer.
        tau: threshold, dimensionless.

    Source: Sokar et al., The dormant neuron phenomenon in deep reinforcement learning, 2023.
    """
    # Example count and positions apart: their product can pass int32.
    positions = tuple(range(counts.magnitude.ndim - 1))
    terms = jnp.maximum(counts.examples, 1) * float(math.prod(counts.magnitude.shape[:-1]))
    mean = jnp.sum(counts.magnitude, axis=positions) / terms
    return mean / (jnp.mean(mean) + 1e-9) <= tau


def died(previous_dead: ArrayLike, dead: ArrayLike) -> jax.Array:
    """Number of units of a layer that are dead and were not (int32); over the number of units, the share."""
    return jnp.sum(~jnp.asarray(previous_dead) & jnp.asarray(dead), dtype=jnp.int32)


def revived(previous_dead: ArrayLike, dead: ArrayLike) -> jax.Array:
    """Number of units of a layer that were dead and are not (int32): possible, as their inputs move."""
    return died(dead, previous_dead)


def died_at(dead_ExU: ArrayLike) -> jax.Array:
    """int32[U]: the epoch since which a unit has stayed dead; 0 if always dead, -1 if alive at the end.

    Args:
        dead_ExU: bool, `dead` after each epoch, entry 0 the initial state; the last one repeated for
            epochs that were not reached, or those left out.
    """
    dead_ExU = jnp.asarray(dead_ExU)
    epoch_Ex1 = jnp.arange(1, dead_ExU.shape[0] + 1)[:, None]
    since_U = jnp.max(jnp.where(dead_ExU, 0, epoch_Ex1), axis=0)
    return jnp.where(dead_ExU[-1], since_U, -1).astype(jnp.int32)


def effective_rank(h: ArrayLike) -> jax.Array:
    """``exp(-Σ p log p)``, ``p = σ / Σσ``, σ the singular values of a layer's activations on a probe set.

    Between 1 and min(N, features); 0 for activations that are all 0; NaN if one is not finite. Not centred.
    One row per example: a convolution's positions and channels are flattened into features, as its dense
    successor sees them, so a map that is constant over the image does not gain rank from its positions. Rows
    of zeros (masked examples) change nothing.

    Args:
        h: [N, units] or [N, *positions, units]; the cost grows with N·features·min(N, features), so keep N
            to some hundreds.

    Raises:
        InputError: ``h`` has fewer than two dimensions.

    Source: Roy & Vetterli, The effective rank, 2007; Kumar et al. 2021 take such a matrix of features.
    """
    h = jnp.asarray(h)
    if h.ndim < 2:
        raise InputError("h", h.shape, "give activations [N, units] or [N, *positions, units]")
    (h_NxF,), _ = scaled([h.reshape(h.shape[0], -1)])
    sigma = jnp.linalg.svd(h_NxF, compute_uv=False)
    total = jnp.sum(sigma)
    p = sigma / jnp.where(total == 0, 1, total)
    return jnp.where(total == 0, 0, jnp.exp(jnp.sum(jax.scipy.special.entr(p))))
