"""The two kinds of setting of a trial: traced hyperparameters and static configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any, Self

import jax
import numpy as np

from jaxlab.errors import shown


class _Fields(Mapping):
    """A read-only mapping with attribute access: ``fields["l2"]`` is ``fields.l2``."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any] | None = None, **more: Any):
        object.__setattr__(self, "_values", dict(values or {}, **more))

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            known = ", ".join(self._values)
            raise AttributeError(
                f"no {type(self).__name__} field {name!r}; the declared fields are {known}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is read-only; use replace({name}=...)")

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed or added."""
        return type(self)(self._values, **changes)

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={shown(value)}" for name, value in self._values.items())
        return f"{type(self).__name__}({inside})"


class Configuration(_Fields):
    """Static settings of a group of trials: architecture, activation, optimizer, batch size, loss, dtype, ...

    A new value needs a new compilation. Every value is hashable, functions included.
    """

    __slots__ = ()

    def __init__(self, values: Mapping[str, Hashable] | None = None, **more: Hashable):
        super().__init__(values, **more)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and self._values == other._values


@jax.tree_util.register_pytree_with_keys_class
class Hyperparameters(_Fields):
    """Traced scalars of one trial: learning rate, L1, L2, decay, eps, init scale, seed, ...

    A new value needs no recompilation. The class is a pytree, which the engine maps over trials.
    """

    __slots__ = ()
    __hash__ = None

    def tree_flatten_with_keys(self):
        names = tuple(sorted(self._values))
        return [(jax.tree_util.DictKey(name), self._values[name]) for name in names], names

    @classmethod
    def tree_unflatten(cls, names, leaves):
        return cls(dict(zip(names, leaves, strict=True)))


def as_traced(columns: Mapping[str, Any]) -> Hyperparameters:
    """Convert hyperparameters to the dtypes in which they are traced: uint32 for ``seed``, float64 for the others.

    JAX turns float64 into float32 unless 64-bit types are enabled.

    Args:
        columns: numbers or arrays by name.
    """
    return Hyperparameters(
        {
            name: np.asarray(values).astype(np.uint32 if name == "seed" else np.float64)
            for name, values in columns.items()
        }
    )


def named_parameters(function: Callable, positional: int) -> dict[str, bool]:
    """The parameters of a function after its first ``positional`` ones, by name, and whether each needs a value.

    A loss or a metric reads settings this way: ``def loss(outputs, targets, margin)`` reads ``margin``.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # no signature, written in C
        return {}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        each.name: each.default is inspect.Parameter.empty
        for each in parameters[positional:]
        if each.kind in by_name
    }


#: Fixes the settings that a function reads by the names of its parameters after the first so many.
Binder = Callable[[Callable, int], Callable]


def binder(*settings: Mapping[str, Any]) -> Binder:
    """A function that fixes the settings which another one reads by name, see `named_parameters`.

    Later settings take precedence. A function that reads none of them is returned as it is.
    """
    values = {name: value for each in settings for name, value in each.items()}

    def bound(function: Callable, positional: int) -> Callable:
        read = {name: values[name] for name in named_parameters(function, positional) if name in values}
        return partial(function, **read) if read else function

    return bound
