"""One JAX device per CPU core. JAX fixes the number of host devices when it starts."""

from __future__ import annotations

import functools
import logging
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import jax

from jaxlab.checks import whole
from jaxlab.errors import InputError

#: JAX starts up to this many host devices within seconds.
MAX_DEVICES = 1024
_FLAG = "xla_force_host_platform_device_count"


def use_all_cores(devices: int | None = None) -> None:
    """Give JAX one CPU device per core, so that a pack of trials trains on all cores.

    One trial of a small network cannot keep several cores busy; one trial per core does. Call this function before
    anything else of JAX, at the top of a notebook or script; the command line calls it itself. It has no effect on
    accelerators, nor if ``XLA_FLAGS`` or ``JAX_NUM_CPU_DEVICES`` already sets the number of host devices.

    >>> import jaxlab
    >>> jaxlab.use_all_cores()

    Args:
        devices: the number of devices; one per core by default.

    Raises:
        InputError: JAX has already started with another number of devices, or ``devices`` is out of range.
    """
    if devices is not None:
        whole("devices", devices, 1, MAX_DEVICES)
    if _FLAG in os.environ.get("XLA_FLAGS", "") or (devices is None and jax.config.jax_num_cpu_devices > 0):
        return
    count = devices or cores()
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError as error:
        raise InputError(
            "use_all_cores", count, "JAX has started already: restart the kernel and call this first"
        ) from error


def cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def warn_if_cores_idle(devices: Sequence[jax.Device]) -> None:
    """Warn once per process that cores are idle, unless the user chose the number of devices."""
    chosen = jax.config.jax_num_cpu_devices > 0 or _FLAG in os.environ.get("XLA_FLAGS", "")
    if len(devices) == 1 and devices[0].platform == "cpu" and cores() > 1 and not chosen:
        _warn_once(cores())


@functools.cache
def _warn_once(count: int) -> None:
    logging.getLogger("jaxlab").warning(
        "training on one CPU device although there are %d cores: call jaxlab.use_all_cores() before JAX starts",
        count,
    )


def processor() -> str:
    """Name of the host's processor, as the operating system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
