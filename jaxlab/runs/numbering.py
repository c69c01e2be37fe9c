"""The numbers of a run's trials, which never change, and the stages in which they train."""

from typing import NamedTuple

import numpy as np

from jaxlab.errors import InputError
from jaxlab.runs.job import Job
from jaxlab.space import Group
from jaxlab.store import Description


class Numbering(NamedTuple):
    """The groups of a run and the numbers of their trials.

    Trials that are added later form a new cohort, with numbers after those of earlier cohorts.

    Attributes:
        groups: groups of the run, those of earlier starts first.
        numbers: for each group, the numbers of its trials, ``[T]``, in the group's order.
        trial_ids: ids of the trials, in order of their numbers.
        cohorts: number of trials in each cohort, in order of their numbers.
    """

    groups: list[Group]
    numbers: list[np.ndarray]
    trial_ids: list[str]
    cohorts: list[int]


class Stage(NamedTuple):
    """Trials of one cohort that train together, one step of a run.

    Attributes:
        name: name of the stage, in the run folder.
        groups: indices of the groups with trials in the stage.
        rows: for each of these groups, indices of the trials that take part.
        numbers: for each of these groups, numbers of these trials, ascending.
    """

    name: str
    groups: list[int]
    rows: list[np.ndarray]
    numbers: list[np.ndarray]


def number_trials(job: Job, earlier: Description | None) -> Numbering:
    """Number the trials of a job; those of an earlier start keep their numbers.

    Raises:
        InputError: the job lacks trials of the run.
    """
    ids = list(job.trial_ids)
    if earlier is None:
        return Numbering(list(job.groups), [np.array(group.trials) for group in job.groups], ids, [len(ids)])
    before = earlier.trial_ids
    _check_kept(job, earlier)
    known = set(before)
    added = [each for each in ids if each not in known]
    number = {each: index for index, each in enumerate([*before, *added])}
    group_of = {number[ids[trial]]: index for index, group in enumerate(job.groups) for trial in group.trials}
    first = [group_of[entry.trials[0]] for entry in earlier.groups]
    order = list(dict.fromkeys([*first, *range(len(job.groups))]))
    groups = [job.groups[index] for index in order]
    numbers = [np.array([number[ids[trial]] for trial in group.trials]) for group in groups]
    cohorts = [*earlier.cohorts, *([len(added)] if added else [])]
    _check_groups(job, numbers, earlier)
    return Numbering(groups, numbers, [*before, *added], cohorts)


def stages(numbering: Numbering, together: bool) -> list[Stage]:
    """The stages of a run: cohort by cohort, and within a cohort all groups ``together`` or one by one."""
    cohort_of = np.repeat(np.arange(len(numbering.cohorts)), numbering.cohorts)
    parts: list[list[tuple[int, np.ndarray, np.ndarray]]] = [[] for _ in numbering.cohorts]
    for group, numbers in enumerate(numbering.numbers):
        rows = np.argsort(numbers)  # the space may list trials in another order than the run
        present, starts = np.unique(cohort_of[numbers[rows]], return_index=True)
        for cohort, its in zip(present.tolist(), np.split(rows, starts[1:]), strict=True):
            parts[cohort].append((group, its, numbers[its]))
    found = []
    for cohort, those in enumerate(parts):
        if together:
            found.append(Stage(f"c{cohort:03d}", *map(list, zip(*those, strict=True))))
        else:
            found += [Stage(f"c{cohort:03d}-g{part[0]:03d}", *([each] for each in part)) for part in those]
    return found


def _check_kept(job: Job, earlier: Description) -> None:
    before, now = earlier.trial_ids, set(job.trial_ids)
    missing = [index for index, each in enumerate(before) if each not in now]
    if len(missing) == len(before):
        raise InputError("space", job.name, "has none of the run's trials: name another folder")
    if missing:
        columns = {name: values[missing[0]] for name, values in earlier.coordinates.items()}
        setting = {name: value for name, value in columns.items() if value is not None and name != "trial_id"}
        remedy = f"lacks {len(missing)} of the run's {len(before)} trials, such as {setting}: "
        raise InputError("space", job.name, f"{remedy}only add settings, or name another folder")


def _check_groups(job: Job, numbers: list[np.ndarray], earlier: Description) -> None:
    """Raise InputError unless each group of the run has the same trials in the job, except for added ones."""
    count = len(earlier.trial_ids)
    for those, entry in zip(numbers, earlier.groups, strict=False):
        if sorted(entry.trials) != np.sort(those[those < count]).tolist():
            raise InputError(
                "space", job.name, "has other groups of trials than the run: name another folder"
            )
