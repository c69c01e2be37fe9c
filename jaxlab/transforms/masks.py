"""Masks: the leaves that a penalty acts on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.errors import InputError


def kernels(params: Any) -> Any:
    """True for leaves with two or more dimensions, False for the others, in a tree shaped like ``params``.

    This selects the kernels of dense and convolution layers and excludes biases and the scales and offsets of
    normalisation, whatever a library names them. The leaves belong to one trial and have no trial axis.
    """
    return jax.tree.map(lambda p: jnp.ndim(p) >= 2, params)


def resolve(mask: Any, params: Any) -> Any:
    """Expand ``mask`` to a tree of bools shaped like ``params``.

    Args:
        mask: None for ``kernels``, a callable ``params -> tree``, or a tree of bools with the
            structure of ``params`` or a prefix of it (``True`` alone selects every leaf).
        params: tree of arrays.

    Raises:
        InputError: the mask has another structure, has a leaf that is not a bool, or selects no leaf.
    """
    tree = kernels(params) if mask is None else mask(params) if callable(mask) else mask
    try:
        tree = jax.tree.broadcast(tree, params)
    except ValueError as error:
        remedy = "give bools shaped like the params or like their top levels, or a callable params -> bools"
        raise InputError("mask", tree, remedy) from error
    chosen = jax.tree.leaves(tree)
    if not all(isinstance(leaf, bool | np.bool_) for leaf in chosen):
        raise InputError("mask", tree, "make every leaf of the mask True or False")
    if not any(chosen):
        remedy = "selects no leaf (kernels are leaves with two or more dimensions); give another mask"
        raise InputError("mask", "kernels" if mask is None else tree, remedy)
    return tree
