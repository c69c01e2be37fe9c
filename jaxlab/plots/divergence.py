"""Where training becomes unstable."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxlab.analysis import divergence, largest_stable
from jaxlab.analysis.words import label, number, percent
from jaxlab.plots.frame import (
    FAINT,
    INK,
    averaged,
    draw_curves,
    draw_lines,
    key,
    log_y,
    panels,
    percent_axis,
    shade_unstable,
    x_axis,
)
from jaxlab.plots.view import View, view_of


def divergence_figure(results: xr.Dataset) -> Figure:
    """Final training loss and oscillation against the learning rate, and loss curves of a few learning rates.

    Losses are over the initial one. A cross is an unstable trial; where it diverged, so has no final loss, it stands
    at the upper edge. The shaded region begins where the first line has an unstable trial.

    Raises:
        InputError: the run lacks the training loss or the bad steps, or no trial was trained yet.
    """
    results, view = view_of(results)
    figures = divergence(results)
    limits = largest_stable(results, view.over, view.by)
    titles = ("final training loss / initial", "oscillation of the training loss", "training loss / initial")
    note = f"{averaged(view)} ×: unstable trial."
    figure, (loss, turns, curves) = panels(results, finding(figures, limits, view), note, titles)

    handles = draw_lines(loss, results, figures, "loss_ratio", view)
    draw_lines(turns, results, figures, "oscillation", view)
    draw_curves(curves, figures, "loss_ratio_curve", view)
    for ax in (loss, curves):
        ax.axhline(1, color=FAINT, linewidth=1, linestyle="--", zorder=1)
        log_y(ax)
    for ax in (loss, turns):
        x_axis(ax, results, view)
        shade_unstable(ax, results, view)
    _mark_diverged(loss, figures, view)
    key(figure, handles if view.by else [])
    loss.set_ylabel("loss at the end / loss before training")
    curves.set_ylabel("loss / loss before training")
    turns.set_ylabel("share of sign changes of its change")
    turns.set_ylim(-0.03, 1.03)
    percent_axis(turns.yaxis)
    return figure


def finding(figures: xr.Dataset, limits: xr.Dataset, view: View) -> str:
    """What the run says about stability, in one sentence."""
    over, share = view.label, float(figures.unstable.mean())
    stable, bad = limits.largest_stable.values, limits.smallest_unstable.values
    if np.isnan(bad).all():
        return (
            "Training is stable in every trial" if view.ticks else f"Training is stable at every {over} tried"
        )
    if not view.joined:
        where = "" if view.ticks else f", from {over} {number(float(np.nanmin(bad)))} on"
        return f"Training is unstable in {percent(share)} of the trials{where}"
    low, high = (number(float(edge(bad))) for edge in (np.nanmin, np.nanmax))
    if np.isnan(bad).any():
        return f"Training is unstable from {over} {low} on for some {_names(view)}, stable for others"
    if low != high:
        return f"Training becomes unstable at {over} {low} to {high}, depending on {_names(view)}"
    if np.isnan(stable).any():
        return f"Training is unstable already at the smallest {over} tried, {low}"
    return f"Training is stable up to {over} {number(float(stable.min()))} and becomes unstable at {low}"


def _names(view: View) -> str:
    return " and ".join(map(label, view.by))


def _mark_diverged(ax: Axes, figures: xr.Dataset, view: View) -> None:
    """Diverged trials in a strip of their own along the upper edge."""
    x = figures[view.over].values[figures.diverged.values].astype(float)
    if not x.size:
        return
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.2)
    edge = ax.get_xaxis_transform()
    ax.scatter(x, np.full(x.size, 0.95), transform=edge, s=40, color=INK, marker="x", linewidths=1.4)
    place = {"xytext": (0, -7), "textcoords": "offset points", "ha": "center", "va": "top"}
    ax.annotate("diverged", (x.min(), 0.95), xycoords=edge, fontsize=8.5, color=INK, **place)
