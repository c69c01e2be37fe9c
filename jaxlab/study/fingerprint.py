"""What a value is, in words that JSON can hold and that change when what it computes changes."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def plain(value: Any) -> Any:
    """A value as JSON holds it; a function by its name and a hash of its code and all that it closes over."""
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    if callable(value):
        return f"{name_of(value)}#{digest(_code(value, set()))}"
    return value


def digest(value: Any) -> str:
    """A short hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def arrays_digest(tree: Any) -> str:
    """A hash of a tree of arrays: structure, shapes, dtypes and contents."""
    leaves, structure = jax.tree.flatten(tree)
    return digest([str(structure), *(_array(leaf) for leaf in leaves)])


def name_of(function: Callable) -> str:
    """Module and qualified name, as far as there are any."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{name}"


def _code(value: Any, seen: set[int]) -> Any:
    """Source, defaults and closed-over values of a function, and of the functions of its module that it names."""
    if isinstance(value, functools.partial):
        return [_code(each, seen) for each in (value.func, value.args, value.keywords)]
    if isinstance(value, dict):
        return [[str(key), _code(each, seen)] for key, each in value.items()]
    if isinstance(value, (list, tuple)):
        return [_code(each, seen) for each in value]
    if isinstance(value, (np.ndarray, jax.Array)):
        return _array(value)
    if not callable(value) or id(value) in seen:
        return name_of(value) if callable(value) else plain(value)
    seen.add(id(value))
    parts = [name_of(value), _source(value)]
    code = getattr(value, "__code__", None)
    if code is not None:
        parts += [_code(value.__defaults__, seen), _code(value.__kwdefaults__, seen)]
        parts += [_code(cell.cell_contents, seen) for cell in value.__closure__ or ()]
        named = (value.__globals__.get(name) for name in code.co_names)
        parts += [
            _code(each, seen) for each in named if getattr(each, "__module__", None) == value.__module__
        ]
    elif vars_of := getattr(value, "__dict__", None):
        parts.append([] if inspect.isclass(value) else _code(dict(vars_of), seen))
    return parts


def _source(function: Callable) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return "" if code is None else code.co_code.hex() + repr(code.co_names)


def _array(leaf: Any) -> list:
    leaf = np.asarray(leaf)
    return [str(leaf.dtype), list(leaf.shape), hashlib.sha256(leaf.tobytes()).hexdigest()]
