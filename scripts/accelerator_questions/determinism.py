"""What do deterministic operations cost, by set of compiler options, and can kernel tuning results be reused?"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from accelerator_questions.asking import Answer, Asking, Row, Step, Table, elsewhere
from accelerator_questions.measuring import (
    FAILURES,
    IN_ORDER,
    TINY,
    by,
    compiled,
    on_gpu,
    one_device,
    option_sets,
    reason,
    timed,
)
from benchmark.cells import CELLS, Cell
from benchmark.contenders import Running, trial_of, without_evaluation
from benchmark.problem import make_problem
from benchmark.report import number, size
from benchmark.timing import rate_columns
from jaxlab.engine import compile_programs
from jaxlab.models import CNN
from jaxlab.trial import shared_arrays

#: A first process stores its tuning results in a file and in a folder; later processes load them or tune anew.
_TUNED = {"xla_gpu_autotune_level": 4}
_KEPT = "tuned, results stored"
_LOADED = "second process, results loaded from the file"
_ANEW = "second process, tuned anew"
_FOLDER = "second process, results from the folder"


def ask(asking: Asking) -> None:
    """Measure the smallest cell, a model without a deterministic form, reused tuning results; then the other cells."""
    cells, numbers = ((TINY,), (2,)) if asking.small else (IN_ORDER, (64, 1024, 1))
    rates = [
        Step(f"{cell.name} with {trials} trials", partial(_rates, asking, cell, trials))
        for cell in cells
        for trials in numbers
    ]
    with tempfile.TemporaryDirectory() as folder:
        plan = [
            *rates[:2],
            Step("a model with nnx.max_pool", partial(_without_form, asking)),
            *_tuning(asking, Path(folder)),
            *rates[2:],
        ]
        for step in asking.in_time(plan, lambda step: step.words):
            step.ask()


def answer(rows: Sequence[Row]) -> Answer:
    """Rates and seconds of compilation by set of options, and the results of the other measurements."""
    says, tables = [], []
    rates = by(rows, kind="rate")
    if rates:
        says.append(_said_of_rates(rates))
        columns = ("cell", "trials", "options", "trial-steps/s", "of (c)", "compile", "memory")
        tables.append(Table(columns, [_rate_cells(row, rates) for row in rates]))
    models = by(rows, kind="model")
    if models:
        says.append(
            "A model with `nnx.max_pool`: "
            + "; ".join(f"{row['name']}: {row['result']}" for row in models)
            + "."
        )
    tuning = by(rows, kind="tuning")
    if tuning:
        says += _said_of_tuning(tuning)
        cells = [_tuning_cells(row) for row in tuning]
        title = "Tuning results reused by a second process, options (b):"
        tables.append(Table(("process", "compile", "same bits as the first", "remarks"), cells, title))
    return Answer(says, tables)


def _rates(asking: Asking, cell: Cell, trials: int) -> None:
    """Time each set of options, in turns."""
    problem = make_problem(cell, trials)
    runs: dict[str, Running] = {}
    rows: dict[str, Row] = {}
    for chosen in option_sets():
        row: Row = {
            "kind": "rate",
            "cell": cell.name,
            "trials": trials,
            "options": chosen.letter,
            "words": chosen.words,
        }
        try:
            programs = compiled(without_evaluation(trial_of(problem)), problem, trials, chosen)
            running = Running(programs, problem.hyperparameters, shared_arrays(problem.data))
            running.train(1)
        except FAILURES as error:
            asking.row(**row, refused=reason(error))
            continue
        about = {"compile_seconds": programs.compile_seconds, "memory_bytes": programs.memory_bytes()}
        runs[chosen.letter], rows[chosen.letter] = running, row | about
    seconds = timed({letter: running.train for letter, running in runs.items()}, asking.small)
    for letter, row in rows.items():
        asking.row(**row, **rate_columns(trials * problem.steps, seconds[letter]))


class WithMaxPool(CNN):
    """The network with `nnx.max_pool`, whose gradient is a select-and-scatter."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.pool = nnx.max_pool


def _without_form(asking: Asking) -> None:
    """Compile a model whose gradient has no deterministic form on a GPU, with each set of options."""
    cell = TINY if asking.small else CELLS["8x8"]
    problem = make_problem(cell, 4, 2)
    trial = without_evaluation(trial_of(problem, WithMaxPool))
    example = jax.tree.map(lambda values: values[0], problem.hyperparameters)
    shared = shared_arrays(problem.data)
    ways = [(f"({each.letter})", each.deterministic, each.options) for each in option_sets()]
    for name, deterministic, options in [*ways, ('`deterministic="auto"`', "auto", {})]:
        row: Row = {"kind": "model", "name": name}
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                programs = compile_programs(
                    trial, example, shared, one_device(4), deterministic=deterministic, options=options
                )
        except FAILURES as error:
            asking.row(**row, result=f"refused ({reason(error)})")
            continue
        warned = [str(each.message) for each in said if "trial's numbers may change" in str(each.message)]
        result = f"compiles and warns ({warned[0]})" if warned else "compiles"
        asking.row(**row, result=result, nondeterministic=programs.nondeterministic)


def _tuning(asking: Asking, folder: Path) -> list[Step]:
    """Four processes: the first stores its tuning results; the others load them or tune anew."""
    file, kept = folder / "results.pb", folder / "per-fusion"
    kept.mkdir()
    dump = {"xla_gpu_dump_autotune_results_to": str(file)}
    load = {"xla_gpu_load_autotune_results_from": str(file)}
    fusions = {"xla_gpu_per_fusion_autotune_cache_dir": str(kept)}
    jobs = {_KEPT: dump | fusions, _LOADED: load, _FOLDER: fusions, _ANEW: {}}

    def one(name: str) -> None:
        options = _TUNED | jobs[name] if on_gpu() else {}
        row: Row = {"kind": "tuning", "name": name, "options": options}
        try:
            found = elsewhere("determinism", {"small": asking.small, "options": options})
        except RuntimeError as error:
            found = {"refused": str(error)}
        first = by(asking.rows, kind="tuning", name=_KEPT)
        if first and "bits" in first[0] and "bits" in found:
            found["equal"] = found["bits"] == first[0]["bits"]
        if name == _KEPT:
            found["file_bytes"] = file.stat().st_size if file.exists() else None
            found["files"] = len(list(kept.rglob("*")))
        asking.row(**row, **found)

    names = list(jobs)[:2] if asking.small else jobs
    return [Step(name, partial(one, name)) for name in names]


def _said_of_rates(rows: Sequence[Row]) -> str:
    """How much slower the deterministic sets of options are, over all cells."""
    free = {(row["cell"], row["trials"]): row["rate"] for row in by(rows, options="c") if "rate" in row}
    parts = []
    for letter in ("a", "b"):
        ratios = [
            row["rate"] / free[row["cell"], row["trials"]]
            for row in by(rows, options=letter)
            if "rate" in row and (row["cell"], row["trials"]) in free
        ]
        if ratios:
            words = f"{min(ratios):.2f} to {max(ratios):.2f}" if len(ratios) > 1 else f"{ratios[0]:.2f}"
            parts.append(f"({letter}) {by(rows, options=letter)[0]['words']}: {words} ×")
    compiling = [
        f"({letter}) {np.median([row['compile_seconds'] for row in by(rows, options=letter) if 'rate' in row]):.1f} s"
        for letter in "abc"
        if any("rate" in row for row in by(rows, options=letter))
    ]
    if not compiling:
        return "Nothing compiles."
    relative = f"Rates against (c), any operation and tuned kernels: {'; '.join(parts)}. " if parts else ""
    return f"{relative}Median time to compile: {', '.join(compiling)}."


def _rate_cells(row: Row, rows: Sequence[Row]) -> list[str]:
    where = [row["cell"], str(row["trials"]), f"({row['options']})"]
    if "refused" in row:
        return [*where, "–", "–", "–", f"absent: {row['refused']}"]
    free = by(rows, cell=row["cell"], trials=row["trials"], options="c")
    share = f"{row['rate'] / free[0]['rate']:.2f} ×" if free and "rate" in free[0] else ""
    rate = f"{number(row['rate'])} ({number(row['rate_lower'])}–{number(row['rate_upper'])})"
    return [*where, rate, share, f"{row['compile_seconds']:.1f} s", size(row["memory_bytes"])]


def _said_of_tuning(rows: Sequence[Row]) -> list[str]:
    first = by(rows, name=_KEPT)
    says = []
    if first and not first[0]["options"]:
        return [
            "Tuning results cannot be stored here: XLA's options for that are for GPUs. The rows compile without them."
        ]
    if first and "refused" not in first[0]:
        bytes_ = first[0]["file_bytes"]
        says.append(
            f"Tuning results are stored: {'no file' if bytes_ is None else f'a file of {bytes_:,} bytes'}, and "
            f"{first[0]['files']} files in the folder."
        )
    for row in rows:
        if "equal" in row and row["name"] != _KEPT:
            bits = "the same bits" if row["equal"] else "**different bits**"
            says.append(
                f"{row['name'][0].upper()}{row['name'][1:]}: {bits}, compiled in {row['compile_seconds']:.1f} s "
                f"instead of {first[0]['compile_seconds']:.1f} s."
            )
    return says


def _tuning_cells(row: Row) -> list[str]:
    if "refused" in row:
        return [row["name"], "–", "–", f"absent: {row['refused']}"]
    equal = {True: "yes", False: "no", None: ""}[row.get("equal")]
    return [row["name"], f"{row['compile_seconds']:.2f} s", equal, ""]


def _compile_and_train(job: Mapping[str, Any]) -> Row:
    """Seconds to compile the training segment with given options; a digest of losses and states after two epochs."""
    cell, trials = (TINY, 2) if job["small"] else (CELLS["8x8"], 64)
    problem = make_problem(cell, trials)
    trial = without_evaluation(trial_of(problem))
    began = time.perf_counter()
    try:
        programs = compile_programs(
            trial,
            jax.tree.map(lambda values: values[0], problem.hyperparameters),
            shared_arrays(problem.data),
            one_device(trials),
            deterministic=True,
            options=job["options"],
        )
    except FAILURES as error:
        return {"refused": reason(error)}
    seconds = time.perf_counter() - began
    running = Running(programs, problem.hyperparameters, shared_arrays(problem.data))
    losses = running.train(2)
    digest = hashlib.sha256(losses.tobytes())
    for leaf in jax.tree.leaves(running.group.snapshot()):
        digest.update(np.asarray(leaf).tobytes())
    return {"compile_seconds": seconds, "bits": digest.hexdigest()[:16]}


if __name__ == "__main__":
    print(json.dumps(_compile_and_train(json.loads(sys.argv[1]))))
