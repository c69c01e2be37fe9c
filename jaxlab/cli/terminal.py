"""Safe output on a terminal: text from outside is shown literally and cannot control the terminal."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from jaxlab.errors import visible


def say(text: object) -> None:
    """Print one line to standard error."""
    print(visible(text), file=sys.stderr, flush=True)


class Terminal(Console):
    """A console that prints every string, in tables too, as plain text: no markup, emoji codes or control characters.

    Use ``style=`` for styles.
    """

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a string to text; Rich calls this for every string."""
        return super().render_str(visible(text), **options)
