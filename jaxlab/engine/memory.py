"""How much memory a device has left, and JAX's error when that was not enough."""

import math
import os
from pathlib import Path

import jax

from jaxlab.engine.programs import Programs

_SHARE = 0.9  # of what is free; the rest is for what nobody counted


def fits(needed: int, devices: list[jax.Device]) -> bool:
    """Whether ``needed`` bytes on each device are there, as far as anyone can tell."""
    if devices[0].platform == "cpu":  # all of them live in the host's memory
        return needed * len(devices) <= _SHARE * free_on_host()
    return all(needed <= _SHARE * _free(device) for device in devices)


def resident_packs(programs: Programs, packs: int, reserve: int = 0) -> int:
    """How many packs' states may stay on the devices between their turns; all of them where that is host memory.

    Room is left on each device for the largest of the programs, and for ``reserve`` bytes if that is more.
    """
    devices = list(programs.pack.mesh.devices.flat)
    if devices[0].platform == "cpu" or not programs.state_bytes:
        return packs
    free = _SHARE * min(_free(device) for device in devices) - max(programs.memory_bytes(), reserve)
    return packs if math.isinf(free) else int(min(packs, max(0, free // programs.state_bytes)))


def waiting_packs(packs: int, device: jax.Device) -> int:
    """Packs whose states must find room beside the one that runs: elsewhere than on a CPU they can go to the host."""
    return packs - 1 if device.platform == "cpu" else 0


def _free(device: jax.Device) -> float:
    memory = device.memory_stats() or {}
    if "bytes_limit" not in memory:
        return math.inf
    return memory["bytes_limit"] - memory.get("bytes_in_use", 0)


def free_on_host() -> float:
    """Bytes that this process may still take: of the host, and of its control group, which a batch system limits."""
    return min(_available(), _left_in_group())


def _left_in_group(folder: Path = Path("/sys/fs/cgroup")) -> float:
    try:
        limit, used = ((folder / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return math.inf if limit == "max" else float(limit) - float(used)
    except (OSError, ValueError):
        return math.inf


def _available() -> float:
    """What psutil says is available; without it half of what the host has, or no limit."""
    try:
        import psutil
    except ModuleNotFoundError:
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
        except (AttributeError, OSError, ValueError):
            return math.inf
    return psutil.virtual_memory().available


def is_out_of_memory(error: Exception) -> bool:
    """Whether JAX failed for want of memory."""
    return "RESOURCE_EXHAUSTED" in str(error)
