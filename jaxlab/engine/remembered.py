"""Widths that earlier runs chose, in a small file that may be deleted at any time."""

import contextlib
import json
import os
from pathlib import Path

from jaxlab.files import write_whole


def recall(path: str | os.PathLike | None, key: str) -> int | None:
    """The width remembered under a key; None where there is none, or no file that can be read."""
    return None if path is None else _read(Path(path)).get(key)


def remember(path: str | os.PathLike | None, key: str, width: int) -> None:
    """Add one width, swapping the file in whole; a file that cannot be written is left as it is."""
    if path is None:
        return
    path = Path(path)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(_read(path) | {key: width}, indent=1).encode())


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: width for key, width in found.items() if type(width) is int and width > 0}
