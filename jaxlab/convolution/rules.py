"""Choice of the lowering of a convolution. See docs/convolution.md for measurements."""

from __future__ import annotations

from collections.abc import Callable

import jax

from jaxlab.checks import one_of
from jaxlab.convolution.lowerings import as_product, as_remat, as_sum
from jaxlab.errors import InputError

# Accepted values of ``lowering``; "native" is the convolution of jax.lax.
LOWERINGS = ("auto", "product", "remat", "sum", "native")


def check_lowering(lowering: str) -> None:
    """Raise InputError if the lowering is unknown."""
    one_of("lowering", lowering, LOWERINGS)


def lowering_of(lowering: str, channels: int, features: int, groups: int) -> Callable[..., jax.Array]:
    """Return the function that computes a convolution by a given lowering.

    Args:
        lowering: one of `LOWERINGS` except "native".
        channels: number of input channels.
        features: number of output channels.
        groups: number of channel groups.
    """
    depthwise = channels == features == groups > 1
    if lowering == "sum" and not depthwise:
        remedy = f"{channels} channels to {features} in {groups} groups are not depthwise; give 'product'"
        raise InputError("lowering", lowering, remedy)
    if lowering == "auto":
        lowering = "sum" if depthwise else "product"
    return {"product": as_product, "remat": as_remat, "sum": as_sum}[lowering]
