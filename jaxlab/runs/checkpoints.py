"""Train states of one stage on disk, and when to save them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlab.engine import NO_ROWS, Programs, Rows, flat, unflat
from jaxlab.errors import InputError
from jaxlab.store import States
from jaxlab.study.roster import Stage

Snapshot = Sequence[tuple[Rows, Rows]]
# By default a save is due this long after the last one, or longer, so that saving takes at most this share of the time.
_INTERVAL = 30.0
_SHARE = 0.01


class Saver:
    """Saves and restores the states of a stage; trials are known by their numbers, not by where they ran.

    Args:
        states: where, or None: then nothing is ever due.
        stage: whose.
        seconds: between two saves; None chooses.
    """

    def __init__(self, states: States | None, stage: Stage, seconds: float | None):
        self.states, self.stage, self.seconds = states, stage, seconds
        self.last, self.costs = time.perf_counter(), deque([0.0], maxlen=2)

    def due(self) -> bool:
        """Whether it is time."""
        if self.states is None:
            return False
        # The lesser of the last two: one that a file system held up says nothing of the next.
        interval = self.seconds if self.seconds is not None else max(_INTERVAL, min(self.costs) / _SHARE)
        return time.perf_counter() - self.last >= interval

    def save(self, snapshot: Snapshot, cost: float) -> None:
        """Begin to write; ``cost`` is the seconds that training has stood still for it so far."""
        began = time.perf_counter()
        arrays, note = {}, []
        for index, (numbers, parts) in enumerate(zip(self.stage.numbers, snapshot, strict=True)):
            entry = {}
            for name, rows in zip(("running", "ended"), parts, strict=True):
                arrays |= {f"{index}/{name}/{path}": leaf for path, leaf in flat(rows.states).items()}
                entry[name] = {"trials": numbers[rows.trials].tolist(), "epochs": rows.epochs.tolist()}
            note.append(entry)
        self.states.save(arrays, {"groups": note})
        self.last = time.perf_counter()
        self.costs.append(cost + self.last - began)

    def newest(self, programs: Sequence[Programs]) -> list[tuple[Rows, Rows]] | None:
        """What was saved last, or None.

        Raises:
            InputError: it is damaged, or of something else than these programs.
        """
        found = None if self.states is None else self.states.newest()
        if found is None:
            return None
        arrays, note = found
        try:
            return [
                tuple(self._rows(arrays, entry[name], f"{index}/{name}/", numbers, each) for name in entry)
                for index, (entry, numbers, each) in enumerate(
                    zip(note["groups"], self.stage.numbers, programs, strict=True)
                )
            ]
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                "states", self.stage.name, f"are not of this run ({error!r}): remove them"
            ) from error

    def _rows(self, arrays: Any, entry: Any, prefix: str, numbers: np.ndarray, programs: Programs) -> Rows:
        if not entry["trials"]:
            return NO_ROWS
        own = {path.removeprefix(prefix): leaf for path, leaf in arrays.items() if path.startswith(prefix)}
        trials, epochs = (np.asarray(entry[name], int) for name in ("trials", "epochs"))
        missing = set(trials.tolist()) - set(numbers.tolist())
        if missing or len(set(trials.tolist())) < len(trials):
            raise KeyError(missing or entry["trials"])
        if epochs.shape != trials.shape or any(leaf.shape[:1] != trials.shape for leaf in own.values()):
            raise ValueError(f"not one row for each of {len(trials)} trials")
        return Rows(np.searchsorted(numbers, trials), epochs, unflat(own, programs.lane))

    def wait(self) -> None:
        """Until everything is on disk."""
        if self.states is not None:
            self.states.wait()
