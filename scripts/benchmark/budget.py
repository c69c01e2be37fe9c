"""A budget of seconds that is kept, because nothing begins that is expected to exceed it."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

#: An expectation is multiplied by this before it is compared with the seconds that are left.
SAFETY = 1.3
#: The share of the budget, and the least seconds of it, that are set aside for writing the files and ending.
RESERVED, LEAST_RESERVED = 0.05, 3.0
#: Seconds of work that went as guessed, before anything is known of the machine: one odd piece changes little.
PRIOR = 5.0


class Budget:
    """Seconds for everything, and what the pieces of work took so far.

    A call that compiles or trains cannot be interrupted, so what would exceed the budget must not begin. What a piece
    of work will take is guessed, and the guess is multiplied by the worst ratio of seconds taken to seconds guessed of
    the earlier pieces of its kind; for the first of a kind by the mean ratio of all pieces, so that the first ones
    reveal a slow or busy machine.

    Args:
        seconds: None for no limit.
        spent: seconds of it that are over already, e.g. of imports.
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
        """Seconds taken over seconds guessed, of all pieces so far: 1 on the machine that the guesses are of."""
        return self._taken / self._guessed

    def left(self) -> float:
        """Seconds left to measure in; the time to write is set aside."""
        return self._end - self.clock()

    def allows(self, seconds: float) -> bool:
        """Whether work that is expected to take so long may begin."""
        return SAFETY * seconds <= self.left()

    def expected(self, kind: str, guess: float) -> float:
        """Seconds that a piece of work of this kind will take."""
        return guess * self._worst.get(kind, self.pace)

    @contextlib.contextmanager
    def piece(self, kind: str, guess: float) -> Iterator[None]:
        """Remember how long the block takes, as one piece of this kind of work that was guessed to take so long."""
        began = self.clock()
        yield
        self.took(kind, guess, self.clock() - began)

    def took(self, kind: str, guess: float, seconds: float) -> None:
        """Remember how long a piece of work took that was guessed to take ``guess`` > 0 seconds."""
        self._worst[kind] = max(seconds / guess, self._worst.get(kind, 0.0))
        self._guessed += guess
        self._taken += seconds


def process_age() -> float:
    """Seconds since this process was started, imports included; 0 where the system does not tell (Linux does)."""
    try:
        # Behind the name, which may hold spaces, "starttime" is the 20th field.
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, IndexError, ValueError):
        return 0.0
