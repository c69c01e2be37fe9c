"""Norms, ratios and angles of trees of weights, gradients or updates of one trial.

Only leaves with a floating or complex dtype count; integers and typed PRNG keys are ignored. Sums are in float32
or wider, after division by the largest entry, so that entries of 1e30 or 1e-30, whose squares leave the range of
float32, are safe.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxlab.errors import InputError


def inexact_leaves(tree: Any) -> list[jax.Array]:
    """The leaves with a floating or complex dtype, as arrays."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]


def global_norm(tree: Any) -> jax.Array:
    """``√(Σ |x|²)`` over every entry of every leaf; 0 for an empty tree; inf or NaN if an entry is.

    Differentiable, with gradient 0 at a tree of zeros.
    """
    divided, scale = scale_by_largest(tree)
    total = _sum([jnp.square(jnp.abs(leaf)) for leaf in divided])
    return scale * jnp.where(total == 0, 0, jnp.sqrt(jnp.where(total == 0, 1, total)))


def update_ratio(updates: Any, params: Any) -> jax.Array:
    """``‖updates‖ / ‖params‖``, dimensionless: how far one step moves the weights, relative to their size.

    A zero update gives 0, whatever the weights; any other update of weights that are all 0 gives inf.
    """
    moved, size = global_norm(updates), global_norm(params)
    return jnp.where(moved == 0, 0, moved / size)


def cosine(tree_a: Any, tree_b: Any) -> jax.Array:
    """``⟨a, b⟩ / (‖a‖·‖b‖)`` over every entry of every leaf of two real trees, clipped to [-1, 1].

    0 if either tree is all zeros and thus has no direction; NaN if an entry is not finite.

    Raises:
        InputError: the trees differ in structure or in a leaf's shape.
    """
    if _structure(tree_a) != _structure(tree_b):
        raise InputError("tree_b", _structure(tree_b), "give two trees of the same structure and shapes")
    (scaled_a, _), (scaled_b, _) = scale_by_largest(tree_a), scale_by_largest(tree_b)
    inner = _sum([a * b for a, b in zip(scaled_a, scaled_b, strict=True)])
    size = global_norm(scaled_a) * global_norm(scaled_b)
    return jnp.where(size == 0, 0, jnp.clip(inner / jnp.where(size == 0, 1, size), -1, 1))


def zero_fraction(params: Any) -> jax.Array:
    """Fraction of kernel entries (of leaves with two or more dimensions) that are exactly 0.

    NaN if there is no kernel. Biases and normalisation parameters, which often start at 0, do not count.
    """
    kernels = [leaf for leaf in inexact_leaves(params) if leaf.ndim >= 2]
    zeros = _sum([leaf == 0 for leaf in kernels])
    return zeros / jnp.asarray(sum(leaf.size for leaf in kernels), jnp.result_type(float))


def scale_by_largest(tree: Any) -> tuple[list[jax.Array], jax.Array]:
    """Divide the inexact leaves by about the largest magnitude among them; return them and the divisor, > 0."""
    leaves = [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in inexact_leaves(tree)]
    sizes = [jnp.max(jnp.abs(leaf)) for leaf in leaves if leaf.size]
    if not sizes:
        return leaves, jnp.ones(())
    largest = jax.lax.stop_gradient(jnp.max(jnp.stack(sizes)))
    # XLA may multiply by the reciprocal, which underflows to zero for the very largest numbers.
    limits = jnp.finfo(largest.dtype)
    scale = jnp.clip(largest, limits.tiny, limits.max / 16)
    return [leaf / scale for leaf in leaves], scale


def _sum(leaves: list[jax.Array]) -> jax.Array:
    return sum((jnp.sum(leaf) for leaf in leaves), jnp.zeros(()))


def _structure(tree: Any) -> tuple:
    return jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
