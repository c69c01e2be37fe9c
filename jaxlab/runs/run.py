"""Training a study, from wherever an earlier start left it."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import xarray as xr

from jaxlab.errors import InputError
from jaxlab.store import RunFolder, mended_results, only_writer
from jaxlab.study.changes import (
    check_accepted,
    check_extension,
    environment_changes,
    fingerprint_changes,
    version_changes,
    width_changes,
)
from jaxlab.study.compiling import fingerprint_of
from jaxlab.study.describe import environment, specification, study_hash
from jaxlab.study.memory import memory_named
from jaxlab.study.progress import Progress
from jaxlab.study.roster import make_roster
from jaxlab.study.running import Run


@dataclass
class Options:
    """How to run; see `jaxlab.Study.run`. ``changes``: what differs from earlier starts and was accepted."""

    devices: Sequence[jax.Device]
    out: str | os.PathLike | None = None
    width: int | None = None
    progress: Callable[[Progress], None] = lambda progress: None
    width_cache: str | os.PathLike | None = None
    checkpoint_seconds: float | None = None
    stop: Callable[[], bool] = lambda: False
    accept_changes: bool = False
    changes: list[str] = field(default_factory=list)

    def accept(self, changes: Sequence[str]) -> None:
        """Note what differs, or raise if the user has not said that it does not matter."""
        check_accepted(changes, self.accept_changes, self.out)
        self.changes += [each for each in changes if each not in self.changes]


def run_study(study: Any, options: Options) -> xr.Dataset:
    """See `jaxlab.Study.run`."""
    if options.out is None:
        run = Run(study, options, make_roster(study, None))
        return _trained(run)
    folder = RunFolder(options.out)
    if folder.complete:
        description = folder.describe()
        if _is_same(study, description):
            _check_programs(study, options, folder, description)
            return mended_results(folder, description)
    folder.check_usable()
    with contextlib.ExitStack() as stack:
        if not folder.begun:

            def begin() -> None:
                folder.make()
                stack.enter_context(only_writer(folder.path))
                if folder.begun:  # while this process compiled
                    raise InputError(
                        "out", str(folder.path), "another process has begun a run there: run it again"
                    )

            return _trained(Run(study, options, make_roster(study, None), folder, None, begin))
        stack.enter_context(only_writer(folder.path))
        return _trained(_resumed(study, options, folder))


def _resumed(study: Any, options: Options, folder: RunFolder) -> Run:
    """The run that goes on in a folder, or the error that says why it cannot."""
    description = folder.describe()
    if description["study_hash"] != study_hash(study):
        raise InputError("out", str(folder.path), _another(study, description))
    roster = make_roster(study, description)
    before = roster.groups[: len(description["groups"])]
    check_extension(study, before, description["epochs"])
    changes = environment_changes(description["environment"], environment(options.devices), study.rules)
    changes += width_changes(description, options.width)
    if study.epochs > description["epochs"]:  # before the first of the groups is trained further
        for group, entry in zip(before, description["groups"], strict=True):
            changes += fingerprint_changes(entry["fingerprint"], fingerprint_of(study, group), group)
    options.accept(changes)
    return Run(study, options, roster, folder, description, begin=folder.resume)


def _check_programs(study: Any, options: Options, folder: RunFolder, description: Mapping[str, Any]) -> None:
    """Raise where a finished run's programs are not those of the study, unless that is accepted."""
    before, now = description["environment"], environment(options.devices)
    unlike = version_changes(before, now)
    if before.get("platform") != now["platform"]:
        unlike.append(f"the platform is {now['platform']} and was {before.get('platform')}")
    if unlike:  # programs that were traced otherwise are not comparable
        warnings.warn(f"{folder.path} is read without comparing its code: {'; '.join(unlike)}", stacklevel=4)
        return
    roster, changes = make_roster(study, description), []
    for group, entry in zip(roster.groups, description["groups"], strict=True):
        changes += fingerprint_changes(entry["fingerprint"], fingerprint_of(study, group), group)
    if changes and not options.accept_changes:
        remedy = (
            "its results are those of the earlier code: restore that, name another folder, or read them with "
        )
        remedy += "--accept-changes (accept_changes=True)"
        raise InputError("run", str(folder.path), f"is finished, and {'; '.join(changes)}; {remedy}")


def _is_same(study: Any, description: Mapping[str, Any]) -> bool:
    """Whether a finished run is all that the study asks for."""
    if description["study_hash"] != study_hash(study) or description["epochs"] != study.epochs:
        return False
    return len(make_roster(study, description).trial_ids) == len(description["coordinates"]["trial_id"])


def _another(study: Any, description: Mapping[str, Any]) -> str:
    """How the study of a folder differs."""
    then, now = description["specification"], specification(study)
    names = ("data", "data_seed", "rules", "keep")
    differ = " and ".join(name for name in names if then.get(name) != now[name]) or "data"
    return f"holds another study (its {differ} differ): name another folder or remove it"


def _trained(run: Run) -> xr.Dataset:
    with memory_named(lambda: run.counter.width):
        for stage in run.stages():
            run.train(stage)
    results = run.results()
    if run.folder is not None:
        run.folder.finish(run.description(), results)
    run.counter.report("done", len(run.roster.groups) - 1, run.times["compile_seconds"])
    return results
