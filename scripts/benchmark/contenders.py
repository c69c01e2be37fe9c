"""The contenders, by name: ways to train many trials. jaxlab's are the packs of a study, trained by the engine."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import jax
import numpy as np

from benchmark import plain_jax, pytorch
from benchmark.problem import DATA_SEED, OURS, Contender, Prepared, Problem, build
from jaxlab.engine import GroupTraining, Programs, Training, clear_programs, compile_group, place_shared
from jaxlab.losses import cross_entropy
from jaxlab.metrics import METRICS
from jaxlab.models import CNN
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.transforms import rmsprop
from jaxlab.trial import Supervised, Trial, shared_arrays, supervised

#: Epochs of a study that is long enough to measure widths.
LONG = 100_000


def trial_of(
    problem: Problem, kind: type[CNN] = CNN, at_once: int | None = None, convolution: str = "auto"
) -> Trial:
    """A trial as a study trains it; it also records the loss of every step.

    Args:
        problem: the trials.
        kind: class of the network.
        at_once: examples per microbatch; by default as a study chooses.
        convolution: lowering of the convolutions, as in a study.
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
    """The trial without its evaluation; automatic width then times whole segments."""
    return trial._replace(evaluate=lambda hyperparameters, state, shared, final: (state, {}), sample=None)


class Running:
    """Trials that the engine trains like those of a study, some epochs at a time.

    Attributes:
        group: the trials and their states.
    """

    def __init__(self, programs: Programs, hyperparameters: Hyperparameters, shared: Any):
        self.group = GroupTraining(programs, hyperparameters, place_shared(shared, programs.pack))
        for _ in self.group.begin():  # the records of epoch 0 are not fetched
            pass

    def train(self, epochs: int) -> np.ndarray:
        """Train every trial for more epochs; returns the losses of the steps, [trials, epochs · steps]."""
        found: dict[int, list[np.ndarray]] = defaultdict(list)
        for _, record in Training([self.group], self.group.epoch + epochs).segments():
            losses = record.values["step_loss"]
            found[int(record.epochs[0])].append(losses.reshape(len(losses), -1))
        return np.concatenate([np.concatenate(packs) for packs in found.values()], axis=1)


def fused(problem: Problem, steps: int, width: int | None = None, epochs: int = LONG) -> Prepared:
    """Prepare jaxlab's packs without evaluation, but with the guard and the gradient norms of a study.

    A call is an epoch of the problem's S steps, whatever ``steps`` is. The width is chosen for ``epochs`` epochs.
    """
    trial = without_evaluation(trial_of(problem))
    shared = shared_arrays(problem.data)
    clear_programs()  # so that compile_seconds is that of a fresh process
    programs = compile_group(trial, problem.hyperparameters, shared, epochs, width).programs
    devices = programs.pack.mesh.size
    return Prepared(
        Running(programs, problem.hyperparameters, shared).train,
        problem.trials,
        problem.steps,
        programs.compile_seconds,
        programs.memory_bytes() * devices,
        f"{devices} × width {programs.pack.width}",
    )


# The guesses are for two CPU cores: FLOP/s from the tables of docs/benchmarks, seconds of compiling and checking.
CONTENDERS: dict[str, Contender] = {
    OURS: Contender(
        "packs of trials on all devices, with the guard and gradient norms of a study", fused, None, 1e11, 8.0
    ),
    "loop": Contender(
        "a Python loop over trials and steps around a jitted step (nnx, optax)", plain_jax.loop, 4, 2e10, 2.5
    ),
    "scan": Contender(
        "a Python loop over trials around a jitted `lax.scan` over steps", plain_jax.scan, 4, 3e9, 2.5
    ),
    "map": Contender("`lax.map` over trials of that scan", plain_jax.map_, 4, 3e9, 2.5),
    "vmap": Contender("`vmap` over trials of that scan, with `nnx.Conv`", plain_jax.vmap, None, 2e9, 3.0),
    "torch-loop": Contender(
        "eager PyTorch, a loop over trials and steps", pytorch.loop, 4, 4e10, 4.0, pytorch.missing
    ),
    "torch-ensemble": Contender(
        "eager PyTorch, `torch.func`: functional_call under vmap(grad)",
        pytorch.ensemble,
        None,
        2e10,
        2.0,
        pytorch.missing,
    ),
}
