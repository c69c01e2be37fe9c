"""Everything that is to be measured, in order of importance, and which of it there is time for."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxlab.benchmark.budget import SAFETY
from jaxlab.benchmark.cells import AWKWARD
from jaxlab.benchmark.contenders import CONTENDERS
from jaxlab.benchmark.processes import NAME as PROCESSES
from jaxlab.benchmark.rows import MANY, OURS

#: What there is to measure: the contenders, the diagnostics, studies that stop early, studies that are saved.
PARTS = ("contenders", "diagnostics", "stopping", "saving")
NAMES = (*CONTENDERS, PROCESSES)
#: The contenders that the goals name, and those that come closest to ours. The first two belong together.
_FIRST = (OURS, "loop")
_GOALS = (*_FIRST, "vmap", "torch-loop", "torch-ensemble")


class Work(NamedTuple):
    """One thing to measure.

    Attributes:
        part: of `PARTS`.
        cell: by name.
        trials: their number, for a contender; 0 for what is measured once a cell.
        contender: by name; processes are measured once for all numbers of trials.
    """

    part: str
    cell: str
    trials: int = 0
    contender: str = ""

    @property
    def contest(self) -> tuple[str, int] | None:
        """The cell and number of trials whose contenders are timed in the same rounds; None for all else."""
        return (self.cell, self.trials) if self.trials else None


def in_order(
    cells: Sequence[str], trials: Sequence[int], contenders: Sequence[str], parts: Sequence[str]
) -> list[Work]:
    """All works, the most important first.

    Wherever it is cut, what is left covers as many goals as there was time for: first every cell's ratio to the loop,
    then to the other contenders that the goals name, all at one number of trials, the least from `MANY` on; one process
    per trial; what diagnostics cost; the awkward cells; the other numbers of trials; studies that stop early; the
    contenders that lag far behind; what saving costs.
    """
    own = [cell for cell in cells if cell not in AWKWARD]
    awkward = [cell for cell in cells if cell in AWKWARD]
    first, *others = sorted(trials, key=lambda count: (count < MANY, count))
    rest = [name for name in CONTENDERS if name not in _GOALS]
    steps = [
        *_contests(own, [first], _GOALS),
        *(Work("contenders", cell, 0, PROCESSES) for cell in own),
        *(Work("diagnostics", cell) for cell in own),
        *_contests(awkward, [first], _GOALS),
        *_contests(own, others, _GOALS),
        *(Work("stopping", cell) for cell in own),
        *_contests(own, [first, *others], rest),
        *_contests(awkward, [first, *others], (*_GOALS, *rest)),
        *(Work("contenders", cell, 0, PROCESSES) for cell in awkward),
        *(Work("saving", cell) for cell in own),
    ]
    wanted = (
        work for work in steps if work.part in parts and (not work.contender or work.contender in contenders)
    )
    return list(dict.fromkeys(wanted))


def _contests(cells: Sequence[str], trials: Sequence[int], names: Sequence[str]) -> list[Work]:
    """For each number of trials the ratio to the loop on every cell, then one contender after the other."""
    found = []
    for count in trials:
        pairs = [(cell, name) for cell in cells for name in names if name in _FIRST]
        pairs += [(cell, name) for name in names if name not in _FIRST for cell in cells]
        found += [Work("contenders", cell, count, name) for cell, name in pairs]
    return found


class Agenda:
    """The works that have neither been measured nor dropped yet, the most important first."""

    def __init__(self, works: Sequence[Work]):
        self.pending = list(works)
        self._rank = {work: rank for rank, work in enumerate(works)}

    def next(self) -> list[Work]:
        """The most important work; of a contest all works, since they must be timed together."""
        first = self.pending[0]
        if first.contest is None:
            return [first]
        return [work for work in self.pending if work.contest == first.contest]

    def remove(self, work: Work) -> None:
        """It is measured, or dropped, or both where its time ran out."""
        if work in self.pending:
            self.pending.remove(work)

    def left_for(self, work: Work, seconds_of: Callable[[Work], float], left: float) -> float:
        """Seconds left for ``work``, pending or not, after all that is pending and more important.

        What is more important but would not fit itself does not count, nor does a contender without `OURS`.
        """
        without: set[tuple[str, int] | None] = set()
        for other in self.pending:
            if self._rank[other] >= self._rank[work]:
                break
            if other.contest is not None and other.contest in without:
                continue
            seconds = seconds_of(other)
            if seconds <= left:
                left -= seconds
            elif other.contender == OURS:
                without.add(other.contest)
        return left

    def has_time(self, work: Work, seconds_of: Callable[[Work], float], left: float) -> bool:
        """Whether ``work`` may begin: with a margin, for a guess may be wrong."""
        return SAFETY * seconds_of(work) <= self.left_for(work, seconds_of, left)
