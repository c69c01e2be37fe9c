"""The command line that the scripts ``measure_*.py`` share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from jaxlab.errors import InputError, visible
from jaxlab.plots.frame import describe
from jaxlab.plots.saving import save
from jaxlab.store import read_results


def measure(
    about: str,
    name: str,
    table: Callable[[xr.Dataset], str],
    draw: Callable[[xr.Dataset], Figure],
    arguments: Sequence[str] | None = None,
) -> int:
    """Read a run folder, print a table of it, and write one figure as PNG and SVG.

    Args:
        about: description for ``--help``.
        name: name of the figure's files, without suffix.
        table, draw: functions from results to the table and to the figure.
        arguments: arguments of the command line; by default those of this process.

    Returns:
        The exit status: 0, or 2 after one line on standard error if the run cannot be read or lacks a variable.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="a run folder, finished or not")
    parser.add_argument("--out", metavar="DIR", help="folder for the figure; by default the run folder")
    given = parser.parse_args(arguments)
    try:
        results = read_results(given.run)
        print(describe(results), end="\n\n")
        print(table(results), end="\n\n")
        for path in save(draw(results), Path(given.out or given.run) / name):
            print(f"wrote {visible(path)}")
    except InputError as error:
        print(f"{Path(sys.argv[0]).name}: {visible(error)}", file=sys.stderr)
        return 2
    return 0
