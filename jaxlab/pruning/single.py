"""Stopping rules that read the curves of a single trial."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar

import jax
import numpy as np

from jaxlab.diagnostics import generalization_loss, or_worst, productivity_quotient, up
from jaxlab.pruning.history import BuiltIn, History, Outcome


@dataclass(frozen=True)
class Divergence(BuiltIn):
    """Stop trials with a bad step: loss, gradient, parameters, optimizer or model state not finite.

    The training and validation losses after an epoch count as losses of its last step. A loss that rises and falls
    again (the catapult of Lewkowycz et al. 2020) is not divergence. A diverged trial is frozen at its last finite state
    and could only cost time. The rule is applied first; ``stop=False`` disables it.
    """

    stop: bool = True
    name: ClassVar[str] = "divergence"
    outcome: ClassVar[str] = Outcome.DIVERGED

    def __call__(self, history: History) -> dict[int, str]:
        if not self.stop:
            return {}
        bad = history.curves["first_bad_step"][:, history.epoch]
        return {row: f"not finite after step {bad[row]}" for row in _rows((bad >= 0) & history.running)}


@dataclass(frozen=True)
class Patience(BuiltIn):
    """Stop a trial whose metric has not improved for ``epochs`` epochs in a row, as Keras' EarlyStopping does.

    An epoch is an improvement if its value is better than the best so far by more than ``min_delta``. Only then does it
    become the best so far, so that many small gains add up. NaN never improves. Two things differ from Keras: epoch 0,
    before training, is the first best, and warm-up epochs count (``start_from_epoch`` there).

    Args:
        epochs: number of epochs without improvement after which a trial stops.
        min_delta: smallest change that counts as an improvement, in the metric's units.
        metric: name of a curve; by default the first validation metric.
        warmup_epochs: no trial stops before this epoch.
    """

    epochs: int = 10
    min_delta: float = 0.0
    metric: str | None = None
    warmup_epochs: int = 0
    name: ClassVar[str] = "patience"
    least: ClassVar[Mapping[str, int]] = {"epochs": 1}

    def __call__(self, history: History) -> dict[int, str]:
        name, losses = history.losses(self.metric, "pruning.patience.metric")
        if history.epoch < max(self.warmup_epochs, self.epochs):
            return {}
        best, since = losses[:, 0].copy(), np.zeros(len(losses), int)
        for values in losses[:, 1:].T:
            better = values < best - self.min_delta
            best = np.where(better, values, best)
            since = np.where(better, 0, since + 1)
        reason = f"{name} has not improved for"
        return {
            row: f"{reason} {since[row]} epochs" for row in _rows((since >= self.epochs) & history.running)
        }


@dataclass(frozen=True)
class GeneralizationLoss(BuiltIn):
    """Stop when the validation loss is more than ``alpha`` percent above its minimum so far: Prechelt's GL_α.

    GL(t) = 100·(E_va(t) / min E_va − 1), see `jaxlab.diagnostics.generalization_loss`. A loss that is not finite
    counts as infinite. Source: Prechelt 1998.
    """

    alpha: float = 5.0
    warmup_epochs: int = 0
    name: ClassVar[str] = "generalization_loss"
    curves: ClassVar[tuple[str, ...]] = ("validation_loss",)

    def __call__(self, history: History) -> dict[int, str]:
        if history.epoch < self.warmup_epochs:
            return {}
        lost = _over_trials(generalization_loss)(_loss(history, "validation", self))[:, history.epoch]
        words = "validation loss is {:.3g} % above its minimum (GL > {:g})"
        return {
            row: words.format(lost[row], self.alpha) for row in _rows((lost > self.alpha) & history.running)
        }


@dataclass(frozen=True)
class ProductivityQuotient(BuiltIn):
    """Stop when generalisation loss over training progress in ``k`` epochs exceeds ``alpha``: Prechelt's PQ_α.

    PQ(t) = GL(t) / P_k(t), see `jaxlab.diagnostics.productivity_quotient`; evaluated at the end of each strip of
    ``k`` epochs. Source: Prechelt 1998.
    """

    alpha: float = 0.5
    k: int = 5
    warmup_epochs: int = 0
    name: ClassVar[str] = "productivity_quotient"
    least: ClassVar[Mapping[str, int]] = {"k": 1}
    curves: ClassVar[tuple[str, ...]] = ("validation_loss", "train_loss")

    def __call__(self, history: History) -> dict[int, str]:
        if history.epoch < max(self.k, self.warmup_epochs) or history.epoch % self.k:
            return {}
        both = _loss(history, "validation", self), _loss(history, "train", self)
        quotient = _over_trials(productivity_quotient, k=int(self.k))(*both)[:, history.epoch]
        quotient = np.where(np.isnan(quotient), np.inf, quotient)  # both infinite
        words = "generalisation loss over training progress is {:.3g} (PQ > {:g})"
        rows = _rows((quotient > self.alpha) & history.running)
        return {row: words.format(quotient[row], self.alpha) for row in rows}


@dataclass(frozen=True)
class Up(BuiltIn):
    """Stop when the validation loss rose in ``s`` successive strips of ``k`` epochs: Prechelt's UP_s.

    See `jaxlab.diagnostics.up`. Source: Prechelt 1998.
    """

    s: int = 3
    k: int = 5
    warmup_epochs: int = 0
    name: ClassVar[str] = "up"
    least: ClassVar[Mapping[str, int]] = {"s": 1, "k": 1}
    curves: ClassVar[tuple[str, ...]] = ("validation_loss",)

    def __call__(self, history: History) -> dict[int, str]:
        if history.epoch < self.warmup_epochs:
            return {}
        rose = _over_trials(up, s=int(self.s), k=int(self.k))(_loss(history, "validation", self))[
            :, history.epoch
        ]
        reason = f"validation loss rose over {self.s} successive strips of {self.k} epochs"
        return dict.fromkeys(_rows(rose & history.running), reason)


def _rows(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask).tolist()


def _loss(history: History, split: str, rule: BuiltIn) -> np.ndarray:
    """The losses so far, infinite where they are not finite; NaN at later epochs."""
    values = history.curve(f"{split}_loss", f"pruning.{rule.name}")
    reached = np.arange(values.shape[1]) <= history.epoch
    return np.where(reached, or_worst(values, "lower"), values)


@cache
def _over_trials(measure: Callable[..., jax.Array], **options: int) -> Callable[..., np.ndarray]:
    """A measure mapped over trials. Curves keep their length, so it compiles once for each cohort."""
    compiled = jax.jit(jax.vmap(partial(measure, **options)))

    def of_all(*curves: np.ndarray) -> np.ndarray:
        with jax.default_device(_cpu()):
            return np.asarray(compiled(*curves))

    return of_all


def _cpu() -> jax.Device | None:
    """The CPU, so that decisions do not depend on the accelerator; None where JAX is configured without it."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
