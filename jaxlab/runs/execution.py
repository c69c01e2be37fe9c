"""The life of a run: begin or resume, compile, train, decide, record, checkpoint, finish."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr

from jaxlab import pruning
from jaxlab.engine import (
    EndRecord,
    EpochRecord,
    GroupTraining,
    Programs,
    Training,
    flatten,
    place_shared,
    split_into_packs,
)
from jaxlab.errors import InputError, RunInterrupted
from jaxlab.runs.changes import (
    check_extension,
    code_changes,
    environment_changes,
    program_changes,
    version_changes,
    width_changes,
)
from jaxlab.runs.checkpointer import Checkpointer, Snapshot
from jaxlab.runs.compiling import compile_for, out_of_memory_names_width
from jaxlab.runs.curves import Curves, check_names
from jaxlab.runs.describe import describe, environment
from jaxlab.runs.job import Job
from jaxlab.runs.numbering import Numbering, Stage, number_trials, stages
from jaxlab.runs.progress import Counter, Progress
from jaxlab.runs.recorder import Recorder
from jaxlab.store import (
    Description,
    Records,
    RecordWriter,
    RunFolder,
    Rung,
    build_results,
    discard_weights,
    mended_results,
    only_writer,
    read_records,
    write_weights,
)

_SECONDS = ("compile_seconds", "probe_seconds", "train_seconds")
_COUNTS = ("memory_bytes", "programs", "programs_from_cache")


@dataclasses.dataclass
class Options:
    """Options of a run, see `jaxlab.Study.run`; ``changes`` collects accepted differences from earlier starts."""

    devices: Sequence[jax.Device]
    out: str | os.PathLike | None = None
    width: int | None = None
    progress: Callable[[Progress], None] = lambda progress: None
    width_cache: str | os.PathLike | None = None
    checkpoint_seconds: float | None = None
    stop: Callable[[], bool] = lambda: False
    accept_changes: bool = False
    changes: list[str] = dataclasses.field(default_factory=list)

    def accept(self, changes: Sequence[str]) -> None:
        """Note changes since earlier starts, or raise InputError if the user does not accept them."""
        if changes and not self.accept_changes:
            remedy = (
                "numbers could differ from those of an uninterrupted run: undo this, or give --accept-changes"
            )
            raise InputError("run", str(self.out), f"{'; '.join(changes)}; {remedy} (accept_changes=True)")
        self.changes += [each for each in changes if each not in self.changes]


def run(job: Job, options: Options) -> xr.Dataset:
    """Train every trial of a job, or resume an earlier run of it; see `jaxlab.Study.run`."""
    if options.out is None:
        return _execute(Run(job, options, number_trials(job, None)))
    folder = RunFolder(options.out)
    if folder.complete:
        description = folder.describe()
        if _covers(job, description):
            _check_programs(job, options, folder, description)
            return mended_results(folder, description)
    folder.check_usable()
    with contextlib.ExitStack() as stack:
        if folder.begun:
            stack.enter_context(only_writer(folder.path))
            return _execute(_resumed_run(job, options, folder))

        def begin() -> None:
            folder.make()
            stack.enter_context(only_writer(folder.path))
            if folder.begun:  # while this process compiled
                remedy = "another process has begun a run there: run it again"
                raise InputError("out", str(folder.path), remedy)

        return _execute(Run(job, options, number_trials(job, None), folder, None, begin))


def _covers(job: Job, description: Description) -> bool:
    """Whether a finished run has all trials and epochs of a job."""
    if description.study_hash != job.study_hash or description.epochs != job.epochs:
        return False
    return len(number_trials(job, description).trial_ids) == len(description.trial_ids)


def _check_programs(job: Job, options: Options, folder: RunFolder, description: Description) -> None:
    """Raise InputError if the job's programs differ from those of a finished run, unless the user accepts it."""
    before, now = description.environment, environment(options.devices)
    incomparable = version_changes(before, now)
    if before.platform != now.platform:
        incomparable.append(f"the platform is {now.platform} and was {before.platform}")
    if incomparable:  # fingerprints of different versions are not comparable
        warnings.warn(
            f"{folder.path} is read without comparing its code: {'; '.join(incomparable)}", stacklevel=4
        )
        return
    changes = code_changes(job, number_trials(job, description).groups, description.groups)
    if changes and not options.accept_changes:
        remedy = (
            "its results are those of the earlier code: restore it, name another folder, or read them with"
        )
        words = f"is finished, and {'; '.join(changes)}; {remedy} --accept-changes (accept_changes=True)"
        raise InputError("run", str(folder.path), words)


def _resumed_run(job: Job, options: Options, folder: RunFolder) -> Run:
    """The run in a folder, ready to resume; raises InputError if it cannot be resumed."""
    description = folder.describe()
    if description.study_hash != job.study_hash:
        then, now = description.specification, job.specification
        names = ("data", "data_seed", "rules", "keep")
        differ = " and ".join(name for name in names if getattr(then, name) != getattr(now, name)) or "data"
        remedy = f"holds another study (its {differ} differ): name another folder, or delete this one to start over"
        raise InputError("out", str(folder.path), remedy)
    numbering = number_trials(job, description)
    before = numbering.groups[: len(description.groups)]
    check_extension(job, before, description.epochs)
    changes = environment_changes(description.environment, environment(options.devices), job.rules)
    changes += width_changes(description, options.width)
    if job.epochs > description.epochs:  # before any group is trained
        changes += code_changes(job, before, description.groups)
    options.accept(changes)
    return Run(job, options, numbering, folder, description, begin=folder.resume)


def _execute(run: Run) -> xr.Dataset:
    with out_of_memory_names_width(lambda: run.counter.width):
        for stage in run.stages():
            run.train(stage)
    return run.finish()


class Run:
    """A run in this process, from its first or a later start to its end.

    Args:
        job: the job to execute.
        options: options of the run.
        numbering: numbers of the trials.
        folder: run folder; None keeps everything in memory.
        earlier: description in the folder, by earlier starts.
        begin: called once, before anything is written.
    """

    def __init__(
        self,
        job: Job,
        options: Options,
        numbering: Numbering,
        folder: RunFolder | None = None,
        earlier: Description | None = None,
        begin: Callable[[], None] = lambda: None,
    ):
        self.job, self.options, self.numbering = job, options, numbering
        self.folder, self.begin = folder, begin
        self.trials = [job.trial_of(group) for group in numbering.groups]
        if job.labelled:
            check_names(job.rules, self.trials)
        self._described = describe(job, numbering, self.trials, options.devices, earlier)
        self.entries = list(self._described.groups)
        self.times = dict.fromkeys(_SECONDS + _COUNTS, 0) | self._described.times
        self._placed: dict[tuple[jax.Device, ...], Any] = {}  # the shared arrays by devices
        records = Records() if earlier is None else read_records(folder.records_path, earlier)
        count = len(numbering.trial_ids)
        self.recorder = Recorder(count, job.epochs, records)
        self.counter = Counter(count, job.epochs, len(numbering.groups), options.progress)
        self._count()

    def description(self) -> Description:
        """The content of ``run.json`` as far as it is known."""
        changes = [*self._described.changes, *self.options.changes]
        return dataclasses.replace(
            self._described, groups=list(self.entries), times=dict(self.times), changes=changes
        )

    def results(self) -> xr.Dataset:
        """The labelled results so far."""
        return build_results(self.description(), self.recorder.records)

    def stages(self) -> list[Stage]:
        """The stages that are not finished, in order."""
        every = stages(self.numbering, together=pruning.compare(self.job.rules))
        return [stage for stage in every if not self.recorder.finished(np.concatenate(stage.numbers))]

    def train(self, stage: Stage) -> None:
        """Train one stage to its end."""
        programs = [self._compile(index) for index in stage.groups]
        curves = self._curves(stage, programs)
        start = curves.history(0, np.ones(len(curves.numbers), bool))
        pruning.check_curves(self.job.rules, start)
        pruning.try_rules(self.job.rules, start)
        self._open_folder()
        training = Training(self._group_trainings(stage, programs), self.job.epochs)
        folder = self.folder
        with contextlib.nullcontext() if folder is None else folder.checkpoints(stage.name) as checkpoints:
            checkpointer = Checkpointer(checkpoints, stage, self.options.checkpoint_seconds)
            with self.recorder.flushing():
                self._restore(stage, training.groups, checkpointer.newest(programs))
                if folder is not None:  # widths and fingerprints are on disk before any record
                    folder.rewrite(self.description())
                if self.options.changes:
                    curves = self._curves(stage, programs)  # some records may have been discarded
                self._train_epochs(stage, training, checkpointer, curves)
                self._finish_stage(stage, training, checkpointer)

    def finish(self) -> xr.Dataset:
        """Write the results to the folder, if there is one, and return them."""
        results = self.results()
        if self.folder is not None:
            self.folder.finish(self.description(), results)
        self.counter.report("done", len(self.numbering.groups) - 1, self.times["compile_seconds"])
        return results

    # Compile.

    def _compile(self, index: int) -> Programs:
        """Compile one group's programs; the width is fixed from now on."""
        self._stop_if_asked(self.options.stop())
        counter, times, group = self.counter, self.times, self.numbering.groups[index]
        width = self.options.width or self.entries[index].width
        counter.width = width or 0
        counter.report("compiling", index, times["compile_seconds"])

        def notify(width: int) -> None:
            counter.width = width
            counter.report("probing", index, times["compile_seconds"])

        choice = compile_for(
            self.job,
            group,
            self.trials[index],
            width,
            self.options.devices,
            cache=self.options.width_cache,
            notify=notify,
        )
        programs = choice.programs
        self.options.accept(program_changes(self.entries[index], programs, group))
        self.entries[index] = dataclasses.replace(
            self.entries[index],
            width=programs.pack.width,
            fingerprint=programs.fingerprint,
            nondeterministic=programs.nondeterministic,
        )
        counter.width = programs.pack.width
        packs = len(split_into_packs(len(group.trials), programs.pack.lanes))
        times["compile_seconds"] += programs.compile_seconds
        times["probe_seconds"] += choice.probe_seconds
        times["memory_bytes"] = max(times["memory_bytes"], programs.memory_bytes(packs))
        times["programs"] += 4
        times["programs_from_cache"] += len(programs.saved_seconds)
        return programs

    def _curves(self, stage: Stage, programs: Sequence[Programs]) -> Curves:
        trials = [self.trials[index] for index in stage.groups]
        variables = {name: label for trial in trials for name, label in trial.variables.items()}
        dims = {dim for trial in trials for dim in trial.coordinates}
        curves = Curves(np.sort(np.concatenate(stage.numbers)), self.job.epochs, variables, dims)
        curves.allocate_all([each.segment.out_info[1] for each in programs])
        for _, record in self.recorder.records.epochs:
            curves.add(record)
        return curves

    # Begin or resume.

    def _open_folder(self) -> None:
        """Write to the run folder from now on."""
        if self.folder is not None and self.recorder.writer is None:
            self.begin()
            self.folder.sweep()
            self.recorder.writer = RecordWriter(self.folder.records_path)

    def _group_trainings(self, stage: Stage, programs: Sequence[Programs]) -> list[GroupTraining]:
        reserve = max(each.memory_bytes() for each in programs)
        groups = []
        for index, rows, each in zip(stage.groups, stage.rows, programs, strict=True):
            devices = tuple(each.pack.mesh.devices.flat)
            if devices not in self._placed:  # once for all groups on the same devices
                self._placed[devices] = place_shared(self.job.arrays, each.pack)
            group, shared = self.numbering.groups[index], self._placed[devices]
            groups.append(GroupTraining(each, group.hyperparameters, shared, rows, reserve=reserve))
        return groups

    def _restore(self, stage: Stage, groups: Sequence[GroupTraining], saved: Snapshot | None) -> None:
        """Resume from a checkpoint, if there is one.

        After an accepted change, records and weights newer than the checkpoint are discarded: they could not be
        reproduced.
        """
        if self.options.changes:
            after = _reached(stage, saved)
            self.recorder.discard(after)
            if self.folder is not None:
                discard_weights(self.folder.weights_path, after)
            self._count()
        if saved is None:
            return
        for those, group, (running, ended) in zip(stage.numbers, groups, saved, strict=True):
            self._check_recorded(stage, those, self.recorder.ended(those))
            for rows in (running, ended):
                self._check_recorded(stage, those[rows.trials], rows.epochs)
            left = self.recorder.ended(those[ended.trials]) < ended.epochs
            group.restore(running, ended.take(np.flatnonzero(left)))

    def _check_recorded(self, stage: Stage, numbers: np.ndarray, epochs: np.ndarray) -> None:
        """Raise InputError unless the record files hold every epoch up to the given ones."""
        gap = self.recorder.missing(numbers, epochs)
        if gap is not None:
            folder = self.folder.checkpoints(stage.name).folder
            remedy = (
                f"the record of trial {gap[0]} at epoch {gap[1]} is missing: remove {folder}, and the run "
            )
            raise InputError("records", str(self.folder.records_path), f"{remedy}trains it again")

    def _count(self) -> None:
        """Count the progress from all records."""
        self.counter.restart((record for _, record in self.recorder.records.epochs), self.recorder.stopped)

    # Train and decide.

    def _train_epochs(
        self, stage: Stage, training: Training, checkpointer: Checkpointer, curves: Curves
    ) -> None:
        """Train all epochs; record, decide and save after each segment."""

        def decide(epoch: int) -> list[np.ndarray]:
            stops = self._trials_to_stop(stage, curves, epoch)
            return [np.flatnonzero(np.isin(numbers, stops)) for numbers in stage.numbers]

        clock = time.perf_counter()
        for index, record in training.segments(decide):
            self._record(stage, index, record, curves)
            clock = self._report(clock, stage.groups[index])
            asked = self.options.stop()
            # Before all packs have begun, some trials have no state to save.
            if training.begun and (asked or checkpointer.due()):
                self._checkpoint(stage, training, checkpointer, curves)
                clock = self._report(clock, stage.groups[index])
            self._stop_if_asked(asked, checkpointer)

    def _trials_to_stop(self, stage: Stage, curves: Curves, epoch: int) -> list[int]:
        """The numbers of the trials that stop at an epoch, which all running trials have reached."""
        rung = self.recorder.rung(stage.name, epoch)
        if rung is None:
            history = curves.history(epoch, self.recorder.running(curves.numbers, epoch))
            found = pruning.decide(self.job.rules, history)
            rung = Rung(stage.name, epoch, {int(curves.numbers[row]): stop for row, stop in found.items()})
            if found:
                self.recorder.stop(rung)
                self.counter.stop(rung.stops)
        self.recorder.flush_if_cheap()
        return list(rung.stops)

    def _stop_if_asked(self, asked: bool, checkpointer: Checkpointer | None = None) -> None:
        """Raise RunInterrupted if the run was asked to stop, after everything is on disk."""
        if asked:
            if checkpointer is not None:
                checkpointer.wait()
            raise RunInterrupted("asked to stop" + ("; saved" if self.folder is not None else ""))

    def _finish_stage(self, stage: Stage, training: Training, checkpointer: Checkpointer) -> None:
        """Save a checkpoint from which the run can be extended, then add the last record of every trial."""
        self._checkpoint(stage, training, checkpointer)
        clock = time.perf_counter()
        for index, record in training.finish():
            self._record(stage, index, record)
            self._stop_if_asked(self.options.stop(), checkpointer)
        self._report(clock, stage.groups[-1])
        checkpointer.wait()

    # Record and checkpoint.

    def _record(
        self, stage: Stage, index: int, record: EpochRecord | EndRecord, curves: Curves | None = None
    ) -> None:
        numbers, group = stage.numbers[index][record.trials], stage.groups[index]
        if isinstance(record, EndRecord):
            self._write_weights(group, numbers, record)
        record = record._replace(trials=numbers)
        self.recorder.add(group, record)
        if isinstance(record, EndRecord):
            return
        self.counter.add(record, self.job.steps_per_epoch(self.numbering.groups[group]))
        if record.epochs[-1] > 0:
            self.times.setdefault("first_epoch_seconds", time.perf_counter() - self.counter.start)
        if curves is not None:
            curves.add(record)

    def _write_weights(self, group: int, numbers: np.ndarray, record: EndRecord) -> None:
        """Write the weights of trials that ended."""
        weights = self.trials[group].weights
        if self.folder is not None and weights is not None:
            lanes = record.states.states
            kept = {"last": flatten(weights.kept(lanes.state))}
            kept |= {} if lanes.best is None else {"best": flatten(lanes.best.kept)}
            write_weights(self.folder.weights_path, numbers, record.epochs, kept)

    def _checkpoint(
        self, stage: Stage, training: Training, checkpointer: Checkpointer, curves: Curves | None = None
    ) -> None:
        """Save states and intermediate results; records first, so that no state is ahead of the records."""
        began = time.perf_counter()
        for index, record in training.drain():
            self._record(stage, index, record, curves)
        if self.folder is not None:
            self.recorder.flush()
            if curves is not None:
                self.folder.write_results(self.results())
            checkpointer.save(training.snapshot(), time.perf_counter() - began)

    def _report(self, clock: float, group: int) -> float:
        now = time.perf_counter()
        self.counter.training += now - clock
        self.times["train_seconds"] += now - clock
        self.counter.report("training", group, self.times["compile_seconds"])
        return now


def _reached(stage: Stage, saved: Snapshot | None) -> dict[int, int]:
    """The epoch of each trial in a checkpoint, by number; −1 for all trials without a checkpoint."""
    if saved is None:
        return dict.fromkeys(np.concatenate(stage.numbers).tolist(), -1)
    return {
        int(number): int(epoch)
        for numbers, both in zip(stage.numbers, saved, strict=True)
        for rows in both
        for number, epoch in zip(numbers[rows.trials], rows.epochs, strict=True)
    }
