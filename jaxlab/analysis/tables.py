"""Plain-text tables of the measures of every setting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from jaxlab.analysis.averages import by_setting, values_of, varied
from jaxlab.analysis.limits import limits_table
from jaxlab.analysis.measures import dead_units, divergence, overfitting
from jaxlab.analysis.summary import summary
from jaxlab.analysis.words import aligned, amount, difference, label, number, numbers, percent

# Heading -> the text of one setting.
Columns = dict[str, Callable[[xr.Dataset], str]]

_MOST_LAYERS = 5


def divergence_table(results: xr.Dataset) -> str:
    """Tabulate stability, one row per setting: failed trials, first bad step, oscillation, final loss."""
    figures = divergence(results)
    idle = "did_not_learn" in figures
    columns: Columns = {
        "diverged": _share("diverged"),
        "unstable": _share("unstable"),
        "did not learn" if idle else "not converged": _share("did_not_learn" if idle else "not_converged"),
        "bad step": _number("first_bad_step"),
        "oscillation": _share("oscillation"),
        "loss ratio": _number("loss_ratio"),
    }
    notes = (
        "diverged: share of trials with a loss, gradient or parameter that is not finite; bad step: the first such.",
        "unstable: diverged, or the final training loss above the initial one, or not converged (Sohl-Dickstein 2024).",
        "did not learn: stable, but no better than before training or than the best constant answer.",
        "oscillation: share of sign changes of the loss; loss ratio: final / initial, of trials that did not diverge.",
    )
    return _table(results, figures, columns, notes if idle else (*notes[:2], notes[3]))


def overfitting_table(results: xr.Dataset) -> str:
    """Tabulate overfitting, one row per setting: metrics of each split, their gap, the rise of the validation loss."""
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
        "best epoch": lambda row: "-" if np.isnan(row.best_epoch) else f"{float(row.best_epoch):.1f}",
        "rise": _number("rise"),
        "GL": lambda row: percent(float(row.generalization_loss) / 100),
    }
    points = ", points" if metric.endswith("accuracy") else ""
    notes = (
        f"{label(metric)} at the last epoch; best: validation at the best epoch; gap: training to validation{points}.",
        "rise: validation loss at the end / its minimum; GL: Prechelt's generalisation loss at the end.",
    )
    if "chance" in figures.attrs:
        level = amount(figures.attrs["chance"], metric, units)
        notes += (f"chance level: validation {level}, with the same answer to every example.",)
    return _table(results, figures, columns, notes)


def dead_units_table(results: xr.Dataset) -> str:
    """Tabulate dead units, one row per setting: shares before and after training, by layer, deaths and revivals."""
    figures = dead_units(results)
    columns: Columns = {"start": _share("start"), "end": _share("end")}
    layers = [str(name) for name in figures.layer.values]
    if 1 < len(layers) <= _MOST_LAYERS:
        columns |= {name: _layer(index) for index, name in enumerate(layers)}
    elif len(layers) > 1:
        columns["worst layer"] = _share("worst_end")
    columns |= {"dormant": _share("dormant")} if "dormant" in figures else {}
    columns |= {name: _events(name) for name in ("died", "revived") if name in figures}
    notes = (
        "Shares of units, mean over layers; dead: zero on the whole training set; layers: at the end of training.",
        "died, revived: events per unit during training (a unit may die again): end = start + died - revived.",
    )
    if not bool(figures.can_die.all()):
        notes += ('"-": the activation has no flat zero, so no unit can be dead.',)
    return "\n".join([_table(results, figures, columns, notes), *_crossings(results)])


def _crossings(results: xr.Dataset) -> list[str]:
    """The summary's rows on where 10 % and 40 % of the units are dead, and the table of limits."""
    rows = [row for row in summary(results) if row.question.endswith("of units dead")]
    table = limits_table(results)
    return ["", *(f"{row.question}: {row.answer}" for row in rows), *(["", table] if table else [])]


def _share(name: str) -> Callable[[xr.Dataset], str]:
    return lambda row: percent(float(row[name]))


def _events(name: str) -> Callable[[xr.Dataset], str]:
    return lambda row: "-" if np.isnan(row[name]) else f"{float(row[name]):.2f}"


def _number(name: str) -> Callable[[xr.Dataset], str]:
    return lambda row: number(float(row[name]))


def _layer(index: int) -> Callable[[xr.Dataset], str]:
    return lambda row: percent(float(row.end_by_layer[index]))


def _table(results: xr.Dataset, figures: xr.Dataset, columns: Columns, notes: tuple[str, ...]) -> str:
    """An aligned table: one row per setting, averaged over its seeds, and notes below it."""
    names = varied(results)
    means = by_setting(figures, names)
    settings = [numbers(values_of(means[name])) for name in names]
    rows = []
    for index in range(means.sizes["setting"]):
        row = means.isel(setting=index)
        values = [column[index] for column in settings]
        rows.append([*values, str(int(row.trials)), *(text(row) for text in columns.values())])
    return "\n".join([*aligned([*map(label, names), "trials", *columns], rows), "", *notes])
