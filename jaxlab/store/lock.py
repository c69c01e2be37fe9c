"""The lock of a run folder, which admits one writer."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from jaxlab.errors import InputError
from jaxlab.store.disk import check_no_link, disk_errors, read_regular

_HOLDER = re.compile(r"pid (\d+) on host (\S{1,255})")


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Lock a run folder against other processes, threads and calls until the context ends.

    The operating system holds a lock on ``lock`` and releases it when the process dies. ``lock.holder`` names the
    process, for messages only. On a file system without locks, the existence of the file is the lock.

    Args:
        folder: an existing folder.

    Raises:
        InputError: another process holds the lock, even if the file ``lock`` was removed since; or the folder cannot
            be written to.
    """
    from filelock import FileLock, Timeout  # imported here: training without a run folder does not need it

    check_no_link(folder / "lock")
    lock, holder = FileLock(folder / "lock", timeout=0), folder / "lock.holder"
    in_use = "another process trains it{}: wait for it, or name another folder"
    with disk_errors(folder):
        try:
            lock.acquire()
        except Timeout:  # an OSError too
            raise InputError("out", str(folder), in_use.format(_holder_in_words(holder))) from None
    if _holds_a_removed_lock(folder):
        lock.release()
        raise InputError("out", str(folder), in_use.format(_holder_in_words(holder)))
    try:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)  # left by a killed process, or a link
            with holder.open("x", encoding="utf-8") as file:
                file.write(f"pid {os.getpid()} on host {socket.gethostname()}")
        yield
    finally:
        with contextlib.suppress(OSError):  # before the lock is released
            holder.unlink(missing_ok=True)
        lock.release()


def trained_by_another(folder: Path) -> str:
    """The other process that seems to train in a run folder, in brackets, for messages only; empty if there is none."""
    found = _holder(folder / "lock.holder")
    if found is None or found == (os.getpid(), socket.gethostname()):
        return ""
    gone = found[1] == socket.gethostname() and not _runs(found[0])
    return "" if gone else _holder_in_words(folder / "lock.holder")


def _holds_a_removed_lock(folder: Path) -> bool:
    """Whether the named holder still has a lock file open that has been removed from the folder.

    This is known only on this host, and only with ``/proc``.
    """
    found = _holder(folder / "lock.holder")
    if found is None or found[1] != socket.gethostname():
        return False
    removed = f"{os.path.realpath(folder / 'lock')} (deleted)"
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{found[0]}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                if os.readlink(file) == removed:
                    return True
    return False


def _runs(pid: int) -> bool:
    if os.name == "nt":  # signal 0 is a real signal there
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # the process of another user
        return True
    return True


def _holder_in_words(holder: Path) -> str:
    """The holder of a lock, in brackets; empty if the file does not name one."""
    found = _holder(holder)
    return "" if found is None else f" (pid {found[0]} on host {found[1]})"


def _holder(holder: Path) -> tuple[int, str] | None:
    """The process id and host that the file names; None if it does not name them."""
    try:
        found = _HOLDER.fullmatch(read_regular(holder).decode())
        return None if found is None else (int(found[1]), found[2])
    except (OSError, ValueError):
        return None
