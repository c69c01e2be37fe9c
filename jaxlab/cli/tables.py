"""Plans, results and verifications as tables on standard output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.table import Table

from jaxlab.analysis import limits_table, summary
from jaxlab.analysis.words import counted
from jaxlab.cli.terminal import Terminal
from jaxlab.pruning import Outcome
from jaxlab.store import texts
from jaxlab.study import Plan, Verification


def print_plan(plan: Plan, name: str) -> None:
    """Print the plan of a study: groups, packs, compilations, memory and time."""
    console = Terminal()
    title = f"{name}: {counted(plan.trials, 'trial')} × {counted(plan.epochs, 'epoch')}"
    table = Table(title=title, title_justify="left")
    for column in ("group", "trials", "width", "packs", "compile", "memory", "training"):
        table.add_column(column, justify="left" if column == "group" else "right")
    for group, words in zip(plan.groups, _groups(plan), strict=True):
        table.add_row(
            words,
            str(group.trials),
            str(group.width),
            str(group.packs),
            duration(group.compile_seconds),
            size(group.memory_bytes),
            f"≈ {duration(group.seconds)}",
        )
    console.print(table)
    console.print(
        f"{counted(len(plan.groups), 'compiled program')} on {plan.devices} × {plan.device_kind}; "
        f"about {duration(plan.seconds)} in total. No results were written."
    )
    console.print(
        "Width: trials side by side on each device. Memory is per device; time is extrapolated from two epochs "
        "of each group's first pack.",
        style="dim",
    )


def _groups(plan: Plan) -> list[str]:
    """The configuration values that distinguish each group; values of different types have different texts."""
    words: list[list[str]] = [[] for _ in plan.groups]
    for name in dict.fromkeys(name for group in plan.groups for name in group.configuration):
        those = [index for index, group in enumerate(plan.groups) if name in group.configuration]
        shown = texts([plan.groups[index].configuration[name] for index in those])
        for index, text in zip(those, shown, strict=True):
            words[index].append(f"{name}={text}")
    return [" ".join(each) or "all" for each in words]


def print_run(results: xr.Dataset, folder: Path) -> None:
    """Print the summary of a run, the limits of its settings, and times."""
    console = Terminal()
    # A run that was killed before anything was recorded has no outcomes.
    trials = results.sizes["trial"]
    outcome = results.outcome.values if "outcome" in results else np.full(trials, "unfinished")
    counts = {key: int((outcome == key).sum()) for key in Outcome}
    ended = ", ".join(f"{count} {key}" for key, count in counts.items() if count)
    attributes = results.attrs
    title = f"{attributes['title']}: {counted(trials, 'trial')}, {ended}"
    table = Table("question", "answer", title=title, title_justify="left")
    for row in summary(results):
        table.add_row(*row)
    console.print(table)
    limits = limits_table(results)
    if limits:
        for line in (*limits.splitlines(), ""):
            console.print(line, highlight=False, soft_wrap=True)
    if attributes.get("train_seconds"):
        console.print(times(attributes))
    if attributes.get("changes"):
        console.print(f"Changed during the run: {attributes['changes']}.")
    console.print(
        f"xarray.open_zarr({str(folder / 'results.zarr')!r}) opens the results.", style="dim", soft_wrap=True
    )


def print_verification(found: Verification, folder: Path) -> None:
    """Print for each trial whether it was reproduced, and what has changed since the run."""
    console = Terminal()
    title = f"{folder}: {counted(len(found.trials), 'trial')} trained again"
    table = Table("trial", "id", "bitwise equal", title=title, title_justify="left")
    for verdict in found.trials:
        table.add_row(str(verdict.trial), verdict.trial_id, _equality(verdict.differs))
    console.print(table)
    if found.changes:
        console.print(f"Changed since the run: {'; '.join(found.changes)}.")
    elif not found.equal:
        console.print("Versions, device and code are the same as in the run.")


def _equality(differs: tuple[str, ...]) -> str:
    if not differs:
        return "yes"
    more = f" and {len(differs) - 1} more" if len(differs) > 1 else ""
    return f"no: {differs[0]}{more}"


def times(attributes: Mapping[str, Any]) -> str:
    """The times of a run and its devices, in words."""
    words = f"Compiled in {duration(attributes['compile_seconds'])}"
    if attributes.get("programs_from_cache"):
        words += f" ({attributes['programs_from_cache']} of {attributes['programs']} programs from the cache)"
    if attributes.get("probe_seconds", 0) > 1:
        words += f", width chosen in {duration(attributes['probe_seconds'])}"
    if "first_epoch_seconds" in attributes:
        words += f", first epoch done after {duration(attributes['first_epoch_seconds'])}"
    width = attributes["width"]
    return (
        f"{words}, trained in {duration(attributes['train_seconds'])} on {attributes['devices']} × "
        f"{attributes['device_kind']}, width {' and '.join(map(str, np.atleast_1d(width)))}."
    )


def duration(seconds: float) -> str:
    """Format seconds as seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def size(count: float) -> str:
    """Format bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
