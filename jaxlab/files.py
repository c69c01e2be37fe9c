"""Atomic writing: a file is complete or absent, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

import numpy as np


def temporary_name(path: Path, ending: str) -> Path:
    """An unpredictable name in the folder of a path."""
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}.{ending}")


def write_whole(path: Path, *parts: bytes | np.ndarray) -> None:
    """Write a file atomically; it is on disk when this returns. An existing link is replaced.

    Args:
        path: path of the file, in an existing folder.
        parts: the content, bytes or contiguous arrays of bytes, which is concatenated without a copy.
    """
    partial = temporary_name(path, "partial")
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
    """Flush a folder's list of files to disk, where the file system supports it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
