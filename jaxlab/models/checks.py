"""Checks of a network's sizes and names; invalid ones raise InputError before tracing."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlab.errors import InputError, did_you_mean


def known(field: str, name: str, table: Mapping[str, Any]) -> Any:
    """Return ``table[name]``; the error for an unknown name suggests the closest one and lists all."""
    if name in table:
        return table[name]
    raise InputError(
        field, name, f"{did_you_mean(name.lower(), table)}give one of {', '.join(sorted(table))}"
    )


def integer(field: str, value: Any, least: int = 1) -> int:
    """Check an integer >= ``least``; floats, strings and booleans are refused."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(field, value, f"give an integer >= {least}") from None
    if isinstance(value, bool) or number < least:
        raise InputError(field, value, f"give an integer >= {least}")
    return number


def integers(field: str, value: Any) -> tuple[int, ...]:
    """Check a sequence of positive integers; return a tuple."""
    if not _is_sequence(value):
        raise InputError(field, value, "give a sequence of integers >= 1")
    return tuple(integer(f"{field}[{i}]", entry) for i, entry in enumerate(value))


def per_layer(field: str, value: Any, layers: int) -> tuple[Any, ...]:
    """Expand to one entry per layer: a sequence must have them, any other value is repeated."""
    if not _is_sequence(value):
        return (value,) * layers
    if len(value) != layers:
        raise InputError(
            field, value, f"give one value for all layers, or one per layer ({layers} as in features)"
        )
    return tuple(value)


def per_axis(field: str, value: Any, axes: int) -> tuple[int, ...]:
    """Expand to one positive integer per spatial axis; a single integer is repeated."""
    entries = integers(field, value) if _is_sequence(value) else (integer(field, value),) * axes
    if len(entries) != axes:
        raise InputError(field, value, f"give an integer, or one per spatial axis ({axes})")
    return entries


def padding(field: str, value: Any, axes: int) -> str | tuple[tuple[int, int], ...]:
    """Check a padding: ``"SAME"``, ``"VALID"``, or zeros ``(before, after)`` along each spatial axis."""
    remedy = "give 'SAME', 'VALID', an integer, or one integer or (before, after) per spatial axis"
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
    return tuple((integer(field, before, 0), integer(field, after, 0)) for before, after in pairs)


def scalar(field: str, value: Any, accepted: str, below: float = math.inf) -> None:
    """Check a scalar in [0, below); of a traced number only the shape can be checked."""
    if isinstance(value, str) or value is None:
        raise InputError(field, value, accepted)
    if jnp.shape(value) != ():
        raise InputError(field, value, "give one number, that of one trial; map over trials with jax.vmap")
    if not isinstance(value, jax.core.Tracer) and not 0 <= float(value) < below:
        raise InputError(field, value, accepted)


def float_dtype(field: str, value: Any) -> jnp.dtype:
    """Check a floating-point dtype; None is JAX's default (float32, or float64 if x64 is enabled)."""
    try:
        dtype = jnp.dtype(jnp.result_type(float) if value is None else value)
    except TypeError:
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(field, value, "give a floating-point dtype, e.g. 'float32' or 'bfloat16'")
    return dtype


def inputs(shape: Sequence[int], input_shape: tuple[int, ...]) -> None:
    """Check that a batch has the shape that the model was built for, (B, *input_shape)."""
    if tuple(shape[1:]) != input_shape or len(shape) == 0:
        expected = ", ".join(["B", *map(str, input_shape)])
        raise InputError(
            "inputs' shape", tuple(shape), f"give ({expected}), or build the model with this input_shape"
        )


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
