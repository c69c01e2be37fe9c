"""The error that bad input raises, and the one of a run that was asked to stop."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any


class InputError(ValueError):
    """A value that a person gave is not usable; one clear line says which, and what to do.

    Args:
        field: the name of the field as the person wrote it, e.g. ``"hyperparameters.learning_rate"``.
        value: the value as given.
        remedy: what would be accepted, as an imperative or a noun phrase, e.g. ``"give a number >= 0"``.

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
    """A run was asked to stop: it has finished the call under way and saved; the same run goes on from there."""


def _short(value: Any) -> str:
    text = " ".join(shown(value).split())
    # The end of a path says more than its middle.
    return text if len(text) <= 120 else f"{text[:40]}...{text[-77:]}"


def name_of(function: Callable) -> str:
    """Module and qualified name of a callable; of a `functools.partial` with what is bound: ``mine.scaled(rate=1)``."""
    if isinstance(function, functools.partial):
        bound = [shown(each) for each in function.args]
        bound += [f"{name}={shown(each)}" for name, each in function.keywords.items()]
        return f"{name_of(function.func)}({', '.join(bound)})"
    named = function if hasattr(function, "__qualname__") else type(function)
    module = getattr(named, "__module__", None)
    return f"{module}.{named.__qualname__}" if module else named.__qualname__


def shown(value: Any) -> str:
    """A value as text: as ``repr`` writes it without addresses in memory, functions by `name_of`."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{shown(name)}: {shown(each)}' for name, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        named = zip(value._fields, value, strict=True)
        return f"{type(value).__name__}({', '.join(f'{name}={shown(each)}' for name, each in named)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))}{',' * (len(value) == 1)})"
    if type(value) is int and value.bit_length() > 10_000:  # more digits than Python writes
        return hex(value)
    if callable(value) and not isinstance(value, type):
        return name_of(value)
    return repr(value) if isinstance(value, str) else re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def visible(text: object) -> str:
    """The text on one line, with each character that does not print as Python writes it: ESC is ``\\x1b``.

    Among these are line breaks, marks that change the direction of writing, and bytes of a file name that are no text.
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(text))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The closest of the known names as a question to put before a remedy; nothing where none is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def how_to_install(extra: str) -> str:
    """The command that installs what an optional part needs, from a clone: jaxlab is not on a package index."""
    return f"pip install -e '.[{extra}]' in a clone of jaxlab"
