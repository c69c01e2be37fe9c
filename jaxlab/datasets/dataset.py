"""The data of a study: fixed splits as host arrays, checked once when they are put together."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.errors import InputError

SPLITS = ("train", "validation", "test")


class Split(NamedTuple):
    """One split of a data set.

    Attributes:
        inputs: [N, *spatial, C], uint8 (as stored) or float32.
        targets: int32 [N], labels from 0; or float32 [N, K] for regression.
    """

    inputs: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True, eq=False)
class Dataset:
    """Train, validation and test arrays and what a network needs to know about them.

    The network sees ``inputs * scale + shift`` in float32; `prepare` computes it inside the training step, so
    uint8 images stay uint8 on the device.

    Args:
        name: what the data set is called in results.
        train, validation, test: the splits; of one input shape, one dtype and one kind of target.
        classes: number of classes, or None for regression.
        scale, shift: of `prepare`.
        target_units: of regression targets, e.g. ``"degree"``.

    Raises:
        InputError: for a split that is empty, of a wrong dtype or number of dimensions, of another shape than
            the training split, with more or fewer targets than inputs, with a NaN or infinity, or with a
            label that is not one of the classes.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int | None
    scale: float | int = 1.0
    shift: float | int = 0.0
    target_units: str = ""

    def __post_init__(self):
        if self.classes is not None and self.classes < 2:
            raise InputError("classes", self.classes, "give at least 2, or None for regression")
        if not (math.isfinite(self.scale) and self.scale != 0):
            raise InputError("scale", self.scale, "give a finite number other than 0")
        if not math.isfinite(self.shift):
            raise InputError("shift", self.shift, "give a finite number")
        for field in SPLITS:
            split = getattr(self, field)
            for part in Split._fields:
                _check_array(f"{field}.{part}", getattr(split, part))
            check_examples(field, split)
            _check_inputs(f"{field}.inputs", split.inputs)
            _check_targets(f"{field}.targets", split.targets, self.classes)
            _check_like_train(field, split, self.train)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example's inputs, (*spatial, C)."""
        return self.train.inputs.shape[1:]

    @property
    def outputs(self) -> int:
        """Width of a network's output: the number of classes, or of regression targets K."""
        return self.train.targets.shape[1] if self.classes is None else self.classes

    def prepare(self, inputs: jax.typing.ArrayLike) -> jax.Array:
        """``inputs * scale + shift`` in float32, of the shape of ``inputs``; for use inside the step."""
        return jnp.asarray(inputs).astype(jnp.float32) * jnp.float32(self.scale) + jnp.float32(self.shift)

    def fingerprint(self) -> str:
        """SHA-256 of every field and array (values, shape, dtype), in hexadecimal: the identity of the data."""
        fields = (self.name, self.classes, float(self.scale), float(self.shift), self.target_units)
        digest = hashlib.sha256(repr(fields).encode())
        for field in SPLITS:
            for array in getattr(self, field):
                little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
                digest.update(repr((array.dtype.name, array.shape)).encode())
                digest.update(little_endian.data)
        return digest.hexdigest()


def check_examples(field: str, split: Split) -> None:
    """`InputError` unless the split has examples, along the first axis, and one target for each."""
    inputs, targets = split
    if inputs.ndim < 2:
        raise InputError(
            f"{field}.inputs", inputs.shape, "give [N, *spatial, C]: examples first, channels last"
        )
    if inputs.size == 0:
        raise InputError(f"{field}.inputs", inputs.shape, "give at least one example; no axis may be empty")
    if targets.ndim == 0 or len(targets) != len(inputs):
        remedy = f"give one target per input, along the first axis; there are {len(inputs)} inputs"
        raise InputError(f"{field}.targets", targets.shape, remedy)


def _check_array(field: str, array: Any) -> None:
    if not isinstance(array, np.ndarray):
        remedy = "give a NumPy array, or use from_arrays, which converts"
        raise InputError(field, type(array).__name__, remedy)


def _check_inputs(field: str, inputs: np.ndarray) -> None:
    if inputs.dtype not in (np.uint8, np.float32):
        remedy = "give uint8 or float32, or use from_arrays, which converts"
        raise InputError(field, inputs.dtype.name, remedy)
    _check_finite(field, inputs)


def _check_targets(field: str, targets: np.ndarray, classes: int | None) -> None:
    dtype, ndim = (np.float32, 2) if classes is None else (np.int32, 1)
    if targets.dtype != dtype or targets.ndim != ndim or targets.size == 0:
        wanted = "float32 [N, K] for regression" if classes is None else f"int32 [N] for {classes} classes"
        raise InputError(field, f"{targets.dtype.name} {targets.shape}", f"give {wanted}")
    if classes is None:
        _check_finite(field, targets)
        return
    for label in (targets.min(), targets.max()):
        if not 0 <= label < classes:
            remedy = f"labels of {classes} classes are 0 to {classes - 1}; correct the label or classes"
            raise InputError(field, int(label), remedy)


def _check_finite(field: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        first = np.argwhere(~np.isfinite(array))[0]
        place = ", ".join(str(i) for i in first)
        raise InputError(f"{field}[{place}]", float(array[tuple(first)]), "remove NaN and infinite values")


def _check_like_train(field: str, split: Split, train: Split) -> None:
    for part, array, reference in zip(Split._fields, split, train, strict=True):
        if array.shape[1:] != reference.shape[1:] or array.dtype != reference.dtype:
            remedy = f"make it like the training split: {reference.dtype.name} [N, {_sizes(reference)}]"
            raise InputError(f"{field}.{part}", f"{array.dtype.name} [N, {_sizes(array)}]", remedy)


def _sizes(array: np.ndarray) -> str:
    return ", ".join(str(size) for size in array.shape[1:])
