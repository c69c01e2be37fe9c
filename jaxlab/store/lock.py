"""One writer for each run folder."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from jaxlab.errors import InputError
from jaxlab.store.files import check_no_link, disk_errors, read_regular

_HOLDER = re.compile(r"pid (\d+) on host (\S{1,255})")


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a run folder until the context ends, against other processes, threads and calls.

    ``lock`` is locked by the system, which lets go when the process dies, however it does; ``lock.holder`` says who
    holds it, for the message alone. Where the file system knows no locks, the file's presence is the lock.

    Args:
        folder: exists.

    Raises:
        InputError: somebody else holds it, also where its ``lock`` was removed since; or it cannot be written to.
    """
    from filelock import FileLock, Timeout  # here, so that training without a folder does without it

    check_no_link(folder / "lock")
    lock, holder = FileLock(folder / "lock", timeout=0), folder / "lock.holder"
    taken = "another process trains it{}: wait for it, or name another folder"
    with disk_errors(folder):
        try:
            lock.acquire()
        except Timeout:  # an OSError too
            raise InputError("out", str(folder), taken.format(_who(holder))) from None
    try:
        if _holds_a_removed_lock(folder):
            raise InputError("out", str(folder), taken.format(_who(holder)))
    except InputError:
        lock.release()
        raise
    try:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)  # of one that died, or a link
            with holder.open("x", encoding="utf-8") as file:
                file.write(f"pid {os.getpid()} on host {socket.gethostname()}")
        yield
    finally:
        with contextlib.suppress(OSError):  # while it is still ours
            holder.unlink(missing_ok=True)
        lock.release()


def trained_by_another(folder: Path) -> str:
    """Which other process seems to train in a run folder, in brackets and for advice alone; empty if none does."""
    found = _holder(folder / "lock.holder")
    if found is None or found == (os.getpid(), socket.gethostname()):
        return ""
    gone = found[1] == socket.gethostname() and not _runs(found[0])
    return "" if gone else _who(folder / "lock.holder")


def _holds_a_removed_lock(folder: Path) -> bool:
    """Whether the process that is named as the holder still has a lock open that is no longer in the folder.

    A system without ``/proc`` does not say, nor does another host.
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
    if os.name == "nt":  # where the signal 0 is one
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return True


def _who(holder: Path) -> str:
    """Who holds it, in brackets; nothing where the file says nothing of the kind."""
    found = _holder(holder)
    return "" if found is None else f" (pid {found[0]} on host {found[1]})"


def _holder(holder: Path) -> tuple[int, str] | None:
    """Process and host as the file says; None where it says nothing of the kind."""
    try:
        found = _HOLDER.fullmatch(read_regular(holder).decode())
        return None if found is None else (int(found[1]), found[2])
    except (OSError, ValueError):
        return None
