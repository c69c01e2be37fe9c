"""Compiled programs that this process keeps, so that training the same again compiles nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

import jax

#: How many are kept, the most recently used: those of about sixteen groups.
MOST = 64


class Kept(NamedTuple):
    """A compiled program and what compiling it took."""

    program: jax.stages.Compiled
    seconds: float


_kept: OrderedDict[Hashable, Kept] = OrderedDict()


def recall(key: Hashable) -> Kept | None:
    """The program of a key, if it is still kept; nothing is kept under None."""
    found = _kept.get(key)
    if found is not None:
        _kept.move_to_end(key)
    return found


def keep(key: Hashable, kept: Kept) -> None:
    """Keep a program; the least recently used one is discarded beyond `MOST`."""
    _kept[key] = kept
    _kept.move_to_end(key)
    while len(_kept) > MOST:
        _kept.popitem(last=False)


def clear_programs() -> None:
    """Discard all compiled programs that the process keeps, to free their memory or to compile them anew."""
    _kept.clear()
