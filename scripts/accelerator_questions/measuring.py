"""What several questions need: cells, the sets of compiler options, compiled packs, timed calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from accelerator_questions.asking import Row
from benchmark.cells import CELLS, Cell
from benchmark.problem import Problem
from benchmark.timing import interleaved, plan, seconds_of
from jaxlab.engine import Pack, Programs, compile_programs, is_out_of_memory, make_pack
from jaxlab.errors import InputError
from jaxlab.trial import Trial, shared_arrays

#: What `--small` trains.
TINY = Cell("tiny", (8, 1), 4, (2,), (3,))
#: The others by size, the small ones first: they are what studies are made of.
IN_ORDER = tuple(CELLS[name] for name in ("8x8", "mnist1d", "28x28", "32x32"))
ROUNDS, TARGET_SECONDS = 3, 0.2


class OptionSet(NamedTuple):
    """How programs are compiled.

    Attributes:
        letter: for tables and sentences.
        words: what it means.
        deterministic: see `jaxlab.engine.compile_programs`.
        options: XLA's, added to those.
    """

    letter: str
    words: str
    deterministic: bool
    options: Mapping[str, Any] = {}


def option_sets() -> tuple[OptionSet, ...]:
    """Those that are compared; on other devices than GPUs the same program three times."""
    tuned = {"xla_gpu_autotune_level": 4} if on_gpu() else {}
    return (
        OptionSet("a", "deterministic operations, kernels not tuned (as studies train)", True),
        OptionSet("b", "deterministic operations, kernels tuned", True, tuned),
        OptionSet("c", "any operation, kernels tuned", False),
    )


def on_gpu() -> bool:
    """Whether XLA's options for GPUs mean anything here."""
    return jax.default_backend() == "gpu"


def one_device(width: int) -> Pack:
    """A pack on the first device."""
    return make_pack(width, jax.devices()[:1])


def compiled(trial: Trial, problem: Problem, width: int, chosen: OptionSet) -> Programs:
    """The programs of a problem's trials on one device."""
    example = jax.tree.map(lambda values: values[0], problem.hyperparameters)
    shared = shared_arrays(problem.data)
    return compile_programs(
        trial,
        example,
        shared,
        one_device(width),
        deterministic=chosen.deterministic,
        options=chosen.options,
    )


def timed(runs: Mapping[str, Callable[[int], Any]], small: bool) -> dict[str, list[float]]:
    """Seconds of one call of each ``run(calls)``, by round; they take turns."""
    entries = {}
    for name, run in runs.items():
        run(1)
        entries[name] = plan(
            run, seconds_of(run, 1), 1 if small else ROUNDS, 0.01 if small else TARGET_SECONDS
        )
    seconds = interleaved(entries)
    return {name: [each / entries[name].calls for each in values] for name, values in seconds.items()}


#: What a program, a compiler or a device may raise without a mistake in the question.
FAILURES = (jax.errors.JaxRuntimeError, InputError)


def reason(error: Exception) -> str:
    """Why something cannot be, in one line."""
    if is_out_of_memory(error):
        return "out of memory"
    words = " ".join(str(error).split())
    return words if len(words) <= 200 else f"{words[:200]}…"


def by(rows: Sequence[Row], **values: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row.get(name) == value for name, value in values.items())]
