"""The figures that the questions are about, per trial: divergence, overfitting, dead units."""

from __future__ import annotations

import xarray as xr

from jaxlab.analysis.settings import judged, last, require
from jaxlab.store import validation_metric


def divergence(results: xr.Dataset) -> xr.Dataset:
    """Did each trial diverge, oscillate, or never get below where it started?

    Returns:
        along ``trial``: ``diverged``, ``unstable``, ``above_initial``, ``not_converged`` (flags);
        ``first_bad_step`` (NaN if none); ``oscillation``; ``loss_ratio``, final training loss over the initial
        one, NaN where the trial diverged, since it has no final loss; ``loss_ratio_curve``, the same along
        ``epoch``.

    Raises:
        InputError: the run lacks the training loss or the bad steps.
    """
    require(results, "train_loss", "first_bad_step", "unstable", "oscillation")
    results = judged(results)
    curve = results.train_loss / results.train_loss.isel(epoch=0, drop=True)
    diverged = results.first_bad_step >= 0
    figures = results[["unstable", "above_initial", "not_converged", "oscillation"]]
    return figures.assign(
        diverged=diverged,
        first_bad_step=results.first_bad_step.where(diverged),
        loss_ratio=last(curve).where(~diverged),
        loss_ratio_curve=curve,
    )


def overfitting(results: xr.Dataset) -> xr.Dataset:
    """How far are training and validation apart at the end of each trial?

    Returns:
        along ``trial``, of the metric that settings are compared by (in its units; attribute ``metric``):
        ``train``, ``validation``, ``test`` at the last epoch reached, ``best_validation`` at ``best_epoch``, and
        ``gap``, positive where validation is worse than training. Of the loss: ``rise``, validation loss at the
        end over its minimum; ``generalization_loss``, Prechelt's GL at the end, 100·(rise - 1), in percent; and
        along ``epoch`` the curves ``train_loss`` and ``validation_loss``. Without a test set's figures there is
        no ``test``.

    Raises:
        InputError: the run lacks training or validation figures.
    """
    metric = validation_metric(results)
    require(results, f"train_{metric}", f"validation_{metric}", f"{metric}_gap", "rise", "best_epoch")
    results = judged(results)
    validation = results[f"validation_{metric}"]
    at_best = validation.isel(epoch=results.best_epoch.clip(min=0)).drop_vars("epoch", errors="ignore")
    figures = results[["rise", "best_epoch", "train_loss", "validation_loss"]].assign(
        train=last(results[f"train_{metric}"]),
        validation=last(validation),
        best_validation=at_best,
        gap=results[f"{metric}_gap"],
        generalization_loss=100 * (results.rise - 1),
    )
    if f"test_{metric}" in results:
        figures["test"] = results[f"test_{metric}"]
    attributes = {"metric": metric, "better": "lower", "units": "1"} | validation.attrs
    return figures.assign_attrs({key: attributes[key] for key in ("metric", "better", "units")})


def dead_units(results: xr.Dataset) -> xr.Dataset:
    """Which share of the units is dead, and when did they die?

    Only shares per layer are recorded, so a mean over layers weighs every layer alike, however wide it is.

    Returns:
        along ``trial``: ``start`` and ``end``, dead share before training and at the last epoch reached, mean over
        layers; ``worst_end``, that of the layer with the largest; ``start_by_layer`` and ``end_by_layer`` along
        ``layer``; ``curve`` along ``epoch``, mean over layers; where recorded, ``dormant`` at the end, and ``died``
        and ``revived``, events per unit after the start of training (a unit may die, revive and die again), so that
        end = start + died - revived.

    Raises:
        InputError: the run does not count dead units.
    """
    require(results, "dead_fraction")
    results = judged(results)
    dead = results.dead_fraction
    by_layer = last(dead)
    figures = xr.Dataset(
        {
            "start": dead.isel(epoch=0, drop=True).mean("layer"),
            "end": by_layer.mean("layer"),
            "worst_end": by_layer.max("layer"),
            "start_by_layer": dead.isel(epoch=0, drop=True),
            "end_by_layer": by_layer,
            "curve": dead.mean("layer"),
        },
        attrs=dict(dead.attrs),
    )
    if "dormant_fraction" in results:
        figures["dormant"] = last(results.dormant_fraction).mean("layer")
    for name in ("died", "revived"):
        if f"{name}_fraction" in results:
            events = results[f"{name}_fraction"].isel(epoch=slice(1, None))
            figures[name] = events.sum("epoch", min_count=1).mean("layer")
    return figures.transpose("trial", ...)
