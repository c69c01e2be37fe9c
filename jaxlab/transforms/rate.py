"""Learning rate and momentum, keeping the dtype of the updates under traced numbers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlab.checks import scalar
from jaxlab.transforms.leaves import accumulators, map_leaves

ScalarOrSchedule = jax.typing.ArrayLike | optax.Schedule


class TraceState(NamedTuple):
    """Momentum's running sum t, shaped like the parameters, float32 or wider."""

    trace: Any


def rate_at(learning_rate: ScalarOrSchedule, count: jax.Array) -> jax.typing.ArrayLike:
    """The learning rate of update number ``count``, the first being 0."""
    return learning_rate(count) if callable(learning_rate) else learning_rate


def scale_by_learning_rate(learning_rate: ScalarOrSchedule) -> optax.GradientTransformation:
    """u = −η·g.

    As ``optax.scale_by_learning_rate``, except that a traced float32 η leaves bfloat16 updates bfloat16.

    Args:
        learning_rate: η, a number, traced or not, or a schedule ``step -> η`` (the first step is 0). A
            schedule adds the count of steps to the state; whether it is one is configuration.

    Raises:
        InputError: a concrete η that is negative or not finite.
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

    No factor 1 − μ: a constant gradient is scaled by 1/(1 − μ) in the end. As ``optax.trace``, dtypes apart.

    Args:
        momentum: μ in [0, 1), may be traced.
        nesterov: Nesterov's form; configuration.

    Raises:
        InputError: a concrete μ outside [0, 1).

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
