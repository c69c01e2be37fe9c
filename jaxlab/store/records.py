"""The records of a run, in memory and as immutable files."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlab.engine import EndRecord, EpochRecord
from jaxlab.errors import InputError
from jaxlab.pruning import Stop
from jaxlab.store.arrays import Arrays, read_arrays, stem_of, with_prefix, write_arrays
from jaxlab.store.description import Description
from jaxlab.store.disk import disk_errors
from jaxlab.store.lock import trained_by_another

# Writing takes at most this share of the time, so that short segments share a file; no record waits longer, in seconds.
_SHARE = 0.01
_LONGEST_WAIT = 10.0
_STEM = re.compile(r"r\d{8}")


class Rung(NamedTuple):
    """The trials that stopped at one rung.

    Attributes:
        stage: name of the stage.
        epoch: epoch that all running trials of the stage had reached.
        stops: stops by the trial's number.
    """

    stage: str
    epoch: int
    stops: Mapping[int, Stop]


@dataclass
class Records:
    """All records of a run, with trials by number; of two records of the same values, the later one counts.

    Attributes:
        epochs: ``(group, record)`` for training.
        ends: ``(group, record)`` for trials that ended.
        rungs: the rungs at which trials stopped.
    """

    epochs: list[tuple[int, EpochRecord]] = field(default_factory=list)
    ends: list[tuple[int, EndRecord]] = field(default_factory=list)
    rungs: list[Rung] = field(default_factory=list)

    def add(self, group: int, record: EpochRecord | EndRecord) -> None:
        """Add what one call recorded."""
        if isinstance(record, EndRecord):
            self.ends.append((group, record._replace(states=None)))
        else:
            self.epochs.append((group, record))

    def extend(self, other: "Records") -> None:
        """Append all records of another instance."""
        self.epochs += other.epochs
        self.ends += other.ends
        self.rungs += other.rungs

    def discard(self, after: Mapping[int, int]) -> None:
        """Discard the records and stops of the given trials after an epoch.

        Args:
            after: the last epoch that is kept, by the trial's number; −1 discards everything of a trial.
        """
        if not after:
            return

        def last(trials: np.ndarray) -> np.ndarray:
            return np.array([after.get(trial, np.inf) for trial in trials.tolist()])

        ends = [(group, each.rows(each.epochs <= last(each.trials))) for group, each in self.ends]
        self.ends = [(group, each) for group, each in ends if len(each.trials)]
        epochs = []
        for group, each in self.epochs:
            if after.keys().isdisjoint(each.trials.tolist()):
                epochs.append((group, each))
                continue
            limits = last(each.trials)
            for limit in np.unique(limits):
                part = each.rows(limits == limit).at(each.epochs <= limit)
                epochs += [(group, part)] if len(part.epochs) else []
        self.epochs = epochs
        kept = []
        for rung in self.rungs:
            stops = {n: stop for n, stop in rung.stops.items() if rung.epoch <= after.get(n, rung.epoch)}
            kept += [rung._replace(stops=stops)] if stops or not rung.stops else []
        self.rungs = kept

    def __bool__(self) -> bool:
        return bool(self.epochs or self.ends or self.rungs)


class RecordWriter:
    """Writer of the record files of a folder, of which only one process may use one.

    Added records are on disk after the next `flush`. `flush_if_cheap` flushes unless that takes too much of the time.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._pending = Records()
        self._next = 1 + max((int(path.name[1:9]) for path in _files(folder)), default=-1)
        self._flushed, self._cost = -np.inf, 0.0

    def add(self, group: int, record: EpochRecord | EndRecord) -> None:
        """Add what one call recorded."""
        self._pending.add(group, record)

    def stop(self, rung: Rung) -> None:
        """Add the trials that stopped at a rung."""
        self._pending.rungs.append(rung)

    def discard(self, after: Mapping[int, int]) -> None:
        """Write a discard of earlier records to disk at once, see `Records.discard`."""
        self.flush()
        self._write(Records(), dict(after))

    def flush_if_cheap(self) -> None:
        """Flush, unless the last flush was so recent that training would slow down."""
        if time.perf_counter() - self._flushed >= min(self._cost / _SHARE, _LONGEST_WAIT):
            self.flush()

    def flush(self) -> None:
        """Write all pending records as one file."""
        if not self._pending:
            return
        began = time.perf_counter()
        self._write(self._pending, {})
        self._pending = Records()
        self._flushed = time.perf_counter()
        self._cost = self._flushed - began

    def _write(self, records: Records, discard: dict[int, int]) -> None:
        arrays, note = _encoded(records)
        with disk_errors(self.folder):
            write_arrays(self.folder, f"r{self._next:08d}", arrays, note | {"discard": list(discard.items())})
        self._next += 1


def read_records(
    folder: Path,
    description: Description | None = None,
    on_damage: Callable[[InputError], None] | None = None,
) -> Records:
    """Read all record files of a folder, in the order in which they were written.

    Args:
        folder: folder of the files.
        description: description of the run; a file that does not match it is damaged.
        on_damage: called with the error of each damaged file, which is skipped; by default the error is raised.
    """
    found = Records()
    shape = None if description is None else _Expected(description)
    remedy = f"remove it and {folder.parent / 'checkpoints'}, and the run trains it again"
    if other := trained_by_another(folder.parent):
        remedy = f"once no process trains the run{other}, {remedy}"
    for path in _files(folder):
        try:
            records, after = _read(path, shape, remedy)
        except InputError as error:
            if on_damage is None:
                raise
            on_damage(error)
        else:
            found.discard(after)
            found.extend(records)
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("r*") if _STEM.fullmatch(stem_of(path) or ""))


@dataclass(frozen=True)
class _Note:
    """The note of a record file: the groups of its arrays ``epochs/0``, ``epochs/1``, … and ``ends/0``, …

    Attributes:
        epochs, ends: the group of each array.
        rungs: stage, epoch and stops of each rung.
        discard: the last epoch that earlier files keep, by trial; see `Records.discard`.
    """

    epochs: list[int]
    ends: list[int]
    rungs: list[tuple[str, int, list[tuple[int, Stop]]]]
    discard: list[tuple[int, int]]


def _encoded(records: Records) -> tuple[Arrays, dict[str, Any]]:
    """Encode records as arrays and a note that describes them.

    Records of the same group and epochs are concatenated: few large arrays are written faster than many small ones.
    """
    epochs: dict[tuple, list[EpochRecord]] = {}
    for group, record in records.epochs:
        epochs.setdefault((group, *record.epochs.tolist()), []).append(record)
    ends: dict[tuple, list[EndRecord]] = {}
    for group, record in records.ends:
        ends.setdefault((group,), []).append(record)
    arrays: Arrays = {}
    note: dict[str, Any] = {
        "rungs": [[rung.stage, rung.epoch, list(rung.stops.items())] for rung in records.rungs]
    }
    for kind, together in (("epochs", epochs), ("ends", ends)):
        note[kind] = [key[0] for key in together]
        for index, parts in enumerate(together.values()):
            prefix = f"{kind}/{index}"
            arrays[f"{prefix}/trials"] = np.concatenate([part.trials for part in parts])
            arrays[f"{prefix}/epochs"] = (
                parts[0].epochs if kind == "epochs" else np.concatenate([part.epochs for part in parts])
            )
            for name in parts[0].values:
                arrays[f"{prefix}/values/{name}"] = np.concatenate([part.values[name] for part in parts])
    return arrays, note


def _read(path: Path, shape: "_Expected | None", remedy: str) -> tuple[Records, dict[int, int]]:
    """Read one file: its records, and its discard of records in earlier files."""
    arrays, note = read_arrays(path, remedy, note=_Note)
    try:
        records = Records(rungs=[Rung(stage, epoch, dict(stops)) for stage, epoch, stops in note.rungs])
        for kind, of, target in (("epochs", EpochRecord, records.epochs), ("ends", EndRecord, records.ends)):
            for index, group in enumerate(getattr(note, kind)):
                its = with_prefix(arrays, f"{kind}/{index}/")
                record = of(its["trials"], its["epochs"], with_prefix(its, "values/"))
                target.append((group, _checked(record)))
        if shape is not None:
            shape.check(records)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            "record file", str(path), f"is not a record file of this run ({error!r}); {remedy}"
        ) from error
    return records, dict(note.discard)


def _checked(record: EpochRecord | EndRecord) -> EpochRecord | EndRecord:
    """Return the record, or raise ValueError unless its arrays have valid dtypes and shapes."""
    trials, epochs, at_end = record.trials, record.epochs, isinstance(record, EndRecord)
    lead = (len(trials),) if at_end else (len(trials), len(epochs))
    whole = all(each.ndim == 1 and each.dtype.kind in "iu" for each in (trials, epochs))
    if not whole or len(epochs) != (len(trials) if at_end else len(epochs) or -1):
        raise ValueError(f"trials {trials}, epochs {epochs}")
    for name, values in record.values.items():
        if values.shape[: len(lead)] != lead or values.dtype.kind not in "biufcV":
            raise ValueError(f"{name} is {values.dtype} {list(values.shape)}")
    return record


class _Expected:
    """The trials, epochs and axes of a run, against which records are checked."""

    def __init__(self, description: Description):
        self.trials, self.epochs = len(description.trial_ids), description.epochs
        self.groups = description.groups
        self.dims = {name: label.dims for group in self.groups for name, label in group.variables.items()}
        self.labelled = {dim for group in self.groups for dim in group.coordinates}
        self.group_of = np.empty(self.trials, int)
        for index, group in enumerate(self.groups):
            self.group_of[group.trials] = index

    def check(self, records: Records) -> None:
        """Raise ValueError unless the records can belong to the run."""
        for group, record in (*records.epochs, *records.ends):
            if not self._fits(group, record):
                raise ValueError(f"group {group}, trials {record.trials}, epochs {record.epochs}")
        for rung in records.rungs:
            known = all(0 <= trial < self.trials for trial in rung.stops)
            if not known or not 0 <= rung.epoch <= self.epochs:
                raise ValueError(f"stops {rung.stops} at epoch {rung.epoch}")

    def _fits(self, group: int, record: EpochRecord | EndRecord) -> bool:
        inside = _within(record.trials, self.trials - 1) and _within(record.epochs, self.epochs)
        if not inside or not 0 <= group < len(self.groups) or np.any(self.group_of[record.trials] != group):
            return False
        names, lead = self.groups[group].coordinates, 1 if isinstance(record, EndRecord) else 2
        for name, values in record.values.items():
            further = values.shape[lead:]
            dims = self.dims.get(name, ("",) * len(further))
            if len(further) != len(dims) or any(
                dim in self.labelled and extent != len(names.get(dim, ()))
                for dim, extent in zip(dims, further, strict=True)
            ):
                return False
        return True


def _within(numbers: np.ndarray, most: int) -> bool:
    return not len(numbers) or bool(numbers.min() >= 0 and numbers.max() <= most)
