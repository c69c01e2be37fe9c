"""Clipping of the whole gradient by its norm."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlab.checks import scalar
from jaxlab.transforms.leaves import map_leaves, widen


def clip_by_global_norm(max_norm: jax.typing.ArrayLike) -> optax.GradientTransformation:
    """Shorten the gradient to a largest norm, over all parameters together; its direction stays::

        uₙ = gₙ · min(1, c / ‖gₙ‖)        ‖g‖ = √(Σ g²) over every entry of every leaf

    Equals ``optax.clip_by_global_norm``, except that c may be traced with leaves in half precision: the norm is in
    float32 or wider, and the updates keep their dtypes. A gradient that is not finite is not changed.

    Args:
        max_norm: c > 0, in units of the gradient; may be traced.

    Raises:
        InputError: a concrete c is not positive or not finite.

    Source: Pascanu, Mikolov & Bengio, On the difficulty of training recurrent neural networks, 2013.
    """
    scalar("max_norm", max_norm, above=0)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        leaves = [jnp.abs(widen(leaf)) for leaf in jax.tree.leaves(updates)]
        largest = functools.reduce(jnp.maximum, map(jnp.max, leaves))
        unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)  # no square overflows
        norm = unit * jnp.sqrt(sum(jnp.sum(jnp.square(leaf / unit)) for leaf in leaves))
        shorten = (norm > max_norm) & jnp.isfinite(norm)
        factor = jnp.where(shorten, max_norm / jnp.where(shorten, norm, 1), 1)
        return map_leaves(lambda g, factor: g * factor, (updates,), factor), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
