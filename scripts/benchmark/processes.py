"""One process per trial, as many sweeps run; imports and compilation are included.

``python -m benchmark.processes '{...}'`` is such a process. Its argument is JSON: contender, cell, first trial and
count. It trains short trials from the start and prints the losses of the first steps as JSON.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np

from benchmark.cells import CELLS, Cell
from benchmark.contenders import CONTENDERS, fused
from benchmark.machine import one_device_per_core
from benchmark.problem import CHECKED_STEPS, OURS, PROCESSES, disagreement, make_problem
from benchmark.timing import Row, rate_columns, spread
from jaxlab.devices import cores

WORDS = "one process per trial, several at once: the loop with short trials, imports and compilation included"
#: Trials of the comparison that includes start-up.
SHORT_TRIALS = 64
#: Processes that share an accelerator at a time.
ON_ONE_ACCELERATOR = 4


def at_once() -> int:
    """Number of processes that run side by side: one per core, or a few on an accelerator."""
    return cores() if jax.default_backend() == "cpu" else min(cores(), ON_ONE_ACCELERATOR)


class TooLong(RuntimeError):
    """Processes that were killed because their time was up."""


def measure_processes(
    cell: Cell, trials: Sequence[int], batches: int, left: Callable[[], float] = lambda: math.inf
) -> tuple[list[Row], Row | None]:
    """Rows of one process per trial for each number of trials, and the row of 64 short trials with start-up.

    A few batches of real processes are timed, with one process per core. N trials take ``ceil(N / cores)`` batches.
    Processes that still run when ``left()`` reaches 0 are killed.

    Raises:
        TooLong: the first batch was killed, so there is no row.
    """
    width, steps = at_once(), cell.short_trial
    problem = make_problem(cell, width, cell.short_call)
    made = CONTENDERS["loop"].prepare(problem, problem.steps)
    calls = -(-CHECKED_STEPS // made.steps)
    reference = made.run(calls)
    walls, ours = [], None
    for number in range(batches):
        try:
            wall, losses = _batch(cell, width, left)
        except TooLong:
            if not walls:
                raise
            break
        except RuntimeError as error:  # a process that failed
            return _absent(cell, trials, str(error)), None
        wrong = disagreement(losses, reference)
        if wrong:
            return _absent(cell, trials, wrong), None
        walls.append(wall)
        if number == 0 and cell.from_nothing:
            try:
                ours, losses = _timed(cell, [(OURS, 0, SHORT_TRIALS, None)], left)
            except TooLong:  # keep what is measured
                break
            wrong = disagreement(losses[:width], reference)
            if wrong:
                raise RuntimeError(f"{OURS} in a separate process: {wrong}")
    rows = [_row(cell, count, width, steps, walls) for count in trials]
    return rows, None if ours is None else _from_nothing(cell, width, steps, walls, ours)


def _row(cell: Cell, count: int, width: int, steps: int, walls: list[float]) -> Row:
    row: Row = {"cell": cell.name, "trials": count, "contender": PROCESSES}
    seconds = [math.ceil(count / width) * wall for wall in walls]
    return (
        row
        | rate_columns(count * steps, seconds)
        | {
            "trials_run": width * len(walls),
            "steps_per_call": steps,
            "batch_seconds": walls,
            "about": f"trials of {steps} steps, {width} processes at once",
        }
    )


def _absent(cell: Cell, trials: Sequence[int], reason: str) -> list[Row]:
    return [
        {"cell": cell.name, "trials": count, "contender": PROCESSES, "absent": reason, "wrong": True}
        for count in trials
    ]


def _from_nothing(cell: Cell, width: int, steps: int, walls: list[float], ours: float) -> Row:
    return {
        "cell": cell.name,
        "trials": SHORT_TRIALS,
        "steps": steps,
        "processes_seconds": math.ceil(SHORT_TRIALS / width) * spread(walls).median,
        "processes_run": width * len(walls),
        f"{OURS}_seconds": ours,
    }


def _batch(cell: Cell, width: int, left: Callable[[], float]) -> tuple[float, np.ndarray]:
    """Wall-clock seconds until the last of ``width`` processes of one trial has ended, and their losses."""
    pins = hasattr(os, "sched_getaffinity") and jax.default_backend() == "cpu"
    own = sorted(os.sched_getaffinity(0)) if pins else [None] * width
    return _timed(cell, [("loop", first, 1, own[first]) for first in range(width)], left)


def _timed(
    cell: Cell, jobs: Sequence[tuple[str, int, int, int | None]], left: Callable[[], float]
) -> tuple[float, np.ndarray]:
    """Wall-clock seconds and losses of jobs in parallel processes.

    A job is a contender, the number of its first trial, the count of its trials, and the core it runs on; None for all.
    """
    running = []
    began = time.perf_counter()
    try:
        for contender, first, count, core in jobs:
            running.append(_start(contender, cell, first, count))
            if core is not None:
                os.sched_setaffinity(running[-1].pid, {core})
        losses = [_finish(process, left) for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return time.perf_counter() - began, np.concatenate(losses)


def _start(contender: str, cell: Cell, first: int, count: int) -> subprocess.Popen:
    job = {"contender": contender, "cell": cell.name, "first": first, "count": count}
    command = [sys.executable, "-P", "-m", "benchmark.processes", json.dumps(job)]
    scripts = Path(__file__).resolve().parents[1]
    path = [str(scripts), str(scripts.parent), os.environ.get("PYTHONPATH", "")]
    # Several processes share one accelerator, so none may preallocate most of its memory.
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _finish(process: subprocess.Popen, left: Callable[[], float]) -> np.ndarray:
    seconds = left()
    try:
        output, _ = process.communicate(timeout=max(0.0, seconds) if math.isfinite(seconds) else None)
    except subprocess.TimeoutExpired:
        raise TooLong(f"one process per trial took longer than {seconds:.0f} s") from None
    if process.returncode:
        raise RuntimeError(f"a process that trains one trial ended with exit status {process.returncode}")
    return np.array(json.loads(output.splitlines()[-1]))


def train_from_nothing(job: str) -> None:
    """Train the trials of a job, given as JSON, and print their first losses."""
    one_device_per_core()
    contender, name, first, count = json.loads(job).values()
    cell = CELLS[name]
    problem = make_problem(cell, first + count, cell.short_call).part(first, count)
    calls = cell.short_trial // cell.short_call
    prepare = partial(fused, epochs=calls) if contender == OURS else CONTENDERS[contender].prepare
    losses = prepare(problem, cell.short_call).run(calls)
    print(json.dumps(losses[:, :CHECKED_STEPS].tolist()))


if __name__ == "__main__":
    train_from_nothing(sys.argv[1])
