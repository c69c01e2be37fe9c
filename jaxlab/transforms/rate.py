"""Learning rate and momentum that keep the dtype of the updates when the numbers are traced."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlab.checks import scalar
from jaxlab.transforms.leaves import accumulators, map_leaves

ScalarOrSchedule = jax.typing.ArrayLike | optax.Schedule


class TraceState(NamedTuple):
    """Running sum t of the momentum, shaped like the parameters, float32 or wider."""

    trace: Any


def scale_by_learning_rate(learning_rate: ScalarOrSchedule) -> optax.GradientTransformation:
    """Scale updates by the negative learning rate: u = −η·g.

    Like ``optax.scale_by_learning_rate``, except that a traced float32 η leaves bfloat16 updates in bfloat16.

    Args:
        learning_rate: η, a number, traced or not, or a schedule ``step -> η`` (the first step is 0). A
            schedule adds the step count to the state.

    Raises:
        InputError: a concrete η is negative or not finite.
    """
    scheduled = callable(learning_rate)
    if not scheduled:
        scalar("learning_rate", learning_rate, 0)

    def init(params):
        return optax.ScaleByScheduleState(jnp.zeros([], jnp.int32)) if scheduled else optax.EmptyState()

    def update(updates, state, params=None):
        eta = learning_rate(state.count) if scheduled else learning_rate
        updates = map_leaves(lambda g, eta: -eta * g, (updates,), eta)
        if scheduled:
            state = optax.ScaleByScheduleState(optax.safe_increment(state.count))
        return updates, state

    return optax.GradientTransformation(init, update)


def trace(momentum: jax.typing.ArrayLike, nesterov: bool = False) -> optax.GradientTransformation:
    """Momentum: tₙ = gₙ + μ·tₙ₋₁ with t₀ = 0; u = tₙ, or gₙ + μ·tₙ with Nesterov.

    There is no factor 1 − μ: a constant gradient is eventually scaled by 1/(1 − μ). Equals ``optax.trace`` except
    for dtypes.

    Args:
        momentum: μ in [0, 1); may be traced.
        nesterov: use Nesterov momentum; static.

    Raises:
        InputError: a concrete μ is outside [0, 1).

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.
    """
    scalar("momentum", momentum, 0, below=1)

    def init(params):
        return TraceState(accumulators(params))

    def update(updates, state, params=None):
        summed = map_leaves(lambda t, g, mu: g + mu * t, (state.trace, updates), momentum)
        moved = map_leaves(lambda g, t, mu: g + mu * t if nesterov else t, (updates, summed), momentum)
        return moved, TraceState(summed)

    return optax.GradientTransformation(init, update)
