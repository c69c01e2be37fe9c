"""What all figures share: three panels under a title that says what was found, and how trials are drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from jaxlab.analysis import Line, by_setting, largest_stable, lines, stopped_early
from jaxlab.analysis.words import counted, label, setting
from jaxlab.plots.view import View, between, curve_colours, line_colours, set_x

INK, FAINT, WARNING = "#222222", "#888888", "#b2182b"
_MOST_CURVES, _MOST_TRIALS = 6, 4
_TITLE_WIDTH = 122


def panels(results: xr.Dataset, finding: str, note: str, titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with its finding on top, what it is drawn from below that, and one titled panel for each title."""
    figure = Figure(figsize=(14, 5.1), layout="constrained")
    finding = textwrap.fill(finding, _TITLE_WIDTH)
    extra = 0.05 * finding.count("\n")
    figure.get_layout_engine().set(rect=(0.005, 0, 0.99, 0.855 - extra), wspace=0.04)
    figure.text(0.012, 0.975, finding, fontsize=13, fontweight="bold", color=INK, va="top")
    figure.text(0.012, 0.905 - extra, f"{describe(results)}. {note}", fontsize=9.5, color="#555555", va="top")
    axes = list(figure.subplots(1, len(titles)))
    for letter, ax, title in zip("abc", axes, titles, strict=False):
        ax.set_title(f"{letter}   {title}", loc="left", fontsize=10.5, color=INK)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(True, color="#e6e6e6", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=9, colors="#444444")
    return figure, axes


def describe(results: xr.Dataset) -> str:
    """The study and its size in words."""
    name = results.attrs.get("title", "study")
    trials = counted(results.sizes["trial"], "trial")
    if "seed" not in results.coords:
        return f"{name}: {trials}"
    seeds = counted(len(set(results.seed.values.tolist())), "seed")
    early = stopped_early(results).sizes["trial"]
    stopped = f" ({early} stopped early: seen at their last)" if early else ""
    return f"{name}: {trials}, {seeds}, {counted(results.sizes['epoch'] - 1, 'epoch')}{stopped}"


def line_words(line: Line) -> str:
    """A line's name in a legend."""
    return setting(line.values) or "mean"


def draw_lines(
    ax: Axes, results: xr.Dataset, figures: xr.Dataset, name: str, view: View, compared: str = ""
) -> list[Line2D]:
    """One line of means for each combination of ``view.by``, every trial as a dot; gives the legend's entries.

    A trial that ``figures`` calls unstable is a cross in place of a dot. The means of ``compared`` are dotted, and the
    space between the two is filled.
    """
    followed = lines(by_setting(figures, [view.over, *view.by]), view.over, view.by)
    colours = line_colours(results, view, len(followed))
    handles = []
    for line, colour in zip(followed, colours, strict=True):
        x, y = line.points[view.over].values, line.points[name].values
        if view.joined:
            ax.plot(x, y, color=colour, linewidth=1.8, marker="o", markersize=3.5)
        if compared and view.joined:
            other = line.points[compared].values
            ax.plot(x, other, ":", color=colour, linewidth=1.8)
            ax.fill_between(x, y, other, color=colour, alpha=0.15, linewidth=0)
        elif compared:
            ax.scatter(figures[view.over], figures[compared], s=26, edgecolors=colour, facecolors="none")
        _draw_trials(ax, figures, name, view, line, colour)
        handles.append(
            Line2D([], [], color=colour, linewidth=2, marker="o", markersize=4, label=line_words(line))
        )
    return handles


def _draw_trials(ax: Axes, figures: xr.Dataset, name: str, view: View, line: Line, colour) -> None:
    own = figures.isel(trial=np.flatnonzero(matching(figures, line.values)))
    x, y = own[view.over].values.astype(float), own[name].values
    bad = own.unstable.values.astype(bool) if "unstable" in own else np.zeros(len(x), bool)
    size, alpha = (14, 0.4) if view.joined else (26, 0.75)
    ax.scatter(x[~bad], y[~bad], s=size, color=colour, alpha=alpha, linewidths=0, zorder=3)
    ax.scatter(x[bad], y[bad], s=34, color=colour, marker="x", linewidths=1.3, zorder=3)


def matching(figures: xr.Dataset, values: dict) -> np.ndarray:
    """Whether each trial has these values."""
    same = np.ones(figures.sizes["trial"], bool)
    for name, value in values.items():
        same &= figures[name].values == value
    return same


def draw_curves(ax: Axes, figures: xr.Dataset, name: str, view: View) -> None:
    """Curves over epochs of a few values of ``view.over``, each trial by itself, the first line of settings alone."""
    first = lines(by_setting(figures, [view.over, *view.by]), view.over, view.by)[0]
    own = figures.isel(trial=np.flatnonzero(matching(figures, first.values)))
    values = sorted(set(own[view.over].values.tolist()))
    chosen = [values[i] for i in np.unique(np.linspace(0, len(values) - 1, _MOST_CURVES).round().astype(int))]
    for value, colour in zip(chosen, curve_colours(view, len(chosen)), strict=True):
        trials = np.flatnonzero(own[view.over].values == value)[:_MOST_TRIALS]
        words = view.ticks[int(value)] if view.ticks else f"{value:.3g}"
        for number, trial in enumerate(trials):
            curve = own[name].isel(trial=int(trial))
            known = np.flatnonzero(np.isfinite(curve.values))
            ax.plot(curve.epoch, curve, color=colour, linewidth=1.3, label=None if number else words)
            if len(known) and bool(own.diverged[int(trial)] if "diverged" in own else False):
                ax.plot(curve.epoch[known[-1]], curve[known[-1]], "x", color=colour, markersize=7, mew=1.8)
    epoch_axis(ax, figures)
    title = view.label + (f"\n(at {setting(first.values)})" if first.values else "")
    legend(ax, title=title, loc="upper left", bbox_to_anchor=(1.01, 1.02))


def epoch_axis(ax: Axes, figures: xr.Dataset) -> None:
    """All epochs of the study, reached or not."""
    last = int(figures.epoch[-1])
    ax.set_xlabel("epoch")
    ax.set_xlim(-0.03 * last, 1.03 * last)
    ax.xaxis.get_major_locator().set_params(integer=True)


def percent_axis(axis: Axis) -> None:
    """Shares in percent."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g} %"))


def key(figure: Figure, handles: list[Line2D]) -> None:
    """One row, or a few, that says what the lines of all panels are, between the note and the panels."""
    if not handles:
        return
    long = sum(len(handle.get_label()) + 8 for handle in handles) > 150
    columns = 3 if long else len(handles)
    left, bottom, width, height = figure.get_layout_engine().get()["rect"]
    place = {"loc": "upper left", "bbox_to_anchor": (0.004, bottom + height + 0.022)}
    figure.legend(handles=handles, ncols=columns, fontsize=9, frameon=False, **place)
    height -= 0.035 * -(-len(handles) // columns)
    figure.get_layout_engine().set(rect=(left, bottom, width, height))


def legend(ax: Axes, handles: list[Line2D] | None = None, title: str = "", **options) -> None:
    """A legend without a border, by default where the panel is emptiest."""
    given = {} if handles is None else {"handles": handles}
    drawn = ax.legend(**given, title=title, fontsize=8.5, title_fontsize=8.5, frameon=True, **options)
    drawn.get_frame().set(edgecolor="none", facecolor="white", alpha=0.8)
    drawn.set_alignment("left")


def x_axis(ax: Axes, results: xr.Dataset, view: View) -> None:
    """The x axis of a panel that follows ``view.over``; before `shade_unstable`."""
    set_x(ax, view, results[view.over].values.astype(float))


def log_y(ax: Axes) -> None:
    """A logarithmic y axis with plain numbers, also where it spans less than a decade."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 30 else (1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def shade_unstable(ax: Axes, results: xr.Dataset, view: View) -> None:
    """Shade from the first value of ``view.over`` on at which some trial is unstable; after `x_axis`."""
    if not view.joined or "unstable" not in results:
        return
    bad = largest_stable(results, view.over, view.by).smallest_unstable.values
    if np.isnan(bad).all():
        return
    first, values = np.nanmin(bad), results[view.over].values
    below = values[values < first]
    left = between(view, float(below.max()), float(first)) if below.size else ax.get_xlim()[0]
    ax.axvspan(left, ax.get_xlim()[1], color=WARNING, alpha=0.07, linewidth=0, zorder=0)
    place = {"xycoords": "axes fraction", "ha": "right", "va": "bottom", "fontsize": 8.5, "color": WARNING}
    ax.annotate("unstable", (1, 1.01), **place)


def averaged(view: View) -> str:
    """What the lines of a figure are means of, in words."""
    if not view.joined:
        return "Dots: single trials."
    over = " and ".join(["seeds", *map(label, view.averaged)])
    return f"Lines: mean over {over}; dots: single trials."
