"""What is guessed of arrays, and which guesses are doubtful enough for a warning that says how to be explicit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxlab.datasets.conversion import Reading, one_hot_rows
from jaxlab.datasets.dataset import Dataset, Split
from jaxlab.datasets.describe import interval, sizes
from jaxlab.errors import InputError

# Axes of so many entries are likely channels: grey, red-green-blue, with alpha.
_CHANNELS = (1, 3, 4)
# Inputs of this size are likely without a scale; uint8 of at most that size is likely not of the range 0 to 255.
_LARGE = 100
_SMALL_BYTE = 31
# Labels of more classes than this, with fewer examples of each than that, are likely counts; so are very many classes.
_MANY_CLASSES = 20
_FEW_EXAMPLES = 20
_VERY_MANY_CLASSES = 100


def count_classes(splits: dict[str, Split], reading: Reading) -> int | None:
    """The largest label + 1, None for regression.

    Raises:
        InputError: every label is the same, or the labels make more classes than there are examples.
    """
    splits = {field: split for field, split in splits.items() if split.targets.dtype == np.int32}
    if "train" not in splits:
        return None
    first = reading.first_label or 0
    largest = {field: int(split.targets.max()) for field, split in splits.items()}
    field = max(largest, key=largest.__getitem__)
    classes = largest[field] + 1
    labels = [split.targets for split in splits.values()]
    examples = sum(map(len, labels))
    if all((each == labels[0][0]).all() for each in labels):
        remedy = "every example has this label: give two classes or more, or say how many there are: classes"
        raise InputError(f"{field}.targets", largest[field] + first, remedy)
    if classes > max(2, examples):
        remedy = (
            f"this label makes {classes:,} classes for {examples:,} examples: correct it, or say classes, or "
            'targets = "numbers" for regression'
        )
        raise InputError(f"{field}.targets", largest[field] + first, remedy)
    return classes


def doubts(
    data: Dataset, given: dict[str, Split], reading: Reading, classes_guessed: bool, scale_guessed: bool
) -> Iterator[str]:
    """One line for each doubtful guess.

    Args:
        data: as it was put together.
        given: the splits that were not drawn.
        reading: what was said of the arrays.
        classes_guessed: the number of classes is a guess.
        scale_guessed: the scale is a guess.
    """
    if reading.channels == "auto" and not reading.add_channel:
        yield from _layout(data.train.inputs)
    if scale_guessed:
        yield from _scale(data)
    if data.classes is None and reading.targets == "auto":
        yield from _numbers(data.train.targets)
    if data.classes is not None and classes_guessed and reading.targets != "one_hot":
        yield from _labels([split.targets for split in given.values()], data.classes, reading)


def _layout(inputs: np.ndarray) -> Iterator[str]:
    shape = inputs.shape[1:]
    if len(shape) > 1 and shape[0] in _CHANNELS and min(shape[1:]) > max(_CHANNELS):
        yield (
            f"the inputs are {sizes(shape)}, taken as {shape[-1]} channels: say channels = 'first' if there are "
            f"{shape[0]}, or channels = 'last'"
        )
    elif len(shape) == 2 and inputs.dtype == np.uint8 and min(shape) > max(_CHANNELS):
        yield (
            f"the inputs are {sizes(shape)} of uint8, taken as signals of {shape[-1]} channels: say add_channel = "
            "true if they are grey images, or channels = 'last'"
        )


def _scale(data: Dataset) -> Iterator[str]:
    inputs = data.train.inputs
    seen = interval(inputs, data.scale, data.shift)
    if inputs.dtype == np.uint8:
        largest = int(inputs.max())
        if 0 < largest <= _SMALL_BYTE:
            yield (
                f"the inputs are uint8 in {interval(inputs)}, which the network sees as {seen}: say scale, 1/{largest} "
                "to see the largest as 1, or 1/255"
            )
    elif max(abs(float(inputs.min())), abs(float(inputs.max()))) >= _LARGE:
        yield (
            f"the inputs are in {interval(inputs)}, which the network sees as they are: say scale and shift, or "
            "input_range or standardize (see datasets.modify), or scale = 1"
        )


def _numbers(targets: np.ndarray) -> Iterator[str]:
    if targets.shape[1] > 1:
        if one_hot_rows(targets).all():
            yield (
                f"every target is a single 1 among {targets.shape[1]} numbers, taken as regression: say "
                "targets = 'one_hot' for classification, or targets = 'numbers'"
            )
        return
    values = np.unique(targets)
    consecutive = 2 <= len(values) <= min(_MANY_CLASSES, len(targets) // 2)
    if consecutive and values[0] in (0, 1) and (values == values[0] + np.arange(len(values))).all():
        yield (
            f"the targets are the whole numbers {values[0]:g} to {values[-1]:g} in floating point, taken as "
            "regression: say targets = 'labels' for classification, or targets = 'numbers'"
        )


def _labels(targets: list[np.ndarray], classes: int, reading: Reading) -> Iterator[str]:
    counts = sum(np.bincount(each, minlength=classes) for each in targets)
    missing, first = np.flatnonzero(counts == 0), reading.first_label or 0
    if missing.tolist() == [0] and reading.first_label is None:
        yield (
            f"the labels are 1 to {classes - 1}, taken as {classes} classes of which 0 has no example: say "
            f"first_label = 1, or classes = {classes}"
        )
        return
    few = classes > _MANY_CLASSES and counts.sum() < _FEW_EXAMPLES * classes
    if len(missing) or ((few or classes > _VERY_MANY_CLASSES) and reading.targets == "auto"):
        without = f"{len(missing)} of them without an example" if len(missing) else "and may be counts"
        yield (
            f"the targets are whole numbers {first} to {first + classes - 1}, taken as labels of {classes} classes, "
            f"{without}: say classes = {classes}, or targets = 'numbers' for regression"
        )
