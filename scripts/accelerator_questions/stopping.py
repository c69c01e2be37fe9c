"""What do stopping early, states in host memory and a run folder cost in whole studies?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from accelerator_questions.asking import Answer, Asking, Row, Step, Table
from accelerator_questions.measuring import FAILURES, IN_ORDER, TINY, by, compiled, option_sets, reason
from benchmark.cells import Cell
from benchmark.contenders import trial_of
from benchmark.problem import make_problem
from benchmark.report import size
from benchmark.studies import EPOCHS, many, measure_stopping, study_of
from jaxlab.engine import GroupTraining, Training, place_shared
from jaxlab.store import missing_library
from jaxlab.trial import shared_arrays


def ask(asking: Asking) -> None:
    """Measure stopping early, states in host memory, and a run folder."""
    cell = TINY if asking.small else IN_ORDER[0]
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "widths.json"
        plan = (
            Step("stopping early", partial(_stopping, asking, cell, cache)),
            Step("states in host memory", partial(_resident, asking, cell)),
            Step("a run folder", partial(_folder, asking, cell, cache)),
        )
        for step in asking.in_time(plan, lambda step: step.words):
            try:
                step.ask()
            except FAILURES as error:
                asking.note(f"Not measured: {step.words} ({reason(error)}).")


def answer(rows: Sequence[Row]) -> Answer:
    """The share of time that remains when most trials stop, and the cost of offloading states and of a run folder."""
    says, tables = [], []
    for row in by(rows, kind="stopping"):
        full, stopping = (np.median(row["seconds"][name]) for name in ("full", "stopping"))
        says.append(
            f"{row['trials']} trials of which three in four stop after {row['stopped_epoch']} of {row['epochs']} "
            f"epochs take {100 * row['share']:.1f} % of the time of the full study ({stopping:.2f} s at width "
            f"{row['widths']['stopping']}, {full:.2f} s at width {row['widths']['full']}); "
            f"{100 * row['ideal']:.1f} % of the epochs are trained."
        )
    waiting = by(rows, kind="resident")
    if waiting:
        says += _said_of_waiting(waiting)
        cells = [
            [
                str(row["resident"]),
                str(row["packs"]),
                f"{1e3 * row['seconds_per_epoch']:.3g} ms",
                size(row["pack_bytes"]),
            ]
            for row in waiting
        ]
        columns = ("packs on the device", "packs", "epoch of all packs", "states of a pack")
        tables.append(Table(columns, cells, "States in host memory:"))
    for row in by(rows, kind="folder"):
        if "absent" in row:
            says.append(f"The cost of a run folder was not measured: {row['absent']}.")
        else:
            with_, without = (np.median(row["seconds"][name]) for name in ("with", "without"))
            says.append(
                f"A run folder costs {100 * (with_ / without - 1):.1f} % ({row['trials']} trials, {row['epochs']} "
                f"epochs: {with_:.2f} s with, {without:.2f} s without)."
            )
    return Answer(says, tables)


def _stopping(asking: Asking, cell: Cell, cache: Path) -> None:
    asking.row(kind="stopping", **measure_stopping(cell, None, 1 if asking.small else 2, cache))


def _resident(asking: Asking, cell: Cell) -> None:
    """Time an epoch of several packs with the states of all, half or none of them kept on the device."""
    width, packs, epochs = (4, 2, 2) if asking.small else (128, 8, 5)
    problem = make_problem(cell, width * packs, 2 if asking.small else 16)
    programs = compiled(trial_of(problem), problem, width, option_sets()[0])
    shared = place_shared(shared_arrays(problem.data), programs.pack)
    for resident in (packs, packs // 2, 0):
        group = GroupTraining(programs, problem.hyperparameters, shared, resident=resident)
        ends: dict[int, float] = {}
        for _, record in Training([group], epochs).segments():
            ends[int(record.epochs[-1])] = time.perf_counter()
        each = (ends[epochs] - ends[1]) / (epochs - 1)
        about = {"packs": packs, "width": width, "pack_bytes": programs.state_bytes}
        asking.row(kind="resident", resident=resident, seconds_per_epoch=each, **about)


def _folder(asking: Asking, cell: Cell, cache: Path) -> None:
    library = missing_library()
    if library:
        asking.row(kind="folder", cell=cell.name, trials=many(), absent=f"{library} is not installed")
        return
    epochs, rounds = (2, 1) if asking.small else (EPOCHS, 2)
    study = study_of(cell, many(), epochs)
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(rounds if asking.small else rounds + 1):
        for name, times in seconds.items():
            with tempfile.TemporaryDirectory(dir=cache.parent) as folder:
                out = Path(folder) / "run" if name == "with" else None
                began = time.perf_counter()
                about = study.run(out, width_cache=cache).attrs
                taken = time.perf_counter() - began - about["compile_seconds"] - about["probe_seconds"]
            if number or asking.small:  # the first round also compiles the verdicts
                times.append(taken)
    asking.row(kind="folder", cell=cell.name, trials=many(), epochs=epochs, seconds=seconds)


def _said_of_waiting(rows: Sequence[Row]) -> list[str]:
    """The cost of states in host memory, which cross the bus twice per epoch, in words."""
    times = {row["resident"]: row["seconds_per_epoch"] for row in rows}
    if len(times) < 2:
        return []
    most, fewest = max(times), min(times)
    row = rows[0]
    extra = times[fewest] - times[most]
    moved = 2 * (most - fewest) * row["pack_bytes"]
    rate = f", {moved / extra / 1e9:.1f} GB/s in both directions" if extra > 0 else ""
    return [
        f"With the states of {most - fewest} of {row['packs']} packs in host memory, an epoch takes "
        f"{times[fewest] / times[most]:.2f} × as long ({size(row['pack_bytes'])} per pack{rate})."
    ]
