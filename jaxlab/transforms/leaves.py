"""Elementwise functions over trees of arrays, with one convention for dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxlab.errors import InputError


def map_leaves(rule: Callable[..., jax.Array], trees: tuple, *numbers: jax.typing.ArrayLike) -> Any:
    """Apply ``rule(*leaves, *numbers)`` to each leaf of ``trees``; the result has the first tree's dtypes.

    Leaves and numbers are cast to the first leaf's dtype, or to float32 if that is narrower. A traced float32
    number therefore does not widen a bfloat16 update, and a small number is not lost in a bfloat16 or float16 one.
    """

    def at_leaf(*leaves):
        wide = widen(leaves[0]).dtype
        return rule(*(jnp.asarray(x, wide) for x in (*leaves, *numbers))).astype(jnp.result_type(leaves[0]))

    return jax.tree.map(at_leaf, *trees)


def widen(leaf: jax.typing.ArrayLike) -> jax.Array:
    """Cast a leaf to float32 if its dtype is narrower."""
    return jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32))


def accumulators(params: Any) -> Any:
    """Zeros shaped like ``params``, in float32 or wider: a running average in bfloat16 stalls."""
    return jax.tree.map(lambda p: jnp.zeros_like(widen(p)), params)


def check_params(transform: str, params: Any) -> None:
    """Raise InputError if ``update`` was called without the parameters that ``transform`` reads."""
    if params is None:
        raise InputError("params", params, f"{transform} reads them: call update(updates, state, params)")
