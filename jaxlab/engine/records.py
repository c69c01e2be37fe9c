"""What training records, call by call."""

from typing import NamedTuple

import numpy as np

from jaxlab.engine.host import Rows


class EpochRecord(NamedTuple):
    """What T trials of one group recorded at E epochs.

    Attributes:
        trials: their indices, ``[T]``.
        epochs: the same for all of them, ascending, ``[E]``; 0 is the state before training.
        values: by name, ``[T, E, ...]``.
    """

    trials: np.ndarray
    epochs: np.ndarray
    values: dict[str, np.ndarray]

    def rows(self, rows: np.ndarray) -> "EpochRecord":
        """Some of the trials, by a mask ``[T]``."""
        return EpochRecord(
            self.trials[rows], self.epochs, {name: each[rows] for name, each in self.values.items()}
        )

    def at(self, epochs: np.ndarray) -> "EpochRecord":
        """Some of the epochs, by a mask ``[E]``."""
        return EpochRecord(
            self.trials, self.epochs[epochs], {name: each[:, epochs] for name, each in self.values.items()}
        )


class EndRecord(NamedTuple):
    """What T trials of one group recorded when they ended.

    Attributes:
        trials: their indices, ``[T]``.
        epochs: the last one that each of them trained, ``[T]``.
        values: by name, ``[T, ...]``.
        states: the states that they ended with; None once these are not needed any more.
    """

    trials: np.ndarray
    epochs: np.ndarray
    values: dict[str, np.ndarray]
    states: Rows | None = None

    def rows(self, rows: np.ndarray) -> "EndRecord":
        """Some of the trials, by a mask ``[T]``; without their states."""
        return EndRecord(
            self.trials[rows], self.epochs[rows], {name: each[rows] for name, each in self.values.items()}
        )
