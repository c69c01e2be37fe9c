"""The figures of every setting as plain text tables, for the terminal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from jaxlab.analysis.measures import dead_units, divergence, overfitting
from jaxlab.analysis.settings import by_setting, varied
from jaxlab.analysis.summary import summary
from jaxlab.analysis.words import amount, difference, label, number, percent

# Heading -> the text of one setting.
Columns = dict[str, Callable[[xr.Dataset], str]]

_MOST_LAYERS = 5


def divergence_table(results: xr.Dataset) -> str:
    """One line a setting: share of trials diverged and unstable, first bad step, oscillation, final loss."""
    columns: Columns = {
        "diverged": _share("diverged"),
        "unstable": _share("unstable"),
        "not converged": _share("not_converged"),
        "bad step": _number("first_bad_step"),
        "oscillation": _share("oscillation"),
        "loss ratio": _number("loss_ratio"),
    }
    notes = (
        "diverged: share of trials with a loss, gradient or parameter that was not finite; bad step: the first such.",
        "unstable: diverged, or the final training loss above the initial one, or not converged (Sohl-Dickstein 2024).",
        "oscillation: share of sign changes of the loss; loss ratio: final / initial, of trials that did not diverge.",
    )
    return _table(results, divergence(results), columns, notes)


def overfitting_table(results: xr.Dataset) -> str:
    """One line a setting: train, validation and test metric, their gap, and how far validation loss has risen."""
    figures = overfitting(results)
    metric, units = figures.attrs["metric"], figures.attrs["units"]

    def value(name: str) -> Callable[[xr.Dataset], str]:
        return lambda row: amount(float(row[name]), metric, units)

    columns: Columns = {"train": value("train"), "validation": value("validation")}
    if "test" in figures:
        columns["test"] = value("test")
    columns |= {
        "gap": lambda row: difference(float(row.gap), metric, units).removesuffix(" points"),
        "best": value("best_validation"),
        "best epoch": lambda row: f"{float(row.best_epoch):.1f}",
        "rise": lambda row: f"{float(row.rise):.3g}",
        "GL": lambda row: percent(float(row.generalization_loss) / 100),
    }
    points = ", points" if metric.endswith("accuracy") else ""
    notes = (
        f"{label(metric)} at the last epoch; best: validation at the best epoch; gap: training to validation{points}.",
        "rise: validation loss at the end / its minimum; GL: Prechelt's generalisation loss at the end.",
    )
    return _table(results, figures, columns, notes)


def dead_units_table(results: xr.Dataset) -> str:
    """One line a setting: dead share before and after training, by layer, and units that died and revived."""
    figures = dead_units(results)
    columns: Columns = {"start": _share("start"), "end": _share("end")}
    layers = [str(name) for name in figures.layer.values]
    if 1 < len(layers) <= _MOST_LAYERS:
        columns |= {name: _layer(index) for index, name in enumerate(layers)}
    elif len(layers) > 1:
        columns["worst layer"] = _share("worst_end")
    columns |= {name: _share(name) for name in ("dormant", "died", "revived") if name in figures}
    notes = (
        "Shares of the units, mean over layers; dead: zero on the whole training set; by layer: at the end.",
        "died, revived: events per unit while training, so that end = start + died - revived.",
    )
    return "\n".join([_table(results, figures, columns, notes), *_crossings(results)])


def _crossings(results: xr.Dataset) -> list[str]:
    """Where 10 % and 40 % of the units are dead, in the words of the summary."""
    rows = [row for row in summary(results) if row.question.endswith("of units dead")]
    return ["", *(f"{row.question}: {row.answer}" for row in rows)]


def _share(name: str) -> Callable[[xr.Dataset], str]:
    return lambda row: percent(float(row[name]))


def _number(name: str) -> Callable[[xr.Dataset], str]:
    return lambda row: number(float(row[name]))


def _layer(index: int) -> Callable[[xr.Dataset], str]:
    return lambda row: percent(float(row.end_by_layer[index]))


def _table(results: xr.Dataset, figures: xr.Dataset, columns: Columns, notes: tuple[str, ...]) -> str:
    """Aligned text: one line a setting, the mean over its seeds."""
    names = varied(results)
    means = by_setting(figures, names)
    lines = [[*map(label, names), "trials", *columns]]
    for index in range(means.sizes["setting"]):
        row = means.isel(setting=index)
        settings = [number(row[name].item()) for name in names]
        lines.append([*settings, str(int(row.trials)), *(text(row) for text in columns.values())])
    widths = np.max([[len(cell) for cell in line] for line in lines], axis=0)
    aligned = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    ]
    return "\n".join([aligned[0], "-" * len(aligned[0]), *aligned[1:], "", *notes])
