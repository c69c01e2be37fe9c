"""The summary of a benchmark, computed from the rows alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmark.cells import AWKWARD, MANY
from benchmark.machine import MOST
from benchmark.problem import OURS, PROCESSES
from benchmark.timing import Row


def ratios(rows: Iterable[Row]) -> dict[tuple[str, int, str], float]:
    """jaxlab's rate over that of each other contender, by cell, number of trials and contender.

    It is the median over common rounds, so that a change of the machine's speed between rounds cancels. Processes are
    not timed in these rounds; theirs is a ratio of medians.
    """
    measured = {(row["cell"], row["trials"], row["contender"]): row for row in rows if "rate" in row}
    found = {}
    for (cell, trials, name), other in measured.items():
        ours = measured.get((cell, trials, OURS))
        if ours is not None and name != OURS:
            paired = name != PROCESSES
            found[cell, trials, name] = _paired(ours, other) if paired else ours["rate"] / other["rate"]
    return found


def _paired(ours: Row, other: Row) -> float:
    rates = [
        (ours["trial_steps_per_call"] / a) / (other["trial_steps_per_call"] / b)
        for a, b in zip(ours["seconds"], other["seconds"], strict=False)
    ]
    return float(np.median(rates))


def with_shares(rows: Iterable[Row], step_flops: Mapping[str, int]) -> list[Row]:
    """Add to each row its share of the best matmul rate.

    The best rate is that of the whole run, not of the same rounds, since other load can only lower a rate.
    """
    rows = list(rows)
    best = max((row["flops_per_second"] for row in rows if row["contender"] == "matmul"), default=0)
    found = []
    for row in rows:
        if row["contender"] == "matmul":
            row = row | {"share_of_best": row["flops_per_second"] / best}
        elif "rate" in row:
            row = row | {"share_of_matmul": row["rate"] * step_flops[row["cell"]] / best}
        found.append(row)
    return found


def disturbed(rows: Iterable[Row]) -> list[tuple[str, int]]:
    """Cells and numbers of trials during whose rounds other processes were busy."""
    matmuls = [row for row in rows if row["contender"] == "matmul"]
    return [(row["cell"], row["trials"]) for row in matmuls if (row["others_share"] or 0) > MOST]


def geometric_mean(values: Sequence[float]) -> float:
    """exp(mean(log(values)))."""
    return float(np.exp(np.mean(np.log(values))))


def summarise(measured: Mapping[str, Any]) -> list[Row]:
    """One row per figure: its name, value, unit and details. A figure without measurements has no row.

    Args:
        measured: rows by kind: ``rows``, ``from_nothing``, ``diagnostics``, ``stopping``, ``saving``. Each is optional.
    """
    measured = defaultdict(tuple, measured)
    rows = measured["rows"]
    found = ratios(rows)
    awkward = {key: value for key, value in found.items() if key[0] in AWKWARD}
    summary = _worst(found, "") + _worst(awkward, ", awkward cells")
    for name, words in (("loop", "the warm jitted loop"), ("vmap", "plain vmap")):
        summary += _mean(found, name, f"speedup over {words}, geometric mean over cells")
        summary += _mean(awkward, name, f"speedup over {words}, geometric mean over awkward cells")
    for row in measured["from_nothing"]:
        ratio = row["processes_seconds"] / row[f"{OURS}_seconds"]
        words = f"speedup over one process per trial, {row['trials']} trials of {row['steps']} steps, with start-up"
        detail = (
            f"{row['cell']}: {row[f'{OURS}_seconds']:.1f} s instead of {row['processes_seconds']:.0f} s "
            f"(extrapolated from {row['processes_run']} processes)"
        )
        summary.append(_row(words, ratio, detail))
    summary += _shares(rows) + _diagnostics(measured["diagnostics"])
    return summary + _stopping(measured["stopping"]) + _saving(measured["saving"]) + _disturbed(rows)


def _row(words: str, value: float, detail: str, unit: str = "×") -> Row:
    return {"goal": words, "value": value, "unit": unit, "detail": detail}


def _worst(found: Mapping[tuple[str, int, str], float], where: str) -> list[Row]:
    """The smallest speedup over any other contender, and where; processes do not count."""
    warm = {key: value for key, value in found.items() if key[2] != PROCESSES}
    if not warm:
        return []
    (cell, trials, name), value = min(warm.items(), key=lambda item: item[1])
    count = f"{trials} trial{'s' * (trials != 1)}"
    return [_row(f"smallest speedup over any contender{where}", value, f"{cell}, {count}, {name}")]


def _mean(found: Mapping[tuple[str, int, str], float], name: str, words: str) -> list[Row]:
    """The geometric mean of the speedups over one contender, from `MANY` trials on, with the smallest and largest."""
    values = [
        (value, cell) for (cell, trials, other), value in found.items() if other == name and trials >= MANY
    ]
    if not values:
        return []
    detail = " to ".join(f"{value:.2f} ({cell})" for value, cell in (min(values), max(values)))
    mean = geometric_mean([value for value, _ in values])
    return [_row(f"{words} with {MANY} trials or more", mean, detail)]


def _shares(rows: Sequence[Row]) -> list[Row]:
    """The largest share of each cell over numbers of trials; for the awkward cells, the smallest of these."""
    ours: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if row["contender"] == OURS and "share_of_matmul" in row and row["trials"] >= MANY:
            ours[row["cell"]][row["trials"]] = 100 * row["share_of_matmul"]
    found = []
    for cell, shares in ours.items():
        if cell not in AWKWARD:
            detail = ", ".join(f"{trials}: {share:.0f} %" for trials, share in shares.items())
            words = f"share of the matmul rate, {cell}"
            found.append(_row(words, max(shares.values()), f"by trials: {detail}", "%"))
    awkward = {cell: max(shares.values()) for cell, shares in ours.items() if cell in AWKWARD}
    if awkward:
        detail = ", ".join(f"{cell}: {share:.0f} %" for cell, share in awkward.items())
        words = "smallest share of the matmul rate, awkward cells"
        found.append(_row(words, min(awkward.values()), f"by cell: {detail}", "%"))
    return found


def _disturbed(rows: Sequence[Row]) -> list[Row]:
    found = disturbed(rows)
    detail = "; ".join(f"{cell}, {trials} trials" for cell, trials in found)
    return [_row("measured while other processes were busy", len(found), detail, "sets")] if found else []


def _diagnostics(rows: Sequence[Row]) -> list[Row]:
    return [
        _row(
            f"cost of diagnostics in an epoch, {row['cell']}",
            100 * (row["epoch_ratio"] - 1),
            f"in the evaluation alone: {100 * (row['evaluation_ratio'] - 1):.0f} %",
            "%",
        )
        for row in rows
    ]


def _stopping(rows: Sequence[Row]) -> list[Row]:
    found = []
    for row in rows:
        if "share" in row:
            seconds = {name: float(np.median(each)) for name, each in row["seconds"].items()}
            words = (
                f"share of the full time if three in four of {row['trials']} trials stop after {row['stopped_epoch']} "
                f"of {row['epochs']} epochs, {row['cell']}"
            )
            detail = (
                f"{seconds['stopping']:.1f} s at width {row['widths']['stopping']} instead of {seconds['full']:.1f} s "
                f"at width {row['widths']['full']}; {100 * row['ideal']:.1f} % of the epochs are trained"
                f"{_elsewhere(row)}"
            )
            found.append(_row(words, 100 * row["share"], detail, "%"))
    return found


def _saving(rows: Sequence[Row]) -> list[Row]:
    found = []
    for row in rows:
        if "ratio" in row:
            seconds = {name: float(np.median(each)) for name, each in row["seconds"].items()}
            ratios = np.divide(row["seconds"]["with"], row["seconds"]["without"])
            detail = (
                f"{row['trials']} trials, {row['epochs']} epochs: {seconds['with']:.1f} s with a run folder, "
                f"{seconds['without']:.1f} s without; by round {_percents(ratios - 1)}{_elsewhere(row)}"
            )
            found.append(_row(f"cost of a run folder, {row['cell']}", 100 * (row["ratio"] - 1), detail, "%"))
    return found


def _percents(shares: Iterable[float]) -> str:
    return ", ".join(f"{100 * share:.1f} %" for share in shares)


def _elsewhere(row: Row) -> str:
    share = row["others_share"]
    return (
        "" if share is None or share <= MOST else f"; other processes took {100 * share:.0f} % of the cores"
    )
