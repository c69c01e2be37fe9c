"""The commands; each is thin over a function that Python users call too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from jaxlab.cli.devices import use_all_cores
from jaxlab.cli.progress import Watcher
from jaxlab.cli.tables import print_plan, print_run

app = typer.Typer(
    help="What does this hyperparameter do to my CNN's training?\n\nA study (many learning rates, penalties, seeds) "
    "trains as one compiled program; every trial is watched for divergence, overfitting and dead units.\n\n"
    "Start with:  jaxlab run scripts/studies/learning_rate.toml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="The study file, TOML.", metavar="STUDY.toml")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the study file, e.g. epochs=3. May be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write.  [default: runs/NAME]")] = None,
    width: Annotated[int | None, typer.Option(help="Trials per device side by side.  [default: by device]")] = None,
    devices: Annotated[int | None, typer.Option(help="Host devices on a CPU.  [default: one per core]")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take; train and write nothing.")] = False,
) -> None:
    """Train a study and print what it found.

    The folder holds results.zarr, which xarray.open_zarr opens without jaxlab. A finished run is shown, not trained
    again; another study is never overwritten.
    """
    use_all_cores(devices)
    from jaxlab.study import load_study

    loaded = load_study(study, changes or ())
    if dry_run:
        print_plan(loaded.plan(width=width), loaded.name)
        return
    folder = out or Path("runs") / loaded.name
    with Watcher(loaded.name) as watcher:
        try:
            results = loaded.run(folder, width=width, progress=watcher)
        except KeyboardInterrupt:
            print(f"jaxlab: interrupted; {folder} keeps what was finished: jaxlab show {folder}", file=sys.stderr)
            raise SystemExit(130) from None
    print_run(results, folder)


@app.command()
def show(run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")]) -> None:
    """Print what a run found, from disk."""
    from jaxlab.store import read_results

    print_run(read_results(run), run)
