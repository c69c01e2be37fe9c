"""The works of a benchmark in order of importance, guesses of their durations, and what fits into the budget."""

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

#: Parts of the benchmark: contenders, diagnostics, studies that stop early, studies with a run folder.
PARTS = ("contenders", "diagnostics", "stopping", "saving")
NAMES = (*CONTENDERS, PROCESSES)
#: The contenders that the summary names, and those that come closest to jaxlab. The first two belong together.
_FIRST = (OURS, "loop")
_GOALS = (*_FIRST, "vmap", "torch-loop", "torch-ensemble")
#: FLOP/s of the matrix product on the machine for which all rates are guessed.
MATMUL_RATE = 4e11
#: FLOP/s of whole studies, and their rate as a share of the contender's, which does not evaluate.
STUDY_RATE, STUDY_SHARE = 5e10, 0.75
#: Seconds of a process that imports, compiles and trains a few steps; of jaxlab's, which also chooses its width; of
#: a study's start; of compiling for the diagnostics.
PROCESS, OUR_PROCESS, STUDY, DIAGNOSTICS = 6.0, 8.0, 5.0, 10.0
#: Epochs that jaxlab trains while it chooses its width.
TRIED = 4
#: Trials of the pack whose diagnostics are measured, on two CPU cores.
PACK = 16


class Work(NamedTuple):
    """One thing to measure.

    Attributes:
        part: one of `PARTS`.
        cell: its name.
        trials: the number of trials of a contest; 0 for what is measured once per cell.
        contender: its name; processes are measured once for all numbers of trials.
    """

    part: str
    cell: str
    trials: int = 0
    contender: str = ""

    @property
    def contest(self) -> tuple[str, int] | None:
        """The cell and number of trials, if the work is timed in the rounds of a contest; else None."""
        return (self.cell, self.trials) if self.trials else None


def in_order(
    cells: Sequence[str], trials: Sequence[int], contenders: Sequence[str], parts: Sequence[str]
) -> list[Work]:
    """List all works, the most important first.

    Wherever the list is cut, the rest covers as much of the summary as possible. The order: the speedup over the loop
    on every cell, then over the other contenders that the summary names, all at the smallest number of trials from
    `MANY` on; one process per trial; the cost of diagnostics; the awkward cells; the other numbers of trials; studies
    that stop early; the contenders that lag far behind; the cost of a run folder.
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
    """For each number of trials: jaxlab and the loop on every cell, then one contender after the other."""
    found = []
    for count in trials:
        pairs = [(cell, name) for cell in cells for name in names if name in _FIRST]
        pairs += [(cell, name) for name in names if name not in _FIRST for cell in cells]
        found += [Work("contenders", cell, count, name) for cell, name in pairs]
    return found


class Agenda:
    """The works that are neither measured nor dropped yet, the most important first."""

    def __init__(self, works: Sequence[Work]):
        self.pending = list(works)
        self._rank = {work: rank for rank, work in enumerate(works)}

    def next(self) -> list[Work]:
        """The most important work; if it belongs to a contest, all works of that contest."""
        first = self.pending[0]
        if first.contest is None:
            return [first]
        return [work for work in self.pending if work.contest == first.contest]

    def remove(self, work: Work) -> None:
        """Remove a work that is measured or dropped; it may be removed twice."""
        if work in self.pending:
            self.pending.remove(work)

    def left_for(self, work: Work, seconds_of: Callable[[Work], float], left: float) -> float:
        """Seconds left for ``work``, pending or not, after all more important pending works.

        A more important work does not count if it would not fit either, nor does a contender without `OURS`.
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
        """Whether ``work`` may begin, with a margin, since a guess may be wrong."""
        return SAFETY * seconds_of(work) <= self.left_for(work, seconds_of, left)


class Guesses:
    """Guesses of the seconds of a work before it begins: values for two CPU cores, corrected by measurements.

    They only decide what fits into the budget; without a budget they are not used.

    Args:
        budget: holds the durations of earlier pieces of work.
        how: rounds and seconds of a timed entry.
        rate: FLOP/s of the matrix product.
        batches: batches of processes.
        earlier: by cell, the `Earlier` of its contests.
    """

    def __init__(self, budget: Budget, how: Plan, rate: float, batches: int, earlier: dict[str, Earlier]):
        self._budget, self._how, self._batches, self._earlier = budget, how, batches, earlier
        # The rates of accelerators are not known; there, compilation takes most of the time.
        self._relative = rate / MATMUL_RATE if jax.default_backend() == "cpu" else 100.0

    def first(self, work: Work) -> float:
        """The guess for a work without experience with its kind; for a contender, of the compilation alone."""
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
        """The guess for a work from all that is known; 0 if it is absent for another reason than time."""
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
        """Seconds of a whole study, by jaxlab's rate on the cell or by a guess of it."""
        rate = self._earlier.get(cell.name, Earlier()).rates.get(OURS)
        rate = STUDY_SHARE * rate if rate else STUDY_RATE * self._relative / step_flops(cell)
        return many() * EPOCHS * epoch_steps(cell, many()) / rate

    def _diagnostics(self, cell: Cell) -> float:
        trials = PACK
        epoch = trials * epoch_steps(cell, trials) * step_flops(cell) / (STUDY_RATE * self._relative)
        return 4 * epoch + 4 * self._how.rounds * max(epoch / 2, self._how.target)


def warm_calls(work: Work, steps: int) -> int:
    """Calls of ``steps`` steps before a contender is timed, which check its losses and measure one call."""
    return -(-CHECKED_STEPS // steps) + 1 + TRIED * (work.contender == OURS)


def kind_of(work: Work) -> str:
    """The kind of a work for the budget; guesses of one kind are wrong by about the same factor."""
    return work.contender or work.part
