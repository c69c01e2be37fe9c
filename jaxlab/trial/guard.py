"""Freeze a trial at its last finite step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlab.diagnostics import all_finite, first_bad


def select(condition: jax.Array, if_true: Any, if_false: Any) -> Any:
    """``where(condition, if_true, if_false)`` for trees; a NaN that is not selected has no effect."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


def guarded_scan(
    step: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]],
    state: Any,
    xs: Any,
    steps_before: jax.Array,
    watched: Sequence[str] | None = None,
    finite: Callable[[Any], jax.Array] = all_finite,
) -> tuple[Any, dict[str, jax.Array], jax.Array]:
    """``lax.scan`` over a training step that freezes the state at its last finite value.

    A step is bad if its new state or a watched metric is not finite, so include the loss and the norm of the gradient
    in the metrics. From the first bad step on, the state remains as it was before that step.

    Args:
        step: ``(state, x) -> (state, metrics)``; metrics are a flat dict of arrays.
        state: any pytree; integers and PRNG keys are frozen too but not checked.
        xs: inputs of the steps, with a leading axis S.
        steps_before: number of earlier steps of the trial.
        watched: names of the metrics that must be finite; all by default.
        finite: ``state -> bool``: whether a state is finite; by default every value counts.

    Returns:
        The state; the metrics, each with a leading axis S, NaN from the first bad step on; and ``first_bad_step``,
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
