"""The two errors of jaxlab, invalid input and an interrupted run, and helpers that word them."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any


class InputError(ValueError):
    """Invalid input from the user, reported on one line: which value, what is wrong, and what to do.

    Args:
        field: the name of the field as the user wrote it, e.g. ``"hyperparameters.learning_rate"``.
        value: the value as given.
        remedy: what is accepted, as an imperative or a noun phrase, e.g. ``"give a number >= 0"``.

    The command line prints ``str(error)`` on one line and exits with status 2.
    """

    def __init__(self, field: str, value: Any, remedy: str):
        self.field, self.value, self.remedy = field, value, remedy
        super().__init__(f"{field} = {_short(value)}: {remedy}")

    def __reduce__(self):
        return type(self), (self.field, self.value, self.remedy)


class UnknownName(InputError):
    """A name that is not among the known ones: ``unknown key 'epoch' in lr.toml; did you mean 'epochs'?``

    Args:
        where: it stands.
        name: as given.
        known: what may stand there.
        what: kind of name.
    """

    def __init__(self, where: str, name: Any, known: Iterable[str], what: str = "name"):
        self.field, self.value, self.known, self.what = where, name, tuple(known), what
        self.remedy = (
            did_you_mean(str(name), self.known).rstrip() or f"known {what}s are {', '.join(self.known)}"
        )
        ValueError.__init__(self, f"unknown {what} {_short(name)} in {where}; {self.remedy}")

    def __reduce__(self):
        return type(self), (self.field, self.value, self.known, self.what)


class RunInterrupted(Exception):
    """A run stopped on request. It finished the call in progress and saved a checkpoint, from which it resumes."""


def _short(value: Any) -> str:
    text = " ".join(shown(value).split())
    # Keep the end, in which paths differ.
    return text if len(text) <= 120 else f"{text[:40]}...{text[-77:]}"


def name_of(function: Callable) -> str:
    """Module and qualified name of a callable; a `functools.partial` shows its arguments: ``mine.scaled(rate=1)``."""
    if isinstance(function, functools.partial):
        bound = [shown(each) for each in function.args]
        bound += [f"{name}={shown(each)}" for name, each in function.keywords.items()]
        return f"{name_of(function.func)}({', '.join(bound)})"
    named = function if hasattr(function, "__qualname__") else type(function)
    module = getattr(named, "__module__", None)
    return f"{module}.{named.__qualname__}" if module else named.__qualname__


def shown(value: Any) -> str:
    """Text for a value: its ``repr`` without memory addresses; functions appear by `name_of`."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{shown(name)}: {shown(each)}' for name, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        named = zip(value._fields, value, strict=True)
        return f"{type(value).__name__}({', '.join(f'{name}={shown(each)}' for name, each in named)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))}{',' * (len(value) == 1)})"
    if type(value) is int and value.bit_length() > 10_000:  # Python refuses to write that many digits
        return hex(value)
    if callable(value) and not isinstance(value, type):
        return name_of(value)
    return repr(value) if isinstance(value, str) else re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def visible(text: object) -> str:
    """Escape every unprintable character of a text, as ``repr`` does: ESC becomes ``\\x1b``.

    These include line breaks, marks that change the writing direction, and undecodable bytes of file names.
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(text))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The question ``did you mean ...?`` with the closest known name, or an empty string if none is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def how_to_install(extra: str) -> str:
    """The command that installs an optional extra from a clone; jaxlab is not on a package index."""
    return f"pip install -e '.[{extra}]' in a clone of jaxlab"
