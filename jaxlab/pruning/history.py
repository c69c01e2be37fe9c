"""What stopping rules have in common: their input `History`, their output `Stop`, and the base of the built-in ones."""

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from typing import ClassVar, NamedTuple, get_type_hints

import numpy as np

from jaxlab.checks import flag, number, text, whole
from jaxlab.diagnostics import or_worst
from jaxlab.errors import InputError, did_you_mean


class History(NamedTuple):
    """The curves that the T trials of a cohort have recorded so far.

    Attributes:
        epoch: epoch that all running trials have reached; 0 is the state before training.
        epochs: planned number of epochs.
        running: whether each trial is still running, bool ``[T]``.
        curves: arrays ``[T, epochs + 1, ...]`` by name; entry e belongs to epoch e. Epochs that a trial has not
            reached, beyond ``epoch`` or beyond its end, are NaN (−1 for integers).
        better: "higher" or "lower" by name, for the curves where one of them is better.
        metric: name of the curve by which trials are compared unless a rule names another.
    """

    epoch: int
    epochs: int
    running: np.ndarray
    curves: Mapping[str, np.ndarray]
    better: Mapping[str, str]
    metric: str

    def curve(self, name: str, field: str) -> np.ndarray:
        """One curve as floats ``[T, epochs + 1]``, NaN where not reached.

        ``field`` is the field of the study that names the curve, for the error.

        Raises:
            InputError: there is no such curve, or it is not one number per epoch.
        """
        if name not in self.curves:
            known = [each for each in self.curves if self.curves[each].ndim == 2]
            remedy = f"{did_you_mean(name, known)}recorded per epoch are {', '.join(sorted(known))}"
            raise InputError(field, name, remedy)
        found = self.curves[name]
        if found.ndim != 2:
            raise InputError(field, name, "is not one number per epoch: give a curve that is")
        if np.issubdtype(found.dtype, np.floating):
            return found
        return np.where(found == -1, np.nan, found.astype(np.float64))

    def losses(self, metric: str | None, field: str) -> tuple[str, np.ndarray]:
        """The name of a metric, and its values so far, ``[T, epoch + 1]``, negated where higher is better.

        Values that are not finite are +infinity, the worst, whatever their sign was.

        Raises:
            InputError: as for `curve`; or it is not known whether the metric is better high or low.
        """
        name = self.metric if metric is None else metric
        values = self.curve(name, field)[:, : self.epoch + 1]
        if name not in self.better:
            remedy = f"is better neither high nor low; give one of {', '.join(sorted(self.better)) or 'none'}"
            raise InputError(field, name, remedy)
        better = self.better[name]
        known = or_worst(values, better)
        return name, -known if better == "higher" else known

    def last_epochs(self) -> np.ndarray:
        """The last epoch that each trial reached, ``[T]``; for a stopped trial, the last one with a recorded curve."""
        known = np.zeros((len(self.running), self.epoch + 1), bool)
        for name, values in self.curves.items():
            if values.ndim == 2:
                known |= ~np.isnan(self.curve(name, name)[:, : self.epoch + 1])
        last = known.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
        return np.where(self.running | ~known.any(axis=1), self.epoch, last)


class Outcome(StrEnum):
    """How a trial ended: "stopped early" by its own curves, "pruned" by comparison with others, or not at all."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    STOPPED_EARLY = "stopped early"
    PRUNED = "pruned"
    UNFINISHED = "unfinished"


class BuiltIn:
    """The attributes of a built-in rule; a custom rule without them is taken to compare trials and to draw.

    Attributes:
        name: name of the rule, in study files and results.
        outcome: outcome of the trials that it stops.
        compares: whether it compares trials with each other.
        draws: whether it draws from NumPy's random generator.
        depends_on_epochs: whether it depends on the planned number of epochs.
        curves: names of the losses and metrics that it reads, except ``metric``.
        least: smallest values of its whole numbers, by parameter; 0 by default.
    """

    name: ClassVar[str]
    outcome: ClassVar[str] = Outcome.STOPPED_EARLY
    compares: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    depends_on_epochs: ClassVar[bool] = False
    curves: ClassVar[tuple[str, ...]] = ()
    least: ClassVar[Mapping[str, int]] = {}

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for parameter in fields(self):
            field, value = f"pruning.{self.name}.{parameter.name}", getattr(self, parameter.name)
            if types[parameter.name] is bool:
                flag(field, value)
            elif types[parameter.name] is int:
                whole(field, value, self.least.get(parameter.name, 0))
            elif types[parameter.name] is float:
                number(field, value, 0)
            elif value is not None:
                text(field, value, remedy="give the name of a curve, e.g. validation_loss")


class Stop(NamedTuple):
    """Why a trial stops.

    Attributes:
        outcome: an `Outcome`; a custom rule may use another word.
        rule: name of the rule.
        reason: the reason in words, with the numbers.
    """

    outcome: str
    rule: str
    reason: str
