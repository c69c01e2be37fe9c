"""What a run has done so far, as it is reported."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from jaxlab.engine import EpochRecord


class Progress(NamedTuple):
    """What a run has done so far, earlier starts included.

    Attributes:
        phase: "compiling", "probing" (choosing the width), "training" or "done".
        group: index of the group in progress, of ``groups``.
        trial_epochs: epochs finished, summed over trials, of ``all_trial_epochs``; those of a trial that ended count
            as finished.
        trials: of the study.
        trial_steps: optimisation steps taken by this process, summed over trials.
        diverged: trials that met a bad step so far.
        stopped: trials that another rule stopped.
        seconds: since this process began to train, compilation left out.
        rate: trial-steps per second of this process; 0 while unknown.
        compile_seconds: of all groups so far.
        width: of this group; the one that is tried while probing; 0 while unknown.
    """

    phase: str
    group: int
    groups: int
    trial_epochs: int
    all_trial_epochs: int
    trials: int
    trial_steps: int
    diverged: int
    stopped: int
    seconds: float
    rate: float
    compile_seconds: float
    width: int


class Counter:
    """Counts epochs, steps and ends; ``notify`` is called with a `Progress` at each report."""

    def __init__(self, trials: int, epochs: int, groups: int, notify: Callable[[Progress], None]):
        self.start = time.perf_counter()
        self.epochs, self.groups, self.notify = epochs, groups, notify
        self.reached = np.zeros(trials, int)
        self.bad, self.stopped = np.zeros(trials, bool), np.zeros(trials, bool)
        self.trial_steps, self.training, self.width = 0, 0.0, 0

    def add(self, record: EpochRecord, steps_per_epoch: int) -> None:
        """Add a record of this process; trials by number."""
        self.known(record)
        if record.epochs[-1] > 0:
            self.trial_steps += len(record.trials) * len(record.epochs) * steps_per_epoch

    def known(self, record: EpochRecord) -> None:
        """Add a record of this process or an earlier one."""
        self.reached[record.trials] = np.maximum(self.reached[record.trials], record.epochs[-1])
        self.bad[record.trials] |= np.any(record.values["first_bad_step"] >= 0, axis=1)

    def stop(self, numbers: Iterable[int]) -> None:
        """Add trials that stopped."""
        self.stopped[list(numbers)] = True

    def report(self, phase: str, group: int, compile_seconds: float) -> None:
        """Report what was done so far."""
        finished = np.where(self.stopped, self.epochs, self.reached)
        self.notify(
            Progress(
                phase,
                group,
                self.groups,
                int(finished.sum()),
                len(finished) * self.epochs,
                len(finished),
                self.trial_steps,
                int(self.bad.sum()),
                int((self.stopped & ~self.bad).sum()),
                self.training,
                self.trial_steps / self.training if self.training else 0.0,
                compile_seconds,
                self.width,
            )
        )
