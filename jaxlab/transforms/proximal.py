"""Proximal L1, a penalty that sets weights to exactly zero."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlab.checks import scalar
from jaxlab.errors import InputError
from jaxlab.transforms.leaves import check_params, map_leaves
from jaxlab.transforms.masks import resolve
from jaxlab.transforms.rate import ScalarOrSchedule
from jaxlab.transforms.rms import check_eps_position, init_rms, inverse_root, next_rms


class ProximalL1State(NamedTuple):
    """Number of steps (int32), and the ``ScaleByRmsState`` of the scaling, None under plain gradient descent."""

    count: Any
    rms: Any


def proximal_l1(
    learning_rate: ScalarOrSchedule,
    strength: jax.typing.ArrayLike,
    decay: jax.typing.ArrayLike | None = None,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    centered: bool = False,
    eps_position: str = "inside",
    mask: Any = None,
) -> optax.GradientTransformation:
    """A step of gradient descent or RMSProp, followed by the soft threshold of λ₁·Σ|w|::

        d = 1 under plain gradient descent (decay=None), √(v + ε) or √v + ε under RMSProp, see ``scale_by_rms``
        u = w − η·g/d
        w ← sign(u)·max(|u| − η·λ₁/d, 0)

    Step and threshold are one transform, since the threshold needs v of the scaling. The transform is a complete
    optimizer: nothing follows it in a chain, but ``add_l2`` may precede it. Leaves outside the mask take the step
    without the threshold. There is no momentum: the threshold belongs to the current scaled step. At ε = 0 a
    weight that never had a gradient does not change.

    A weight below the threshold is exactly zero after ``optax.apply_updates``; for this, updates have the dtype
    of the parameters.

    Args:
        learning_rate: η, a number, traced or not, or a schedule ``step -> η``.
        strength: λ₁ >= 0, in units of loss per weight; may be traced.
        decay: γ of RMSProp in [0, 1); may be traced. None, which is static, selects plain gradient descent.
        eps: ε >= 0 of RMSProp; may be traced; unused without ``decay``.
        centered: use the centred form of RMSProp; static.
        eps_position: "inside" the root of RMSProp, or "outside"; static.
        mask: the penalised leaves: None for ``kernels``, a tree of bools or a prefix of one, or a callable that
            returns it.

    Raises:
        InputError: a concrete number is out of range, ``centered`` is given without ``decay``, ``eps_position`` is
            unknown, the mask selects nothing, or ``update`` is called without params.

    Source: Duchi & Singer, Efficient online and batch learning using forward backward splitting, 2009; with a
    diagonal scaling: Duchi, Hazan & Singer, Adaptive subgradient methods, 2011.
    """
    if not callable(learning_rate):
        scalar("learning_rate", learning_rate, 0)
    scalar("strength", strength, 0)
    scalar("eps", eps, 0)
    check_eps_position(eps_position)
    if decay is not None:
        scalar("decay", decay, 0, below=1)
    elif centered:
        raise InputError("centered", centered, "give a decay as well, or leave centered out")

    def init(params):
        resolve(mask, params)
        rms = None if decay is None else init_rms(params, centered)
        return ProximalL1State(jnp.zeros([], jnp.int32), rms)

    def update(updates, state, params=None):
        check_params("proximal_l1", params)
        if decay is None:
            rms, step = None, jax.tree.map(jnp.ones_like, params)
        else:
            rms = next_rms(updates, state.rms, decay)
            step = map_leaves(partial(inverse_root, eps_position=eps_position), (rms.nu,), eps)
        eta = learning_rate(state.count) if callable(learning_rate) else learning_rate
        thresholds = jax.tree.map(lambda use: strength if use else 0.0, resolve(mask, params))
        updates = map_leaves(_soft_threshold_step, (params, updates, step, thresholds), eta)
        return updates, ProximalL1State(optax.safe_increment(state.count), rms)

    return optax.GradientTransformation(init, update)


def _soft_threshold_step(w, g, step, strength, eta):
    u = w - eta * step * g
    return jnp.sign(u) * jnp.maximum(jnp.abs(u) - eta * step * strength, 0) - w
