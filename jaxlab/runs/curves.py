"""What the rules see: the curves of the trials of one stage, brought up to date record by record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxlab.engine import EpochRecord
from jaxlab.pruning import History, Rule, check_curves
from jaxlab.store import check_epochs, not_reached
from jaxlab.trial import Trial, Variable, comparison_metric


class Curves:
    """Curves ``[trials, epochs + 1, ...]`` by name.

    Args:
        numbers: of the stage's trials, ascending.
        epochs: planned.
        variables: labels of what is recorded.
        dims: names of the labelled axes; what has another one (the steps of an epoch) is no curve.
    """

    def __init__(self, numbers: np.ndarray, epochs: int, variables: Mapping[str, Variable], dims: set[str]):
        self.numbers, self.epochs = numbers, epochs
        self.left_out = {name for name, label in variables.items() if not set(label.dims) <= dims}
        better = {name: label.better for name, label in variables.items() if label.better}
        self.metric = comparison_metric(better)
        if self.metric not in variables:  # of a triple without a validation set
            self.metric = min(better, default="")
        self.better = {name: "lower" for name in variables if name.endswith("_loss")} | better
        self.arrays: dict[str, np.ndarray] = {}
        self.latest = 0

    def add(self, record: EpochRecord) -> None:
        """Add what trials recorded, by number; those of other stages are left out."""
        rows = np.searchsorted(self.numbers, record.trials).clip(max=len(self.numbers) - 1)
        ours = self.numbers[rows] == record.trials
        if not ours.any():
            return
        if not ours.all():
            record, rows = record.rows(ours), rows[ours]
        self.latest = max(self.latest, int(record.epochs[-1]))
        for name, values in record.values.items():
            self.expect(name, values.shape[2:], values.dtype)
            if name in self.arrays:
                self.arrays[name][np.ix_(rows, record.epochs)] = values

    def expect_all(self, records: Sequence[Mapping[str, jax.ShapeDtypeStruct]]) -> None:
        """What each group records, ``[lanes, epochs, ...]`` by name, if there is memory for the results of all."""
        sizes: dict[str, int] = {}
        for name, values in (item for record in records for item in record.items()):
            each = math.prod(values.shape[2:]) * values.dtype.itemsize
            sizes[name] = max(sizes.get(name, 0), each)
        trials = len(self.numbers)
        check_epochs(trials, self.epochs, trials * (self.epochs + 1) * sum(sizes.values()))
        for name, values in (item for record in records for item in record.items()):
            self.expect(name, values.shape[2:], values.dtype)

    def expect(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """A curve that is or will be recorded, its own axes having this shape; one of another shape is no curve."""
        if name in self.left_out:
            return
        if name not in self.arrays:
            whole = (len(self.numbers), self.epochs + 1, *shape)
            self.arrays[name] = np.full(whole, not_reached(dtype), dtype)
        elif self.arrays[name].shape[2:] != shape:  # groups with other layers
            self.left_out.add(name)
            del self.arrays[name]

    def history(self, epoch: int, running: np.ndarray) -> History:
        """All up to an epoch; ``running`` says which of the trials have not stopped."""
        arrays = self.arrays
        if self.latest > epoch:  # of a resumed run: some trials were further than others
            arrays = {name: values.copy() for name, values in arrays.items()}
            for values in arrays.values():
                values[:, epoch + 1 :] = not_reached(values.dtype)
        return History(epoch, self.epochs, running, arrays, self.better, self.metric)


def check_names(rules: Sequence[Rule], trials: Sequence[Trial]) -> None:
    """Raise where a built-in rule looks at what no trial labels; what is labelled but no curve shows once compiled."""
    variables = {name: label for trial in trials for name, label in trial.variables.items()}
    curves = Curves(
        np.zeros(1, int), 0, variables, {dim for label in variables.values() for dim in label.dims}
    )
    for name, label in variables.items():
        curves.expect(name, (1,) * len(label.dims), np.dtype(np.float32))
    check_curves(rules, curves.history(0, np.ones(1, bool)))
