"""Cache of the widths that earlier runs chose: a small file that may be deleted at any time."""

import contextlib
import json
import os
from pathlib import Path

from jaxlab.files import write_whole


def load_width(path: str | os.PathLike | None, key: str) -> int | None:
    """Load the width stored under a key; None if there is none or the file cannot be read."""
    return None if path is None else _read(Path(path)).get(key)


def save_width(path: str | os.PathLike | None, key: str, width: int) -> None:
    """Store a width under a key, replacing the file atomically; do nothing if it cannot be written."""
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
