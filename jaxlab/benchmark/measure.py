"""One cell: every contender prepared, checked, then timed in interleaved rounds, for each number of trials."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab.benchmark.cells import Cell
from jaxlab.benchmark.check import disagreement
from jaxlab.benchmark.contenders import Contender, Prepared
from jaxlab.benchmark.flops import step_flops
from jaxlab.benchmark.matmul import Matmul
from jaxlab.benchmark.others import clock, others_share
from jaxlab.benchmark.problem import CHECKED_STEPS, Problem, make_problem
from jaxlab.benchmark.timing import interleaved, plan, seconds_of, spread
from jaxlab.engine import is_out_of_memory

Row = dict[str, Any]
#: The contender that the others are held against, and whose losses are the reference.
OURS = "jaxlab"
#: A contender that needs longer than this for one step of all trials has no row.
SECONDS_OF_A_STEP = 12.0
#: What takes one trial after the other is not given more of them where a call lasts longer than this.
LONG = 2.0


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


class Plan(NamedTuple):
    """How thoroughly to time: rounds, and seconds of one timed call."""

    rounds: int
    target: float


def measure_cell(
    cell: Cell, trials: Sequence[int], contenders: Mapping[str, Contender], matmul: Matmul, how: Plan
) -> Iterator[list[Row]]:
    """The rows of each number of trials, in ascending order; ``contenders`` begins with `OURS`.

    What takes one trial after the other is prepared once for at most ``enough`` trials, and timed again with those in
    the rounds of the larger numbers: only times of the same rounds are ever compared.
    """
    last: dict[str, Ready] = {}
    for count in sorted(trials):
        problem = make_problem(cell, count)
        ready, refused = _all_prepared(problem, contenders, last)
        last |= ready
        entries = {
            name: plan(each.prepared.run, each.per_call, how.rounds, how.target)
            for name, each in ready.items()
        }
        entries["matmul"] = plan(matmul.run, matmul.seconds, how.rounds, how.target / 2)
        before = clock()
        seconds = interleaved(entries)
        elsewhere = others_share(before, clock())
        times = {name: [each / entries[name].calls for each in values] for name, values in seconds.items()}
        rows = _rows(cell, count, ready, refused, times, list(contenders))
        yield [_matmul_row(cell, count, matmul, times["matmul"]) | {"others_share": elsewhere}, *rows]


def _all_prepared(
    problem: Problem, contenders: Mapping[str, Contender], last: dict[str, Ready]
) -> tuple[dict[str, Ready], dict[str, Refused]]:
    """Who may be timed, and who may not. What is not needed any more of ``last`` is dropped, for its memory."""
    ready: dict[str, Ready] = {}
    refused: dict[str, Refused] = {}
    reference: np.ndarray | None = None
    for name, contender in contenders.items():
        before, reason = last.get(name), ""
        if name != OURS:
            reason = contender.missing() or _too_slow(contender, problem, before)
            reason = reason or ("" if reference is not None else f"{OURS} has no losses to check it against")
        if reason:
            refused[name] = Refused(reason)
            continue
        part = problem.first(trials_for(contender, problem.trials, before))
        if before is not None and name != OURS and before.prepared.trials == part.trials:
            ready[name] = before
            continue
        last.pop(name, None)
        found, losses = prepared(contender, part, reference)
        reference = losses if name == OURS else reference
        (ready if isinstance(found, Ready) else refused)[name] = found
    return ready, refused


def trials_for(contender: Contender, count: int, last: Ready | None) -> int:
    """With how many trials to time ``count``, given how it went with fewer."""
    if contender.enough is None:
        return count
    return last.prepared.trials if last is not None and last.per_call > LONG else min(count, contender.enough)


def _too_slow(contender: Contender, problem: Problem, last: Ready | None) -> str:
    """Why a step of all trials side by side would take too long, by the rate with fewer or by the first guess."""
    if contender.enough is not None:
        return ""
    rate = last.rate if last is not None else _guess(contender) / step_flops(problem.cell)
    seconds = problem.trials / rate
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
    flops = step_flops(problem.cell) * problem.trials
    steps = int(np.clip(_guess(contender) / flops, 2, problem.steps))
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


def _rows(
    cell: Cell,
    count: int,
    ready: Mapping[str, Ready],
    refused: Mapping[str, Refused],
    times: Mapping[str, list[float]],
    names: Sequence[str],
) -> list[Row]:
    rows: list[Row] = []
    for name in names:
        row: Row = {"cell": cell.name, "trials": count, "contender": name}
        if name in refused:
            rows.append(row | {"absent": refused[name].reason, "wrong": refused[name].wrong})
            continue
        made = ready[name].prepared
        row |= rate_columns(made.trials * made.steps, times[name])
        row |= {
            "trials_run": made.trials,
            "steps_per_call": made.steps,
            "compile_seconds": made.compile_seconds,
            "memory_bytes": made.memory_bytes,
            "about": made.about,
        }
        rows.append(row)
    return rows


def _matmul_row(cell: Cell, count: int, matmul: Matmul, seconds: list[float]) -> Row:
    return {
        "cell": cell.name,
        "trials": count,
        "contender": "matmul",
        "size": matmul.size,
        "flops_per_second": matmul.flops / spread(seconds).median,
        "seconds": seconds,
    }


def rate_columns(trial_steps: int, seconds: Sequence[float]) -> Row:
    """Trial-steps per second: median, quartiles, and the seconds of one call in each round."""
    rates = spread([trial_steps / each for each in seconds])
    return {
        "rate": rates.median,
        "rate_lower": rates.lower,
        "rate_upper": rates.upper,
        "trial_steps_per_call": trial_steps,
        "seconds": list(seconds),
    }
