"""Convolution as im2col and one matrix product: ``conv_general_dilated``, a drop-in for ``jax.lax``'s.

``vmap`` over kernels turns ``jax.lax.conv_general_dilated`` into a grouped convolution, which backends run slowly; a
matrix product it turns into a batched, or a wider, matrix product. XLA's CPU backend also runs convolutions inside
``scan`` many times slower than the same arithmetic as a matrix product. Needs jax alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxlab.errors import InputError


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
) -> jax.Array:
    """``jax.lax.conv_general_dilated``, lowered to slices and one ``dot_general`` where that is possible.

    For x of shape [B, H, W, C], padded, a kernel k of shape [K, L, C/G, F], strides s, dilations d, G feature groups::

        y[b, i, j, g, f] = Σ_{u,v,c} x[b, s₀i + d₀u, s₁j + d₁v, g, c] · k[u, v, c, g, f]

    (a correlation: the kernel is not flipped), where the C channels of x are [G, C/G] and the F of y and k [G, F/G].
    Made of plain differentiable operations, so forward and reverse mode, ``vmap``, ``scan`` and their compositions
    hold. Pass it as ``flax.nnx.Conv(..., conv_general_dilated=conv_general_dilated)``.

    Lowered here: one or two spatial axes with channels last, ``("NWC", "WIO", "NWC")`` or ``("NHWC", "HWIO", "NHWC")``,
    lhs and rhs of one dtype. Handed to ``jax.lax`` unchanged, with its speed and its error messages: every other
    layout (``None`` means channels first, as in ``jax.lax``), three spatial axes, ``lhs_dilation`` or
    ``batch_group_count`` other than 1, an ``out_sharding``, inputs on a mesh with explicit axes, arguments that do not
    fit each other. Reverse mode keeps the patches, about K·L times the input's size, for the backward pass.

    Args:
        lhs: the input x, [B, *spatial, C].
        rhs: the kernel k, [*window, C/G, F].
        window_strides: the step of the window per spatial axis.
        padding: ``"SAME"`` (the odd zero at the end), ``"SAME_LOWER"`` (at the start), ``"VALID"``, or (low, high)
            zeros per spatial axis; negative crops.
        lhs_dilation, batch_group_count, out_sharding: as in ``jax.lax``; see above.
        rhs_dilation: the distance between neighbouring taps of the kernel per spatial axis.
        dimension_numbers: as in ``jax.lax``: strings or ``ConvDimensionNumbers``.
        feature_group_count: G.
        precision: of the matrix product, as in ``jax.lax.dot_general``.
        preferred_element_type: dtype in which to accumulate and return.

    Returns:
        y, [B, *spatial, F].

    Raises:
        InputError: the window fits nowhere in the padded input (``jax.lax`` returns an empty array).
    """
    ones = (1,) * len(window_strides)
    dilation = ones if rhs_dilation is None else tuple(rhs_dilation)
    plain = batch_group_count == 1 and out_sharding is None and tuple(lhs_dilation or ones) == ones
    geometry = (tuple(window_strides), padding, dilation)
    if plain and _lowers(lhs, rhs, *geometry, dimension_numbers, feature_group_count):
        patches = _patches(jnp.asarray(lhs), jnp.shape(rhs)[:-2], *geometry)
        return _multiply(patches, jnp.asarray(rhs), feature_group_count, precision, preferred_element_type)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
    )


def _lowers(
    lhs: ArrayLike,
    rhs: ArrayLike,
    strides: tuple[int, ...],
    padding: str | Sequence[Sequence[int]],
    dilation: tuple[int, ...],
    dimension_numbers: Any,
    groups: int,
) -> bool:
    """Whether these are arguments that fit each other, with channels last and one or two spatial axes."""
    n = len(strides)
    if n not in (1, 2) or not jnp.ndim(lhs) == jnp.ndim(rhs) == n + 2:
        return False
    x, k = jax.typeof(lhs), jax.typeof(rhs)
    numbers = lax.conv_dimension_numbers(x.shape, k.shape, dimension_numbers)
    data = (0, n + 1, *range(1, n + 1))
    if tuple(map(tuple, numbers)) != (data, (n + 1, n, *range(n)), data):
        return False
    *window, c, f = k.shape
    positive = len(dilation) == n and min(groups, *strides, *dilation, *window) > 0
    fits = positive and x.shape[-1] == c * groups and f % groups == 0 and x.dtype == k.dtype
    pairs = isinstance(padding, str) or (len(padding) == n and all(len(pair) == 2 for pair in padding))
    return fits and pairs and not (x.sharding.mesh.explicit_axes or k.sharding.mesh.explicit_axes)


def _patches(
    x: jax.Array,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    padding: str | Sequence[Sequence[int]],
    dilation: tuple[int, ...],
) -> jax.Array:
    """What the window sees at each place, in the kernel's order: [B, *spatial of the output, K·L·C]."""
    spatial = x.shape[1:-1]
    span = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    pads = lax.padtype_to_pads(spatial, span, strides, padding) if isinstance(padding, str) else padding
    size = [n + low + high for n, (low, high) in zip(spatial, pads, strict=True)]
    if any(n < k for n, k in zip(size, span, strict=True)):
        remedy = (
            f"pad it or give a larger one: a kernel that spans {tuple(span)} fits nowhere in {tuple(size)}"
        )
        raise InputError("lhs.shape", x.shape, remedy)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])
    # The reach of one tap: from its first to its last place, both included.
    reach = [(n - k) // s * s + 1 for n, k, s in zip(size, span, strides, strict=True)]

    def tap(index: tuple[int, ...]) -> jax.Array:
        start = [i * d for i, d in zip(index, dilation, strict=True)]
        stop = [i + r for i, r in zip(start, reach, strict=True)]
        return lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[-1]), (1, *strides, 1))

    return jnp.concatenate([tap(index) for index in itertools.product(*map(range, window))], axis=-1)


def _multiply(
    patches: jax.Array, kernel: jax.Array, groups: int, precision: Any, preferred_element_type: Any
) -> jax.Array:
    """The product of patches and kernel: [B, *spatial, F].

    With the patches shared and T kernels mapped it is one product, [B·H·W, K·L·C] by [K·L·C, T·F]. The rows are
    flattened because XLA's CPU backend runs the product a little faster so.
    """
    *_, c, f = kernel.shape
    dot = {"precision": precision, "preferred_element_type": preferred_element_type}
    rows = patches.reshape(-1, patches.shape[-1])
    if groups == 1:
        y = lax.dot_general(rows, kernel.reshape(-1, f), (((1,), (0,)), ((), ())), **dot)
    else:
        rows = rows.reshape(rows.shape[0], -1, groups, c)
        columns = kernel.reshape(-1, c, groups, f // groups)
        y = lax.dot_general(rows, columns, (((1, 3), (0, 1)), ((2,), (2,))), **dot)
        y = jnp.moveaxis(y, 0, 1)
    return y.reshape(*patches.shape[:-1], f)
