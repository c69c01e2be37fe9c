"""Which width is fastest, how much memory does each width take, and which one does automatic width choose?"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import jax

from accelerator_questions.asking import Answer, Asking, Row, Table
from accelerator_questions.measuring import (
    FAILURES,
    IN_ORDER,
    TINY,
    by,
    compiled,
    option_sets,
    reason,
    timed,
)
from benchmark.cells import Cell
from benchmark.contenders import LONG, Running, trial_of, without_evaluation
from benchmark.machine import peak_bytes
from benchmark.problem import Problem, make_problem
from benchmark.report import number, size
from benchmark.timing import rate_columns
from jaxlab.engine import clear_programs, compile_group, default_width
from jaxlab.trial import shared_arrays

#: Steps of one call at every width.
STEPS = 8
#: Widths in order of importance; None for automatic width.
_WIDTHS = (256, 1024, 64, 4096, None, 16, 4, 1)


def ask(asking: Asking) -> None:
    """Measure every width and automatic width, for the smallest cell and then for the others."""
    cells, widths = ((TINY,), (2, 4, None)) if asking.small else (IN_ORDER, _WIDTHS)
    most = max(filter(None, widths))
    too_many: dict[str, int] = {}
    plan = [(cell, width) for cell in cells for width in widths]
    for cell, width in asking.in_time(plan, lambda each: f"{each[0].name} at width {each[1] or 'auto'}"):
        problem = make_problem(cell, most, None if asking.small else STEPS)
        if width is None:
            _automatic(asking, problem)
        elif width < too_many.get(cell.name, most + 1) and not _fits(asking, problem, width):
            too_many[cell.name] = width


def answer(rows: Sequence[Row]) -> Answer:
    """The fastest width of each cell, and how close automatic width comes to its rate."""
    says, tables = [], []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        own = by(rows, cell=cell)
        rates = {row["width"]: row["rate"] for row in by(own, kind="width") if "rate" in row}
        says += _said(cell, rates, by(own, kind="automatic"))
        columns = (
            "width",
            "trial-steps/s",
            "of the highest rate",
            "memory of the programs",
            "compile",
            "remarks",
        )
        ordered = sorted(own, key=lambda row: row.get("width", math.inf))
        tables.append(Table(columns, [_cells(row, rates) for row in ordered], f"{cell}:"))
    return Answer(says, tables)


def best_width(earlier: Mapping[str, Sequence[Row]], cell: str) -> int | None:
    """The fastest width of a cell according to the rows of this question; None if unknown."""
    rates = {row["width"]: row["rate"] for row in by(earlier.get("widths", []), cell=cell) if "rate" in row}
    return max(rates, key=rates.__getitem__) if rates else None


def _fits(asking: Asking, problem: Problem, width: int) -> bool:
    """Measure one width; returns False if it fails, e.g. out of memory."""
    row: Row = {"kind": "width", "cell": problem.cell.name, "width": width}
    part = problem.first(width)
    try:
        programs = compiled(without_evaluation(trial_of(part)), part, width, option_sets()[0])
        running = Running(programs, part.hyperparameters, shared_arrays(part.data))
        seconds = timed({"width": running.train}, asking.small)["width"]
    except FAILURES as error:
        asking.row(**row, refused=reason(error))
        return False
    about = {"memory_bytes": programs.memory_bytes(), "peak_bytes": peak_bytes()}
    about["compile_seconds"] = programs.compile_seconds
    asking.row(**row, **about, **rate_columns(width * part.steps, seconds))
    return True


def _automatic(asking: Asking, problem: Problem) -> None:
    """Let automatic width choose for a long study of all trials."""
    cell: Cell = problem.cell
    row: Row = {"kind": "automatic", "cell": cell.name, "trials": problem.trials}
    row["rule_of_thumb"] = default_width(jax.devices()[0], problem.trials)
    trial = without_evaluation(trial_of(problem))
    clear_programs()  # as in a fresh process, which has compiled none of the widths
    began = time.perf_counter()
    try:
        choice = compile_group(
            trial, problem.hyperparameters, shared_arrays(problem.data), LONG, devices=jax.devices()[:1]
        )
    except FAILURES as error:
        asking.row(**row, refused=reason(error))
        return
    asking.row(
        **row,
        chosen=choice.programs.pack.width,
        seconds=time.perf_counter() - began,
        compile_seconds=choice.programs.compile_seconds,
        tried=sorted(choice.seconds),
    )


def _said(cell: str, rates: Mapping[int, float], automatic: Sequence[Row]) -> list[str]:
    if not rates:
        return []
    best = max(rates, key=rates.__getitem__)
    said = f"{cell}: width {best} is the fastest, {number(rates[best])} trial-steps/s"
    if best != min(rates):
        said += f", {rates[best] / rates[min(rates)]:.1f} × the rate of width {min(rates)}"
    for row in automatic:
        if "chosen" in row:
            share = rates.get(row["chosen"], 0) / rates[best]
            known = f" ({100 * share:.0f} % of that rate)" if share else ""
            said += f"; automatic width chooses {row['chosen']}{known} in {row['seconds']:.0f} s"
    return [f"{said}."]


def _cells(row: Row, rates: Mapping[int, float]) -> list[str]:
    if row["kind"] == "automatic":
        if "refused" in row:
            return ["auto", "–", "–", "–", "–", f"absent: {row['refused']}"]
        tried = f"tried {', '.join(map(str, row['tried']))}" if row["tried"] else "nothing tried"
        about = f"{row['trials']} trials, {row['seconds']:.1f} s in all; {tried}; rule of thumb: {row['rule_of_thumb']}"
        return [f"auto: {row['chosen']}", "", "", "", f"{row['compile_seconds']:.1f} s", about]
    if "refused" in row:
        return [str(row["width"]), "–", "–", "–", "–", f"absent: {row['refused']}"]
    rate = f"{number(row['rate'])} ({number(row['rate_lower'])}–{number(row['rate_upper'])})"
    share = f"{100 * row['rate'] / max(rates.values()):.0f} %"
    peak = f"peak so far {size(row['peak_bytes'])}" if row["peak_bytes"] else ""
    return [
        str(row["width"]),
        rate,
        share,
        size(row["memory_bytes"]),
        f"{row['compile_seconds']:.1f} s",
        peak,
    ]
