"""Widths that earlier runs chose, in a small file that nobody misses when it is lost."""

import contextlib
import json
import os
import tempfile
from pathlib import Path


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
        content = json.dumps(_read(path) | {key: width}, indent=1)
        handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(content)
            os.replace(fresh, path)
        except OSError:
            os.unlink(fresh)


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: width for key, width in found.items() if type(width) is int and width > 0}
