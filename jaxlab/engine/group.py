"""The trials of one group on their way: packs of lanes, the trials that ended, and repacking."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab.engine.host import Rows, joined, to_device, to_host
from jaxlab.engine.memory import room
from jaxlab.engine.programs import Programs
from jaxlab.engine.traced import on_device


class Call(NamedTuple):
    """A call of a program that is under way.

    Attributes:
        trials: indices within the group, −1 for a lane whose record nobody needs, ``[lanes]``.
        epochs: recorded by each trial, ``[E]``; or, if ``ended``, the one after which each trial ended, ``[lanes]``.
        record: on the devices.
        ended: the states of trials that are over, whose last record this is; else None.
    """

    trials: np.ndarray
    epochs: np.ndarray
    record: dict[str, jax.Array]
    ended: Rows | None = None


class _Packed:
    """A pack that is waiting or running: ``trials`` by lane (−1: none), the epoch it has reached, its states."""

    def __init__(self, trials: np.ndarray, epoch: int, values: Any, states: Any):
        self.trials, self.epoch, self.values, self.states = trials, epoch, values, states
        self.on_host = False

    def rows(self, states: Any, lanes: np.ndarray) -> Rows:
        """Copies of some lanes, a mask, of the pack's ``states`` on the host."""
        trials = self.trials[lanes]
        return Rows(trials, np.full(len(trials), self.epoch), jax.tree.map(lambda leaf: leaf[lanes], states))


def packs_of(trials: int, lanes: int) -> list[np.ndarray]:
    """Split ``range(trials)`` into packs of ``lanes``; the last is filled up by repeating its last trial."""
    return [np.minimum(np.arange(first, first + lanes), trials - 1) for first in range(0, trials, lanes)]


def rows(tree: Any, index: np.ndarray | int) -> Any:
    """Rows of a tree of NumPy arrays, in the dtypes that the device uses."""
    return jax.tree.map(lambda leaf: on_device(np.asarray(leaf)[index]), tree)


class GroupTraining:
    """What one group's programs do to its trials, pack after pack; `jaxlab.engine.Training` says when.

    Args:
        programs: from `compile_group`.
        hyperparameters: pytree of NumPy arrays ``[trials]``.
        shared: the arrays that all trials see, from `placed`.
        resident: packs whose states stay on the devices between their turns; the others wait in host memory. By
            default as many as there is room for.
        reserve: bytes on each device that a call of another group may need.
    """

    def __init__(
        self,
        programs: Programs,
        hyperparameters: Any,
        shared: Any,
        resident: int | None = None,
        reserve: int = 0,
    ):
        self.programs, self.hyperparameters, self.shared = programs, hyperparameters, shared
        self.trials = len(jax.tree.leaves(hyperparameters)[0])
        self._resident, self._reserve = resident, reserve
        self._packs: list[_Packed] = []
        self._ended: list[Rows] = []
        self.begun = False

    @property
    def running(self) -> np.ndarray:
        """Indices of the trials that have not ended, ascending."""
        found = [pack.trials[pack.trials >= 0] for pack in self._packs]
        return np.sort(np.concatenate([np.zeros(0, int), *found]))

    @property
    def epoch(self) -> int | None:
        """The epoch that the slowest pack has reached; None where nobody runs."""
        return min((pack.epoch for pack in self._packs), default=None)

    @property
    def packs(self) -> int:
        """Calls that one more segment takes."""
        return len(self._packs)

    def begin(self) -> Iterator[Call]:
        """Initial states, and the record of epoch 0."""
        packs = packs_of(self.trials, self.programs.pack.lanes)
        self._make_room(len(packs))
        for lanes in packs:
            values = self._values(lanes)
            states, record = self.programs.measure(
                values, self.programs.start(values, self.shared), self.shared
            )
            pack = _Packed(np.where(_own(lanes), lanes, -1), 0, values, states)
            self._packs.append(pack)
            self._let_wait(pack)
            yield Call(pack.trials.copy(), np.zeros(1, np.int32), record)
        self.begun = True

    def snapshot(self) -> tuple[Rows, Rows]:
        """Copies of what the trials that run, and those that ended but lack their last record, have come to."""
        running = [pack.rows(to_host(pack.states), pack.trials >= 0) for pack in self._packs]
        return joined(running), joined(self._ended)

    def restore(self, running: Rows, ended: Rows) -> None:
        """Go on from a `snapshot`, on any number of devices."""
        self._make_room(-(-len(running.trials) // self.programs.pack.lanes))
        self._pack(running)
        every, lanes = np.arange(len(ended.trials)), self.programs.pack.lanes
        self._ended = [ended.take(every[first : first + lanes]) for first in range(0, len(every), lanes)]
        self.begun = True

    def advance(self, epoch: int) -> Iterator[Call]:
        """Train the packs that are at ``epoch`` one segment further."""
        programs = self.programs
        now = np.arange(epoch + 1, epoch + 1 + programs.segment_epochs, dtype=np.int32)
        there = jax.device_put(now, programs.pack.replicated)
        for pack in self._packs:
            if pack.epoch == epoch:
                states = self._placed(pack.states) if pack.on_host else pack.states
                pack.states, record = programs.segment(pack.values, states, self.shared, there)
                pack.epoch = int(now[-1])
                self._let_wait(pack)
                yield Call(pack.trials.copy(), now, record)

    def end(self, trials: np.ndarray) -> None:
        """These trials go no further; where the others need fewer packs, they are packed anew at the same width."""
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
            self._packs = []  # frees the devices' memory first
            self._pack(joined(survivors))

    def finish(self, last: bool) -> Iterator[Call]:
        """The last record of trials that ended, by full packs; of all of them if this is the ``last`` occasion."""
        lanes = self.programs.pack.lanes
        while self._ended and (last or sum(len(part.trials) for part in self._ended) >= lanes):
            now = self._next_ended(lanes)
            (filled,) = packs_of(len(now.trials), lanes)
            states = self._placed(now.take(filled).states)
            record = self.programs.finish(self._values(now.trials[filled]), states, self.shared)
            yield Call(np.where(_own(filled), now.trials[filled], -1), now.epochs[filled], record, now)

    def _next_ended(self, lanes: int) -> Rows:
        """The first so many trials that wait for their last record, or all there are; they wait no longer."""
        parts = []
        while lanes and self._ended:
            first = self._ended.pop(0)
            everyone = np.arange(len(first.trials))
            parts.append(first.take(everyone[:lanes]))
            if len(everyone) > lanes:
                self._ended.insert(0, first.take(everyone[lanes:]))
            lanes -= len(parts[-1].trials)
        return joined(parts)

    def _pack(self, these: Rows) -> None:
        """Add packs of these trials, those of one epoch together, in order."""
        for epoch in np.unique(these.epochs):
            order = np.argsort(these.trials)
            order = order[these.epochs[order] == epoch]
            for filled in packs_of(len(order), self.programs.pack.lanes):
                part = these.take(order[filled])
                trials = np.where(_own(filled), part.trials, -1)
                pack = _Packed(trials, int(epoch), self._values(part.trials), self._placed(part.states))
                self._packs.append(pack)
                self._let_wait(pack)

    def _values(self, trials: np.ndarray) -> Any:
        return jax.device_put(rows(self.hyperparameters, trials), self.programs.pack.over_trials)

    def _placed(self, states: Any) -> Any:
        return to_device(states, self.programs.lane, self.programs.pack.over_trials)

    def _make_room(self, packs: int) -> None:
        if self._resident is None:
            self._resident = resident_packs(self.programs, packs, self._reserve)

    def _let_wait(self, pack: _Packed) -> None:
        """A pack's turn is over: its states stay on the devices if there is room, or go to the host."""
        if len(self._packs) <= self._resident:
            pack.on_host = False
            return
        staying = sum(not each.on_host for each in self._packs if each is not pack)
        pack.on_host = staying >= self._resident
        if pack.on_host:
            pack.states = to_host(pack.states)


def _own(lanes: np.ndarray) -> np.ndarray:
    """Which lanes of a pack from `packs_of` are no copies."""
    return lanes == lanes[0] + np.arange(len(lanes))


def resident_packs(programs: Programs, packs: int, reserve: int = 0) -> int:
    """How many packs' states may stay on the devices between their turns; all of them where that is host memory.

    Room is left on each device for the largest of the programs, and for ``reserve`` bytes if that is more.
    """
    devices = list(programs.pack.mesh.devices.flat)
    if devices[0].platform == "cpu" or not programs.state_bytes:
        return packs
    free = min(map(room, devices)) - max(programs.memory_bytes(), reserve)
    return packs if math.isinf(free) else int(min(packs, max(0, free // programs.state_bytes)))
