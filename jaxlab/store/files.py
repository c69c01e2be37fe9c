"""Files that are complete or absent, that show any change of their bytes, and that stay in their folder."""

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
from jaxlab.files import beside

# What `beside` makes and a process that dies leaves.
_LEFTOVER = re.compile(r"(.+)\.[0-9a-f]{16}\.(partial|new|old)")
_SMALL = 1 << 24  # bytes: below, the free memory is not asked for
_GONE = (errno.ENOENT, errno.ENOTDIR)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Errors of the file system as one line that says what to do."""
    try:
        yield
    except OSError as error:
        remedy = "what was saved is kept: make room or mend it, and run again to go on"
        if error.errno in _GONE:
            remedy = "a folder of the run is missing: put it back and run again, or name another folder"
        raise InputError(
            "out", str(path), f"cannot be written ({error.strerror or error}); {remedy}"
        ) from error


def remove(path: Path) -> None:
    """Remove a file, a folder with everything in it, or a link, never what a link points to, as far as possible."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sweep(folder: Path, name: str = "") -> None:
    """Remove what processes that died left half written: of one ``name``, or of any."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        found = _LEFTOVER.fullmatch(path.name)
        if found and name in ("", found[1]):
            remove(path)


def make_folder(folder: Path) -> None:
    """Make a folder unless it is there.

    Raises:
        InputError: a link stands there: what is written would lie elsewhere.
    """
    check_no_link(folder)
    folder.mkdir(exist_ok=True)


def check_no_link(path: Path) -> None:
    """Raise where a link stands: what is written there would lie elsewhere."""
    if path.is_symlink():
        raise InputError("out", str(path), "is a link, which a run does not write through: remove it")


def write_tree(path: Path, content: Mapping[str, bytes]) -> None:
    """Put a folder of files in the place of another in one step.

    Args:
        path: of the folder, whose parent exists.
        content: of the files, by their paths within the folder, parted by ``/``.
    """
    sweep(path.parent, path.name)
    fresh, old = beside(path, "new"), beside(path, "old")
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
    """The files of a folder as `write_tree` takes them; links to folders are not followed.

    Raises:
        ValueError: they hold more than ``most`` bytes, or something there is not a regular file.
    """
    check_fits(most)
    content: dict[str, bytes] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            if file.is_symlink():
                raise ValueError("it holds a link")
            most -= file.lstat().st_size
            if most < 0:
                raise ValueError("it holds more than it did")
            content[file.relative_to(path).as_posix()] = read_regular(file)
    return content


def tree_digest(content: Mapping[str, bytes]) -> str:
    """SHA-256 of the names and bytes of some files, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(f"{len(name)} {name} {len(content[name])} ".encode())
        digest.update(content[name])
    return digest.hexdigest()


def open_regular(path: Path) -> io.BufferedIOBase:
    """A file to read; what is not a regular file (a pipe, a device, a folder) is refused without waiting for it.

    Raises:
        ValueError: it is not a regular file, or larger than the memory that is free.
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
    """The bytes of `open_regular`'s file, as many as it had when it was opened."""
    with open_regular(path) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def check_fits(size: int) -> None:
    """Raise ValueError for a number of bytes that this process cannot hold."""
    if size > _SMALL and size > free_on_host():
        raise ValueError(f"it takes {size:,} bytes, more than the memory that is free")


def read_json(content: bytes | str) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is not JSON, or nested so deeply that nothing could use it.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
