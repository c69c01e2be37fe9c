"""How much memory a device has left, and JAX's error when that was not enough."""

import math
import os
from pathlib import Path

import jax

_SHARE = 0.9  # of what is free; the rest is for what nobody counted


def fits(needed: int, devices: list[jax.Device]) -> bool:
    """Whether ``needed`` bytes on each device are there, as far as anyone can tell."""
    if devices[0].platform == "cpu":  # all of them live in the host's memory
        return needed * len(devices) <= _SHARE * free_on_host()
    return all(needed <= room(device) for device in devices)


def waiting_packs(packs: int, device: jax.Device) -> int:
    """Packs whose states must find room beside the one that runs: elsewhere than on a CPU they can go to the host."""
    return packs - 1 if device.platform == "cpu" else 0


def all_memory(device: jax.Device) -> float:
    """Bytes that a device has in all, for whatever program; infinite where nobody says."""
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit", math.inf)
    return _of_host()


def _of_host() -> float:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return math.inf


def room(device: jax.Device) -> float:
    """Bytes that an accelerator has for more than is on it; infinite where nobody says."""
    return _SHARE * _free(device)


def _free(device: jax.Device) -> float:
    memory = device.memory_stats() or {}
    if "bytes_limit" not in memory:
        return math.inf
    return memory["bytes_limit"] - memory.get("bytes_in_use", 0)


def free_on_host() -> float:
    """Bytes that this process may still take: of the host, and of its control group, which a batch system limits."""
    return min(_available(), left_in_group())


def left_in_group(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that a control group's limit leaves, those of droppable files included; infinite without a limit."""
    try:
        limit, used = ((folder / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return math.inf if limit == "max" else float(limit) - float(used) + _cached_in_group(folder)
    except (OSError, ValueError):
        return math.inf


def _cached_in_group(folder: Path) -> float:
    """Bytes of files that the kernel keeps in memory for the group, and drops as soon as somebody needs the room."""
    try:
        lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return float(sum(int(size) for name, size in lines if name in ("active_file", "inactive_file")))
    except (OSError, ValueError):
        return 0.0


def _available() -> float:
    """What psutil says is available; without it half of what the host has, or no limit."""
    try:
        import psutil
    except ModuleNotFoundError:
        return _of_host() / 2
    return psutil.virtual_memory().available


def is_out_of_memory(error: Exception) -> bool:
    """Whether JAX failed for want of memory."""
    return "RESOURCE_EXHAUSTED" in str(error)
