"""RMSProp, with ε inside the root or outside."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlab.checks import one_of, scalar
from jaxlab.errors import InputError
from jaxlab.transforms.leaves import accumulators, map_leaves
from jaxlab.transforms.rate import ScalarOrSchedule, scale_by_learning_rate, trace

#: Where ε stands: √(v + ε) or √v + ε.
EPS_POSITIONS = ("inside", "outside")


class ScaleByRmsState(NamedTuple):
    """Running averages shaped like the parameters, in float32 or wider. Gradients are divided by √(nu + ε) or √nu + ε.

    Attributes:
        nu: running mean of g²; in the centred form, the running variance of g.
        mu: running mean of g in the centred form, else None.
    """

    nu: Any
    mu: Any = None


def init_rms(params: Any, centered: bool) -> ScaleByRmsState:
    """Initial state: zeros."""
    return ScaleByRmsState(accumulators(params), accumulators(params) if centered else None)


def next_rms(gradients: Any, state: ScaleByRmsState, decay: jax.typing.ArrayLike) -> ScaleByRmsState:
    """Update the running averages with one gradient."""
    if state.mu is None:
        nu = map_leaves(lambda v, g, y: y * v + (1 - y) * g**2, (state.nu, gradients), decay)
        return ScaleByRmsState(nu)

    # Equals E[g²] − E[g]². Rounding can turn that difference negative, but not this sum.
    def variance(s, g, m, y):
        return y * s + y * (1 - y) * (g - m) ** 2

    nu = map_leaves(variance, (state.nu, gradients, state.mu), decay)
    mu = map_leaves(lambda m, g, y: y * m + (1 - y) * g, (state.mu, gradients), decay)
    return ScaleByRmsState(nu, mu)


def check_eps_position(eps_position: str) -> str:
    """One of "inside" and "outside"."""
    return one_of("eps_position", eps_position, EPS_POSITIONS)


def inverse_root(nu: jax.Array, eps: jax.Array, eps_position: str = "inside") -> jax.Array:
    """1/√(ν + ε) or 1/(√ν + ε); 0 where that is 1/0: at ε = 0 a weight that has had no gradient does not move."""
    square = nu + eps if eps_position == "inside" else nu
    empty = square == 0
    root = jnp.sqrt(jnp.where(empty, 1, square))
    if eps_position == "outside":
        root = jnp.where(empty, 0, root) + eps
        empty = root == 0
        root = jnp.where(empty, 1, root)
    return jnp.where(empty, 0, 1 / root)


def scale_by_rms(
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    centered: bool = False,
    eps_position: str = "inside",
) -> optax.GradientTransformation:
    """Divide the gradient by the root of its running mean square::

        vₙ = γ·vₙ₋₁ + (1 − γ)·gₙ²        v₀ = 0, no bias correction
        uₙ = gₙ / √(vₙ + ε)              ε inside the root, as in Optax and Keras
        uₙ = gₙ / (√vₙ + ε)              ε outside the root, as in PyTorch

    Centred: uₙ = gₙ / √(vₙ − mₙ² + ε) with mₙ = γ·mₙ₋₁ + (1 − γ)·gₙ, m₀ = 0. The state holds the difference as the
    variance sₙ = γ·sₙ₋₁ + γ(1 − γ)·(gₙ − mₙ₋₁)², which is the same number and cannot turn negative by
    rounding.

    Where v + ε is exactly 0 (no gradient yet and ε = 0) the update is 0. The same ε is not the same number in both
    positions: far below the root of v, ε outside matters as much as ε² inside.

    Args:
        decay: γ in [0, 1); may be traced.
        eps: ε >= 0, in units of g² inside the root and of |g| outside; may be traced.
        centered: subtract the squared mean; static, since it adds the mean to the state.
        eps_position: "inside" or "outside"; static.

    Returns:
        A transform with state ``ScaleByRmsState``; updates are not negated, nor scaled by a learning rate.

    Raises:
        InputError: a concrete γ is outside [0, 1), a concrete ε is negative or not finite, or ``eps_position`` is
            neither of the two.

    Source: Hinton, Neural networks for machine learning, lecture 6e, 2012; centred: Graves, arXiv:1308.0850,
    2013.
    """
    scalar("decay", decay, 0, below=1)
    scalar("eps", eps, 0)
    check_eps_position(eps_position)

    def init(params):
        return init_rms(params, centered)

    def update(updates, state, params=None):
        state = next_rms(updates, state, decay)
        scaled = map_leaves(
            lambda g, v, eps: g * inverse_root(v, eps, eps_position), (updates, state.nu), eps
        )
        return scaled, state

    return optax.GradientTransformation(init, update)


def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    momentum: jax.typing.ArrayLike | None = None,
    nesterov: bool = False,
    centered: bool = False,
    eps_position: str = "inside",
) -> optax.GradientTransformation:
    """RMSProp: wₙ₊₁ = wₙ − η·gₙ / √(vₙ + ε), see ``scale_by_rms`` for v.

    With momentum μ the scaled step enters tₙ = η·gₙ/√(vₙ + ε) + μ·tₙ₋₁ and wₙ₊₁ = wₙ − tₙ, so under a
    schedule an earlier step keeps its η. The numbers equal those of ``optax.rmsprop`` and of Keras 3 (whose
    default ε is 1e-7).

    At constant η, RMSProp does not converge but cycles: on ½λw² with ε = 0 it ends at |w| = η/2 whatever λ.

    Args:
        learning_rate: η, a number, traced or not, or a schedule ``step -> η``.
        decay: γ in [0, 1); may be traced.
        eps: ε >= 0, in units of g² inside the root and of |g| outside; may be traced.
        momentum: μ in [0, 1); may be traced. None, which is static, keeps no trace.
        nesterov: use Nesterov momentum; static; needs ``momentum``.
        centered: divide by the running standard deviation instead; static.
        eps_position: "inside" the root, or "outside" as in PyTorch: uₙ = gₙ / (√vₙ + ε); static.

    Raises:
        InputError: a concrete number is out of range, or ``nesterov`` is given without ``momentum``.

    Source: Hinton, Neural networks for machine learning, lecture 6e, 2012; centred: Graves, arXiv:1308.0850,
    2013.
    """
    if nesterov and momentum is None:
        raise InputError("nesterov", nesterov, "give a momentum as well, or leave nesterov out")
    scaling = scale_by_rms(decay, eps, centered=centered, eps_position=eps_position)
    steps = [scaling, scale_by_learning_rate(learning_rate)]
    if momentum is not None:
        steps.append(trace(momentum, nesterov))
    return optax.chain(*steps)
