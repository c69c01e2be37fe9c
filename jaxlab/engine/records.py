"""Records that training yields, one per call."""

from typing import NamedTuple

import numpy as np

from jaxlab.engine.host import Rows


class EpochRecord(NamedTuple):
    """Record of T trials of one group at E epochs.

    Attributes:
        trials: indices of the trials, ``[T]``.
        epochs: epochs in ascending order, the same for all trials, ``[E]``; 0 is the state before training.
        values: recorded arrays by name, ``[T, E, ...]``.
    """

    trials: np.ndarray
    epochs: np.ndarray
    values: dict[str, np.ndarray]

    def rows(self, rows: np.ndarray) -> "EpochRecord":
        """Select trials by a mask ``[T]``."""
        return EpochRecord(
            self.trials[rows], self.epochs, {name: each[rows] for name, each in self.values.items()}
        )

    def at(self, epochs: np.ndarray) -> "EpochRecord":
        """Select epochs by a mask ``[E]``."""
        return EpochRecord(
            self.trials, self.epochs[epochs], {name: each[:, epochs] for name, each in self.values.items()}
        )


class EndRecord(NamedTuple):
    """Last record of T trials of one group.

    Attributes:
        trials: indices of the trials, ``[T]``.
        epochs: last epoch of each trial, ``[T]``.
        values: recorded arrays by name, ``[T, ...]``.
        states: final states of the trials; None once they are no longer needed.
    """

    trials: np.ndarray
    epochs: np.ndarray
    values: dict[str, np.ndarray]
    states: Rows | None = None

    def rows(self, rows: np.ndarray) -> "EndRecord":
        """Select trials by a mask ``[T]``, without their states."""
        return EndRecord(
            self.trials[rows], self.epochs[rows], {name: each[rows] for name, each in self.values.items()}
        )
