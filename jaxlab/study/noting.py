"""Configuration and hyperparameters that record which of their names a custom function reads."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Self

import jax

from jaxlab.errors import InputError, UnknownName
from jaxlab.settings import Configuration, Hyperparameters


class Undeclared(AttributeError, KeyError):
    """A custom function reads a name that is not declared.

    Attributes:
        kind: where the name would be declared, ``"configuration"`` or ``"hyperparameters"``.
        name: the name.
        likely: a declared name of similar spelling that has not been read so far, or None.
        read: declared names that have been read.
    """

    def __init__(self, kind: str, name: str, likely: str | None, read: set[str]):
        super().__init__(name)
        self.kind, self.likely, self.read, self.name = kind, likely, read, name

    def error(self, field: str, given: Any) -> InputError:
        """The InputError of one line for the function ``given`` of the study field ``field``."""
        if self.likely is not None:
            return UnknownName(self.kind, self.likely, {self.name, *self.read})
        return InputError(
            field, given, f"reads {self.name}, which is not declared: declare it under {self.kind}"
        )


class _Noting:
    """Mixin for a mapping: adds each name read from it to a set; reading the whole mapping adds every name."""

    __slots__ = ()

    @classmethod
    def of(cls, values: Mapping[str, Any], read: set[str]) -> Self:
        noting = cls(values)
        object.__setattr__(noting, "_read", read)
        return noting

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            likely = get_close_matches(str(name), set(self._values) - self._read, n=1, cutoff=0.8)
            raise Undeclared(self._kind, name, *(likely or [None]), self._read.intersection(self._values))
        self._read.add(name)
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name) if name.startswith("__") else self[name]

    def replace(self, **changes: Any) -> Self:
        return type(self).of({**self._values, **changes}, self._read)

    def _all(self) -> None:
        self._read.update(self._values)


class NotingConfiguration(_Noting, Configuration):
    __slots__ = ("_read",)
    _kind = "configuration"

    def __hash__(self) -> int:
        self._all()
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        self._all()
        return super().__eq__(other)


@jax.tree_util.register_pytree_with_keys_class
class NotingHyperparameters(_Noting, Hyperparameters):
    __slots__ = ("_read",)
    __hash__ = None
    _kind = "hyperparameters"

    def tree_flatten_with_keys(self):
        self._all()
        return super().tree_flatten_with_keys()

    @classmethod
    def tree_unflatten(cls, names, leaves):
        return Hyperparameters(dict(zip(names, leaves, strict=True)))
