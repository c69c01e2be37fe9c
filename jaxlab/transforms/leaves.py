"""Elementwise rules over trees of arrays, with one convention for dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxlab.errors import InputError


def map_leaves(rule: Callable[..., jax.Array], trees: tuple, *numbers: jax.typing.ArrayLike) -> Any:
    """``rule(*leaves, *numbers)`` leaf by leaf over ``trees``; the result has the first tree's dtypes.

    Leaves and numbers meet in the first leaf's dtype, or in float32 where that is narrower: a traced float32
    number does not widen a bfloat16 update, and a small number is not lost in a bfloat16 or float16 one.
    """

    def at_leaf(*leaves):
        wide = widened(leaves[0]).dtype
        return rule(*(jnp.asarray(x, wide) for x in (*leaves, *numbers))).astype(jnp.result_type(leaves[0]))

    return jax.tree.map(at_leaf, *trees)


def widened(leaf: jax.typing.ArrayLike) -> jax.Array:
    """The leaf in its own dtype, or in float32 where that is narrower."""
    return jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32))


def accumulators(params: Any) -> Any:
    """Zeros shaped like ``params``, at least float32: in bfloat16 a running average stalls."""
    return jax.tree.map(lambda p: jnp.zeros_like(widened(p)), params)


def check_params(transform: str, params: Any) -> None:
    """Raise where ``update`` was called without the parameters that ``transform`` reads."""
    if params is None:
        raise InputError("params", params, f"{transform} reads them: call update(updates, state, params)")
