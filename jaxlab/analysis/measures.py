"""Measures of each trial: divergence, overfitting, dead units."""

from __future__ import annotations

import numpy as np
import xarray as xr

from jaxlab.analysis.averages import judged, last, require
from jaxlab.diagnostics import or_worst
from jaxlab.store import validation_metric


def divergence(results: xr.Dataset) -> xr.Dataset:
    """Measure the stability of each trial: divergence, oscillation, and final over initial training loss.

    Returns:
        A data set along ``trial``: the flags ``diverged``, ``unstable``, ``above_initial``, ``not_converged`` and
        ``did_not_learn``; ``first_bad_step`` (NaN if none); ``oscillation``; ``loss_ratio``, the final over the initial
        training loss, infinite where it is not finite and NaN where the trial diverged and so has no final loss; and
        ``loss_ratio_curve``, the same along ``epoch``.

    Raises:
        InputError: the run lacks the training loss or ``first_bad_step``.
    """
    require(results, "train_loss", "first_bad_step", "unstable", "oscillation", "epochs_run")
    results = judged(results)
    curve = results.train_loss / results.train_loss.isel(epoch=0, drop=True)
    diverged = results.first_bad_step >= 0
    flags = ("unstable", "above_initial", "not_converged", "did_not_learn")
    figures = results[[*(name for name in flags if name in results), "oscillation"]]
    return figures.assign(
        diverged=diverged,
        first_bad_step=results.first_bad_step.where(diverged),
        loss_ratio=_or_worst(last(curve, results.epochs_run), "lower").where(~diverged),
        loss_ratio_curve=curve,
    )


def overfitting(results: xr.Dataset) -> xr.Dataset:
    """Measure overfitting in each trial: the gap between training and validation at its end.

    Returns:
        A data set along ``trial``. Of the metric by which settings are compared, in its units (its name is the
        attribute ``metric``): ``train``, ``validation`` and ``test`` at the last epoch run and ``best_validation`` at
        ``best_epoch``, each infinite with the worse sign where it is not finite; and ``gap``, positive where validation
        is worse than training and +inf where one of the two is not finite. ``best_epoch`` is NaN where no value is
        finite; ``test`` is absent without test results. Of the loss: ``rise``, validation loss at the end over its
        minimum; ``generalization_loss``, Prechelt's GL at the end, 100·(rise - 1), in percent; and along ``epoch`` the
        curves ``train_loss`` and ``validation_loss``. The attribute ``chance``, where known, is the validation metric
        of the best constant answer.

    Raises:
        InputError: the run lacks training or validation metrics.
    """
    metric = validation_metric(results)
    needed = f"train_{metric}", f"validation_{metric}", f"{metric}_gap", "rise", "best_epoch", "epochs_run"
    require(results, *needed)
    results = judged(results)
    validation = results[f"validation_{metric}"]
    attributes = {"metric": metric, "better": "lower", "units": "1"} | validation.attrs
    better, ran = attributes["better"], results.epochs_run
    at_best = validation.isel(epoch=results.best_epoch.clip(min=0)).drop_vars("epoch", errors="ignore")
    figures = results[["rise", "train_loss", "validation_loss"]].assign(
        train=_or_worst(last(results[f"train_{metric}"], ran), better),
        validation=_or_worst(last(validation, ran), better),
        best_validation=_or_worst(at_best, better),
        best_epoch=results.best_epoch.where(results.best_epoch >= 0),
        gap=_or_worst(results[f"{metric}_gap"], "lower"),
        generalization_loss=100 * (results.rise - 1),
    )
    if f"test_{metric}" in results:
        # NaN where nothing is recorded yet, unless the validation metric is not finite either.
        test = results[f"test_{metric}"]
        figures["test"] = _or_worst(test, better).where(test.notnull() | np.isinf(figures.validation))
    kept = ("metric", "better", "units", "chance")
    return figures.assign_attrs({key: attributes[key] for key in kept if key in attributes})


def dead_units(results: xr.Dataset) -> xr.Dataset:
    """Measure dead units in each trial: their share before and after training, by layer and over the epochs.

    Only the share of each layer is recorded, so a mean over layers gives every layer the same weight, whatever its
    width. In trials whose activation has no flat zero, no unit can be dead: everything but ``dormant`` is NaN, and
    means leave these trials out.

    Returns:
        A data set along ``trial``: ``can_die``, whether the activation has a flat zero; ``start`` and ``end``, the dead
        share before training and at the last epoch run, mean over layers; ``worst_end``, that of the layer with the
        largest share; ``start_by_layer`` and ``end_by_layer`` along ``layer``; ``curve`` along ``epoch``, mean over
        layers. Where recorded: ``dormant`` at the end, and ``died`` and ``revived``, events per unit after the start of
        training. A unit may die, revive and die again, so end = start + died - revived.

    Raises:
        InputError: the run does not count dead units.
    """
    require(results, "dead_fraction", "epochs_run")
    results = judged(results)
    able = results.can_die if "can_die" in results else xr.ones_like(results.epochs_run, bool)
    dead = results.dead_fraction.where(able)
    by_layer = last(dead, results.epochs_run)
    figures = xr.Dataset(
        {
            "start": dead.isel(epoch=0, drop=True).mean("layer"),
            "end": by_layer.mean("layer"),
            "worst_end": by_layer.max("layer"),
            "start_by_layer": dead.isel(epoch=0, drop=True),
            "end_by_layer": by_layer,
            "curve": dead.mean("layer"),
            "can_die": able,
        },
        attrs=dict(dead.attrs),
    )
    if "dormant_fraction" in results:
        figures["dormant"] = last(results.dormant_fraction, results.epochs_run).mean("layer")
    for name in ("died", "revived"):
        if f"{name}_fraction" in results:
            events = results[f"{name}_fraction"].where(able).isel(epoch=slice(1, None))
            figures[name] = events.sum("epoch", min_count=1).mean("layer")
    return figures.transpose("trial", ...)


def _or_worst(values: xr.DataArray, better: str) -> xr.DataArray:
    return values.copy(data=or_worst(values.values, better))
