"""The same trials for every contender: data, order, initial weights, learning rates."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxlab.benchmark.cells import CLASSES, MOST_STEPS, Cell, model_options
from jaxlab.benchmark.flops import step_flops
from jaxlab.datasets import Dataset, from_arrays
from jaxlab.models import CNN
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.trial.order import epoch_key, minibatches

DATA_SEED = 0
#: Steps whose losses are compared before anything is timed.
CHECKED_STEPS = 4

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


def make_problem(cell: Cell, trials: int, steps: int | None = None) -> Problem:
    """The first N trials of a cell, the same whatever N.

    Args:
        cell: what is trained.
        trials: N.
        steps: S of an epoch; by default as many as take about a second, at least 2 and at most `MOST_STEPS`.
    """
    steps = steps or epoch_steps(cell, trials)
    epochs = -(-CHECKED_STEPS // steps)
    data = synthetic(cell, steps * cell.batch_size)
    order = [
        minibatches(epoch_key(DATA_SEED, jnp.int32(epoch)), steps * cell.batch_size, cell.batch_size)
        for epoch in range(1, epochs + 1)
    ]
    golden = (np.arange(trials) * 0.6180339887498949) % 1
    seeds = np.arange(trials, dtype=np.int32)
    return Problem(
        cell,
        data,
        (10 ** (-4 + 2 * golden)).astype(np.float32),
        seeds,
        np.concatenate(order).astype(np.int32),
        steps,
    )


def epoch_steps(cell: Cell, trials: int) -> int:
    """S such that an epoch of N trials is about a second's work, 2 to `MOST_STEPS`.

    Never 1: a scan of one step is no loop to a compiler, and a different program.
    """
    flops = 100e9 if jax.default_backend() == "cpu" else 10e12
    return int(np.clip(flops / (step_flops(cell) * trials), 2, MOST_STEPS))


def synthetic(cell: Cell, examples: int) -> Dataset:
    """Ten noisy patterns as uint8, one label in ten wrong, so that nobody's gradient vanishes."""
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
    return kind(cell.input_shape, CLASSES, **model_options(cell), rngs=rngs)


@functools.cache
def _draw(cell: Cell) -> Callable[[Any], Weights]:
    """``seed -> weights``, compiled once."""

    def draw(seed: jax.Array) -> Weights:
        model = build(Configuration(cell=cell), Hyperparameters(), nnx.Rngs(jax.random.key(seed)))
        layers = [*(block.layer for block in model.conv), model.head.output]
        return [(layer.kernel[...], layer.bias[...]) for layer in layers]

    return jax.jit(draw)


@functools.lru_cache(maxsize=1)  # the contenders of one problem share it; the next problem's takes its place
def on_device(data: Dataset) -> tuple[jax.Array, jax.Array]:
    """Training inputs, as uint8, and labels, where the JAX contenders of one device take them from."""
    return jax.device_put(data.train.inputs), jax.device_put(data.train.targets)
