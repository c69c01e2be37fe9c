"""Which lowering a convolution takes. The evidence is in docs/convolution.md."""

from __future__ import annotations

from collections.abc import Callable

import jax

from jaxlab.checks import one_of
from jaxlab.convolution.lowerings import as_product, as_remat, as_sum
from jaxlab.errors import InputError

# What ``lowering`` may be; "native" is jax.lax' own convolution.
LOWERINGS = ("auto", "product", "remat", "sum", "native")


def check_lowering(lowering: str) -> None:
    """Raise unless there is such a lowering."""
    one_of("lowering", lowering, LOWERINGS)


def lowering_of(lowering: str, channels: int, features: int, groups: int) -> Callable[..., jax.Array]:
    """The function that computes a convolution which is not left to JAX.

    Args:
        lowering: one of `LOWERINGS` but "native".
        channels: of the input.
        features: of the output.
        groups: of channels.
    """
    depthwise = channels == features == groups > 1
    if lowering == "sum" and not depthwise:
        remedy = f"give 'product': {channels} channels to {features} in {groups} groups are not depthwise"
        raise InputError("lowering", lowering, remedy)
    if lowering == "auto":
        lowering = "sum" if depthwise else "product"
    return {"product": as_product, "remat": as_remat, "sum": as_sum}[lowering]
