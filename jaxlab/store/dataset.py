"""Assembly of records into one labelled data set."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr

from jaxlab.engine import EndRecord, EpochRecord
from jaxlab.errors import InputError
from jaxlab.store.description import GroupEntry
from jaxlab.store.disk import check_fits
from jaxlab.store.records import Records
from jaxlab.trial import Variable


def assemble(
    groups: Sequence[GroupEntry],
    records: Records,
    epochs: int,
    coordinates: Mapping[str, Sequence[Any]],
    attributes: Mapping[str, Any],
) -> xr.Dataset:
    """Assemble the labelled data set of a run, finished or not.

    Args:
        groups: groups of the run, with the labels of their variables.
        records: records of the run; where a trial ended more than once, the later epoch counts.
        epochs: planned number of epochs; the axis has one more entry, for the state before training.
        coordinates: one value for each trial, by name.
        attributes: attributes of the data set.

    Returns:
        A data set with the dimensions ``trial``, ``epoch`` and those of the variables. Values that were not reached are
        NaN (−1 for integers).

    Raises:
        InputError: the data set does not fit in memory.
    """
    trials = len(next(iter(coordinates.values())))
    _check_memory(records, trials, epochs)
    labels = _labels(groups)
    variables = {name: label for group in groups for name, label in group.variables.items()}
    arrays: dict[str, xr.Variable] = {}
    reached, ended = np.full(trials, -1, np.int32), np.full(trials, -1, np.int32)

    def fill(index: int, record: EpochRecord | EndRecord) -> None:
        lead = (trials,) if isinstance(record, EndRecord) else (trials, epochs + 1)
        for name, values in record.values.items():
            label = variables.get(name) or _unlabelled(name, values.ndim - len(lead))
            if name not in arrays:
                arrays[name] = _empty(label, values, lead, labels)
            arrays[name] = _filled(arrays[name], record, values, label, groups[index].coordinates, labels)

    for index, record in records.epochs:
        if len(record.trials):
            reached[record.trials] = np.maximum(reached[record.trials], record.epochs[-1])
        fill(index, record)
    for index, record in records.ends:
        newest = record.rows(record.epochs >= ended[record.trials])
        ended[newest.trials] = newest.epochs
        fill(index, newest)
    arrays["epochs_run"] = per_trial(reached, "epochs run", "epoch")
    _compare_labels(arrays, groups)
    dataset = xr.Dataset(arrays, attrs=dict(attributes))
    labelled = {dim: (dim, _string_array(names)) for dim, names in labels.items() if dim in dataset.dims}
    return dataset.assign_coords(
        {"trial": np.arange(trials), "epoch": np.arange(epochs + 1)}
        | labelled
        | {name: ("trial", _column(values)) for name, values in coordinates.items()}
    )


def _check_memory(records: Records, trials: int, epochs: int) -> None:
    """Raise before allocating arrays that do not fit in memory."""
    sizes: dict[str, int] = {}
    for _, record in (*records.epochs, *records.ends):
        at_end = isinstance(record, EndRecord)
        for name, values in record.values.items():
            each = math.prod(values.shape[1 if at_end else 2 :]) * values.dtype.itemsize
            sizes[name] = max(sizes.get(name, 0), trials * each * (1 if at_end else epochs + 1))
    check_epochs(trials, epochs, sum(sizes.values()) + 8 * (epochs + 1))


def check_epochs(trials: int, epochs: int, size: int) -> None:
    """Raise InputError where results of ``size`` bytes do not fit in memory."""
    try:
        check_fits(size)
    except ValueError as error:
        raise InputError(
            "epochs", epochs, f"is too many for the results of {trials} trials: {error}"
        ) from None


def not_reached(dtype: np.dtype) -> float:
    """The placeholder for values that a trial did not reach: NaN, or −1 for integers."""
    return np.nan if jax.dtypes.issubdtype(dtype, np.inexact) else -1


def per_trial(values: np.ndarray, long_name: str, units: str = "1") -> xr.Variable:
    """A variable of one value for each trial."""
    return xr.Variable("trial", values, {"long_name": long_name, "units": units})


def _labels(groups: Sequence[GroupEntry]) -> dict[str, list[str]]:
    """The union over the groups of the labels of each dimension, in order of appearance."""
    labels: dict[str, dict[str, None]] = {}
    for group in groups:
        for dim, names in group.coordinates.items():
            labels.setdefault(dim, {}).update(dict.fromkeys(names))
    return {dim: list(names) for dim, names in labels.items()}


def _unlabelled(name: str, axes: int) -> Variable:
    return Variable(name.replace("_", " "), "1", tuple(f"{name}_{axis}" for axis in range(axes)))


def _empty(
    label: Variable, values: np.ndarray, lead: tuple[int, ...], labels: Mapping[str, Sequence[str]]
) -> xr.Variable:
    further = tuple(
        len(labels[dim]) if dim in labels else extent
        for dim, extent in zip(label.dims, values.shape[len(lead) :], strict=True)
    )
    attributes = {"long_name": label.long_name, "units": label.units}
    attributes |= {key: getattr(label, key) for key in ("comment", "better") if getattr(label, key)}
    array = np.full((*lead, *further), not_reached(values.dtype), values.dtype)
    return xr.Variable((*("trial", "epoch")[: len(lead)], *label.dims), array, attributes)


def _compare_labels(arrays: Mapping[str, xr.Variable], groups: Sequence[GroupEntry]) -> None:
    """Add chance levels that are the same in all groups; remove units that differ (K in one group, K² in another)."""
    for name, array in arrays.items():
        labels = [group.variables[name] for group in groups if name in group.variables]
        levels = {label.chance for label in labels}
        if len(levels) == 1 and None not in levels:
            array.attrs["chance"] = levels.pop()
        if len({label.units for label in labels}) > 1:
            array.attrs |= {"units": "1", "comment": "the units differ between groups"}


def _filled(
    target: xr.Variable,
    record: EpochRecord | EndRecord,
    values: np.ndarray,
    label: Variable,
    coordinates: Mapping[str, Sequence[str]],
    labels: Mapping[str, Sequence[str]],
) -> xr.Variable:
    """Write a record's values into ``target`` and return it; an axis without labels grows where a group's is longer."""
    lead = (record.trials,) if isinstance(record, EndRecord) else (record.trials, record.epochs)
    further = []
    for dim, extent in zip(label.dims, values.shape[len(lead) :], strict=True):
        if dim in labels:
            further.append(np.array([labels[dim].index(each) for each in coordinates[dim]]))
        else:
            further.append(np.arange(extent))
            missing = extent - target.sizes[dim]
            if missing > 0:
                target = target.pad({dim: (0, missing)}, constant_values=not_reached(target.dtype))
    target.data[np.ix_(*lead, *further)] = values
    return target


def _column(values: Sequence[Any]) -> np.ndarray:
    """A coordinate as an array: numbers or flags unchanged, anything else as `texts`.

    None, for a name that a trial does not use, becomes NaN among numbers and an empty string otherwise.
    """
    given = [value for value in values if value is not None]
    if all(isinstance(value, (int, float, bool, np.generic)) for value in given):
        filled = [np.nan if value is None else value for value in values]
        column = np.asarray(filled)
        # Except where NumPy would merge values: True and 1, or large integers among floats.
        flags = sum(isinstance(value, (bool, np.bool_)) for value in given)
        if flags in (0, len(values)) and column.dtype != object and _same(column.tolist(), filled):
            return column
    return _string_array(texts(values, ""))


def texts(values: Sequence[Any], nothing: str = "None") -> list[str]:
    """Values as strings that differ where the values do: strings are quoted if both 1 and "1" occur."""
    shown = [value if isinstance(value, str) else _shown(value, nothing) for value in values]
    words = [isinstance(value, str) for value in values]
    if {text for text, word in zip(shown, words, strict=True) if not word}.isdisjoint(
        text for text, word in zip(shown, words, strict=True) if word
    ):
        return shown
    return [repr(text) if word else text for text, word in zip(shown, words, strict=True)]


def _same(column: Sequence[Any], values: Sequence[Any]) -> bool:
    """Whether all values are equal, NaN to itself; Python compares integers and floats exactly."""
    pairs = zip(column, values, strict=True)
    return all(each == value or (each != each and value != value) for each, value in pairs)


def _shown(value: Any, nothing: str) -> str:
    return nothing if value is None else getattr(value, "__name__", None) or str(value)


def _string_array(names: Iterable[str]) -> np.ndarray:
    # Objects, since zarr's stores treat fixed-width strings differently.
    return np.array(list(names), dtype=object)
