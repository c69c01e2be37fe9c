"""Conversion of user-supplied arrays to the arrays of a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxlab.datasets.dataset import Split, check_examples, check_unmasked
from jaxlab.datasets.frames import check_same_rows, is_categorical, is_frame, without_pandas
from jaxlab.datasets.labels import encode, named_labels
from jaxlab.errors import InputError

TARGETS = ("auto", "labels", "numbers", "one_hot")
CHANNELS = ("auto", "last", "first")


class Conventions(NamedTuple):
    """Conventions of user-supplied arrays, see `from_arrays`."""

    targets: str
    first_label: int | None
    channels: str
    add_channel: bool


@dataclass(frozen=True)
class Given:
    """A split as given: arrays, and labels that are no numbers, or None."""

    inputs: np.ndarray
    targets: np.ndarray
    labels: list[Any] | None


def read(field: str, pair: Any, conventions: Conventions) -> Given:
    """Read a pair of arrays, whatever their library."""
    try:
        inputs, targets = pair
    except (TypeError, ValueError):
        raise InputError(field, type(pair).__name__, "give a pair (inputs, targets)") from None
    check_same_rows(f"{field}.targets", inputs, targets)
    if is_frame(targets) and targets.shape[1] == 1:
        targets = targets.iloc[:, 0]
    targets = without_pandas(f"{field}.targets", targets)
    array = as_array(f"{field}.targets", targets)
    labels = named_labels(f"{field}.targets", targets if is_categorical(targets) else array)
    if labels is not None:
        array = np.zeros(len(labels), np.int32)
        _check_named(field, labels, conventions)
    inputs = as_array(f"{field}.inputs", without_pandas(f"{field}.inputs", inputs))
    return Given(_real(f"{field}.inputs", inputs), _real(f"{field}.targets", array), labels)


def _check_named(field: str, labels: list[Any], conventions: Conventions) -> None:
    """Raise InputError where the conventions are those of numbers."""
    if conventions.targets in ("numbers", "one_hot") and labels:
        remedy = f'is not a number; omit targets = "{conventions.targets}" for classification'
        raise InputError(f"{field}.targets[0]", labels[0], remedy)
    if conventions.first_label is not None:
        raise InputError("first_label", conventions.first_label, "omit it: the labels are names, not numbers")


def convert(field: str, given: Given, conventions: Conventions, names: tuple[str, ...] | None) -> Split:
    """Convert a pair to a split with the dtypes and axes of a `Dataset`, copying only what must change.

    Args:
        field: name of the split.
        given: the arrays.
        conventions: conventions of the arrays.
        names: class names, by which labels that are no numbers are encoded.
    """
    inputs = _inputs(f"{field}.inputs", given.inputs, conventions)
    if given.labels is None:
        targets = _targets(f"{field}.targets", given.targets, conventions)
    else:
        targets = encode(f"{field}.targets", given.labels, names or ())
    split = Split(inputs, targets)
    check_examples(field, split)
    return split


def _inputs(field: str, inputs: np.ndarray, conventions: Conventions) -> np.ndarray:
    if inputs.dtype != np.uint8:
        inputs = _to_float32(inputs)
    if conventions.channels == "first":
        if conventions.add_channel:
            raise InputError("add_channel", True, 'omit add_channel or channels = "first"')
        if inputs.ndim < 3:
            raise InputError(field, inputs.shape, 'give [N, C, *spatial], or omit channels = "first"')
        return np.ascontiguousarray(np.moveaxis(inputs, 1, -1))
    return inputs[..., None] if conventions.add_channel else inputs


def _targets(field: str, targets: np.ndarray, conventions: Conventions) -> np.ndarray:
    if conventions.targets == "one_hot":
        return _from_one_hot(field, targets)
    floating = targets.dtype.kind == "f"
    if conventions.targets == "numbers" or (conventions.targets == "auto" and floating):
        numbers = _to_float32(targets)
        return numbers[:, None] if numbers.ndim == 1 else numbers
    if floating and not (targets == np.floor(targets)).all():
        (first, *_) = targets[targets != np.floor(targets)].tolist()
        raise InputError(field, first, "labels must be whole numbers; correct it, or omit targets")
    return _to_labels(field, targets, conventions.first_label or 0)


_REMEDIES = {
    "O": "convert them to one type, e.g. array.astype(np.float32)",
    "c": "e.g. real and imaginary parts as two channels",
    "M": "e.g. seconds since a start, (array - array.min()) / np.timedelta64(1, 's')",
    "m": "e.g. seconds, array / np.timedelta64(1, 's')",
    "V": "named fields become columns with numpy.lib.recfunctions.structured_to_unstructured",
}
_TEXT_REMEDY = "encode text first"


def as_array(field: str, values: Any) -> np.ndarray:
    """Convert to a NumPy array; bfloat16 and similar dtypes become float32."""
    check_unmasked(field, values)
    # NumPy would turn a missing value among text, as in ["cat", None], into text.
    has_text = isinstance(values, list | tuple) and any(isinstance(each, str | bytes) for each in values)
    try:
        array = np.asarray(values, object if has_text else None)
    except ValueError:
        raise InputError(field, type(values).__name__, "give rows of equal lengths, as one array") from None
    except Exception as error:  # any error of another library's array, e.g. on another device
        reason = " ".join(str(error).split())
        remedy = f"NumPy cannot read it ({reason}); convert it to a NumPy array first"
        raise InputError(field, type(values).__name__, remedy) from None
    if array.dtype.kind == "V" and array.dtype.names is None and np.can_cast(array.dtype, np.float32):
        array = array.astype(np.float32)
    return array


def _real(field: str, array: np.ndarray) -> np.ndarray:
    """Check that an array holds booleans, integers or floats."""
    if array.dtype.kind not in "buif":
        shown = array.dtype.name if array.dtype.names is None else str(array.dtype)
        how = _REMEDIES.get(array.dtype.kind, _TEXT_REMEDY)
        raise InputError(field, shown, f"give an array of real numbers; {how}")
    return array


def _to_float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # an overflow is infinite, which Dataset refuses
        return np.asarray(array, np.float32)


def _from_one_hot(field: str, targets: np.ndarray) -> np.ndarray:
    if targets.ndim != 2 or targets.shape[1] < 2:
        raise InputError(field, targets.shape, "give one-hot rows [N, classes]")
    wrong = np.flatnonzero(~one_hot_rows(targets))
    if len(wrong):
        row = targets[wrong[0]].tolist()
        raise InputError(f"{field}[{wrong[0]}]", row, "give one-hot rows, each with a single 1 among zeros")
    return targets.argmax(axis=1).astype(np.int32)


def one_hot_rows(targets: np.ndarray) -> np.ndarray:
    """Whether each row is one-hot, a single 1 among zeros: bool [N]."""
    return ((targets == 0) | (targets == 1)).all(axis=1) & ((targets == 1).sum(axis=1) == 1)


def _to_labels(field: str, targets: np.ndarray, first: int) -> np.ndarray:
    if targets.ndim != 1:
        remedy = 'give integer labels [N], or set targets = "one_hot", or "numbers" for regression'
        raise InputError(field, targets.shape, remedy)
    if targets.size == 0:
        return targets.astype(np.int32)
    for label in (targets.min(), targets.max()):
        if not first <= label < 2**31 - 1:  # before the cast to int32, which would wrap
            remedy = f'give labels from {first}, or set targets = "numbers" for regression'
            raise InputError(field, label.item(), remedy)
    return targets.astype(np.int32) - np.int32(first)
