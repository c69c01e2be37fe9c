"""Rules that look at one trial's own curves."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar

import jax
import numpy as np

from jaxlab.checks import flag, number, whole
from jaxlab.diagnostics import generalization_loss, or_worst, productivity_quotient, up
from jaxlab.pruning.history import History, Outcome, metric_name


class _Alone:
    """What these rules have in common: no comparison, nothing that depends on the planned number of epochs."""

    outcome: ClassVar[str] = Outcome.STOPPED_EARLY
    compares: ClassVar[bool] = False
    depends_on_epochs: ClassVar[bool] = False
    draws: ClassVar[bool] = False


@dataclass(frozen=True)
class Divergence(_Alone):
    """Stop trials with a bad step: loss, gradient, parameters, optimizer or model state not finite.

    The training and the validation loss after an epoch count as losses of its last step.
    That alone is divergence: a loss that rises and comes back (the catapult of Lewkowycz et al. 2020) is none. Frozen
    at its last finite step, such a trial could only cost time. Applied first unless ``stop`` is False.
    """

    stop: bool = True
    name: ClassVar[str] = "divergence"
    outcome: ClassVar[str] = Outcome.DIVERGED

    def __post_init__(self) -> None:
        flag("pruning.divergence.stop", self.stop)

    def __call__(self, history: History) -> dict[int, str]:
        if not self.stop:
            return {}
        bad = history.curves["first_bad_step"][:, history.epoch]
        return {row: f"not finite after step {bad[row]}" for row in _rows((bad >= 0) & history.running)}


@dataclass(frozen=True)
class Patience(_Alone):
    """Stop a trial whose metric has not improved for ``epochs`` epochs in a row, as Keras' EarlyStopping does.

    An epoch improves if its value is better than the best so far by more than ``min_delta``; only then does it become
    the best so far, so that many small gains add up to one. NaN never improves. Unlike in Keras, which sees no values
    from before training, epoch 0 is the first best, and epochs of the warm-up count, see ``start_from_epoch`` there.

    Args:
        epochs: without improvement after which a trial stops.
        min_delta: what counts as improvement, in the metric's units.
        metric: what is recorded per epoch; by default the first validation metric.
        warmup_epochs: before which no trial stops.
    """

    epochs: int = 10
    min_delta: float = 0.0
    metric: str | None = None
    warmup_epochs: int = 0
    name: ClassVar[str] = "patience"

    def __post_init__(self) -> None:
        whole("pruning.patience.epochs", self.epochs, 1)
        number("pruning.patience.min_delta", self.min_delta, 0)
        metric_name("pruning.patience.metric", self.metric)
        whole("pruning.patience.warmup_epochs", self.warmup_epochs, 0)

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
class GeneralizationLoss(_Alone):
    """Prechelt's GL_α: stop when the validation loss is more than ``alpha`` percent above its minimum so far.

    GL(t) = 100·(E_va(t) / min E_va − 1), see `jaxlab.diagnostics.generalization_loss`. A loss that is not finite
    counts as infinite. Source: Prechelt 1998.
    """

    alpha: float = 5.0
    warmup_epochs: int = 0
    name: ClassVar[str] = "generalization_loss"
    curves: ClassVar[tuple[str, ...]] = ("validation_loss",)

    def __post_init__(self) -> None:
        number("pruning.generalization_loss.alpha", self.alpha, 0)
        whole("pruning.generalization_loss.warmup_epochs", self.warmup_epochs, 0)

    def __call__(self, history: History) -> dict[int, str]:
        if history.epoch < self.warmup_epochs:
            return {}
        lost = _each("generalization_loss")(_loss(history, "validation", self))[:, history.epoch]
        words = "validation loss is {:.3g} % above its minimum (GL > {:g})"
        return {
            row: words.format(lost[row], self.alpha) for row in _rows((lost > self.alpha) & history.running)
        }


@dataclass(frozen=True)
class ProductivityQuotient(_Alone):
    """Prechelt's PQ_α: stop when the generalisation loss is large against the training progress over ``k`` epochs.

    PQ(t) = GL(t) / P_k(t), see `jaxlab.diagnostics.productivity_quotient`; looked at where a strip of ``k`` epochs
    ends. Source: Prechelt 1998.
    """

    alpha: float = 0.5
    k: int = 5
    warmup_epochs: int = 0
    name: ClassVar[str] = "productivity_quotient"
    curves: ClassVar[tuple[str, ...]] = ("validation_loss", "train_loss")

    def __post_init__(self) -> None:
        number("pruning.productivity_quotient.alpha", self.alpha, 0)
        whole("pruning.productivity_quotient.k", self.k, 1)
        whole("pruning.productivity_quotient.warmup_epochs", self.warmup_epochs, 0)

    def __call__(self, history: History) -> dict[int, str]:
        if history.epoch < max(self.k, self.warmup_epochs) or history.epoch % self.k:
            return {}
        both = _loss(history, "validation", self), _loss(history, "train", self)
        quotient = _each("productivity_quotient", k=int(self.k))(*both)[:, history.epoch]
        quotient = np.where(np.isnan(quotient), np.inf, quotient)  # both infinite
        words = "generalisation loss over training progress is {:.3g} (PQ > {:g})"
        rows = _rows((quotient > self.alpha) & history.running)
        return {row: words.format(quotient[row], self.alpha) for row in rows}


@dataclass(frozen=True)
class Up(_Alone):
    """Prechelt's UP_s: stop when the validation loss rose over ``s`` successive strips of ``k`` epochs.

    See `jaxlab.diagnostics.up`. Source: Prechelt 1998.
    """

    s: int = 3
    k: int = 5
    warmup_epochs: int = 0
    name: ClassVar[str] = "up"
    curves: ClassVar[tuple[str, ...]] = ("validation_loss",)

    def __post_init__(self) -> None:
        whole("pruning.up.s", self.s, 1)
        whole("pruning.up.k", self.k, 1)
        whole("pruning.up.warmup_epochs", self.warmup_epochs, 0)

    def __call__(self, history: History) -> dict[int, str]:
        if history.epoch < self.warmup_epochs:
            return {}
        rose = _each("up", s=int(self.s), k=int(self.k))(_loss(history, "validation", self))[:, history.epoch]
        reason = f"validation loss rose over {self.s} successive strips of {self.k} epochs"
        return dict.fromkeys(_rows(rose & history.running), reason)


def _rows(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask).tolist()


def _loss(history: History, split: str, rule: _Alone) -> np.ndarray:
    """The losses of running trials up to now, what is not finite as infinite, and NaN beyond."""
    values = history.curve(f"{split}_loss", f"pruning.{rule.name}")
    reached = np.arange(values.shape[1]) <= history.epoch
    return np.where(reached, or_worst(values, "lower"), values)


_MEASURES = {
    "generalization_loss": generalization_loss,
    "productivity_quotient": productivity_quotient,
    "up": up,
}


@cache
def _each(measure: str, **options: int) -> Callable[..., np.ndarray]:
    """A measure of one trial's curves for all trials: curves keep their length, so this compiles once for a cohort."""
    compiled = jax.jit(jax.vmap(partial(_MEASURES[measure], **options)))

    def of_all(*curves: np.ndarray) -> np.ndarray:
        with jax.default_device(_host()):
            return np.asarray(compiled(*curves))

    return of_all


def _host() -> jax.Device | None:
    """The CPU, which has the curves and decides alike beside any accelerator; None where JAX is told to do without."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
