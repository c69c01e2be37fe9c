"""What watching the units costs: the same epochs with a model that returns its activations, and one that does not."""

from __future__ import annotations

from collections.abc import Callable

import jax

from jaxlab.benchmark.cells import Cell
from jaxlab.benchmark.contenders.fused import Running, trial_of
from jaxlab.benchmark.problem import Problem, make_problem
from jaxlab.benchmark.rows import Row
from jaxlab.benchmark.timing import Plan, interleaved, plan, seconds_of, spread
from jaxlab.engine import Pack, compile_programs, default_width, make_pack
from jaxlab.models import CNN
from jaxlab.trial import shared_arrays

#: Of one pack at most, so that a round stays short.
MOST_TRIALS = 64


class OutputsOnly(CNN):
    """The same network, silent about its activations: then no units are counted."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return super().__call__(x)[0]


def measure_diagnostics(
    cell: Cell, width: int | None, how: Plan, more: Callable[[float], bool] = lambda seconds: True
) -> Row:
    """Seconds of an epoch of training and evaluation, and of the evaluation alone, with and without, for one pack.

    ``more`` as in `interleaved`.
    """
    trials = min(_pack(MOST_TRIALS, width).lanes, MOST_TRIALS)
    problem = make_problem(cell, trials)
    entries = {}
    for words, kind in (("with", CNN), ("without", OutputsOnly)):
        epoch, evaluation = _runs(problem, kind, width)
        for name, run in ((f"epoch_{words}", epoch), (f"evaluation_{words}", evaluation)):
            run(1)
            entries[name] = plan(run, seconds_of(run, 1), how.rounds, how.target)
    seconds = interleaved(entries, more=more)
    per_call = {name: [each / entries[name].calls for each in values] for name, values in seconds.items()}
    row: Row = {"cell": cell.name, "trials": trials, "steps": problem.steps, "seconds": per_call}
    for name in ("epoch", "evaluation"):
        with_, without = (spread(per_call[f"{name}_{words}"]).median for words in ("with", "without"))
        row[f"{name}_ratio"] = with_ / without
    return row


def _pack(trials: int, width: int | None) -> Pack:
    devices = jax.devices()
    return make_pack(width or default_width(devices[0], -(-trials // len(devices))), devices)


def _runs(
    problem: Problem, kind: type[CNN], width: int | None
) -> tuple[Callable[[int], object], Callable[[int], object]]:
    """Epochs, and evaluations, of one pack."""
    trial, shared = (
        trial_of(problem, kind, min(problem.cell.at_once, problem.cell.batch_size)),
        shared_arrays(problem.data),
    )
    example = jax.tree.map(lambda values: values[0], problem.hyperparameters)
    programs = compile_programs(trial, example, shared, _pack(problem.trials, width))
    running = Running(programs, problem.hyperparameters, shared)

    def evaluate(calls: int) -> None:
        for _ in range(calls):
            for index, values in enumerate(running.hyper):
                running.states[index], record = programs.measure(
                    values, running.states[index], running.shared
                )
        jax.block_until_ready(record)

    return running.train, evaluate
