"""``use_fast_convolutions``: any Flax model with convolutions that stay fast under ``vmap``."""

from __future__ import annotations

from functools import partial

from flax import nnx
from jax import lax

from jaxlab.convolution import check_lowering, conv_general_dilated


def use_fast_convolutions(model: nnx.Module, lowering: str = "auto") -> nnx.Module:
    """Give every ``nnx.Conv`` of a model `jaxlab.convolution.conv_general_dilated`, in place.

    Layers with a convolution function of the user's own keep it. Parameters, their names and initial values do not
    change; outputs do by rounding. Studies do this to every model by themselves (field ``convolution``).

    Args:
        model: any module; what hangs below it counts.
        lowering: for all of them, see `jaxlab.convolution.conv_general_dilated`; ``"native"`` goes back to
            ``jax.lax``'s.

    Returns:
        the same model.

    Raises:
        InputError: there is no such lowering.
    """
    check_lowering(lowering)
    fast = conv_general_dilated if lowering == "auto" else _Lowered(conv_general_dilated, lowering=lowering)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.Conv) and _known(module.conv_general_dilated):
            module.conv_general_dilated = fast
    return model


class _Lowered(partial):
    """Ours with a lowering that was forced here, to tell it from a partial of the user's own."""


def _known(function: object) -> bool:
    """Whether this is a convolution that may be exchanged: JAX's own, ours, or what was put there before."""
    return isinstance(function, _Lowered) or function in (lax.conv_general_dilated, conv_general_dilated)
