"""What training hands to the host, as NumPy arrays with one row per trial: states of lanes, and records of calls.

Typed PRNG keys of a state are held as their data.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab.errors import InputError
from jaxlab.trial import PyTree


class Rows(NamedTuple):
    """States of some trials of a group, in host memory.

    Attributes:
        trials: indices within the group, ``[n]``.
        epochs: the epoch that each trial reached, ``[n]``.
        states: a lane's tree with a leading axis of ``n``.
    """

    trials: np.ndarray
    epochs: np.ndarray
    states: PyTree

    def take(self, index: np.ndarray) -> "Rows":
        """Copy some of the rows."""
        return jax.tree.map(lambda leaf: leaf[index], self)


NO_ROWS = Rows(np.zeros(0, int), np.zeros(0, int), None)


class EpochRecord(NamedTuple):
    """Record of T trials of one group at E epochs.

    Attributes:
        trials: indices of the trials, ``[T]``.
        epochs: epochs in ascending order, the same for all trials, ``[E]``; 0 is the state before training.
        values: recorded arrays by name, ``[T, E, ...]``.
    """

    trials: np.ndarray
    epochs: np.ndarray
    values: dict[str, np.ndarray]

    def rows(self, rows: np.ndarray) -> "EpochRecord":
        """Select trials by a mask ``[T]``."""
        return EpochRecord(
            self.trials[rows], self.epochs, {name: each[rows] for name, each in self.values.items()}
        )

    def at(self, epochs: np.ndarray) -> "EpochRecord":
        """Select epochs by a mask ``[E]``."""
        return EpochRecord(
            self.trials, self.epochs[epochs], {name: each[:, epochs] for name, each in self.values.items()}
        )


class EndRecord(NamedTuple):
    """Last record of T trials of one group.

    Attributes:
        trials: indices of the trials, ``[T]``.
        epochs: last epoch of each trial, ``[T]``.
        values: recorded arrays by name, ``[T, ...]``.
        states: final states of the trials; None once they are no longer needed.
    """

    trials: np.ndarray
    epochs: np.ndarray
    values: dict[str, np.ndarray]
    states: Rows | None = None

    def rows(self, rows: np.ndarray) -> "EndRecord":
        """Select trials by a mask ``[T]``, without their states."""
        return EndRecord(
            self.trials[rows], self.epochs[rows], {name: each[rows] for name, each in self.values.items()}
        )


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Concatenate the rows of several parts."""
    parts = [part for part in parts if len(part.trials)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts) if parts else NO_ROWS


def to_host(tree: PyTree) -> PyTree:
    """Convert a tree to NumPy arrays, which may share memory with a CPU device."""
    return jax.device_get(
        jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)
    )


def to_device(tree: PyTree, like: PyTree, where: jax.sharding.Sharding | jax.Device | None = None) -> PyTree:
    """Put a host tree on devices; ``like`` shows which leaves are PRNG keys."""

    def place(leaf: np.ndarray, shape: jax.ShapeDtypeStruct) -> jax.Array:
        placed = jax.device_put(leaf, where)
        if not _is_key(shape):
            return placed
        return jax.random.wrap_key_data(placed, impl=_implementations()[shape.dtype])

    return jax.tree.map(place, tree, like)


def flatten(tree: PyTree) -> dict[str, np.ndarray]:
    """Map the paths of a host tree to its leaves."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def unflatten(arrays: Mapping[str, np.ndarray], like: PyTree) -> PyTree:
    """Rebuild a tree from its leaves by path, the inverse of `flatten`.

    Args:
        arrays: from `flatten`, each with a leading axis of rows.
        like: the shapes and dtypes of one row.

    Raises:
        InputError: the leaves do not match those of ``like``.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(path) for path, _ in paths]
    wrong = sorted(set(names) ^ set(arrays))
    for name, (_, leaf) in zip(names, paths, strict=True):
        if name in arrays and not _is_key(leaf) and not _fits(arrays[name], leaf):
            wrong.append(name)
    if wrong:
        raise InputError(
            "state", wrong[0], "does not belong to the state of this study: its code or configuration changed"
        )
    return jax.tree.unflatten(structure, [arrays[name] for name in names])


def _fits(rows: np.ndarray, one: jax.ShapeDtypeStruct) -> bool:
    return rows.shape[1:] == one.shape and rows.dtype == one.dtype


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(getattr(leaf, "dtype", np.bool_), jax.dtypes.prng_key)


@cache
def _implementations() -> dict[Any, str]:
    """Names of the PRNG implementations, by the dtype of their keys."""
    names = ("threefry2x32", "rbg", "unsafe_rbg")
    return {jax.eval_shape(lambda name=name: jax.random.key(0, impl=name)).dtype: name for name in names}
