"""The type `Space`, and the two spaces that list their settings explicitly: `grid` and `zipped`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, SupportsIndex

from jaxlab.checks import plain
from jaxlab.errors import InputError
from jaxlab.space.values import MOST, axis, exact, first_repeat, token


def setting_key(setting: Mapping[str, Any]) -> Hashable:
    """A key that is equal for equal settings: it covers names and values, not their order."""
    return frozenset([(name, token(value)) for name, value in setting.items()])


def row_tokens(columns: Mapping[str, Sequence[Any]]) -> Iterable[tuple[Hashable, ...]]:
    """A key for each row of columns of plain values, equal for equal rows."""
    return zip(*(map(token, values) for values in columns.values()), strict=True)


def of_plain(settings: Iterable[dict[str, Any]], distinct: bool = True) -> Space:
    """A space of settings with plain values; unless they are known to be ``distinct``, repeated ones are dropped."""
    space = Space()
    if distinct:
        space._all_keys, space._settings = None, tuple(settings)
        return space
    unique: dict[Hashable, dict[str, Any]] = {}
    for setting in settings:
        unique.setdefault(setting_key(setting), setting)
    space._all_keys, space._settings = tuple(unique), tuple(unique.values())
    return space


class Space(Sequence):
    """An immutable sequence of distinct settings, each a dict from name to value.

    Of equal settings the first is kept, since they are the same trial. Values compare as in Python, so 1 and 1.0 are
    the same, but a bool is never the same as a number. Settings may have different names: a missing name means the
    study's default.

    ``a * b`` joins every setting of ``a`` with every setting of ``b``, whose names must differ; the settings of ``b``
    vary fastest. ``a + b`` appends the settings of ``b`` to those of ``a``. Indexing returns a new dict, slicing a
    Space. Two spaces are equal if they hold the same settings in the same order.

    >>> space = Space([{"l2": 0.0}]) + grid(l2=[0.0, 1e-4]) * grid(seed=[0, 1])
    >>> space
    Space(5 settings of l2, seed)
    >>> space[-1]
    {'l2': 0.0001, 'seed': 1}

    Args:
        settings: mappings from name to a number, string, bool, None, function, or tuple of these. Lists
            become tuples and numpy scalars Python ones.

    Raises:
        InputError: a value is of another type, or NaN; or there are more than 1,000,000 settings.
    """

    __slots__ = ("_all_keys", "_settings")

    def __init__(self, settings: Iterable[Mapping[str, Any]] = ()):
        unique = {}
        for given in settings:
            setting = {name: plain(f"space.{name}", value) for name, value in given.items()}
            unique.setdefault(setting_key(setting), setting)
            if len(unique) > MOST:
                raise InputError("space", type(settings).__name__, f"give at most {MOST:,} settings")
        self._all_keys, self._settings = tuple(unique), tuple(unique.values())

    @property
    def _keys(self) -> tuple[Hashable, ...]:
        if self._all_keys is None:
            self._all_keys = tuple(map(setting_key, self._settings))
        return self._all_keys

    @property
    def names(self) -> tuple[str, ...]:
        """All names that occur in a setting, in order of first appearance."""
        return tuple(dict.fromkeys(itertools.chain.from_iterable(self._settings)))

    def values(self, name: str) -> list[Any]:
        """The distinct values of a name in the settings that have it, in order of first appearance.

        Values of different types are distinct here: 1, 1.0 and True are three.
        """
        return list({exact(each[name]): each[name] for each in self._settings if name in each}.values())

    def replaced(self, name: str, function: Callable[[Any], Any]) -> Space:
        """The space with each value of a name replaced by ``function(value)``, called once for each distinct value."""
        new = {exact(value): plain(f"space.{name}", function(value)) for value in self.values(name)}
        if all(exact(value) == key for key, value in new.items()):
            return self
        settings = (
            {**each, name: new[exact(each[name])]} if name in each else each for each in self._settings
        )
        return of_plain(settings, distinct=False)

    def with_defaults(self, defaults: Mapping[str, Any]) -> Space:
        """The space with defaults filled in; of settings that become equal, the first is kept.

        >>> (grid(l2=[0.0, 1e-4]) + grid(seed=[0, 1])).with_defaults({"l2": 0.0, "seed": 0})
        Space(3 settings of l2, seed)
        """
        names = self.names
        if set(defaults) <= set(names) and all(len(setting) == len(names) for setting in self._settings):
            return self
        plains = {name: plain(f"space.{name}", value) for name, value in defaults.items()}
        # The last `setting` overrides the defaults; the first one fixes the order of names.
        return of_plain(({**setting, **plains, **setting} for setting in self._settings), distinct=False)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(dict, self._settings)

    def __len__(self) -> int:
        return len(self._settings)

    def __getitem__(self, index: SupportsIndex | slice) -> dict[str, Any] | Space:
        found = self._settings[index]
        return of_plain(found) if isinstance(index, slice) else dict(found)

    def __eq__(self, other: object) -> bool:
        return self._keys == other._keys if isinstance(other, Space) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._keys)

    def __mul__(self, other: object) -> Space:
        if not isinstance(other, Space):
            return NotImplemented
        common = [name for name in self.names if name in other.names]
        if common:
            raise InputError("space", common, "give both sides of a product different names")
        check_settings("space", (len(self), len(other)), len(self) * len(other))
        return of_plain({**left, **right} for left in self._settings for right in other._settings)

    def __add__(self, other: object) -> Space:
        if not isinstance(other, Space):
            return NotImplemented
        check_settings("space", (len(self), len(other)), len(self) + len(other))
        return of_plain(self._settings + other._settings, distinct=False)

    def __repr__(self) -> str:
        plural = "" if len(self) == 1 else "s"
        return f"Space({len(self)} setting{plural} of {', '.join(self.names) or 'defaults alone'})"


def check_settings(field: str, sizes: Any, count: int) -> None:
    """Raise where parts of these sizes make more than `MOST` settings."""
    if count > MOST:
        raise InputError(field, sizes, f"makes {count:,} settings: give at most {MOST:,}")


def grid(**axes: Any) -> Space:
    """List every combination of the axes' values; the last axis varies fastest.

    >>> [tuple(setting.values()) for setting in grid(l2=[0.0, 1e-4], seed=range(2))]
    [(0.0, 0), (0.0, 1), (0.0001, 0), (0.0001, 1)]

    Args:
        **axes: the values of each name, a list, tuple, range or array. ``grid()`` is one setting with all
            defaults.

    Raises:
        InputError: an axis is empty or not a list, repeats a value or has NaN, or there are more than 1,000,000
            settings.
    """
    columns = {name: axis(f"grid.{name}", values) for name, values in axes.items()}
    for name, values in columns.items():
        repeat = first_repeat(map(token, values))
        if repeat is not None:
            raise InputError(f"grid.{name}", values[repeat], "give each value of an axis once")
    sizes = {name: len(values) for name, values in columns.items()}
    check_settings("grid", sizes, math.prod(sizes.values()))
    return of_plain(dict(zip(columns, row, strict=True)) for row in itertools.product(*columns.values()))


def zipped(**axes: Any) -> Space:
    """Pair the axes up like `zip`: the first values of all axes, then the second ones, and so on.

    >>> list(zipped(width=[16, 32], learning_rate=[0.01, 0.003]))
    [{'width': 16, 'learning_rate': 0.01}, {'width': 32, 'learning_rate': 0.003}]

    Args:
        **axes: the values of each name, a list, tuple, range or array; all of one length.

    Raises:
        InputError: there is no axis, one is empty, not a list or has NaN, lengths differ, or a setting repeats.
    """
    if not axes:
        raise InputError("zipped", axes, "give one axis or more")
    columns = {name: axis(f"zipped.{name}", values) for name, values in axes.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError("zipped", lengths, "give all axes the same length")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    repeat = first_repeat(row_tokens(columns))
    if repeat is not None:
        raise InputError("zipped", rows[repeat], "give each setting once")
    return of_plain(rows)
