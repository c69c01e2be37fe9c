"""The compiled programs of this process, so that training the same again compiles nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax

#: How many programs are held, the most recently used: those of about sixteen groups.
MOST = 64


class Compiled(NamedTuple):
    """A compiled program.

    Attributes:
        program: for arguments of one pack.
        seconds: what compiling it takes where nothing is cached.
    """

    program: jax.stages.Compiled
    seconds: float


_programs: OrderedDict[Hashable, Compiled] = OrderedDict()
_lock = threading.Lock()


def find_program(key: Hashable) -> Compiled | None:
    """The program of a key; None where there is none."""
    with _lock:
        if key in _programs:
            _programs.move_to_end(key)
        return _programs.get(key)


def add_program(key: Hashable, compiled: Compiled) -> None:
    """Hold a program; beyond `MOST` the least recently used one is discarded."""
    with _lock:
        _programs[key] = compiled
        _programs.move_to_end(key)
        while len(_programs) > MOST:
            _programs.popitem(last=False)


def clear_programs() -> None:
    """Discard all programs, to free their memory or to compile them anew."""
    with _lock:
        _programs.clear()


@contextmanager
def loading(saved: list[float]) -> Iterator[dict[int, float]]:
    """Record each program that JAX loads from its persistent cache: what compiling it took, less loading it.

    Args:
        saved: receives an entry for each program.

    Yields:
        The last entry of each thread.
    """
    last: dict[int, float] = {}

    def listen(event: str, seconds: float, **_: Any) -> None:
        if event == "/jax/compilation_cache/compile_time_saved_sec":
            saved.append(seconds)
            last[threading.get_ident()] = seconds

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield last
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
