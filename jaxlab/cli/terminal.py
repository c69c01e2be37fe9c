"""Text on a terminal: names, paths and messages from elsewhere appear as they are, and control nothing."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text


def visible(text: object) -> str:
    """The text on one line, with each character that does not print as Python writes it: ESC is ``\\x1b``.

    Among these are line breaks, marks that change the direction of writing, and bytes of a file name that are no text.
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(text))


def say(text: object) -> None:
    """One line on standard error."""
    print(visible(text), file=sys.stderr, flush=True)


class Terminal(Console):
    """A console on which every string, in tables too, is plain text: no markup, no emoji codes, no control characters.

    Styles are given by ``style=`` instead.
    """

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """What Rich calls for each string that it is given."""
        return super().render_str(visible(text), **options)
