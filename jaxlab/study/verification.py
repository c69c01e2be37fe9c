"""Verify that a finished run is reproduced bit by bit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from jaxlab import runs
from jaxlab.checks import seed as check_seed
from jaxlab.checks import whole
from jaxlab.errors import InputError
from jaxlab.runs import Options, Progress, Verification
from jaxlab.store import Description, RunFolder
from jaxlab.study.study import Study
from jaxlab.study.study_file import Table, study_from_table, uses_functions


def verify(
    run: str | os.PathLike,
    trials: int = 3,
    *,
    study: Study | None = None,
    seed: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Train random trials of a finished run again, at the run's width, and compare all their records bit by bit.

    Args:
        run: run folder, which is not changed.
        trials: number of trials to train again.
        study: study of the run. By default it is read from the study file that the run folder quotes. A study with
            custom functions or with data from a URL must be passed.
        seed: seed of the choice of trials; None chooses differently each time.
        devices: devices to train on; by default as many as the run used, or all if there are fewer.
        progress: function that receives the progress, as in `Study.run`.

    Returns:
        the verdicts on the chosen trials, and the changes since or during the run.

    Raises:
        InputError: the run is not finished, or ``study`` is missing or is not the study of the run.
    """
    folder = RunFolder(run)
    description = folder.describe()
    if not folder.complete:
        raise InputError("run", str(run), "is not finished: run it to its end first")
    job = _study(study, description, run).job
    count = len(description.trial_ids)  # the study may have gained trials since
    chosen = np.random.default_rng(None if seed is None else check_seed("seed", seed)).choice(
        count, min(whole("trials", trials, 1), count), replace=False
    )
    devices = list(devices or jax.devices()[: description.environment.devices])
    options = Options(devices, progress=progress or (lambda _: None))
    return runs.verify(job, folder, description, sorted(chosen.tolist()), options)


def _study(study: Study | None, description: Description, run: str | os.PathLike) -> Study:
    """The given study, or the one in the run's study file; raise InputError unless it is the run's study."""
    if study is None:
        source = description.source
        why = "was not started from a study file" if source is None else _not_ours(source.table)
        if why:
            raise InputError("study", None, f"the run {why}: give the study")
        study = study_from_table(source.table, Path(source.folder))
    if study.job.study_hash != description.study_hash or study.epochs != description.epochs:
        raise InputError("study", study.name, f"is not the study of {run}")
    return study


def _not_ours(table: Table) -> str:
    """The reason not to follow the study file that a run folder quotes; empty if it can be followed."""
    if uses_functions(table):
        return "uses custom functions"
    data = table.get("data")
    return "has its data from an address" if isinstance(data, dict) and "url" in data else ""
