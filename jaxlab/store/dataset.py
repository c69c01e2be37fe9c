"""Pieces put together into one labelled data set."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from jaxlab.engine import Piece
from jaxlab.errors import InputError
from jaxlab.store.files import check_fits
from jaxlab.trial import Variable


class GroupInfo(NamedTuple):
    """What labels one group's pieces.

    Attributes:
        variables: labels of the recorded arrays.
        coordinates: labels along their own axes.
    """

    variables: Mapping[str, Variable]
    coordinates: Mapping[str, Sequence[str]]


def assemble(
    groups: Sequence[GroupInfo],
    pieces: Iterable[tuple[int, Piece]],
    epochs: int,
    coordinates: Mapping[str, Sequence[Any]],
    attributes: Mapping[str, Any],
) -> xr.Dataset:
    """The data set of a study, finished or not.

    Args:
        groups: one entry a group.
        pieces: ``(group, piece)`` with trials numbered within the study; of two that hold the same the later counts,
            and of last records the one of the later epoch.
        epochs: of the study; the axis has one more, for the state before training.
        coordinates: per trial of the study, by name.
        attributes: of the data set.

    Returns:
        dimensions ``trial``, ``epoch`` and those of the variables. What was not reached is NaN; −1 for integers.

    Raises:
        InputError: that would take more memory than is free.
    """
    trials = len(next(iter(coordinates.values())))
    pieces = list(pieces)
    _check_memory(pieces, trials, epochs)
    labels = _labels(groups)
    variables = {name: label for group in groups for name, label in group.variables.items()}
    arrays: dict[str, xr.Variable] = {}
    reached, ended = np.full(trials, -1, np.int32), np.full(trials, -1, np.int32)
    for index, piece in pieces:
        if piece.final:
            piece = _newest(piece, ended)
        elif len(piece.trials):
            reached[piece.trials] = np.maximum(reached[piece.trials], piece.epochs[-1])
        group = groups[index]
        for name, values in piece.record.items():
            label = variables.get(name) or _unlabelled(name, values, piece)
            if name not in arrays:
                arrays[name] = _empty(name, label, values, piece, (trials, epochs + 1), labels)
            _fill(arrays, name, piece, values, label, group.coordinates, labels)
    arrays["epochs_run"] = xr.Variable("trial", reached, {"long_name": "epochs run", "units": "epoch"})
    _add_chance(arrays, groups)
    _add_units(arrays, groups)
    dataset = xr.Dataset(arrays, attrs=dict(attributes))
    own = {dim: (dim, _text(names)) for dim, names in labels.items() if dim in dataset.dims}
    return dataset.assign_coords(
        {"trial": np.arange(trials), "epoch": np.arange(epochs + 1)}
        | own
        | {name: ("trial", _column(values)) for name, values in coordinates.items()}
    )


def _check_memory(pieces: Sequence[tuple[int, Piece]], trials: int, epochs: int) -> None:
    """Raise before arrays are made that this process cannot hold."""
    sizes: dict[str, int] = {}
    for _, piece in pieces:
        for name, values in piece.record.items():
            own = math.prod(values.shape[1 if piece.final else 2 :]) * values.dtype.itemsize
            sizes[name] = max(sizes.get(name, 0), trials * own * (1 if piece.final else epochs + 1))
    check_epochs(trials, epochs, sum(sizes.values()) + 8 * (epochs + 1))


def check_epochs(trials: int, epochs: int, size: int) -> None:
    """Raise where the results of some trials, ``size`` bytes, take more memory than is free."""
    try:
        check_fits(size)
    except ValueError as error:
        raise InputError(
            "epochs", epochs, f"is too many for the results of {trials} trials: {error}"
        ) from None


def not_reached(dtype: np.dtype) -> float:
    """What stands for what a trial did not reach: NaN; −1 for integers."""
    return np.nan if jax.dtypes.issubdtype(dtype, np.inexact) else -1


def _newest(piece: Piece, ended: np.ndarray) -> Piece:
    """The part of a piece of last records that no later one has replaced; ``ended`` is brought up to date."""
    rows = piece.epochs >= ended[piece.trials]
    ended[piece.trials[rows]] = piece.epochs[rows]
    return piece._replace(
        trials=piece.trials[rows], record={name: values[rows] for name, values in piece.record.items()}
    )


def _labels(groups: Sequence[GroupInfo]) -> dict[str, list[str]]:
    """Union over the groups of the labels of each dimension, in order of appearance."""
    labels: dict[str, dict[str, None]] = {}
    for group in groups:
        for dim, names in group.coordinates.items():
            labels.setdefault(dim, {}).update(dict.fromkeys(names))
    return {dim: list(names) for dim, names in labels.items()}


def _unlabelled(name: str, values: np.ndarray, piece: Piece) -> Variable:
    lead = 1 if piece.final else 2
    return Variable(
        name.replace("_", " "), "1", tuple(f"{name}_{axis}" for axis in range(values.ndim - lead))
    )


def _empty(name, label: Variable, values, piece: Piece, size: tuple[int, int], labels) -> xr.Variable:
    lead = ("trial",) if piece.final else ("trial", "epoch")
    own = tuple(
        len(labels[dim]) if dim in labels else extent
        for dim, extent in zip(label.dims, values.shape[len(lead) :], strict=True)
    )
    fill = not_reached(values.dtype)
    attributes = {"long_name": label.long_name, "units": label.units}
    attributes |= {key: getattr(label, key) for key in ("comment", "better") if getattr(label, key)}
    shape = (*size[: len(lead)], *own)
    return xr.Variable((*lead, *label.dims), np.full(shape, fill, values.dtype), attributes)


def _add_chance(arrays: dict[str, xr.Variable], groups: Sequence[GroupInfo]) -> None:
    """The chance level of each variable as an attribute, where the groups agree about it."""
    for name, array in arrays.items():
        levels = {group.variables[name].chance for group in groups if name in group.variables}
        if len(levels) == 1 and None not in levels:
            array.attrs["chance"] = levels.pop()


def _add_units(arrays: dict[str, xr.Variable], groups: Sequence[GroupInfo]) -> None:
    """No units, and a word about it, where the groups disagree: a loss in K in one of them, in K² in another."""
    for name, array in arrays.items():
        units = {group.variables[name].units for group in groups if name in group.variables}
        if len(units) > 1:
            array.attrs |= {"units": "1", "comment": "the units differ between groups"}


def _fill(arrays, name, piece: Piece, values, label: Variable, coordinates, labels) -> None:
    """Write one piece's values where they belong; an axis without labels grows where a group's is longer."""
    target = arrays[name]
    lead = (piece.trials,) if piece.final else (piece.trials, piece.epochs)
    own = []
    for dim, extent in zip(label.dims, values.shape[len(lead) :], strict=True):
        if dim in labels:
            own.append(np.array([labels[dim].index(each) for each in coordinates[dim]]))
        else:
            own.append(np.arange(extent))
            missing = extent - target.sizes[dim]
            if missing > 0:
                fill = not_reached(target.dtype)
                target = target.pad({dim: (0, missing)}, constant_values=fill)
    target.data[np.ix_(*lead, *own)] = values
    arrays[name] = target


def _column(values: Sequence[Any]) -> np.ndarray:
    """Numbers or flags as they are; anything else as `texts`.

    None stands for what a trial does not use: NaN among numbers, else an empty text.
    """
    given = [value for value in values if value is not None]
    if all(isinstance(value, (int, float, bool, np.generic)) for value in given):
        filled = [np.nan if value is None else value for value in values]
        column = np.asarray(filled)
        # Not where NumPy would make one value of two: of True and 1, or of large whole numbers beside fractions.
        flags = sum(isinstance(value, (bool, np.bool_)) for value in given)
        if flags in (0, len(values)) and column.dtype != object and _same(column.tolist(), filled):
            return column
    return _text(texts(values, ""))


def texts(values: Sequence[Any], nothing: str = "None") -> list[str]:
    """Values as text in which different ones differ: words are as they are, but in quotes beside 1 and "1"."""
    shown = [value if isinstance(value, str) else _shown(value, nothing) for value in values]
    words = [isinstance(value, str) for value in values]
    if {text for text, word in zip(shown, words, strict=True) if not word}.isdisjoint(
        text for text, word in zip(shown, words, strict=True) if word
    ):
        return shown
    return [repr(text) if word else text for text, word in zip(shown, words, strict=True)]


def _same(column: Sequence[Any], values: Sequence[Any]) -> bool:
    """Whether all values are equal, NaN to itself; Python compares whole numbers and fractions exactly."""
    pairs = zip(column, values, strict=True)
    return all(each == value or (each != each and value != value) for each, value in pairs)


def _shown(value: Any, nothing: str) -> str:
    return nothing if value is None else getattr(value, "__name__", None) or str(value)


def _text(names: Iterable[str]) -> np.ndarray:
    # Objects, not fixed-width strings, which zarr's stores disagree about.
    return np.array(list(names), dtype=object)
