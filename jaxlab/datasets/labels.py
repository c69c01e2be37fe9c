"""Labels that are no whole numbers: text, bytes, categories and other values, which become class names."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxlab.datasets.frames import is_categorical
from jaxlab.errors import InputError


def named_labels(field: str, targets: Any) -> list[Any] | None:
    """Return labels that are no numbers, text as `str`; None for targets that are numbers.

    Args:
        field: name of the targets, for errors.
        targets: NumPy array or pandas Series.

    Raises:
        InputError: a label is missing, or the labels are of several types.
    """
    array = np.asarray(targets)
    if array.dtype.kind not in "USO" and not (is_categorical(targets) and array.dtype.kind not in "bui"):
        return None
    if array.ndim != 1 and array.dtype.kind == "O":  # numbers of several types, as a rule
        return None
    if array.ndim != 1:
        raise InputError(field, array.shape, "give one label for each example, [N]")
    labels = array.tolist()
    for index, label in enumerate(labels):
        if _is_missing(label):
            raise InputError(f"{field}[{index}]", label, "a label is missing; remove the example")
    if any(isinstance(label, numbers.Number) for label in labels) and not is_categorical(targets):
        return None
    labels = list(map(_text, labels))
    types = {type(label).__name__: label for label in labels}
    if len(types) > 1:
        (first, one), (second, other), *_ = types.items()
        raise InputError(field, [one, other], f"the labels are of types {first} and {second}; give one type")
    return labels


def _text(label: Any) -> Any:
    """Text and bytes as `str`; any other label as it is."""
    if isinstance(label, bytes):
        return label.decode("utf-8", "backslashreplace")
    return str(label) if isinstance(label, str) else label


def _is_missing(label: Any) -> bool:
    """Whether a label is None, NaN, NaT or pandas' NA, none of which equals itself."""
    return label is None or (not isinstance(label, str | bytes) and not _equals_itself(label))


def _equals_itself(label: Any) -> bool:
    try:
        return bool(label == label)
    except (TypeError, ValueError):  # NA has no truth value
        return False


def names_of(labels: Mapping[str, list[Any]]) -> tuple[str, ...]:
    """The distinct labels of all splits as text, in the sorted order of their values.

    Raises:
        InputError: the labels cannot be sorted, or there is only one.
    """
    field = next(iter(labels))
    try:
        values = sorted(set().union(*labels.values()))
    except TypeError:
        remedy = "such labels cannot be sorted; give text or whole numbers"
        raise InputError(f"{field}.targets", labels[field][0], remedy) from None
    if len(values) == 1:
        remedy = "every example has this label; give data of at least two classes, or set class_names"
        raise InputError(f"{field}.targets", values[0], remedy)
    return tuple(map(str, values))


def encode(field: str, labels: Iterable[Any], names: tuple[str, ...]) -> np.ndarray:
    """Indices of the labels among the names, int32 [N].

    Raises:
        InputError: a label is not among the names.
    """
    index = {name: number for number, name in enumerate(names)}
    found = np.array([index.get(str(label), -1) for label in labels], np.int32)
    if (found < 0).any():
        first = int(np.argmax(found < 0))
        remedy = f"is not among the {len(names)} class_names; add it, or correct the label"
        raise InputError(f"{field}[{first}]", list(labels)[first], remedy)
    return found
