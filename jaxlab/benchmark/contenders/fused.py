"""jaxlab's own training path, evaluation left out; its guard and gradient norms are paid for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxlab.benchmark.contenders.protocol import Prepared
from jaxlab.benchmark.problem import DATA_SEED, Problem, build
from jaxlab.engine import Programs, clear_programs, compile_group, packs_of, placed
from jaxlab.engine.group import rows
from jaxlab.losses import METRICS, cross_entropy
from jaxlab.models import CNN
from jaxlab.transforms import rmsprop
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.trial import Supervised, Trial, shared_arrays, supervised

#: Epochs of a study for which choosing the width pays.
LONG = 100_000


def trial_of(
    problem: Problem, kind: type[CNN] = CNN, at_once: int | None = None, convolution: str = "auto"
) -> Trial:
    """What a study trains, with the loss of every step on record.

    Args:
        problem: the trials.
        kind: of network.
        at_once: examples that go through the network at once; by default as a study chooses.
        convolution: how convolutions are computed, as in a study.
    """
    task = Supervised(
        model=lambda configuration, hyperparameters, rngs: build(configuration, hyperparameters, rngs, kind),
        optimizer=lambda configuration, hyperparameters: rmsprop(hyperparameters.learning_rate),
        loss=cross_entropy,
        metrics={"accuracy": METRICS["accuracy"]},
        batch_size=problem.cell.batch_size,
        microbatch=at_once,
        separable=True,
        convolution=convolution,
        evaluation_batch_size=at_once,
        data_seed=DATA_SEED,
        step_losses=True,
    )
    example = jax.tree.map(lambda values: values[0], problem.hyperparameters)
    return supervised(task, Configuration(cell=problem.cell), example, problem.data)


def without_evaluation(trial: Trial) -> Trial:
    """Training alone; automatic width times whole segments of it."""
    return trial._replace(evaluate=lambda hyperparameters, state, shared, final: (state, {}), sample=None)


class Running:
    """Packs of trials between two segments, as the engine trains them: every pack one epoch, then the next epoch."""

    def __init__(self, programs: Programs, hyperparameters: Hyperparameters, shared: Any):
        pack = programs.pack
        self.programs, self.epoch = programs, 0
        self.trials = len(jax.tree.leaves(hyperparameters)[0])
        self.lanes = packs_of(self.trials, pack.lanes)
        self.shared = placed(shared, pack)
        self.hyper = [jax.device_put(rows(hyperparameters, lanes), pack.over_trials) for lanes in self.lanes]
        starts = [programs.start(values, self.shared) for values in self.hyper]
        self.states = [
            programs.measure(values, state, self.shared)[0]
            for values, state in zip(self.hyper, starts, strict=True)
        ]

    def train(self, epochs: int) -> np.ndarray:
        """Losses [trials, epochs · steps], each fetched after the next call is under way."""
        found: list[list[np.ndarray]] = [[] for _ in self.lanes]
        waiting: tuple[int, jax.Array] | None = None
        for _ in range(epochs):
            self.epoch += 1
            now = np.array([self.epoch], np.int32)
            for index, values in enumerate(self.hyper):
                state, record = self.programs.segment(values, self.states[index], self.shared, now)
                self.states[index] = state
                self._fetch(found, waiting)
                waiting = index, record["step_loss"]
        self._fetch(found, waiting)
        return self._of_trials([np.concatenate(parts, axis=1) for parts in found])

    def _fetch(self, found: list[list[np.ndarray]], waiting: tuple[int, jax.Array] | None) -> None:
        if waiting is not None:
            index, losses = waiting
            found[index].append(np.asarray(losses)[:, 0])

    def _of_trials(self, packs: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(packs)[: self.trials]


def fused(problem: Problem, steps: int, width: int | None = None, epochs: int = LONG) -> Prepared:
    """An epoch of the problem's S steps a call, whatever ``steps`` says; the width as for ``epochs`` epochs."""
    trial = without_evaluation(trial_of(problem))
    shared = shared_arrays(problem.data)
    clear_programs()  # the seconds to compile are those of a process that has compiled nothing like it
    programs = compile_group(trial, problem.hyperparameters, shared, epochs, width).programs
    running = Running(programs, problem.hyperparameters, shared)
    devices = programs.pack.mesh.size
    about = f"{devices} × width {programs.pack.width}"
    size = programs.memory_bytes() * devices
    return Prepared(running.train, problem.trials, problem.steps, programs.compile_seconds, size, about)
