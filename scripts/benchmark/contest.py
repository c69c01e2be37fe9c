"""A contest: one cell and number of trials, whose contenders are prepared, checked, and timed in the same rounds."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from benchmark.cells import Cell, step_flops
from benchmark.machine import Matmul, clock, others_share
from benchmark.problem import CHECKED_STEPS, OURS, Contender, Prepared, Problem, disagreement, make_problem
from benchmark.timing import Plan, Row, Timed, interleaved, plan, rate_columns, seconds_of, spread
from jaxlab.engine import is_out_of_memory

#: Longest time for one step of all trials; a slower contender has no row.
SECONDS_OF_A_STEP = 12.0
#: A sequential contender whose calls last longer than this gets no more trials.
LONG = 2.0
#: A sequential contender gets so few trials that, by the first guess, its shortest call lasts at most this long.
LONGEST_CALL = 5.0
#: A compiler unrolls a scan of one step into a different program.
FEWEST_STEPS = 2


class Ready(NamedTuple):
    """A contender that passed the check, and the seconds of one warm call."""

    prepared: Prepared
    per_call: float

    @property
    def rate(self) -> float:
        """Trial-steps per second, roughly."""
        return self.prepared.trials * self.prepared.steps / self.per_call


class Refused(NamedTuple):
    """A contender without a row: the reason, and whether its losses were wrong."""

    reason: str
    wrong: bool = False


class Earlier:
    """What earlier contests of a cell provide for later ones.

    Attributes:
        reusable: sequential contenders as they were last prepared. Their rate does not depend on the number of
            trials, so the next contest times them again without compiling.
        rates: trial-steps per second of each contender in its last contest.
    """

    def __init__(self):
        self.reusable: dict[str, Ready] = {}
        self.rates: dict[str, float] = {}


class Contest:
    """The contenders of one cell with one number of trials.

    `OURS` is prepared first, since its losses are the reference. Only times of the same rounds are comparable, so all
    contenders are prepared before `time` is called, once.

    Attributes:
        ready: contenders to time, in the order in which they were prepared.
        refused: contenders without a row, and the reasons.
    """

    def __init__(self, cell: Cell, trials: int, earlier: Earlier | None = None):
        self.cell, self.trials = cell, trials
        self.ready: dict[str, Ready] = {}
        self.refused: dict[str, Refused] = {}
        self._earlier = Earlier() if earlier is None else earlier
        self._problem = make_problem(cell, trials)
        self._reference: np.ndarray | None = None
        self._seconds: dict[str, list[float]] = {}
        self._others_share: float | None = None

    def prepare(self, name: str, contender: Contender) -> None:
        """Compile and check a contender, or reuse an earlier one; then it is in ``ready`` or in ``refused``."""
        reason = "" if name == OURS else self._reason(name, contender)
        if reason:
            self.refused[name] = Refused(reason)
            return
        reusable = self._earlier.reusable.pop(name, None)
        part = self._problem.first(trials_for(contender, self.cell, self.trials, reusable))
        if reusable is not None and reusable.prepared.trials == part.trials:
            found: Ready | Refused = reusable
        else:
            del reusable  # frees its memory before anything else is compiled
            found, losses = prepared(contender, part, self._reference)
            if name == OURS:
                self._reference = losses
        if isinstance(found, Refused):
            self.refused[name] = found
            return
        self.ready[name] = found
        self._earlier.rates[name] = found.rate
        if contender.enough is not None:
            self._earlier.reusable[name] = found

    def drop(self, name: str, reason: str) -> None:
        """Drop a contender, whether it is prepared or not."""
        self.ready.pop(name, None)
        self.refused[name] = Refused(reason)

    def seconds(self, matmul: Matmul, how: Plan) -> float:
        """Expected seconds of `time`."""
        entries = self._entries(matmul, how)
        per_call = {name: each.per_call for name, each in self.ready.items()} | {"matmul": matmul.seconds}
        return sum(each.rounds * each.calls * per_call[name] for name, each in entries.items())

    def time(self, matmul: Matmul, how: Plan, more: Callable[[float], bool] = lambda seconds: True) -> None:
        """Time the ready contenders and the matrix product in interleaved rounds; ``more`` as in `interleaved`."""
        entries = self._entries(matmul, how)
        before = clock()
        seconds = interleaved(entries, more=more)
        self._others_share = others_share(before, clock())
        self._seconds = {
            name: [each / entries[name].calls for each in values] for name, values in seconds.items()
        }

    def rows(self, matmul: Matmul) -> list[Row]:
        """Rows of the matrix product, of each timed contender, and of each refused one."""
        about: Row = {"cell": self.cell.name, "trials": self.trials}
        seconds = self._seconds["matmul"]
        product = {
            "contender": "matmul",
            "size": matmul.size,
            "flops_per_second": matmul.flops / spread(seconds).median,
            "seconds": seconds,
            "others_share": self._others_share,
        }
        measured = [
            {"contender": name} | _columns(each.prepared, self._seconds[name])
            for name, each in self.ready.items()
        ]
        absent = [
            {"contender": name, "absent": each.reason, "wrong": each.wrong}
            for name, each in self.refused.items()
        ]
        return [about | row for row in (product, *measured, *absent)]

    def _reason(self, name: str, contender: Contender) -> str:
        """Why a contender need not be prepared; empty if it must."""
        if self._reference is None:
            return f"{OURS} has no losses to compare with"
        return contender.missing() or too_slow(
            contender, self.cell, self.trials, self._earlier.rates.get(name)
        )

    def _entries(self, matmul: Matmul, how: Plan) -> dict[str, Timed]:
        entries = {
            name: plan(each.prepared.run, each.per_call, how.rounds, how.target)
            for name, each in self.ready.items()
        }
        return entries | {"matmul": plan(matmul.run, matmul.seconds, how.rounds, how.target / 2)}


def contested(
    cell: Cell,
    trials: int,
    contenders: Mapping[str, Contender],
    matmul: Matmul,
    how: Plan,
    earlier: Earlier | None = None,
) -> list[Row]:
    """The rows of a contest of all ``contenders``, without a time limit; `OURS` comes first."""
    contest = Contest(cell, trials, earlier)
    for name, contender in contenders.items():
        contest.prepare(name, contender)
    contest.time(matmul, how)
    return in_table_order(contest.rows(matmul), list(contenders))


def in_table_order(rows: Sequence[Row], contenders: Sequence[str]) -> list[Row]:
    """The rows of one cell by number of trials: first the matrix product, then ``contenders`` in their order."""
    names = ("matmul", *contenders)
    return sorted(rows, key=lambda row: (row["trials"], names.index(row["contender"])))


def trials_for(contender: Contender, cell: Cell, count: int, last: Ready | None) -> int:
    """How many trials to time in place of ``count``; ``last`` is the contender as it was last prepared."""
    if contender.enough is None:
        return count
    if last is not None and last.per_call > LONG:
        return min(count, last.prepared.trials)
    guessed = LONGEST_CALL * _guess(contender) / (FEWEST_STEPS * step_flops(cell))
    return int(max(1, min(count, contender.enough, guessed)))


def steps_of_call(contender: Contender, problem_steps: int, flops: float) -> int:
    """Steps of a call of about a second, given the FLOP of one step of all trials."""
    return int(np.clip(_guess(contender) / flops, FEWEST_STEPS, problem_steps))


def too_slow(contender: Contender, cell: Cell, trials: int, rate: float | None) -> str:
    """Why a step of all trials would take too long, by the rate in another contest or by a guess; empty if not."""
    if contender.enough is not None:
        return ""
    seconds = trials / (rate or _guess(contender) / step_flops(cell))
    return f"a step of all trials takes about {seconds:.0f} s" if seconds > SECONDS_OF_A_STEP else ""


def _guess(contender: Contender) -> float:
    return contender.cpu_flops if jax.default_backend() == "cpu" else np.inf


def prepared(
    contender: Contender, problem: Problem, reference: np.ndarray | None
) -> tuple[Ready | Refused, np.ndarray | None]:
    """Prepare a contender and check its losses; returns it with these losses.

    Args:
        contender: a contender that can run here.
        problem: the trials to train.
        reference: correct losses of these and possibly more trials; None for the contender that provides them.
    """
    steps = steps_of_call(contender, problem.steps, step_flops(problem.cell) * problem.trials)
    try:
        made = contender.prepare(problem, steps)
        calls = -(-CHECKED_STEPS // made.steps)
        parts = [made.run(1) for _ in range(calls - 1)]
        began = time.perf_counter()
        losses = np.concatenate([*parts, made.run(1)], axis=1)
        per_call = time.perf_counter() - began
        wrong = disagreement(losses, losses if reference is None else reference)
        if wrong:
            return Refused(wrong, wrong=True), losses
        # The very first call may be slower than the others.
        return Ready(made, per_call if per_call > LONG else seconds_of(made.run, 1)), losses
    except Exception as error:
        if not _out_of_memory(error):
            raise
        return Refused("out of memory"), None


def _out_of_memory(error: Exception) -> bool:
    return is_out_of_memory(error) or type(error).__name__ == "OutOfMemoryError"


def _columns(made: Prepared, seconds: Sequence[float]) -> Row:
    return rate_columns(made.trials * made.steps, seconds) | {
        "trials_run": made.trials,
        "steps_per_call": made.steps,
        "compile_seconds": made.compile_seconds,
        "memory_bytes": made.memory_bytes,
        "about": made.about,
    }
