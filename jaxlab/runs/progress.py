"""What a run has done so far, for whoever watches."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxlab.engine import Piece


class Progress(NamedTuple):
    """What a run has done so far, earlier starts included.

    Attributes:
        phase: "compiling", "probing" (choosing the width), "training" or "done".
        group: index of the group under way, of ``groups``.
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
    """Counts epochs, steps and ends; ``tell`` is called with a `Progress` at each report."""

    def __init__(self, trials: int, epochs: int, groups: int, tell: Callable[[Progress], None]):
        self.start = time.perf_counter()
        self.epochs, self.groups, self.tell = epochs, groups, tell
        self.reached = np.zeros(trials, int)
        self.bad, self.stopped = np.zeros(trials, bool), np.zeros(trials, bool)
        self.trial_steps, self.training, self.width = 0, 0.0, 0

    def add(self, piece: Piece, steps_per_epoch: int) -> None:
        """A piece of this process; trials by number."""
        self.known(piece)
        if not piece.final and piece.epochs[-1] > 0:
            self.trial_steps += len(piece.trials) * len(piece.epochs) * steps_per_epoch

    def known(self, piece: Piece) -> None:
        """A piece of this process or an earlier one."""
        if not piece.final:
            self.reached[piece.trials] = np.maximum(self.reached[piece.trials], piece.epochs[-1])
            self.bad[piece.trials] |= np.any(piece.record["first_bad_step"] >= 0, axis=1)

    def stop(self, numbers: Any) -> None:
        """Trials that go no further."""
        self.stopped[list(numbers)] = True

    def report(self, phase: str, group: int, compile_seconds: float) -> None:
        """Tell the watcher."""
        finished = np.where(self.stopped, self.epochs, self.reached)
        self.tell(
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
