"""Which trials a run has: their numbers, groups and cohorts, those of an earlier start first."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxlab.errors import InputError
from jaxlab.space import Group
from jaxlab.study.fingerprint import recorded


class Roster(NamedTuple):
    """Trials by number and groups in the run's order.

    A trial keeps its number for good: settings that were added later come behind those of the first start, as a
    cohort of their own.

    Attributes:
        groups: one compiled program each.
        numbers: of the trials in each group's rows.
        trial_ids: by number.
        cohorts: how many trials each cohort has, in order of their numbers.
    """

    groups: list[Group]
    numbers: list[np.ndarray]
    trial_ids: list[str]
    cohorts: list[int]


class Stage(NamedTuple):
    """Trials of one cohort that train together.

    Attributes:
        name: of the stage, in the run folder.
        groups: indices of their groups.
        rows: of each group, which of its rows take part.
        numbers: of each group, their trials' numbers, ascending.
    """

    name: str
    groups: list[int]
    rows: list[np.ndarray]
    numbers: list[np.ndarray]


def make_roster(study: Any, description: Mapping[str, Any] | None) -> Roster:
    """The trials of a study, numbered as in the run that ``description`` is of.

    Raises:
        InputError: the run has trials that the study lacks.
    """
    ids = list(study.trial_ids)
    if description is None:
        return Roster(list(study.groups), [np.array(group.trials) for group in study.groups], ids, [len(ids)])
    before = description["coordinates"]["trial_id"]
    _check_kept(study, before, description)
    known = set(before)
    added = [each for each in ids if each not in known]
    number = {each: index for index, each in enumerate([*before, *added])}
    of = {number[ids[trial]]: index for index, group in enumerate(study.groups) for trial in group.trials}
    first = [of[entry["trials"][0]] for entry in description["groups"]]
    order = list(dict.fromkeys([*first, *range(len(study.groups))]))
    groups = [study.groups[index] for index in order]
    numbers = [np.array([number[ids[index]] for index in group.trials]) for group in groups]
    cohorts = [*description["cohorts"], *([len(added)] if added else [])]
    roster = Roster(groups, numbers, [*before, *added], cohorts)
    _check_groups(study, roster, description)
    return roster


def stages(roster: Roster, together: bool) -> list[Stage]:
    """What trains when: cohort after cohort; within one, all groups ``together``, or one after the other."""
    cohort_of = np.repeat(np.arange(len(roster.cohorts)), roster.cohorts)
    parts: list[list[tuple[int, np.ndarray, np.ndarray]]] = [[] for _ in roster.cohorts]
    for group, numbers in enumerate(roster.numbers):
        rows = np.argsort(numbers)  # the space may list them in another order than the run's
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


def _check_kept(study: Any, before: list[str], description: Mapping[str, Any]) -> None:
    now = set(study.trial_ids)
    missing = [index for index, each in enumerate(before) if each not in now]
    if len(missing) == len(before):
        raise InputError(
            "space", study.name, "has none of the run's trials: it is another study; name another folder"
        )
    if missing:
        columns = description["coordinates"]
        setting = {name: values[missing[0]] for name, values in columns.items() if name != "trial_id"}
        setting = {name: value for name, value in setting.items() if value is not None}
        remedy = (
            f"lacks {len(missing)} of the run's {len(before)} trials, such as {setting}: only add settings, "
        )
        raise InputError("space", study.name, f"{remedy}or name another folder")


def _check_groups(study: Any, roster: Roster, description: Mapping[str, Any]) -> None:
    """Raise unless each of the run's groups is one of the study's, as far as the run's trials go."""
    count = len(description["coordinates"]["trial_id"])
    for numbers, entry in zip(roster.numbers, description["groups"], strict=False):
        if sorted(entry["trials"]) != np.sort(numbers[numbers < count]).tolist():
            remedy = "has other groups of trials than the run: name another folder"
            raise InputError("space", study.name, remedy)


def plain_configuration(group: Group) -> dict[str, Any]:
    """A group's configuration as JSON holds it."""
    return {name: recorded(value) for name, value in group.configuration.items()}
