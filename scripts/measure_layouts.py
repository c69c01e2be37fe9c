"""How much faster is training if the examples of a batch are the last axis of every array?

    python scripts/measure_layouts.py
    python scripts/measure_layouts.py --shapes 5 --seed 7 --rounds 3

Draws networks of random sizes by a seed (one or two spatial axes, odd sizes, 5 to 40 channels) and trains 16 trials of
each in four ways, which take turns:

- with examples last, the default of a study on a CPU;
- with channels last (the field ``convolution`` set to ``product``);
- with examples last and all numbers of channels rounded up to multiples of 8, which is more work;
- in a loop of a jitted step that measures nothing, one trial after the other.

Prints a Markdown table of trial-steps per second and of speedups over the other ways: medians over rounds, and of
ratios within a round. 20 shapes take five minutes on two CPU cores.
"""

import argparse
import sys

import numpy as np

from benchmark.cells import awkward, step_flops
from benchmark.contenders import CONTENDERS, Running, trial_of, without_evaluation
from benchmark.machine import one_device_per_core
from benchmark.problem import disagreement, make_problem
from benchmark.timing import interleaved, plan, seconds_of, spread
from jaxlab.engine import compile_programs, make_pack
from jaxlab.engine.group import take_rows
from jaxlab.trial import shared_arrays

TRIALS, WIDTH, STEPS, SECONDS = 16, 2, 8, 0.3
OURS = "examples last"
OTHERS = ("channels last", "rounded up", "loop")


def studied(problem, convolution, evaluation):
    """``calls -> losses``: trains all trials for whole epochs, as a study does."""
    trial = trial_of(problem, convolution=convolution)
    if not evaluation:
        trial = without_evaluation(trial)
    shared = shared_arrays(problem.data)
    programs = compile_programs(trial, take_rows(problem.hyperparameters, 0), shared, make_pack(WIDTH))
    return Running(programs, problem.hyperparameters, shared).train


def runs_of(cell, evaluation):
    """The four ways by name: ``calls -> losses``, and the number of trials that one call trains."""
    problem = make_problem(cell, TRIALS, STEPS)
    rounded = cell._replace(features=tuple(-(-each // 8) * 8 for each in cell.features))
    few = CONTENDERS["loop"].prepare(problem.first(4), STEPS)
    return {
        OURS: (studied(problem, "auto", evaluation), TRIALS),
        "channels last": (studied(problem, "product", evaluation), TRIALS),
        "rounded up": (studied(make_problem(rounded, TRIALS, STEPS), "auto", evaluation), TRIALS),
        "loop": (few.run, few.trials),
    }


def measure(cell, rounds, evaluation):
    """Median rates by name, and the median speedups of examples last over the other ways."""
    runs = runs_of(cell, evaluation)
    losses = {name: run(1) for name, (run, _) in runs.items()}
    for name in ("channels last", "loop"):
        wrong = disagreement(losses[name], losses[OURS])
        assert not wrong, f"{name}: {wrong}"
    entries = {name: plan(run, seconds_of(run, 1), rounds, SECONDS) for name, (run, _) in runs.items()}
    seconds = interleaved(entries)
    rates = {
        name: np.array([runs[name][1] * STEPS * entries[name].calls / each for each in values])
        for name, values in seconds.items()
    }
    ratios = {name: float(np.median(rates[OURS] / rates[name])) for name in OTHERS}
    return {name: spread(values).median for name, values in rates.items()}, ratios


def words(cell):
    """The sizes of a network, as cells of the table."""
    size = "×".join(map(str, cell.input_shape))
    features, kernels = ("-".join(map(str, each)) for each in (cell.features, cell.kernel_sizes))
    return f"{size} | {cell.batch_size} | {features} | {kernels} | {cell.stride} | {cell.pool}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", type=int, default=20, help="number of networks (default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="seed of their sizes (default: 1)")
    parser.add_argument("--rounds", type=int, default=5, help="number of timed rounds (default: 5)")
    parser.add_argument("--evaluation", action="store_true", help="include evaluation and diagnostics")
    given = parser.parse_args()
    one_device_per_core()
    columns = ("input", "batch", "channels", "kernels", "stride", "pool", "MFLOP", OURS)
    columns += tuple(f"speedup over {name}" for name in OTHERS)
    print("| " + " | ".join(columns) + " |")
    print("| --- |" + " --: |" * (len(columns) - 1))
    found = []
    for cell in awkward(given.seed, given.shapes):
        rates, ratios = measure(cell, given.rounds, given.evaluation)
        found.append(ratios)
        numbers = " | ".join(f"{ratios[name]:.2f}" for name in OTHERS)
        print(
            f"| {words(cell)} | {step_flops(cell) / 1e6:.0f} | {rates[OURS]:,.0f} | {numbers} |", flush=True
        )
    print()
    for name in OTHERS:
        values = [ratios[name] for ratios in found]
        mean = np.exp(np.mean(np.log(values)))
        print(f"speedup over {name}: {min(values):.2f} to {max(values):.2f}, geometric mean {mean:.2f}")


if __name__ == "__main__":
    sys.exit(main())
