"""The loop on the host: packs and segments, one after the other, a piece of results for each."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab.engine.programs import Pack, Programs
from jaxlab.engine.traced import on_device
from jaxlab.errors import InputError


class Piece(NamedTuple):
    """What one call of a program recorded; immutable.

    Attributes:
        trials: indices of the trials within the group, ``[T]``.
        epochs: the epochs recorded, ``[E]``; empty for what is recorded once, at the end.
        record: arrays ``[T, E, ...]``, or ``[T, ...]`` where there are no epochs.
    """

    trials: np.ndarray
    epochs: np.ndarray
    record: dict[str, np.ndarray]


def packs_of(trials: int, lanes: int) -> list[np.ndarray]:
    """Split ``range(trials)`` into packs of ``lanes``; the last is filled up by repeating its last trial."""
    return [np.minimum(np.arange(first, first + lanes), trials - 1) for first in range(0, trials, lanes)]


def train(programs: Programs, hyperparameters: Any, shared: Any, epochs: int) -> Iterator[Piece]:
    """Train all trials of a group, all packs one segment further before the next segment begins.

    Args:
        programs: from `compile_programs`.
        hyperparameters: pytree of NumPy arrays ``[trials]``.
        shared: the arrays that all trials see; placed on every device once.
        epochs: a multiple of ``programs.segment_epochs``.

    Yields:
        A piece for epoch 0, for each segment and for the end of each pack. A piece is fetched from the device only
        after the next call is under way, so that devices need not wait for the host.
    """
    pack, length = programs.pack, programs.segment_epochs
    if epochs < 1 or epochs % length:
        raise InputError("epochs", epochs, f"give a positive multiple of segment_epochs = {length}")
    trials = len(jax.tree.leaves(hyperparameters)[0])
    packs = packs_of(trials, pack.lanes)
    shared = placed(shared, pack)
    hyper = [jax.device_put(rows(hyperparameters, lanes), pack.over_trials) for lanes in packs]
    yield from _fetched(_calls(programs, packs, hyper, shared, epochs), trials)


def _calls(programs: Programs, packs, hyper, shared, epochs: int) -> Iterator[tuple]:
    """Start every call of the group in order: ``(lanes, epochs, record on the device)``."""
    states = []
    for lanes, values in zip(packs, hyper, strict=True):
        state, record = programs.measure(values, programs.start(values, shared), shared)
        states.append(state)
        yield lanes, np.zeros(1, np.int32), record
    for first in range(1, epochs + 1, programs.segment_epochs):
        now = np.arange(first, first + programs.segment_epochs, dtype=np.int32)
        there = jax.device_put(now, programs.pack.replicated)
        for index, lanes in enumerate(packs):
            states[index], record = programs.segment(hyper[index], states[index], shared, there)
            yield lanes, now, record
    for lanes, values, state in zip(packs, hyper, states, strict=True):
        yield lanes, np.zeros(0, np.int32), programs.finish(values, state, shared)


def _fetched(calls: Iterator[tuple], trials: int) -> Iterator[Piece]:
    waiting = None
    for call in calls:
        if waiting is not None:
            yield _piece(*waiting, trials)
        waiting = call
    if waiting is not None:
        yield _piece(*waiting, trials)


def _piece(lanes: np.ndarray, epochs: np.ndarray, record: dict[str, jax.Array], trials: int) -> Piece:
    real = int(min(len(lanes), trials - lanes[0]))
    found = {name: value[:real] for name, value in jax.device_get(record).items()}
    if epochs.size and epochs[0] == 0:  # recorded once, without an axis of epochs
        found = {name: value[:, None] for name, value in found.items()}
    return Piece(lanes[:real], epochs, found)


def placed(shared: Any, pack: Pack) -> Any:
    """What all trials share, whole on each device of a pack, in the dtypes that are stored: uint8 stays uint8."""
    return jax.device_put(jax.tree.map(on_device, shared), pack.replicated)


def rows(tree: Any, index: np.ndarray | int) -> Any:
    """Rows of a tree of NumPy arrays, in the dtypes that the device uses."""
    return jax.tree.map(lambda leaf: on_device(np.asarray(leaf)[index]), tree)
