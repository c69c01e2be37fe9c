"""Data sets from a user's own arrays."""

from __future__ import annotations

import inspect
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxlab import checks
from jaxlab.datasets.conversion import CHANNELS, TARGETS, Reading, convert
from jaxlab.datasets.dataset import SPLITS, Dataset, Split, check_classes, check_split
from jaxlab.datasets.draws import stratified_order
from jaxlab.datasets.guesses import count_classes, doubts
from jaxlab.errors import InputError, UnknownName


def from_arrays(
    train: Any,
    test: Any = None,
    validation: Any = None,
    *,
    classes: Any = None,
    targets: Any = "auto",
    first_label: Any = None,
    channels: Any = "auto",
    add_channel: Any = False,
    scale: Any = None,
    shift: Any = 0.0,
    validation_fraction: Any = 0.1,
    test_fraction: Any = 0.1,
    split_seed: Any = 0,
    name: Any = "arrays",
    target_units: Any = "",
) -> Dataset:
    """A data set from NumPy or JAX arrays, or from what NumPy converts to arrays of real numbers.

    Inputs are [N, *spatial, C], channels last. An axis of one channel is added only if ``add_channel`` says
    so, since [N, H, W] might as well be signals of length H with W channels. uint8 is kept, other real
    numbers become float32.

    Integer targets [N] are labels from 0: classification. Float targets [N] or [N, K] are regression; [N]
    becomes [N, 1].

    What is not said is guessed. `Dataset.summary` prints what came of it, and a doubtful guess warns: labels
    that leave a class without an example, or whole numbers with so many values that they could be counts;
    floats that could be labels or one-hot rows; an axis that could be the channels in front; inputs so large
    or so small that they could lack a scale. The warning names the argument that says it.

    Args:
        train: a pair (inputs, targets).
        test, validation: likewise. One that is not given is drawn from ``train``, each class in its
            proportion. Where both are given, the arrays are not copied.
        classes: number of classes; by default the largest label + 1.
        targets: "labels" (whole numbers of any type), "numbers" (regression), "one_hot" (rows of zeros and a
            single one, which become labels), or "auto": by their type.
        first_label: the label that counts as class 0; by default 0.
        channels: "last", "first" ([N, C, *spatial], which is rearranged), or "auto": last.
        add_channel: append an axis of one channel to all inputs.
        scale, shift: the network sees inputs · scale + shift. Scale is by default 1/255 for uint8, otherwise
            1.
        validation_fraction, test_fraction: of the examples of ``train`` as given, in (0, 1); used where the
            split is not given.
        split_seed: of that draw.
        name, target_units: see `Dataset`.

    Raises:
        InputError: for arrays that cannot be converted, with a mask or with named fields; for labels of one
            class only, or of more classes than examples, unless ``classes`` says so; and as `Dataset` does.
    """
    reading = Reading(
        checks.one_of("targets", targets, TARGETS),
        None if first_label is None else checks.whole("first_label", first_label, 0),
        checks.one_of("channels", channels, CHANNELS),
        checks.flag("add_channel", add_channel),
    )
    classes, split_seed = check_classes(classes), checks.whole("split_seed", split_seed, 0)
    given = {"train": train, "validation": validation, "test": test}
    splits = {field: convert(field, pair, reading) for field, pair in given.items() if pair is not None}
    known = classes if classes is not None else count_classes(splits, reading)
    for field, split in splits.items():  # before the draw, so that an error names what was given
        check_split(field, split, known, reading.first_label)
    fractions = {"validation": validation_fraction, "test": test_fraction}
    fractions = {field: _fraction(f"{field}_fraction", value) for field, value in fractions.items()}
    drawn = _draw(splits, fractions, split_seed)
    guessed = scale is None
    if guessed:
        scale = 1 / 255 if drawn["train"].inputs.dtype == np.uint8 else 1.0
    data = Dataset(name, **drawn, classes=known, scale=scale, shift=shift, target_units=target_units)
    for doubt in doubts(data, splits, reading, classes is None, guessed):
        warnings.warn(doubt, stacklevel=2)
    return data


def from_npz(path: Any, **options: Any) -> Dataset:
    """A data set from a NumPy ``.npz`` file, read without pickle.

    Its keys are ``x_train`` and ``y_train``, and optionally ``x_validation``, ``y_validation``, ``x_test``
    and ``y_test`` (so Keras' ``mnist.npz`` works, with ``add_channel=True``); others are left alone.

    Args:
        path: of the file.
        **options: those of `from_arrays`; ``name`` is by default the file's name without its ending.

    Raises:
        InputError: for an unknown option; if the file is missing, truncated, not an ``.npz`` file, holds
            pickled objects or lacks a key; and as `from_arrays` does.
    """
    path = checks.path("path", path)
    for option in options:
        if option not in ARRAY_OPTIONS:
            raise UnknownName("the options of from_npz", option, ARRAY_OPTIONS)
    if not path.is_file():
        raise InputError("path", str(path), "there is no such file; give the path of an .npz file")
    try:
        with path.open("rb") as file:  # by name, NumPy leaves a broken file open
            arrays = _read_npz(path, np.load(file, allow_pickle=False))
    except InputError:
        raise
    except ValueError:  # what NumPy raises for objects, and for a file that is neither .npz nor .npy
        remedy = "it holds pickled objects or is no .npz file; write plain numeric arrays with numpy.savez"
        raise InputError("path", str(path), remedy) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise InputError("path", str(path), f"it is truncated or corrupt ({error}); write it again") from None
    pairs = {split: _pair(path, arrays, split) for split in SPLITS}
    if pairs["train"] is None:
        raise _lacks(path, "x_train and y_train", arrays)
    return from_arrays(**pairs, **{"name": path.stem} | options)


#: What `from_npz` takes besides the path.
ARRAY_OPTIONS = {
    each.name: each
    for each in inspect.signature(from_arrays).parameters.values()
    if each.kind is each.KEYWORD_ONLY
}


def _read_npz(path: Path, loaded: Any) -> dict[str, np.ndarray | None]:
    """Every key of the file; the array of those that are read."""
    if isinstance(loaded, np.ndarray):
        raise InputError("path", str(path), "it holds one array; write several with numpy.savez")
    with loaded:
        keys = [f"{axis}_{split}" for split in SPLITS for axis in "xy"]
        return {key: loaded[key] if key in keys else None for key in loaded.files}


def _pair(path: Path, arrays: dict[str, Any], split: str) -> tuple[np.ndarray, np.ndarray] | None:
    keys = [f"x_{split}", f"y_{split}"]
    missing = [key for key in keys if key not in arrays]
    if len(missing) == 1:
        raise _lacks(path, missing[0], arrays)
    return None if missing else (arrays[keys[0]], arrays[keys[1]])


def _lacks(path: Path, wanted: str, arrays: dict[str, Any]) -> InputError:
    held = ", ".join(arrays) or "nothing"
    remedy = f"it lacks {wanted}: it holds {held}; write x_train, y_train, x_test, ... with numpy.savez"
    return InputError("path", str(path), remedy)


def _fraction(field: str, value: Any) -> float:
    remedy = f"give a fraction above 0 and below 1, or give {field.removesuffix('_fraction')}"
    return float(checks.number(field, value, above=0, below=1, remedy=remedy))


def _draw(given: dict[str, Split], fractions: dict[str, float], split_seed: int) -> dict[str, Split]:
    """All splits: those given, and the others drawn from the training split as it was given."""
    missing = [field for field in fractions if field not in given]
    if not missing:
        return given
    train = given["train"]
    order = stratified_order(split_seed, "split", train.targets)
    splits = dict(given)
    for field in missing:
        size = max(1, round(fractions[field] * len(train.targets)))
        if size >= len(order):
            raise InputError(
                f"{field}_fraction",
                fractions[field],
                f"it leaves nothing to train on of {len(train.targets)} examples; give less, or more data",
            )
        taken, order = np.sort(order[:size]), order[size:]
        splits[field] = Split(train.inputs[taken], train.targets[taken])
    kept = np.sort(order)
    return splits | {"train": Split(train.inputs[kept], train.targets[kept])}
