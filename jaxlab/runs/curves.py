"""The curves of one stage that stopping rules read, updated record by record."""

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
    """Arrays ``[trials, epochs + 1, ...]`` of a stage, by name of the curve.

    Args:
        numbers: numbers of the stage's trials, ascending.
        epochs: planned number of epochs.
        variables: labels of the recorded variables.
        dims: names of the labelled axes. A variable with another axis (the steps of an epoch) is not a curve.
    """

    def __init__(self, numbers: np.ndarray, epochs: int, variables: Mapping[str, Variable], dims: set[str]):
        self.numbers, self.epochs = numbers, epochs
        self.left_out = {name for name, label in variables.items() if not set(label.dims) <= dims}
        better = {name: label.better for name, label in variables.items() if label.better}
        self.metric = comparison_metric(better)
        if self.metric not in variables:  # a triple without a validation set
            self.metric = min(better, default="")
        self.better = {name: "lower" for name in variables if name.endswith("_loss")} | better
        self.arrays: dict[str, np.ndarray] = {}
        self.latest = 0

    def add(self, record: EpochRecord) -> None:
        """Add a record, with trials by number; trials of other stages are ignored."""
        rows = np.searchsorted(self.numbers, record.trials).clip(max=len(self.numbers) - 1)
        ours = self.numbers[rows] == record.trials
        if not ours.any():
            return
        if not ours.all():
            record, rows = record.rows(ours), rows[ours]
        self.latest = max(self.latest, int(record.epochs[-1]))
        for name, values in record.values.items():
            self.allocate(name, values.shape[2:], values.dtype)
            if name in self.arrays:
                self.arrays[name][np.ix_(rows, record.epochs)] = values

    def allocate_all(self, records: Sequence[Mapping[str, jax.ShapeDtypeStruct]]) -> None:
        """Allocate the curves of the groups' records, ``[lanes, ...]`` by name.

        Raises:
            InputError: they do not fit in memory.
        """
        sizes: dict[str, int] = {}
        for name, values in (item for record in records for item in record.items()):
            each = math.prod(values.shape[1:]) * values.dtype.itemsize
            sizes[name] = max(sizes.get(name, 0), each)
        trials = len(self.numbers)
        check_epochs(trials, self.epochs, trials * (self.epochs + 1) * sum(sizes.values()))
        for name, values in (item for record in records for item in record.items()):
            self.allocate(name, values.shape[1:], values.dtype)

    def allocate(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Allocate one curve with further axes of a shape; if groups disagree about the shape, it is not a curve."""
        if name in self.left_out:
            return
        if name not in self.arrays:
            whole = (len(self.numbers), self.epochs + 1, *shape)
            self.arrays[name] = np.full(whole, not_reached(dtype), dtype)
        elif self.arrays[name].shape[2:] != shape:  # groups with different layers
            self.left_out.add(name)
            del self.arrays[name]

    def history(self, epoch: int, running: np.ndarray) -> History:
        """The history up to an epoch; ``running`` is a mask of the trials that have not stopped."""
        arrays = self.arrays
        if self.latest > epoch:  # in a resumed run, some trials had reached later epochs
            arrays = {name: values.copy() for name, values in arrays.items()}
            for values in arrays.values():
                values[:, epoch + 1 :] = not_reached(values.dtype)
        return History(epoch, self.epochs, running, arrays, self.better, self.metric)


def check_names(rules: Sequence[Rule], trials: Sequence[Trial]) -> None:
    """Raise InputError, before anything is compiled, where a built-in rule reads a variable that no trial records."""
    variables = {name: label for trial in trials for name, label in trial.variables.items()}
    dims = {dim for label in variables.values() for dim in label.dims}
    curves = Curves(np.zeros(1, int), 0, variables, dims)
    for name, label in variables.items():
        curves.allocate(name, (1,) * len(label.dims), np.dtype(np.float32))
    check_curves(rules, curves.history(0, np.ones(1, bool)))
