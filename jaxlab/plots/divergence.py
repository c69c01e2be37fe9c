"""The figure of divergence."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from jaxlab.analysis import divergence, largest_stable
from jaxlab.analysis.words import counted, joined, number, numbers, percent
from jaxlab.plots.frame import (
    FAINT,
    averaged,
    draw_curves,
    draw_lines,
    log_y,
    mark_lost,
    marks,
    panels,
    percent_axis,
    shared_legend,
    without_mathtext,
    x_axis,
)
from jaxlab.plots.view import View, view_of


def divergence_figure(results: xr.Dataset) -> Figure:
    """Draw final training loss and oscillation against the learning rate, and loss curves of a few learning rates.

    Losses are relative to the initial loss. A cross is an unstable trial; it is drawn at the upper edge if the trial
    diverged, and so has no final loss, or if the final loss is not finite. A square is a trial that did not learn. The
    shaded region begins at the smallest value with an unstable trial.

    Raises:
        InputError: the run lacks the training loss or ``first_bad_step``, or no trial has completed an epoch.
    """
    results, view = view_of(results)
    figures = divergence(results)
    limits = largest_stable(results, view.over, view.by)
    titles = ("final training loss / initial", "oscillation of the training loss", "training loss / initial")
    note = f"{averaged(view)}{marks(figures)}"
    if view.joined and bool(figures.diverged.any()):
        note += " Diverged trials have no final loss; its means leave them out."
    figure, (loss, turns, curves) = panels(results, finding(figures, limits, view), note, titles)

    handles = draw_lines(loss, results, figures, "loss_ratio", view)
    draw_lines(turns, results, figures, "oscillation", view)
    draw_curves(curves, figures, "loss_ratio_curve", view, "unstable")
    for ax in (loss, curves):
        ax.axhline(1, color=FAINT, linewidth=1, linestyle="--", zorder=1)
        log_y(ax)
    for ax in (loss, turns):
        x_axis(ax, results, view)
    lost = figures.diverged | np.isinf(figures.loss_ratio)
    mark_lost(loss, figures, lost, "diverged" if bool(figures.diverged.any()) else "not finite", view)
    shared_legend(figure, handles)
    loss.set_ylabel("loss at the end / loss before training")
    curves.set_ylabel("loss / loss before training")
    turns.set_ylabel("share of sign changes of the loss difference")
    turns.set_ylim(-0.03, 1.03)
    percent_axis(turns.yaxis)
    return without_mathtext(figure)


def finding(figures: xr.Dataset, limits: xr.Dataset, view: View) -> str:
    """The title: the finding about stability in one sentence, and the number of trials that did not learn."""
    idle = int(figures.did_not_learn.sum()) if "did_not_learn" in figures else 0
    words = _stability(figures, limits, view)
    return f"{words}; {idle} of {counted(figures.sizes['trial'], 'trial')} did not learn" if idle else words


def _stability(figures: xr.Dataset, limits: xr.Dataset, view: View) -> str:
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
        return f"Training is unstable from {over} {low} on for some {joined(view.by)}, stable for others"
    if low != high:
        return f"Training becomes unstable at {over} {low} to {high}, depending on {joined(view.by)}"
    if np.isnan(stable).any():
        return f"Training is unstable even at the smallest {over} tried, {low}"
    largest, smallest = numbers([float(stable.min()), float(bad.min())])
    return f"Training is stable up to {over} {largest} and becomes unstable at {smallest}"
