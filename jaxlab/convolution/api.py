"""``conv_general_dilated`` as slices and matrix products, a drop-in replacement for that of ``jax.lax``.

``vmap`` over kernels turns ``jax.lax.conv_general_dilated`` into a grouped convolution, which backends run slowly, but
a matrix product into a batched or wider matrix product. XLA's CPU backend also runs convolutions inside ``scan`` many
times slower than the same arithmetic as a matrix product. Requires only JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxlab.checks import one_of
from jaxlab.convolution.geometry import check_window, geometry_of
from jaxlab.convolution.lowerings import as_product, as_remat, as_sum
from jaxlab.errors import InputError

# Accepted values of ``lowering``; "native" is the convolution of jax.lax.
LOWERINGS = ("auto", "product", "remat", "sum", "native")
# Precisions that matrix products accept and convolutions do not.
_PRODUCT_PRECISIONS = (lax.DotAlgorithm, lax.DotAlgorithmPreset)


def conv_general_dilated(
    lhs: ArrayLike,
    rhs: ArrayLike,
    window_strides: Sequence[int],
    padding: str | Sequence[Sequence[int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    *,
    lowering: str = "auto",
) -> jax.Array:
    """``jax.lax.conv_general_dilated``, lowered to slices and matrix products where possible.

    For x of shape [B, H, W, C], padded, a kernel k of shape [K, L, C/G, F], strides s, dilations d, G feature groups::

        y[b, i, j, g, f] = Σ_{u,v,c} x[b, s₀i + d₀u, s₁j + d₁v, g, c] · k[u, v, c, g, f]

    (a correlation: the kernel is not flipped), where the C channels of x are [G, C/G] and the F of y and k [G, F/G].
    All operations are plain and differentiable, so forward and reverse mode, ``vmap``, ``scan`` and their compositions
    work. Pass it as ``flax.nnx.Conv(..., conv_general_dilated=conv_general_dilated)``.

    Lowered: one or two spatial axes with channels last, ``("NWC", "WIO", "NWC")`` or ``("NHWC", "HWIO", "NHWC")``,
    lhs and rhs of one dtype. Passed to ``jax.lax`` unchanged, with its speed and its error messages: every other
    layout (``None`` means channels first, as in ``jax.lax``), three spatial axes, ``lhs_dilation`` or
    ``batch_group_count`` other than 1, an ``out_sharding``, inputs on a mesh with explicit axes, a ``DotAlgorithm`` as
    precision, empty arrays, and everything that ``jax.lax`` refuses. Except with ``"remat"``, reverse mode keeps
    the patches, about K·L times the size of the input, for the backward pass.

    Args:
        lhs: the input x, [B, *spatial, C].
        rhs: the kernel k, [*window, C/G, F].
        window_strides: the step of the window per spatial axis.
        padding: ``"SAME"`` (the odd zero at the end), ``"SAME_LOWER"`` (at the start), ``"VALID"``, or (low, high)
            zeros per spatial axis; a negative number crops.
        lhs_dilation, batch_group_count, out_sharding: as in ``jax.lax``; see above.
        rhs_dilation: the distance between neighbouring taps of the kernel per spatial axis.
        dimension_numbers: as in ``jax.lax``: strings or ``ConvDimensionNumbers``.
        feature_group_count: G.
        precision: precision of the matrix product, as in ``jax.lax.dot_general``.
        preferred_element_type: dtype of the accumulation and of the result.
        lowering: ``"auto"`` or one of ``"product"`` (im2col and a matrix product), ``"remat"`` (the same for a few
            examples at a time; the backward pass recomputes their patches, which saves memory), ``"sum"`` (a sum of
            products with shifted inputs, for depthwise convolutions with one output per channel, where it is the
            default) and ``"native"`` (that of ``jax.lax``).

    Returns:
        y, [B, *spatial, F].

    Raises:
        InputError: the window does not fit in the padded input (``jax.lax`` returns an empty array), or the lowering
            is unknown.
    """
    one_of("lowering", lowering, LOWERINGS)
    ones = (1,) * len(window_strides)
    dilation = ones if rhs_dilation is None else tuple(rhs_dilation)
    undilated = lhs_dilation is None or tuple(lhs_dilation) == ones
    plain = batch_group_count == 1 and out_sharding is None and undilated
    sizes = (tuple(window_strides), padding, dilation)
    native = partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
    )
    if not plain or lowering == "native" or isinstance(precision, _PRODUCT_PRECISIONS):
        return native(lhs, rhs)
    if not _is_lowered(lhs, rhs, *sizes, dimension_numbers, feature_group_count):
        return native(lhs, rhs)
    x, kernel = jnp.asarray(lhs), jnp.asarray(rhs)
    geometry = geometry_of(x.shape[1:-1], kernel.shape[:-2], *sizes, feature_group_count)
    check_window(x.shape, geometry)
    accumulate = jax.eval_shape(native, x, kernel).dtype  # raises the errors of jax.lax
    function = _lowered(lowering, x.shape[-1], kernel.shape[-1], feature_group_count)
    return function(x, kernel, geometry, precision, None if preferred_element_type is None else accumulate)


def _lowered(lowering: str, channels: int, features: int, groups: int) -> Callable[..., jax.Array]:
    """The function that computes a convolution by a lowering other than "native"; see docs/convolution.md."""
    depthwise = channels == features == groups > 1
    if lowering == "sum" and not depthwise:
        remedy = f"{channels} channels to {features} in {groups} groups are not depthwise; give 'product'"
        raise InputError("lowering", lowering, remedy)
    if lowering == "auto":
        lowering = "sum" if depthwise else "product"
    return {"product": as_product, "remat": as_remat, "sum": as_sum}[lowering]


def _is_lowered(
    lhs: ArrayLike,
    rhs: ArrayLike,
    strides: tuple[int, ...],
    padding: str | Sequence[Sequence[int]],
    dilation: tuple[int, ...],
    dimension_numbers: Any,
    groups: int,
) -> bool:
    """Whether the arguments fit each other and are of a kind that is lowered here, see `conv_general_dilated`."""
    n = len(strides)
    if n not in (1, 2) or not jnp.ndim(lhs) == jnp.ndim(rhs) == n + 2:
        return False
    x, k = jax.typeof(lhs), jax.typeof(rhs)
    numbers = lax.conv_dimension_numbers(x.shape, k.shape, dimension_numbers)
    data = (0, n + 1, *range(1, n + 1))
    if tuple(map(tuple, numbers)) != (data, (n + 1, n, *range(n)), data):
        return False
    c, f = k.shape[-2:]
    positive = len(dilation) == n and min(groups, *strides, *dilation, *x.shape, *k.shape) > 0
    fits = positive and x.shape[-1] == c * groups and f % groups == 0 and x.dtype == k.dtype
    pairs = isinstance(padding, str) or (len(padding) == n and all(len(pair) == 2 for pair in padding))
    return fits and pairs and not (x.sharding.mesh.explicit_axes or k.sharding.mesh.explicit_axes)
