"""Which setting is best, and which overfits most."""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from jaxlab.analysis.measures import overfitting
from jaxlab.analysis.settings import by_setting, varied
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
        diverged: every setting has a diverged trial, so that this one has too.
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


class Gap(NamedTuple):
    """The setting with the largest generalisation gap.

    Attributes:
        setting: what varies but the seed, by name.
        metric: name of the metric, in ``units``.
        gap: at the last epoch, mean over seeds; positive where validation is worse than training.
        train, validation: likewise.
        rise: validation loss at the end over its minimum, mean over seeds.
        trials: number averaged over.
    """

    setting: dict[str, Any]
    metric: str
    units: str
    gap: float
    train: float
    validation: float
    rise: float
    trials: int


def best_setting(results: xr.Dataset) -> Best:
    """The setting with the best validation metric at the last epoch, mean over its seeds.

    The last epoch, not each trial's best, because the test metric is measured with the weights of the last; the
    best epoch's figure is given beside it. A setting of which a trial diverged is no candidate unless all are such.
    Trials that were pruned stopped at another epoch and are left out, unless all were.
    The metric is the first that the run recorded; its own sense decides whether higher or lower is better.

    Raises:
        InputError: the run lacks training or validation figures, or has no value yet.
    """
    every = _with_ends(results)
    figures = every.isel(trial=np.flatnonzero(~every.pruned)) if not every.pruned.all() else every
    names = varied(results)
    means = by_setting(figures, names)
    higher = figures.attrs["better"] == "higher"
    score = (1 if higher else -1) * means.validation
    clean = score.where(means.diverged == 0)
    some_clean = bool(clean.notnull().any())
    point = _largest(means, clean if some_clean else score)
    trials = _trials(figures, point, names)
    seeds = figures.validation.values[trials]
    return Best(
        {name: point[name].item() for name in names},
        figures.attrs["metric"],
        figures.attrs["units"],
        float(point.validation),
        (float(np.nanmin(seeds)), float(np.nanmax(seeds))),
        float(point.best_validation),
        float(point.train),
        float(point.test) if "test" in point else float("nan"),
        int(trials.sum()),
        int(_trials(every, point, names).sum() - trials.sum()),
        not some_clean,
    )


def largest_gap(results: xr.Dataset) -> Gap:
    """The setting with the largest generalisation gap in the metric at the last epoch, mean over its seeds.

    Raises:
        InputError: the run lacks training or validation figures, or has no value yet.
    """
    figures = overfitting(results)
    names = varied(results)
    means = by_setting(figures, names)
    point = _largest(means, means.gap)
    return Gap(
        {name: point[name].item() for name in names},
        figures.attrs["metric"],
        figures.attrs["units"],
        *(float(point[name]) for name in ("gap", "train", "validation", "rise")),
        int(point.trials),
    )


def _with_ends(results: xr.Dataset) -> xr.Dataset:
    figures = overfitting(results)
    ends = results[["first_bad_step", "outcome"]].sel(trial=figures.trial)
    return figures.assign(diverged=ends.first_bad_step >= 0, pruned=ends.outcome == "pruned")


def _largest(means: xr.Dataset, score: xr.DataArray) -> xr.Dataset:
    if not bool(score.notnull().any()):
        raise InputError("results", "nan", "no trial has a finite value of the metric")
    return means.isel(setting=int(score.argmax("setting")))


def _trials(figures: xr.Dataset, point: xr.Dataset, names: tuple[str, ...]) -> np.ndarray:
    """Whether each trial belongs to a setting."""
    same = np.ones(figures.sizes["trial"], bool)
    for name in names:
        same &= figures[name].values == point[name].item()
    return same
