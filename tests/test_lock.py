"""A run folder has one writer, and who died holds nothing."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxlab.errors import InputError
from jaxlab.store import only_writer

HOLD = """
import sys, time
from pathlib import Path
from jaxlab.store import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def refusal(folder):
    with pytest.raises(InputError) as caught, only_writer(folder):
        pass
    assert caught.value.field == "out"
    assert caught.value.value == str(folder)
    return caught.value.remedy


def named(pid):
    return f"another process trains it (pid {pid} on host {socket.gethostname()}): wait for it, or name another folder"


UNNAMED = "another process trains it: wait for it, or name another folder"


def test_a_second_process_is_told_who_holds_it(tmp_path, other):
    assert refusal(tmp_path) == named(other.pid)


def test_whose_lock_was_removed_by_hand_still_holds_it(tmp_path, other):
    (tmp_path / "lock").unlink()
    assert refusal(tmp_path) == named(other.pid)
    assert refusal(tmp_path) == named(other.pid)
    other.kill()
    other.wait()
    with only_writer(tmp_path):
        assert refusal(tmp_path) == named(os.getpid())


def test_a_lock_that_was_removed_in_the_same_process_is_still_held(tmp_path):
    with only_writer(tmp_path):
        (tmp_path / "lock").unlink()
        assert refusal(tmp_path) == named(os.getpid())


@pytest.mark.parametrize("pid", [1, os.getppid()])
def test_a_number_that_another_process_has_by_now_holds_nothing(tmp_path, pid):
    (tmp_path / "lock.holder").write_text(f"pid {pid} on host {socket.gethostname()}")
    with only_writer(tmp_path):
        assert refusal(tmp_path) == named(os.getpid())


def test_a_pipe_in_the_place_of_the_name_is_not_waited_for(tmp_path):
    with only_writer(tmp_path):
        (tmp_path / "lock.holder").unlink()
        os.mkfifo(tmp_path / "lock.holder")
        assert refusal(tmp_path) == UNNAMED


@pytest.mark.parametrize("name", ["lock", "lock.holder"])
def test_a_planted_link_is_not_written_through(tmp_path, name):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "mine")
    if name == "lock":
        with pytest.raises(InputError, match=r"out = .*lock': is a link, .*: remove it"):
            only_writer(tmp_path / "run").__enter__()
    else:
        with only_writer(tmp_path / "run"):
            assert refusal(tmp_path / "run") == named(os.getpid())
    assert (tmp_path / "mine").read_text() == "mine"


def test_who_was_killed_holds_nothing(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert str(other.pid) in (tmp_path / "lock.holder").read_text()
    with only_writer(tmp_path):
        assert refusal(tmp_path) == named(os.getpid())


def test_a_second_call_and_another_thread_are_refused(tmp_path):
    found = []
    with only_writer(tmp_path):
        found.append(refusal(tmp_path))
        thread = threading.Thread(target=lambda: found.append(refusal(tmp_path)))
        thread.start()
        thread.join()
    assert found == [named(os.getpid())] * 2


def test_another_folder_is_free(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with only_writer(tmp_path / "a"), only_writer(tmp_path / "b"):
        for name in ("a", "b"):
            assert refusal(tmp_path / name) == named(os.getpid())


@pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt, SystemExit])
def test_nothing_is_held_after_the_context(tmp_path, error):
    for _ in range(2):
        with contextlib.suppress(*[error] if error else []), only_writer(tmp_path):
            assert (tmp_path / "lock.holder").exists()
            if error is not None:
                raise error
        assert not (tmp_path / "lock.holder").exists()


def test_who_is_refused_does_not_take_the_name_of_the_holder_away(tmp_path):
    with only_writer(tmp_path):
        assert refusal(tmp_path) == refusal(tmp_path) == named(os.getpid())


@pytest.mark.parametrize("name", ["lock", "lock.holder"])
@pytest.mark.parametrize("content", [b"", b"pid 1 on host elsewhere", b"\xff\x00" * 9, b"x" * 10**6])
def test_what_a_dead_writer_left_is_no_lock_and_names_nobody(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with only_writer(tmp_path):
        assert refusal(tmp_path) == named(os.getpid())


@pytest.mark.parametrize("content", [b"", b"pid x on host y", b"pid 1 on host a\nb", b"\xff\x00", None])
def test_without_a_readable_name_the_refusal_names_nobody(tmp_path, content):
    with only_writer(tmp_path):
        (tmp_path / "lock.holder").unlink()
        if content is not None:
            (tmp_path / "lock.holder").write_bytes(content)
        assert refusal(tmp_path) == UNNAMED


@pytest.mark.parametrize("left", ["a folder", "a dead one's name"])
def test_a_name_that_cannot_be_written_does_not_stop_the_writer(tmp_path, monkeypatch, left):
    opened = Path.open

    def full(path, mode="r", *more, **options):
        if mode == "x":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, *more, **options)

    if left == "a folder":
        (tmp_path / "lock.holder").mkdir()
    else:
        (tmp_path / "lock.holder").write_text("pid 1 on host elsewhere")
    monkeypatch.setattr(Path, "open", full)
    with only_writer(tmp_path):
        assert refusal(tmp_path) == UNNAMED


def test_a_folder_that_cannot_be_written_to_is_one_clear_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"out = .*: cannot be written \(.+\)"):
        only_writer(tmp_path / "file").__enter__()
