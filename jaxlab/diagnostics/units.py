"""Dead and dormant units of a layer, counted over a data set in one pass of masked batches.

Activations ``h`` are [B, units] or [B, *positions, units] (channels last), after the activation function.
A `UnitCounts` holds the counts of one layer of one trial; ``update`` fits the carry of ``jax.lax.scan``. Map trials
with ``jax.vmap``.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.diagnostics.norms import scale_by_largest
from jaxlab.errors import InputError


class UnitCounts(NamedTuple):
    """Activity of one layer on the examples seen so far.

    Attributes:
        magnitude: float[*positions, units], sum of |h| over examples: 0 where all of them were exactly 0. A backend may
            flush float32 subnormal numbers to 0.
        examples: int32, number of examples.
    """

    # Arrays, or their stand-ins under jax.eval_shape and jax.tree.map.
    magnitude: Any
    examples: Any

    @property
    def active(self) -> jax.Array:
        """bool[*positions, units]: whether any example had a post-activation other than 0."""
        return self.magnitude != 0


def init(h: jax.Array | jax.ShapeDtypeStruct) -> UnitCounts:
    """Initial counts, of no examples.

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
    """Add a batch to the counts. Examples with ``valid_B`` False (padding) are ignored, whatever they hold.

    Args:
        counts: the counts so far.
        h: the layer's activations for a batch.
        valid_B: which examples count.
        examples_last: h is the transpose of an array [units, *positions, B]. It is then read in the order of that
            array, which is faster and gives the same counts up to rounding.

    One sum serves both dead and dormant units. Magnitudes are summed batch by batch, in float32 or wider. All
    terms are >= 0, so the relative rounding error is at most 6e-8 times the number of sequential additions: the
    number of batches plus the depth of the backend's sum within a batch.

    Raises:
        InputError: the shape of ``h`` does not match that of the counts.
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
    """bool[units]: post-activation exactly 0 on every example (for a channel, at every position of every example).

    Meaningful only if the activation has a flat zero, as ReLU has. Others give 0 only by rounding: float32
    GELU is exactly 0 below about -6, leaky ReLU and ELU only at 0. Without examples every unit is dead.
    """
    return ~jnp.any(counts.active, axis=tuple(range(counts.active.ndim - 1)))


def dead_positions(counts: UnitCounts) -> jax.Array:
    """Fraction of (position, unit) pairs that no example activates; in a dense layer, of dead units."""
    return jnp.sum(~counts.active) / counts.active.size


def dormant(counts: UnitCounts, tau: ArrayLike = 0.025) -> jax.Array:
    """bool[units]: ``s = mean|h| / (mean over the layer's units of mean|h| + 1e-9) <= tau``.

    The mean|h| of a unit is over examples and positions. A dead unit has s = 0, so it is dormant at any
    tau >= 0; in a layer of zeros every unit is dormant. Undefined if an activation was not finite.

    Args:
        counts: counts of the layer.
        tau: dimensionless threshold.

    Source: Sokar et al., The dormant neuron phenomenon in deep reinforcement learning, 2023.
    """
    # Multiply in floating point: the product of examples and positions can overflow int32.
    positions = tuple(range(counts.magnitude.ndim - 1))
    terms = jnp.maximum(counts.examples, 1) * float(math.prod(counts.magnitude.shape[:-1]))
    mean = jnp.sum(counts.magnitude, axis=positions) / terms
    return mean / (jnp.mean(mean) + 1e-9) <= tau


def died(previous_dead: ArrayLike, dead: ArrayLike) -> jax.Array:
    """Number (int32) of units of a layer that are dead now and were not before."""
    return jnp.sum(~jnp.asarray(previous_dead) & jnp.asarray(dead), dtype=jnp.int32)


def revived(previous_dead: ArrayLike, dead: ArrayLike) -> jax.Array:
    """Number (int32) of units of a layer that were dead before and are not now, since their inputs changed."""
    return died(dead, previous_dead)


def died_at(dead_ExU: ArrayLike) -> jax.Array:
    """int32[U]: the epoch since which a unit has been dead; 0 if it was always dead, -1 if it is alive at the end.

    Args:
        dead_ExU: bool, `dead` after each epoch; entry 0 is the initial state. Epochs that were not reached repeat
            the last entry or are left out.
    """
    dead_ExU = jnp.asarray(dead_ExU)
    epoch_Ex1 = jnp.arange(1, dead_ExU.shape[0] + 1)[:, None]
    since_U = jnp.max(jnp.where(dead_ExU, 0, epoch_Ex1), axis=0)
    return jnp.where(dead_ExU[-1], since_U, -1).astype(jnp.int32)


def effective_rank(h: ArrayLike) -> jax.Array:
    """``exp(-Σ p log p)`` with ``p = σ / Σσ``, where σ are the singular values of a layer's activations on a probe set.

    Between 1 and min(N, features); 0 for activations that are all 0; NaN if one is not finite. Not centred.
    There is one row per example: positions and channels of a convolution are flattened into features, as a dense
    layer after it sees them, so a constant feature map gains no rank from its positions. Rows of zeros (masked
    examples) change nothing.

    Args:
        h: [N, units] or [N, *positions, units]; the cost grows with N·features·min(N, features), so limit N
            to a few hundred.

    Raises:
        InputError: ``h`` has fewer than two dimensions.

    Source: Roy & Vetterli, The effective rank, 2007; Kumar et al. 2021 use the same feature matrix.
    """
    h = jnp.asarray(h)
    if h.ndim < 2:
        raise InputError("h", h.shape, "give activations [N, units] or [N, *positions, units]")
    (h_NxF,), _ = scale_by_largest([h.reshape(h.shape[0], -1)])
    sigma = jnp.linalg.svd(h_NxF, compute_uv=False)
    total = jnp.sum(sigma)
    p = sigma / jnp.where(total == 0, 1, total)
    return jnp.where(total == 0, 0, jnp.exp(jnp.sum(jax.scipy.special.entr(p))))
