"""``use_fast_convolutions``: convolutions that stay fast under ``vmap``, for any Flax model."""

from __future__ import annotations

from functools import partial

from flax import nnx
from jax import lax

from jaxlab.checks import one_of
from jaxlab.convolution import LOWERINGS, conv_general_dilated


def use_fast_convolutions(model: nnx.Module, lowering: str = "auto") -> nnx.Module:
    """Use `jaxlab.convolution.conv_general_dilated` in every ``nnx.Conv`` of a model, in place.

    Layers with a custom convolution function keep it. Parameters, their names and initial values do not change;
    outputs change by rounding. Studies call this on every model (field ``convolution``).

    Args:
        model: any module; its submodules are included.
        lowering: lowering of all convolutions, see `jaxlab.convolution.conv_general_dilated`; ``"native"`` restores
            that of ``jax.lax``.

    Returns:
        The same model.

    Raises:
        InputError: the lowering is unknown.
    """
    one_of("lowering", lowering, LOWERINGS)
    fast = conv_general_dilated if lowering == "auto" else _Lowered(conv_general_dilated, lowering=lowering)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.Conv) and _is_replaceable(module.conv_general_dilated):
            module.conv_general_dilated = fast
    return model


class _Lowered(partial):
    """`conv_general_dilated` with a fixed lowering, a type that distinguishes it from a user's partial."""


def _is_replaceable(function: object) -> bool:
    """Whether a convolution function may be replaced: JAX's own, or one that `use_fast_convolutions` has put there."""
    return isinstance(function, _Lowered) or function in (lax.conv_general_dilated, conv_general_dilated)
