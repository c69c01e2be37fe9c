"""Parts that several questions share: cells, sets of compiler options, compiled packs, timed calls."""

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

#: The cell that `--small` trains.
TINY = Cell("tiny", (8, 1), 4, (2,), (3,))
#: The other cells by size, the small ones first, since studies train such networks.
IN_ORDER = tuple(CELLS[name] for name in ("8x8", "mnist1d", "28x28", "32x32"))
ROUNDS, TARGET_SECONDS = 3, 0.2


class OptionSet(NamedTuple):
    """A set of compiler options.

    Attributes:
        letter: its name in tables and sentences.
        words: its description.
        deterministic: see `jaxlab.engine.compile_programs`.
        options: further options of XLA.
    """

    letter: str
    words: str
    deterministic: bool
    options: Mapping[str, Any] = {}


def option_sets() -> tuple[OptionSet, ...]:
    """The sets of options to compare; on devices other than GPUs they give the same program."""
    tuned = {"xla_gpu_autotune_level": 4} if on_gpu() else {}
    return (
        OptionSet("a", "deterministic operations, kernels not tuned (as studies train)", True),
        OptionSet("b", "deterministic operations, kernels tuned", True, tuned),
        OptionSet("c", "any operation, kernels tuned", False),
    )


def on_gpu() -> bool:
    """Whether the device is a GPU, so that XLA's options for GPUs apply."""
    return jax.default_backend() == "gpu"


def one_device(width: int) -> Pack:
    """A pack on the first device."""
    return make_pack(width, jax.devices()[:1])


def compiled(trial: Trial, problem: Problem, width: int, chosen: OptionSet) -> Programs:
    """Compile the programs of a problem's trials for one device."""
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
    """Seconds of one call of each ``run(calls)`` in each round; they take turns."""
    entries = {}
    for name, run in runs.items():
        run(1)
        entries[name] = plan(
            run, seconds_of(run, 1), 1 if small else ROUNDS, 0.01 if small else TARGET_SECONDS
        )
    seconds = interleaved(entries)
    return {name: [each / entries[name].calls for each in values] for name, values in seconds.items()}


#: Errors of programs, the compiler or the device that are results, and no bugs of the question.
FAILURES = (jax.errors.JaxRuntimeError, InputError)


def reason(error: Exception) -> str:
    """The reason of an error, in one line."""
    if is_out_of_memory(error):
        return "out of memory"
    words = " ".join(str(error).split())
    return words if len(words) <= 200 else f"{words[:200]}…"


def by(rows: Sequence[Row], **values: Any) -> list[Row]:
    """Select the rows with these values."""
    return [row for row in rows if all(row.get(name) == value for name, value in values.items())]
