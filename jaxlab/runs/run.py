"""The life of a run: begin or resume, compile, train, decide, record, checkpoint, finish."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Sequence

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
    flat,
    packs_of,
    placed,
)
from jaxlab.errors import InputError, RunInterrupted
from jaxlab.runs.changes import (
    check_accepted,
    check_extension,
    determinism_changes,
    environment_changes,
    fingerprint_changes,
    version_changes,
    width_changes,
)
from jaxlab.runs.checkpointer import Checkpointer, Snapshot
from jaxlab.runs.compiling import compile_for, fingerprint_of, out_of_memory_names_width
from jaxlab.runs.curves import Curves, check_names
from jaxlab.runs.describe import describe, environment, with_compiled
from jaxlab.runs.job import Job
from jaxlab.runs.numbering import Numbering, Stage, number_trials, stages
from jaxlab.runs.progress import Counter, Progress
from jaxlab.runs.recorder import Recorder
from jaxlab.store import (
    Description,
    Records,
    RunFolder,
    Rung,
    build_results,
    mended_results,
    only_writer,
    read_records,
    write_weights,
)

_TIMES = (
    "compile_seconds",
    "probe_seconds",
    "train_seconds",
    "memory_bytes",
    "programs",
    "programs_from_cache",
)


@dataclasses.dataclass
class Options:
    """How to run a job; see `jaxlab.Study.run`. ``changes``: what differs from earlier starts and was accepted."""

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
        """Note what differs, or raise if the user has not accepted it."""
        check_accepted(changes, self.accept_changes, str(self.out))
        self.changes += [each for each in changes if each not in self.changes]


def run(job: Job, options: Options) -> xr.Dataset:
    """Train every trial of a job, or what an earlier start left of it; see `jaxlab.Study.run`."""
    if options.out is None:
        return _trained(Run(job, options, number_trials(job, None)))
    folder = RunFolder(options.out)
    if folder.complete:
        description = folder.describe()
        if _is_all(job, description):
            _check_programs(job, options, folder, description)
            return mended_results(folder, description)
    folder.check_usable()
    with contextlib.ExitStack() as stack:
        if folder.begun:
            stack.enter_context(only_writer(folder.path))
            return _trained(_resumed(job, options, folder))

        def begin() -> None:
            folder.make()
            stack.enter_context(only_writer(folder.path))
            if folder.begun:  # while this process compiled
                remedy = "another process has begun a run there: run it again"
                raise InputError("out", str(folder.path), remedy)

        return _trained(Run(job, options, number_trials(job, None), folder, None, begin))


def _is_all(job: Job, description: Description) -> bool:
    """Whether a finished run is all that a job asks for."""
    if description.study_hash != job.study_hash or description.epochs != job.epochs:
        return False
    return len(number_trials(job, description).trial_ids) == len(description.trial_ids)


def _check_programs(job: Job, options: Options, folder: RunFolder, description: Description) -> None:
    """Raise where a finished run's programs are not those of the job, unless that is accepted."""
    before, now = description.environment, environment(options.devices)
    unlike = version_changes(before, now)
    if before.platform != now.platform:
        unlike.append(f"the platform is {now.platform} and was {before.platform}")
    if unlike:  # programs that were traced otherwise are not comparable
        warnings.warn(f"{folder.path} is read without comparing its code: {'; '.join(unlike)}", stacklevel=4)
        return
    groups, changes = number_trials(job, description).groups, []
    for group, entry in zip(groups, description.groups, strict=True):
        changes += fingerprint_changes(entry.fingerprint, fingerprint_of(job, group), group)
    if changes and not options.accept_changes:
        remedy = (
            "its results are those of the earlier code: restore that, name another folder, or read them with "
        )
        remedy += "--accept-changes (accept_changes=True)"
        raise InputError("run", str(folder.path), f"is finished, and {'; '.join(changes)}; {remedy}")


def _resumed(job: Job, options: Options, folder: RunFolder) -> Run:
    """The run that a folder holds, to be resumed, or the error that says why it cannot be."""
    description = folder.describe()
    if description.study_hash != job.study_hash:
        then, now = description.specification, job.specification
        names = ("data", "data_seed", "rules", "keep")
        differ = " and ".join(name for name in names if getattr(then, name) != getattr(now, name)) or "data"
        remedy = f"holds another study (its {differ} differ): name another folder or remove it"
        raise InputError("out", str(folder.path), remedy)
    numbering = number_trials(job, description)
    before = numbering.groups[: len(description.groups)]
    check_extension(job, before, description.epochs)
    changes = environment_changes(description.environment, environment(options.devices), job.rules)
    changes += width_changes(description, options.width)
    if job.epochs > description.epochs:  # before the first of the groups is trained further
        for group, entry in zip(before, description.groups, strict=True):
            changes += fingerprint_changes(entry.fingerprint, fingerprint_of(job, group), group)
    options.accept(changes)
    return Run(job, options, numbering, folder, description, begin=folder.resume)


def _trained(run: Run) -> xr.Dataset:
    with out_of_memory_names_width(lambda: run.counter.width):
        for stage in run.stages():
            run.train(stage)
    return run.finish()


class Run:
    """One process' work on a run.

    Args:
        job: what to train.
        options: how.
        numbering: of the trials.
        folder: where, or None.
        earlier: what the folder says of earlier starts.
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
        self.folder, self.earlier, self.begin = folder, earlier, begin
        self.trials = [job.trial_of(group) for group in numbering.groups]
        if job.labelled:
            check_names(job.rules, self.trials)
        entries = [] if earlier is None else earlier.groups
        new = [None] * (len(numbering.groups) - len(entries))
        self.widths = [*(entry.width for entry in entries), *new]
        self.fingerprints = [*(entry.fingerprint for entry in entries), *new]
        self.nondeterministic = [*(entry.nondeterministic for entry in entries), *new]
        self.times = dict.fromkeys(_TIMES, 0) | ({} if earlier is None else earlier.times)
        self._described = describe(job, numbering, self.trials, options.devices)
        self._placed: dict[tuple, object] = {}
        records = Records() if earlier is None else read_records(folder.records_path, earlier)
        count = len(numbering.trial_ids)
        self.recorder = Recorder(count, job.epochs, records)
        self.counter = Counter(count, job.epochs, len(numbering.groups), options.progress)
        for _, record in records.epochs:
            self.counter.known(record)
        self.counter.stop(self.recorder.stopped)

    def description(self) -> Description:
        """What ``run.json`` says, as far as it is known."""
        known = with_compiled(self._described, self.widths, self.fingerprints, self.nondeterministic)
        changes = [*([] if self.earlier is None else self.earlier.changes), *self.options.changes]
        return dataclasses.replace(known, times=dict(self.times), changes=changes)

    def results(self) -> xr.Dataset:
        """The labelled results so far."""
        return build_results(self.description(), self.recorder.records)

    def stages(self) -> list[Stage]:
        """What is left to train, in order."""
        every = stages(self.numbering, together=pruning.compare(self.job.rules))
        return [stage for stage in every if not self.recorder.finished(np.concatenate(stage.numbers))]

    def train(self, stage: Stage) -> None:
        """Train one stage to its end."""
        programs = [self._compiled(index) for index in stage.groups]
        curves = self._curves(stage, programs)
        start = curves.history(0, np.ones(len(curves.numbers), bool))
        pruning.check_curves(self.job.rules, start)
        pruning.try_rules(self.job.rules, start)
        self._open()
        training = Training(self._groups(stage, programs), self.job.epochs)
        folder = self.folder
        with contextlib.nullcontext() if folder is None else folder.checkpoints(stage.name) as checkpoints:
            checkpointer = Checkpointer(checkpoints, stage, self.options.checkpoint_seconds)
            with self.recorder.flushing():
                self._restore(stage, training.groups, checkpointer.newest(programs))
                if folder is not None:  # widths and fingerprints are on disk before any record
                    folder.rewrite(self.description())
                if self.options.changes:
                    curves = self._curves(stage, programs)  # some records may have been discarded
                self._follow(stage, training, checkpointer, curves)
                self._end(stage, training, checkpointer)

    def finish(self) -> xr.Dataset:
        """The results, which the folder then holds too."""
        results = self.results()
        if self.folder is not None:
            self.folder.finish(self.description(), results)
        self.counter.report("done", len(self.numbering.groups) - 1, self.times["compile_seconds"])
        return results

    # Compile.

    def _compiled(self, index: int) -> Programs:
        """One group's programs, at the width that is fixed from here on."""
        self._leave(self.options.stop())
        counter, times, group = self.counter, self.times, self.numbering.groups[index]
        width = self.options.width or self.widths[index]
        counter.width = width or 0
        counter.report("compiling", index, times["compile_seconds"])

        def tell(width: int) -> None:
            counter.width = width
            counter.report("probing", index, times["compile_seconds"])

        choice = compile_for(
            self.job,
            group,
            self.trials[index],
            width,
            self.options.devices,
            cache=self.options.width_cache,
            tell=tell,
        )
        programs = choice.programs
        self.options.accept(fingerprint_changes(self.fingerprints[index], programs.fingerprint, group))
        why = programs.nondeterministic
        self.options.accept(determinism_changes(self.nondeterministic[index], why, group))
        self.fingerprints[index], self.nondeterministic[index] = programs.fingerprint, why
        counter.width = self.widths[index] = programs.pack.width
        packs = len(packs_of(len(group.trials), programs.pack.lanes))
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
        curves.expect_all([each.segment.out_info[1] for each in programs])
        for _, record in self.recorder.records.epochs:
            curves.add(record)
        return curves

    # Begin or resume.

    def _open(self) -> None:
        """Write to the run's folder from here on."""
        if self.folder is not None and not self.recorder.opened:
            self.begin()
            self.folder.sweep()
            self.recorder.open(self.folder.records_path)

    def _groups(self, stage: Stage, programs: Sequence[Programs]) -> list[GroupTraining]:
        reserve = max(each.memory_bytes() for each in programs)
        groups = []
        for index, rows, each in zip(stage.groups, stage.rows, programs, strict=True):
            devices = tuple(each.pack.mesh.devices.flat)
            if devices not in self._placed:  # once for all groups on the same devices
                self._placed[devices] = placed(self.job.arrays, each.pack)
            values = jax.tree.map(
                lambda leaf, rows=rows: leaf[rows], self.numbering.groups[index].hyperparameters
            )
            groups.append(GroupTraining(each, values, self._placed[devices], reserve=reserve))
        return groups

    def _restore(self, stage: Stage, groups: Sequence[GroupTraining], saved: Snapshot | None) -> None:
        """Resume from a checkpoint, if there is one.

        An accepted change makes what was recorded after it irreproducible, so that is discarded.
        """
        if self.options.changes:
            self.recorder.discard(_reached(stage, saved))
        if saved is None:
            return
        for those, group, (running, ended) in zip(stage.numbers, groups, saved, strict=True):
            self._check_recorded(stage, those, self.recorder.ended(those))
            for rows in (running, ended):
                self._check_recorded(stage, those[rows.trials], rows.epochs)
            left = self.recorder.ended(those[ended.trials]) < ended.epochs
            group.restore(running, ended.take(np.flatnonzero(left)))

    def _check_recorded(self, stage: Stage, numbers: np.ndarray, epochs: np.ndarray) -> None:
        """Raise unless everything up to these epochs is in the record files."""
        gap = self.recorder.missing(numbers, epochs)
        if gap is not None:
            folder = self.folder.checkpoints(stage.name).folder
            remedy = (
                f"what trial {gap[0]} recorded at epoch {gap[1]} is missing: remove {folder}, and the run "
            )
            raise InputError("records", str(self.folder.records_path), f"{remedy}trains it again")

    # Train and decide.

    def _follow(self, stage: Stage, training: Training, checkpointer: Checkpointer, curves: Curves) -> None:
        """Train through all epochs."""

        def decide(epoch: int) -> list[np.ndarray]:
            stops = self._stops(stage, curves, epoch)
            return [np.flatnonzero(np.isin(numbers, stops)) for numbers in stage.numbers]

        clock = time.perf_counter()
        for index, record in training.segments(decide):
            self._record(stage, index, record, curves)
            clock = self._tick(clock, stage.groups[index])
            asked = self.options.stop()
            # Before all have begun, there is no state of every trial to save.
            if training.begun and (asked or checkpointer.due()):
                self._checkpoint(stage, training, checkpointer, curves)
                clock = self._tick(clock, stage.groups[index])
            self._leave(asked, checkpointer)

    def _stops(self, stage: Stage, curves: Curves, epoch: int) -> list[int]:
        """Numbers of the trials that stop now that all have reached an epoch."""
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

    def _leave(self, asked: bool, checkpointer: Checkpointer | None = None) -> None:
        """Raise if the run should stop, once all is on disk."""
        if asked:
            if checkpointer is not None:
                checkpointer.wait()
            raise RunInterrupted("asked to stop" + ("; saved" if self.folder is not None else ""))

    def _end(self, stage: Stage, training: Training, checkpointer: Checkpointer) -> None:
        """A checkpoint to extend the run from, then the last record of every trial."""
        self._checkpoint(stage, training, checkpointer)
        clock = time.perf_counter()
        for index, record in training.finish():
            self._record(stage, index, record)
            self._leave(self.options.stop(), checkpointer)
        self._tick(clock, stage.groups[-1])
        checkpointer.wait()

    # Record and checkpoint.

    def _record(
        self, stage: Stage, index: int, record: EpochRecord | EndRecord, curves: Curves | None = None
    ) -> None:
        numbers, group = stage.numbers[index][record.trials], stage.groups[index]
        if isinstance(record, EndRecord):
            self._keep(group, numbers, record)
        record = record._replace(trials=numbers)
        self.recorder.add(group, record)
        if isinstance(record, EndRecord):
            return
        self.counter.add(record, self.job.steps_per_epoch(self.numbering.groups[group]))
        if record.epochs[-1] > 0:
            self.times.setdefault("first_epoch_seconds", time.perf_counter() - self.counter.start)
        if curves is not None:
            curves.add(record)

    def _keep(self, group: int, numbers: np.ndarray, record: EndRecord) -> None:
        """Write the weights of trials that ended."""
        weights = self.trials[group].weights
        if self.folder is not None and weights is not None:
            lanes = record.states.states
            kept = {"last": flat(weights.kept(lanes.state))}
            kept |= {} if lanes.best is None else {"best": flat(lanes.best.kept)}
            write_weights(self.folder.weights_path, numbers, record.epochs, kept)

    def _checkpoint(
        self, stage: Stage, training: Training, checkpointer: Checkpointer, curves: Curves | None = None
    ) -> None:
        """Save states, and results while training continues. Records first: no state is ahead of what was recorded."""
        began = time.perf_counter()
        for index, record in training.settled():
            self._record(stage, index, record, curves)
        if self.folder is not None:
            self.recorder.flush()
            if curves is not None:
                self.folder.write_results(self.results())
            checkpointer.save(training.snapshot(), time.perf_counter() - began)

    def _tick(self, clock: float, group: int) -> float:
        now = time.perf_counter()
        self.counter.training += now - clock
        self.times["train_seconds"] += now - clock
        self.counter.report("training", group, self.times["compile_seconds"])
        return now


def _reached(stage: Stage, saved: Snapshot | None) -> dict[int, int]:
    """The epoch that each trial of a checkpoint has reached, by number; −1 for all of a stage that has none."""
    if saved is None:
        return dict.fromkeys(np.concatenate(stage.numbers).tolist(), -1)
    return {
        int(number): int(epoch)
        for numbers, both in zip(stage.numbers, saved, strict=True)
        for rows in both
        for number, epoch in zip(numbers[rows.trials], rows.epochs, strict=True)
    }
