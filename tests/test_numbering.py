"""Which trials a run has and when they train, in whatever order the settings stand; each is looked up a few times."""

from types import SimpleNamespace

import numpy as np
import pytest
from jaxlab.study.roster import make_roster, stages

from jaxlab import InputError
from jaxlab.space import Group


class Id(str):
    """A text that counts how often it is looked up."""

    looked_up = 0

    def __hash__(self):
        Id.looked_up += 1
        return super().__hash__()


def study_of(ids, groups):
    """A study of trials by id; ``groups`` says which of them share a configuration."""
    rows = [np.flatnonzero(np.array(groups) == group) for group in dict.fromkeys(groups)]
    made = tuple(
        Group({"features": (int(row[0]),)}, tuple(row.tolist()), {"seed": np.zeros(len(row), int)})
        for row in rows
    )
    return SimpleNamespace(trial_ids=tuple(map(Id, ids)), groups=made, name="study")


def described(ids, groups, cohorts=None):
    return {
        "coordinates": {"trial_id": [Id(each) for each in ids]},
        "groups": [{"trials": trials, "configuration": {}} for trials in groups],
        "cohorts": cohorts or [len(ids)],
    }


def test_a_thousand_trials_are_looked_up_a_few_times_each():
    ids = [f"{index:05d}" for index in range(1000)]
    before = described(ids[:600], [list(range(0, 600, 2)), list(range(1, 600, 2))])
    study = study_of(ids[::-1], [index % 2 for index in range(1000)][::-1])
    Id.looked_up = 0
    roster = make_roster(study, before)
    assert Id.looked_up < 10 * 1000
    assert roster.trial_ids[:600] == ids[:600]
    assert roster.cohorts == [600, 400]


def test_old_trials_keep_their_numbers_and_groups_and_new_ones_come_behind():
    before = described("abcd", [[0, 3], [1, 2]])
    roster = make_roster(study_of("xbdcay", [2, 1, 0, 1, 0, 0]), before)
    assert roster.trial_ids == list("abcdxy")
    assert [numbers.tolist() for numbers in roster.numbers] == [[3, 0, 5], [1, 2], [4]]
    found = stages(roster, together=False)
    assert [(stage.name, stage.groups, *(each.tolist() for each in stage.numbers)) for stage in found] == [
        ("c000-g000", [0], [0, 3]),
        ("c000-g001", [1], [1, 2]),
        ("c001-g000", [0], [5]),
        ("c001-g002", [2], [4]),
    ]
    assert [stage.rows[0].tolist() for stage in found] == [[1, 0], [0, 1], [2], [0]]
    first, second = stages(roster, together=True)
    assert (first.name, first.groups, second.name, second.groups) == ("c000", [0, 1], "c001", [0, 2])


@pytest.mark.parametrize("groups", [[[0, 1], [2, 3]], [[0], [1, 2], [3]]])
def test_other_groups_than_the_studys_are_refused(groups):
    with pytest.raises(InputError, match="space = 'study': has other groups of trials than the run"):
        make_roster(study_of("abcd", [0, 1, 1, 0]), described("abcd", groups))
