"""The settings that a study compares, and averages of trials over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from jaxlab.errors import InputError

_NAN = float("nan")


class NotRecorded(InputError):
    """The run lacks a variable or coordinate that the analysis needs."""


class Line(NamedTuple):
    """Settings that differ in one name only, e.g. every learning rate at one L2 strength.

    Attributes:
        values: the values that they share, by name.
        points: averages along ``setting``, in ascending order of the name that differs.
    """

    values: dict[str, Any]
    points: xr.Dataset


def varied(results: xr.Dataset) -> tuple[str, ...]:
    """Names of the hyperparameters and configuration fields that take more than one value, except the seed.

    The placeholders for a name that a trial does not use, NaN or an empty string, are not values. The order is
    alphabetical with the learning rate last, so that it varies fastest in a sorted table.
    """
    names = [str(name) for name, values in results.coords.items() if values.dims == ("trial",)]
    several = [name for name in names if len(set(used_values(results[name]))) > 1]
    chosen = set(several) - {"trial", "trial_id", "seed"}
    return tuple(sorted(chosen, key=lambda name: (name == "learning_rate", name)))


def values_of(column: xr.DataArray | np.ndarray) -> list[Any]:
    """A coordinate's values as Python objects; all NaN are the same object, so that sets and dicts count it once."""
    return [_NAN if value != value else value for value in np.asarray(column).tolist()]


def matching(figures: xr.Dataset, values: Mapping[str, Any]) -> np.ndarray:
    """A mask of the trials that have these values, ``[trial]``; NaN matches NaN."""
    same = np.ones(figures.sizes["trial"], bool)
    for name, value in values.items():
        same &= [each == value or (each != each and value != value) for each in values_of(figures[name])]
    return same


def used_values(column: xr.DataArray | np.ndarray) -> list[Any]:
    """A coordinate's values without the placeholders of trials that do not use it, NaN and empty strings."""
    return [value for value in values_of(column) if value == value and value != ""]


def judged(results: xr.Dataset) -> xr.Dataset:
    """The trials that completed an epoch or diverged.

    Raises:
        InputError: there are none.
    """
    if "outcome" not in results:
        return results
    known = ((results.outcome == "diverged") | (results.epochs_run >= 1)).values
    if not known.any():
        raise InputError("results", f"{known.size} trials", "no trial has completed an epoch yet")
    return results.isel(trial=known)


def stopped_early(results: xr.Dataset) -> xr.Dataset:
    """The trials that a rule stopped before the end, diverged ones excluded."""
    if "outcome" not in results:
        return results.isel(trial=[])
    return results.isel(trial=results.outcome.isin(["pruned", "stopped early"]).values)


def require(results: xr.Dataset, *names: str) -> None:
    """Raise `NotRecorded` unless the results have these variables or coordinates."""
    for name in names:
        if name not in results.variables:
            raise NotRecorded("results", name, "is not recorded in this run")


def last(variable: xr.DataArray, epochs_run: xr.DataArray) -> xr.DataArray:
    """The value at the last epoch of each trial, finite or not; NaN where it ran none.

    An earlier value never replaces one that is not finite at the end, see `jaxlab.diagnostics.or_worst`.
    """
    ends = variable.isel(epoch=epochs_run.clip(min=0)).drop_vars("epoch", errors="ignore")
    return ends.where(epochs_run >= 0)


def by_setting(figures: xr.Dataset, names: Sequence[str] | None = None) -> xr.Dataset:
    """Average over the trials that share a setting: over its seeds, and over every name missing from ``names``.

    Args:
        figures: numbers and flags along ``trial``; the mean of a flag is a share. NaN, the placeholder for a missing
            value, is left out; an infinite value makes the mean infinite.
        names: names that define a setting; by default all that vary, except the seed.

    Returns:
        A data set along ``setting`` in place of ``trial``, sorted by ``names``, which are its coordinates. ``trials``
        is the number of trials in each mean.

    Raises:
        InputError: there is no such name.
    """
    names = list(varied(figures) if names is None else names)
    require(figures, *names)
    columns = [figures[name].values for name in names]
    code, first = _codes(columns, figures.sizes["trial"])
    means = {
        name: _mean(values.variable.transpose("trial", ...), code)
        for name, values in figures.data_vars.items()
        if "trial" in values.dims and values.dtype.kind in "fiub"
    }
    kept = {name: values for name, values in figures.coords.items() if "trial" not in values.dims}
    settings = {name: ("setting", column[first]) for name, column in zip(names, columns, strict=True)}
    counts = {"trials": ("setting", np.bincount(code))}
    return xr.Dataset(means | counts, kept | settings, figures.attrs)


def lines(means: xr.Dataset, by: Sequence[str]) -> list[Line]:
    """Split the averages of `by_setting` into one `Line` for each combination of ``by``, in their order."""
    code, first = _codes([means[name].values for name in by], means.sizes["setting"])
    return [
        Line({name: means[name][row].item() for name in by}, means.isel(setting=code == index))
        for index, row in enumerate(first)
    ]


def default_over(results: xr.Dataset) -> str | None:
    """The name along which settings are compared: the learning rate if it varies, else the first number that varies."""
    names = [name for name in varied(results) if results[name].dtype.kind in "fiu"]
    return "learning_rate" if "learning_rate" in names else next(iter(names), None)


def default_by(results: xr.Dataset, over: str) -> tuple[str, ...]:
    """The names that are held fixed by default while ``over`` varies.

    These are all names that vary, except ``over`` and the seed, if most of their combinations occur with two or more
    values of ``over``, as in a grid. Otherwise, as in a random search, there are none, and all trials are pooled.
    """
    by = tuple(name for name in varied(results) if name != over)
    columns = [results[name].values for name in by]
    code, _ = _codes(columns, results.sizes["trial"])
    values = results[over].values
    seen = [len(set(values_of(values[code == index]))) for index in range(code.max(initial=0) + 1)]
    return by if np.median(seen) >= 2 else ()


def _mean(values: xr.Variable, code: np.ndarray) -> xr.Variable:
    """The mean of the values that are not NaN over the first axis, by code; xarray's groupby takes seconds here."""
    total, count = np.zeros((2, code.max() + 1, *values.shape[1:]))
    known = ~np.isnan(values.values.astype(np.float64))
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        np.add.at(total, code, np.where(known, values.values, 0))
    np.add.at(count, code, known)
    return xr.Variable(("setting", *values.dims[1:]), total / np.where(count, count, np.nan), values.attrs)


def _codes(columns: Sequence[np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
    """The index of each row's combination in sorted order, and the first row of each combination."""
    keys = list(zip(*map(_ranks, columns), strict=True)) if columns else [()] * size
    index = {key: number for number, key in enumerate(sorted(set(keys)))}
    code = np.array([index[key] for key in keys], int)
    return code, np.unique(code, return_index=True)[1]


def _ranks(column: np.ndarray) -> list[int]:
    """The rank of each value: numbers in ascending order, NaN last; strings in order of appearance."""
    values = [(type(value) is bool, value) for value in values_of(column)]  # otherwise True would equal 1
    unique = list(dict.fromkeys(values))
    if column.dtype.kind in "fiub":
        unique.sort(key=lambda token: (token[1] != token[1], token[1]))
    rank = {token: number for number, token in enumerate(unique)}
    return [rank[token] for token in values]
