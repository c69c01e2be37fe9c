"""The job that a run executes: a resolved and checked study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxlab.pruning import Rule
from jaxlab.space import Group, trial_ids
from jaxlab.store import Source, Specification
from jaxlab.trial import PyTree, Trial


@dataclass(frozen=True)
class Job:
    """Everything that a run needs to train groups of trials.

    Attributes:
        groups: trials by configuration, numbered from 0 in the order of the space; each group has one compiled program.
        trial_of: ``group -> Trial``, the pure functions that train one trial of a group.
        arrays: arrays that all trials share on the devices.
        epochs: planned number of epochs.
        steps_per_epoch: ``group -> optimisation steps``.
        rules: stopping rules.
        deterministic: True, False or "auto", see `jaxlab.engine.compile_group`.
        labelled: whether trials label every variable that they record, so that a rule that reads another one is an
            error.
        specification: declaration of the study.
        study_hash: identifies the study, independently of its epochs, settings and traced programs.
        source: the study file, if there is one.
    """

    groups: tuple[Group, ...]
    trial_of: Callable[[Group], Trial]
    arrays: PyTree
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
        """The name of the study."""
        return self.specification.name

    @cached_property
    def trial_ids(self) -> tuple[str, ...]:
        """The hash of each trial's setting, in order of the trials' numbers."""
        ids: dict[int, str] = {}
        for group in self.groups:
            ids.update(zip(group.trials, trial_ids(group), strict=True))
        return tuple(ids[number] for number in sorted(ids))
