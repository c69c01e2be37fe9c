"""Cache of the compiled programs of this process, so that repeated training does not recompile."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax

#: Number of programs to hold, the most recently used ones: those of about sixteen groups.
MAX_PROGRAMS = 64


class Compiled(NamedTuple):
    """A compiled program and its compile time.

    Attributes:
        program: the program, for arguments of one pack.
        seconds: compile time without any cache.
    """

    program: jax.stages.Compiled
    seconds: float


_programs: OrderedDict[Hashable, Compiled] = OrderedDict()
_lock = threading.Lock()


def find_program(key: Hashable) -> Compiled | None:
    """Find the program of a key; None if there is none."""
    with _lock:
        if key in _programs:
            _programs.move_to_end(key)
        return _programs.get(key)


def add_program(key: Hashable, compiled: Compiled) -> None:
    """Hold a program; beyond `MAX_PROGRAMS` the least recently used one is discarded."""
    with _lock:
        _programs[key] = compiled
        _programs.move_to_end(key)
        while len(_programs) > MAX_PROGRAMS:
            _programs.popitem(last=False)


def clear_programs() -> None:
    """Discard all programs, to free their memory or to compile them again."""
    with _lock:
        _programs.clear()


@contextmanager
def record_cache_hits(saved: list[float]) -> Iterator[dict[int, float]]:
    """Record the time saved by each program that JAX loads from its persistent compilation cache.

    Args:
        saved: receives an entry for each program: compile time minus load time, in seconds.

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
