"""What a run has recorded so far, by this process and earlier ones: pieces, stops, and who is finished."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from jaxlab.engine import Piece
from jaxlab.errors import InputError
from jaxlab.store import Log, Recorded, Rung, check_epochs

_NEVER = np.iinfo(np.int64).max


class Ledger:
    """Trials by their numbers.

    Args:
        trials: how many the run has.
        epochs: of each.
        earlier: what earlier processes recorded.
    """

    def __init__(self, trials: int, epochs: int, earlier: Recorded):
        self.trials, self.epochs = trials, epochs
        self.log: Log | None = None
        check_epochs(trials, epochs, trials * (epochs + 1))
        self._begin(earlier)

    def _begin(self, earlier: Recorded) -> None:
        self.recorded = Recorded([], [])
        self._covered = np.zeros((self.trials, self.epochs + 1), bool)
        self._ended = np.full(self.trials, -1)
        self._stopped_at = np.full(self.trials, _NEVER)
        self._rungs: dict[tuple[str, int], Rung] = {}
        for group, piece in earlier.pieces:
            self._add(group, piece)
        for rung in earlier.rungs:
            self._stop(rung)

    def forget(self, numbers: np.ndarray, epochs: np.ndarray) -> None:
        """What some trials recorded after some epochs, one for each of them, counts no more, here and on disk."""
        earlier = self.recorded
        earlier.forget(numbers, epochs)
        self._begin(earlier)
        if self.log is not None:
            self.log.forget(numbers, epochs)

    def add(self, group: int, piece: Piece) -> None:
        """What one call recorded."""
        self._add(group, piece)
        if self.log is not None:
            self.log.add(group, piece)

    def stop(self, rung: Rung) -> None:
        """Who stopped at a rung."""
        self._stop(rung)
        if self.log is not None:
            self.log.stop(rung)

    @property
    def stopped(self) -> np.ndarray:
        """Numbers of the trials that a rule stopped."""
        return np.flatnonzero(self._stopped_at < _NEVER)

    def rung(self, stage: str, epoch: int) -> Rung | None:
        """What was decided there earlier, if anybody stopped."""
        return self._rungs.get((stage, epoch))

    def running(self, numbers: np.ndarray, epoch: int) -> np.ndarray:
        """Which of some trials have not stopped before an epoch."""
        return self._stopped_at[numbers] >= epoch

    def finished(self, numbers: np.ndarray) -> bool:
        """Whether all of some trials have their last record, and every one before."""
        last = np.minimum(self._stopped_at[numbers], self.epochs)
        return bool(np.all(self._ended[numbers] >= last)) and self.missing(numbers, last) is None

    def came_to(self, numbers: np.ndarray) -> np.ndarray:
        """The epoch of each trial's last record, −1 for none."""
        return self._ended[numbers]

    def without_last_record(self, numbers: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Which of some trials, that ended after these epochs, lack their last record."""
        return self._ended[numbers] < epochs

    def missing(self, numbers: np.ndarray, epochs: np.ndarray) -> tuple[int, int] | None:
        """The first trial and epoch that is not recorded, though the trial has come to the epoch given with it."""
        covered = self._covered[numbers]
        first = np.where(covered.all(axis=1), self.epochs + 1, covered.argmin(axis=1))
        rows = np.flatnonzero(first <= epochs)
        return (int(numbers[rows[0]]), int(first[rows[0]])) if len(rows) else None

    @contextlib.contextmanager
    def flushing(self) -> Iterator[None]:
        """Whatever happens, what was recorded is written."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(InputError):  # the first error says what is wrong
                self.flush()
            raise
        self.flush()

    def flush(self) -> None:
        """Write what was recorded."""
        if self.log is not None:
            self.log.flush()

    def settle(self) -> None:
        """Write what was recorded, unless that would take too much of the time."""
        if self.log is not None:
            self.log.settle()

    def _add(self, group: int, piece: Piece) -> None:
        self.recorded.add(group, piece)
        if piece.final:
            self._ended[piece.trials] = np.maximum(self._ended[piece.trials], piece.epochs)
        else:
            self._covered[np.ix_(piece.trials, piece.epochs)] = True

    def _stop(self, rung: Rung) -> None:
        self.recorded.rungs.append(rung)
        self._rungs[rung.stage, rung.epoch] = rung
        self._stopped_at[list(rung.stops)] = rung.epoch
