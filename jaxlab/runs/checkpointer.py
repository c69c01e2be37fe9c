"""Checkpoints of one stage: when to save, what to save, and how to restore."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxlab.engine import NO_ROWS, Programs, Rows, flatten, unflatten
from jaxlab.errors import InputError
from jaxlab.runs.numbering import Stage
from jaxlab.store import Arrays, Checkpoints, with_prefix

#: For each group: the running trials, and those that ended but do not have their `EndRecord` yet.
Snapshot = Sequence[tuple[Rows, Rows]]
_PARTS = ("running", "ended")
# By default, checkpoints are at least this many seconds apart, and take at most this share of the time.
_INTERVAL = 30.0
_SHARE = 0.01


class _Trials(NamedTuple):
    """The trials of one part of a checkpoint, by number, and the epochs that they reached."""

    trials: list[int]
    epochs: list[int]


@dataclass(frozen=True)
class _Note:
    """The note of a checkpoint: for each group, the trials of its two `_PARTS`."""

    groups: list[tuple[_Trials, _Trials]]


class Checkpointer:
    """Saves and restores the train states of a stage, by the trials' numbers, independently of lanes and devices.

    Args:
        checkpoints: folder of the checkpoints; None disables them.
        stage: the stage.
        seconds: seconds between two checkpoints; None chooses automatically.
    """

    def __init__(self, checkpoints: Checkpoints | None, stage: Stage, seconds: float | None):
        self.checkpoints, self.stage, self.seconds = checkpoints, stage, seconds
        self.last, self.costs = time.perf_counter(), deque([0.0], maxlen=2)

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        if self.checkpoints is None:
            return False
        # The smaller cost of the last two: a single slow write says little about the next.
        interval = self.seconds if self.seconds is not None else max(_INTERVAL, min(self.costs) / _SHARE)
        return time.perf_counter() - self.last >= interval

    def save(self, snapshot: Snapshot, cost: float) -> None:
        """Start writing a checkpoint, for which training has already paused ``cost`` seconds."""
        began = time.perf_counter()
        arrays, groups = {}, []
        for index, (numbers, parts) in enumerate(zip(self.stage.numbers, snapshot, strict=True)):
            for name, rows in zip(_PARTS, parts, strict=True):
                arrays |= {f"{index}/{name}/{path}": leaf for path, leaf in flatten(rows.states).items()}
            groups.append([_Trials(numbers[rows.trials].tolist(), rows.epochs.tolist()) for rows in parts])
        self.checkpoints.save(arrays, {"groups": groups})
        self.last = time.perf_counter()
        self.costs.append(cost + self.last - began)

    def newest(self, programs: Sequence[Programs]) -> Snapshot | None:
        """Read the newest checkpoint; None if there is none.

        Raises:
            InputError: it is damaged, or does not fit these programs.
        """
        found = None if self.checkpoints is None else self.checkpoints.newest(_Note)
        if found is None:
            return None
        arrays, note = found
        snapshot = []
        try:
            for index, (both, numbers, each) in enumerate(
                zip(note.groups, self.stage.numbers, programs, strict=True)
            ):
                parts = [with_prefix(arrays, f"{index}/{name}/") for name in _PARTS]
                running, ended = (_rows(*part, numbers, each) for part in zip(parts, both, strict=True))
                snapshot.append((running, ended))
        except InputError:
            raise
        except (ValueError, OverflowError) as error:
            remedy = f"do not belong to this run ({error}): remove this folder"
            raise InputError("checkpoints", str(self.checkpoints.folder), remedy) from error
        return snapshot

    def wait(self) -> None:
        """Block until everything is on disk."""
        if self.checkpoints is not None:
            self.checkpoints.wait()


def _rows(arrays: Arrays, saved: _Trials, numbers: np.ndarray, programs: Programs) -> Rows:
    """The saved trials of a group, by their rows among its ``numbers``."""
    if not saved.trials:
        return NO_ROWS
    trials, epochs = np.asarray(saved.trials, int), np.asarray(saved.epochs, int)
    if not np.isin(trials, numbers).all() or len(set(saved.trials)) < len(trials):
        raise ValueError(f"trials {saved.trials}")
    if epochs.shape != trials.shape or any(leaf.shape[:1] != trials.shape for leaf in arrays.values()):
        raise ValueError(f"the number of rows is not that of the {len(trials)} trials")
    return Rows(np.searchsorted(numbers, trials), epochs, unflatten(arrays, programs.lane))
