"""Every core of a CPU as a device of its own, which JAX offers only before it starts."""

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

#: Host devices that JAX starts within seconds.
MOST_DEVICES = 1024
_FLAG = "xla_force_host_platform_device_count"


def use_all_cores(devices: int | None = None) -> None:
    """Let JAX see one CPU device for each core, so that a pack of trials trains on all of them.

    A small network does not keep several cores busy with one trial; one trial for each core does. Call it before
    anything else of JAX, at the top of a notebook or script; the command line does so itself. It has no effect on
    accelerators, nor where ``XLA_FLAGS`` or ``JAX_NUM_CPU_DEVICES`` says how many host devices there are.

    >>> import jaxlab
    >>> jaxlab.use_all_cores()

    Args:
        devices: how many instead.

    Raises:
        InputError: JAX has started already, with another number of devices; or ``devices`` is none that it can make.
    """
    if devices is not None:
        whole("devices", devices, 1, MOST_DEVICES)
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
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hint_at_cores(devices: Sequence[jax.Device]) -> None:
    """Say once a process that cores lie idle, unless somebody chose how many devices there are."""
    chosen = jax.config.jax_num_cpu_devices > 0 or _FLAG in os.environ.get("XLA_FLAGS", "")
    if len(devices) == 1 and devices[0].platform == "cpu" and cores() > 1 and not chosen:
        _say(cores())


@functools.cache
def _say(count: int) -> None:
    logging.getLogger("jaxlab").warning(
        "training on one CPU device although there are %d cores: call jaxlab.use_all_cores() before JAX starts",
        count,
    )


def processor() -> str:
    """Name of the host's processor, as far as its system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
