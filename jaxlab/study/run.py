"""Training a study: one group after the other, pieces to disk, results at the end."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from jaxlab.engine import Piece, Programs, compile_group, packs_of, train
from jaxlab.store import RunFolder, build_results, read_results
from jaxlab.study.describe import (
    coordinates,
    environment,
    group_entry,
    run_hash,
    specification,
    width_of_all,
)
from jaxlab.study.memory import memory_named
from jaxlab.study.resolve import hyperparameters_in


class Progress(NamedTuple):
    """What a run has done so far.

    Attributes:
        phase: "compiling", "probing" (choosing the width), "training" or "done".
        group: index of the group under way, of ``groups``.
        trial_epochs: epochs finished, summed over trials, of ``all_trial_epochs``.
        trials: of the study.
        trial_steps: optimisation steps taken, summed over trials.
        diverged: trials that met a bad step so far.
        seconds: since the training of this group began, compilation left out.
        rate: trial-steps per second of this group's training; 0 while unknown.
        compile_seconds: of all groups so far.
        width: of this group; the one that is tried while probing; 0 while unknown.
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
    width: int


def run_study(
    study: Any,
    width: int | None,
    devices: Sequence[jax.Device],
    out: str | os.PathLike | None,
    progress: Callable[[Progress], None] | None,
    width_cache: str | os.PathLike | None,
) -> xr.Dataset:
    """See `jaxlab.Study.run`; a width of None is chosen."""
    folder = None if out is None else RunFolder(out)
    widths = [width] * len(study.groups)
    if folder is not None:
        folder.check_free(run_hash(study))
        if folder.complete:
            return read_results(folder.path)
        if width is None and folder.begun:
            widths = folder.widths()
    run = _Run(study, widths, list(devices), width_cache, progress or (lambda _: None))
    kept: list[tuple[int, Piece]] = []
    begun = -1
    with memory_named(lambda: run.width), closing(run.pieces()) as pieces:
        for index, piece in pieces:
            if folder is None:
                kept.append((index, piece))
                continue
            if index > begun:
                _begin_group(folder, run.description(), index)
                begun = index
            folder.write_piece(index, piece)
    description = run.description()
    results = build_results(description, kept if folder is None else folder.pieces())
    if folder is not None:
        folder.finish(description, results)
    run.report("done", len(study.groups) - 1)
    return results


def _begin_group(folder: RunFolder, description: dict[str, Any], group: int) -> None:
    """The group's width is on disk before any of its pieces."""
    if group == 0:
        folder.create(description)
    else:
        folder.rewrite(description)


class _Run:
    """The state of one run in progress: clocks and counters for whoever watches."""

    def __init__(
        self,
        study: Any,
        widths: list[int | None],
        devices: list[jax.Device],
        width_cache: str | os.PathLike | None,
        progress: Callable[[Progress], None],
    ):
        self.start = self.began = time.perf_counter()
        self.study, self.devices, self.width_cache, self.progress = study, devices, width_cache, progress
        self.widths, self.width = widths, 0
        self.trials = [study.trial_of(group) for group in study.groups]
        self.trial_epochs = self.trial_steps = self.steps_before = 0
        self.bad: set[tuple[int, int]] = set()
        self.times = dict.fromkeys(("compile_seconds", "probe_seconds", "train_seconds"), 0.0)
        self.times |= dict.fromkeys(("memory_bytes", "programs", "programs_from_cache"), 0)

    def description(self) -> dict[str, Any]:
        """What ``run.json`` says; widths as far as they are chosen."""
        study = self.study
        groups = [group_entry(group, trial) for group, trial in zip(study.groups, self.trials, strict=True)]
        chosen = [width for width in self.widths if width is not None]
        return {
            "format": 1,
            "name": study.name,
            "run_hash": run_hash(study),
            "epochs": study.epochs,
            "specification": specification(study),
            "environment": environment(self.devices) | {"width": width_of_all(chosen)},
            "coordinates": coordinates(study),
            "groups": [entry | {"width": width} for entry, width in zip(groups, self.widths, strict=True)],
            "times": dict(self.times),
        }

    def pieces(self) -> Iterator[tuple[int, Piece]]:
        """Compile and train every group."""
        for index, group in enumerate(self.study.groups):
            hyperparameters = hyperparameters_in(group)
            programs = self._compiled(index, hyperparameters)
            self.began, self.steps_before = time.perf_counter(), self.trial_steps
            for piece in train(programs, hyperparameters, self.study.arrays, self.study.epochs):
                self._count(index, piece)
                self.report("training", index)
                yield index, piece
            self.times["train_seconds"] += time.perf_counter() - self.began

    def _compiled(self, index: int, hyperparameters: Any) -> Programs:
        """One group's programs, at the width that is now fixed."""
        self.width = self.widths[index] or 0
        self.report("compiling", index)

        def tell(width: int) -> None:
            self.width = width
            self.report("probing", index)

        choice = compile_group(
            self.trials[index],
            hyperparameters,
            self.study.arrays,
            self.study.epochs,
            self.widths[index],
            self.devices,
            cache=self.width_cache,
            tell=tell,
        )
        programs, times = choice.programs, self.times
        self.width = self.widths[index] = programs.pack.width
        packs = len(packs_of(len(self.study.groups[index].trials), programs.pack.lanes))
        times["compile_seconds"] += programs.compile_seconds
        times["probe_seconds"] += choice.probe_seconds
        times["memory_bytes"] = max(times["memory_bytes"], programs.memory_bytes(packs))
        times["programs"] += 4
        times["programs_from_cache"] += len(programs.saved_seconds)
        return programs

    def _count(self, group: int, piece: Piece) -> None:
        if piece.epochs.size and piece.epochs[0] > 0:
            epochs = len(piece.trials) * len(piece.epochs)
            self.trial_epochs += epochs
            self.times.setdefault("first_epoch_seconds", time.perf_counter() - self.start)
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
                self.width,
            )
        )
