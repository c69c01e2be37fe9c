"""Files that are complete or absent, and that show any change of their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxlab.errors import InputError


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Errors of the file system as one line that says what to do."""
    try:
        yield
    except OSError as error:
        remedy = "what was saved is kept: make room or mend it, and run again to go on"
        raise InputError(
            "out", str(path), f"cannot be written ({error.strerror or error}); {remedy}"
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in place in one step, on disk when this returns."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
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


def write_arrays(folder: Path, stem: str, arrays: Mapping[str, np.ndarray], note: Any) -> Path:
    """A file ``STEM-DIGEST.npz`` of arrays and a note that JSON can hold; its name tells whether it is whole."""
    content = io.BytesIO()
    words = np.frombuffer(json.dumps(note).encode(), np.uint8)
    np.savez(content, note=words, **{f"arrays/{name}": _raw(values) for name, values in arrays.items()})
    path = folder / f"{stem}-{_digest(content.getvalue())}.npz"
    write_whole(path, content.getvalue())
    return path


def read_arrays(path: Path, remedy: str) -> tuple[dict[str, np.ndarray], Any]:
    """What `write_arrays` wrote. Nothing in the file is executed.

    Args:
        path: of the file.
        remedy: what to do if it is damaged.

    Raises:
        InputError: the file is damaged.
    """
    try:
        content = path.read_bytes()
        if path.stem.rpartition("-")[2] != _digest(content):
            raise ValueError("its bytes have changed")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            note = json.loads(file["note"].tobytes())
            return {key.removeprefix("arrays/"): file[key] for key in file if key.startswith("arrays/")}, note
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes of zipfile and NumPy
        raise InputError("piece", str(path), f"is damaged ({error}); {remedy}") from error


def read_note(path: Path) -> Any:
    """The note alone of what `write_arrays` wrote, quickly and unchecked; None where it cannot be read."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return json.loads(file["note"].tobytes())
    except Exception:  # as above; who needs the file reads it with `read_arrays`
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _raw(values: np.ndarray) -> np.ndarray:
    """NumPy files know its own types alone: bfloat16 is kept as raw bytes, and viewed again by who knows of it."""
    return values.view(f"V{values.dtype.itemsize}") if values.dtype.isbuiltin == 2 else values
