"""The questions of ``scripts/accelerator.py``, the most important first; each is asked by the module of its name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple


class Question(NamedTuple):
    """One question, asked in a process of its own.

    Attributes:
        name: of its module, and for ``--only``.
        words: the question, for the report.
        seconds: its share of the budget, relative to those of the others.
        environment: variables that its process needs.
        command: what asks it, without the arguments that every question gets; by default its module.
    """

    name: str
    words: str
    seconds: float
    environment: Mapping[str, str] = {}
    command: tuple[str, ...] = ()

    @property
    def program(self) -> tuple[str, ...]:
        """What asks the question."""
        return self.command or (sys.executable, "-m", __name__, self.name)


#: Several processes, or PyTorch, use the device at the same time: none may take most of its memory in advance.
_SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
#: Seconds of compilation are reported, so nothing is loaded from a cache; but studies compile anew at every run.
_CACHED = {"JAX_ENABLE_COMPILATION_CACHE": "true"}

QUESTIONS = (
    Question("machine", "What is this device, how fast is it, and to what does JAX round by default?", 30),
    Question("study", "Does a study run, and does it learn what it learns on a CPU?", 75),
    Question(
        "neighbours", "Are a trial's bits the same in every lane, whatever its neighbours?", 80, _SHARED
    ),
    Question("determinism", "What do deterministic operations cost?", 90, _SHARED),
    Question("lowerings", "Which lowering of a convolution is fastest, and what limits it?", 60),
    Question("widths", "How many trials side by side are fastest, and does automatic width find out?", 65),
    Question("alternatives", "How fast are studies against what one would write instead?", 70, _SHARED),
    Question("kernels", "Where does the time of a training segment go?", 25),
    Question("stopping", "What do stopping early, states in host memory and a run folder cost?", 55, _CACHED),
)
#: Seconds for all of them.
BUDGET = float(sum(question.seconds for question in QUESTIONS))
