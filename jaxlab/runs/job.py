"""What a run executes: a study that has been resolved and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxlab.pruning import Rule
from jaxlab.space import Group, trial_ids
from jaxlab.store import Source, Specification
from jaxlab.trial import Trial


@dataclass(frozen=True)
class Job:
    """Groups of trials to train, and how.

    Attributes:
        groups: the trials by configuration, numbered from 0 in the order of the space; one compiled program each.
        trial_of: ``group -> Trial``, the pure functions that train one trial of the group.
        arrays: what all trials share on the devices.
        epochs: of every trial.
        steps_per_epoch: ``group -> optimisation steps``.
        rules: which stop trials early.
        deterministic: True, False or "auto", see `jaxlab.engine.compile_group`.
        labelled: whether the trials label all that they record, so that a rule that reads anything else is an error.
        specification: what the study declares.
        study_hash: identifies the study, whatever its epochs, settings and traced programs.
        source: the study file, if there is one.
    """

    groups: tuple[Group, ...]
    trial_of: Callable[[Group], Trial]
    arrays: Any
    epochs: int
    steps_per_epoch: Callable[[Group], int]
    rules: Sequence[Rule]
    deterministic: bool | str
    labelled: bool
    specification: Specification
    study_hash: str
    source: Source | None

    @property
    def name(self) -> str:
        """Of the study."""
        return self.specification.name

    @cached_property
    def trial_ids(self) -> tuple[str, ...]:
        """A hash of each trial's setting, by number."""
        ids: dict[int, str] = {}
        for group in self.groups:
            ids.update(zip(group.trials, trial_ids(group), strict=True))
        return tuple(ids[number] for number in sorted(ids))
