"""Data sets from custom arrays, in memory or in an ``.npz`` file."""

from __future__ import annotations

import inspect
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxlab import checks
from jaxlab.datasets.conversion import CHANNELS, TARGETS, Conventions, convert
from jaxlab.datasets.dataset import SPLITS, Dataset, Split, check_classes, check_split
from jaxlab.datasets.draws import stratified_order
from jaxlab.datasets.guesses import count_classes, doubtful_guesses
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
    """Make a data set from NumPy or JAX arrays, or from anything that NumPy converts to arrays of real numbers.

    Inputs are [N, *spatial, C], channels last. A channel axis is added only if ``add_channel`` is True, since
    [N, H, W] could also be signals of length H with W channels. uint8 is kept; other real numbers become
    float32.

    Integer targets [N] are labels from 0 (classification). Float targets [N] or [N, K] are those of a regression;
    [N] becomes [N, 1].

    Arguments left at their defaults are guessed. `Dataset.summary` shows the result, and a doubtful guess warns:
    labels that leave a class without an example, or whole numbers with so many values that they could be counts;
    floats that could be labels or one-hot rows; a first axis that could be the channels; inputs so large or so
    small that a scale could be missing. The warning names the argument that settles it.

    Args:
        train: a pair (inputs, targets).
        test, validation: pairs too. A missing one is drawn from ``train``, stratified by class. If both are
            given, the arrays are not copied.
        classes: number of classes; by default the largest label + 1.
        targets: "labels" (whole numbers of any dtype), "numbers" (regression), "one_hot" (rows with a single 1
            among zeros, which become labels), or "auto", which decides by dtype.
        first_label: the label of class 0; 0 by default.
        channels: "last", "first" ([N, C, *spatial], which is transposed), or "auto", which means last.
        add_channel: append a channel axis of size 1 to all inputs.
        scale, shift: the network sees inputs · scale + shift. The default scale is 1/255 for uint8, else 1.
        validation_fraction, test_fraction: fraction of the examples of ``train`` to draw, in (0, 1), if the split
            is not given.
        split_seed: seed of that draw.
        name, target_units: see `Dataset`.

    Raises:
        InputError: an array cannot be converted, has a mask or has named fields; the labels have only one
            class, or more classes than examples, and ``classes`` is not given; or `Dataset` raises it.
    """
    conventions = Conventions(
        checks.one_of("targets", targets, TARGETS),
        None if first_label is None else checks.whole("first_label", first_label, 0),
        checks.one_of("channels", channels, CHANNELS),
        checks.flag("add_channel", add_channel),
    )
    classes, split_seed = check_classes(classes), checks.whole("split_seed", split_seed, 0)
    given = {"train": train, "validation": validation, "test": test}
    splits = {field: convert(field, pair, conventions) for field, pair in given.items() if pair is not None}
    known = classes if classes is not None else count_classes(splits, conventions)
    for field, split in splits.items():  # before drawing, so that an error names the given split
        check_split(field, split, known, conventions.first_label)
    fractions = {"validation": validation_fraction, "test": test_fraction}
    fractions = {field: _fraction(f"{field}_fraction", value) for field, value in fractions.items()}
    drawn = _draw_missing(splits, fractions, split_seed)
    guessed = scale is None
    if guessed:
        scale = 1 / 255 if drawn["train"].inputs.dtype == np.uint8 else 1.0
    data = Dataset(name, **drawn, classes=known, scale=scale, shift=shift, target_units=target_units)
    for guess in doubtful_guesses(data, splits, conventions, classes is None, guessed):
        warnings.warn(guess, stacklevel=2)
    return data


def from_npz(path: Any, **options: Any) -> Dataset:
    """Load a data set from a NumPy ``.npz`` file, without pickle.

    Its keys are ``x_train`` and ``y_train``, and optionally ``x_validation``, ``y_validation``, ``x_test``
    and ``y_test`` (Keras' ``mnist.npz`` works with ``add_channel=True``); other keys are ignored.

    Args:
        path: path of the file.
        **options: options of `from_arrays`; ``name`` defaults to the file name without its extension.

    Raises:
        InputError: an option is unknown; the file is missing, truncated, not an ``.npz`` file, holds pickled
            objects or lacks a key; or `from_arrays` raises it.
    """
    path = checks.path("path", path)
    for option in options:
        if option not in ARRAY_OPTIONS:
            raise UnknownName("the options of from_npz", option, ARRAY_OPTIONS)
    if not path.is_file():
        raise InputError("path", str(path), "no such file; give the path of an .npz file")
    try:
        with path.open("rb") as file:  # given a path, NumPy leaves a broken file open
            arrays = _read_npz(path, np.load(file, allow_pickle=False))
    except InputError:
        raise
    except ValueError:  # NumPy raises it for objects, and for a file that is neither .npz nor .npy
        remedy = "holds pickled objects or is not an .npz file; write plain numeric arrays with numpy.savez"
        raise InputError("path", str(path), remedy) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise InputError("path", str(path), f"truncated or corrupt ({error}); write it again") from None
    pairs = {split: _pair(path, arrays, split) for split in SPLITS}
    if pairs["train"] is None:
        raise _missing_key(path, "x_train and y_train", arrays)
    return from_arrays(**pairs, **{"name": path.stem} | options)


#: Options of `from_npz`.
ARRAY_OPTIONS = {
    each.name: each
    for each in inspect.signature(from_arrays).parameters.values()
    if each.kind is each.KEYWORD_ONLY
}


def _read_npz(path: Path, loaded: Any) -> dict[str, np.ndarray | None]:
    """Arrays of the file by key; None for keys that are ignored."""
    if isinstance(loaded, np.ndarray):
        raise InputError("path", str(path), "holds a single array; write several with numpy.savez")
    with loaded:
        keys = [f"{axis}_{split}" for split in SPLITS for axis in "xy"]
        return {key: loaded[key] if key in keys else None for key in loaded.files}


def _pair(path: Path, arrays: dict[str, Any], split: str) -> tuple[np.ndarray, np.ndarray] | None:
    keys = [f"x_{split}", f"y_{split}"]
    missing = [key for key in keys if key not in arrays]
    if len(missing) == 1:
        raise _missing_key(path, missing[0], arrays)
    return None if missing else (arrays[keys[0]], arrays[keys[1]])


def _missing_key(path: Path, wanted: str, arrays: dict[str, Any]) -> InputError:
    held = ", ".join(arrays) or "nothing"
    remedy = f"lacks {wanted}, holds {held}; write x_train, y_train, x_test, ... with numpy.savez"
    return InputError("path", str(path), remedy)


def _fraction(field: str, value: Any) -> float:
    remedy = f"give a fraction above 0 and below 1, or give {field.removesuffix('_fraction')}"
    return float(checks.number(field, value, above=0, below=1, remedy=remedy))


def _draw_missing(given: dict[str, Split], fractions: dict[str, float], split_seed: int) -> dict[str, Split]:
    """Complete the splits: draw the missing ones from the given training split."""
    missing = [field for field in fractions if field not in given]
    if not missing:
        return given
    train = given["train"]
    order = stratified_order(split_seed, "split", train.targets)
    splits = dict(given)
    for field in missing:
        size = max(1, round(fractions[field] * len(train.targets)))
        if size >= len(order):
            found = f"leaves nothing to train on of {len(train.targets)} examples"
            remedy = f"{found}; give a smaller fraction, or more data"
            raise InputError(f"{field}_fraction", fractions[field], remedy)
        taken, order = np.sort(order[:size]), order[size:]
        splits[field] = Split(train.inputs[taken], train.targets[taken])
    kept = np.sort(order)
    return splits | {"train": Split(train.inputs[kept], train.targets[kept])}
