"""Training of one group: its packs of lanes, ended trials, and repacking."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from jaxlab.engine.host import Rows, concatenate, to_device, to_host
from jaxlab.engine.memory import free_on_device
from jaxlab.engine.programs import Programs
from jaxlab.engine.tracing import canonical
from jaxlab.trial import PyTree


class Call(NamedTuple):
    """A pending call of a program.

    Attributes:
        trials: indices within the group, −1 for a lane whose record is not needed, ``[lanes]``.
        epochs: the recorded epochs, ``[E]``; with ``ended``, the last epoch of each trial, ``[lanes]``.
        record: the record, on the devices.
        ended: states of the trials if this is their last record, else None.
    """

    trials: np.ndarray
    epochs: np.ndarray
    record: dict[str, jax.Array]
    ended: Rows | None = None


class _PackState:
    """A pack of trials: ``trials`` by lane (−1: none), the epoch that it reached, hyperparameters and states."""

    def __init__(self, trials: np.ndarray, epoch: int, values: PyTree, states: PyTree):
        self.trials, self.epoch, self.values, self.states = trials, epoch, values, states
        self.on_host = False

    def rows(self, states: PyTree, lanes: np.ndarray) -> Rows:
        """Copy the lanes that a mask selects from the pack's ``states`` on the host."""
        trials = self.trials[lanes]
        return Rows(trials, np.full(len(trials), self.epoch), jax.tree.map(lambda leaf: leaf[lanes], states))


def split_into_packs(trials: int, lanes: int) -> list[np.ndarray]:
    """Split ``range(trials)`` into packs of ``lanes``; the last one repeats its last trial to fill up."""
    return [np.minimum(np.arange(first, first + lanes), trials - 1) for first in range(0, trials, lanes)]


def take_rows(tree: PyTree, index: np.ndarray | int) -> PyTree:
    """Select rows of a tree of NumPy arrays, in the dtypes that the device uses."""
    return jax.tree.map(lambda leaf: canonical(np.asarray(leaf)[index]), tree)


class GroupTraining:
    """Training of one group, pack by pack, driven by `jaxlab.engine.Training`.

    Args:
        programs: from `compile_group`.
        hyperparameters: pytree of NumPy arrays ``[trials]``.
        shared: the arrays that all trials share, from `place_shared`.
        rows: rows of ``hyperparameters`` to train, by default all.
        resident: number of idle packs whose states stay in device memory; the other packs move to host
            memory. By default as many as fit.
        reserve: bytes on each device to leave free for a call of another group.
    """

    def __init__(
        self,
        programs: Programs,
        hyperparameters: PyTree,
        shared: PyTree,
        rows: np.ndarray | None = None,
        resident: int | None = None,
        reserve: int = 0,
    ):
        self.programs, self.shared = programs, shared
        self._hyperparameters = hyperparameters if rows is None else take_rows(hyperparameters, rows)
        self.trials = len(jax.tree.leaves(self._hyperparameters)[0])
        self._resident, self._reserve = resident, reserve
        self._packs: list[_PackState] = []
        self._ended: list[Rows] = []
        self.begun = False

    @property
    def running(self) -> np.ndarray:
        """Indices of the trials that have not ended, ascending."""
        found = [pack.trials[pack.trials >= 0] for pack in self._packs]
        return np.sort(np.concatenate([np.zeros(0, int), *found]))

    @property
    def epoch(self) -> int | None:
        """The epoch that the slowest pack reached; None if no trial is running."""
        return min((pack.epoch for pack in self._packs), default=None)

    @property
    def packs(self) -> int:
        """Number of packs, hence of calls per segment."""
        return len(self._packs)

    def begin(self) -> Iterator[Call]:
        """Initialise all trials and record epoch 0."""
        packs = split_into_packs(self.trials, self.programs.pack.lanes)
        self._set_resident(len(packs))
        for lanes in packs:
            values = self._place_hyperparameters(lanes)
            new = self.programs.start(values, self.shared)
            states, record = self.programs.measure(values, new, self.shared)
            pack = _PackState(np.where(_is_original(lanes), lanes, -1), 0, values, states)
            self._packs.append(pack)
            self._park(pack)
            yield Call(pack.trials.copy(), np.zeros(1, np.int32), record)
        self.begun = True

    def snapshot(self) -> tuple[Rows, Rows]:
        """Copy the states of the running trials, and of those that ended without their last record yet."""
        running = [pack.rows(to_host(pack.states), pack.trials >= 0) for pack in self._packs]
        return concatenate(running), concatenate(self._ended)

    def restore(self, running: Rows, ended: Rows) -> None:
        """Resume from a `snapshot`, on any number of devices."""
        self._set_resident(-(-len(running.trials) // self.programs.pack.lanes))
        self._add_packs(running)
        rows, lanes = np.arange(len(ended.trials)), self.programs.pack.lanes
        self._ended = [ended.take(rows[first : first + lanes]) for first in range(0, len(rows), lanes)]
        self.begun = True

    def advance(self, epoch: int) -> Iterator[Call]:
        """Train the packs that are at ``epoch`` for one segment."""
        programs = self.programs
        now = np.array([epoch + 1], np.int32)
        placed = jax.device_put(now[0], programs.pack.replicated)
        for pack in self._packs:
            if pack.epoch == epoch:
                states = self._place_states(pack.states) if pack.on_host else pack.states
                pack.states, record = programs.segment(pack.values, states, self.shared, placed)
                pack.epoch = epoch + 1
                self._park(pack)
                yield Call(pack.trials.copy(), now, record)

    def end(self, trials: np.ndarray) -> None:
        """End some trials. If the others fit in fewer packs, repack them at the same width."""
        stops = [np.isin(pack.trials, trials) & (pack.trials >= 0) for pack in self._packs]
        left = len(self.running) - sum(int(np.sum(stop)) for stop in stops)
        fewer = -(-left // self.programs.pack.lanes) < len(self._packs)
        repack = fewer and len({pack.epoch for pack in self._packs}) == 1
        survivors = []
        for pack, stop in zip(self._packs, stops, strict=True):
            if repack or stop.any():
                states = to_host(pack.states)
                self._ended += [pack.rows(states, stop)] if stop.any() else []
                pack.trials[stop] = -1
                survivors.append(pack.rows(states, pack.trials >= 0))
        if repack:
            self._packs = []  # frees device memory first
            self._add_packs(concatenate(survivors))

    def finish(self, last: bool) -> Iterator[Call]:
        """Compute the last record of ended trials, in full packs only, or of all of them if ``last``."""
        lanes = self.programs.pack.lanes
        while self._ended and (last or sum(len(part.trials) for part in self._ended) >= lanes):
            now = self._take_ended(lanes)
            (filled,) = split_into_packs(len(now.trials), lanes)
            states = self._place_states(now.take(filled).states)
            values = self._place_hyperparameters(now.trials[filled])
            record = self.programs.finish(values, states, self.shared)
            trials = np.where(_is_original(filled), now.trials[filled], -1)
            yield Call(trials, now.epochs[filled], record, now)

    def _take_ended(self, lanes: int) -> Rows:
        """Remove and return up to ``lanes`` ended trials."""
        parts = []
        while lanes and self._ended:
            first = self._ended.pop(0)
            rows = np.arange(len(first.trials))
            parts.append(first.take(rows[:lanes]))
            if len(rows) > lanes:
                self._ended.insert(0, first.take(rows[lanes:]))
            lanes -= len(parts[-1].trials)
        return concatenate(parts)

    def _add_packs(self, these: Rows) -> None:
        """Put trials into packs, in order; all trials of a pack have reached the same epoch."""
        for epoch in np.unique(these.epochs):
            order = np.argsort(these.trials)
            order = order[these.epochs[order] == epoch]
            for filled in split_into_packs(len(order), self.programs.pack.lanes):
                part = these.take(order[filled])
                trials = np.where(_is_original(filled), part.trials, -1)
                values = self._place_hyperparameters(part.trials)
                pack = _PackState(trials, int(epoch), values, self._place_states(part.states))
                self._packs.append(pack)
                self._park(pack)

    def _place_hyperparameters(self, trials: np.ndarray) -> PyTree:
        return jax.device_put(take_rows(self._hyperparameters, trials), self.programs.pack.over_trials)

    def _place_states(self, states: PyTree) -> PyTree:
        return to_device(states, self.programs.lane, self.programs.pack.over_trials)

    def _set_resident(self, packs: int) -> None:
        if self._resident is None:
            self._resident = resident_packs(self.programs, packs, self._reserve)

    def _park(self, pack: _PackState) -> None:
        """Keep the states of a pack that becomes idle on the devices if they fit, else move them to the host."""
        if len(self._packs) <= self._resident:
            pack.on_host = False
            return
        staying = sum(not each.on_host for each in self._packs if each is not pack)
        pack.on_host = staying >= self._resident
        if pack.on_host:
            pack.states = to_host(pack.states)


def _is_original(lanes: np.ndarray) -> np.ndarray:
    """Mask of the lanes of a pack from `split_into_packs` that are not copies."""
    return lanes == lanes[0] + np.arange(len(lanes))


def resident_packs(programs: Programs, packs: int, reserve: int = 0) -> int:
    """Number of idle packs whose states fit in device memory; all of them if the device is the host.

    Each device keeps free the memory of the largest program, or ``reserve`` bytes if that is more.
    """
    devices = list(programs.pack.mesh.devices.flat)
    if devices[0].platform == "cpu" or not programs.state_bytes:
        return packs
    free = min(map(free_on_device, devices)) - max(programs.memory_bytes(), reserve)
    return packs if math.isinf(free) else int(min(packs, max(0, free // programs.state_bytes)))
