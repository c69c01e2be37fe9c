"""The benchmark from start to end: measure in order of importance while time is left, summarise, write the files."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmark import processes
from benchmark.budget import SAFETY, Budget
from benchmark.cells import CELLS, step_flops
from benchmark.contenders import CONTENDERS, Contender, fused
from benchmark.contest import Contest, Earlier, in_table_order
from benchmark.machine import device_name, environment, fastest_matmul, peak_bytes
from benchmark.options import Options
from benchmark.problem import OURS, PROCESSES
from benchmark.processes import SHORT_TRIALS, TooLong, measure_processes
from benchmark.report import cell_words, dropped_words, number, write
from benchmark.studies import absent, measure_diagnostics, measure_study
from benchmark.summary import disturbed, summarise, with_shares
from benchmark.timing import FEWEST_ROUNDS, Plan, Row
from benchmark.work import Agenda, Guesses, Work, in_order, kind_of, warm_calls
from jaxlab.errors import InputError

WORDS = {name: contender.words for name, contender in CONTENDERS.items()} | {PROCESSES: processes.WORDS}
#: Kinds of row: contenders, trials with start-up, diagnostics, studies that stop early, studies with a run folder.
KINDS = ("rows", "from_nothing", "diagnostics", "stopping", "saving")
#: Seconds to find the fastest matrix product, compilation included.
MATMUL = 3.0
#: Why a contender has no figures: it did not fit into the budget.
NO_TIME = "no time was left"


def benchmark(options: Options, command: str | None = None, spent: float = 0.0) -> dict[str, Any]:
    """Measure, write ``{device}.json`` and ``{device}.md`` into ``options.out``, and return the content of the JSON.

    Until the end, both files have ``-unfinished`` in their names and are rewritten after each measurement. An
    interruption thus loses nothing, and earlier files stay. If there is no time for any measurement, no file is
    written.

    Args:
        options: what to measure.
        command: the command line, for the record; by default that of this process.
        spent: seconds of the budget that are already used.
    """
    began = time.perf_counter() - spent
    options = options.filled()
    budget = Budget(options.budget, spent)
    about: dict[str, Any] = {
        "environment": environment(),
        "command": command or shlex.join(["python", *sys.argv]),
        "budget": options.budget,
        "contenders": {name: WORDS[name] for name in options.contenders},
        "cells": {
            name: {"words": cell_words(CELLS[name]), "step_flops": step_flops(CELLS[name])}
            | CELLS[name]._asdict()
            for name in options.cells
        },
    }
    name = device_name(about["environment"]) + "-quick" * options.quick
    measuring = Measuring(options, budget)
    paths: list[Path] = []
    for _ in measuring.all():
        found = _finished(about, measuring.found, time.perf_counter() - began)
        if measured(found):
            paths = write(options.out, f"{name}-unfinished", found | {"unfinished": True})
    if measured(found):
        for path in paths:
            path.unlink()
        paths = write(options.out, name, found)
    for cell, trials in disturbed(found["rows"]):
        say(f"other processes were busy during {cell}, {trials} trials")
    if found["dropped"]:
        say(f"Not measured for lack of time: {dropped_words(found['dropped'])}")
    for path in paths:
        say(f"wrote {path}")
    return found


def _finished(about: dict[str, Any], found: Mapping[str, list[Row]], seconds: float) -> dict[str, Any]:
    """The content of the JSON: the measurements so far, in the order of the tables, and the summary of them."""
    rows = [
        row
        for cell in about["cells"]
        for row in in_table_order(
            [row for row in found["rows"] if row["cell"] == cell], list(about["contenders"])
        )
    ]
    whole = about | found
    whole["rows"] = with_shares(rows, {name: cell["step_flops"] for name, cell in about["cells"].items()})
    return whole | {
        "summary": summarise(whole),
        "peak_bytes_in_use": peak_bytes(),
        "seconds": seconds,
    }


class Measuring:
    """The measurements in progress of one call of the benchmark.

    Attributes:
        found: rows by kind, of `KINDS`, and ``dropped``: the measurements that did not fit into the budget.
    """

    def __init__(self, options: Options, budget: Budget):
        self._options, self._budget = options, budget
        self._how = Plan(options.rounds, 0.25 if options.quick else 0.5)
        self._batches = 1 if options.quick else 2
        self._earlier = {name: Earlier() for name in options.cells}
        works = in_order(options.cells, options.trials, options.contenders, options.parts)
        self._agenda = Agenda(works)
        self._dropped: set[Work] = set()
        self.found: dict[str, list[Row]] = {kind: [] for kind in (*KINDS, "dropped")}

    def all(self) -> Iterator[None]:
        """Measure everything that fits into the budget; yields after each contest or other work, and at least once."""
        if not self._budget.allows(MATMUL):
            for work in list(self._agenda.pending):
                self._drop(work)
            yield
            return
        self._matmul = fastest_matmul()
        say(f"matmul n = {self._matmul.size}: {self._matmul.rate / 1e9:,.0f} GFLOP/s")
        self._guesses = Guesses(self._budget, self._how, self._matmul.rate, self._batches, self._earlier)
        while self._agenda.pending:
            works = self._agenda.next()
            if works[0].contest is not None:
                self._contest(works)
            elif self._begins(works[0]):
                self._alone(works[0])
            yield

    def _contest(self, works: Sequence[Work]) -> None:
        """Measure the contenders of one cell and number of trials, `OURS` first."""
        ours, *others = works
        if not self._begins(ours):
            for work in others:
                self._drop(work)
            return
        contest = Contest(CELLS[ours.cell], ours.trials, self._earlier[ours.cell])
        self._prepare(contest, ours)
        for work in others:
            if self._begins(work, contest.seconds(self._matmul, self._how)):
                self._prepare(contest, work)
            else:
                contest.drop(work.contender, NO_TIME)
        few = self._how._replace(rounds=min(FEWEST_ROUNDS, self._how.rounds))
        for work in reversed(works):
            enough = self._budget.allows(contest.seconds(self._matmul, few))
            if work.contender in contest.ready and not enough:
                contest.drop(work.contender, NO_TIME)
                self._drop(work)
        if ours not in self._dropped:
            last = [work for work in works if work.contender in contest.ready or work == ours][-1]
            contest.time(self._matmul, self._how, self._more(last))
            self._add(rows=in_table_order(contest.rows(self._matmul), self._options.contenders))

    def _prepare(self, contest: Contest, work: Work) -> None:
        contender: Contender = CONTENDERS[work.contender]
        if work.contender == OURS:
            contender = contender._replace(prepare=partial(fused, width=self._options.width))
        earlier = self._earlier[work.cell].reusable.get(work.contender)
        began = self._budget.clock()
        contest.prepare(work.contender, contender)
        ready = contest.ready.get(work.contender)
        if ready is not None and ready is not earlier:
            # Its rate gives the time of training; the rest of the time is much the same for all cells.
            training = warm_calls(work, ready.prepared.steps) * ready.per_call
            seconds = max(0.0, self._budget.clock() - began - training)
            self._budget.took(kind_of(work), self._guesses.first(work), seconds)

    def _alone(self, work: Work) -> None:
        """Measure a work that is not part of a contest."""
        cell, width = CELLS[work.cell], self._options.width
        if work.part in ("stopping", "saving") and (row := absent(cell)):
            self._add(**{work.part: [row]})
            return
        more = self._more(work)
        with self._budget.piece(kind_of(work), self._guesses.first(work)):
            if work.contender == PROCESSES:
                self._processes(work)
            elif work.part == "diagnostics":
                self._add(diagnostics=[measure_diagnostics(cell, width, self._how, more)])
            else:
                row = measure_study(work.part, cell, width, self._options.rounds, more)
                self._add(**{work.part: [row]})

    def _processes(self, work: Work) -> None:
        cell = CELLS[work.cell]
        try:
            rows, whole = measure_processes(cell, self._options.trials, self._batches, self._budget.left)
        except TooLong:
            self._drop(work)
            return
        self._add(rows=rows, from_nothing=[] if whole is None else [whole])
        if whole is None and cell.from_nothing and "rate" in rows[0]:
            self._drop(work, f"{SHORT_TRIALS} trials with start-up")

    def _begins(self, work: Work, committed: float = 0.0) -> bool:
        """Whether there is time for ``work`` in addition to ``committed`` seconds; drops it if not."""
        if self._budget.limited:
            left = self._budget.left() - committed
            if not self._agenda.has_time(work, self._guesses.seconds, left):
                self._drop(work)
                return False
        self._agenda.remove(work)
        return True

    def _more(self, work: Work) -> Callable[[float], bool]:
        """A function that decides whether a round of so many seconds leaves time for all that is more important."""

        def more(seconds: float) -> bool:
            left = self._budget.left()
            if self._budget.limited:
                left = self._agenda.left_for(work, self._guesses.seconds, left)
            return SAFETY * seconds <= left

        return more

    def _drop(self, work: Work, what: str = "") -> None:
        """Record that ``work``, or only its part ``what``, is dropped for lack of time; not if it cannot run here."""
        self._agenda.remove(work)
        self._dropped.add(work)
        if work.contender in CONTENDERS and CONTENDERS[work.contender].missing():
            return
        what = what or work.contender or work.part
        self.found["dropped"].append({"cell": work.cell, "trials": work.trials or None, "what": what})

    def _add(self, **found: list[Row]) -> None:
        """Keep the rows and report them."""
        for kind, rows in found.items():
            self.found[kind] += rows
        for row in found.get("rows", ()):
            what = row.get("absent") or (f"{number(row['rate'])} trial-steps/s" if "rate" in row else "")
            if what:
                say(f"{row['cell']}, {row['trials']} trials, {row['contender']}: {what}")
        others = {kind: rows for kind, rows in found.items() if kind != "rows"}
        for goal in summarise(others):
            say(f"{goal['goal']}: {goal['value']:.1f} {goal['unit']}")


def say(line: str) -> None:
    """Print progress on standard error."""
    print(line, file=sys.stderr, flush=True)


def measured(found: Mapping[str, Any]) -> bool:
    """Whether anything has been measured."""
    return any(found[kind] for kind in KINDS)


def wrong(found: dict[str, Any]) -> list[str]:
    """Contenders that were refused because their losses were wrong."""
    return sorted({row["contender"] for row in found["rows"] if row.get("wrong")})


def exit_status(options: Options, spent: float = 0.0) -> int:
    """Measure and write the files; returns 1 if the losses of a contender were wrong, else 0.

    Raises:
        InputError: the budget is too short to measure anything.
    """
    found = benchmark(options, spent=spent)
    if not measured(found):
        remedy = "nothing can be measured in that time: give more seconds"
        raise InputError("--budget", found["budget"], remedy)
    refused = wrong(found)
    if refused:
        say(f"wrong losses: {', '.join(refused)}")
    return 1 if refused else 0
