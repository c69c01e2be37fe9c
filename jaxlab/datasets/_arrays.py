"""Data sets from custom arrays, in memory or in an ``.npz`` file."""

from __future__ import annotations

import inspect
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxlab import checks
from jaxlab.datasets.conversion import CHANNELS, TARGETS, Conventions, Given, as_array, convert, read
from jaxlab.datasets.dataset import SPLITS, Dataset, Split, check_classes, check_names, check_split, numbered
from jaxlab.datasets.draws import grouped_order, permutation, stratified_order
from jaxlab.datasets.frames import check_same_rows
from jaxlab.datasets.guesses import count_classes, doubtful_guesses
from jaxlab.datasets.labels import names_of
from jaxlab.errors import InputError, UnknownName


def from_arrays(
    train: Any,
    test: Any = None,
    validation: Any = None,
    *,
    classes: Any = None,
    class_names: Any = None,
    targets: Any = "auto",
    first_label: Any = None,
    channels: Any = "auto",
    add_channel: Any = False,
    scale: Any = None,
    shift: Any = 0.0,
    validation_fraction: Any = 0.1,
    test_fraction: Any = 0.1,
    split_seed: Any = 0,
    stratify: Any = None,
    groups: Any = None,
    name: Any = "arrays",
    target_units: Any = "",
) -> Dataset:
    """Make a data set from arrays of NumPy or JAX, from pandas or xarray, or from anything that NumPy converts.

    Inputs are [N, *spatial, C], channels last. A channel axis is added only if ``add_channel`` is True, since
    [N, H, W] could also be signals of length H with W channels. uint8 is kept; other real numbers become
    float32.

    Integer targets [N] are labels from 0 (classification). Text, bytes, pandas categories and other values that can be
    sorted are labels, too: they are numbered in sorted order, over all given splits, and become `Dataset.class_names`.
    Float targets [N] or [N, K] are those of a regression; [N] becomes [N, 1].

    Of a pandas DataFrame [N, C], every column must be numeric. If the index of inputs and targets differs, or in xarray
    the first dimension or its coordinate, their rows do not belong together, which is an error.

    Arguments left at their defaults are guessed. `Dataset.summary` shows the result, and a doubtful guess warns:
    labels that leave a class without an example, or whole numbers with so many values that they could be counts;
    floats that could be labels or one-hot rows; a first axis that could be the channels; inputs so large or so
    small that a scale could be missing. The warning names the argument that settles it.

    Args:
        train: a pair (inputs, targets).
        test, validation: pairs too. A missing one is drawn from ``train``. If both are given, the arrays are not
            copied.
        classes: number of classes; by default that of ``class_names``, or the largest label + 1.
        class_names: a name for each class, in the order of the integer labels. If the labels are text, their order in
            place of the sorted one; every label must be among the names.
        targets: "labels" (whole numbers of any dtype), "numbers" (regression), "one_hot" (rows with a single 1
            among zeros, which become labels), or "auto", which decides by dtype.
        first_label: the label of class 0; 0 by default.
        channels: "last", "first" ([N, C, *spatial], which is transposed), or "auto", which means last.
        add_channel: append a channel axis of size 1 to all inputs.
        scale, shift: the network sees inputs · scale + shift. The default scale is 1/255 for uint8, else 1.
        validation_fraction, test_fraction: fraction of the examples of ``train`` to draw, in (0, 1), if the split
            is not given.
        split_seed: seed of that draw.
        stratify: whether each class keeps its proportion in the drawn splits; by default True for labels without
            ``groups``. Of n of N examples, k drawn first hold k·n/N up to (1 + K·n/N)/2, where K is the number of
            classes; the next ones up to twice that.
        groups: group of each example of ``train``, [N], such as the patient. The drawn splits have no group in common,
            and so differ from their size by less than the largest group.
        name, target_units: see `Dataset`.

    Raises:
        InputError: an array cannot be converted, has a mask or has named fields; a label or a number is missing; the
            labels have only one class, or more classes than examples, and ``classes`` is not given; or `Dataset` raises
            it.
    """
    conventions = Conventions(
        checks.one_of("targets", targets, TARGETS),
        None if first_label is None else checks.whole("first_label", first_label, 0),
        checks.one_of("channels", channels, CHANNELS),
        checks.flag("add_channel", add_channel),
    )
    classes, split_seed = check_classes(classes), checks.whole("split_seed", split_seed, 0)
    pairs = {"train": train, "validation": validation, "test": test}
    given = {field: read(field, pair, conventions) for field, pair in pairs.items() if pair is not None}
    names = _class_names(class_names, classes, given)
    splits = {field: convert(field, each, conventions, names) for field, each in given.items()}
    if names is not None:
        known = len(names)
    else:
        known = classes if classes is not None else count_classes(splits, conventions)
        names = numbered(known, conventions.first_label or 0)
    for field, split in splits.items():  # before drawing, so that an error names the given split
        check_split(field, split, known, conventions.first_label)
    fractions = {"validation": validation_fraction, "test": test_fraction}
    fractions = {field: _fraction(f"{field}_fraction", value) for field, value in fractions.items()}
    stratify = None if stratify is None else checks.flag("stratify", stratify)
    missing = {field: fraction for field, fraction in fractions.items() if field not in splits}
    if groups is not None:
        check_same_rows("groups", train[0], groups)
    drawn = _draw(splits, missing, split_seed, stratify, groups)
    guessed = scale is None
    if guessed:
        scale = 1 / 255 if drawn["train"].inputs.dtype == np.uint8 else 1.0
    data = Dataset(
        name, **drawn, classes=known, scale=scale, shift=shift, target_units=target_units, class_names=names
    )
    classes_guessed = classes is None and class_names is None
    named = any(each.labels is not None for each in given.values())
    for guess in doubtful_guesses(data, splits, conventions, classes_guessed, guessed, named):
        warnings.warn(guess, stacklevel=2)
    return data


def _class_names(class_names: Any, classes: int | None, given: dict[str, Given]) -> tuple[str, ...] | None:
    """The names of the classes, as given or those of labels that are no numbers; None if there are neither."""
    labels = {field: each.labels for field, each in given.items() if each.labels is not None}
    if labels and len(labels) < len(given):
        field = next(field for field, each in given.items() if each.labels is None)
        remedy = f"the labels of {next(iter(labels))} are no numbers; give the same labels in all splits"
        raise InputError(f"{field}.targets", given[field].targets.dtype.name, remedy)
    if class_names is not None:
        class_names = checks.python(class_names)
        many = len(class_names) if isinstance(class_names, list | tuple) else 0
        return check_names(class_names, classes or max(many, 2))
    if not labels:
        return None
    names = names_of(labels)
    if classes not in (None, len(names)):
        remedy = f"the labels have {len(names)} names; omit it, or give class_names"
        raise InputError("classes", classes, remedy)
    return names


def from_npz(path: Any, *, keys: Any = None, groups: Any = None, **options: Any) -> Dataset:
    """Load a data set from a NumPy ``.npz`` file, without pickle.

    By default its keys are ``x_train`` and ``y_train``, and optionally ``x_validation``, ``y_validation``, ``x_test``
    and ``y_test`` (Keras' ``mnist.npz`` works with ``add_channel=True``). Other keys are ignored.

    >>> datasets.from_npz("scans.npz", keys=("images", "diagnosis"), groups="patient")

    Args:
        path: path of the file.
        keys: keys of the inputs and targets: a pair, from which all splits are drawn, or a dict from "train",
            "validation" and "test" to a pair.
        groups: key of the groups, see `from_arrays`.
        **options: options of `from_arrays`; ``name`` defaults to the file name without its extension.

    Raises:
        InputError: an option is unknown; the file is missing, truncated, not an ``.npz`` file, holds pickled
            objects or lacks a key; or `from_arrays` raises it.
    """
    path = checks.path("path", path)
    check_options("from_npz", options)
    wanted = _DEFAULT_KEYS if keys is None else _checked_keys(keys)
    if groups is not None:
        checks.text("groups", groups, remedy="give the key of an array in the file")
    if not path.is_file():
        raise InputError("path", str(path), "no such file; give the path of an .npz file")
    of_groups = [] if groups is None else [groups]
    try:
        with path.open("rb") as file:  # given a path, NumPy leaves a broken file open
            read_keys = {*of_groups, *(key for pair in wanted.values() for key in pair)}
            arrays = _read_npz(path, np.load(file, allow_pickle=False), read_keys)
    except InputError:
        raise
    except ValueError:  # NumPy raises it for objects, and for a file that is neither .npz nor .npy
        remedy = "holds pickled objects or is not an .npz file; write plain arrays with numpy.savez"
        raise InputError("path", str(path), remedy) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise InputError("path", str(path), f"truncated or corrupt ({error}); write it again") from None
    for key in of_groups:
        if key not in arrays:
            raise _missing_key(path, key, arrays, "give the key of the groups")
    pairs = {split: _pair(path, arrays, pair, keys is None) for split, pair in wanted.items()}
    if pairs["train"] is None:
        raise _missing_key(path, "x_train and y_train", arrays, _HOW_KEYS)
    if groups is not None:
        options = options | {"groups": arrays[groups]}
    return from_arrays(**pairs, **{"name": path.stem} | options)


_DEFAULT_KEYS = {split: (f"x_{split}", f"y_{split}") for split in SPLITS}
_HOW_KEYS = "name the arrays of inputs and targets with keys"

#: Options of `from_arrays`, which the functions that call it take, too.
ARRAY_OPTIONS = {
    each.name: each
    for each in inspect.signature(from_arrays).parameters.values()
    if each.kind is each.KEYWORD_ONLY
}


def check_options(function: str, options: dict[str, Any]) -> None:
    """Raise UnknownName for an option that `from_arrays` does not have."""
    for option in options:
        if option not in ARRAY_OPTIONS:
            raise UnknownName(f"the options of {function}", option, ARRAY_OPTIONS)


def _checked_keys(keys: Any) -> dict[str, tuple[str, str]]:
    """The keys of inputs and targets by split."""
    given = keys if isinstance(keys, Mapping) else {"train": keys}
    for split, pair in given.items():
        checks.one_of("keys", split, SPLITS)
        texts = isinstance(pair, list | tuple) and all(isinstance(key, str) for key in pair)
        if not texts or len(pair) != 2:
            remedy = 'give a pair (inputs, targets) of keys, or {"train": (inputs, targets), "test": ...}'
            raise InputError("keys", keys, remedy)
    if "train" not in given:
        raise InputError("keys", keys, 'name the arrays of "train"')
    return {split: tuple(pair) for split, pair in given.items()}


def _read_npz(path: Path, loaded: Any, keys: set[str]) -> dict[str, np.ndarray | None]:
    """Arrays of the file by key; None for keys that are not read."""
    if isinstance(loaded, np.ndarray):
        raise InputError("path", str(path), "holds a single array; write several with numpy.savez")
    with loaded:
        return {key: loaded[key] if key in keys else None for key in loaded.files}


def _pair(
    path: Path, arrays: dict[str, Any], keys: tuple[str, str], optional: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """Inputs and targets of a split; None if the file lacks both and may."""
    missing = [key for key in keys if key not in arrays]
    if missing and not (optional and len(missing) == 2):
        raise _missing_key(path, missing[0], arrays, _HOW_KEYS)
    return None if missing else (arrays[keys[0]], arrays[keys[1]])


def _missing_key(path: Path, wanted: str, arrays: dict[str, Any], remedy: str) -> InputError:
    held = ", ".join(arrays) or "nothing"
    return InputError("path", str(path), f"lacks {wanted}, holds {held}; {remedy}")


def _fraction(field: str, value: Any) -> float:
    remedy = f"give a fraction above 0 and below 1, or give {field.removesuffix('_fraction')}"
    return float(checks.number(field, value, above=0, below=1, remedy=remedy))


def _draw(
    given: dict[str, Split], fractions: dict[str, float], split_seed: int, stratify: bool | None, groups: Any
) -> dict[str, Split]:
    """Complete the splits: draw a fraction of the given training split for each missing one."""
    train = given["train"]
    groups = None if groups is None else _group_numbers(groups, len(train.targets))
    labels = np.issubdtype(train.targets.dtype, np.integer)
    if stratify and not labels:
        raise InputError("stratify", stratify, "omit it: numbers have no classes")
    if stratify and groups is not None:
        raise InputError("stratify", stratify, "give groups or stratify, not both")
    if not fractions:
        if groups is not None:
            raise InputError("groups", "given", "omit it: validation and test are given, so nothing is drawn")
        return given
    if groups is not None:
        order, ends = grouped_order(split_seed, "split", groups)
    else:
        drawn = stratified_order if stratify is None or stratify else _plain_order
        order, ends = drawn(split_seed, "split", train.targets), np.arange(1, len(train.targets) + 1)
    splits, begin = dict(given), 0
    for field, fraction in fractions.items():
        size = max(1, round(fraction * len(train.targets)))
        after = ends[ends > begin]
        end = int(after[np.argmin(np.abs(after - (begin + size)))])
        if end >= len(order):
            many = f"{len(ends)} groups" if groups is not None else f"{len(order)} examples"
            remedy = f"leaves nothing to train on of {many}; give a smaller fraction, or more data"
            raise InputError(f"{field}_fraction", fraction, remedy)
        splits[field] = _taken(train, order[begin:end])
        begin = end
    return splits | {"train": _taken(train, order[begin:])}


def _taken(split: Split, index: np.ndarray) -> Split:
    index = np.sort(index)
    return Split(split.inputs[index], split.targets[index])


def _plain_order(seed: int, stream: str, targets: np.ndarray) -> np.ndarray:
    return permutation(seed, stream, len(targets))


def _group_numbers(groups: Any, examples: int) -> np.ndarray:
    """Number the groups from 0, [N]."""
    array = as_array("groups", groups)
    if array.shape != (examples,):
        remedy = f"give one group for each of the {examples} training examples, [{examples}]"
        raise InputError("groups", list(array.shape), remedy)
    try:
        values, numbers = np.unique(array, return_inverse=True)
    except TypeError:  # None among texts, or several types
        raise InputError(
            "groups", array.dtype.name, "give groups of one type, without missing ones"
        ) from None
    if array.dtype.kind == "f" and np.isnan(values).any():
        raise InputError("groups", "nan", "a group is missing; give every example a group")
    return numbers
