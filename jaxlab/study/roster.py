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

    def cohort(self, index: int) -> range:
        """Numbers of one cohort's trials."""
        first = sum(self.cohorts[:index])
        return range(first, first + self.cohorts[index])


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
    added = [each for each in ids if each not in set(before)]
    number = {each: index for index, each in enumerate([*before, *added])}
    of = {number[ids[trial]]: index for index, group in enumerate(study.groups) for trial in group.trials}
    first = [of[entry["trials"][0]] for entry in description["groups"]]
    order = [*first, *(index for index in range(len(study.groups)) if index not in first)]
    groups = [study.groups[index] for index in order]
    numbers = [np.array([number[ids[index]] for index in group.trials]) for group in groups]
    cohorts = [*description["cohorts"], *([len(added)] if added else [])]
    return Roster(groups, numbers, [*before, *added], cohorts)


def stages(roster: Roster, together: bool) -> list[Stage]:
    """What trains when: cohort after cohort; within one, all groups ``together``, or one after the other."""
    found = []
    for cohort in range(len(roster.cohorts)):
        members = np.array(roster.cohort(cohort))
        parts = []
        for group, numbers in enumerate(roster.numbers):
            rows = np.flatnonzero(np.isin(numbers, members))
            rows = rows[np.argsort(numbers[rows])]  # the space may list them in another order than the run's
            if len(rows):
                parts.append((group, rows, numbers[rows]))
        if together:
            found.append(Stage(f"c{cohort:03d}", *map(list, zip(*parts, strict=True))))
        else:
            found += [Stage(f"c{cohort:03d}-g{part[0]:03d}", *([each] for each in part)) for part in parts]
    return found


def _check_kept(study: Any, before: list[str], description: Mapping[str, Any]) -> None:
    missing = [index for index, each in enumerate(before) if each not in set(study.trial_ids)]
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


def plain_configuration(group: Group) -> dict[str, Any]:
    """A group's configuration as JSON holds it."""
    return {name: recorded(value) for name, value in group.configuration.items()}
