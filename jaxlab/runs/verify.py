"""Is a finished run reproduced, bit for bit?"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab.engine import GroupTraining, Programs, Training, placed
from jaxlab.errors import InputError
from jaxlab.store import Recorded, RunFolder, read_log
from jaxlab.study.changes import determinism_changes, environment_changes, fingerprint_changes
from jaxlab.study.checks import positive_int
from jaxlab.study.checks import seed as check_seed
from jaxlab.study.compiling import compile_for, fingerprint_of
from jaxlab.study.describe import environment, study_hash
from jaxlab.study.files import study_from_table, uses_functions
from jaxlab.study.progress import Counter, Progress
from jaxlab.study.resolve import hyperparameters_in
from jaxlab.study.roster import Roster, make_roster
from jaxlab.study.run import Options

_END = 10**9  # stands for the last record, behind every epoch


class Verdict(NamedTuple):
    """One trial trained again.

    Attributes:
        trial: its number in the run.
        trial_id: of its setting.
        differs: what is not bitwise equal, as ``"variable at epoch 3"``, in order of epochs; empty if all is.
    """

    trial: int
    trial_id: str
    differs: tuple[str, ...]


class Verification(NamedTuple):
    """What `verify` found.

    Attributes:
        trials: those that were trained again.
        changes: what is not as it was in the run (versions, device, number of devices, processor, code), or changed in
            the course of the run, in words.
    """

    trials: tuple[Verdict, ...]
    changes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether every one is bitwise equal."""
        return not any(verdict.differs for verdict in self.trials)


def verify(
    run: str | os.PathLike,
    trials: int = 3,
    *,
    study: Any = None,
    seed: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Train some random trials of a finished run again, at its width, and compare all they recorded bit for bit.

    Args:
        run: the run folder; nothing in it changes.
        trials: how many.
        study: the run's study. By default it is read from what the run says of its study file; one that uses functions
            of your own, or data from an address, has to be given.
        seed: of the choice of trials; by default another choice each time.
        devices: by default as many as the run had, or all there are.
        progress: as for `Study.run`.

    Raises:
        InputError: the run is not finished, or the study is not its study.
    """
    folder = RunFolder(run)
    description = folder.describe()
    if not folder.complete:
        raise InputError("run", str(run), "is not finished: run it to its end first")
    study = _study(study, description, run)
    roster = make_roster(study, description)
    known = len(description["coordinates"]["trial_id"])  # the study may have more by now
    chosen = _chosen(
        known, positive_int("trials", trials), None if seed is None else check_seed("seed", seed)
    )
    devices = list(devices or jax.devices()[: description["environment"]["devices"]])
    options = Options(devices, progress=progress or (lambda _: None))
    then, now = read_log(folder.pieces_path, description), Recorded([], [])
    ends = _ends(then, len(roster.trial_ids))
    changes = [f"while it was trained, {each}" for each in description["changes"]]
    changes += environment_changes(
        description["environment"], environment(devices), study.rules, counting=True
    )
    for index, entry in enumerate(description["groups"]):
        rows, group = np.flatnonzero(np.isin(roster.numbers[index], chosen)), roster.groups[index]
        if not len(rows):
            changes += fingerprint_changes(entry["fingerprint"], fingerprint_of(study, group), group)
        else:
            programs = _train_again(study, roster, index, rows, entry["width"], ends, options, now)
            changes += fingerprint_changes(entry["fingerprint"], programs.fingerprint, group)
            changes += determinism_changes(entry["nondeterministic"], programs.nondeterministic, group)
    verdicts = [
        Verdict(number, roster.trial_ids[number], _differences(then, now, number)) for number in chosen
    ]
    return Verification(tuple(verdicts), tuple(changes))


def _study(study: Any, description: Mapping[str, Any], run: Any) -> Any:
    """The run's study, checked."""
    if study is None:
        source = description.get("source")
        why = "was not begun from a study file" if source is None else _not_ours(source["table"])
        if why:
            raise InputError("study", None, f"the run {why}: give the study")
        study = study_from_table(source["table"], Path(source["folder"]))
    if study_hash(study) != description["study_hash"] or study.epochs != description["epochs"]:
        raise InputError("study", study.name, f"is not the study of {run}")
    return study


def _not_ours(table: Mapping[str, Any]) -> str:
    """Why a study file that only a run folder tells of is not followed."""
    if uses_functions(table):
        return "uses functions of your own"
    data = table.get("data")
    return "has its data from an address" if isinstance(data, dict) and "url" in data else ""


def _chosen(count: int, trials: int, seed: int | None) -> list[int]:
    return sorted(np.random.default_rng(seed).choice(count, min(trials, count), replace=False).tolist())


def _ends(recorded: Recorded, count: int) -> np.ndarray:
    """The epoch after which each trial ended."""
    ends = np.full(count, -1)
    for _, piece in recorded.pieces:
        if piece.final:
            ends[piece.trials] = np.maximum(ends[piece.trials], piece.epochs)
    return ends


def _train_again(
    study: Any,
    roster: Roster,
    index: int,
    rows: np.ndarray,
    width: int,
    ends: np.ndarray,
    options: Options,
    into: Recorded,
) -> Programs:
    """Train some rows of a group to where they ended; the programs that did."""
    group, numbers = roster.groups[index], roster.numbers[index][rows]
    counter = Counter(len(rows), study.epochs, 1, options.progress)
    counter.width = width
    counter.report("compiling", 0, 0.0)
    hyperparameters = jax.tree.map(lambda leaf: leaf[rows], hyperparameters_in(group))
    programs = compile_for(study, group, study.trial_of(group), width, options.devices).programs
    training = Training(
        [GroupTraining(programs, hyperparameters, placed(study.arrays, programs.pack))], study.epochs
    )

    def decide(epoch: int) -> list[np.ndarray]:
        return [np.flatnonzero(ends[numbers] == epoch)]

    for pieces in (training.segments(decide), training.finish()):
        for _, piece in pieces:
            counter.add(piece, study.steps_per_epoch(group))
            counter.report("training", 0, programs.compile_seconds)
            into.add(index, piece._replace(trials=numbers[piece.trials]))
    return programs


def _differences(then: Recorded, now: Recorded, number: int) -> tuple[str, ...]:
    before, after = _values(then, number), _values(now, number)
    differ = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return tuple(f"{name} {'at the end' if epoch == _END else f'at epoch {epoch}'}" for epoch, name in differ)


def _values(recorded: Recorded, number: int) -> dict[tuple[int, str], bytes]:
    """The bits of everything that a trial recorded, by epoch and name; of last records the latest alone."""
    found: dict[tuple[int, str], bytes] = {}
    latest = -1
    for _, piece in recorded.pieces:
        for row in np.flatnonzero(piece.trials == number):
            if piece.final:
                if piece.epochs[row] >= latest:
                    latest = piece.epochs[row]
                    found |= {(_END, name): values[row].tobytes() for name, values in piece.record.items()}
                continue
            for at, epoch in enumerate(piece.epochs.tolist()):
                found |= {(epoch, name): values[row, at].tobytes() for name, values in piece.record.items()}
    return found
