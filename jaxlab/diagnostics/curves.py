"""Curves of one trial: 1-D arrays over epochs, whose NaN tail stands for epochs that the trial did not reach.

A NaN measured at the last epoch looks like such a tail. Pass ``last``, the last epoch that the trial reached, to
distinguish them; without it a curve ends at its last value that is not NaN.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxlab.errors import InputError


def as_curve(field: str, values: ArrayLike) -> jax.Array:
    """Convert ``values`` to a 1-D floating-point array; raise InputError for another rank or an empty array."""
    curve = jnp.asarray(values)
    if curve.ndim != 1 or curve.size == 0:
        raise InputError(field, curve.shape, "give the 1-D curve of one trial; map trials with jax.vmap")
    return curve.astype(jnp.promote_types(curve.dtype, jnp.float32))


def epochs_reached(curve_E: jax.Array, last: ArrayLike | None = None) -> jax.Array:
    """Number of epochs up to ``last``, or to the last value that is not NaN."""
    if last is not None:
        return jnp.asarray(last) + 1
    return jnp.max(jnp.where(jnp.isnan(curve_E), 0, jnp.arange(1, curve_E.size + 1)))


def final(curve_E: ArrayLike, last: ArrayLike | None = None) -> jax.Array:
    """Value at the last epoch that the trial reached, finite or not; NaN if it reached none.

    Args:
        curve_E: one entry per epoch.
        last: the last epoch reached, -1 for none; by default that of the last value that is not NaN.
    """
    curve_E = as_curve("curve_E", curve_E)
    reached = epochs_reached(curve_E, last)
    return jnp.where(reached > 0, curve_E[jnp.maximum(reached - 1, 0)], jnp.nan)


def or_worst(values: ArrayLike, better: str) -> jax.Array | np.ndarray:
    """Replace values that are not finite by the worst possible one: -inf if higher is better, +inf if lower.

    Neither NaN nor an infinity then wins a comparison. NumPy arrays stay NumPy arrays and keep their precision.

    Raises:
        InputError: ``better`` is neither ``"higher"`` nor ``"lower"``.
    """
    xp = jnp if isinstance(values, jax.Array) else np
    values = xp.asarray(values)
    return xp.where(xp.isfinite(values), values, -sign_of(better) * np.inf)


def sign_of(better: str) -> int:
    """1 if ``better`` is ``"higher"``, -1 if it is ``"lower"``; InputError otherwise."""
    if better not in ("higher", "lower"):
        raise InputError("better", better, 'give "higher" or "lower"')
    return 1 if better == "higher" else -1
