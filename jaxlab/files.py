"""Files that are complete or absent, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def beside(path: Path, ending: str) -> Path:
    """An unpredictable name next to a path, for what is put in its place once it is complete."""
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}.{ending}")


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Put a file in place in one step, on disk when this returns; a link that stands there is replaced.

    Args:
        path: of the file, whose folder exists.
        parts: what it holds, end to end.
    """
    partial = beside(path, "partial")
    try:
        with partial.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _sync(folder: Path) -> None:
    """The folder's list of files on disk, as far as its file system can; the files themselves are there."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
