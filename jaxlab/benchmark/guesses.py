"""What a piece of work will take, before it begins: guesses for two CPU cores, corrected by what was measured.

They decide what a budget has time for and nothing else; without a budget they are not used.
"""

from __future__ import annotations

import jax

from jaxlab.benchmark.budget import Budget
from jaxlab.benchmark.cells import CELLS, Cell
from jaxlab.benchmark.contenders import CONTENDERS
from jaxlab.benchmark.contest import Earlier, steps_of_call, too_slow, trials_for
from jaxlab.benchmark.flops import step_flops
from jaxlab.benchmark.problem import CHECKED_STEPS, epoch_steps
from jaxlab.benchmark.rows import OURS
from jaxlab.benchmark.studies import EPOCHS, IDEAL, SAVED_SECONDS, absent, many
from jaxlab.benchmark.timing import FEWEST_ROUNDS, Plan, plan
from jaxlab.benchmark.work import Work

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


class Guesses:
    """Seconds of a piece of work on this machine.

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
