"""Settings that the command line makes before JAX starts: host devices, and caches in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax
import jaxlib
from platformdirs import user_cache_path

from jaxlab import devices
from jaxlab.errors import InputError


def use_all_cores(count: int | None) -> None:
    """`jaxlab.use_all_cores`, with the option's name in the error."""
    try:
        devices.use_all_cores(count)
    except InputError as error:
        if error.field != "devices":
            raise
        raise InputError("--devices", error.value, error.remedy) from None


def width_cache() -> Path:
    """The file that caches measured widths."""
    return user_cache_path("jaxlab") / f"widths-{_machine()}.json"


def keep_compiled_programs() -> None:
    """Enable JAX's compilation cache, in a separate folder for each version and kind of machine.

    ``JAX_COMPILATION_CACHE_DIR``, ``JAX_ENABLE_COMPILATION_CACHE`` and
    ``JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS`` take precedence. Without write access to the folder, nothing is
    changed.
    """
    if jax.config.jax_compilation_cache_dir is not None or not jax.config.jax_enable_compilation_cache:
        return
    # A program compiled for one CPU may not run on another model, and clusters share home folders.
    folder = user_cache_path("jaxlab") / f"programs-{jax.__version__}-{jaxlib.__version__}-{_machine()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _machine() -> str:
    """A digest of the processor's model and instruction set."""
    lines = [platform.machine(), platform.processor()]
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        wanted = ("model name", "flags", "Features", "CPU part")
        lines += sorted({line for line in cpu.read_text().splitlines() if line.startswith(wanted)})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]
