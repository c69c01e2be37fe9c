"""A run in progress: stage after stage, states saved, rules asked at each rung."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlab import pruning
from jaxlab.engine import GroupTraining, Piece, Programs, Training, flat, packs_of, placed
from jaxlab.errors import InputError, RunInterrupted
from jaxlab.store import Log, Recorded, RunFolder, Rung, build_results, read_log, write_weights
from jaxlab.study.changes import determinism_changes, fingerprint_changes
from jaxlab.study.compiling import compile_for
from jaxlab.study.curves import Curves, check_names
from jaxlab.study.describe import describe, with_compiled
from jaxlab.study.ledger import Ledger
from jaxlab.study.progress import Counter
from jaxlab.study.resolve import hyperparameters_in
from jaxlab.study.roster import Roster, Stage, stages
from jaxlab.study.saver import Saver

_TIMES = (
    "compile_seconds",
    "probe_seconds",
    "train_seconds",
    "memory_bytes",
    "programs",
    "programs_from_cache",
)


class Run:
    """One process' work on a run.

    Args:
        study: what to train.
        options: how, see `jaxlab.study.run.Options`.
        roster: the trials by number.
        folder: where, or None.
        description: what the folder says of an earlier start.
        begin: called once, before anything is written.
    """

    def __init__(
        self,
        study: Any,
        options: Any,
        roster: Roster,
        folder: RunFolder | None = None,
        description: Mapping[str, Any] | None = None,
        begin: Callable[[], None] = lambda: None,
    ):
        self.study, self.options, self.roster, self.folder, self.begin = study, options, roster, folder, begin
        self.before = description
        self._described: dict[str, Any] | None = None
        self.trials = [study.trial_of(group) for group in roster.groups]
        if study.data is not None:  # a triple of one's own need not label what it records
            check_names(study.rules, self.trials)
        entries = [] if description is None else description["groups"]
        new = [None] * (len(roster.groups) - len(entries))
        self.widths = [*(entry["width"] for entry in entries), *new]
        self.fingerprints = [*(entry["fingerprint"] for entry in entries), *new]
        self.nondeterministic = [*(entry["nondeterministic"] for entry in entries), *new]
        self.times = dict.fromkeys(_TIMES, 0) | ({} if description is None else description["times"])
        self.shared: dict[tuple, Any] = {}
        earlier = Recorded([], []) if description is None else read_log(folder.pieces_path, description)
        self.ledger = Ledger(len(roster.trial_ids), study.epochs, earlier)
        self.counter = Counter(len(roster.trial_ids), study.epochs, len(roster.groups), options.progress)
        for _, piece in earlier.pieces:
            self.counter.known(piece)
        self.counter.stop(self.ledger.stopped)

    def stages(self) -> list[Stage]:
        """What is left to train, in order."""
        every = stages(self.roster, together=pruning.compare(self.study.rules))
        return [stage for stage in every if not self.ledger.finished(np.concatenate(stage.numbers))]

    def description(self) -> dict[str, Any]:
        """What ``run.json`` says; widths and fingerprints as far as they are known."""
        if self._described is None:  # once: it holds every setting, and a digest of the data
            self._described = describe(self.study, self.roster, self.trials, self.options.devices)
        now = with_compiled(self._described, self.widths, self.fingerprints, self.nondeterministic)
        changes = [] if self.before is None else self.before["changes"]
        return now | {"times": dict(self.times), "changes": [*changes, *self.options.changes]}

    def train(self, stage: Stage) -> None:
        """Train one stage to its end."""
        programs = [self._compiled(index) for index in stage.groups]
        curves = self._curves(stage, programs)
        start = curves.history(0, np.ones(len(curves.numbers), bool))
        pruning.check_curves(self.study.rules, start)
        pruning.try_rules(self.study.rules, start)
        self._open()
        most = max(each.memory_bytes() for each in programs)
        groups = [self._group(*each, most) for each in zip(stage.groups, stage.rows, programs, strict=True)]
        training = Training(groups, self.study.epochs)
        folder = self.folder
        with contextlib.nullcontext() if folder is None else folder.states(stage.name) as states:
            saver = Saver(states, stage, self.options.checkpoint_seconds)
            with self.ledger.flushing():
                self._restore(stage, groups, saver.newest(programs))
                if folder is not None:  # widths and fingerprints are on disk before any piece
                    folder.rewrite(self.description())
                if self.options.changes:
                    curves = self._curves(stage, programs)  # some of what was recorded may count no more
                self._follow(stage, training, saver, curves)
                self._end(stage, training, saver)

    def results(self) -> Any:
        """The labelled results so far."""
        return build_results(self.description(), self.ledger.recorded)

    def _open(self) -> None:
        """From here on the run's folder is written to."""
        if self.folder is not None and self.ledger.log is None:
            self.begin()
            self.folder.sweep()
            self.ledger.log = Log(self.folder.pieces_path)

    def _group(self, index: int, rows: np.ndarray, programs: Programs, reserve: int) -> GroupTraining:
        hyperparameters = jax.tree.map(lambda leaf: leaf[rows], hyperparameters_in(self.roster.groups[index]))
        devices = tuple(programs.pack.mesh.devices.flat)
        if devices not in self.shared:  # once for all groups on the same devices
            self.shared[devices] = placed(self.study.arrays, programs.pack)
        return GroupTraining(programs, hyperparameters, self.shared[devices], reserve=reserve)

    def _restore(self, stage: Stage, groups: Sequence[GroupTraining], saved: Any) -> None:
        if self.options.changes:
            self._forget(stage, saved)
        if saved is None:
            return
        for numbers, group, (running, ended) in zip(stage.numbers, groups, saved, strict=True):
            self._check_recorded(stage, numbers, self.ledger.came_to(numbers))
            for rows in (running, ended):
                self._check_recorded(stage, numbers[rows.trials], rows.epochs)
            left = self.ledger.without_last_record(numbers[ended.trials], ended.epochs)
            group.restore(running, ended.take(np.flatnonzero(left)))

    def _forget(self, stage: Stage, saved: Any) -> None:
        """What was recorded later than what was saved would be recorded otherwise now that something has changed."""
        if saved is None:
            everyone = np.concatenate(stage.numbers)
            self.ledger.forget(everyone, np.full(len(everyone), -1))
            return
        parts = [
            (numbers[rows.trials], rows.epochs)
            for numbers, both in zip(stage.numbers, saved, strict=True)
            for rows in both
        ]
        self.ledger.forget(*map(np.concatenate, zip(*parts, strict=True)))

    def _check_recorded(self, stage: Stage, numbers: np.ndarray, epochs: np.ndarray) -> None:
        """Raise unless everything up to these epochs is in the pieces."""
        gap = self.ledger.missing(numbers, epochs)
        if gap is not None:
            folder = self.folder.states(stage.name).folder
            remedy = f"what trial {gap[0]} recorded at epoch {gap[1]} is missing: remove {folder}, and the run trains "
            remedy += "it again"
            raise InputError("pieces", str(self.folder.pieces_path), remedy)

    def _follow(self, stage: Stage, training: Training, saver: Saver, curves: Curves) -> None:
        """Train through all epochs."""

        def decide(epoch: int) -> list[np.ndarray]:
            stops = self._stops(stage, curves, epoch)
            return [np.flatnonzero(np.isin(numbers, stops)) for numbers in stage.numbers]

        clock = time.perf_counter()
        for index, piece in training.segments(decide):
            self._record(stage, index, piece, curves)
            clock = self._tick(clock, stage.groups[index])
            asked = self.options.stop()
            # Before all have begun, there is no state of every trial to save.
            if training.begun and (asked or saver.due()):
                self._save(stage, training, saver, curves)
                clock = self._tick(clock, stage.groups[index])
            self._leave(asked, saver)

    def _leave(self, asked: bool, saver: Saver | None = None) -> None:
        """Raise if the run should stop, once all is on disk."""
        if asked:
            if saver is not None:
                saver.wait()
            raise RunInterrupted("asked to stop" + ("; saved" if self.folder is not None else ""))

    def _curves(self, stage: Stage, programs: Sequence[Programs]) -> Curves:
        variables = {
            name: label for index in stage.groups for name, label in self.trials[index].variables.items()
        }
        dims = {dim for index in stage.groups for dim in self.trials[index].coordinates}
        curves = Curves(np.sort(np.concatenate(stage.numbers)), self.study.epochs, variables, dims)
        curves.expect_all([each.segment.out_info[1] for each in programs])
        for _, piece in self.ledger.recorded.pieces:
            curves.add(piece)
        return curves

    def _stops(self, stage: Stage, curves: Curves, epoch: int) -> list[int]:
        """Numbers of the trials that stop now that all have reached an epoch."""
        rung = self.ledger.rung(stage.name, epoch)
        if rung is None:
            history = curves.history(epoch, self.ledger.running(curves.numbers, epoch))
            found = pruning.decide(self.study.rules, history)
            rung = Rung(
                stage.name, epoch, {int(curves.numbers[row]): tuple(stop) for row, stop in found.items()}
            )
            if found:
                self.ledger.stop(rung)
                self.counter.stop(rung.stops)
        self.ledger.settle()
        return list(rung.stops)

    def _save(self, stage: Stage, training: Training, saver: Saver, curves: Curves | None = None) -> None:
        """States on disk, and results while training goes on; pieces first: no state is ahead of what was recorded."""
        began = time.perf_counter()
        for index, piece in training.settled():
            self._record(stage, index, piece, curves)
        if self.folder is not None:
            self.ledger.flush()
            if curves is not None:
                self.folder.write_results(self.results())
            saver.save(training.snapshot(), time.perf_counter() - began)

    def _end(self, stage: Stage, training: Training, saver: Saver) -> None:
        """States for an extension, then everybody's last record."""
        self._save(stage, training, saver)
        clock = time.perf_counter()
        for index, piece in training.finish():
            self._record(stage, index, piece)
            self._leave(self.options.stop(), saver)
        self._tick(clock, stage.groups[-1])
        saver.wait()

    def _record(self, stage: Stage, index: int, piece: Piece, curves: Curves | None = None) -> None:
        numbers, group = stage.numbers[index][piece.trials], stage.groups[index]
        if piece.ended is not None and self.folder is not None:
            self._keep(group, numbers, piece)
        piece = piece._replace(trials=numbers)
        self.ledger.add(group, piece)
        self.counter.add(piece, self.study.steps_per_epoch(self.roster.groups[group]))
        if not piece.final and piece.epochs[-1] > 0:
            self.times.setdefault("first_epoch_seconds", time.perf_counter() - self.counter.start)
        if curves is not None:
            curves.add(piece)

    def _keep(self, group: int, numbers: np.ndarray, piece: Piece) -> None:
        """The weights of trials that ended."""
        weights, states = self.trials[group].weights, piece.ended.states
        if weights is not None:
            kept = {"last": flat(weights.kept(states.state))}
            kept |= {} if states.best is None else {"best": flat(states.best.kept)}
            write_weights(self.folder.weights_path, numbers, piece.epochs, kept)

    def _tick(self, clock: float, group: int) -> float:
        now = time.perf_counter()
        self.counter.training += now - clock
        self.times["train_seconds"] += now - clock
        self.counter.report("training", group, self.times["compile_seconds"])
        return now

    def _compiled(self, index: int) -> Programs:
        """One group's programs, at the width that is now fixed."""
        self._leave(self.options.stop())
        counter, times, group = self.counter, self.times, self.roster.groups[index]
        width = self.options.width or self.widths[index]
        counter.width = width or 0
        counter.report("compiling", index, times["compile_seconds"])

        def tell(width: int) -> None:
            counter.width = width
            counter.report("probing", index, times["compile_seconds"])

        cache = self.options.width_cache
        choice = compile_for(
            self.study, group, self.trials[index], width, self.options.devices, cache=cache, tell=tell
        )
        programs = choice.programs
        self.options.accept(fingerprint_changes(self.fingerprints[index], programs.fingerprint, group))
        self.options.accept(
            determinism_changes(self.nondeterministic[index], programs.nondeterministic, group)
        )
        self.fingerprints[index] = programs.fingerprint
        self.nondeterministic[index] = programs.nondeterministic
        counter.width = self.widths[index] = programs.pack.width
        packs = len(packs_of(len(group.trials), programs.pack.lanes))
        times["compile_seconds"] += programs.compile_seconds
        times["probe_seconds"] += choice.probe_seconds
        times["memory_bytes"] = max(times["memory_bytes"], programs.memory_bytes(packs))
        times["programs"] += 4
        times["programs_from_cache"] += len(programs.saved_seconds)
        return programs
