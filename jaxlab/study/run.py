"""Training a study: one group after the other, pieces to disk, results at the end."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from jaxlab.engine import Pack, Piece, compile_programs, train
from jaxlab.errors import InputError
from jaxlab.store import RunFolder, build_results, read_results
from jaxlab.study.describe import coordinates, environment, group_entry, run_hash, specification
from jaxlab.study.resolve import example_in, hyperparameters_in
from jaxlab.trial import Trial


class Progress(NamedTuple):
    """What a run has done so far.

    Attributes:
        phase: "compiling", "training" or "done".
        group: index of the group under way, of ``groups``.
        trial_epochs: epochs finished, summed over trials, of ``all_trial_epochs``.
        trials: of the study.
        trial_steps: optimisation steps taken, summed over trials.
        diverged: trials that met a bad step so far.
        seconds: since the training of this group began, compilation left out.
        rate: trial-steps per second of this group's training; 0 while unknown.
        compile_seconds: of all groups so far.
    """

    phase: str
    group: int
    groups: int
    trial_epochs: int
    all_trial_epochs: int
    trials: int
    trial_steps: int
    diverged: int
    seconds: float
    rate: float
    compile_seconds: float


def run_study(
    study: Any, pack: Pack, out: str | os.PathLike | None, progress: Callable[[Progress], None] | None
) -> xr.Dataset:
    """See `jaxlab.Study.run`."""
    folder = None if out is None else RunFolder(out)
    if folder is not None:
        folder.check_free(run_hash(study))
        if folder.complete:
            return read_results(folder.path)
    trials = [study.trial_of(group) for group in study.groups]
    description = _description(study, pack, trials)
    run = _Run(study, pack, trials, progress or (lambda _: None))
    kept: list[tuple[int, Piece]] = []
    with _memory_named(pack), closing(run.pieces()) as pieces:
        for count, (index, piece) in enumerate(pieces):
            if folder is None:
                kept.append((index, piece))
                continue
            if count == 0:
                folder.create(description)
            folder.write_piece(index, piece)
    description["times"] = run.times
    results = build_results(description, kept if folder is None else folder.pieces())
    if folder is not None:
        folder.finish(description, results)
    run.report("done", len(study.groups) - 1)
    return results


@contextmanager
def _memory_named(pack: Pack) -> Iterator[None]:
    """Out of memory as one line that says what to change."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError("width", pack.width, "out of memory: give a smaller --width") from error


def _description(study: Any, pack: Pack, trials: list[Trial]) -> dict[str, Any]:
    return {
        "format": 1,
        "name": study.name,
        "run_hash": run_hash(study),
        "epochs": study.epochs,
        "specification": specification(study),
        "environment": environment(pack),
        "coordinates": coordinates(study),
        "groups": [group_entry(group, trial) for group, trial in zip(study.groups, trials, strict=True)],
        "times": {},
    }


class _Run:
    """The state of one run in progress: clocks and counters for whoever watches."""

    def __init__(self, study: Any, pack: Pack, trials: list[Trial], progress: Callable[[Progress], None]):
        self.study, self.pack, self.trials, self.progress = study, pack, trials, progress
        self.trial_epochs = self.trial_steps = self.steps_before = 0
        self.began = time.perf_counter()
        self.bad: set[tuple[int, int]] = set()
        self.times = {"compile_seconds": 0.0, "train_seconds": 0.0, "memory_bytes": 0}

    def pieces(self) -> Iterator[tuple[int, Piece]]:
        """Compile and train every group."""
        for index, (group, trial) in enumerate(zip(self.study.groups, self.trials, strict=True)):
            self.report("compiling", index)
            programs = compile_programs(trial, example_in(group), self.study.arrays, self.pack)
            self.times["compile_seconds"] += programs.compile_seconds
            self.times["memory_bytes"] = max(self.times["memory_bytes"], programs.memory_bytes())
            self.began, self.steps_before = time.perf_counter(), self.trial_steps
            for piece in train(programs, hyperparameters_in(group), self.study.arrays, self.study.epochs):
                self._count(index, piece)
                self.report("training", index)
                yield index, piece
            self.times["train_seconds"] += time.perf_counter() - self.began

    def _count(self, group: int, piece: Piece) -> None:
        if piece.epochs.size and piece.epochs[0] > 0:
            epochs = len(piece.trials) * len(piece.epochs)
            self.trial_epochs += epochs
            self.trial_steps += epochs * self.study.steps_per_epoch(self.study.groups[group])
        if "first_bad_step" in piece.record:
            bad = np.any(piece.record["first_bad_step"] >= 0, axis=1)
            self.bad.update((group, int(trial)) for trial in piece.trials[bad])

    def report(self, phase: str, group: int) -> None:
        """Tell the watcher."""
        count = len(self.study.trial_ids)
        seconds = time.perf_counter() - self.began
        self.progress(
            Progress(
                phase,
                group,
                len(self.study.groups),
                self.trial_epochs,
                count * self.study.epochs,
                count,
                self.trial_steps,
                len(self.bad),
                seconds,
                (self.trial_steps - self.steps_before) / seconds,
                self.times["compile_seconds"],
            )
        )
