"""L1 and L2 penalties: coupled (a term of the gradient), decoupled (a decay of the weights), and as values.

The penalty is λ₁·Σ|w| + λ₂·Σw², without a factor ½, over the leaves that a mask selects: kernels by default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlab.checks import scalar
from jaxlab.transforms.leaves import check_params, map_leaves, widen
from jaxlab.transforms.masks import resolve


def add_l1(strength: jax.typing.ArrayLike, mask: Any = None) -> optax.GradientTransformation:
    """Coupled L1: u = g + λ₁·sign(w) with sign(0) = 0, the gradient of λ₁·Σ|w|.

    Place it before the scaling. A subgradient step sets no weight to exactly zero; ``proximal_l1`` does.
    Under RMSProp the scaling largely cancels λ₁: a weight without data gradient shrinks at much the same
    speed for any λ₁ above √ε.

    Args:
        strength: λ₁ >= 0, in units of loss per weight; may be traced.
        mask: the penalised leaves: None for ``kernels``, a tree of bools or a prefix of one, or a callable that
            returns it.

    Raises:
        InputError: a concrete λ₁ is negative or not finite, the mask selects nothing, or ``update`` is called
            without params.
    """
    return _add_term("add_l1", lambda g, w, strength: g + strength * jnp.sign(w), strength, mask)


def add_l2(strength: jax.typing.ArrayLike, mask: Any = None) -> optax.GradientTransformation:
    """Coupled L2: u = g + 2·λ₂·w, the gradient of λ₂·Σw², without a factor ½ (as Keras).

    Place it before the scaling. ``optax.add_decayed_weights(λ)`` and PyTorch's ``weight_decay`` add λ·w, so λ =
    2·λ₂. Under RMSProp the scaling largely cancels λ₂: a weight without data gradient shrinks at much the
    same speed for any λ₂ with 2·λ₂·|w| above √ε. ``add_decoupled_l2`` preserves λ.

    Args:
        strength: λ₂ >= 0, in units of loss per squared weight; may be traced.
        mask: the penalised leaves: None for ``kernels``, a tree of bools or a prefix of one, or a callable that
            returns it.

    Raises:
        InputError: a concrete λ₂ is negative or not finite, the mask selects nothing, or ``update`` is called
            without params.
    """
    return _add_term("add_l2", lambda g, w, strength: g + 2 * strength * w, strength, mask)


def add_decoupled_l2(strength: jax.typing.ArrayLike, mask: Any = None) -> optax.GradientTransformation:
    """Decoupled weight decay: u = s + λ·w, so w ← w − η·s − η·λ·w per step, where s is the scaled gradient.

    Place it after the scaling and before the learning rate::

        optax.chain(scale_by_rms(), add_decoupled_l2(1e-2), scale_by_learning_rate(1e-3))

    With momentum, place ``trace`` before it as well: ``chain(scale_by_rms(), trace(0.9), add_decoupled_l2(…), …)``.
    If ``trace`` follows, as in ``rmsprop``, momentum acts on the decay too.

    λ is not λ₂: λ·w has no factor 2. Under plain gradient descent, λ = 2·λ₂ gives the same step as
    ``add_l2``. Under RMSProp no λ does: the coupled term is divided by √(v + ε), which differs per weight and
    step, and the decoupled one is not. A schedule scales both.

    Args:
        strength: λ >= 0, the relative decay per step and unit of learning rate, may be traced.
        mask: the penalised leaves: None for ``kernels``, a tree of bools or a prefix of one, or a callable that
            returns it.

    Raises:
        InputError: a concrete λ is negative or not finite, the mask selects nothing, or ``update`` is called
            without params.

    Source: Loshchilov & Hutter, Decoupled weight decay regularization, 2019.
    """
    return _add_term("add_decoupled_l2", lambda s, w, strength: s + strength * w, strength, mask)


def l1_penalty(params: Any, strength: jax.typing.ArrayLike, mask: Any = None) -> jax.Array:
    """λ₁·Σ|w| over the selected leaves, a scalar in float32 or wider; its gradient is that of ``add_l1``, 0 at w = 0.

    Args:
        params: tree of arrays.
        strength: λ₁ >= 0, may be traced.
        mask: as in ``add_l1``.

    Raises:
        InputError: a concrete λ₁ is negative or not finite, or the mask selects nothing.
    """
    # JAX gives |w| the derivative 1 at 0.
    return _penalty(params, lambda w: w * jnp.sign(w), strength, mask)


def l2_penalty(params: Any, strength: jax.typing.ArrayLike, mask: Any = None) -> jax.Array:
    """λ₂·Σw² over the selected leaves, no factor ½, a scalar in float32 or wider; its gradient is that of ``add_l2``.

    Args:
        params: tree of arrays.
        strength: λ₂ >= 0, may be traced.
        mask: as in ``add_l2``.

    Raises:
        InputError: a concrete λ₂ is negative or not finite, or the mask selects nothing.
    """
    return _penalty(params, jnp.square, strength, mask)


def _add_term(
    name: str, rule: Callable[..., jax.Array], strength: jax.typing.ArrayLike, mask: Any
) -> optax.GradientTransformation:
    scalar("strength", strength, 0)

    def init(params):
        resolve(mask, params)
        return optax.EmptyState()

    def update(updates, state, params=None):
        check_params(name, params)
        penalised = map_leaves(rule, (updates, params), strength)
        chosen = resolve(mask, params)
        return jax.tree.map(lambda use, new, old: new if use else old, chosen, penalised, updates), state

    return optax.GradientTransformation(init, update)


def _penalty(
    params: Any, term: Callable[[jax.Array], jax.Array], strength: jax.typing.ArrayLike, mask: Any
) -> jax.Array:
    scalar("strength", strength, 0)
    chosen = jax.tree.leaves(resolve(mask, params))
    leaves = (widen(w) for w, use in zip(jax.tree.leaves(params), chosen, strict=True) if use)
    total = sum(jnp.sum(term(w)) for w in leaves)
    return jnp.asarray(strength, total.dtype) * total
