"""The layout of a figure: the name along its x axis, and the names that colours distinguish."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.typing import ColorType

from jaxlab.analysis import default_by, default_over, values_of, varied
from jaxlab.analysis.words import counted, label, numbers

_MOST_LINES, _MOST_TICKS, _LONGEST_TICK = 6, 40, 40
OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
_PLACE = "setting_place"


class View(NamedTuple):
    """How the trials of a run are laid out in a figure.

    Attributes:
        over: coordinate along the x axis.
        by: coordinates that are constant on each line; trials are averaged over all others.
        averaged: names that vary and are averaged over.
        joined: whether lines join the points; not in a random search, where points differ in more than ``over``.
        scale: scale of the x axis: "log", "symlog", "linear" or "words".
        ticks: labels at 0, 1, 2, ... where the scale is "words".
    """

    over: str
    by: tuple[str, ...]
    averaged: tuple[str, ...]
    joined: bool
    scale: str
    ticks: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The label of the x axis."""
        if self.over != _PLACE:
            return label(self.over)
        return ", ".join(map(label, self.averaged)) or "setting"


def view_of(results: xr.Dataset) -> tuple[xr.Dataset, View]:
    """Choose the view of a run; return the results with the x axis' coordinate, which may be new, and the view."""
    over = default_over(results)
    if over is None:
        return _view_of_words(results)
    by = default_by(results, over)
    others = tuple(name for name in varied(results) if name != over)
    joined = bool(by) or not others
    shown = _few(results, by)
    averaged = tuple(name for name in others if name not in shown)
    return results, View(over, shown, averaged, joined, _scale(results[over].values))


def _view_of_words(results: xr.Dataset) -> tuple[xr.Dataset, View]:
    """The view with one tick per setting, for runs in which no number varies."""
    names = varied(results)
    rows = list(zip(*(values_of(results[name]) for name in names), strict=True))
    rows = rows or [()] * results.sizes["trial"]
    places = {row: place for place, row in enumerate(dict.fromkeys(rows))}
    columns = [numbers([row[index] for row in places]) for index in range(len(names))]
    ticks = (
        _short([", ".join(row) for row in zip(*columns, strict=True)])
        if names
        else (counted(len(rows), "trial"),)
    )
    results = results.assign_coords({_PLACE: ("trial", np.array([places[row] for row in rows]))})
    return results, View(_PLACE, (), names, False, "words", ticks)


def _short(texts: Sequence[str]) -> tuple[str, ...]:
    """Shorten long texts in the middle, unless two of them would become equal."""
    half = _LONGEST_TICK // 2
    cut = [text if len(text) <= _LONGEST_TICK else f"{text[:half]}\u2026{text[1 - half :]}" for text in texts]
    return tuple(cut if len(set(cut)) == len(set(texts)) else texts)


def _few(results: xr.Dataset, by: tuple[str, ...]) -> tuple[str, ...]:
    """``by``, or one of its names, preferably L2, where there would be too many lines."""
    if len(set(zip(*(values_of(results[name]) for name in by), strict=True))) <= _MOST_LINES:
        return by
    counts = {name: len(set(values_of(results[name]))) for name in sorted(by, key=lambda name: name != "l2")}
    return next(((name,) for name, count in counts.items() if count <= _MOST_LINES), ())


def _scale(values: np.ndarray) -> str:
    values = values[~np.isnan(values.astype(float))]
    positive = values[values > 0]
    if (values < 0).any() or not positive.size or positive.max() < 10 * positive.min():
        return "linear"
    return "log" if positive.size == values.size else "symlog"


def set_x(ax: Axes, view: View, values: np.ndarray) -> None:
    """Set scale, ticks and label of the x axis."""
    ax.set_xlabel(view.label)
    values = values[~np.isnan(values)]  # NaN: a trial that does not use it
    if view.scale == "words":
        every = -(-len(view.ticks) // _MOST_TICKS)
        ax.xaxis.set_major_locator(FixedLocator(range(0, len(view.ticks), every)))
        tilted = {"rotation": 25, "ha": "right"} if len(view.ticks) > 2 else {}
        ax.set_xticklabels(view.ticks[::every], **tilted)
        ax.set_xlim(-0.6, len(view.ticks) - 0.4)
        return
    if view.scale == "symlog":
        ax.set_xscale("symlog", linthresh=float(values[values > 0].min()))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:g}")
    elif view.scale == "log":
        ax.set_xscale("log")
        margin = (values.max() / values.min()) ** 0.04
        ax.set_xlim(values.min() / margin, values.max() * margin)
        log_ticks(ax.xaxis, *ax.get_xlim())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6))
        ax.xaxis.set_major_formatter("{x:g}")  # no offset text in a corner


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Set three to eight labelled ticks with plain numbers on a logarithmic axis, however short it is."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    else:
        ticks = [tick for tick in MaxNLocator(4).tick_values(low, high).tolist() if low <= tick <= high]
    ticks = ticks[:: -(-len(ticks) // 8)]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter(numbers(ticks)))
    axis.set_minor_formatter(NullFormatter())


def between(view: View, low: float, high: float) -> float:
    """The midpoint of two neighbouring values on the x axis' scale."""
    return math.sqrt(low * high) if view.scale == "log" else (low + high) / 2


def line_colours(results: xr.Dataset, view: View, count: int) -> list[ColorType]:
    """Colours of the lines: sequential where one number distinguishes them, otherwise qualitative."""
    if len(view.by) == 1 and results[view.by[0]].dtype.kind in "fiu":
        return ordered_colours("viridis", 0.0, 0.82, count)
    return [OKABE_ITO[index % len(OKABE_ITO)] for index in range(count)]


def curve_colours(view: View, count: int) -> list[ColorType]:
    """Colours of curves that ``view.over`` distinguishes, in other hues than the lines."""
    return OKABE_ITO[:count] if view.ticks else ordered_colours("afmhot_r", 0.3, 0.88, count)


def ordered_colours(name: str, first: float, last: float, count: int) -> list[ColorType]:
    """``count`` colours from a section of a sequential colour map, which leaves out colours too light for white."""
    if count == 1:
        return [colormaps[name]((first + last) / 2)]
    return [colormaps[name](first + (last - first) * index / (count - 1)) for index in range(count)]
