"""What rules see, and what they say."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from jaxlab.checks import text
from jaxlab.diagnostics import or_worst
from jaxlab.errors import InputError, did_you_mean


class History(NamedTuple):
    """What the T trials of one cohort have recorded so far.

    Attributes:
        epoch: that all running trials have reached; 0 is the state before training.
        epochs: planned.
        running: bool ``[T]``.
        curves: by name, ``[T, epochs + 1, ...]``, entry e being epoch e. NaN (−1 for integers) where not reached:
            beyond ``epoch``, and beyond the end of a trial that stopped.
        better: "higher" or "lower" for curves where one of them is better.
        metric: the curve that settings are compared by where a rule names no other.
    """

    epoch: int
    epochs: int
    running: np.ndarray
    curves: Mapping[str, np.ndarray]
    better: Mapping[str, str]
    metric: str

    def curve(self, name: str, field: str) -> np.ndarray:
        """One curve ``[T, epochs + 1]`` in floating point, NaN where not reached.

        ``field`` is where its name was given, for the error.

        Raises:
            InputError: there is none of that name, or it is not one number per epoch.
        """
        if name not in self.curves:
            known = [each for each in self.curves if self.curves[each].ndim == 2]
            remedy = f"{did_you_mean(name, known)}recorded per epoch are {', '.join(sorted(known))}"
            raise InputError(field, name, remedy)
        found = self.curves[name]
        if found.ndim != 2:
            raise InputError(field, name, "has an axis of its own: give a curve of one number per epoch")
        if np.issubdtype(found.dtype, np.floating):
            return found
        return np.where(found == -1, np.nan, found.astype(np.float64))

    def losses(self, metric: str | None, field: str) -> tuple[str, np.ndarray]:
        """The name of a metric, and its curves up to now, ``[T, epoch + 1]``, turned so that smaller is better.

        What is not finite is +infinity, be it an infinity of the better sign: nothing is worse.

        Raises:
            InputError: see `curve`; or nobody says whether the metric is better high or low.
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
        """The last epoch that each trial reached, ``[T]``: a trial that stopped has records of some curve up to it."""
        known = np.zeros((len(self.running), self.epoch + 1), bool)
        for name, values in self.curves.items():
            if values.ndim == 2:
                known |= ~np.isnan(self.curve(name, name)[:, : self.epoch + 1])
        last = known.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
        return np.where(self.running | ~known.any(axis=1), self.epoch, last)


class Outcome(StrEnum):
    """How a trial ended: by its own curves it stops early, by comparison it is pruned; or it has not ended."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    STOPPED_EARLY = "stopped early"
    PRUNED = "pruned"
    UNFINISHED = "unfinished"


class Stop(NamedTuple):
    """Why a trial goes no further.

    Attributes:
        outcome: an `Outcome`; a user-defined rule may have another word for it.
        rule: name of the rule.
        reason: in words, with the numbers.
    """

    outcome: str
    rule: str
    reason: str


def metric_name(field: str, value: object) -> None:
    """Raise unless None or a name."""
    if value is not None:
        text(field, value, remedy="give the name of what is recorded per epoch, e.g. validation_loss")
