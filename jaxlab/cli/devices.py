"""Host devices, before JAX starts."""

from __future__ import annotations

import os

import jax

from jaxlab.errors import InputError


def use_all_cores(devices: int | None) -> None:
    """Let JAX see one CPU device for each core, so that a pack trains on all of them; no effect on accelerators.

    Args:
        devices: how many instead.
    """
    if devices is not None and devices < 1:
        raise InputError("--devices", devices, "give a whole number >= 1")
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    jax.config.update("jax_num_cpu_devices", devices or len(os.sched_getaffinity(0)))
