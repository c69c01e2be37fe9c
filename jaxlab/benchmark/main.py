"""The command line of ``scripts/benchmark.py``; needs nothing but the training path."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxlab.benchmark.budget import process_age
from jaxlab.benchmark.cells import CELLS
from jaxlab.benchmark.devices import one_device_per_core
from jaxlab.benchmark.options import QUICK_SECONDS, Options
from jaxlab.benchmark.run import benchmark, measured, wrong
from jaxlab.benchmark.work import NAMES, PARTS
from jaxlab.errors import InputError


def options_from(
    *,
    cells: str | None = None,
    trials: str | None = None,
    contenders: str | None = None,
    parts: str | None = None,
    rounds: int | None = None,
    out: Path | None = None,
    width: int | None = None,
    quick: bool = False,
    budget: str | None = None,
) -> Options:
    """Options from what a person writes: lists are separated by commas.

    Raises:
        InputError: as `Options`.
    """
    return Options(
        cells=None if cells is None else listed(cells),
        trials=None if trials is None else [whole("--trials", part) for part in listed(trials)],
        contenders=None if contenders is None else listed(contenders),
        parts=None if parts is None else listed(parts),
        rounds=rounds,
        out=Path("docs/benchmarks") if out is None else out,
        width=width,
        quick=quick,
        budget=None if budget is None else seconds("--budget", budget),
    )


def listed(text: str) -> list[str]:
    """What stands between the commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def whole(field: str, text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise InputError(field, text, "give whole numbers >= 1, separated by commas") from None


def seconds(field: str, text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise InputError(field, text, "give seconds, a finite number > 0") from None


def exit_status(options: Options) -> int:
    """Measure and write; exit status 1 if a contender was refused because its losses were wrong.

    The budget counts from the start of the process.

    Raises:
        InputError: the budget is too short to measure anything.
    """
    found = benchmark(options, spent=process_age())
    if not measured(found):
        raise InputError(
            "--budget", found["budget"], "nothing can be measured in that time: give more seconds"
        )
    refused = wrong(found)
    if refused:
        print(f"other losses than the rest: {', '.join(refused)}", file=sys.stderr)
    return 1 if refused else 0


def main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, write. Exit status 0, 1 (see `exit_status`) or 2 for bad input."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"a few cells and numbers of trials, and a budget of {QUICK_SECONDS:.0f} s",
    )
    parser.add_argument(
        "--budget", metavar="SECONDS", help="time for everything; the least important rows are dropped"
    )
    parser.add_argument("--cells", metavar="LIST", help=f"of {', '.join(CELLS)}")
    parser.add_argument("--trials", metavar="LIST", help="numbers of trials, e.g. 1,4,16,64")
    parser.add_argument("--contenders", metavar="LIST", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--parts", metavar="LIST", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, help="timed calls of each contender")
    parser.add_argument("--width", type=int, help="trials side by side on each device in jaxlab's packs")
    parser.add_argument("--out", type=Path, help="folder of the files (default: docs/benchmarks)")
    given = parser.parse_args(arguments)
    try:
        options = options_from(**vars(given))
        one_device_per_core()
        return exit_status(options)
    except InputError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
