"""How fast are many trials, against everything that one would write instead?

    python scripts/benchmark --quick
    python scripts/benchmark
    python scripts/benchmark --budget 600
    python scripts/benchmark --cells 8x8,28x28 --trials 16 --contenders loop,vmap --out /tmp/benchmark

It runs from a clone, where jaxlab itself need not be installed, and needs typer (of the extra ``cli``).
"""

import sys
from pathlib import Path
from typing import Annotated

if not __package__:  # run as a folder: its modules import one another as the package `benchmark`
    _SCRIPTS = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(_SCRIPTS), str(_SCRIPTS.parent)]

from jaxlab.errors import InputError, how_to_install

try:
    import typer
except ModuleNotFoundError as error:
    print(f"benchmark: {error.name} is missing: {how_to_install('cli')}", file=sys.stderr)
    sys.exit(2)

from benchmark.budget import process_age
from benchmark.cells import CELLS
from benchmark.machine import one_device_per_core
from benchmark.options import QUICK_SECONDS, TABLES, options_from
from benchmark.run import exit_status
from benchmark.work import NAMES, PARTS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def _of(names) -> str:
    return f"Some of {', '.join(names)}; separated by commas."


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def command(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help=f"A few cells and numbers of trials, and a budget of {QUICK_SECONDS:.0f} s."
        ),
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(metavar="SECONDS", help="Time for everything; the least important rows are dropped."),
    ] = None,
    cells: Annotated[str | None, typer.Option(metavar="LIST", help=_of(CELLS))] = None,
    trials: Annotated[
        str | None, typer.Option(metavar="LIST", help="Numbers of trials, e.g. 1,4,16,64.")
    ] = None,
    contenders: Annotated[str | None, typer.Option(metavar="LIST", help=_of(NAMES))] = None,
    parts: Annotated[str | None, typer.Option(metavar="LIST", help=_of(PARTS))] = None,
    rounds: Annotated[int | None, typer.Option(help="Timed calls of each contender.")] = None,
    width: Annotated[
        int | None, typer.Option(help="Trials side by side on each device (default: the fastest).")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the two files.", show_default="docs/benchmarks")
    ] = TABLES,
) -> None:
    """Measure this machine: the same trials by jaxlab, by loops, by vmap, by PyTorch, by one process per trial.

    All must give the same losses before anything is timed; then they take turns. Writes DEVICE.json, with the seconds
    of every round, and DEVICE.md.

    Takes about an hour on two CPU cores. A budget counts from the start of the process: what there is no time for is
    dropped, the least important first, and named in the files and on standard error.

    Exit status: 0 done, 1 a contender gave other losses, 2 bad input.
    """
    given = locals()
    try:
        options = options_from(**given)
        one_device_per_core()
        status = exit_status(options, spent=process_age())
    except InputError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        status = 2
    raise typer.Exit(status)


if __name__ == "__main__":
    app(prog_name="benchmark")
