"""The best setting and the setting that overfits most."""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from jaxlab.analysis.averages import by_setting, matching, varied
from jaxlab.analysis.measures import overfitting
from jaxlab.errors import InputError


class Best(NamedTuple):
    """The setting with the best validation metric.

    Attributes:
        setting: values of the names that vary, except the seed; empty where none does.
        metric: name of the metric, in ``units``.
        validation: validation metric at the last epoch, mean over seeds.
        validation_range: its smallest and largest value over the seeds.
        best_validation: validation metric at each seed's best epoch, mean over seeds; optimistic, as a maximum is.
        train, test: training and test metric at the last epoch, mean over seeds; NaN where not recorded.
        trials: number of trials in the mean.
        pruned: number of this setting's trials that were pruned; they are left out.
        diverged: whether every setting, and so this one, has a trial that diverged or is not finite at the end.
        not_finite: number of this setting's trials whose validation metric is not finite at the end; they are left
            out.
    """

    setting: dict[str, Any]
    metric: str
    units: str
    validation: float
    validation_range: tuple[float, float]
    best_validation: float
    train: float
    test: float
    trials: int
    pruned: int
    diverged: bool
    not_finite: int = 0


class Gap(NamedTuple):
    """The setting with the largest generalisation gap.

    Attributes:
        setting: values of the names that vary, except the seed.
        metric: name of the metric, in ``units``.
        gap: gap at the last epoch, mean over seeds; positive where validation is worse than training.
        train, validation: training and validation metric at the last epoch, mean over seeds.
        rise: validation loss at the end over its minimum, mean over seeds.
        trials: number of trials in the mean.
        not_finite: number of this setting's trials that are not finite at the end; they have no gap and are left out.
    """

    setting: dict[str, Any]
    metric: str
    units: str
    gap: float
    train: float
    validation: float
    rise: float
    trials: int
    not_finite: int = 0


def best_setting(results: xr.Dataset) -> Best:
    """Find the setting with the best validation metric at the last epoch, averaged over its seeds.

    Settings are compared at the last epoch, not at each trial's best, because the test metric is measured with the
    weights of the last epoch; the value at the best epoch is returned as well. A setting is left out if one of its
    trials diverged or is not finite at the end. If this excludes every setting, they are ranked by the share of trials
    that are not finite, then by the mean over the others. Pruned trials stopped at an earlier epoch and are left out,
    unless all trials were pruned. The metric is the one of `jaxlab.trial.comparison_metric`, and its attribute
    ``better`` decides whether higher or lower is better.

    Raises:
        InputError: the run lacks training or validation metrics, or no trial has a finite value.
    """
    every = overfitting(results)
    ends = results[["first_bad_step", "outcome"]].sel(trial=every.trial)
    every = every.assign(diverged=ends.first_bad_step >= 0)
    pruned = (ends.outcome == "pruned").values
    figures = every if pruned.all() else every.isel(trial=~pruned)
    names = varied(results)
    finite = _finite(figures.validation)
    means = by_setting(
        figures[["diverged"]].assign(lost=~finite, validation=figures.validation.where(finite)), names
    )
    score = (1 if figures.attrs["better"] == "higher" else -1) * means.validation
    clean = score.where(means.diverged + means.lost == 0)
    some_clean = bool(clean.notnull().any())
    score = clean if some_clean else score.where(means.lost == means.lost.min())
    point = means.isel(setting=int(score.argmax("setting")))
    values = {name: point[name].item() for name in names}
    chosen = matching(figures, values)
    seeds = figures.isel(trial=chosen & finite.values)
    validation = seeds.validation.values
    return Best(
        values,
        figures.attrs["metric"],
        figures.attrs["units"],
        float(point.validation),
        (float(validation.min()), float(validation.max())),
        float(seeds.best_validation.mean()),
        float(seeds.train.mean()),
        float(seeds.test.mean(skipna=False)) if "test" in seeds else float("nan"),
        seeds.sizes["trial"],
        int(matching(every, values).sum() - chosen.sum()),
        not some_clean,
        int(chosen.sum()) - seeds.sizes["trial"],
    )


def largest_gap(results: xr.Dataset) -> Gap:
    """Find the setting with the largest generalisation gap at the last epoch, averaged over its seeds.

    Raises:
        InputError: the run lacks training or validation metrics, or no trial has a finite value.
    """
    figures = overfitting(results)
    names = varied(results)
    means = by_setting(figures.isel(trial=_finite(figures.gap).values), names)
    point = means.isel(setting=int(means.gap.argmax("setting")))
    values = {name: point[name].item() for name in names}
    return Gap(
        values,
        figures.attrs["metric"],
        figures.attrs["units"],
        *(float(point[name]) for name in ("gap", "train", "validation", "rise")),
        int(point.trials),
        int(matching(figures, values).sum() - point.trials),
    )


def _finite(values: xr.DataArray) -> xr.DataArray:
    """Which trials have a finite value; raise InputError if none has."""
    finite = np.isfinite(values)
    if not finite.any():
        raise InputError("results", "nan", "no trial has a finite value of the metric")
    return finite
