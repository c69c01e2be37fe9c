"""How fast does jaxlab train many trials, compared with the usual alternatives?

    python scripts/benchmark --quick
    python scripts/benchmark
    python scripts/benchmark --budget 600
    python scripts/benchmark --cells 8x8,28x28 --trials 16 --contenders loop,vmap --out /tmp/benchmark

Run it from a clone; jaxlab itself need not be installed. It needs typer (of the extra ``cli``).
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
    return f"Comma-separated, from {', '.join(names)}."


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def command(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help=f"Few cells and numbers of trials, within a budget of {QUICK_SECONDS:.0f} s."
        ),
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(metavar="SECONDS", help="Time limit; the least important rows are dropped."),
    ] = None,
    cells: Annotated[str | None, typer.Option(metavar="LIST", help=_of(CELLS))] = None,
    trials: Annotated[
        str | None, typer.Option(metavar="LIST", help="Numbers of trials, e.g. 1,4,16,64.")
    ] = None,
    contenders: Annotated[str | None, typer.Option(metavar="LIST", help=_of(NAMES))] = None,
    parts: Annotated[str | None, typer.Option(metavar="LIST", help=_of(PARTS))] = None,
    rounds: Annotated[int | None, typer.Option(help="Number of timed rounds.")] = None,
    width: Annotated[
        int | None, typer.Option(help="Trials side by side on each device (default: the fastest).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.", show_default="docs/benchmarks")] = TABLES,
) -> None:
    """Measure this machine: train the same trials with jaxlab, loops, vmap, PyTorch and one process per trial.

    A contender is timed only if its losses equal those of jaxlab. Contenders take turns, round by round. The results
    are written to DEVICE.md and, with the seconds of every round, to DEVICE.json.

    This takes about an hour on two CPU cores. A budget counts from the start of the process. Measurements that do not
    fit are dropped, the least important first, and listed in the files and on standard error.

    Exit status: 0 done, 1 the losses of a contender were wrong, 2 bad input.
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
