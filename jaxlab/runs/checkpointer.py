"""Checkpoints of one stage: when to save, what to save, and how to restore."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlab.engine import NO_ROWS, Programs, Rows, flatten, unflatten
from jaxlab.errors import InputError
from jaxlab.runs.numbering import Stage
from jaxlab.store import Checkpoints

#: For each group: the running trials, and those that ended but do not have their `EndRecord` yet.
Snapshot = Sequence[tuple[Rows, Rows]]
_PARTS = ("running", "ended")
# By default, checkpoints are at least this many seconds apart, and take at most this share of the time.
_INTERVAL = 30.0
_SHARE = 0.01


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
        arrays, note = {}, []
        for index, (numbers, parts) in enumerate(zip(self.stage.numbers, snapshot, strict=True)):
            entry = {}
            for name, rows in zip(_PARTS, parts, strict=True):
                arrays |= {f"{index}/{name}/{path}": leaf for path, leaf in flatten(rows.states).items()}
                entry[name] = {"trials": numbers[rows.trials].tolist(), "epochs": rows.epochs.tolist()}
            note.append(entry)
        self.checkpoints.save(arrays, note)
        self.last = time.perf_counter()
        self.costs.append(cost + self.last - began)

    def newest(self, programs: Sequence[Programs]) -> Snapshot | None:
        """Read the newest checkpoint; None if there is none.

        Raises:
            InputError: it is damaged, or does not fit these programs.
        """
        found = None if self.checkpoints is None else self.checkpoints.newest()
        if found is None:
            return None
        arrays, note = found
        try:
            return [
                tuple(self._rows(arrays, entry[name], f"{index}/{name}/", numbers, each) for name in _PARTS)
                for index, (entry, numbers, each) in enumerate(
                    zip(note, self.stage.numbers, programs, strict=True)
                )
            ]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            remedy = f"do not belong to this run ({error!r}): remove this folder"
            raise InputError("checkpoints", str(self.checkpoints.folder), remedy) from error

    def _rows(
        self,
        arrays: Mapping[str, np.ndarray],
        entry: Any,
        prefix: str,
        numbers: np.ndarray,
        programs: Programs,
    ) -> Rows:
        if not entry["trials"]:
            return NO_ROWS
        own = {path.removeprefix(prefix): leaf for path, leaf in arrays.items() if path.startswith(prefix)}
        trials, epochs = (np.asarray(entry[name], int) for name in ("trials", "epochs"))
        missing = set(trials.tolist()) - set(numbers.tolist())
        if missing or len(set(trials.tolist())) < len(trials):
            raise KeyError(missing or entry["trials"])
        if epochs.shape != trials.shape or any(leaf.shape[:1] != trials.shape for leaf in own.values()):
            raise ValueError(f"the number of rows is not that of the {len(trials)} trials")
        return Rows(np.searchsorted(numbers, trials), epochs, unflatten(own, programs.lane))

    def wait(self) -> None:
        """Block until everything is on disk."""
        if self.checkpoints is not None:
            self.checkpoints.wait()
