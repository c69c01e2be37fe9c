"""Strict settings for every test: no silent rank promotion, warnings are errors, hints are checked."""

import os
import shutil
import subprocess
import sys
import tempfile
import types
from importlib.metadata import version
from pathlib import Path

# Compiled programs are shared between the tests, workers and subprocesses of one run. Set before JAX is imported.
_CACHE = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxlab-tests-")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Compiling takes most of a tiny study's time, so that XLA optimises nothing here; `optimised` compiles as users do.
# With XLA_FLAGS set, even to nothing, it is as that says.
_FAST = ["--xla_backend_optimization_level=0"]
if version("jaxlib").startswith(
    "0.10."
):  # later versions have no such flag, and abort at one that they do not know
    _FAST.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(_FAST))

# What the command line keeps for the user stays out of the user's own folder.
os.environ["XDG_CACHE_HOME"] = os.environ["JAX_COMPILATION_CACHE_DIR"] + "-user"

import jax  # noqa: E402
import pytest  # noqa: E402
from beartype import BeartypeConf  # noqa: E402
from beartype.claw import beartype_package  # noqa: E402

sys.path.insert(
    0, str(Path(__file__).parent.parent / "scripts")
)  # the benchmark and the accelerator questions
for package in ("jaxlab", "benchmark"):
    beartype_package(package, conf=BeartypeConf(is_pep484_tower=True))
jax.config.update("jax_numpy_rank_promotion", "raise")

import small  # noqa: E402


@pytest.fixture
def optimised():
    """The programs of the test's trials are compiled as users compile them: for tests of bits."""
    with small.optimised():
        yield


@pytest.fixture
def x64():
    """Run one test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def free_memory(monkeypatch):
    """``free_memory(bytes)`` sets the free memory that psutil reports of the host."""

    def report(available):
        monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=available))

    return report


@pytest.fixture(scope="session")
def cli_folder(tmp_path_factory):
    """A folder with the study file ``tiny.toml`` and its finished run ``runs/tiny``, both of the command line."""
    import command_line

    path = tmp_path_factory.mktemp("cli")
    (path / "tiny.toml").write_text(command_line.FILE)
    assert command_line.jaxlab(path, "run", "tiny.toml", "--width", "6").returncode == 0
    return path


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 64 kB, and a way to give it another size in kB."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True)

    try:
        mounted = mount("size=64k").returncode == 0
    except OSError:  # there is no such command
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system takes root")
    yield folder, lambda kilobytes: mount(f"remount,size={kilobytes}k").check_returncode()
    subprocess.run(["umount", "-l", str(folder)], check=True)


def pytest_unconfigure():
    """The process that made the cache removes it; workers inherit it."""
    if _CACHE is not None:
        for folder in (_CACHE, f"{_CACHE}-user"):
            shutil.rmtree(folder, ignore_errors=True)
