"""Progress reports of a run."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from jaxlab.engine import EpochRecord


class Progress(NamedTuple):
    """The progress of a run, including earlier starts.

    Attributes:
        phase: "compiling", "probing" (choosing the width), "training" or "done".
        group: index of the group in progress.
        groups: number of groups.
        trial_epochs: finished epochs, summed over trials; the remaining epochs of a stopped trial count as finished.
        all_trial_epochs: planned epochs, summed over trials.
        trials: number of trials.
        trial_steps: optimisation steps of this process, summed over trials.
        diverged: number of trials with a bad step.
        stopped: number of trials that another rule stopped.
        seconds: training time of this process, without compilation.
        rate: trial-steps per second of this process; 0 while unknown.
        compile_seconds: compilation time of all groups so far.
        width: width of the group, or the one being measured while probing; 0 while unknown.
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
    """Counter of epochs, steps and stopped trials, which calls ``notify`` with a `Progress` at each report."""

    def __init__(self, trials: int, epochs: int, groups: int, notify: Callable[[Progress], None]):
        self.start = time.perf_counter()
        self.epochs, self.groups, self.notify = epochs, groups, notify
        self.reached = np.zeros(trials, int)
        self.bad, self.stopped = np.zeros(trials, bool), np.zeros(trials, bool)
        self.trial_steps, self.training, self.width = 0, 0.0, 0

    def add(self, record: EpochRecord, steps_per_epoch: int = 0) -> None:
        """Count a record, with trials by number; the steps of an earlier process do not count."""
        self.reached[record.trials] = np.maximum(self.reached[record.trials], record.epochs[-1])
        self.bad[record.trials] |= np.any(record.values["first_bad_step"] >= 0, axis=1)
        if record.epochs[-1] > 0:
            self.trial_steps += len(record.trials) * len(record.epochs) * steps_per_epoch

    def restart(self, records: Iterable[EpochRecord], stopped: Iterable[int]) -> None:
        """Reset the counts to what earlier processes recorded and the trials that stopped; keep the number of steps."""
        for array in (self.reached, self.bad, self.stopped):
            array[:] = 0
        for record in records:
            self.add(record)
        self.stop(stopped)

    def stop(self, numbers: Iterable[int]) -> None:
        """Count trials that stopped."""
        self.stopped[list(numbers)] = True

    def report(self, phase: str, group: int, compile_seconds: float) -> None:
        """Report the progress so far."""
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
