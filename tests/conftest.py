"""Strict settings for every test: no silent rank promotion, warnings are errors, hints are checked."""

import os
import tempfile
from pathlib import Path

# Compiled programs are shared between tests, workers and subprocesses of one run. Set before JAX is imported.
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"jaxlab-tests-{_RUN}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import jax  # noqa: E402
import pytest  # noqa: E402
from beartype import BeartypeConf  # noqa: E402
from beartype.claw import beartype_package  # noqa: E402

beartype_package("jaxlab", conf=BeartypeConf(is_pep484_tower=True))
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """Run one test in float64."""
    with jax.enable_x64(True):
        yield
