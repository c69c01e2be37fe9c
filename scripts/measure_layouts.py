"""What does it bring to keep the examples of a batch along the last axis of every array?

    python scripts/measure_layouts.py
    python scripts/measure_layouts.py --shapes 5 --seed 7 --rounds 3

Draws networks whose sizes nobody chose (one and two spatial axes, odd sizes, 5 to 40 channels) by a seed, and trains 16
trials of each in two ways that take turns: as a study does by default on a CPU, and with channels last (the field
``convolution`` set to ``product``). Prints a Markdown table of trial-steps per second, medians over the rounds, and of
ratios within a round. 20 shapes take about 20 minutes on two CPU cores.
"""

import argparse
import sys

import numpy as np

from jaxlab.benchmark import one_device_per_core
from jaxlab.benchmark.awkward import awkward
from jaxlab.benchmark.contenders.fused import Running, trial_of, without_evaluation
from jaxlab.benchmark.flops import step_flops
from jaxlab.benchmark.problem import make_problem
from jaxlab.benchmark.timing import interleaved, plan, seconds_of, spread
from jaxlab.engine import compile_programs, make_pack
from jaxlab.engine.group import rows
from jaxlab.trial import shared_arrays

TRIALS, WIDTH, STEPS, SECONDS = 16, 2, 8, 0.3
WAYS = {"channels last": "product", "examples last": "auto"}


def runs_of(problem, evaluation):
    """``calls -> losses`` of whole epochs, by layout."""
    shared = shared_arrays(problem.data)
    found = {}
    for name, convolution in WAYS.items():
        trial = trial_of(problem, convolution=convolution)
        if not evaluation:
            trial = without_evaluation(trial)
        programs = compile_programs(trial, rows(problem.hyperparameters, 0), shared, make_pack(WIDTH))
        found[name] = Running(programs, problem.hyperparameters, shared).train
    return found


def measure(cell, rounds, evaluation):
    """Median rates by layout, and the median over rounds of their ratio."""
    problem = make_problem(cell, TRIALS, STEPS)
    runs = runs_of(problem, evaluation)
    losses = [run(1) for run in runs.values()]
    np.testing.assert_allclose(*losses, rtol=2e-3)
    entries = {name: plan(run, seconds_of(run, 1), rounds, SECONDS) for name, run in runs.items()}
    seconds = interleaved(entries)
    rates = {
        name: [TRIALS * STEPS * entries[name].calls / each for each in values]
        for name, values in seconds.items()
    }
    ratios = np.divide(rates["examples last"], rates["channels last"])
    return {name: spread(values).median for name, values in rates.items()}, float(np.median(ratios))


def words(cell):
    """The sizes of a network."""
    size = "×".join(map(str, cell.input_shape))
    features, kernels = ("-".join(map(str, each)) for each in (cell.features, cell.kernel_sizes))
    return f"{size} | {cell.batch_size} | {features} | {kernels} | {cell.stride} | {cell.pool}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--evaluation", action="store_true", help="with evaluation and diagnostics")
    given = parser.parse_args()
    one_device_per_core()
    print(
        "| input | batch | channels | kernels | stride | pool | MFLOP | channels last | examples last | ratio |"
    )
    print("| --- |" + " --: |" * 9)
    ratios = []
    for cell in awkward(given.seed, given.shapes):
        rates, ratio = measure(cell, given.rounds, given.evaluation)
        ratios.append(ratio)
        numbers = " | ".join(f"{rates[name]:,.0f}" for name in WAYS)
        print(f"| {words(cell)} | {step_flops(cell) / 1e6:.0f} | {numbers} | {ratio:.2f} |", flush=True)
    mean = np.exp(np.mean(np.log(ratios)))
    print(f"\nratios: {min(ratios):.2f} to {max(ratios):.2f}, geometric mean {mean:.2f}")


if __name__ == "__main__":
    sys.exit(main())
