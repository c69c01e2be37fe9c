"""Where a table was measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any

import jax

from jaxlab import __version__
from jaxlab.devices import cores

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")


def environment() -> dict[str, Any]:
    """Device, cores, versions and date, in words that JSON can hold."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": len(jax.devices()),
        "processor": _processor(),
        "cores": cores(),
        "versions": {"python": platform.python_version()} | _versions(),
        "date": datetime.date.today().isoformat(),
    }


def device_name(found: dict[str, Any]) -> str:
    """The device as a file name, e.g. ``cpu-2-cores``."""
    if found["platform"] == "cpu":
        return f"cpu-{found['cores']}-core{'s' * (found['cores'] > 1)}"
    kind = re.sub(r"[^a-z0-9]+", "-", found["device_kind"].lower()).strip("-")
    return kind if found["devices"] == 1 else f"{found['devices']}-{kind}"


def peak_bytes() -> int | None:
    """Most bytes in use on the first device since the process began; None where it keeps no count, as on a CPU."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _versions() -> dict[str, str]:
    found = {"jaxlab": __version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
