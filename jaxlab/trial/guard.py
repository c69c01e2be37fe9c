"""Freezing one trial at its last finite step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlab.diagnostics import all_finite, first_bad


def select(condition: jax.Array, if_true: Any, if_false: Any) -> Any:
    """Tree-wise ``where(condition, if_true, if_false)``: never a product, so NaN on one side stays there."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


def guarded_scan(
    step: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]],
    state: Any,
    xs: Any,
    steps_before: jax.Array,
    watched: Sequence[str] | None = None,
    finite: Callable[[Any], jax.Array] = all_finite,
) -> tuple[Any, dict[str, jax.Array], jax.Array]:
    """``lax.scan`` of a training step that freezes the state at its last finite value.

    A step is bad if its new state or a watched metric is not finite (put the loss and the gradient's norm among the
    metrics). From the first bad step on the state stays what it was before that step.

    Args:
        step: ``(state, x) -> (state, metrics)``; metrics are a flat dict of arrays.
        state: any pytree; integers and PRNG keys are frozen along but not checked.
        xs: what the steps consume, leading axis S.
        steps_before: number of steps that the trial took before these.
        watched: names of the metrics that must be finite; all of them by default.
        finite: ``state -> bool``: whether a state is finite; by default every value counts.

    Returns:
        the state; the metrics, each with a leading axis S, NaN from the first bad step on; and ``first_bad_step``,
        int32, counted from 1 over the whole run, −1 if none.
    """

    def guarded(carry, x):
        state, alive = carry
        new, metrics = step(state, x)
        checked = metrics if watched is None else {name: metrics[name] for name in watched}
        alive = alive & finite(new) & all_finite(checked)
        metrics = {name: jnp.where(alive, value, jnp.nan) for name, value in metrics.items()}
        return (select(alive, new, state), alive), (metrics, alive)

    (state, _), (metrics, alive_S) = jax.lax.scan(guarded, (state, jnp.array(True)), xs)
    bad = first_bad(alive_S)
    return state, metrics, jnp.where(bad < 0, bad, bad + steps_before).astype(jnp.int32)
