"""Limits of the learning rate: where training becomes unstable, and where units die."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial

import numpy as np
import xarray as xr

from jaxlab.analysis.averages import (
    Line,
    by_setting,
    default_by,
    default_over,
    judged,
    last,
    lines,
    require,
    values_of,
)
from jaxlab.analysis.measures import dead_units, divergence
from jaxlab.analysis.words import aligned, label, numbers, percent
from jaxlab.checks import number
from jaxlab.diagnostics import learning_rate_sensitivity
from jaxlab.errors import InputError

SHARES = (0.1, 0.4)  # shares of dead units that are reported
MOST_NAMED = 6  # answers for more settings are shown in a table instead of a sentence
_MOST_ROWS = 40


def largest_stable(
    results: xr.Dataset, over: str = "learning_rate", by: Sequence[str] | str | None = None
) -> xr.Dataset:
    """Find the largest learning rate up to which every trial is stable.

    For each combination of ``by``, values of ``over`` are considered in ascending order. At ``largest_stable`` and at
    every smaller value tried, no trial is unstable. ``smallest_unstable`` is the next value tried, where a trial is
    unstable. A stable value above an unstable one does not count.

    Args:
        results: results of a run.
        over: name of the hyperparameter whose limit is wanted.
        by: names that are held fixed; by default those of `default_by`. Trials are pooled over all other names,
            including the seed.

    Returns:
        A data set along ``setting``, with ``by`` as coordinates: ``largest_stable`` (NaN if the smallest value tried is
        unstable), ``smallest_unstable`` (NaN if no value is), and ``did_not_learn``, the share of the trials at
        ``largest_stable`` that did not learn, since a dead network is stable too.

    Raises:
        InputError: there is no such name, or the run lacks the verdicts.
    """
    figures = divergence(results)
    idle = figures.get("did_not_learn", xr.zeros_like(figures.unstable))
    followed = _followed(results, figures[["unstable"]].assign(did_not_learn=idle), over, by)
    limits = []
    for line in followed:
        bad = line.points.unstable.values > 0
        count = int(bad.argmax()) if bad.any() else len(bad)
        places = ((over, count - 1), (over, count), ("did_not_learn", count - 1))
        limits.append([_value_or_nan(line.points[name].values, place) for name, place in places])
    words = {
        "largest_stable": "largest {} up to which every trial is stable",
        "smallest_unstable": "smallest {} beyond it, with an unstable trial",
        "did_not_learn": "share of the trials at the largest stable {} that did not learn",
    }
    return _answer(followed, over, words, limits)


def threshold_crossing(
    results: xr.Dataset,
    share: float = 0.4,
    over: str = "learning_rate",
    by: Sequence[str] | str | None = None,
) -> xr.Dataset:
    """Find the smallest learning rate at which a share of the units is dead at the last epoch, averaged over seeds.

    Args:
        results: results of a run.
        share: threshold in (0, 1]; a share equal to it counts.
        over, by: as in `largest_stable`.

    Returns:
        A data set along ``setting``, with ``by`` as coordinates: ``crossing``, where the mean over layers, all with the
        same weight, reaches the share; ``worst_layer_crossing``, where the layer with the largest share does. NaN where
        the share is not reached.

    Raises:
        InputError: the share is not in (0, 1], there is no such name, or the run does not count dead units.
    """
    number("share", share, above=0, most=1, remedy="give a share in (0, 1]")
    figures = dead_units(results)
    followed = _followed(results, figures[["end", "worst_end"]], over, by)
    crossings = []
    for line in followed:
        values = line.points[over].values
        passed = [line.points[name].values >= share for name in ("end", "worst_end")]
        crossings.append([_value_or_nan(values, int(at.argmax())) if at.any() else np.nan for at in passed])
    words = {
        "crossing": f"smallest {{}} with {100 * share:g} % dead units, mean over layers",
        "worst_layer_crossing": f"smallest {{}} with {100 * share:g} % dead units in some layer",
    }
    return _answer(followed, over, words, crossings)


def sensitivity(
    results: xr.Dataset, over: str = "learning_rate", by: Sequence[str] | str | None = None
) -> xr.Dataset:
    """Compute the learning-rate sensitivity: mean over learning rates of min(final, initial loss), minus the best.

    The loss is the training loss. Each trial's final loss is capped at its initial loss before averaging over seeds,
    see `jaxlab.diagnostics.learning_rate_sensitivity`.

    Returns:
        A data set along ``setting``, with ``by`` as coordinates: ``sensitivity``, in units of the loss.

    Raises:
        InputError: there is no such name, or the run lacks the training loss.
    """
    require(results, "train_loss", "first_bad_step", "epochs_run")
    trained = judged(results)
    initial = trained.train_loss.isel(epoch=0, drop=True)
    final = last(trained.train_loss, trained.epochs_run).where(trained.first_bad_step < 0)
    capped = xr.where(final < initial, final, initial)
    figures = xr.Dataset({"initial": initial, "capped": capped})
    followed = _followed(results, figures, over, by)
    values = [
        [float(learning_rate_sensitivity(line.points.capped.values, line.points.initial.values))]
        for line in followed
    ]
    words = {"sensitivity": "sensitivity of the final training loss to the {}"}
    return _answer(followed, over, words, values)


def _followed(
    results: xr.Dataset, figures: xr.Dataset, over: str, by: Sequence[str] | str | None
) -> list[Line]:
    """Averages along ``over``, as one line for each combination of ``by``."""
    names = [
        str(name)
        for name, values in results.coords.items()
        if values.dims == ("trial",) and values.dtype.kind in "fiu"
    ]
    if over not in names:
        raise InputError("over", over, f"name a number that the trials have: {', '.join(names)}")
    by = default_by(results, over) if by is None else ([by] if isinstance(by, str) else list(by))
    used = figures.isel(trial=figures[over].notnull().values)  # NaN: a trial that does not use it
    if not used.sizes["trial"]:
        raise InputError("over", over, f"no trained trial uses {label(over)}")
    return lines(by_setting(used, [over, *by]), by)


def _value_or_nan(values: np.ndarray, index: int) -> float:
    return float(values[index]) if 0 <= index < len(values) else float("nan")


def _answer(
    followed: list[Line], over: str, words: dict[str, str], rows: Sequence[Sequence[float]]
) -> xr.Dataset:
    """A data set with one variable for each of ``words``, its long name, and one setting for each line and row."""
    columns = np.array(rows, float).T
    name = over.replace("_", " ")
    answer = xr.Dataset(
        {
            key: ("setting", column, {"long_name": text.format(name)})
            for (key, text), column in zip(words.items(), columns, strict=True)
        }
    )
    for key, value in followed[0].values.items():
        dtype = object if isinstance(value, str) else None
        answer[key] = ("setting", np.array([line.values[key] for line in followed], dtype))
    return answer.set_coords(followed[0].values)


def fixed(answer: xr.Dataset) -> list[str]:
    """The names that are held fixed in each row of an answer."""
    return [str(name) for name in answer.coords if answer[name].dims == ("setting",)]


def limits_table(results: xr.Dataset) -> str:
    """A plain-text table of the limits of every setting; empty where `summary` already lists them all.

    There is one row for each combination of the names held fixed while the learning rate (or the first number that
    varies) changes: the largest stable value, the smallest unstable value, the sensitivity, and the values from which
    10 % and 40 % of the units are dead.
    """
    over = default_over(results)
    if over is None or not default_by(results, over):
        return ""
    questions = [
        (largest_stable, {"largest_stable": "largest stable", "smallest_unstable": "unstable at"}),
        (sensitivity, {"sensitivity": "sensitivity"}),
    ]
    for share in SHARES:
        places = {"crossing": "dead from", "worst_layer_crossing": "in some layer from"}
        headings = {name: f"{percent(share)} {place}" for name, place in places.items()}
        questions.append((partial(threshold_crossing, share=share), headings))
    columns: dict[str, Sequence[str]] = {}
    limits = None
    for find, headings in questions:
        with contextlib.suppress(InputError):  # not recorded
            limits = find(results, over=over)
            rows = zip(*(limits[name].values.tolist() for name in headings), strict=True)
            columns |= zip(headings.values(), zip(*map(numbers, rows), strict=True), strict=True)
    count = 0 if limits is None else limits.sizes["setting"]
    if count <= MOST_NAMED:
        return ""
    columns = {label(name): numbers(values_of(limits[name])) for name in fixed(limits)} | columns
    rows = list(zip(*columns.values(), strict=True))
    more = [f"... and {count - _MOST_ROWS} more settings"] if count > _MOST_ROWS else []
    title = f"limits of {label(over)}"
    return "\n".join([title, *aligned(list(columns), rows[:_MOST_ROWS]), *more])
