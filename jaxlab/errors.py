"""The one error that bad input raises, and the one of a run that was asked to stop."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
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
        shown = " ".join(repr(value).split())
        if len(shown) > 120:  # the end of a path says more than its middle
            shown = f"{shown[:40]}...{shown[-77:]}"
        super().__init__(f"{field} = {shown}: {remedy}")

    def __reduce__(self):
        return type(self), (self.field, self.value, self.remedy)


class RunInterrupted(Exception):
    """A run was asked to stop: it has finished the call under way and saved; the same run goes on from there."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The closest of the known names as a question to put before a remedy; nothing where none is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def how_to_install(extra: str) -> str:
    """The command that installs what an optional part needs, from a clone: jaxlab is not on a package index."""
    return f"pip install -e '.[{extra}]' in a clone of jaxlab"
