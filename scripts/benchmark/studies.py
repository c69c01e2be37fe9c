"""Measurements of whole studies: the cost of diagnostics and of a run folder, and the time that stopping saves."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmark.cells import Cell, step_flops
from benchmark.contenders import Running, trial_of
from benchmark.machine import clock, others_share
from benchmark.problem import Problem, epoch_steps, make_problem
from benchmark.timing import Plan, Row, Timed, interleaved, plan, seconds_of, spread
from jaxlab.engine import Pack, compile_programs, default_width, make_pack, split_into_packs
from jaxlab.models import CNN
from jaxlab.trial import shared_arrays

#: Epochs of a study; three trials in four stop after a tenth of them.
EPOCHS = 40
STOPPED_EPOCH = EPOCHS // 10
STOPPING = 0.75
#: Share of the time that would remain if stopping and repacking were free.
IDEAL = 1 - STOPPING * (1 - STOPPED_EPOCH / EPOCHS)
#: Seconds of a study with a run folder: one and a half default intervals between checkpoints.
SAVED_SECONDS = 45.0
#: Longest study that is measured, in seconds.
MOST_SECONDS = 90.0
#: Most trials of the pack whose diagnostics are measured, so that a round stays short.
MOST_TRIALS = 64

#: ``seconds of the first round -> whether there is time for another``.
More = Callable[[float], bool]


class OutputsOnly(CNN):
    """The network without its activations as a second output, so that no units are counted."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return super().__call__(x)[0]


def measure_diagnostics(cell: Cell, width: int | None, how: Plan, more: More = lambda _: True) -> Row:
    """Time epochs and evaluations of one pack, with and without diagnostics; ``more`` as in `interleaved`."""
    pack = _pack(MOST_TRIALS, width)
    problem = make_problem(cell, min(pack.lanes, MOST_TRIALS))
    entries = {}
    for words, kind in (("with", CNN), ("without", OutputsOnly)):
        epoch, evaluation = _runs(problem, kind, pack)
        for name, run in ((f"epoch_{words}", epoch), (f"evaluation_{words}", evaluation)):
            run(1)
            entries[name] = plan(run, seconds_of(run, 1), how.rounds, how.target)
    seconds = interleaved(entries, more=more)
    per_call = {name: [each / entries[name].calls for each in values] for name, values in seconds.items()}
    row: Row = {"cell": cell.name, "trials": problem.trials, "steps": problem.steps, "seconds": per_call}
    for name in ("epoch", "evaluation"):
        with_, without = (spread(per_call[f"{name}_{words}"]).median for words in ("with", "without"))
        row[f"{name}_ratio"] = with_ / without
    return row


def _pack(trials: int, width: int | None) -> Pack:
    devices = jax.devices()
    return make_pack(width or default_width(devices[0], -(-trials // len(devices))), devices)


def _runs(
    problem: Problem, kind: type[CNN], pack: Pack
) -> tuple[Callable[[int], object], Callable[[int], object]]:
    """Two functions of a number of calls: one trains epochs of a pack, the other evaluates it."""
    trial = trial_of(problem, kind, min(problem.cell.at_once, problem.cell.batch_size))
    shared, values = shared_arrays(problem.data), problem.hyperparameters
    programs = compile_programs(trial, jax.tree.map(lambda leaf: leaf[0], values), shared, pack)
    running = Running(programs, values, shared)
    # A lane without a trial evaluates a copy of the last one.
    (lanes,) = split_into_packs(problem.trials, pack.lanes)
    values = jax.device_put(jax.tree.map(lambda leaf: leaf[lanes], values), pack.over_trials)
    shared = running.group.shared
    states = programs.start(values, shared)

    def evaluate(calls: int) -> None:
        nonlocal states
        for _ in range(calls):
            states, record = programs.measure(values, states, shared)
        jax.block_until_ready(record)

    return running.train, evaluate


def absent(cell: Cell) -> Row | None:
    """The row of a cell whose studies cannot be measured or would take too long; None for another cell."""
    reason = _missing() or _too_long(cell)
    return {"cell": cell.name, "trials": many(), "absent": reason} if reason else None


def measure_study(part: str, cell: Cell, width: int | None, rounds: int, more: More = lambda _: True) -> Row:
    """Measure ``stopping`` or ``saving``; ``more`` as in `interleaved`."""
    measure = {"stopping": measure_stopping, "saving": measure_saving}[part]
    with tempfile.TemporaryDirectory() as folder:
        # The engine chooses the width once, as for a user's second run.
        return measure(cell, width, rounds, Path(folder) / "widths.json", more)


def measure_stopping(
    cell: Cell, width: int | None, rounds: int, cache: Path, more: More = lambda _: True
) -> Row:
    """Measure a study in which three trials in four stop after a tenth of the epochs, relative to the full study.

    The engine chooses the widths of both.
    """
    runs = {
        "full": _Runs(cell, EPOCHS, width, cache),
        "stopping": _Runs(cell, EPOCHS, width, cache, (three_in_four,)),
    }
    row = _in_turns(cell, runs, rounds, more)
    return row | {
        "epochs": EPOCHS,
        "stopped_epoch": STOPPED_EPOCH,
        "share": _ratio(row["seconds"], "stopping", "full"),
        "ideal": IDEAL,
    }


def measure_saving(
    cell: Cell, width: int | None, rounds: int, cache: Path, more: More = lambda _: True
) -> Row:
    """Measure a study with a run folder (record files, checkpoints, results), relative to one without."""
    short, longer = (_Runs(cell, epochs, width, cache)(1) for epochs in (2, 12))
    epochs = int(np.ceil(SAVED_SECONDS / max((longer - short) / 10, 1e-3)))
    runs = {
        "without": _Runs(cell, epochs, width, cache),
        "with": _Runs(cell, epochs, width, cache, folder=cache.parent),
    }
    row = _in_turns(cell, runs, rounds, more)
    return row | {"epochs": epochs, "ratio": _ratio(row["seconds"], "with", "without")}


def three_in_four(history: Any) -> np.ndarray:
    """Stopping rule: after a tenth of the epochs, stop all but every fourth trial."""
    return (np.arange(len(history.running)) % 4 != 0) & (history.epoch == STOPPED_EPOCH)


class _Runs:
    """Runs one study from its start at every call; returns the seconds without compilation and choice of the width.

    Attributes:
        width: width of the last run.
    """

    def __init__(
        self,
        cell: Cell,
        epochs: int,
        width: int | None,
        cache: Path,
        rules: Sequence[Callable] = (),
        folder: Path | None = None,
    ):
        self.study = study_of(cell, many(), epochs, rules)
        self.given = {"width": width or "auto", "width_cache": cache}
        self.folder, self.width = folder, 0

    def __call__(self, calls: int) -> float:
        seconds = 0.0
        for _ in range(calls):
            with self._out() as out:
                began = time.perf_counter()
                about = self.study.run(out, **self.given).attrs
                seconds += time.perf_counter() - began - about["compile_seconds"] - about["probe_seconds"]
            self.width = about["width"]
        return seconds

    @contextlib.contextmanager
    def _out(self) -> Iterator[Path | None]:
        if self.folder is None:
            yield None
        else:
            with tempfile.TemporaryDirectory(dir=self.folder) as out:
                yield Path(out) / "run"


def study_of(cell: Cell, trials: int, epochs: int, rules: Sequence[Callable] = ()) -> Any:
    """The cell's trials as a `jaxlab.Study`."""
    from jaxlab.space import zipped
    from jaxlab.study import Study

    problem = make_problem(cell, trials)
    space = zipped(learning_rate=problem.learning_rates.tolist(), seed=problem.seeds.tolist())
    configuration = cell.model_options | {"batch_size": cell.batch_size}
    return Study(problem.data, space, epochs, configuration=configuration, name=cell.name, rules=rules)


def many() -> int:
    """Number of trials of a study on this device."""
    return 64 if jax.default_backend() == "cpu" else 1024


def _in_turns(cell: Cell, runs: dict[str, _Runs], rounds: int, more: More) -> Row:
    next(iter(runs.values()))(1)  # compiles the verdicts, once for all runs
    before = clock()
    entries = {name: Timed(each, 1, rounds) for name, each in runs.items()}
    seconds = interleaved(entries, lambda run, calls: run(calls), more)
    return {
        "cell": cell.name,
        "trials": many(),
        "widths": {name: each.width for name, each in runs.items()},
        "seconds": seconds,
        "others_share": others_share(before, clock()),
    }


def _ratio(seconds: dict[str, list[float]], over: str, under: str) -> float:
    """The median over rounds of the ratio within a round."""
    return float(np.median(np.divide(seconds[over], seconds[under])))


def _missing() -> str:
    if importlib.util.find_spec("xarray") is None:  # the rest of the benchmark does not need it
        return "xarray is not installed"
    from jaxlab.store import missing_library

    library = missing_library()
    return f"{library} is not installed" if library else ""


def _too_long(cell: Cell) -> str:
    """Why a study of this cell would take too long, by a guess of a CPU's speed; empty if it would not."""
    if jax.default_backend() != "cpu":
        return ""
    steps = EPOCHS * epoch_steps(cell, many())
    seconds = many() * steps * step_flops(cell) / 50e9
    return f"a study takes about {seconds:.0f} s" if seconds > MOST_SECONDS else ""
