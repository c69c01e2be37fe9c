"""Which kernels take the time of one training segment, according to a profile?"""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from accelerator_questions.asking import Answer, Asking, Row, Table
from accelerator_questions.measuring import IN_ORDER, TINY, by, compiled, option_sets
from benchmark.contenders import Running, trial_of
from benchmark.problem import make_problem
from jaxlab.trial import shared_arrays

#: Number of kernels to show.
MOST = 10
#: Parts of names that mark a kernel as a matrix product or convolution.
_PRODUCTS = ("gemm", "dot", "cutlass", "cublas", "conv", "wgrad", "dgrad", "matmul", "nvjet", "ynn")


class Kernel(NamedTuple):
    """A kernel of a program: its name, the operation that it computes, the number of its calls, and their seconds."""

    name: str
    operation: str
    calls: int
    seconds: float


def ask(asking: Asking) -> None:
    """Profile one segment of a pack of 1,024 trials, training and evaluation as in a study; then another width."""
    cell, widths = (TINY, (4,)) if asking.small else (IN_ORDER[0], (1024, 64))
    for width in asking.in_time(widths, lambda width: f"width {width}"):
        problem = make_problem(cell, width, 2 if asking.small else 16)
        programs = compiled(trial_of(problem), problem, width, option_sets()[0])
        running = Running(programs, problem.hyperparameters, shared_arrays(problem.data))
        running.train(2)
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                began = time.perf_counter()
                running.train(1)
                wall = time.perf_counter() - began
            found = kernels(read_trace(Path(folder)))
        about = {"cell": cell.name, "width": width, "steps": problem.steps, "wall_seconds": wall}
        busy = sum(each.seconds for each in found)
        asking.row(kind="segment", **about, busy_seconds=busy, kernels=len(found), products=products(found))
        for each in found[:MOST]:
            asking.row(kind="kernel", width=width, **each._asdict(), share=each.seconds / busy)


def answer(rows: Sequence[Row]) -> Answer:
    """The shares of matrix products and of the most expensive kernel."""
    says, tables = [], []
    for segment in by(rows, kind="segment"):
        own = by(rows, kind="kernel", width=segment["width"])
        says += _said(segment, own)
        cells = [
            [
                row["name"] if len(row["name"]) <= 80 else f"{row['name'][:80]}…",
                row["operation"],
                f"{row['calls']:,}",
                f"{1e3 * row['seconds']:.3g} ms",
                f"{100 * row['share']:.1f} %",
            ]
            for row in own
        ]
        title = f"{segment['cell']}, {segment['width']} trials, {segment['steps']} steps and an evaluation:"
        tables.append(Table(("kernel", "operation", "calls", "time", "share"), cells, title))
    return Answer(says, tables)


def read_trace(folder: Path) -> list[dict[str, Any]]:
    """The events of the newest trace that JAX's profiler wrote into a folder."""
    found = sorted(folder.rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError("JAX's profiler wrote no trace.json.gz")
    with gzip.open(found[-1], "rt") as file:
        return json.load(file)["traceEvents"]


def kernels(events: Iterable[Mapping[str, Any]]) -> list[Kernel]:
    """Kernels that ran on the device, the most expensive first; time of nested events counts for the inner ones only.

    On a GPU these are the events of its streams, on a TPU those of the line "XLA Ops", and on a CPU all events of an
    operation of a program.
    """
    events = list(events)
    processes = {
        event["pid"]: event["args"]["name"] for event in events if event.get("name") == "process_name"
    }
    lines = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    by_line: dict[tuple, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("ph") == "X" and _on_device(event, processes, lines):
            by_line[event["pid"], event["tid"]].append(event)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in by_line.values():
        for event, seconds in _own_seconds(line):
            found[event["name"], event.get("args", {}).get("hlo_op", "")].append(seconds)
    totals = [Kernel(name, operation, len(each), sum(each)) for (name, operation), each in found.items()]
    return sorted(totals, key=lambda kernel: -kernel.seconds)


def products(found: Sequence[Kernel]) -> float:
    """The share of matrix products and convolutions, recognised by their names."""
    busy = sum(each.seconds for each in found)
    own = sum(
        each.seconds
        for each in found
        if any(word in f"{each.name} {each.operation}".lower() for word in _PRODUCTS)
    )
    return own / busy if busy else 0.0


def _on_device(event: Mapping[str, Any], processes: Mapping[int, str], lines: Mapping[tuple, str]) -> bool:
    process, line = processes.get(event["pid"], ""), lines.get((event["pid"], event["tid"]), "")
    if process.startswith("/device:"):
        return line.startswith("Stream") or line == "XLA Ops"
    devices = any(name.startswith("/device:") for name in processes.values())
    return not devices and "hlo_op" in event.get("args", {})


def _own_seconds(line: list[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], float]]:
    """Each event of a line with its seconds, without those of the events inside it."""
    open_: list[list[Any]] = []
    found = []
    for event in sorted(line, key=lambda event: (event["ts"], -event.get("dur", 0))):
        while open_ and event["ts"] >= open_[-1][0]["ts"] + open_[-1][0].get("dur", 0):
            found.append(tuple(open_.pop()))
        own = event.get("dur", 0) * 1e-6
        if open_:
            open_[-1][1] -= own
        open_.append([event, own])
    found += [tuple(each) for each in reversed(open_)]
    return found


def _said(segment: Row, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return [f"The profile of {segment['width']} trials of {segment['cell']} contains no kernels."]
    shown = sum(row["share"] for row in rows)
    return [
        f"{segment['width']} trials of {segment['cell']}: kernels run for {1e3 * segment['busy_seconds']:.3g} ms of a "
        f"segment's {1e3 * segment['wall_seconds']:.3g} ms. Products and convolutions take "
        f"{100 * segment['products']:.0f} % of the time of kernels, the most expensive kernel "
        f"{100 * rows[0]['share']:.0f} %, and the {len(rows)} of {segment['kernels']} kernels shown "
        f"{100 * shown:.0f} %."
    ]
