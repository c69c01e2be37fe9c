"""RMSProp, with ε inside the root."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlab.checks import scalar
from jaxlab.errors import InputError
from jaxlab.transforms.leaves import accumulators, map_leaves
from jaxlab.transforms.rate import ScalarOrSchedule, scale_by_learning_rate, trace


class ScaleByRmsState(NamedTuple):
    """Running averages shaped like the parameters, float32 or wider; the gradient is divided by √(nu + ε).

    Attributes:
        nu: running mean of g², or, centred, the running variance of g.
        mu: running mean of g where centred, else None.
    """

    nu: Any
    mu: Any = None


def init_rms(params: Any, centered: bool) -> ScaleByRmsState:
    """The state before the first gradient: zeros."""
    return ScaleByRmsState(accumulators(params), accumulators(params) if centered else None)


def next_rms(gradients: Any, state: ScaleByRmsState, decay: jax.typing.ArrayLike) -> ScaleByRmsState:
    """The state after one more gradient."""
    if state.mu is None:
        nu = map_leaves(lambda v, g, y: y * v + (1 - y) * g**2, (state.nu, gradients), decay)
        return ScaleByRmsState(nu)

    # Equal to E[g²] − E[g]², a difference that rounding turns negative; this sum never is.
    def variance(s, g, m, y):
        return y * s + y * (1 - y) * (g - m) ** 2

    nu = map_leaves(variance, (state.nu, gradients, state.mu), decay)
    mu = map_leaves(lambda m, g, y: y * m + (1 - y) * g, (state.mu, gradients), decay)
    return ScaleByRmsState(nu, mu)


def inverse_root(nu: jax.Array, eps: jax.Array) -> jax.Array:
    """1/√(ν + ε), and 0 where ν + ε is exactly 0: at ε = 0 a weight without any gradient yet stays put."""
    square = nu + eps
    empty = square == 0
    return jnp.where(empty, 0, 1 / jnp.sqrt(jnp.where(empty, 1, square)))


def scale_by_rms(
    decay: jax.typing.ArrayLike = 0.9, eps: jax.typing.ArrayLike = 1e-8, *, centered: bool = False
) -> optax.GradientTransformation:
    """Divide the gradient by the root of its running mean square::

        vₙ = γ·vₙ₋₁ + (1 − γ)·gₙ²        v₀ = 0, no bias correction
        uₙ = gₙ / √(vₙ + ε)              ε inside the root

    Centred: uₙ = gₙ / √(vₙ − mₙ² + ε) with mₙ = γ·mₙ₋₁ + (1 − γ)·gₙ, m₀ = 0. The difference is carried as the
    variance sₙ = γ·sₙ₋₁ + γ(1 − γ)·(gₙ − mₙ₋₁)², which is the same number and cannot turn negative by
    rounding.

    Where v + ε is exactly 0 (no gradient yet and ε = 0) the update is 0. PyTorch has ε outside the root and
    differs.

    Args:
        decay: γ in [0, 1), may be traced.
        eps: ε >= 0, in units of g², may be traced.
        centered: subtract the squared mean; configuration, since it adds the mean to the state.

    Returns:
        A transform with state ``ScaleByRmsState``; updates are not negated, nor scaled by a learning rate.

    Raises:
        InputError: a concrete γ outside [0, 1), a concrete ε that is negative or not finite.

    Source: Hinton, Neural networks for machine learning, lecture 6e, 2012; centred: Graves, arXiv:1308.0850,
    2013.
    """
    scalar("decay", decay, 0, below=1)
    scalar("eps", eps, 0)

    def init(params):
        return init_rms(params, centered)

    def update(updates, state, params=None):
        state = next_rms(updates, state, decay)
        scaled = map_leaves(lambda g, v, eps: g * inverse_root(v, eps), (updates, state.nu), eps)
        return scaled, state

    return optax.GradientTransformation(init, update)


def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    momentum: jax.typing.ArrayLike | None = None,
    nesterov: bool = False,
    centered: bool = False,
) -> optax.GradientTransformation:
    """RMSProp: wₙ₊₁ = wₙ − η·gₙ / √(vₙ + ε), see ``scale_by_rms`` for v.

    With momentum μ the scaled step goes through tₙ = η·gₙ/√(vₙ + ε) + μ·tₙ₋₁ and wₙ₊₁ = wₙ − tₙ, so under a
    schedule an earlier step keeps its own η. The numbers are those of ``optax.rmsprop`` and of Keras 3 (whose
    ε is 1e-7 by default).

    At constant η it does not converge but cycles: on ½λw² with ε = 0 it ends at |w| = η/2 whatever λ.

    Args:
        learning_rate: η, a number, traced or not, or a schedule ``step -> η``.
        decay: γ in [0, 1), may be traced.
        eps: ε >= 0 inside the root, in units of g², may be traced.
        momentum: μ in [0, 1), may be traced. None, the default, keeps no trace: its presence is
            configuration.
        nesterov: Nesterov momentum; configuration; needs a momentum.
        centered: divide by the running standard deviation instead; configuration.

    Raises:
        InputError: a concrete number out of its range; ``nesterov`` without a momentum.

    Source: Hinton, Neural networks for machine learning, lecture 6e, 2012; centred: Graves, arXiv:1308.0850,
    2013.
    """
    if nesterov and momentum is None:
        raise InputError("nesterov", nesterov, "give a momentum as well, or leave nesterov out")
    steps = [scale_by_rms(decay, eps, centered=centered), scale_by_learning_rate(learning_rate)]
    if momentum is not None:
        steps.append(trace(momentum, nesterov))
    return optax.chain(*steps)
