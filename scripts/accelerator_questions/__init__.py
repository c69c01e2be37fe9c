"""The questions of ``scripts/accelerator.py``, the most important first; the module of the same name answers each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple


class Question(NamedTuple):
    """A question, asked in a separate process.

    Attributes:
        name: the name of its module, and its name for ``--only``.
        words: the question, for the report.
        seconds: its share of the budget, relative to the other questions.
        environment: environment variables that its process needs.
        command: the command of its process, without the arguments that every question gets; by default its module.
    """

    name: str
    words: str
    seconds: float
    environment: Mapping[str, str] = {}
    command: tuple[str, ...] = ()

    @property
    def program(self) -> tuple[str, ...]:
        """The command of its process, without arguments."""
        return self.command or (sys.executable, "-m", __name__, self.name)


#: For questions in which several processes, or PyTorch, share the device: none may preallocate most of its memory.
_SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
#: For whole studies, which compile at every run. Other questions report seconds of compilation and use no cache.
_CACHED = {"JAX_ENABLE_COMPILATION_CACHE": "true"}

QUESTIONS = (
    Question("machine", "What is this device, how fast is it, and how does JAX round by default?", 30),
    Question("study", "Does a study run, and does it learn the same as on a CPU?", 75),
    Question(
        "neighbours",
        "Are a trial's numbers bitwise the same in every lane, next to any neighbour?",
        80,
        _SHARED,
    ),
    Question("determinism", "What do deterministic operations cost?", 90, _SHARED),
    Question("lowerings", "Which lowering of a convolution is fastest, and what limits it?", 60),
    Question("widths", "Which width is fastest, and does automatic width find it?", 65),
    Question("alternatives", "How fast are studies compared with the usual alternatives?", 70, _SHARED),
    Question("kernels", "Which kernels take the time of a training segment?", 25),
    Question("stopping", "What do stopping early, states in host memory and a run folder cost?", 55, _CACHED),
)
#: Default budget: seconds for all questions.
BUDGET = float(sum(question.seconds for question in QUESTIONS))
