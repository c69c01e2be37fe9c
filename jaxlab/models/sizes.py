"""The sizes of a network's layers, from the shorthands a person may write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxlab.checks import whole
from jaxlab.errors import InputError


def integers(field: str, value: Any) -> tuple[int, ...]:
    """Check a sequence of positive integers; return a tuple."""
    if not _is_sequence(value):
        raise InputError(field, value, "give a list of whole numbers >= 1")
    return tuple(whole(f"{field}[{i}]", entry, 1) for i, entry in enumerate(value))


def per_layer(field: str, value: Any, layers: int) -> tuple[Any, ...]:
    """Expand to one entry per layer: a sequence must have them, any other value is repeated."""
    if not _is_sequence(value):
        return (value,) * layers
    if len(value) != layers:
        remedy = f"give one value for all layers, or one per layer ({layers} as in features)"
        raise InputError(field, value, remedy)
    return tuple(value)


def per_axis(field: str, value: Any, axes: int) -> tuple[int, ...]:
    """Expand to one positive integer per spatial axis; a single integer is repeated."""
    entries = integers(field, value) if _is_sequence(value) else (whole(field, value, 1),) * axes
    if len(entries) != axes:
        raise InputError(field, value, f"give a whole number, or one per spatial axis ({axes})")
    return entries


def padding(field: str, value: Any, axes: int) -> str | tuple[tuple[int, int], ...]:
    """``"SAME"``, ``"VALID"``, or the cells ``(before, after)`` to add along each spatial axis."""
    remedy = "give 'SAME', 'VALID', a whole number, or one whole number or (before, after) per spatial axis"
    if isinstance(value, str):
        if value.upper() not in ("SAME", "VALID"):
            raise InputError(field, value, remedy)
        return value.upper()
    entries = value if _is_sequence(value) else (value,) * axes
    if len(entries) != axes:
        raise InputError(field, value, remedy)
    pairs = [tuple(entry) if _is_sequence(entry) else (entry, entry) for entry in entries]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(field, value, remedy)
    return tuple((whole(field, before, 0), whole(field, after, 0)) for before, after in pairs)


def inputs(shape: Sequence[int], input_shape: tuple[int, ...]) -> None:
    """Check that a batch has the shape that the model was built for, (B, *input_shape)."""
    if tuple(shape[1:]) != input_shape or len(shape) == 0:
        expected = ", ".join(["B", *map(str, input_shape)])
        remedy = f"give ({expected}), or build the model with this input_shape"
        raise InputError("inputs' shape", tuple(shape), remedy)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
