"""What a contender is."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxlab.benchmark.problem import Problem


class Prepared(NamedTuple):
    """Some trials, compiled and with their initial weights on the device.

    Attributes:
        run: ``calls -> losses [trials, calls · steps]``: trains every trial that many steps further and returns when
            all is computed and the losses are on the host. The first call takes the problem's first steps.
        trials: how many it trains.
        steps: of each trial, in one call.
        compile_seconds: to trace and compile; None where nothing is compiled ahead.
        memory_bytes: what its programs hold at most; None where that cannot be told.
        about: what a reader of the table should know, e.g. the width.
    """

    run: Callable[[int], np.ndarray]
    trials: int
    steps: int
    compile_seconds: float | None = None
    memory_bytes: int | None = None
    about: str = ""


class Contender(NamedTuple):
    """One way to train N trials.

    Attributes:
        words: what it is, for the table.
        prepare: ``(problem, steps) -> Prepared``.
        enough: trials after which its rate no longer depends on N, because it takes one after the other.
        cpu_flops: a first guess of the FLOP/s that it reaches on a CPU, where calls of many steps would take minutes.
        seconds: a first guess of what compiling and checking it takes.
        missing: why it cannot run here; nothing where it can.
    """

    words: str
    prepare: Callable[[Problem, int], Prepared]
    enough: int | None = None
    cpu_flops: float = math.inf
    seconds: float = 2.0
    missing: Callable[[], str] = str
