"""Data sets from a user's own arrays."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxlab.datasets.dataset import SPLITS, Dataset, Split, check_examples
from jaxlab.datasets.draws import check_seed, stratified_order
from jaxlab.errors import InputError


def from_arrays(
    train: Any,
    test: Any = None,
    validation: Any = None,
    *,
    classes: int | None = None,
    validation_fraction: Any = 0.1,
    test_fraction: Any = 0.1,
    split_seed: Any = 0,
    add_channel: bool = False,
    scale: float | int | None = None,
    shift: float | int = 0.0,
    name: str = "arrays",
    target_units: str = "",
) -> Dataset:
    """A data set from NumPy or JAX arrays.

    Inputs are [N, *spatial, C], channels last. An axis of one channel is added only if ``add_channel`` says
    so, since [N, H, W] might as well be signals of length H with W channels. uint8 is kept, other real
    numbers become float32.

    Integer targets [N] are labels from 0: classification. Float targets [N] or [N, K] are regression; [N]
    becomes [N, 1].

    Args:
        train: a pair (inputs, targets).
        test, validation: likewise. One that is not given is drawn from ``train``, each class in its
        proportion.
        classes: number of classes; by default the largest label + 1.
        validation_fraction, test_fraction: of the examples of ``train`` as given, in (0, 1); used where the
            split is not given.
        split_seed: of that draw.
        add_channel: append an axis of one channel to all inputs.
        scale, shift: the network sees inputs · scale + shift. Scale is by default 1/255 for uint8, otherwise
        1.
        name, target_units: see `Dataset`.

    Raises:
        InputError: for arrays that cannot be converted, and as `Dataset` does.
    """
    splits = {"train": train, "validation": validation, "test": test}
    splits = {field: _convert(field, pair, add_channel) for field, pair in splits.items() if pair is not None}
    fractions = {"validation": validation_fraction, "test": test_fraction}
    fractions = {field: fraction for field, fraction in fractions.items() if field not in splits}
    splits |= _draw(splits["train"], fractions, split_seed)
    labels = [split.targets for split in splits.values() if split.targets.dtype == np.int32]
    if classes is None and labels:
        classes = max(2, 1 + max(int(targets.max(initial=0)) for targets in labels))
    if scale is None:
        scale = 1 / 255 if splits["train"].inputs.dtype == np.uint8 else 1.0
    return Dataset(name=name, **splits, classes=classes, scale=scale, shift=shift, target_units=target_units)


def from_npz(path: str | os.PathLike[str], **options: Any) -> Dataset:
    """A data set from a NumPy ``.npz`` file, read without pickle.

    Its keys are ``x_train`` and ``y_train``, and optionally ``x_validation``, ``y_validation``, ``x_test``
    and ``y_test`` (so Keras' ``mnist.npz`` works, with ``add_channel=True``); others are left alone.

    Args:
        path: of the file.
        **options: those of `from_arrays`; ``name`` is by default the file's name without its ending.

    Raises:
        InputError: if the file is missing, truncated, not an ``.npz`` file, holds pickled objects or lacks a
            key; and as `from_arrays` does.
    """
    path = Path(path)
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
        raise InputError("path", str(path), "it lacks x_train and y_train; write them with numpy.savez")
    return from_arrays(**pairs, **{"name": path.stem} | options)


def _read_npz(path: Path, loaded: Any) -> dict[str, np.ndarray]:
    if isinstance(loaded, np.ndarray):
        raise InputError("path", str(path), "it holds one array; write several with numpy.savez")
    with loaded:
        keys = [f"{axis}_{split}" for split in SPLITS for axis in "xy"]
        return {key: loaded[key] for key in keys if key in loaded}


def _pair(path: Path, arrays: dict[str, np.ndarray], split: str) -> tuple[np.ndarray, np.ndarray] | None:
    keys = [f"x_{split}", f"y_{split}"]
    missing = [key for key in keys if key not in arrays]
    if len(missing) == 1:
        raise InputError("path", str(path), f"it lacks {missing[0]}; write both {keys[0]} and {keys[1]}")
    return None if missing else (arrays[keys[0]], arrays[keys[1]])


def _convert(field: str, pair: Any, add_channel: bool) -> Split:
    try:
        inputs, targets = pair
    except (TypeError, ValueError):
        raise InputError(field, type(pair).__name__, "give a pair (inputs, targets)") from None
    inputs = _real(f"{field}.inputs", inputs)
    targets = _real(f"{field}.targets", targets)
    if inputs.dtype != np.uint8:
        inputs = _to_float32(inputs)
    if add_channel:
        inputs = inputs[..., None]
    if targets.dtype.kind == "f":
        targets = _to_float32(targets)
        targets = targets[:, None] if targets.ndim == 1 else targets
    else:
        targets = _to_labels(f"{field}.targets", targets)
    split = Split(inputs, targets)
    check_examples(field, split)
    return split


def _real(field: str, values: Any) -> np.ndarray:
    """As a NumPy array of booleans, integers or float; bfloat16 and the like become float32."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(field, type(values).__name__, "give rows of equal lengths, as one array") from None
    if array.dtype.kind == "V" and np.can_cast(array.dtype, np.float32):
        array = array.astype(np.float32)
    if array.dtype.kind not in "buif":
        raise InputError(field, array.dtype.name, "give an array of real numbers")
    return array


def _to_float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows is infinite, and an error of Dataset
        return np.asarray(array, np.float32)


def _to_labels(field: str, targets: np.ndarray) -> np.ndarray:
    if targets.ndim != 1:
        remedy = "give integer labels as [N]; for regression convert the targets to float"
        raise InputError(field, targets.shape, remedy)
    for label in (targets.min(initial=0), targets.max(initial=0)):
        if not 0 <= label < 2**31 - 1:  # before the cast to int32, which would wrap
            raise InputError(
                field, int(label), "give labels from 0; for regression convert the targets to float"
            )
    return targets.astype(np.int32)


def _draw(train: Split, fractions: dict[str, Any], split_seed: Any) -> dict[str, Split]:
    """Splits of these fractions drawn from ``train``, and what is left of it."""
    order = stratified_order(check_seed("split_seed", split_seed), "split", train.targets)
    splits = {}
    for field, fraction in fractions.items():
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction < 1:
            raise InputError(
                f"{field}_fraction", fraction, f"give a fraction above 0 and below 1, or give {field}"
            )
        size = max(1, round(fraction * len(train.targets)))
        if size >= len(order):
            raise InputError(
                f"{field}_fraction", fraction, "it leaves nothing to train on; give less, or more data"
            )
        taken, order = np.sort(order[:size]), order[size:]
        splits[field] = Split(train.inputs[taken], train.targets[taken])
    kept = np.sort(order)
    return {"train": Split(train.inputs[kept], train.targets[kept])} | splits
