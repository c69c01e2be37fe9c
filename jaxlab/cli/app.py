"""The commands of the command line, each thin over a public Python function."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from jaxlab.checks import number
from jaxlab.cli.devices import keep_compiled_programs, use_all_cores, width_cache
from jaxlab.cli.progress import Watcher
from jaxlab.cli.signals import Signals
from jaxlab.cli.tables import print_plan, print_run, print_verification
from jaxlab.cli.terminal import say
from jaxlab.devices import MAX_DEVICES
from jaxlab.errors import InputError, RunInterrupted

app = typer.Typer(
    help="What does this hyperparameter do to my CNN's training?\n\nA study (many learning rates, penalties, seeds) "
    "trains as one compiled program, which measures divergence, overfitting and dead units of every trial.\n\n"
    "Start with:  jaxlab run scripts/studies/learning_rate.toml",
    epilog="Results: xarray.open_zarr('RUN/results.zarr'). Figures: python scripts/measure_dead_units.py RUN, likewise "
    "measure_divergence.py and measure_overfitting.py. Exit status: 0 done, 1 not reproduced (verify), 2 bad input, "
    "75 stopped by SIGTERM or SIGUSR1 and saved (the same command resumes), 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help is plain text: brackets are brackets
    context_settings={"help_option_names": ["-h", "--help"]},
)


_RUN = """Train a study and print its results.

The table [configuration] of a study file sets what is static (features, activation, optimizer, batch_size, ...: each new value compiles another program). The table [hyperparameters] sets what is traced (learning_rate, l1, l2, decay, seed, ...: any value, no recompilation). The table [space] lists the settings to train, e.g.

\b
  grid = { learning_rate = { log = [1e-4, 1], num = 13 }, l2 = [0, 1e-4], seed = { range = 3 } }

Every field, with its default and meaning: docs/fields.md. The table [pruning] lists the stopping rules, e.g.

\b
  [pruning]
  median = { warmup_epochs = 3 }

An interrupted run resumes from its last checkpoint, however it ended. With more epochs or added settings, only what is new is trained. A finished run is shown. A folder that holds another study is an error. On SIGTERM or SIGUSR1, the call in progress finishes, the run is saved, and the exit status is 75."""  # noqa: E501


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
            help="Trials side by side on each device; auto: the fastest, measured if the study is long enough.",
        ),
    ] = "auto",
    devices: Annotated[
        int | None, typer.Option(help="Host devices on a CPU (default: one per core).")
    ] = None,
    checkpoint_every: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Time between checkpoints (default: 30, or longer where they take over 1 % of the time).",
        ),
    ] = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="Resume although versions, code, device or --width have changed since the run began.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate time and memory; write no results.")
    ] = False,
) -> None:
    """Train a study and print its results; ``_RUN`` is the help text."""
    use_all_cores(devices)
    keep_compiled_programs()
    from jaxlab.study import load_study

    with _warnings_as_lines(), _no_exit(study):
        loaded = load_study(study, changes or ())
    if checkpoint_every is not None:
        number("--checkpoint-every", checkpoint_every, 0)
    how = {"width": int(width) if width.isdecimal() else width, "width_cache": width_cache()}
    if dry_run:
        say(f"{loaded.name}: {loaded.data.summary()}")
        with _no_exit(study):
            plan = loaded.plan(**how)
        print_plan(plan, loaded.name)
        return
    folder = out or Path("runs") / loaded.name
    with Signals() as signals:
        with Watcher(loaded.name, signals, loaded.data.summary()) as watcher:
            try:
                with _no_exit(study):
                    results = loaded.run(
                        folder,
                        progress=watcher,
                        checkpoint_seconds=checkpoint_every,
                        stop=signals.asked,
                        accept_changes=accept_changes,
                        **how,
                    )
            except (KeyboardInterrupt, RunInterrupted) as error:
                say(f"jaxlab: {_how_it_ended(error, folder)}")
                raise SystemExit(signals.status) from None
        signals.over = True
        print_run(results, folder)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print warnings as lines on standard error, without source lines."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for each in caught:
        say(f"jaxlab: {each.message}")


@contextmanager
def _no_exit(study: Path | None) -> Iterator[None]:
    """Turn ``sys.exit`` in one of a study's functions into InputError: they may not end the process."""
    try:
        yield
    except SystemExit as error:
        frames = [each for each in traceback.extract_tb(error.__traceback__) if Path(each.filename).is_file()]
        folder = None if study is None else study.absolute().parent
        users = [frame for frame in frames if folder in Path(frame.filename).absolute().parents]
        line = (users or frames)[-1]
        remedy = "calls sys.exit or exit: raise an exception with a message instead"
        raise InputError("study", f"{line.filename}:{line.lineno}", remedy) from error


def _how_it_ended(error: BaseException, folder: Path) -> str:
    if isinstance(error, RunInterrupted):
        return f"stopped and saved; the same command resumes, jaxlab show {folder} prints what was finished"
    if (folder / "run.json").exists():
        return f"interrupted; the same command resumes, jaxlab show {folder} prints what was finished"
    return "interrupted; nothing was written"


@app.command()
def show(run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")]) -> None:
    """Print the results of a run folder."""
    from jaxlab.store import read_results

    with _warnings_as_lines():
        results = read_results(run)
    print_run(results, run)


@app.command()
def verify(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")],
    trials: Annotated[int, typer.Option(help="Number of trials, chosen at random.")] = 3,
    study: Annotated[
        Path | None,
        typer.Option(help="The study file, if the run was not started from one or uses custom functions."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the choice of trials.")] = None,
    devices: Annotated[
        int | None, typer.Option(help="Host devices on a CPU (default: as many as the run had).")
    ] = None,
) -> None:
    """Train some trials of a finished run again and report whether each is bitwise equal.

    The exit status is 0 if all are, else 1.
    """
    use_all_cores(_devices_of(run) if devices is None else devices)
    keep_compiled_programs()
    from jaxlab.study import load_study
    from jaxlab.study import verify as train_again

    with Watcher(f"verify {run}") as watcher, _no_exit(study):
        given = load_study(study) if study else None
        found = train_again(run, trials, study=given, seed=seed, progress=watcher)
    print_verification(found, run)
    raise typer.Exit(0 if found.equal else 1)


def _devices_of(run: Path) -> int:
    """The number of devices of a run, if this host can create as many."""
    from jaxlab.store import RunFolder

    count = RunFolder(run).describe().environment.devices
    if count > MAX_DEVICES:
        remedy = f"was trained on {count} devices, too many for this host: give their number with --devices"
        raise InputError("run", str(run), remedy)
    return count
