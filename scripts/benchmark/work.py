"""Everything that is to be measured, in order of importance, what it will take, and which of it there is time for."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from benchmark.budget import SAFETY, Budget
from benchmark.cells import AWKWARD, CELLS, MANY, Cell, step_flops
from benchmark.contenders import CONTENDERS
from benchmark.contest import Earlier, steps_of_call, too_slow, trials_for
from benchmark.problem import CHECKED_STEPS, OURS, PROCESSES, epoch_steps
from benchmark.studies import EPOCHS, IDEAL, SAVED_SECONDS, absent, many
from benchmark.timing import FEWEST_ROUNDS, Plan, plan

#: What there is to measure: the contenders, the diagnostics, studies that stop early, studies that are saved.
PARTS = ("contenders", "diagnostics", "stopping", "saving")
NAMES = (*CONTENDERS, PROCESSES)
#: The contenders that the goals name, and those that come closest to ours. The first two belong together.
_FIRST = (OURS, "loop")
_GOALS = (*_FIRST, "vmap", "torch-loop", "torch-ensemble")
#: FLOP/s of the machine's matrix product to which all guessed rates belong.
MATMUL_RATE = 4e11
#: FLOP/s of our whole studies, and the share that is of our contender's, which does not evaluate.
STUDY_RATE, STUDY_SHARE = 5e10, 0.75
#: Seconds of a process that imports, compiles and trains a few steps; of ours, which also chooses its width; of a
#: study's start; of compiling what diagnostics need.
PROCESS, OUR_PROCESS, STUDY, DIAGNOSTICS = 6.0, 8.0, 5.0, 10.0
#: Epochs of our contender for which it trains while it chooses its width.
TRIED = 4
#: Trials of the pack whose diagnostics are measured, at most.
PACK = 16


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


class Guesses:
    """Seconds of a piece of work, before it begins: guesses for two CPU cores, corrected by what was measured.

    They decide what a budget has time for and nothing else; without a budget they are not used.

    Args:
        budget: knows what earlier pieces took.
        how: rounds and seconds of a timed call.
        rate: FLOP/s of the matrix product.
        batches: of processes.
        earlier: by cell, what its contests left so far.
    """

    def __init__(self, budget: Budget, how: Plan, rate: float, batches: int, earlier: dict[str, Earlier]):
        self._budget, self._how, self._batches, self._earlier = budget, how, batches, earlier
        # What accelerators reach is not known; there, compilation takes most of the time.
        self._relative = rate / MATMUL_RATE if jax.default_backend() == "cpu" else 100.0

    def first(self, work: Work) -> float:
        """Without a look at what such work has taken: of a contender the compilation alone."""
        cell = CELLS[work.cell]
        if work.contest is not None:
            return CONTENDERS[work.contender].seconds
        if work.part == "contenders":
            return PROCESS * (1 + self._batches) / 2 + OUR_PROCESS * cell.from_nothing
        if work.part == "diagnostics":
            return DIAGNOSTICS + self._diagnostics(cell)
        rounds, whole = min(FEWEST_ROUNDS, self._how.rounds), self._study(cell)
        if work.part == "stopping":
            return whole + rounds * (1 + IDEAL) * whole + (2 * rounds + 1) * STUDY
        return whole + (1 + 2 * rounds) * SAVED_SECONDS + (2 * rounds + 3) * STUDY

    def seconds(self, work: Work) -> float:
        """With all that is known; 0 for what is absent for another reason than time."""
        if work.contest is not None:
            return self._contender(work)
        if work.part in ("stopping", "saving") and absent(CELLS[work.cell]):
            return 0.0
        return self._budget.expected(kind_of(work), self.first(work))

    def _contender(self, work: Work) -> float:
        contender, cell = CONTENDERS[work.contender], CELLS[work.cell]
        earlier = self._earlier.get(work.cell, Earlier())
        rate = earlier.rates.get(work.contender)
        if contender.missing() or too_slow(contender, cell, work.trials, rate):
            return 0.0
        reusable = earlier.reusable.get(work.contender)
        trials = trials_for(contender, cell, work.trials, reusable)
        flops = step_flops(cell) * trials
        rate = rate or contender.cpu_flops * self._relative / step_flops(cell)
        steps = steps_of_call(contender, epoch_steps(cell, work.trials), flops)
        call = trials * steps / rate
        timed = plan(contender.prepare, call, self._how.rounds, self._how.target)
        timing = timed.rounds * timed.calls * call
        if reusable is not None and reusable.prepared.trials == trials:
            return timing
        compiling = self._budget.expected(kind_of(work), self.first(work))
        return compiling + warm_calls(work, steps) * call + timing

    def _study(self, cell: Cell) -> float:
        """A whole study: by our contender's rate on the cell, or by a guess of it."""
        rate = self._earlier.get(cell.name, Earlier()).rates.get(OURS)
        rate = STUDY_SHARE * rate if rate else STUDY_RATE * self._relative / step_flops(cell)
        return many() * EPOCHS * epoch_steps(cell, many()) / rate

    def _diagnostics(self, cell: Cell) -> float:
        trials = PACK
        epoch = trials * epoch_steps(cell, trials) * step_flops(cell) / (STUDY_RATE * self._relative)
        return 4 * epoch + 4 * self._how.rounds * max(epoch / 2, self._how.target)


def warm_calls(work: Work, steps: int) -> int:
    """Calls of so many steps that are made before a contender is timed: to check it, and to know what a call takes."""
    return -(-CHECKED_STEPS // steps) + 1 + TRIED * (work.contender == OURS)


def kind_of(work: Work) -> str:
    """What the budget learns together: the guesses of one kind are wrong by about the same factor."""
    return work.contender or work.part
