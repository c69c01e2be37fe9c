"""One cell with one number of trials: contenders prepared one by one and checked, then timed in the same rounds."""

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

#: A contender that needs longer than this for one step of all trials has no row.
SECONDS_OF_A_STEP = 12.0
#: What takes one trial after the other is not given more of them where a call lasts longer than this.
LONG = 2.0
#: Nor where, by the first guess, a call of the fewest steps would last longer than this.
LONGEST_CALL = 5.0
#: A compiler unrolls a scan of one step into a different program.
FEWEST_STEPS = 2


class Ready(NamedTuple):
    """A contender that passed the check, and seconds of one warm call."""

    prepared: Prepared
    per_call: float

    @property
    def rate(self) -> float:
        """Trial-steps per second, roughly."""
        return self.prepared.trials * self.prepared.steps / self.per_call


class Refused(NamedTuple):
    """A contender that has no row: why, and whether that is a wrong result."""

    reason: str
    wrong: bool = False


class Earlier:
    """What the contests of a cell leave to its next ones.

    Attributes:
        reusable: contenders that take one trial after the other, as they were last prepared: their rate does not depend
            on the number of trials, so the next contest times them again without compiling.
        rates: trial-steps per second of each contender in the last contest that had it.
    """

    def __init__(self):
        self.reusable: dict[str, Ready] = {}
        self.rates: dict[str, float] = {}


class Contest:
    """The contenders of one cell with one number of trials.

    `OURS` is prepared first, since its losses are the reference. Only times of the same rounds are ever compared, so
    all that are to be compared are prepared before `time` is called, once.

    Attributes:
        ready: those that can be timed, in the order in which they were prepared.
        refused: those that have no row, and why.
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
        """Compile and check a contender, or take it as an earlier contest left it; then it is ready or refused."""
        reason = "" if name == OURS else self._reason(name, contender)
        if reason:
            self.refused[name] = Refused(reason)
            return
        reusable = self._earlier.reusable.pop(name, None)
        part = self._problem.first(trials_for(contender, self.cell, self.trials, reusable))
        if reusable is not None and reusable.prepared.trials == part.trials:
            found: Ready | Refused = reusable
        else:
            del reusable  # its memory, before anything else is compiled
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
        """Leave a contender out, prepared or not."""
        self.ready.pop(name, None)
        self.refused[name] = Refused(reason)

    def seconds(self, matmul: Matmul, how: Plan) -> float:
        """What `time` will take."""
        entries = self._entries(matmul, how)
        per_call = {name: each.per_call for name, each in self.ready.items()} | {"matmul": matmul.seconds}
        return sum(each.rounds * each.calls * per_call[name] for name, each in entries.items())

    def time(self, matmul: Matmul, how: Plan, more: Callable[[float], bool] = lambda seconds: True) -> None:
        """Time all that are ready, and the matrix product, in interleaved rounds; ``more`` as in `interleaved`."""
        entries = self._entries(matmul, how)
        before = clock()
        seconds = interleaved(entries, more=more)
        self._others_share = others_share(before, clock())
        self._seconds = {
            name: [each / entries[name].calls for each in values] for name, values in seconds.items()
        }

    def rows(self, matmul: Matmul) -> list[Row]:
        """A row for the matrix product, for each contender that was timed, and for each refused one."""
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
        """Why a contender need not even be prepared; nothing if it must."""
        if self._reference is None:
            return f"{OURS} has no losses to check it against"
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
    """The rows of a contest of all ``contenders``, the first of which is `OURS`, however long it takes."""
    contest = Contest(cell, trials, earlier)
    for name, contender in contenders.items():
        contest.prepare(name, contender)
    contest.time(matmul, how)
    return in_table_order(contest.rows(matmul), list(contenders))


def in_table_order(rows: Sequence[Row], contenders: Sequence[str]) -> list[Row]:
    """The rows of one cell: by trials, then the matrix product, then the contenders as they are listed."""
    names = ("matmul", *contenders)
    return sorted(rows, key=lambda row: (row["trials"], names.index(row["contender"])))


def trials_for(contender: Contender, cell: Cell, count: int, last: Ready | None) -> int:
    """With how many trials to time ``count``, given how the contender was last prepared."""
    if contender.enough is None:
        return count
    if last is not None and last.per_call > LONG:
        return min(count, last.prepared.trials)
    guessed = LONGEST_CALL * _guess(contender) / (FEWEST_STEPS * step_flops(cell))
    return int(max(1, min(count, contender.enough, guessed)))


def steps_of_call(contender: Contender, problem_steps: int, flops: float) -> int:
    """Steps of a call that takes about a second, given the FLOP of one step of all trials."""
    return int(np.clip(_guess(contender) / flops, FEWEST_STEPS, problem_steps))


def too_slow(contender: Contender, cell: Cell, trials: int, rate: float | None) -> str:
    """Why a step of all trials side by side would take too long, by the rate in another contest or by a guess."""
    if contender.enough is not None:
        return ""
    seconds = trials / (rate or _guess(contender) / step_flops(cell))
    return f"a step of all trials takes about {seconds:.0f} s" if seconds > SECONDS_OF_A_STEP else ""


def _guess(contender: Contender) -> float:
    return contender.cpu_flops if jax.default_backend() == "cpu" else np.inf


def prepared(
    contender: Contender, problem: Problem, reference: np.ndarray | None
) -> tuple[Ready | Refused, np.ndarray | None]:
    """The contender, checked before it is timed, and its first losses.

    Args:
        contender: one that is not missing.
        problem: the trials that it is to train.
        reference: losses of these trials, and maybe of more; None for the contender that gives them.
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
        # The first call of all may be slower than the rest.
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
