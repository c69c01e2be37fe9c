"""Atomic writing and safe reading of files and folders."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxlab.engine.memory import free_on_host
from jaxlab.errors import InputError
from jaxlab.files import temporary_name

# Names from `temporary_name`, which a killed process may leave behind.
_LEFTOVER = re.compile(r"(.+)\.[0-9a-f]{16}\.(partial|new|old)")
_UNCHECKED = 1 << 24  # bytes; for less, the free memory is not queried
_MISSING = (errno.ENOENT, errno.ENOTDIR)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn OSError into InputError, with one line that says what to do."""
    try:
        yield
    except OSError as error:
        remedy = (
            "fix this, for instance by freeing space, and run again: the run resumes from its last checkpoint"
        )
        if error.errno in _MISSING:
            remedy = "a folder of the run is missing: restore it and run again, or name another folder"
        raise InputError(
            "out", str(path), f"cannot be written ({error.strerror or error}); {remedy}"
        ) from error


def remove(path: Path) -> None:
    """Remove a file, a folder with its content, or a link but not its target; ignore errors."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sweep(folder: Path, name: str = "") -> None:
    """Remove unfinished files that killed processes left in a folder, those of one ``name`` or all."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        found = _LEFTOVER.fullmatch(path.name)
        if found and name in ("", found[1]):
            remove(path)


def make_folder(folder: Path) -> None:
    """Create a folder unless it exists.

    Raises:
        InputError: the path is a link, so that writing would leave the run folder.
    """
    check_no_link(folder)
    folder.mkdir(exist_ok=True)


def check_no_link(path: Path) -> None:
    """Raise InputError if a path is a link, so that writing would leave the run folder."""
    if path.is_symlink():
        raise InputError("out", str(path), "is a link, through which a run does not write: remove it")


def write_tree(path: Path, content: Mapping[str, bytes]) -> None:
    """Write a folder of files and swap it in, replacing an existing one.

    Args:
        path: path of the folder, whose parent exists.
        content: content of the files by their paths within the folder, separated by ``/``.
    """
    sweep(path.parent, path.name)
    fresh, old = temporary_name(path, "new"), temporary_name(path, "old")
    try:
        fresh.mkdir()
        for folder in sorted({os.path.dirname(name) for name in content} - {""}):
            (fresh / folder).mkdir(parents=True, exist_ok=True)
        for name, data in content.items():
            (fresh / name).write_bytes(data)
        if os.path.lexists(path):
            path.rename(old)
        fresh.rename(path)
    finally:
        remove(fresh)
    remove(old)


def read_tree(path: Path, most: int) -> dict[str, bytes]:
    """Read the files of a folder, as `write_tree` takes them; links to folders are not followed.

    Raises:
        ValueError: they hold more than ``most`` bytes, or one of them is not a regular file.
    """
    check_fits(most)
    content: dict[str, bytes] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            if file.is_symlink():
                raise ValueError("it contains a link")
            most -= file.lstat().st_size
            if most < 0:
                raise ValueError("it is larger than when it was written")
            content[file.relative_to(path).as_posix()] = read_regular(file)
    return content


def tree_digest(content: Mapping[str, bytes]) -> str:
    """SHA-256 of the names and contents of files, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(f"{len(name)} {name} {len(content[name])} ".encode())
        digest.update(content[name])
    return digest.hexdigest()


def open_regular(path: Path) -> io.BufferedIOBase:
    """Open a regular file for reading; anything else (a pipe, a device, a folder) raises without blocking.

    Raises:
        ValueError: it is not a regular file, or does not fit in memory.
    """
    waiting = getattr(os, "O_NONBLOCK", 0)
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | waiting))  # noqa: SIM115
    try:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not a regular file")
        check_fits(found.st_size)
    except BaseException:
        file.close()
        raise
    return file


def read_regular(path: Path) -> bytes:
    """Read a regular file, up to the size that it had when it was opened."""
    with open_regular(path) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def check_fits(size: int) -> None:
    """Raise ValueError if a number of bytes does not fit in memory."""
    if size > _UNCHECKED and size > free_on_host():
        raise ValueError(f"it takes {size:,} bytes, more than the memory that is free")


def read_json(content: bytes | str) -> Any:
    """Decode JSON.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
