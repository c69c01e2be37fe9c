"""JSON-serialisable values, and short hashes of values and arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlab.checks import python
from jaxlab.errors import name_of


def serialisable(value: Any, of_callable: Callable[[Callable], Any] = name_of) -> Any:
    """Make a value JSON-serialisable; a callable becomes ``of_callable(callable)``, by default its name."""
    value = python(value)
    if isinstance(value, (list, tuple)):
        return [serialisable(each, of_callable) for each in value]
    return of_callable(value) if callable(value) else value


def marked(value: Any) -> Any:
    """Make a value JSON-serialisable; a callable becomes ``{"function": name}``, so that it differs from any string."""
    return serialisable(value, lambda function: {"function": name_of(function)})


def digest(value: Any) -> str:
    """A short hash of a JSON-serialisable value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def arrays_digest(tree: Any) -> str:
    """A short hash of a pytree of arrays: structure, shapes, dtypes and contents."""
    leaves, structure = jax.tree.flatten(tree)
    return digest([str(structure), *map(_array, leaves)])


def _array(leaf: Any) -> list:
    leaf = np.asarray(leaf)
    return [str(leaf.dtype), list(leaf.shape), hashlib.sha256(leaf.tobytes()).hexdigest()]
