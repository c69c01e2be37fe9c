"""``jaxlab benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def benchmark(
    quick: Annotated[
        bool, typer.Option("--quick", help="A few cells and numbers of trials, and a budget of 180 s.")
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(metavar="SECONDS", help="Time for everything; the least important rows are dropped."),
    ] = None,
    cells: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Of 8x8, 28x28, 32x32, mnist1d, awkward-1 to -5; separated by commas."
        ),
    ] = None,
    trials: Annotated[
        str | None, typer.Option(metavar="LIST", help="Numbers of trials, e.g. 1,4,16,64.")
    ] = None,
    contenders: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Of loop, scan, map, vmap, torch-loop, torch-ensemble, processes."),
    ] = None,
    parts: Annotated[
        str | None, typer.Option(metavar="LIST", help="Of contenders, diagnostics, stopping, saving.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Timed calls of each contender.")] = None,
    width: Annotated[
        int | None, typer.Option(help="Trials side by side on each device (default: the fastest).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the two files.")] = Path("docs/benchmarks"),
) -> None:
    """Measure this machine: the same trials by jaxlab, by loops, by vmap, by PyTorch, by one process per trial.

    All must give the same losses before anything is timed. Writes DEVICE.json and DEVICE.md.
    """
    from jaxlab.benchmark import exit_status, one_device_per_core, options_from

    options = options_from(
        cells=cells,
        trials=trials,
        contenders=contenders,
        parts=parts,
        rounds=rounds,
        out=out,
        width=width,
        quick=quick,
        budget=budget,
    )
    one_device_per_core()
    raise typer.Exit(exit_status(options))
