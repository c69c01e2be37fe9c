"""The figure of overfitting."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from jaxlab.analysis import best_setting, largest_gap, matching, overfitting
from jaxlab.analysis.words import amount, difference, label, setting
from jaxlab.diagnostics import or_worst
from jaxlab.plots.frame import (
    FAINT,
    INK,
    averaged,
    draw_lines,
    epoch_axis,
    legend,
    log_y,
    mark_lost,
    marks,
    opacity,
    panels,
    percent_axis,
    shared_legend,
    visible_widths,
    with_verdicts,
    without_mathtext,
    x_axis,
)
from jaxlab.plots.view import view_of

_BEST, _WORST = "#0072B2", "#D55E00"
# A longer setting is named in the title only: the legend would not fit.
_LONGEST = 35
_RING = {"marker": "o", "markersize": 7, "markerfacecolor": "none", "markeredgewidth": 1.3}


def overfitting_figure(results: xr.Dataset) -> Figure:
    """Draw training and validation metric and their gap against the learning rate, and loss curves of two settings.

    The two are the best setting and the one with the largest gap, see `jaxlab.analysis`.

    Raises:
        InputError: the run lacks training or validation metrics, or no trial has completed an epoch.
    """
    study = results
    results, view = view_of(results)
    figures = with_verdicts(overfitting(results), results)
    metric, units = figures.attrs["metric"], figures.attrs["units"]
    name = label(metric)
    titles = (f"{name} at the last epoch", f"generalisation gap in {name}", "loss during training")
    note = f"{averaged(view)}{marks(figures)}"
    if "chance" in figures.attrs:
        note += f" Chance level: {amount(figures.attrs['chance'], metric, units)} in validation."
    figure, (values, gaps, curves) = panels(results, finding(study), note, titles)

    handles = draw_lines(values, results, figures, "validation", view, compared="train")
    draw_lines(gaps, results, figures, "gap", view)
    gaps.axhline(0, color=FAINT, linewidth=1, linestyle="--", zorder=1)
    for ax in (values, gaps):
        x_axis(ax, results, view)
    shared_legend(figure, [*_sets(view.joined), *handles])
    _two_curves(curves, study, figures)
    _label_metric_axes(values, gaps, metric, units, figures.attrs["better"])
    _draw_chance(values, figures)
    for ax in (values, gaps):
        mark_lost(ax, figures, np.isinf(figures.gap), "not finite", view)
    return without_mathtext(figure)


def finding(results: xr.Dataset) -> str:
    """The title: the finding about overfitting in one sentence."""
    best, gap = best_setting(results), largest_gap(results)
    name = label(best.metric)
    value = amount(best.validation, best.metric, best.units)
    size = difference(gap.gap, gap.metric, gap.units)
    if not best.setting:
        if gap.gap < 0:
            ahead = difference(-gap.gap, gap.metric, gap.units)
            return f"Validation {name} ends at {value}, {ahead} ahead of training"
        return f"Validation {name} ends at {value}, {size} behind training"
    if best.setting == gap.setting:
        return f"Validation {name} is best ({value}) and the gap largest ({size}) at {setting(best.setting)}"
    return (
        f"Best validation {name} ({value}) at {setting(best.setting)}; "
        f"largest gap ({size}) at {setting(gap.setting)}"
    )


def _sets(joined: bool) -> list[Line2D]:
    """Legend entries of validation and training, as lines or as dots."""
    if joined:
        styles = {"linewidth": 1.6}, {"linewidth": 1.6, "linestyle": ":"}
    else:
        dot = {"linestyle": "", "marker": "o", "markersize": 5}
        styles = dot, dot | {"markerfacecolor": "none"}
    words = ("validation", "training")
    return [Line2D([], [], color=INK, label=word, **style) for word, style in zip(words, styles, strict=True)]


def _draw_chance(ax: Axes, figures: xr.Dataset) -> None:
    """Draw the chance level, unless it is so far away that it would compress the data."""
    level = figures.attrs.get("chance")
    low, high = ax.get_ylim()
    if level is None or not 2 * low - high <= level <= 2 * high - low:
        return
    ax.axhline(level, color=FAINT, linewidth=1.1, linestyle="-.", zorder=1)
    place = {"xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
    ax.annotate("chance", (1.01, level), fontsize=8, color="#666666", **place)


def _two_curves(ax: Axes, results: xr.Dataset, figures: xr.Dataset) -> None:
    """Draw the loss curves of every trial of the best setting and of the one with the largest gap."""
    best, worst = best_setting(results).setting, largest_gap(results).setting
    chosen = {"best": (best, _BEST)} | ({"largest gap": (worst, _WORST)} if worst != best else {})
    lowest = Line2D([], [], color=INK, linestyle="", label="lowest validation loss", **_RING)
    entries = [*_sets(True), lowest]
    shown = []
    for words, (values, colour) in chosen.items():
        trials = np.flatnonzero(matching(figures, values)).tolist()
        shown += [(figures.isel(trial=trial), colour) for trial in trials]
        text = f"{words}: {setting(values)}" if len(setting(values)) in range(1, _LONGEST) else words
        entries.append(Line2D([], [], color=colour, linewidth=3, label=text))
    widths = visible_widths([one.validation_loss.values for one, _ in shown], 1.3)
    for (one, colour), width in zip(shown, widths, strict=True):
        # Training below validation; its dots stay visible where both coincide.
        ax.plot(one.epoch, one.train_loss, color=colour, linewidth=width + 0.9, linestyle=":")
        ax.plot(one.epoch, one.validation_loss, color=colour, linewidth=width, alpha=opacity(width))
        loss = one.validation_loss.values
        if np.isfinite(loss).any():
            at = int(np.argmin(or_worst(loss, "lower")))
            ax.plot(one.epoch[at], loss[at], color=colour, **_RING)
    if len(shown) > len(chosen):
        entries.append(Line2D([], [], linestyle="", label="one pair of curves for each seed"))
    log_y(ax)
    epoch_axis(ax, figures)
    loss_units = figures.validation_loss.attrs.get("units", "1")
    ax.set_ylabel("loss" if loss_units == "1" else f"loss ({loss_units})")
    legend(ax, entries)


def _label_metric_axes(values: Axes, gaps: Axes, metric: str, units: str, better: str) -> None:
    shown = f" ({units})" if units != "1" else ""
    for ax in (values, gaps):
        ax.yaxis.set_major_formatter("{x:g}")  # no common factor in a corner
    values.set_ylabel(f"{label(metric)}{shown}")
    minus = "training - validation" if better == "higher" else "validation - training"
    gaps.set_ylabel(f"{minus}{shown}")
    if metric.endswith("accuracy"):
        percent_axis(values.yaxis)
        gaps.yaxis.set_major_formatter(FuncFormatter(lambda gap, _: f"{100 * gap:.4g}"))
        gaps.set_ylabel(f"{minus} (percentage points)")
