"""Guesses about user-supplied arrays, and warnings for doubtful ones that name the argument to set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxlab.datasets.conversion import Conventions, one_hot_rows
from jaxlab.datasets.dataset import Dataset, Split, interval, sizes
from jaxlab.errors import InputError

# An axis of one of these sizes is probably that of channels: grey, RGB, RGBA.
_CHANNELS = (1, 3, 4)
# Inputs this large probably lack a scale; uint8 inputs with a maximum this small probably do not span 0 to 255.
_LARGE = 100
_SMALL_BYTE = 31
# More classes than this with fewer examples per class, or very many classes, are probably counts.
_MANY_CLASSES = 20
_FEW_EXAMPLES = 20
_VERY_MANY_CLASSES = 100


def count_classes(splits: dict[str, Split], conventions: Conventions) -> int | None:
    """Guess the number of classes: the largest label + 1, None for regression.

    Raises:
        InputError: all labels are equal, or imply more classes than there are examples.
    """
    splits = {field: split for field, split in splits.items() if split.targets.dtype == np.int32}
    if "train" not in splits:
        return None
    first = conventions.first_label or 0
    largest = {field: int(split.targets.max()) for field, split in splits.items()}
    field = max(largest, key=largest.__getitem__)
    classes = largest[field] + 1
    labels = [split.targets for split in splits.values()]
    examples = sum(map(len, labels))
    if all((each == labels[0][0]).all() for each in labels):
        remedy = "every example has this label; give data of at least two classes, or set classes"
        raise InputError(f"{field}.targets", largest[field] + first, remedy)
    if classes > max(2, examples):
        remedy = (
            f"this label implies {classes:,} classes for {examples:,} examples; correct it, or set classes, or "
            'targets = "numbers" for regression'
        )
        raise InputError(f"{field}.targets", largest[field] + first, remedy)
    return classes


def doubtful_guesses(
    data: Dataset,
    given: dict[str, Split],
    conventions: Conventions,
    classes_guessed: bool,
    scale_guessed: bool,
    named: bool,
) -> Iterator[str]:
    """Yield a one-line warning for each doubtful guess.

    Args:
        data: the complete data set.
        given: the splits that the user gave, not those drawn from them.
        conventions: conventions of the arrays.
        classes_guessed: whether the number of classes is a guess.
        scale_guessed: whether the scale is a guess.
        named: whether the labels are no numbers.
    """
    if conventions.channels == "auto" and not conventions.add_channel:
        yield from _layout(data.train.inputs)
    if scale_guessed:
        yield from _scale(data)
    if data.classes is None and conventions.targets == "auto":
        yield from _numbers(data.train.targets)
    if named and classes_guessed:
        yield from _names([split.targets for split in given.values()], data.classes)
    elif data.classes is not None and classes_guessed and conventions.targets != "one_hot":
        yield from _labels([split.targets for split in given.values()], data.classes, conventions)


def _layout(inputs: np.ndarray) -> Iterator[str]:
    shape = inputs.shape[1:]
    if len(shape) > 1 and shape[0] in _CHANNELS and min(shape[1:]) > max(_CHANNELS):
        yield (
            f"the inputs are {sizes(shape)}, taken as {shape[-1]} channels: set channels = 'first' if there are "
            f"{shape[0]}, or channels = 'last'"
        )
    elif len(shape) == 2 and inputs.dtype == np.uint8 and min(shape) > max(_CHANNELS):
        yield (
            f"the inputs are {sizes(shape)} of uint8, taken as signals of {shape[-1]} channels: set add_channel = "
            "true if they are grey images, or channels = 'last'"
        )


def _scale(data: Dataset) -> Iterator[str]:
    inputs = data.train.inputs
    seen = interval(inputs, data.scale, data.shift)
    if inputs.dtype == np.uint8:
        largest = int(inputs.max())
        if 0 < largest <= _SMALL_BYTE:
            yield (
                f"the inputs are uint8 in {interval(inputs)}, which the network sees as {seen}: set scale, 1/{largest} "
                "to see the largest as 1, or 1/255"
            )
    elif max(abs(float(inputs.min())), abs(float(inputs.max()))) >= _LARGE:
        yield (
            f"the inputs are in {interval(inputs)}, which the network sees as they are: set scale and shift, or "
            "input_range or standardize (see datasets.modify), or scale = 1"
        )


def _numbers(targets: np.ndarray) -> Iterator[str]:
    if targets.shape[1] > 1:
        if one_hot_rows(targets).all():
            yield (
                f"every target is a single 1 among {targets.shape[1]} numbers, taken as regression: set "
                "targets = 'one_hot' for classification, or targets = 'numbers'"
            )
        return
    values = np.unique(targets)
    consecutive = 2 <= len(values) <= min(_MANY_CLASSES, len(targets) // 2)
    if consecutive and values[0] in (0, 1) and (values == values[0] + np.arange(len(values))).all():
        yield (
            f"the targets are the whole numbers {values[0]:g} to {values[-1]:g} in floating point, taken as "
            "regression: set targets = 'labels' for classification, or targets = 'numbers'"
        )


def _names(targets: list[np.ndarray], classes: int) -> Iterator[str]:
    examples = sum(map(len, targets))
    if classes > _MANY_CLASSES and examples < _FEW_EXAMPLES * classes:
        yield (
            f"the targets of {examples} examples have {classes} different values, taken as class names: set "
            "class_names if they are, or take other targets"
        )


def _labels(targets: list[np.ndarray], classes: int, conventions: Conventions) -> Iterator[str]:
    counts = sum(np.bincount(each, minlength=classes) for each in targets)
    missing, first = np.flatnonzero(counts == 0), conventions.first_label or 0
    if missing.tolist() == [0] and conventions.first_label is None:
        yield (
            f"the labels are 1 to {classes - 1}, taken as {classes} classes of which 0 has no example: set "
            f"first_label = 1, or classes = {classes}"
        )
        return
    few = classes > _MANY_CLASSES and counts.sum() < _FEW_EXAMPLES * classes
    if len(missing) or ((few or classes > _VERY_MANY_CLASSES) and conventions.targets == "auto"):
        without = f"{len(missing)} of them without an example" if len(missing) else "and may be counts"
        yield (
            f"the targets are whole numbers {first} to {first + classes - 1}, taken as labels of {classes} classes, "
            f"{without}: set classes = {classes}, or targets = 'numbers' for regression"
        )
