"""The records of a run so far, from this process and earlier ones, and what is missing for each trial."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np

from jaxlab.engine import EndRecord, EpochRecord
from jaxlab.errors import InputError
from jaxlab.store import Records, RecordWriter, Rung, check_epochs

_NEVER = np.iinfo(np.int64).max


class Recorder:
    """Keeps records in memory, and on disk once there is a ``writer``; trials are given by their numbers.

    Args:
        trials: number of trials.
        epochs: planned number of epochs.
        earlier: records of earlier processes.

    Attributes:
        records: all records so far.
        writer: writes the records from now on to a folder; None keeps them in memory only.
    """

    def __init__(self, trials: int, epochs: int, earlier: Records):
        self.trials, self.epochs = trials, epochs
        self.writer: RecordWriter | None = None
        check_epochs(trials, epochs, trials * (epochs + 1))
        self._begin(earlier)

    def _begin(self, earlier: Records) -> None:
        self.records = Records()
        self._recorded = np.zeros((self.trials, self.epochs + 1), bool)
        self._ended = np.full(self.trials, -1)
        self._stopped_at = np.full(self.trials, _NEVER)
        self._rungs: dict[tuple[str, int], Rung] = {}
        for group, record in (*earlier.epochs, *earlier.ends):
            self.add(group, record)
        for rung in earlier.rungs:
            self.stop(rung)

    def add(self, group: int, record: EpochRecord | EndRecord) -> None:
        """Add what one call recorded."""
        self.records.add(group, record)
        if isinstance(record, EndRecord):
            self._ended[record.trials] = np.maximum(self._ended[record.trials], record.epochs)
        else:
            self._recorded[np.ix_(record.trials, record.epochs)] = True
        if self.writer is not None:
            self.writer.add(group, record)

    def stop(self, rung: Rung) -> None:
        """Add the trials that stopped at a rung."""
        self.records.rungs.append(rung)
        self._rungs[rung.stage, rung.epoch] = rung
        self._stopped_at[list(rung.stops)] = rung.epoch
        if self.writer is not None:
            self.writer.stop(rung)

    def discard(self, after: Mapping[int, int]) -> None:
        """`Records.discard`, in memory and on disk."""
        self.records.discard(after)
        writer, self.writer = self.writer, None  # the records that remain are written already
        self._begin(self.records)
        self.writer = writer
        if writer is not None:
            writer.discard(after)

    @property
    def stopped(self) -> list[int]:
        """Numbers of the trials that a rule stopped."""
        return np.flatnonzero(self._stopped_at < _NEVER).tolist()

    def rung(self, stage: str, epoch: int) -> Rung | None:
        """The recorded decision at a rung; None if no trial stopped there."""
        return self._rungs.get((stage, epoch))

    def running(self, numbers: np.ndarray, epoch: int) -> np.ndarray:
        """A mask of the given trials that did not stop before an epoch."""
        return self._stopped_at[numbers] >= epoch

    def finished(self, numbers: np.ndarray) -> bool:
        """Whether all given trials have ended with every epoch recorded."""
        last = np.minimum(self._stopped_at[numbers], self.epochs)
        return bool(np.all(self._ended[numbers] >= last)) and self.missing(numbers, last) is None

    def ended(self, numbers: np.ndarray) -> np.ndarray:
        """The epoch of each trial's `EndRecord`, −1 for none."""
        return self._ended[numbers]

    def missing(self, numbers: np.ndarray, epochs: np.ndarray) -> tuple[int, int] | None:
        """The first trial and epoch without a record, of trials up to an epoch for each; None if none is missing."""
        recorded = self._recorded[numbers]
        first = np.where(recorded.all(axis=1), self.epochs + 1, recorded.argmin(axis=1))
        rows = np.flatnonzero(first <= epochs)
        return (int(numbers[rows[0]]), int(first[rows[0]])) if len(rows) else None

    @contextlib.contextmanager
    def flushing(self) -> Iterator[None]:
        """Write pending records when the context ends, even after an error."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(InputError):  # the first error matters
                self.flush()
            raise
        self.flush()

    def flush(self) -> None:
        """Write pending records."""
        if self.writer is not None:
            self.writer.flush()

    def flush_if_cheap(self) -> None:
        """Write pending records, unless that takes too much of the time."""
        if self.writer is not None:
            self.writer.flush_if_cheap()
