"""Signals to the command line: what is saved, and the exit status."""

import os
import signal
import subprocess
import sys
import time

import pytest
from command_line import handlers_kept, jaxlab

from jaxlab.cli.signals import Signals


def test_ctrl_c_keeps_what_was_finished(cli_folder, tmp_path):
    # A shell's background job, as a test run may be, has its children ignore Ctrl-C: not this one.
    listening = "import signal, jaxlab.cli; signal.signal(signal.SIGINT, signal.default_int_handler); jaxlab.cli.main()"
    options = ["run", "tiny.toml", "--out", str(tmp_path / "run"), "--set", "epochs=5000"]
    command = [sys.executable, "-c", listening, *options]
    process = subprocess.Popen(
        command,
        cwd=cli_folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(cli_folder / "cache")},
    )
    deadline = time.monotonic() + 120
    while (
        not list((tmp_path / "run").glob("records/r00000001-*.safetensors")) and time.monotonic() < deadline
    ):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "SIGINT: finishing the call in progress, then saving; Ctrl-C again stops at once" in errors
    assert "stopped and saved; the same command resumes" in errors
    assert "Traceback" not in errors
    shown = jaxlab(cli_folder, "show", str(tmp_path / "run"))
    assert shown.returncode == 0
    assert "unfinished" in shown.stdout


def test_only_ctrl_c_is_heard_once_everything_is_saved():
    with handlers_kept(), Signals() as signals:
        signals.over = True
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)
        assert not signals.asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


ENDING = """
import atexit, os, signal
def late():  # after everything else that was asked for at the end
    for name in ("SIGTERM", "SIGUSR1"):
        os.kill(os.getpid(), getattr(signal, name))
atexit.register(late)
from jaxlab.cli.signals import Signals
with Signals() as signals:
    {begin}
raise SystemExit({status})
"""


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        ("signals.training = True; late(); late()", 75),
        ("signals.over = True; late()", 0),
    ],
)
def test_signals_that_come_while_the_process_ends_leave_its_status(begin, status):
    code = ENDING.format(begin=begin, status=status)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (status, "")
    assert found.stderr.count("finishing the call in progress, then saving") == (status == 75)


def test_a_second_signal_does_not_disturb_what_the_first_began():
    with handlers_kept(), Signals() as signals:
        with pytest.raises(KeyboardInterrupt):  # nothing to save yet
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)
        assert signals.status == 75
