"""Are a trial's numbers bitwise the same in several lanes, next to diverging neighbours, and in two processes?"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accelerator_questions.asking import Answer, Asking, Row, Table
from accelerator_questions.measuring import (
    FAILURES,
    IN_ORDER,
    TINY,
    by,
    compiled,
    option_sets,
    reason,
)
from benchmark.contenders import trial_of
from benchmark.problem import Problem, make_problem
from jaxlab.engine import EndRecord, Programs, flatten, train
from jaxlab.settings import Hyperparameters
from jaxlab.trial import shared_arrays

#: Seed and learning rate of the trial, and the learning rate of diverging neighbours.
SEED, RATE, DIVERGING = 7, 3e-3, 1e30
#: The lane of the trial (first, middle, last) and whether its neighbours diverge, by name of the run.
RUNS = {
    "reference": (0, False),
    "again": (0, False),
    "in the middle lane": (1, False),
    "in the last lane": (2, False),
    "diverging neighbours": (0, True),
    "last lane, diverging neighbours": (2, True),
}
#: Runs that the second process repeats.
OTHER_PROCESS = ("reference", "last lane, diverging neighbours")
Bits = dict[str, str]


def ask(asking: Asking) -> None:
    """Compare runs under every set of options at every width, the most important width first."""
    widths = (4,) if asking.small else (64, 256, 8)
    plan = [(chosen, width) for width in widths for chosen in option_sets()]
    with SecondProcess() as other:
        for chosen, width in asking.in_time(plan, lambda each: f"({each[0].letter}) at width {each[1]}"):
            job = {"letter": chosen.letter, "width": width, "small": asking.small}
            other.begin(job)
            row: Row = {"options": chosen.letter, "words": chosen.words, "width": width}
            try:
                here = found(job, tuple(RUNS))
            except FAILURES as error:
                other.found(job)
                asking.row(**row, refused=reason(error))
                continue
            there = other.found(job)
            asking.row(**row, **comparisons(here["bits"], there), diverged=here["diverged"])


def answer(rows: Sequence[Row]) -> Answer:
    """Whether all comparisons are bitwise equal, by set of options."""
    measured = [row for row in rows if "differs" in row]
    sets = [by(measured, options=letter) for letter in dict.fromkeys(row["options"] for row in measured)]
    says = [f"Bitwise equal {', '.join(map(_share, sets))}."] if sets else []
    says += [_said(each) for each in sets]
    for row in measured:
        if row["diverged"] == 0 and row["width"] > 1:
            says.append(
                f"At width {row['width']}, no neighbour diverged, so the comparison with diverging ones is void."
            )
    failed = [row for row in measured if isinstance(row["other process"], str)]
    if failed:
        says.append(f"Not compared with a second process: {failed[0]['other process']}.")
    names = [name for name in RUNS if name != "reference"]
    cells = []
    for row in rows:
        cells.append([f"({row['options']})", str(row["width"])])
        if "refused" in row:
            cells[-1] += [f"absent: {row['refused']}", *[""] * len(names)]
        else:
            cells[-1] += [*(_equal(row["differs"][name]) for name in names), _other(row)]
    return Answer(says, [Table(("options", "width", *names, "other process"), cells)])


def comparisons(here: Mapping[str, Bits], there: Mapping[str, Bits] | str) -> dict[str, Any]:
    """What differs from the reference in each run and between two processes, or why the latter is unknown."""
    differs = {name: differing(here["reference"], here[name]) for name in RUNS if name != "reference"}
    if isinstance(there, str):
        return {"differs": differs, "other process": there}
    return {"differs": differs, "other process": {name: differing(here[name], there[name]) for name in there}}


def differing(one: Bits, other: Bits) -> list[str]:
    """Names of the arrays that are not bitwise equal, in the order in which they were recorded."""
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def found(job: Mapping[str, Any], runs: Sequence[str]) -> dict[str, Any]:
    """Digests of the trial's arrays in each run, and the number of neighbours that diverged in the last run."""
    cell, epochs, steps = (TINY, 2, 2) if job["small"] else (IN_ORDER[0], 2, 8)
    problem = make_problem(cell, job["width"], steps)
    chosen = next(each for each in option_sets() if each.letter == job["letter"])
    programs = compiled(trial_of(problem), problem, job["width"], chosen)
    bits, diverged = {}, 0
    for name in runs:
        bits[name], diverged = _bits(programs, problem, epochs, *RUNS[name])
    return {"bits": bits, "diverged": diverged}


def _bits(programs: Programs, problem: Problem, epochs: int, place: int, diverging: bool) -> tuple[Bits, int]:
    """Digests of everything that the trial records and of its final state; the number of diverged neighbours."""
    width = programs.pack.width
    lane = (0, width // 2, width - 1)[place]
    rates = np.full(width, DIVERGING if diverging else RATE, np.float32)
    seeds = np.arange(100, 100 + width, dtype=np.int32)
    rates[lane], seeds[lane] = RATE, SEED
    hyperparameters = Hyperparameters(learning_rate=rates, seed=seeds)
    bits: Bits = {}
    bad = np.zeros(width, bool)
    for record in train(programs, hyperparameters, shared_arrays(problem.data), epochs):
        row = int(np.flatnonzero(record.trials == lane)[0])
        end = isinstance(record, EndRecord)
        when = "at the end" if end else f"at epoch {record.epochs[0]}"
        bits |= {f"{name} {when}": _digest(values[row]) for name, values in record.values.items()}
        if end:
            bits |= {
                f"state{path}": _digest(leaf[row]) for path, leaf in flatten(record.states.states).items()
            }
        else:
            bad[record.trials] |= (record.values["first_bad_step"] >= 0).any(axis=1)
    return bits, int(bad.sum())


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


class SecondProcess:
    """A second process that trains the same jobs at the same time; a job is one line of JSON.

    Kernels are thus tuned on a busy device, where the choice of kernels is most likely to vary.
    """

    command = (sys.executable, "-m", __name__)

    def __enter__(self) -> SecondProcess:
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *error: Any) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self, job: Mapping[str, Any]) -> None:
        """Start to train a job."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()

    def found(self, job: Mapping[str, Any]) -> dict[str, Bits] | str:
        """Digests of the runs of the job begun last, or why there are none."""
        line = self._process.stdout.readline()
        if not line:
            return f"it ended with exit status {self._process.wait()}"
        done, bits = json.loads(line)
        if done != job:
            raise RuntimeError(f"the second process returned the job {done} instead of {job}")
        return bits


def _answer_jobs() -> None:
    """Run the second process: read jobs from standard input and write their digests to standard output."""
    for line in sys.stdin:
        job = json.loads(line)
        try:
            result: Any = found(job, OTHER_PROCESS)["bits"]
        except FAILURES as error:
            result = reason(error)
        print(json.dumps([job, result]), flush=True)


def _compared(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Every comparison under one set of options: its description, and the names of the arrays that differ."""
    return [
        (f"{name} at width {row['width']}", names)
        for row in rows
        for name, names in (
            *row["differs"].items(),
            *((f"other process, {name}", each) for name, each in _processes(row).items()),
        )
    ]


def _share(rows: Sequence[Row]) -> str:
    """How many comparisons under one set of options are equal, in words."""
    compared = _compared(rows)
    equal = sum(not names for _, names in compared)
    count = f"all {equal}" if equal == len(compared) else f"**{equal} of {len(compared)}**"
    return f"in {count} comparisons under ({rows[0]['options']})"


def _said(rows: Sequence[Row]) -> str:
    """What differs under one set of options, in words."""
    head = f"({rows[0]['options']}) {rows[0]['words']}"
    wrong = [(where, names) for where, names in _compared(rows) if names]
    if not wrong:
        return f"{head}: equal."
    where, names = wrong[0]
    differ = "1 array differs" if len(names) == 1 else f"{len(names)} arrays differ"
    return f"{head}: **NOT equal**. The first failed comparison is {where}: {differ}, first {names[0]}."


def _processes(row: Row) -> dict[str, list[str]]:
    return {} if isinstance(row["other process"], str) else row["other process"]


def _equal(names: Sequence[str]) -> str:
    return f"differs: {names[0]}" if names else "equal"


def _other(row: Row) -> str:
    found = _processes(row)
    return _equal([name for names in found.values() for name in names]) if found else "–"


if __name__ == "__main__":
    _answer_jobs()
