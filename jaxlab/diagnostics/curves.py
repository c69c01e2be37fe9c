"""One trial's curve: a 1-D array over epochs in which NaN means that the trial did not reach the epoch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.errors import InputError


def as_curve(field: str, values: ArrayLike) -> jax.Array:
    """``values`` as a floating 1-D array; InputError, naming ``field``, if of another rank or empty."""
    curve = jnp.asarray(values)
    if curve.ndim != 1 or curve.size == 0:
        raise InputError(field, curve.shape, "give the 1-D curve of one trial; map trials with jax.vmap")
    return curve.astype(jnp.promote_types(curve.dtype, jnp.float32))


def epochs_reached(curve_E: jax.Array) -> jax.Array:
    """Number of values up to the last that is not NaN."""
    return jnp.max(jnp.where(jnp.isnan(curve_E), 0, jnp.arange(1, curve_E.size + 1)))


def final(curve_E: ArrayLike) -> jax.Array:
    """The value at the last epoch that the trial reached; NaN if it reached none."""
    curve_E = as_curve("curve_E", curve_E)
    return curve_E[jnp.maximum(epochs_reached(curve_E) - 1, 0)]
