"""One writer for each run folder."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from jaxlab.errors import InputError
from jaxlab.store.files import disk_errors

_HOLDER = re.compile(r"pid \d+ on host \S{1,255}")


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a run folder until the context ends, against other processes, threads and calls.

    ``lock`` is locked by the system, which lets go when the process dies, however it does; ``lock.holder`` says who
    holds it, for the message alone. Where the file system knows no locks, the file's presence is the lock.

    Args:
        folder: exists.

    Raises:
        InputError: somebody else holds it, or it cannot be written to.
    """
    from filelock import FileLock, Timeout  # here, so that training without a folder does without it

    lock, holder = FileLock(folder / "lock", timeout=0), folder / "lock.holder"
    with disk_errors(folder):
        try:
            lock.acquire()
        except Timeout:  # an OSError too
            remedy = f"another process trains it{_who(holder)}: wait for it, or name another folder"
            raise InputError("out", str(folder), remedy) from None
    try:
        with contextlib.suppress(OSError):  # what one that died has left
            holder.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            holder.write_text(f"pid {os.getpid()} on host {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):  # while it is still ours
            holder.unlink(missing_ok=True)
        lock.release()


def _who(holder: Path) -> str:
    """Who holds it, in brackets; nothing where the file says nothing of the kind."""
    try:
        words = holder.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    return f" ({words})" if _HOLDER.fullmatch(words) else ""
