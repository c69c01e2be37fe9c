"""The data of a study: fixed splits as host arrays, checked when the data set is created."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import checks
from jaxlab.errors import InputError, visible

SPLITS = ("train", "validation", "test")


class Split(NamedTuple):
    """One split of a data set.

    Attributes:
        inputs: [N, *spatial, C], uint8 (as stored) or float32.
        targets: labels from 0, int32 [N]; for regression numbers, float32 [N, K].
    """

    inputs: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training, validation and test arrays with the properties that a network depends on.

    The network sees ``inputs * scale + shift`` in float32. `prepare` computes it inside the training step, so
    uint8 images stay uint8 on the device.

    Regression targets keep their units. With ``target_mean`` and ``target_std``, the network learns
    ``(targets - target_mean) / target_std``, in which the loss is measured; the metrics see targets and outputs in the
    units of the targets.

    Args:
        name: name of the data set in results.
        train, validation, test: the splits, with the same input shape, dtypes and kind of target.
        classes: number of classes, or None for regression.
        scale, shift: the numbers of `prepare`: one number, or one for each channel (of a table, each column).
        target_units: units of regression targets, e.g. ``"degree"``.
        class_names: one name for each class, in the order of the labels; by default "0", "1", ... Empty for
            regression.
        target_mean, target_std: one number for each regression target, the numbers of `prepare_targets`; None leaves
            the targets as they are.

    Raises:
        InputError: an argument has another type; or a split is empty, masked, has a wrong dtype or number of
            dimensions, differs in shape from the training split, has more or fewer targets than inputs, contains
            NaN or infinity, or has a label outside the classes; or names or numbers do not match the targets.
    """

    name: Any
    train: Split
    validation: Split
    test: Split
    classes: Any
    scale: Any = 1.0
    shift: Any = 0.0
    target_units: Any = ""
    class_names: Any = None
    target_mean: Any = None
    target_std: Any = None

    def __post_init__(self):
        checks.text("name", self.name)
        checks.text("target_units", self.target_units)
        object.__setattr__(self, "classes", check_classes(self.classes))
        for field in SPLITS:
            split = getattr(self, field)
            check_split(field, split, self.classes)
            _check_like_train(field, split, self.train)
        for field in ("scale", "shift"):
            object.__setattr__(
                self, field, _checked_affine(field, getattr(self, field), self.input_shape[-1])
            )
        object.__setattr__(self, "class_names", check_names(self.class_names, self.classes))
        for field, numbers in zip(("target_mean", "target_std"), self._check_scaling(), strict=True):
            object.__setattr__(self, field, numbers)

    def __repr__(self) -> str:
        counts = ", ".join(f"{field} {len(getattr(self, field).targets):,}" for field in SPLITS)
        lines = {"inputs": self._describe_inputs(), "targets": self._describe_targets(), "examples": counts}
        return "\n".join([f"<Dataset {self.name}>", *(f"{name:10}{words}" for name, words in lines.items())])

    def summary(self) -> str:
        """One-line summary of the data: sizes, dtypes, ranges, classes.

        >>> datasets.digits().summary()
        'train 1,077 × 8×8×1 uint8 in [0, 16], seen as [0, 1], 10 classes, largest 10 %; validation 360; test 360'
        """
        train = f"train {len(self.train.targets):,} × {self._describe_inputs()}, {self._describe_targets()}"
        return "; ".join([train, *(f"{field} {len(getattr(self, field).targets):,}" for field in SPLITS[1:])])

    def _describe_inputs(self) -> str:
        inputs = self.train.inputs
        words = f"{sizes(inputs.shape[1:])} {inputs.dtype.name} in {interval(inputs)}"
        if (self.scale, self.shift) == (1, 0):
            return words
        return f"{words}, seen as {interval(inputs, self.scale, self.shift)}"

    def _describe_targets(self) -> str:
        targets = self.train.targets
        if self.classes is None:
            units = f" {self.target_units}" if self.target_units else ""
            number = targets.shape[1]
            words = f"{number} target{'s' * (number > 1)} in {interval(targets)}{units}"
            if self.target_mean is None:
                return words
            return f"{words}, standardised to {interval(np.asarray(self.prepare_targets(targets)))}"
        share = 100 * np.bincount(targets).max() / len(targets)
        largest = f"{share:.0f} %" if share >= 1 else f"{share:.1g} %"
        names = "" if self.class_names == numbered(self.classes) else f" ({some_of(self.class_names)})"
        return f"{self.classes:,} classes{names}, largest {largest}"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, (*spatial, C)."""
        return self.train.inputs.shape[1:]

    @property
    def outputs(self) -> int:
        """Number of network outputs: that of classes, or of regression targets K."""
        return self.train.targets.shape[1] if self.classes is None else self.classes

    def prepare(self, inputs: jax.typing.ArrayLike) -> jax.Array:
        """Compute ``inputs * scale + shift`` in float32, inside the training step."""
        return prepared(inputs, self.scale, self.shift)

    def prepare_targets(self, targets: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
        """Compute ``(targets - target_mean) / target_std`` in float32, which the network learns.

        Without them, as for labels, the targets are returned as they are.
        """
        if self.target_mean is None:
            return targets
        mean_1xK, std_1xK = (jnp.asarray([each], jnp.float32) for each in (self.target_mean, self.target_std))
        return (jnp.asarray(targets) - mean_1xK) / std_1xK

    def restore_targets(self, outputs: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
        """Compute ``outputs * target_std + target_mean`` in float32: outputs in the units of the targets.

        It is the inverse of `prepare_targets`.
        """
        return restored(outputs, self.target_mean, self.target_std)

    def fingerprint(self) -> str:
        """Identity of the data: hexadecimal SHA-256 of every field and array (values, shape, dtype)."""
        fields = (self.name, self.classes, as_floats(self.scale), as_floats(self.shift), self.target_units)
        if self.class_names != numbered(self.classes):
            fields += (self.class_names,)
        if self.target_mean is not None:
            fields += (self.target_mean, self.target_std)
        digest = hashlib.sha256(repr(fields).encode())
        for field in SPLITS:
            for array in getattr(self, field):
                little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
                digest.update(repr((array.dtype.name, array.shape)).encode())
                digest.update(little_endian.data)
        return digest.hexdigest()

    def _check_scaling(self) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
        """Mean and standard deviation of the targets as floats; raise InputError unless they match the targets."""
        if self.target_mean is None and self.target_std is None:
            return None, None
        found = []
        for field in ("target_mean", "target_std"):
            value = checks.python(getattr(self, field))
            if self.classes is not None:
                raise InputError(field, value, "omit it: the targets are labels")
            if not isinstance(value, list | tuple) or len(value) != self.outputs:
                remedy = (
                    f"give one number for each target, {self.outputs}, as both target_mean and target_std"
                )
                raise InputError(field, value, remedy)
            least = {"above": 0} if field == "target_std" else {}
            found.append(tuple(float(checks.number(field, each, **least)) for each in value))
        return found[0], found[1]


def prepared(inputs: jax.typing.ArrayLike, scale: Any, shift: Any) -> jax.Array:
    """Compute ``inputs * scale + shift`` in float32; see `Dataset.prepare`."""
    inputs = jnp.asarray(inputs).astype(jnp.float32)
    return inputs * _along_channels(scale, inputs.ndim) + _along_channels(shift, inputs.ndim)


def _along_channels(value: Any, ndim: int) -> jax.Array | np.float32:
    """A number in float32, or numbers along the last of ``ndim`` axes."""
    if isinstance(value, list | tuple):
        return jnp.asarray(value, jnp.float32).reshape((1,) * (ndim - 1) + (-1,))
    return jnp.float32(value)


def as_floats(value: Any) -> float | tuple[float, ...]:
    """``scale`` or ``shift`` in plain Python."""
    return tuple(map(float, value)) if isinstance(value, list | tuple) else float(value)


def restored(
    outputs: jax.typing.ArrayLike, mean: Sequence[float] | None, std: Sequence[float] | None
) -> jax.typing.ArrayLike:
    """Compute ``outputs * std + mean`` in float32, or nothing without them; see `Dataset.restore_targets`."""
    if mean is None:
        return outputs
    mean_1xK, std_1xK = (jnp.asarray([each], jnp.float32) for each in (mean, std))
    return jnp.asarray(outputs) * std_1xK + mean_1xK


def numbered(classes: int | None, first: int = 0) -> tuple[str, ...]:
    """Names of classes that have none: their labels, ``("0", "1", ...)``; empty for regression."""
    return tuple(map(str, range(first, first + (classes or 0))))


def some_of(names: Sequence[str], most: int = 6) -> str:
    """The first names and the last, separated by commas: ``a, b, c, d, ..., z``."""
    shown = [*names[: most - 2], "...", names[-1]] if len(names) > most else names
    return ", ".join(map(visible, shown))


def sizes(shape: tuple[int, ...]) -> str:
    """Format a shape: ``(28, 28, 1)`` becomes "28×28×1"."""
    return "×".join(map(str, shape))


def interval(array: np.ndarray, scale: Any = 1.0, shift: Any = 0.0) -> str:
    """Format the range of an array, after scale and shift: "[0, 1]"."""
    if isinstance(scale, tuple) or isinstance(shift, tuple):
        over = tuple(range(array.ndim - 1))
        ends = np.stack([array.min(axis=over), array.max(axis=over)]) * np.asarray(scale) + np.asarray(shift)
        low, high = ends.min(), ends.max()
    else:
        low, high = sorted(float(extreme) * scale + shift for extreme in (array.min(), array.max()))
    return f"[{low:.4g}, {high:.4g}]"


def check_classes(classes: Any) -> int | None:
    """Check a number of classes, or None for regression."""
    remedy = "give a whole number, at least 2, or None for regression"
    return None if classes is None else checks.whole("classes", classes, 2, remedy=remedy)


def check_names(names: Any, classes: int | None) -> tuple[str, ...]:
    """Check the names of the classes: None, or one different text for each; None becomes their numbers."""
    if names is None:
        return numbered(classes)
    names = checks.python(names)
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) and each for each in names):
        raise InputError("class_names", names, "give a list of texts, one for each class")
    if len(names) != (classes or 0):
        wanted = f"{classes} names, one for each class" if classes else "none: the targets are numbers"
        raise InputError("class_names", list(names), f"give {wanted}")
    if len(set(names)) < len(names):
        twice = next(each for each in names if names.count(each) > 1)
        raise InputError("class_names", twice, "is given twice; give each class another name")
    return tuple(names)


def _checked_affine(field: str, value: Any, channels: int) -> Any:
    """Check ``scale`` or ``shift``: finite in float32, and a scale is not 0 there; several become a tuple."""
    several = checks.python(value)
    if isinstance(several, list | tuple):
        if len(several) != channels:
            remedy = f"give one number, or one for each of the {channels} channels"
            raise InputError(field, several, remedy)
        return tuple(float(_check_affine(field, each)) for each in several)
    return _check_affine(field, value)


def _check_affine(field: str, value: Any) -> Any:
    remedy = f"give a finite number{' other than 0' * (field == 'scale')}"
    checks.number(field, value, remedy=remedy)
    with np.errstate(over="ignore"):
        seen = np.float32(value)
    if not np.isfinite(seen) or (field == "scale" and seen == 0):
        raise InputError(field, value, f"{remedy}, in float32")
    return value


def check_split(field: str, split: Split, classes: int | None, first_label: int | None = 0) -> None:
    """Raise InputError unless a split suits a `Dataset` with this number of classes.

    Args:
        field: name of the split.
        split: the split, with labels from 0.
        classes: number of classes, None for regression.
        first_label: the first label as the user gave them, for the error; None if the user did not set it.
    """
    for part, array in zip(Split._fields, split, strict=True):
        if not isinstance(array, np.ndarray):
            remedy = "give a NumPy array, or use from_arrays, which converts"
            raise InputError(f"{field}.{part}", type(array).__name__, remedy)
        check_unmasked(f"{field}.{part}", array)
    check_examples(field, split)
    if split.inputs.dtype not in (np.uint8, np.float32):
        remedy = "give uint8 or float32, or use from_arrays, which converts"
        raise InputError(f"{field}.inputs", split.inputs.dtype.name, remedy)
    _check_finite(f"{field}.inputs", split.inputs)
    _check_targets(f"{field}.targets", split.targets, classes, first_label)


def check_examples(field: str, split: Split) -> None:
    """Raise InputError unless a split has examples along the first axis and one target per example."""
    inputs, targets = split
    if inputs.ndim < 2:
        remedy = "give [N, *spatial, C]: examples first, channels last"
        raise InputError(f"{field}.inputs", inputs.shape, remedy)
    if inputs.size == 0:
        raise InputError(f"{field}.inputs", inputs.shape, "give at least one example; no axis may be empty")
    if targets.ndim == 0 or len(targets) != len(inputs):
        remedy = f"give one target per input, along the first axis; there are {len(inputs)} inputs"
        raise InputError(f"{field}.targets", targets.shape, remedy)


def check_unmasked(field: str, values: Any, depth: int = 64) -> None:
    """Raise InputError for a masked array, also inside lists nested up to ``depth`` deep."""
    if isinstance(values, np.ma.MaskedArray):
        remedy = "the mask would be lost; drop the masked examples, or fill them with array.filled(value)"
        raise InputError(field, type(values).__name__, remedy)
    for each in values if depth and isinstance(values, (list, tuple)) else ():
        check_unmasked(field, each, depth - 1)


def _check_targets(field: str, targets: np.ndarray, classes: int | None, first_label: int | None) -> None:
    dtype, ndim = (np.float32, 2) if classes is None else (np.int32, 1)
    if targets.dtype != dtype or targets.ndim != ndim or targets.size == 0:
        wanted = "float32 [N, K] for regression" if classes is None else f"int32 [N] for {classes} classes"
        raise InputError(field, f"{targets.dtype.name} {targets.shape}", f"give {wanted}")
    if classes is None:
        _check_finite(field, targets)
        return
    for label in (targets.min(), targets.max()):
        if not 0 <= label < classes:
            first = first_label or 0
            last = first + classes - 1
            remedy = f"labels of {classes} classes are {first} to {last}; correct the label or classes"
            if label == classes and first_label is None:
                remedy += ", or give first_label = 1"
            raise InputError(field, int(label) + first, remedy)


def _check_finite(field: str, array: np.ndarray) -> None:
    # The extremes reveal NaN and infinity without a mask as large as the data.
    if array.dtype.kind == "f" and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        first = np.argwhere(~np.isfinite(array))[0]
        place = ", ".join(map(str, first))
        raise InputError(f"{field}[{place}]", float(array[tuple(first)]), "remove NaN and infinite values")


def _check_like_train(field: str, split: Split, train: Split) -> None:
    for part, array, reference in zip(Split._fields, split, train, strict=True):
        given, wanted = (
            f"{each.dtype.name} [N, {', '.join(map(str, each.shape[1:]))}]" for each in (array, reference)
        )
        if given != wanted:
            raise InputError(f"{field}.{part}", given, f"make it like the training split: {wanted}")
