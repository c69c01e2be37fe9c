"""A time budget: no work begins that is expected to exceed it."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

#: Safety factor on expected seconds when they are compared with the seconds left.
SAFETY = 1.3
#: Time set aside for writing the files: a share of the budget, and at least so many seconds.
RESERVED, LEAST_RESERVED = 0.05, 3.0
#: Weight of the prior that guesses are right, in seconds of work, so that one outlier at the start changes little.
PRIOR = 5.0


class Budget:
    """A time limit, and the durations of the pieces of work so far.

    A call that compiles or trains cannot be interrupted, so work that would exceed the budget must not begin. The
    caller guesses the duration of a piece of work. The guess is multiplied by the largest ratio of actual to guessed
    seconds among earlier pieces of the same kind. For the first piece of a kind, it is multiplied by the mean ratio
    of all pieces: a slow or busy machine thus shows from the start.

    Args:
        seconds: the limit; None for none.
        spent: seconds already used, e.g. by imports.
        clock: ``() -> seconds``; kept as an attribute.
    """

    def __init__(
        self,
        seconds: float | None = None,
        spent: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.clock = clock
        self._end = math.inf
        if seconds is not None:
            reserve = max(LEAST_RESERVED, RESERVED * seconds)
            self._end = clock() - spent + seconds - reserve
        self._worst: dict[str, float] = {}
        self._guessed = self._taken = PRIOR

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return math.isfinite(self._end)

    @property
    def pace(self) -> float:
        """Actual over guessed seconds, over all pieces so far; 1 on the machine for which the guesses were made."""
        return self._taken / self._guessed

    def left(self) -> float:
        """Seconds left for measuring, without those set aside for writing."""
        return self._end - self.clock()

    def allows(self, seconds: float) -> bool:
        """Whether work that is expected to take ``seconds`` may begin."""
        return SAFETY * seconds <= self.left()

    def expected(self, kind: str, guess: float) -> float:
        """Expected seconds of a piece of work of this kind."""
        return guess * self._worst.get(kind, self.pace)

    @contextlib.contextmanager
    def piece(self, kind: str, guess: float) -> Iterator[None]:
        """Record the duration of the block as one piece of this kind of work, with the guess for it."""
        began = self.clock()
        yield
        self.took(kind, guess, self.clock() - began)

    def took(self, kind: str, guess: float, seconds: float) -> None:
        """Record that a piece of work took ``seconds`` where ``guess`` > 0 seconds were guessed."""
        self._worst[kind] = max(seconds / guess, self._worst.get(kind, 0.0))
        self._guessed += guess
        self._taken += seconds


def process_age() -> float:
    """Seconds since this process was started, imports included; 0 where the system has no ``/proc``."""
    try:
        # After the name, which may contain spaces, "starttime" is the 20th field.
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, IndexError, ValueError):
        return 0.0
