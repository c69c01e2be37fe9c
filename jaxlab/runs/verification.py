"""Verification: training some trials of a finished run again and comparing them bit by bit."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxlab.engine import EpochRecord, GroupTraining, Programs, Training, place_shared
from jaxlab.runs.changes import code_changes, environment_changes, program_changes
from jaxlab.runs.compiling import compile_for
from jaxlab.runs.describe import environment
from jaxlab.runs.execution import Options
from jaxlab.runs.job import Job
from jaxlab.runs.numbering import Numbering, number_trials
from jaxlab.runs.progress import Counter
from jaxlab.store import Description, Records, RunFolder, read_records

_END = 10**9  # placeholder for the end of training, later than every epoch


class Verdict(NamedTuple):
    """The verdict on one trial that was trained again.

    Attributes:
        trial: number of the trial in the run.
        trial_id: id of its setting.
        differs: differences, such as ``"variable at epoch 3"``, in order of epochs; empty if all bits are equal.
    """

    trial: int
    trial_id: str
    differs: tuple[str, ...]


class Verification(NamedTuple):
    """The result of `verify`.

    Attributes:
        trials: verdicts on the trials that were trained again.
        changes: changes since or during the run (versions, device, number of devices, processor, code), in words.
    """

    trials: tuple[Verdict, ...]
    changes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether every trial is bitwise equal."""
        return not any(verdict.differs for verdict in self.trials)


def verify(
    job: Job, folder: RunFolder, description: Description, chosen: Sequence[int], options: Options
) -> Verification:
    """Train some trials of a finished run again, at its width, and compare all records; see `jaxlab.verify`.

    Args:
        job: job of the run.
        folder: run folder, which is not changed.
        description: description of the run.
        chosen: numbers of the trials, ascending.
        options: options of the run, of which ``devices`` and ``progress`` count.
    """
    numbering = number_trials(job, description)
    then, now = read_records(folder.records_path, description), Records()
    ends = np.full(len(numbering.trial_ids), -1)  # last epoch of each trial
    for _, record in then.ends:
        ends[record.trials] = np.maximum(ends[record.trials], record.epochs)
    changes = [f"during the run, {each}" for each in description.changes]
    here = environment(options.devices)
    changes += environment_changes(description.environment, here, job.rules, counting=True)
    for index, entry in enumerate(description.groups):
        rows, group = np.flatnonzero(np.isin(numbering.numbers[index], chosen)), numbering.groups[index]
        if not len(rows):
            changes += code_changes(job, [group], [entry])
        else:
            programs = _train_again(job, numbering, index, rows, entry.width, ends, options, now)
            changes += program_changes(entry, programs, group)
    verdicts = [Verdict(each, numbering.trial_ids[each], _differences(then, now, each)) for each in chosen]
    return Verification(tuple(verdicts), tuple(changes))


def _train_again(
    job: Job,
    numbering: Numbering,
    index: int,
    rows: np.ndarray,
    width: int | None,
    ends: np.ndarray,
    options: Options,
    into: Records,
) -> Programs:
    """Train some rows of a group to their last epochs; return the programs."""
    group, numbers = numbering.groups[index], numbering.numbers[index][rows]
    counter = Counter(len(rows), job.epochs, 1, options.progress)
    counter.width = width or 0
    counter.report("compiling", 0, 0.0)
    programs = compile_for(job, group, job.trial_of(group), width, options.devices).programs
    shared = place_shared(job.arrays, programs.pack)
    training = Training([GroupTraining(programs, group.hyperparameters, shared, rows)], job.epochs)

    def decide(epoch: int) -> list[np.ndarray]:
        return [np.flatnonzero(ends[numbers] == epoch)]

    for records in (training.segments(decide), training.finish()):
        for _, record in records:
            if isinstance(record, EpochRecord):
                counter.add(record, job.steps_per_epoch(group))
            counter.report("training", 0, programs.compile_seconds)
            into.add(index, record._replace(trials=numbers[record.trials]))
    return programs


def _differences(then: Records, now: Records, number: int) -> tuple[str, ...]:
    before, after = _values(then, number), _values(now, number)
    differ = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return tuple(f"{name} {'at the end' if epoch == _END else f'at epoch {epoch}'}" for epoch, name in differ)


def _values(records: Records, number: int) -> dict[tuple[int, str], bytes]:
    """The bits of all records of a trial, by epoch and name; of several ends, the latest counts."""
    found: dict[tuple[int, str], bytes] = {}
    for _, record in records.epochs:
        for row in np.flatnonzero(record.trials == number):
            for at, epoch in enumerate(record.epochs.tolist()):
                found |= {(epoch, name): values[row, at].tobytes() for name, values in record.values.items()}
    latest = -1
    for _, record in records.ends:
        for row in np.flatnonzero(record.trials == number):
            if record.epochs[row] >= latest:
                latest = record.epochs[row]
                found |= {(_END, name): values[row].tobytes() for name, values in record.values.items()}
    return found
