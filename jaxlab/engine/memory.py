"""Free memory of host and devices, and JAX's out-of-memory error."""

import math
import os
from pathlib import Path

import jax

_USABLE = 0.9  # fraction of free memory; the rest is a margin for unaccounted allocations


def fits(needed: int, devices: list[jax.Device]) -> bool:
    """Whether ``needed`` bytes on each device are free; True if unknown."""
    if devices[0].platform == "cpu":  # they share the host's memory
        return needed * len(devices) <= _USABLE * free_on_host()
    return all(needed <= free_on_device(device) for device in devices)


def idle_packs(packs: int, device: jax.Device) -> int:
    """Number of idle packs whose states must stay in device memory: those of accelerators can move to the host."""
    return packs - 1 if device.platform == "cpu" else 0


def total_memory(device: jax.Device) -> float:
    """Total memory of a device in bytes; infinite if unknown."""
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit", math.inf)
    return _total_on_host()


def _total_on_host() -> float:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return math.inf


def free_on_device(device: jax.Device) -> float:
    """Usable free memory of an accelerator in bytes; infinite if unknown."""
    memory = device.memory_stats() or {}
    return _USABLE * (memory.get("bytes_limit", math.inf) - memory.get("bytes_in_use", 0))


def free_on_host() -> float:
    """Bytes that this process can still allocate, limited by the host and by its control group."""
    return min(_available_on_host(), free_in_cgroup())


def free_in_cgroup(folder: Path = Path("/sys/fs/cgroup")) -> float:
    try:
        limit, used = ((folder / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return math.inf if limit == "max" else float(limit) - float(used) + _reclaimable_in_cgroup(folder)
    except (OSError, ValueError):
        return math.inf


def _reclaimable_in_cgroup(folder: Path) -> float:
    """Bytes of file cache that the kernel counts for the group and frees on demand."""
    try:
        lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return float(sum(int(size) for name, size in lines if name in ("active_file", "inactive_file")))
    except (OSError, ValueError):
        return 0.0


def _available_on_host() -> float:
    """Available memory as reported by psutil; without it half of the host's memory, or infinite if unknown."""
    try:
        import psutil
    except ModuleNotFoundError:
        return _total_on_host() / 2
    return psutil.virtual_memory().available


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of JAX means that memory ran out."""
    return "RESOURCE_EXHAUSTED" in str(error)
