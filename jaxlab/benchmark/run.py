"""The whole benchmark: all cells, then the summary, then the files."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxlab.benchmark.cells import CELLS, Cell, chosen
from jaxlab.benchmark.contenders import CONTENDERS, Contender
from jaxlab.benchmark.contenders.fused import fused
from jaxlab.benchmark.diagnostics import measure_diagnostics
from jaxlab.benchmark.environment import device_name, environment, peak_bytes
from jaxlab.benchmark.flops import step_flops
from jaxlab.benchmark.matmul import Matmul, fastest_matmul
from jaxlab.benchmark.measure import OURS, Plan, Row, measure_cell
from jaxlab.benchmark.processes import NAME as PROCESSES
from jaxlab.benchmark.processes import WORDS as PROCESSES_IN_WORDS
from jaxlab.benchmark.processes import measure_processes
from jaxlab.benchmark.report import number, write
from jaxlab.benchmark.studies import measure_studies
from jaxlab.benchmark.summary import disturbed, summarise, with_shares
from jaxlab.errors import InputError

NAMES = (*CONTENDERS, PROCESSES)
#: What there is to measure: the contenders, the diagnostics, studies that stop early, studies that are saved.
PARTS = ("contenders", "diagnostics", "stopping", "saving")


@dataclass(frozen=True)
class Options:
    """What to measure.

    Args:
        cells: names in `CELLS`.
        trials: numbers of trials N; by default 1, 4, 16, 64, and 256, 1024, 4096 as well on an accelerator.
        contenders: names in `NAMES`; ours is always among them.
        parts: names in `PARTS`; by default all, without the last if ``quick``.
        rounds: timed calls of each contender.
        out: folder of the two files that are written.
        width: trials side by side on each device in our packs; by default as a study chooses it.
        quick: a few cells and numbers of trials and short calls: minutes on two cores. Its files say so in their name.

    Raises:
        InputError: an unknown cell or contender, a number that is not a whole number >= 1.
    """

    cells: Sequence[str] | None = None
    trials: Sequence[int] | None = None
    contenders: Sequence[str] | None = None
    parts: Sequence[str] | None = None
    rounds: int | None = None
    out: Path = Path("docs/benchmarks")
    width: int | None = None
    quick: bool = False

    def __post_init__(self):
        chosen("--cells", ("8x8",) if self.cells is None else self.cells, CELLS)
        chosen("--contenders", NAMES if self.contenders is None else self.contenders, NAMES)
        chosen("--parts", PARTS if self.parts is None else self.parts, PARTS)
        if self.trials is not None and not self.trials:
            raise InputError("--trials", self.trials, "give whole numbers >= 1, separated by commas")
        for field, values in (("trials", self.trials), ("rounds", [self.rounds]), ("width", [self.width])):
            for value in values or ():
                if value is not None and (type(value) is not int or value < 1):
                    raise InputError(f"--{field}", value, "give whole numbers >= 1")
        if self.out.exists() and not self.out.is_dir():
            raise InputError("--out", str(self.out), "give a folder")

    def filled(self) -> Options:
        """With the defaults of this device; starts JAX."""
        few = self.quick
        many = (1, 4, 16, 64) if jax.default_backend() == "cpu" else (1, 4, 16, 64, 256, 1024, 4096)
        cells = ("8x8", "mnist1d") if few else tuple(CELLS)
        contenders = dict.fromkeys((OURS, *(self.contenders or NAMES)))
        return dataclasses.replace(
            self,
            cells=chosen("--cells", self.cells or cells, CELLS),
            trials=sorted(set(self.trials or ((4, 16) if few else many))),
            contenders=tuple(contenders),
            parts=tuple(self.parts or (PARTS[:-1] if few else PARTS)),
            rounds=self.rounds or (3 if few else 5),
        )


def benchmark(options: Options, command: str | None = None) -> dict[str, Any]:
    """Measure, write ``{device}.json`` and ``{device}.md`` into ``options.out``, and return what the JSON holds.

    Args:
        options: what to measure.
        command: how it was called, for the record; by default the process' arguments.
    """
    began = time.perf_counter()
    options = options.filled()
    how = Plan(options.rounds, 0.25 if options.quick else 0.5)
    ours = CONTENDERS[OURS]._replace(prepare=partial(fused, width=options.width))
    contenders = {
        name: ours if name == OURS else CONTENDERS[name] for name in options.contenders if name != PROCESSES
    }
    found: dict[str, Any] = {
        "environment": environment(),
        "command": command or shlex.join(["python", *sys.argv]),
        "contenders": {name: WORDS[name] for name in options.contenders},
        "cells": {name: _about(CELLS[name]) for name in options.cells},
    }
    found |= _measured(options, contenders, how)
    found["rows"] = with_shares(
        found["rows"], {name: about["step_flops"] for name, about in found["cells"].items()}
    )
    for cell, trials in disturbed(found["rows"]):
        say(f"other processes were busy during {cell}, {trials} trials")
    found["summary"] = summarise(found)
    found |= {"peak_bytes_in_use": peak_bytes(), "seconds": time.perf_counter() - began}
    name = device_name(found["environment"]) + "-quick" * options.quick
    for path in write(options.out, name, found):
        say(f"wrote {path}")
    return found


WORDS = {name: contender.words for name, contender in CONTENDERS.items()} | {PROCESSES: PROCESSES_IN_WORDS}


def _measured(options: Options, contenders: dict[str, Contender], how: Plan) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {
        name: [] for name in ("rows", "from_nothing", "diagnostics", "stopping", "saving")
    }

    def add(more: dict[str, list[Row]]) -> None:
        for name, rows in more.items():
            found[name] += rows

    for name in options.cells:
        if "diagnostics" in options.parts:
            add({"diagnostics": [measure_diagnostics(CELLS[name], options.width, how)]})
        add(studies := measure_studies(CELLS[name], options.width, how.rounds, options.parts))
        for goal in summarise(studies):
            say(f"{goal['goal']}: {goal['value']:.1f} {goal['unit']}")
    if "contenders" in options.parts:
        matmul = fastest_matmul()
        say(f"matmul n = {matmul.size}: {matmul.flops / matmul.seconds / 1e9:,.0f} GFLOP/s")
        for name in options.cells:
            add(_contended(CELLS[name], options, contenders, matmul, how))
    found["rows"].sort(key=lambda row: (options.cells.index(row["cell"]), row["trials"]))
    return found


def _contended(
    cell: Cell, options: Options, contenders: dict[str, Contender], matmul: Matmul, how: Plan
) -> dict[str, list[Row]]:
    rows: list[Row] = []
    for found in measure_cell(cell, options.trials, contenders, matmul, how):
        rows += _said(found)
    if PROCESSES not in options.contenders:
        return {"rows": rows}
    found, whole = measure_processes(cell, options.trials, 1 if options.quick else 2)
    return {"rows": rows + _said(found), "from_nothing": [] if whole is None else [whole]}


def _about(cell: Cell) -> dict[str, Any]:
    size = "×".join(map(str, cell.input_shape))
    convolutions = ", ".join(
        f"{kernel}{f'×{kernel}' * (cell.axes - 1)} to {features}"
        for features, kernel in zip(cell.features, cell.kernel_sizes, strict=True)
    )
    pool = f", max pooling by {cell.pool} behind each" if cell.pool > 1 else ""
    words = (
        f"Inputs {size}, batch {cell.batch_size}; convolutions {convolutions} channels, stride {cell.stride}, padding "
        f"{cell.padding}, ReLU{pool}; dense to 10. {step_flops(cell) / 1e6:,.0f} MFLOP a trial-step."
    )
    return {"words": words, "step_flops": step_flops(cell)} | cell._asdict()


def _said(rows: list[Row]) -> list[Row]:
    """The rows, after a line about each."""
    for row in rows:
        what = row.get("absent") or (f"{number(row['rate'])} trial-steps/s" if "rate" in row else "")
        if what:
            say(f"{row['cell']}, {row['trials']} trials, {row['contender']}: {what}")
    return rows


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def wrong(found: dict[str, Any]) -> list[str]:
    """Contenders that were refused for other losses."""
    return sorted({row["contender"] for row in found["rows"] if row.get("wrong")})
