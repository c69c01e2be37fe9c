"""Which leaves a penalty acts on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.errors import InputError


def kernels(params: Any) -> Any:
    """True for leaves with two or more dimensions, False for the others, in a tree shaped like ``params``.

    So the kernels of dense and convolution layers are in; biases and the scales and offsets of normalisation
    are out, whatever the library calls them. The leaves are those of one trial, without a trial axis.
    """
    return jax.tree.map(lambda p: jnp.ndim(p) >= 2, params)


def resolve(mask: Any, params: Any) -> Any:
    """The tree of bools that ``mask`` means for ``params``.

    Args:
        mask: None for ``kernels``, a callable ``params -> tree``, or a tree of bools that equals ``params``
            in structure or is a prefix of it (``True`` alone is every leaf).
        params: tree of arrays.

    Raises:
        InputError: a mask of another structure, with a leaf that is not a bool, or that selects no leaf.
    """
    tree = kernels(params) if mask is None else mask(params) if callable(mask) else mask
    try:
        tree = jax.tree.broadcast(tree, params)
    except ValueError as error:
        remedy = "give bools shaped like the params or like their top levels, or a callable params -> bools"
        raise InputError("mask", tree, remedy) from error
    chosen = jax.tree.leaves(tree)
    if not all(isinstance(leaf, bool | np.bool_) for leaf in chosen):
        raise InputError("mask", tree, "every leaf of a mask is True or False")
    if not any(chosen):
        remedy = "selects no leaf, and kernels are those with two or more dimensions; give another mask"
        raise InputError("mask", "kernels" if mask is None else tree, remedy)
    return tree
