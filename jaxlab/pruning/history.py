"""What rules see, and what they say."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

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


class Stop(NamedTuple):
    """Why a trial goes no further.

    Attributes:
        outcome: "diverged", "stopped early" (by its own curves) or "pruned" (by comparison).
        rule: name of the rule.
        reason: in words, with the numbers.
    """

    outcome: str
    rule: str
    reason: str


def whole(field: str, value: object, least: int) -> None:
    """Raise unless a whole number, at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(field, value, f"give a whole number >= {least}")


def real(field: str, value: object, least: float) -> None:
    """Raise unless a finite number, at least ``least``."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or value < least:
        raise InputError(field, value, f"give a number >= {least:g}")


def flag(field: str, value: object) -> None:
    """Raise unless true or false."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(field, value, "give true or false")


def metric_name(field: str, value: object) -> None:
    """Raise unless None or a name."""
    if value is not None and not isinstance(value, str):
        raise InputError(field, value, "give the name of what is recorded per epoch, e.g. validation_loss")
