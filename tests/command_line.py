"""The command line in this process or in one of its own, and a small study for it."""

import contextlib
import io
import os
import signal
import subprocess
import sys

import jax
import pytest

from jaxlab import cli

FILE = """
name = "tiny"
epochs = 2
[data]
name = "digits"
subset = 200
[configuration]
features = [2]
[space.grid]
learning_rate = [1e-3, 1e-2, 1e30]
l2 = [0, 1e-3]
"""


@contextlib.contextmanager
def handlers_kept():
    """What listens to signals is as before, though a run's end leaves a process that is about to exit."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def jaxlab(folder, *arguments):
    """``jaxlab ARGUMENTS`` with its exit status and what it prints, in this process and on its one device."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        handlers_kept(),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        patch.setattr(sys, "argv", ["jaxlab", *arguments])
        patch.setenv("COLUMNS", "120")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        count = f"--xla_force_host_platform_device_count={len(jax.devices())}"
        patch.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} {count}")
        with pytest.raises(SystemExit) as ended:
            cli.main()
    status = ended.value.code or 0
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), errors.getvalue())


def started(folder, *arguments, **environment):
    """``python -m jaxlab ARGUMENTS`` in a process of its own."""
    command = [sys.executable, "-m", "jaxlab", *arguments]
    environment = os.environ | {"COLUMNS": "120", "XDG_CACHE_HOME": str(folder / "cache")} | environment
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
