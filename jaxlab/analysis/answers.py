"""Which setting is best, and which overfits most."""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from jaxlab.analysis.measures import overfitting
from jaxlab.analysis.settings import by_setting, matching, varied
from jaxlab.errors import InputError


class Best(NamedTuple):
    """The setting with the best validation metric.

    Attributes:
        setting: what varies but the seed, by name; empty where nothing does.
        metric: name of the metric, in ``units``.
        validation: at the last epoch, mean over seeds.
        validation_range: the smallest and the largest of its seeds.
        best_validation: at each seed's best epoch, mean over seeds: a maximum over epochs, so optimistic.
        train, test: at the last epoch, mean over seeds; NaN where not recorded.
        trials: number averaged over.
        pruned: trials of this setting that lost a comparison with others before the end, and are left out.
        diverged: every setting has a trial that diverged or is not finite at the end, so that this one has too.
        not_finite: trials of this setting whose validation metric is not finite at the end, and are left out.
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
        setting: what varies but the seed, by name.
        metric: name of the metric, in ``units``.
        gap: at the last epoch, mean over seeds; positive where validation is worse than training.
        train, validation: likewise.
        rise: validation loss at the end over its minimum, mean over seeds.
        trials: number averaged over.
        not_finite: trials of this setting whose figures are not finite at the end: they have no gap, and are left out.
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
    """The setting with the best validation metric at the last epoch, mean over its seeds.

    The last epoch, not each trial's best, because the test metric is measured with the weights of the last; the
    best epoch's figure is given beside it. A setting of which a trial diverged, or is not finite at the end, is no
    candidate unless all are such: then the smallest share of trials that are not finite counts first, then the mean
    over the others. Trials that were pruned stopped at another epoch and are left out, unless all were.
    The metric is the first that the run recorded; its own sense decides whether higher or lower is better.

    Raises:
        InputError: the run lacks training or validation figures, or has no value yet.
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
    """The setting with the largest generalisation gap in the metric at the last epoch, mean over its seeds.

    Raises:
        InputError: the run lacks training or validation figures, or has no value yet.
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
