"""The parts that all figures share: panels under a title that states the finding, and the drawing of trials."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter
from matplotlib.typing import ColorType

from jaxlab.analysis import by_setting, largest_stable, lines, matching, stopped_early, values_of
from jaxlab.analysis.words import counted, joined, numbers, setting, settings
from jaxlab.errors import visible
from jaxlab.plots.view import View, between, curve_colours, line_colours, log_ticks, set_x

INK, FAINT, WARNING = "#222222", "#888888", "#b2182b"
_MOST_CURVES, _MOST_TRIALS = 6, 4
_STYLES = ("-", "--", "-.", ":")
_TITLE_WIDTH, _NOTE_WIDTH, _LEGEND_WIDTH, _LONGEST_NAME = 122, 170, 26, 60
_OUTSIDE = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02)}


def panels(results: xr.Dataset, finding: str, note: str, titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Make a figure: the finding on top, then the study and a note, then one panel for each title."""
    figure = Figure(figsize=(14, 5.1), layout="constrained")
    finding = textwrap.fill(finding, _TITLE_WIDTH)
    note = textwrap.fill(f"{describe(results)}. {note}", _NOTE_WIDTH)
    extra = 0.05 * finding.count("\n")
    below = 0.855 - extra - 0.035 * note.count("\n")
    figure.get_layout_engine().set(rect=(0.005, 0, 0.99, below), wspace=0.04)
    figure.text(0.012, 0.975, finding, fontsize=13, fontweight="bold", color=INK, va="top")
    figure.text(0.012, 0.905 - extra, note, fontsize=9.5, color="#555555", va="top")
    axes = list(figure.subplots(1, len(titles)))
    for letter, ax, title in zip("abc", axes, titles, strict=False):
        # Above the label that `x_axis` writes.
        ax.set_title(f"{letter}   {title}", loc="left", fontsize=10.5, color=INK, pad=17)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(True, color="#e6e6e6", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=9, colors="#444444")
    return figure, axes


def without_mathtext(figure: Figure) -> Figure:
    """Switch off mathtext in all text of a figure, so that dollar signs in a name are not a formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_usetex(False)
    return figure


def describe(results: xr.Dataset) -> str:
    """The name of the study and its size in words."""
    name = visible(results.attrs.get("title", "study"))
    name = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}\u2026"
    trials = counted(results.sizes["trial"], "trial")
    if "seed" not in results.coords:
        return f"{name}: {trials}"
    seeds = counted(len(set(results.seed.values.tolist())), "seed")
    early = stopped_early(results).sizes["trial"]
    stopped = f" ({early} stopped early: shown at their last epoch)" if early else ""
    return f"{name}: {trials}, {seeds}, {counted(results.sizes['epoch'] - 1, 'epoch')}{stopped}"


def draw_lines(
    ax: Axes, results: xr.Dataset, figures: xr.Dataset, name: str, view: View, compared: str = ""
) -> list[Line2D]:
    """Draw a line of means for each combination of ``view.by`` and a dot for each trial.

    An unstable trial is a cross instead of a dot, one that did not learn a square. The means of ``compared`` are
    dotted, and the area between both lines is filled.

    Returns:
        the legend entries, none where no name distinguishes lines.
    """
    followed = lines(by_setting(figures, [view.over, *view.by]), view.by)
    colours = line_colours(results, view, len(followed))
    words = settings([line.values for line in followed])
    widths = visible_widths([_finite(line.points[name].values) for line in followed])
    handles = []
    for line, colour, width, text in zip(followed, colours, widths, words, strict=True):
        x, y = line.points[view.over].values, _finite(line.points[name].values)
        if compared and view.joined:
            other = _finite(line.points[compared].values)
            ax.plot(x, other, ":", color=colour, linewidth=width + 1.2)
            ax.fill_between(x, y, other, color=colour, alpha=0.15, linewidth=0)
        elif compared:
            ax.scatter(
                figures[view.over], _finite(figures[compared]), s=26, edgecolors=colour, facecolors="none"
            )
        if view.joined:
            ax.plot(x, y, color=colour, linewidth=width, marker="o", markersize=width + 1.7)
        trials = figures.isel(trial=matching(figures, line.values))
        _draw_trials(ax, trials, name, view, colour)
        if view.by and ("can_die" not in trials or trials.can_die.any()):  # else nothing was drawn
            entry = {"linewidth": 2, "marker": "o", "markersize": 4, "label": text or "mean"}
            handles.append(Line2D([], [], color=colour, **entry))
    return handles


def visible_widths(curves: Sequence[np.ndarray], least: float = 1.8) -> list[float]:
    """Widths of lines that are drawn in order: a line that later ones cover is wider, so that it stays visible."""
    everything = np.concatenate([np.ravel(curve) for curve in curves])
    everything = everything[np.isfinite(everything)]
    if everything.size and everything.min() > 0 and everything.max() > 30 * everything.min():  # on a log axis
        curves, everything = [np.log10(curve) for curve in curves], np.log10(everything)
    near = 0.01 * np.ptp(everything) if everything.size else 0.0

    def covers(upper: np.ndarray, lower: np.ndarray) -> bool:
        # A curve that ends early hides only a part.
        hidden = np.abs(upper - lower)[np.isfinite(lower)] <= near
        return hidden.size > 0 and bool(hidden.mean() >= 0.5)

    def width(index: int) -> float:
        lower, above = curves[index], curves[index + 1 :]
        return least + 1.2 * min(3, sum(len(each) == len(lower) and covers(each, lower) for each in above))

    return [width(index) for index in range(len(curves))]


def opacity(width: float) -> float:
    """The opacity of a line with a width from `visible_widths`: wide lines are lighter than what covers them."""
    return 1.0 if width < 2 else 0.45


def _finite(values: np.ndarray | xr.DataArray) -> np.ndarray:
    values = np.asarray(values, float)
    return np.where(np.isfinite(values), values, np.nan)


def _draw_trials(ax: Axes, trials: xr.Dataset, name: str, view: View, colour: ColorType) -> None:
    x, y = trials[view.over].values.astype(float), _finite(trials[name])
    none = xr.zeros_like(trials[name], bool)
    bad, idle = (trials.get(flag, none).values.astype(bool) for flag in ("unstable", "did_not_learn"))
    dots, alpha = (14, 0.4) if view.joined else (26, 0.75)
    styles = [
        (~bad & ~idle, {"s": dots, "color": colour, "alpha": alpha, "linewidths": 0}),
        (bad, {"s": 34, "color": colour, "marker": "x", "linewidths": 1.3}),
        (idle, {"s": 30, "edgecolors": colour, "facecolors": "none", "marker": "s", "linewidths": 1.2}),
    ]
    for which, style in styles:
        if which.any():
            ax.scatter(x[which], y[which], zorder=3, **style)


def draw_curves(ax: Axes, figures: xr.Dataset, name: str, view: View, most: str) -> None:
    """Draw curves over epochs of single trials, for a few values of ``view.over`` on one line of settings.

    The line is the one with the largest mean of ``most``, ties by position. Trials at the same value differ in style.
    """
    followed = lines(by_setting(figures, [view.over, *view.by]), view.by)
    means = [np.nan_to_num(line.points[most].mean().item(), nan=-1) for line in followed]
    line = followed[int(np.argmax(means))]
    recorded = figures[name].notnull().any("epoch").values
    trials = figures.isel(trial=matching(figures, line.values) & recorded)
    values = sorted({value for value in values_of(trials[view.over]) if value == value})
    epoch_axis(ax, figures)
    if not values:
        return
    chosen = [values[i] for i in np.unique(np.linspace(0, len(values) - 1, _MOST_CURVES).round().astype(int))]
    words = [view.ticks[int(value)] for value in chosen] if view.ticks else numbers(chosen)
    shown = [
        (trial, rank)
        for rank, value in enumerate(chosen)
        for trial in np.flatnonzero(trials[view.over].values == value)[:_MOST_TRIALS].tolist()
    ]
    kinds = _kinds(trials, view, [trial for trial, _ in shown])
    colours = curve_colours(view, len(chosen))
    curves = [_finite(trials[name].isel(trial=trial)) for trial, _ in shown]
    for (trial, rank), curve, width in zip(shown, curves, visible_widths(curves, 1.3), strict=True):
        style = {"color": colours[rank], "linestyle": _STYLES[kinds[trial][0]], "linewidth": width}
        ax.plot(trials.epoch, curve, **style, alpha=opacity(width))
        known = np.flatnonzero(np.isfinite(curve))
        if len(known) and "diverged" in trials and bool(trials.diverged[trial]):
            end = known[-1]
            ax.plot(trials.epoch[end], curve[end], "x", color=colours[rank], markersize=7, mew=1.8)
    styles = dict(sorted(set(kinds.values())))
    entries = [Line2D([], [], color=colour, label=word) for word, colour in zip(words, colours, strict=True)]
    if len(styles) > 1:
        entries += [Line2D([], [], color=INK, linestyle=_STYLES[i], label=text) for i, text in styles.items()]
    at = f"(at {setting(line.values)})" if line.values else ""
    legend(ax, entries, title="\n".join([view.label, *textwrap.wrap(at, _LEGEND_WIDTH)]))


def _kinds(trials: xr.Dataset, view: View, shown: Sequence[int]) -> dict[int, tuple[int, str]]:
    """The line style of each trial shown and its meaning: the seed, and any other name that distinguishes trials.

    All trials have the first style if there are more kinds than styles.
    """
    names = [name for name in ("seed", *(() if view.ticks else view.averaged)) if name in trials.coords]
    columns = {name: values_of(trials[name]) for name in names}
    several = [name for name in names if len({columns[name][trial] for trial in shown}) > 1]
    rows = {trial: tuple(columns[name][trial] for name in several) for trial in shown}
    known = {row: index for index, row in enumerate(dict.fromkeys(rows.values()))}
    alone = len(set(values_of(trials[view.over][list(shown)]))) == len(shown)
    if alone or len(known) > len(_STYLES):
        return dict.fromkeys(shown, (0, "single trials"))
    words = settings([dict(zip(several, row, strict=True)) for row in known])
    return {trial: (known[row], words[known[row]]) for trial, row in rows.items()}


def epoch_axis(ax: Axes, figures: xr.Dataset) -> None:
    """Let the x axis show all epochs of the study, reached or not."""
    last = int(figures.epoch[-1])
    ax.set_xlabel("epoch")
    ax.set_xlim(-0.03 * last, 1.03 * last)
    ax.xaxis.get_major_locator().set_params(integer=True)


def percent_axis(axis: Axis) -> None:
    """Label an axis of shares in percent."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g} %"))


def shared_legend(figure: Figure, handles: list[Line2D]) -> None:
    """Draw the legend of the lines in all panels, between the note and the panels."""
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
    """Draw a legend to the right of its panel, where it covers no data; long entries are wrapped."""
    options = _OUTSIDE | options
    given = {} if handles is None else {"handles": handles}
    drawn = ax.legend(**given, title=title, fontsize=8.5, title_fontsize=8.5, frameon=True, **options)
    for text in drawn.get_texts():
        text.set_text(textwrap.fill(text.get_text(), _LEGEND_WIDTH))
    drawn.get_frame().set(edgecolor="none", facecolor="white", alpha=0.8)
    drawn.set_alignment("left")


def x_axis(ax: Axes, results: xr.Dataset, view: View) -> None:
    """Set the x axis of a panel to ``view.over``, and shade it from the smallest value with an unstable trial."""
    set_x(ax, view, results[view.over].values.astype(float))
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


def log_y(ax: Axes) -> None:
    """Make the y axis logarithmic with plain numbers, even where it spans less than a decade."""
    ax.set_yscale("log")
    log_ticks(ax.yaxis, *ax.get_ylim())


def averaged(view: View) -> str:
    """What the lines and dots of a figure show, in words."""
    if not view.joined:
        return "Dots: single trials."
    return f"Lines: mean over {joined(['seeds', *view.averaged])}; dots: single trials."


def with_verdicts(figures: xr.Dataset, results: xr.Dataset) -> xr.Dataset:
    """The figures with the flags of failed trials, where they are recorded."""
    flags = [flag for flag in ("unstable", "did_not_learn") if flag in results]
    return figures.assign({flag: results[flag].sel(trial=figures.trial) for flag in flags})


def marks(figures: xr.Dataset) -> str:
    """What the markers of failed trials mean, in words."""
    words = " ×: unstable trial." if "unstable" in figures and bool(figures.unstable.any()) else ""
    if "did_not_learn" in figures and bool(figures.did_not_learn.any()):
        words += " □: did not learn (no better than before training or than a constant answer)."
    return words


def mark_lost(ax: Axes, figures: xr.Dataset, lost: xr.DataArray, words: str, view: View) -> None:
    """Mark trials without a finite value in a separate strip along the upper edge."""
    x = figures[view.over].values[lost.values].astype(float)
    x = x[~np.isnan(x)]
    if not x.size:
        return
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.2 if ax.get_yscale() == "log" else high + 0.2 * (high - low))
    edge = ax.get_xaxis_transform()
    ax.scatter(x, np.full(x.size, 0.95), transform=edge, s=40, color=INK, marker="x", linewidths=1.4)
    place = {"xytext": (0, -7), "textcoords": "offset points", "ha": "center", "va": "top"}
    ax.annotate(words, (x.min(), 0.95), xycoords=edge, fontsize=8.5, color=INK, **place)
