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
    every = _with_ends(results)
    figures = every.isel(trial=np.flatnonzero(~every.pruned)) if not every.pruned.all() else every
    names = varied(results)
    finite = np.isfinite(figures.validation)
    means = by_setting(
        figures[["diverged"]].assign(lost=~finite, validation=figures.validation.where(finite)), names
    )
    score = (1 if figures.attrs["better"] == "higher" else -1) * means.validation
    clean = score.where(means.diverged + means.lost == 0)
    some_clean = bool(clean.notnull().any())
    point = _largest(means, clean if some_clean else score.where(means.lost == means.lost.min()))
    values = {name: point[name].item() for name in names}
    own = matching(figures, values)
    seeds = figures.isel(trial=np.flatnonzero(own & finite.values))
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
        int(matching(every, values).sum() - own.sum()),
        not some_clean,
        int(own.sum()) - seeds.sizes["trial"],
    )


def largest_gap(results: xr.Dataset) -> Gap:
    """Find the setting with the largest generalisation gap at the last epoch, averaged over its seeds.

    Raises:
        InputError: the run lacks training or validation metrics, or no trial has a finite value.
    """
    figures = overfitting(results)
    names = varied(results)
    measured = figures.isel(trial=np.flatnonzero(np.isfinite(figures.gap)))
    if not measured.sizes["trial"]:
        raise InputError("results", "nan", "no trial has a finite value of the metric")
    means = by_setting(measured, names)
    point = _largest(means, means.gap)
    values = {name: point[name].item() for name in names}
    return Gap(
        values,
        figures.attrs["metric"],
        figures.attrs["units"],
        *(float(point[name]) for name in ("gap", "train", "validation", "rise")),
        int(point.trials),
        int(matching(figures, values).sum() - point.trials),
    )


def _with_ends(results: xr.Dataset) -> xr.Dataset:
    figures = overfitting(results)
    ends = results[["first_bad_step", "outcome"]].sel(trial=figures.trial)
    return figures.assign(diverged=ends.first_bad_step >= 0, pruned=ends.outcome == "pruned")


def _largest(means: xr.Dataset, score: xr.DataArray) -> xr.Dataset:
    if not bool(score.notnull().any()):
        raise InputError("results", "nan", "no trial has a finite value of the metric")
    return means.isel(setting=int(score.argmax("setting")))
