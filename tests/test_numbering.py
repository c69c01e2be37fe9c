"""The numbers of a run's trials, in whatever order the settings stand, and when they train."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxlab import InputError
from jaxlab.runs import Job, number_trials, stages
from jaxlab.runs.describe import describe
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.space import Group
from jaxlab.store import Data, Specification
from jaxlab.trial import Trial

DECLARED = Specification("study", Data("d"), 1, 0, None, [], "none", "auto", {}, {})
TRIAL = Trial(lambda h, x: x, lambda h, x, _, epoch: (x, {}), lambda h, x, _, final: (x, {}))


class Id(str):
    """A text that counts how often it is looked up."""

    looked_up = 0

    def __hash__(self):
        Id.looked_up += 1
        return super().__hash__()


@dataclasses.dataclass(frozen=True)
class Listed(Job):
    """A job whose trials have the ids that it is given."""

    ids: tuple[str, ...] = ()

    @property
    def trial_ids(self):
        return self.ids


def job(ids, groups):
    """A job of trials by id; ``groups`` says which of them share a configuration."""
    rows = [np.flatnonzero(np.array(groups) == group) for group in dict.fromkeys(groups)]
    made = tuple(
        Group(
            Configuration(features=(int(row[0]),)),
            tuple(row.tolist()),
            Hyperparameters(seed=np.zeros(len(row), np.uint32)),
        )
        for row in rows
    )
    fixed = (lambda group: TRIAL, np.zeros(1), 1, lambda group: 1, (), "auto", False, DECLARED, "hash", None)
    return Listed(made, *fixed, ids=tuple(map(Id, ids)))


def described(ids, groups):
    """What a run says of itself whose first start had these trials."""
    first = job(ids, groups)
    return describe(first, number_trials(first, None), [TRIAL] * len(first.groups), jax.devices())


def test_a_thousand_trials_are_looked_up_a_few_times_each():
    ids = [f"{index:05d}" for index in range(1000)]
    before = described(ids[:600], [index % 2 for index in range(600)])
    reversed_ = job(ids[::-1], [index % 2 for index in range(1000)][::-1])
    Id.looked_up = 0
    numbering = number_trials(reversed_, before)
    assert Id.looked_up < 10 * 1000
    assert numbering.trial_ids[:600] == ids[:600]
    assert numbering.cohorts == [600, 400]


def test_earlier_trials_keep_their_numbers_and_groups_and_new_ones_follow():
    before = described("abcd", [0, 1, 1, 0])
    numbering = number_trials(job("xbdcay", [2, 1, 0, 1, 0, 0]), before)
    assert numbering.trial_ids == list("abcdxy")
    assert [numbers.tolist() for numbers in numbering.numbers] == [[3, 0, 5], [1, 2], [4]]
    found = stages(numbering, together=False)
    assert [(stage.name, stage.groups, *(each.tolist() for each in stage.numbers)) for stage in found] == [
        ("c000-g000", [0], [0, 3]),
        ("c000-g001", [1], [1, 2]),
        ("c001-g000", [0], [5]),
        ("c001-g002", [2], [4]),
    ]
    assert [stage.rows[0].tolist() for stage in found] == [[1, 0], [0, 1], [2], [0]]
    first, second = stages(numbering, together=True)
    assert (first.name, first.groups, second.name, second.groups) == ("c000", [0, 1], "c001", [0, 2])


@pytest.mark.parametrize("groups", [[0, 0, 1, 1], [0, 1, 1, 2]])
def test_other_groups_than_the_runs_are_refused(groups):
    with pytest.raises(InputError, match="space = 'study': has other groups of trials than the run"):
        number_trials(job("abcd", [0, 1, 1, 0]), described("abcd", groups))
