"""What every contender is given, and what it gives: the same trials, prepared; the losses that must agree."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmark.cells import CLASSES, MOST_STEPS, Cell, step_flops
from jaxlab.datasets import Dataset, from_arrays
from jaxlab.models import CNN
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.trial.order import epoch_key, minibatches

#: The contender that the others are compared with, and whose losses are the reference.
OURS = "jaxlab"
#: One process per trial, which takes no turns with the other contenders.
PROCESSES = "processes"
DATA_SEED = 0
#: Steps whose losses are compared before anything is timed.
CHECKED_STEPS = 4
#: Of the loss at every one of these steps. Rounding alone makes about 1e-6 in them, ε outside the root 1e-2.
TOLERANCE = 2e-4
#: Where the device rounds the factors of its products to 10 bits or fewer, correct programs drift apart by far more.
LOOSE = 0.1

Weights = list[tuple[Any, Any]]


class Problem(NamedTuple):
    """N trials of one cell.

    Attributes:
        cell: what is trained.
        data: S·B training examples, so that an epoch has S steps.
        learning_rates: float32 [N], in 1e-4 to 1e-2.
        seeds: int32 [N], of the initial weights.
        order: int32 [steps, B], the examples of each step from the first on, at least `CHECKED_STEPS` of them.
        steps: S.
    """

    cell: Cell
    data: Dataset
    learning_rates: np.ndarray
    seeds: np.ndarray
    order: np.ndarray
    steps: int

    @property
    def trials(self) -> int:
        """N."""
        return len(self.seeds)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Of all trials, NumPy [N]."""
        return Hyperparameters(learning_rate=self.learning_rates, seed=self.seeds)

    @property
    def weights(self) -> Weights:
        """Initial (kernel, bias) of each layer in turn, NumPy [N, ...]: what jaxlab's model draws for each seed.

        Kernels are [*window, C, F], dense ones [inputs, outputs] with the inputs in the order (*spatial, C).
        """
        draw = _draw(self.cell)
        drawn = [draw(seed) for seed in self.seeds]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)

    def first(self, trials: int) -> "Problem":
        """The first trials alone."""
        return self.part(0, trials)

    def part(self, first: int, trials: int) -> "Problem":
        """``trials`` of them from number ``first`` on."""
        stop = first + trials
        return self._replace(learning_rates=self.learning_rates[first:stop], seeds=self.seeds[first:stop])


class Prepared(NamedTuple):
    """Some trials, compiled and with their initial weights on the device.

    Attributes:
        run: ``calls -> losses [trials, calls · steps]``: trains every trial that many steps further and returns when
            all is computed and the losses are on the host. The first call takes the problem's first steps.
        trials: how many it trains.
        steps: of each trial, in one call.
        compile_seconds: to trace and compile; None where nothing is compiled ahead.
        memory_bytes: what its programs hold at most; None where it cannot be known.
        about: what a reader of the table should know, e.g. the width.
    """

    run: Callable[[int], np.ndarray]
    trials: int
    steps: int
    compile_seconds: float | None = None
    memory_bytes: int | None = None
    about: str = ""


class Contender(NamedTuple):
    """One way to train N trials.

    Attributes:
        words: what it is, for the table.
        prepare: ``(problem, steps) -> Prepared``.
        enough: trials after which its rate no longer depends on N, because it takes one after the other.
        cpu_flops: a first guess of the FLOP/s that it reaches on a CPU, where calls of many steps would take minutes.
        seconds: a first guess of what compiling and checking it takes.
        missing: why it cannot run here; nothing where it can.
    """

    words: str
    prepare: Callable[[Problem, int], Prepared]
    enough: int | None = None
    cpu_flops: float = math.inf
    seconds: float = 2.0
    missing: Callable[[], str] = str


def in_calls(
    call: Callable[[int], Any], fetch: Callable[[list[Any]], np.ndarray]
) -> Callable[[int], np.ndarray]:
    """A contender's ``run``: ``call(number)`` for one call after the other, whose losses are fetched at the end."""
    numbers = itertools.count()
    return lambda calls: fetch([call(next(numbers)) for _ in range(calls)])


def make_problem(cell: Cell, trials: int, steps: int | None = None) -> Problem:
    """The first N trials of a cell, the same whatever N.

    Args:
        cell: what is trained.
        trials: N.
        steps: S of an epoch; by default as many as take about a second, at least 2 and at most `MOST_STEPS`.
    """
    steps = steps or epoch_steps(cell, trials)
    examples, size = steps * cell.batch_size, cell.batch_size
    epochs = range(1, 1 - (-CHECKED_STEPS // steps))
    order = [minibatches(epoch_key(DATA_SEED, jnp.int32(epoch)), examples, size) for epoch in epochs]
    golden = (np.arange(trials) * 0.6180339887498949) % 1
    rates, seeds = (10 ** (-4 + 2 * golden)).astype(np.float32), np.arange(trials, dtype=np.int32)
    return Problem(
        cell, synthetic(cell, examples), rates, seeds, np.concatenate(order).astype(np.int32), steps
    )


def epoch_steps(cell: Cell, trials: int) -> int:
    """S such that an epoch of N trials is about a second's work, 2 to `MOST_STEPS`.

    Never 1: a scan of one step is no loop to a compiler, and a different program.
    """
    flops = 100e9 if jax.default_backend() == "cpu" else 10e12
    return int(np.clip(flops / (step_flops(cell) * trials), 2, MOST_STEPS))


def synthetic(cell: Cell, examples: int) -> Dataset:
    """Ten noisy patterns as uint8, one label in ten wrong, so that no trial's gradient vanishes."""
    draw = np.random.default_rng(DATA_SEED)
    patterns = draw.normal(size=(CLASSES, *cell.input_shape))

    def split(size: int) -> tuple[np.ndarray, np.ndarray]:
        labels = draw.integers(CLASSES, size=size)
        values = 128 + 40 * patterns[labels] + 40 * draw.normal(size=(size, *cell.input_shape))
        wrong = draw.random(size) < 0.1
        labels = np.where(wrong, draw.integers(CLASSES, size=size), labels)
        return values.clip(0, 255).astype(np.uint8), labels

    held_out = max(examples // 4, 2)
    splits = {"validation": split(held_out), "test": split(held_out)}
    return from_arrays(split(examples), **splits, classes=CLASSES, name="synthetic")


def build(
    configuration: Configuration, hyperparameters: Hyperparameters, rngs: nnx.Rngs, kind: type[CNN] = CNN
) -> CNN:
    """The cell's network as jaxlab builds it."""
    cell = configuration.cell
    return kind(cell.input_shape, CLASSES, **cell.model_options, rngs=rngs)


@functools.cache
def _draw(cell: Cell) -> Callable[[Any], Weights]:
    """``seed -> weights``, compiled once."""

    def draw(seed: jax.Array) -> Weights:
        model = build(Configuration(cell=cell), Hyperparameters(), nnx.Rngs(jax.random.key(seed)))
        layers = [*(block.layer for block in model.conv), model.head.output]
        return [(layer.kernel[...], layer.bias[...]) for layer in layers]

    return jax.jit(draw)


def disagreement(losses: np.ndarray, reference: np.ndarray) -> str:
    """Where the losses [trials, steps] leave the reference's first trials and steps; nothing if they agree."""
    steps = min(CHECKED_STEPS, losses.shape[1], reference.shape[1])
    if steps < CHECKED_STEPS or len(losses) > len(reference):
        return f"only {losses.shape} losses to compare with {reference.shape}"
    found, expected = losses[:, :steps], reference[: len(losses), :steps]
    wrong = np.argwhere(~np.isclose(found, expected, rtol=_tolerance(), atol=0))
    if not len(wrong):
        return ""
    at = tuple(wrong[0])
    where = f"in trial {at[0]}, step {at[1] + 1}"
    return f"other losses: {found[at]:.6g} instead of {expected[at]:.6g} {where}"


def _tolerance() -> float:
    """`TOLERANCE` where float32 arrays are multiplied in float32, `LOOSE` at an accelerator's own precision."""
    float32 = jax.config.jax_default_matmul_precision in ("float32", "highest")
    return TOLERANCE if jax.default_backend() == "cpu" or float32 else LOOSE
