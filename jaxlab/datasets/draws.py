"""Random draws on the host that are identical on every platform and with every NumPy version.

NumPy guarantees a stable stream only for its bit generators; the methods of ``Generator`` (``permutation``,
``uniform``) may change between releases, and with them every split. Permutations and uniforms are therefore made
from raw bits here.
"""

from __future__ import annotations

import numpy as np


def _bits(seed: int, stream: str, n: int) -> np.ndarray:
    """``n`` raw 64-bit draws from a named stream of a seed."""
    return np.random.PCG64([seed, *stream.encode()]).random_raw(n)


def permutation(seed: int, stream: str, n: int) -> np.ndarray:
    """Random permutation of ``range(n)``, int64 [n]."""
    return np.argsort(_bits(seed, stream, n), kind="stable")


def uniform(seed: int, stream: str, n: int) -> np.ndarray:
    """``n`` draws from [0, 1), float64 [n]."""
    return (_bits(seed, stream, n) >> np.uint64(11)) * 2.0**-53


def stratified_order(seed: int, stream: str, targets: np.ndarray) -> np.ndarray:
    """Random order of the examples, int64 [N], in which every slice holds each class in proportion.

    Example r (from 0, in random order) of a class of n examples gets position (r + 1/2)/n; ties are in random
    order. A slice of k out of N examples therefore holds about k·n/N of a class. Regression targets (float) have
    no classes and get a plain permutation.
    """
    order = permutation(seed, stream, len(targets))
    if not np.issubdtype(targets.dtype, np.integer):
        return order
    shuffled = targets[order]
    place = np.empty(len(targets))
    for label in np.unique(shuffled):
        members = np.flatnonzero(shuffled == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(place, kind="stable")]


def grouped_order(seed: int, stream: str, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Random order of the groups, with their examples side by side, and the positions where each group ends.

    Args:
        seed, stream: what the order depends on.
        groups: group of each example, integers from 0, [N].

    Returns:
        the order of the examples, int64 [N], and the ends in it, int64 [G].
    """
    rank = permutation(seed, stream, int(groups.max()) + 1)[groups]
    return np.argsort(rank, kind="stable"), np.cumsum(np.bincount(rank))
