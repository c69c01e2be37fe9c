"""Is a finished run reproduced, bit for bit?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlab import runs
from jaxlab.checks import seed as check_seed
from jaxlab.checks import whole
from jaxlab.errors import InputError
from jaxlab.runs import Options, Progress, Verification
from jaxlab.store import Description, RunFolder
from jaxlab.study.files import study_from_table, uses_functions
from jaxlab.study.study import Study


def verify(
    run: str | os.PathLike,
    trials: int = 3,
    *,
    study: Study | None = None,
    seed: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Train some random trials of a finished run again, at its width, and compare all they recorded bit for bit.

    Args:
        run: the run folder; nothing in it changes.
        trials: how many.
        study: the run's study. By default it is read from what the run says of its study file; one that uses custom
            functions, or data from an address, has to be given.
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
    job = _study(study, description, run).job
    count = len(description.trial_ids)  # the study may have more trials by now
    chosen = np.random.default_rng(None if seed is None else check_seed("seed", seed)).choice(
        count, min(whole("trials", trials, 1), count), replace=False
    )
    devices = list(devices or jax.devices()[: description.environment.devices])
    options = Options(devices, progress=progress or (lambda _: None))
    return runs.verify(job, folder, description, sorted(chosen.tolist()), options)


def _study(study: Study | None, description: Description, run: str | os.PathLike) -> Study:
    """The run's study, checked."""
    if study is None:
        source = description.source
        why = "was not started from a study file" if source is None else _not_ours(source.table)
        if why:
            raise InputError("study", None, f"the run {why}: give the study")
        study = study_from_table(source.table, Path(source.folder))
    if study.job.study_hash != description.study_hash or study.epochs != description.epochs:
        raise InputError("study", study.name, f"is not the study of {run}")
    return study


def _not_ours(table: Mapping[str, Any]) -> str:
    """Why a study file that a run folder quotes is not followed."""
    if uses_functions(table):
        return "uses custom functions"
    data = table.get("data")
    return "has its data from an address" if isinstance(data, dict) and "url" in data else ""
