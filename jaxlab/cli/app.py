"""The commands; each is thin over a function that Python users call too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from jaxlab.cli.benchmark import benchmark
from jaxlab.cli.devices import keep_compiled_programs, use_all_cores, width_cache
from jaxlab.cli.progress import Watcher
from jaxlab.cli.tables import print_plan, print_run

app = typer.Typer(
    help="What does this hyperparameter do to my CNN's training?\n\nA study (many learning rates, penalties, seeds) "
    "trains as one compiled program; every trial is watched for divergence, overfitting and dead units.\n\n"
    "Start with:  jaxlab run scripts/studies/learning_rate.toml",
    epilog="Results: xarray.open_zarr('RUN/results.zarr'). Figures: python scripts/measure_dead_units.py RUN, likewise "
    "measure_divergence.py and measure_overfitting.py. Exit status: 0 done, 2 bad input, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_RUN = """Train a study and print what it found.

A study file says in its table configuration what is static (features, activation, optimizer, batch_size, ...: a new value is one more compiled program), in hyperparameters what is traced (learning_rate, l1, l2, decay, seed, ...: any value, no recompilation), and in space which settings to train, e.g.

  grid = { learning_rate = { log = [1e-4, 1], num = 13 }, l2 = [0, 1e-4], seed = { range = 3 } }

A finished run is shown, not trained again; a folder that holds another study is refused."""  # noqa: E501


@app.command(help=_RUN)
def run(
    study: Annotated[Path, typer.Argument(help="The study file, TOML.", metavar="STUDY.toml")],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change the study file, e.g. epochs=3. May be repeated."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write (default: runs/NAME).")] = None,
    width: Annotated[
        str,
        typer.Option(
            metavar="auto|INTEGER",
            help="Trials side by side on each device; auto: the fastest, tried where the study is long enough.",
        ),
    ] = "auto",
    devices: Annotated[
        int | None, typer.Option(help="Host devices on a CPU (default: one per core).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take; write no results.")
    ] = False,
) -> None:
    """Train a study and print what it found; see ``_RUN``."""
    use_all_cores(devices)
    keep_compiled_programs()
    from jaxlab.study import load_study

    loaded = load_study(study, changes or ())
    how = {"width": int(width) if width.isdecimal() else width, "width_cache": width_cache()}
    if dry_run:
        print_plan(loaded.plan(**how), loaded.name)
        return
    folder = out or Path("runs") / loaded.name
    if (folder / "run.json").exists() and not (folder / "complete").exists():
        print(f"jaxlab: {folder} was not finished; it is trained again from the start", file=sys.stderr)
    with Watcher(loaded.name) as watcher:
        try:
            results = loaded.run(folder, progress=watcher, **how)
        except KeyboardInterrupt:
            kept = (
                f"jaxlab show {folder} prints what was finished" if folder.exists() else "nothing was written"
            )
            print(f"jaxlab: interrupted; {kept}", file=sys.stderr)
            raise SystemExit(130) from None
    print_run(results, folder)


@app.command()
def show(run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")]) -> None:
    """Print what a run found, from disk."""
    from jaxlab.store import read_results

    print_run(read_results(run), run)


app.command()(benchmark)
