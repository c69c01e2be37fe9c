"""Text on a terminal: names, paths and messages from elsewhere appear as they are, and control nothing."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from jaxlab.errors import visible


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
