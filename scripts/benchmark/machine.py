"""The machine: its description, the rate of its fastest matrix product, and the load of other processes."""

import datetime
import importlib.metadata
import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmark.timing import seconds_of
from jaxlab import __version__
from jaxlab.devices import cores, processor, use_all_cores

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
#: Largest products that are tried, in seconds of a single one.
LONGEST = 1.0
#: Largest share of the cores' time that other processes may take; beyond it, a measurement is marked as disturbed.
MOST = 0.05


def one_device_per_core() -> None:
    """Prepare this process, before JAX starts: devices as for ``jaxlab run``, and no compilation cache."""
    jax.config.update("jax_enable_compilation_cache", False)
    use_all_cores()


def environment() -> dict[str, Any]:
    """Device, cores, versions and date, as JSON-serialisable values."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": len(jax.devices()),
        "processor": processor(),
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
    """Peak bytes in use on the first device since the process began; None where JAX keeps no count, as on a CPU."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _versions() -> dict[str, str]:
    found = {"jaxlab": __version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class Matmul(NamedTuple):
    """A float32 product of n × n matrices at JAX's default precision on the first device, with all cores of a CPU."""

    size: int
    run: Callable[[int], None]
    seconds: float

    @property
    def flops(self) -> int:
        """FLOP of one call."""
        return 2 * self.size**3

    @property
    def rate(self) -> float:
        """FLOP/s of the fastest call so far."""
        return self.flops / self.seconds


def fastest_matmul() -> Matmul:
    """The product with the highest rate among a few sizes, each tried twice."""
    sizes = (1024, 2048, 3072) if jax.default_backend() == "cpu" else (2048, 4096, 8192)
    found = [_matmul(sizes[0])]
    for size in sizes[1:]:
        if found[-1].seconds * (size / found[-1].size) ** 3 <= LONGEST:
            found.append(_matmul(size))
    return max(found, key=lambda each: each.rate)


def _matmul(size: int) -> Matmul:
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a: a @ a)

    def run(calls: int) -> None:
        jax.block_until_ready([product(a) for _ in range(calls)])

    run(1)
    return Matmul(size, run, min(seconds_of(run, 1) for _ in range(2)))


class Clock(NamedTuple):
    """Wall-clock seconds, busy seconds of all cores, and CPU seconds of this process and its children."""

    wall: float
    busy: float
    own: float


def clock() -> Clock | None:
    """The current `Clock`; None where the system has no ``/proc``."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, fields)
    ticks = user + nice + system + interrupts + soft + stolen
    return Clock(time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4]))


def others_share(before: Clock | None, after: Clock | None) -> float | None:
    """The share of this process's cores that other processes used in between, 0 to 1; None if unknown."""
    if before is None or after is None:
        return None
    elsewhere = (after.busy - before.busy) - (after.own - before.own)
    return min(1.0, max(0.0, elsewhere / ((after.wall - before.wall) * cores())))
