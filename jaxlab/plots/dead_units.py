"""The figure of dead units."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxlab.analysis import by_setting, dead_units, lines, threshold_crossing
from jaxlab.analysis.limits import SHARES
from jaxlab.analysis.words import counted, joined, number, percent
from jaxlab.plots.frame import (
    FAINT,
    WARNING,
    averaged,
    draw_curves,
    draw_lines,
    legend,
    marks,
    panels,
    percent_axis,
    shared_legend,
    visible_widths,
    with_verdicts,
    without_mathtext,
    x_axis,
)
from jaxlab.plots.view import View, ordered_colours, view_of


def dead_units_figure(results: xr.Dataset) -> Figure:
    """Draw the share of dead units against the learning rate, by setting and by layer, and over the epochs.

    Raises:
        InputError: the run does not count dead units, or no trial has completed an epoch.
    """
    results, view = view_of(results)
    figures = with_verdicts(dead_units(results), results)
    titles = ("dead units at the last epoch", "dead units by layer", "dead units during training")
    note = f"Dead: zero on the whole training set; mean over layers. {averaged(view)}{marks(figures)}"
    if view.by and view.joined:
        note += f" By layer: also mean over {joined([*view.by, *view.averaged])}."
    without = int((~figures.can_die).sum())
    if without:
        note += f" Without {counted(without, 'trial')} whose activation has no flat zero."
    figure, (ends, layers, curves) = panels(results, finding(results, figures, view), note, titles)

    handles = draw_lines(ends, results, figures, "end", view)
    _draw_layers(layers, figures, view)
    draw_curves(curves, figures, "curve", view, "end")
    for ax in (ends, layers):
        x_axis(ax, results, view)
    for ax in (ends, layers, curves):
        _share_axis(ax)
    ends.set_ylabel("share of dead units")
    shared_legend(figure, handles)
    return without_mathtext(figure)


def finding(results: xr.Dataset, figures: xr.Dataset, view: View) -> str:
    """The title: the finding about dead units in one sentence."""
    most = float(figures.end.max())
    if np.isnan(most):
        return "No unit can be dead: no activation of this run has a flat zero"
    if most == 0:
        return "No unit is dead at the end of any trial"
    up_to = f"Up to {percent(most)} of a trial's units are dead at the end"
    if view.ticks or not view.joined:
        return up_to
    parts: list[str] = []
    for share in SHARES:
        crossing = threshold_crossing(results, share, view.over, view.by).crossing.values
        if not np.isnan(crossing).all():
            words = "from" if parts else f"of the units are dead from {view.label}"
            parts.append(f"{percent(share)} {words} {_range(crossing, view)}")
    return ", ".join(parts) or up_to


def _range(crossing: np.ndarray, view: View) -> str:
    low, high = (number(float(edge(crossing))) for edge in (np.nanmin, np.nanmax))
    some = f" for some {joined(view.by)}" if np.isnan(crossing).any() else ""
    return f"{low if low == high else f'{low}–{high}'} on{some}"


def _draw_layers(ax: Axes, figures: xr.Dataset, view: View) -> None:
    """Draw one line per layer, averaged over everything but ``view.over``; the share before training is dashed."""
    names = [str(name) for name in figures.layer.values]
    (line,) = lines(by_setting(figures[["start_by_layer", "end_by_layer"]], [view.over]), ())
    x = line.points[view.over].values
    style = {} if view.joined else {"linestyle": "none"}
    colours = ordered_colours("cividis", 0.0, 0.82, len(names))
    ends, starts = (line.points[name].values for name in ("end_by_layer", "start_by_layer"))
    widths = visible_widths(list(ends.T))
    for index, (name, colour) in enumerate(zip(names, colours, strict=True)):
        end, start = ends[:, index], starts[:, index]
        style |= {"marker": "os^Dv"[index % 5], "markersize": widths[index] + 2.2, "linewidth": widths[index]}
        ax.plot(x, end, **style, color=colour, label=name)
        if view.joined:
            ax.plot(x, start, "--", color=colour, linewidth=1)
    if view.joined:
        ax.plot([], [], "--", color=FAINT, linewidth=1, label="before training")
    legend(ax)


def _share_axis(ax: Axes) -> None:
    ax.set_ylim(-0.03, 1.03)
    ticks = sorted({0, 0.2, 0.4, 0.6, 0.8, 1, *SHARES})
    ax.set_yticks(ticks)
    percent_axis(ax.yaxis)
    for share in SHARES:
        ax.axhline(share, color=WARNING, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        ax.get_yticklabels()[ticks.index(share)].set_color(WARNING)
