"""The command line ``jaxlab``."""

from __future__ import annotations

import sys

from jaxlab.errors import InputError


def main() -> None:
    """Run the command line; bad input is one line on standard error and exit status 2."""
    try:
        from jaxlab.cli.app import app
    except ModuleNotFoundError as error:
        print(f"jaxlab: {error.name} is missing: pip install 'jaxlab[cli]'", file=sys.stderr)
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a folder's name need not be text that the terminal can show
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except InputError as error:
        print(f"jaxlab: {error}", file=sys.stderr)
        sys.exit(2)
