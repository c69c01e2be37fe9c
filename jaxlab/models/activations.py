"""Activation functions by name, and those with which units can die."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxlab.checks import one_of


def identity(x: jax.Array) -> jax.Array:
    """f(x) = x, with which a network is one affine map."""
    return x


#: Elementwise functions by name. ReLU is ``jax.nn.relu``, whose gradient at 0 is 0 (that of ``maximum(x, 0)``
#: is ½). Leaky ReLU has slope 0.01 below zero; ELU has α = 1; GELU is the tanh approximation.
ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jax.nn.tanh,
    "sigmoid": jax.nn.sigmoid,
    "identity": identity,
}

_FLAT_ZERO = (jax.nn.relu, jax.nn.relu6)


def resolve(activation: Any) -> Callable[..., Any]:
    """Look up a name in ``ACTIVATIONS``; a function is returned as it is.

    Raises:
        InputError: the name is unknown, or the value is neither a name nor a function.
    """
    found = one_of("activation", activation, ACTIVATIONS, or_function=True)
    return found if callable(found) else ACTIVATIONS[found]


def is_elementwise(activation: Callable[..., Any]) -> bool:
    """Whether a function is known to be elementwise, so that the order of the axes does not matter."""
    return any(activation is known for known in ACTIVATIONS.values())


def has_flat_zero(activation: str | Callable[..., Any]) -> bool:
    """Whether the activation is exactly 0, with gradient 0, on a half line, so that a unit can be dead.

    True for ReLU and ReLU6, by name or as ``jax.nn.relu`` and ``jax.nn.relu6``; any other function counts
    as having no flat zero. float32 GELU is exactly 0 below about −5 only by rounding, which does not count.

    Raises:
        InputError: the name is unknown.
    """
    function = resolve(activation)
    return any(function is flat for flat in _FLAT_ZERO)
