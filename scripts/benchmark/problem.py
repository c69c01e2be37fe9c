"""The trials that every contender trains, the interface of a contender, and the check of its losses."""

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

#: The contender whose losses are the reference and with whose rate the others are compared.
OURS = "jaxlab"
#: One process per trial; not timed in the rounds of the other contenders.
PROCESSES = "processes"
DATA_SEED = 0
#: Steps whose losses are compared before anything is timed.
CHECKED_STEPS = 4
#: Relative tolerance of these losses. Rounding alone changes them by about 1e-6, and ε outside the root by 1e-2.
TOLERANCE = 2e-4
#: Tolerance where the device rounds the factors of its products to 10 bits or fewer, as correct programs then differ.
LOOSE = 0.1

Weights = list[tuple[Any, Any]]


class Problem(NamedTuple):
    """N trials of one cell.

    Attributes:
        cell: what is trained.
        data: S·B training examples, so that an epoch has S steps.
        learning_rates: float32 [N], from 1e-4 to 1e-2.
        seeds: int32 [N], of the initial weights.
        order: int32 [steps, B], the examples of each step, for at least `CHECKED_STEPS` steps.
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
        """Hyperparameters of all trials, NumPy [N]."""
        return Hyperparameters(learning_rate=self.learning_rates, seed=self.seeds)

    @property
    def weights(self) -> Weights:
        """Initial (kernel, bias) of each layer in order, NumPy [N, ...], as jaxlab's model draws them for each seed.

        Kernels are [*window, C, F]; dense kernels are [inputs, outputs], with inputs in the order (*spatial, C).
        """
        draw = _draw(self.cell)
        drawn = [draw(seed) for seed in self.seeds]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)

    def first(self, trials: int) -> "Problem":
        """The problem with its first ``trials`` trials only."""
        return self.part(0, trials)

    def part(self, first: int, trials: int) -> "Problem":
        """The problem with ``trials`` of its trials, starting at number ``first``."""
        stop = first + trials
        return self._replace(learning_rates=self.learning_rates[first:stop], seeds=self.seeds[first:stop])


class Prepared(NamedTuple):
    """A contender that is ready to train: compiled, with the initial weights on the device.

    Attributes:
        run: ``calls -> losses [trials, calls · steps]``: trains every trial for this many more calls. It returns
            once everything is computed and the losses are on the host. The first call takes the problem's first steps.
        trials: number of trials that it trains.
        steps: steps of each trial in one call.
        compile_seconds: time to trace and compile; None if nothing is compiled ahead of time.
        memory_bytes: peak memory of its programs; None if unknown.
        about: a remark for the table, e.g. the width.
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
        words: its description in the report.
        prepare: ``(problem, steps) -> Prepared``.
        enough: number of trials to time if it is sequential, so that its rate does not depend on N; else None.
        cpu_flops: a first guess of its FLOP/s on a CPU, where calls of many steps would take minutes.
        seconds: a first guess of the seconds to compile and check it.
        missing: ``() -> reason`` why it cannot run here; empty if it can.
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
    """Build a contender's ``run`` that makes calls ``call(number)`` in order and fetches their losses at the end."""
    numbers = itertools.count()
    return lambda calls: fetch([call(next(numbers)) for _ in range(calls)])


def make_problem(cell: Cell, trials: int, steps: int | None = None) -> Problem:
    """Make the first N trials of a cell; a trial does not depend on N.

    Args:
        cell: what is trained.
        trials: N.
        steps: S, the steps of an epoch; by default about a second's work, 2 to `MOST_STEPS`.
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
    """Number of steps S such that an epoch of N trials is about a second's work, from 2 to `MOST_STEPS`.

    It is never 1: the compiler turns a scan of one step into a different program, without a loop.
    """
    flops = 100e9 if jax.default_backend() == "cpu" else 10e12
    return int(np.clip(flops / (step_flops(cell) * trials), 2, MOST_STEPS))


def synthetic(cell: Cell, examples: int) -> Dataset:
    """Ten noisy patterns as uint8; one label in ten is random, so that no trial's gradient vanishes."""
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
    """Make the compiled function ``seed -> weights``."""

    def draw(seed: jax.Array) -> Weights:
        model = build(Configuration(cell=cell), Hyperparameters(), nnx.Rngs(jax.random.key(seed)))
        layers = [*(block.layer for block in model.conv), model.head.output]
        return [(layer.kernel[...], layer.bias[...]) for layer in layers]

    return jax.jit(draw)


def disagreement(losses: np.ndarray, reference: np.ndarray) -> str:
    """Where losses [trials, steps] first differ from the reference's first trials and steps; empty if they agree."""
    steps = min(CHECKED_STEPS, losses.shape[1], reference.shape[1])
    if steps < CHECKED_STEPS or len(losses) > len(reference):
        return f"losses of shape {losses.shape} are too few to compare with {reference.shape}"
    found, expected = losses[:, :steps], reference[: len(losses), :steps]
    wrong = np.argwhere(~np.isclose(found, expected, rtol=_tolerance(), atol=0))
    if not len(wrong):
        return ""
    at = tuple(wrong[0])
    where = f"in trial {at[0]}, step {at[1] + 1}"
    return f"wrong loss: {found[at]:.6g} instead of {expected[at]:.6g} {where}"


def _tolerance() -> float:
    """`TOLERANCE` where float32 arrays are multiplied in float32, `LOOSE` at an accelerator's default precision."""
    float32 = jax.config.jax_default_matmul_precision in ("float32", "highest")
    return TOLERANCE if jax.default_backend() == "cpu" or float32 else LOOSE
