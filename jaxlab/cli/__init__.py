"""The command line ``jaxlab``."""

from __future__ import annotations

import sys
import warnings

from jaxlab.errors import InputError, how_to_install


def main() -> None:
    """Run the command line; on bad input, print one line to standard error and exit with status 2."""
    try:
        from jaxlab.cli.app import app
        from jaxlab.cli.terminal import say
    except ModuleNotFoundError as error:
        print(f"jaxlab: {error.name} is missing: {how_to_install('cli')}", file=sys.stderr)
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name may hold characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: say(f"jaxlab: {message}")
        try:
            app()
        except InputError as error:
            say(f"jaxlab: {error}")
            sys.exit(2)
